//! The driver: starts the world, runs every client in a process of its own, and prints what each said of itself.

mod broker;
mod clients;
mod growth;
mod readings;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::Args;
use keyferry_e2e::{
    sample::Table as Sample,
    world::{Options, World},
};
use keyferry_sql::{Identity, Session};
use keyferry_stand_in_sqlserver::Encrypt;

use crate::{
    machine,
    source::{Repeated, Source},
    stats::grouped,
    table::{self, Table},
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

/// What was promised, and what was found.
struct Aim {
    what: String,
    bound: String,
    found: String,
    met: bool,
}

/// The tables of one part, and the aims that they decide.
struct Part {
    text: String,
    aims: Vec<Aim>,
}

/// All parts, in order.
pub async fn run(dir: &Path, wishes: &Wishes) -> Result<()> {
    let started = std::time::Instant::now();
    let mut parts = Vec::new();
    if wishes.wants("readers") {
        parts.push(readings::measure(&dir.join("readers"), wishes).await?);
    }
    if wishes.wants("growth") {
        parts.push(growth::measure(&dir.join("growth"), wishes).await?);
    }
    if wishes.wants("broker") {
        parts.push(broker::measure(&dir.join("broker"), wishes).await?);
    }
    let mut aims = Table::new(&["aim", "at most or least", "found", "met"]);
    for aim in parts.iter().flat_map(|part| &part.aims) {
        let met = if aim.met { "yes" } else { "**no**" };
        aims.row(vec![aim.what.clone(), aim.bound.clone(), aim.found.clone(), met.to_owned()]);
    }
    let mut text = format!(
        "Measured on {} on: {}; {} rows of LINEITEM; {:.0} minutes.\n\n### Aims\n\n{}",
        machine::today(),
        machine::describe(),
        grouped(wishes.rows() as f64),
        started.elapsed().as_secs_f64() / 60.0,
        aims.markdown()
    );
    for part in &parts {
        text = text + "\n" + part.text.trim() + "\n";
    }
    println!("{text}");
    if let Some(document) = &wishes.document {
        let before =
            std::fs::read_to_string(document).with_context(|| format!("read {}", document.display()))?;
        std::fs::write(document, table::replace(&before, "tables", &text)?)?;
        println!("bench: wrote {}", document.display());
    }
    Ok(())
}

/// A world whose SQL Server streams these tables from memory, and the bytes of one row of each on the wire.
async fn stage(
    dir: &Path,
    shapes: &[Shape],
    rows: impl Fn(&Shape) -> u64,
    encrypt: Encrypt,
) -> Result<(World, BTreeMap<&'static str, f64>)> {
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
    let (mut all, mut bytes) = (Vec::new(), BTreeMap::new());
    for shape in shapes {
        let table = Repeated::new(shape, rows(shape), &mut session).await?;
        bytes.insert(shape.name, table.row_bytes());
        all.push(Arc::new(table));
    }
    world.sqlserver.computed().set(Arc::new(Source::new(all)));
    Ok((world, bytes))
}
