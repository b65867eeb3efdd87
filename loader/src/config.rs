//! `pipeline.yaml` as checked types: unknown keys are refused with file, line, column and the nearest right
//! key; paths are taken relative to the file; what is not carried yet is an error that says so.

mod check;
mod error;
mod raw;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::ConfigError;
pub(crate) use error::nearest;
use keyferry_sandbox::Settings;
use serde::Serialize;

use crate::{model::TableName, witness::Level};

/// A size in bytes that was written in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] =
            [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => write!(f, "{:.1} {name}", self.0 as f64 / *unit as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// One pipeline: tables with one source, one target and one identity.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The file it was read from.
    pub file: PathBuf,
    /// Its name, which the broker's policy and the ledger know it by.
    pub name: String,
    /// Where the broker is.
    pub broker: BrokerAddress,
    /// Where rows come from.
    pub source: Source,
    /// Where they go.
    pub target: Target,
    /// What a run may use.
    pub limits: Limits,
    /// How much is compared before anything is published; the command line may say otherwise.
    pub verify: Level,
    /// What the process gives up before it does anything.
    pub sandbox: Settings,
    /// TCP ports that may be connected to, beside those that the rest of the file names.
    pub connect_ports: Vec<u16>,
    /// At least one.
    pub tables: Vec<Table>,
}

/// The broker's socket and the uid that must be serving it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// The socket's path.
    pub socket: PathBuf,
    /// The broker's uid.
    pub server_uid: u32,
    /// In Kubernetes the file of the projected service-account token.
    pub service_account_token: Option<PathBuf>,
}

/// How the connection to SQL Server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// TLS inside TDS 7.x for the whole connection.
    Required,
    /// TDS 8: TLS before anything else.
    Strict,
    /// TLS for the login only.
    LoginOnly,
    /// None; only with `allow_plaintext: true`.
    Off,
}

/// What the rows of a run are a view of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Each chunk is one SNAPSHOT transaction.
    PerChunk,
    /// All chunks at one point: every connection's SNAPSHOT transaction begins under one lock on all tables.
    PerRunBarrier,
    /// All chunks at one point: a database snapshot.
    PerRunSnapshot,
    /// Whatever READ COMMITTED shows; the source then bears no witness.
    ReadCommitted,
}

impl Consistency {
    /// What is true of a [`Consistency::PerRunBarrier`] that was not kept to the end.
    pub const PARTED: &'static str = "one point in time was asked for and not kept throughout: a connection was lost, or the run was continued by \
         another process. Each chunk is one SNAPSHOT transaction, exact at its own moment; a row whose key changed \
         between two moments can be missed or seen twice";

    /// Whether the source can be asked about a chunk after its rows were read.
    pub fn bears_witness(self) -> bool {
        self != Self::ReadCommitted
    }

    /// Whether SNAPSHOT transactions are needed.
    pub fn needs_snapshot_isolation(self) -> bool {
        matches!(self, Self::PerChunk | Self::PerRunBarrier)
    }

    /// One sentence that claims no more than is true.
    pub fn statement(self) -> &'static str {
        match self {
            Self::PerRunBarrier => {
                "all chunks at one point in time: writers of these tables wait for a moment, in which every connection \
                 begins its SNAPSHOT transaction. Chunks that are left after a lost connection or a crash are read at \
                 moments of their own, and the report names them"
            }
            Self::PerRunSnapshot => {
                "all chunks at one point in time: the database snapshot's. A run that is continued must find the same one"
            }
            Self::PerChunk => {
                "each chunk is one SNAPSHOT transaction: exact at the chunk's own moment. Chunks are read at \
                 different moments: a row whose key changes meanwhile can be missed or seen twice"
            }
            Self::ReadCommitted => {
                "READ COMMITTED: rows that change while they are read can be missed or seen twice, and the \
                 source bears no witness; only the stream itself is verified"
            }
        }
    }
}

/// The SQL Server side.
#[derive(Clone, Debug)]
pub struct Source {
    /// The server's name; without it the grant's setting from the broker is used.
    pub host: Option<String>,
    /// The server's port; without it the grant's setting, or 1433.
    pub port: Option<u16>,
    /// The database.
    pub database: String,
    /// The broker's grant for it.
    pub grant: String,
    /// How the connection is encrypted.
    pub encrypt: Encryption,
    /// A PEM file of the only authorities that are trusted; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// The SHA-256 of the only server certificate that is trusted, instead of any authority.
    pub certificate_sha256: Option<[u8; 32]>,
    /// What the rows are a view of.
    pub consistency: Consistency,
    /// The database snapshot that is read instead of the database.
    pub database_snapshot: Option<String>,
    /// Ask for a readable secondary.
    pub read_intent: bool,
    /// The longest that SQL Server may say nothing while a chunk is read.
    pub silence: Duration,
}

/// How names become names of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Identifiers {
    /// Upper case, as an unquoted name would be.
    Upper,
    /// Exactly as at the source, as a quoted name would be.
    Exact,
}

impl Identifiers {
    /// The name that the target has.
    pub fn apply(self, name: &str) -> String {
        match self {
            Self::Upper => name.to_uppercase(),
            Self::Exact => name.to_owned(),
        }
    }
}

/// The Snowflake side. Account and user are the grant's.
#[derive(Clone, Debug)]
pub struct Target {
    /// The broker's grant for it.
    pub grant: String,
    /// The role; empty takes the first that the grant allows.
    pub role: String,
    /// The warehouse; empty takes the first that the grant allows.
    pub warehouse: String,
    /// The database, in the case the target has.
    pub database: String,
    /// The schema, in the case the target has.
    pub schema: String,
    /// How names are made.
    pub identifiers: Identifiers,
    /// Put into the session's query tag.
    pub tags: BTreeMap<String, String>,
    /// A PEM file of the only authorities that are trusted; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// Hosts with port that a stage may point to beside the cloud's own.
    pub stage_endpoint_allow: Vec<String>,
    /// The internal stage's name, in the case the target has.
    pub stage: String,
}

/// What a run may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// SQL Server connections that read at once.
    pub connections: usize,
    /// Snowflake sessions that commit at once.
    pub committers: usize,
    /// Rows in memory at once, per connection.
    pub batch_rows: usize,
    /// Source bytes per commit.
    pub chunk: ByteSize,
    /// Rows per commit at most; none when only bytes count.
    pub chunk_rows: Option<u64>,
    /// Compressed bytes per staged file.
    pub file: ByteSize,
    /// The budget over batches, row groups and uploads.
    pub memory: ByteSize,
    /// The largest (max) value that is expected; none when only the target's limit counts.
    pub value: Option<ByteSize>,
    /// Where encrypted files wait for their upload.
    pub spool_dir: PathBuf,
    /// How long work that fails in passing is tried again before the run stops.
    pub patience: Duration,
}

/// One table of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// At the source.
    pub source: TableName,
    /// At the target, in the case the target has.
    pub target: String,
    /// Source columns that do not cross.
    pub exclude: Vec<String>,
    /// The line of the file where the table stands.
    pub line: u64,
}

impl Pipeline {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks a text as if it had been read from `path`; nothing is opened.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: raw::Pipeline = serde_saphyr::from_str(text).map_err(|e| error::from_yaml(path, &e))?;
        check::Checker { file: path, dir: path.parent().unwrap_or(Path::new("")) }.pipeline(raw)
    }
}

#[cfg(test)]
mod tests;
