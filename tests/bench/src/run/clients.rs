//! Whom to compare with: how each client is started, and how much it is given to read.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Process, User, copy_program},
    world::{ACCOUNT, PipelineSetup, SOURCE_DATABASE, TARGET_DATABASE, TARGET_SCHEMA, World},
};
use keyferry_sql::{Identity, Session};

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

    pub(super) fn is_there(self, wishes: &Wishes) -> bool {
        let wanted = wishes.clients.is_empty() || wishes.clients.iter().any(|name| name == self.name());
        wanted
            && match self {
                Self::Drain | Self::Keyferry => true,
                Self::MssqlTds | Self::Tiberius => wishes.peers.is_some(),
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
        Client::Drain | Client::Keyferry => {
            arguments.splice(0..0, ["read".to_owned(), client.name().to_owned()]);
            if client == Client::Keyferry {
                let setup = PipelineSetup {
                    encrypt: "off, allow_plaintext: true".to_owned(),
                    ..PipelineSetup::of(&[shape.name])
                };
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
        Client::MssqlTds | Client::Tiberius => {
            wishes.peers.clone().context("peers")?.join(format!("read-{}", client.name()))
        }
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

/// What the reference way needs beside the source: a token of its own, and a table to write into.
pub(super) async fn target(world: &World, shape: &Shape) -> Result<Vec<(&'static str, String)>> {
    let mut session = Session::new(&world.target, Identity::default());
    let table = shape.name.to_uppercase();
    let types = shape
        .ddl
        .split_once(" (")
        .and_then(|(_, rest)| rest.split_once(", CONSTRAINT"))
        .context("columns")?
        .0;
    let columns: Vec<String> = types.split(", [").map(column).collect::<Result<_>>()?;
    let schema = format!("{TARGET_DATABASE}.{TARGET_SCHEMA}");
    let statements = [
        format!("CREATE TABLE {schema}.{table} ({})", columns.join(", ")),
        format!("GRANT ALL ON TABLE {schema}.{table} TO ROLE LOADER"),
    ];
    for statement in statements {
        for outcome in session.execute(&statement).await {
            outcome.map_err(|error| anyhow::anyhow!("{statement}: {error}"))?;
        }
    }
    let arguments =
        ["token".to_owned(), world.socket().display().to_string(), world.users.broker.uid.to_string()];
    let logs = world.dir.join("logs");
    let program = world.dir.join("bench.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let ended =
        Process::start("token", &program, &arguments, &[], world.users.loader, &logs)?.wait(PATIENCE).await?;
    ensure!(ended.status.success(), "no token: {}", ended.output());
    let ca = world.ca_file().display().to_string();
    Ok(vec![
        ("REQUESTS_CA_BUNDLE", ca.clone()),
        ("SSL_CERT_FILE", ca),
        ("HOME", world.dir.join("logs").display().to_string()),
        ("SNOWFLAKE_URL", world.snowflake.url.clone()),
        ("SNOWFLAKE_ACCOUNT", ACCOUNT.to_owned()),
        ("SNOWFLAKE_USER", "SVC_LOADER".to_owned()),
        ("SNOWFLAKE_ROLE", "LOADER".to_owned()),
        ("SNOWFLAKE_WAREHOUSE", "LOAD_WH".to_owned()),
        ("SNOWFLAKE_DATABASE", TARGET_DATABASE.to_owned()),
        ("SNOWFLAKE_SCHEMA", TARGET_SCHEMA.to_owned()),
        ("SNOWFLAKE_TOKEN", ended.stdout),
        ("BENCH_TARGET", table),
    ])
}

/// One column at the target.
fn column(declared: &str) -> Result<String> {
    let (name, ty) = declared.trim_start_matches('[').split_once("] ").context("a name and a type")?;
    let word = ty.split([' ', '(']).next().unwrap_or(ty);
    let ty = match word {
        "bit" => "BOOLEAN",
        "float" => "FLOAT",
        "date" => "DATE",
        "datetime2" => "TIMESTAMP_NTZ",
        "varbinary" => "BINARY",
        "char" | "varchar" | "nchar" | "nvarchar" => "VARCHAR",
        "decimal" => return Ok(format!("{name} {}", ty.split(") ").next().unwrap_or(ty).to_owned() + ")")),
        _ => "NUMBER(19,0)",
    };
    Ok(format!("{name} {ty}"))
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
