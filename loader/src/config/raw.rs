//! The file as serde reads it, before anything is checked. Keys that are known but not carried yet are read
//! here so that `check` can refuse them by name and place.
//!
//! `docs/configuration.md` is made from these structs and their comments: a comment ends with its default, if it has one.

use std::{collections::BTreeMap, path::PathBuf};

use keyferry_sandbox::Enforcement;
use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;

/// One pipeline: tables with one source, one target and one identity.
// The key is the product's word.
#[allow(clippy::struct_field_names)]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pipeline {
    /// The pipeline's name: the broker's policy and the ledger know it by that.
    pub pipeline: Spanned<String>,
    /// Where the broker is.
    pub broker: Broker,
    /// The SQL Server side.
    pub source: Source,
    /// The Snowflake side. Account and user are the grant's.
    pub target: Target,
    /// What a run may use.
    #[serde(default)]
    pub limits: Limits,
    /// How much is compared before anything is published: `counts`, `sums` or `hashes`; `--level` says otherwise for one run. Default: `sums`.
    pub verify: Option<Spanned<String>>,
    /// What the process gives up before it does anything, and what happens where that is not possible.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// The tables, at least one.
    pub tables: Spanned<Vec<Spanned<Table>>>,
}

/// The broker's socket, and who must be serving it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    /// The socket's path.
    pub socket: PathBuf,
    /// The broker's uid. Nothing is sent to a socket that another uid serves.
    pub server_uid: u32,
    /// In Kubernetes the file of the projected service-account token (audience `keyferry`), which each call then carries.
    #[serde(default)]
    pub service_account_token: Option<PathBuf>,
}

/// The SQL Server side.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// The server's name; without it the setting that the grant's `host_key` names.
    pub host: Option<Spanned<String>>,
    /// The server's port; without it the port of the grant's SPN, or 1433.
    pub port: Option<Spanned<u16>>,
    /// The database.
    pub database: Spanned<String>,
    /// The broker's grant for this server, of the use `relay`.
    pub grant: Spanned<String>,
    /// `required` (TLS for the whole connection), `strict` (TDS 8: TLS before anything else), `login_only`, or `off`. Default: `required`.
    pub encrypt: Option<Spanned<String>>,
    /// Must be true beside `encrypt: off`. Default: `false`.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// PEM file of the only authorities that are trusted for the server's certificate; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the only certificate that is trusted, 64 hexadecimal digits, instead of any authority.
    pub certificate_sha256: Option<Spanned<String>>,
    /// What the rows are a view of: `per_chunk`, `per_run` or `read_committed`. Default: `per_chunk`.
    pub consistency: Option<Spanned<String>>,
    /// The database snapshot that is read instead of the database; with `consistency: per_run`.
    pub database_snapshot: Option<Spanned<String>>,
    /// Ask for a readable secondary (`ApplicationIntent=ReadOnly`). Default: `false`.
    #[serde(default)]
    pub read_intent: bool,
    /// Seconds that SQL Server may say nothing while a chunk is read, 1 to 86400. Default: `300`.
    pub silence_seconds: Option<Spanned<u64>>,
}

/// The Snowflake side. Account and user are the grant's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// The broker's grant for the account, of the use `session`.
    pub grant: Spanned<String>,
    /// The role; without it the first that the grant allows.
    #[serde(default)]
    pub role: String,
    /// The warehouse; without it the first that the grant allows.
    #[serde(default)]
    pub warehouse: String,
    /// The database.
    pub database: Spanned<String>,
    /// The schema.
    pub schema: Spanned<String>,
    /// How names become the target's: `upper`, as an unquoted name would be, or `exact`. Default: `upper`.
    pub identifiers: Option<Spanned<String>>,
    /// Words of your own, put into each session's QUERY_TAG.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// PEM file of the only authorities that are trusted for Snowflake and the stage; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// HOST:PORT of stages beside the clouds' own, for private endpoints.
    #[serde(default)]
    pub stage_endpoint_allow: Vec<Spanned<String>>,
    /// The internal stage. Default: `KEYFERRY_STAGE`.
    pub stage: Option<Spanned<String>>,
}

/// What the process gives up.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sandbox {
    /// `enforce`: a step that fails ends the start. `report`: it is logged as a warning, for a laptop where both programs run as one user. `off`: no step is taken, for a debugger. Default: `enforce`.
    pub mode: Enforcement,
    /// Whether a step that this kernel or container cannot take ends the start too; `mode` must then be `enforce`. Default: `false`.
    pub strict: bool,
    /// TCP ports that may be connected to, beside `source.port` (or 1433), 443, 53 and those of `target.stage_endpoint_allow`: for a proxy, or for a port that only the broker's grant names.
    pub connect_ports: Vec<u16>,
}

/// What a run may use.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// SQL Server connections that read at once, 1 to 64. Default: `4`.
    pub connections: Option<Spanned<u64>>,
    /// Snowflake sessions that commit at once, 1 to 16. Default: `2`.
    pub committers: Option<Spanned<u64>>,
    /// Rows in one batch at most, 1 to 1000000. Default: `50000`.
    pub batch_rows: Option<Spanned<u64>>,
    /// MiB of source rows in one commit, 1 to 65536. Default: `512`.
    pub chunk_mib: Option<Spanned<u64>>,
    /// Rows in one commit at most, 2 to 10000000000; without it only bytes count.
    pub chunk_rows: Option<Spanned<u64>>,
    /// MiB of one staged Parquet file, compressed, 1 to 4096. Default: `128`.
    pub file_mib: Option<Spanned<u64>>,
    /// MiB that the process may take, 16 to 1048576; 48 of them are its own. Default: `512`.
    pub memory_mib: Option<Spanned<u64>>,
    /// MiB of the largest (max) value that is expected, 1 to 128; without it Snowflake's limits, 128 for text and 64 for binary. A larger value stops the run.
    pub value_mib: Option<Spanned<u64>>,
    /// Folder where encrypted files wait for their upload; without it the system's folder for temporary files.
    pub spool_dir: Option<PathBuf>,
    /// Seconds that work which fails in passing is tried again before the run stops, 1 to 86400. Default: `300`.
    pub patience_seconds: Option<Spanned<u64>>,
}

/// One table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// `schema.table`; parts with a dot or blank in brackets, `[my schema].[a.b]`.
    pub source: Spanned<String>,
    /// The table's name in Snowflake; without it the source's.
    pub target: Option<Spanned<String>>,
    /// `full`: the whole table, which replaces the target's rows at once. Default: `full`.
    pub mode: Option<Spanned<String>>,
    /// Not carried yet.
    pub watermark: Option<Spanned<IgnoredAny>>,
    /// Not carried yet.
    pub key: Option<Spanned<IgnoredAny>>,
    /// Which columns cross.
    pub columns: Option<Columns>,
}

/// Which columns cross.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    /// Columns that do not.
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    /// Not carried yet.
    pub hash: Option<Spanned<IgnoredAny>>,
}
