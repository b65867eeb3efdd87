//! The driver: starts the world, runs every client in a process of its own, and prints what each said of itself.

mod broker;
mod clients;
mod growth;
mod readings;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use clap::Args;
use keyferry_e2e::{
    sample::Table as Sample,
    world::{Options, World},
};
use keyferry_sql::{Identity, Session};
use keyferry_stand_in_sqlserver::Encrypt;

use crate::{
    source::{Repeated, Source},
    tables::Shape,
};

/// What is measured, and how much of it.
#[derive(Args, Clone, Debug)]
pub struct Wishes {
    /// Rows of LINEITEM that each client reads
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// A twentieth of everything: that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Python with the packages of tests/bench/python/requirements.txt
    #[arg(long)]
    python: Option<PathBuf>,
    /// The programs of tests/bench/peers
    #[arg(long)]
    peers: Option<PathBuf>,
    /// The document whose marked part is written
    #[arg(long)]
    document: Option<PathBuf>,
    /// Only these parts (readers, growth, broker)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these tables
    #[arg(long, value_delimiter = ',')]
    tables: Vec<String>,
    /// Only these clients
    #[arg(long, value_delimiter = ',')]
    clients: Vec<String>,
    /// The folder to work in; made by the program itself
    #[arg(long, hide = true)]
    pub inside: Option<PathBuf>,
}

impl Wishes {
    fn rows(&self) -> u64 {
        if self.quick { self.rows / 20 } else { self.rows }
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// All parts, in order.
pub async fn run(dir: &Path, wishes: &Wishes) -> Result<()> {
    let mut generated = Vec::new();
    if wishes.wants("readers") {
        generated.push(("readers", readings::measure(&dir.join("readers"), wishes).await?));
    }
    if wishes.wants("growth") {
        generated.push(("growth", growth::measure(&dir.join("growth"), wishes).await?));
    }
    if wishes.wants("broker") {
        generated.push(("broker", broker::measure(&dir.join("broker"), wishes).await?));
    }
    for (_, text) in &generated {
        println!("{text}");
    }
    Ok(())
}

/// A world whose SQL Server streams these tables from memory.
async fn stage(
    dir: &Path,
    shapes: &[Shape],
    rows: impl Fn(&Shape) -> u64,
    encrypt: Encrypt,
) -> Result<World> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    let world = World::start(dir, &Options { encrypt, ..Options::default() }).await?;
    let empty = |shape: &Shape| Sample {
        name: shape.name,
        ddl: shape.ddl.clone(),
        columns: shape.columns.clone(),
        rows: Vec::new(),
    };
    world.fill(&shapes.iter().map(empty).collect::<Vec<_>>()).await?;
    let mut session = Session::new(&world.source, Identity { user: "sa".to_owned(), ..Identity::default() });
    let mut all = Vec::new();
    for shape in shapes {
        all.push(Arc::new(Repeated::new(shape, rows(shape), &mut session).await?));
    }
    world.sqlserver.computed().set(Arc::new(Source::new(all)));
    Ok(world)
}
