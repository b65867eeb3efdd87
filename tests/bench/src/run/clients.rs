//! Whom to compare with: how each client is started, and how much it is given to read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Process, User, copy_program},
    world::{PipelineSetup, SOURCE_DATABASE, World},
};

use super::Wishes;
use crate::{
    tables::{Shape, select},
    usage::Measured,
};

/// The longest that one client may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(30);

/// A client that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Drain,
    Keyferry,
    Tiberius,
    MssqlTds,
    ArrowOdbc,
    MssqlPython,
    Reference,
}

impl Client {
    pub(super) const ALL: [Self; 7] = [
        Self::Drain,
        Self::Keyferry,
        Self::MssqlTds,
        Self::Tiberius,
        Self::ArrowOdbc,
        Self::MssqlPython,
        Self::Reference,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Keyferry => "keyferry",
            Self::Tiberius => "tiberius",
            Self::MssqlTds => "mssql-tds",
            Self::ArrowOdbc => "arrow-odbc",
            Self::MssqlPython => "mssql-python",
            Self::Reference => "reference",
        }
    }

    /// What the table calls it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Drain => "the stand-in itself (socket drained, nothing decoded)",
            Self::Keyferry => "**Keyferry**",
            Self::Tiberius => "tiberius",
            Self::MssqlTds => "mssql-tds",
            Self::ArrowOdbc => "arrow-odbc, pyarrow",
            Self::MssqlPython => "mssql-python (Arrow), pyarrow",
            Self::Reference => "reference: pyodbc, pandas, write_pandas",
        }
    }

    /// A slow client reads fewer rows: its cost is given for one row.
    pub(super) fn share(self) -> f64 {
        match self {
            Self::Drain | Self::Keyferry | Self::MssqlTds => 1.0,
            Self::Tiberius | Self::ArrowOdbc | Self::MssqlPython => 0.5,
            Self::Reference => 0.1,
        }
    }

    /// Whether it can be asked to write no file.
    pub(super) fn decodes_alone(self) -> bool {
        !matches!(self, Self::Drain | Self::Reference)
    }

    pub(super) fn is_there(self, wishes: &Wishes) -> bool {
        let wanted = wishes.clients.is_empty() || wishes.clients.iter().any(|name| name == self.name());
        wanted
            && match self {
                Self::Drain | Self::Keyferry | Self::Tiberius => true,
                Self::MssqlTds => wishes.peers.is_some(),
                Self::ArrowOdbc | Self::MssqlPython | Self::Reference => wishes.python.is_some(),
            }
    }
}

/// One reading by one client.
pub(super) async fn read(
    world: &World,
    wishes: &Wishes,
    client: Client,
    shape: &Shape,
    rows: u64,
    out: Option<&Path>,
    environment: &[(&str, String)],
) -> Result<Measured> {
    let mut arguments = vec![
        "--sql".to_owned(),
        select(shape, rows),
        "--ddl".to_owned(),
        shape.ddl.clone(),
        "--port".to_owned(),
        world.sqlserver.addr().port().to_string(),
        "--database".to_owned(),
        SOURCE_DATABASE.to_owned(),
    ];
    if let Some(out) = out {
        arguments.extend(["--out".to_owned(), out.display().to_string()]);
    }
    let mut user = User::current();
    let program = match client {
        Client::Drain | Client::Keyferry | Client::Tiberius => {
            arguments.splice(0..0, ["read".to_owned(), client.name().to_owned()]);
            if client == Client::Keyferry {
                let setup = PipelineSetup { encrypt: "off".to_owned(), ..PipelineSetup::of(&[shape.name]) };
                let pipeline = world.dir.join("loader").join(format!("{}.yaml", shape.name));
                if !pipeline.exists() {
                    setup.write(world, shape.name)?;
                }
                arguments.extend(["--pipeline".to_owned(), pipeline.display().to_string()]);
                // Policy names this user.
                user = world.users.loader;
            }
            let copy = world.dir.join("bench.bin");
            copy_program(&std::env::current_exe()?, &copy)?;
            copy
        }
        Client::MssqlTds => wishes.peers.clone().context("peers")?.join("read-mssql-tds"),
        Client::ArrowOdbc | Client::MssqlPython | Client::Reference => {
            arguments.extend(["--longest".to_owned(), shape.longest.to_string()]);
            arguments.insert(0, script(client)?.display().to_string());
            wishes.python.clone().context("Python")?
        }
    };
    let logs = world.dir.join("logs");
    let name = format!("{}-{}", client.name(), shape.name);
    let ended = Process::start(&name, &program, &arguments, environment, user, &logs)?.wait(PATIENCE).await?;
    ensure!(ended.status.success(), "{name} failed:\n{}", ended.output());
    let line = ended.stdout.lines().next_back().unwrap_or_default();
    let measured: Measured =
        serde_json::from_str(line).with_context(|| format!("{name} said {}", ended.output()))?;
    ensure!(measured.rows == rows, "{name} read {} rows of {rows}", measured.rows);
    Ok(measured)
}

fn script(client: Client) -> Result<PathBuf> {
    let name = match client {
        Client::ArrowOdbc => "read_arrow_odbc.py",
        Client::MssqlPython => "read_mssql_python.py",
        _ => "reference.py",
    };
    let path = Path::new("tests/bench/python").join(name);
    ensure!(path.is_file(), "{} is not there: start `bench` in the repository's root", path.display());
    Ok(std::fs::canonicalize(path)?)
}
