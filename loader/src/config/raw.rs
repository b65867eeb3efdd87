//! The file as serde reads it, before anything is checked. Keys that are known but not carried yet are read
//! here so that `check` can refuse them by name and place.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;

// The key is the product's word.
#[allow(clippy::struct_field_names)]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pipeline {
    pub pipeline: Spanned<String>,
    pub broker: Broker,
    pub source: Source,
    pub target: Target,
    #[serde(default)]
    pub limits: Limits,
    pub verify: Option<Spanned<String>>,
    pub tables: Spanned<Vec<Spanned<Table>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    pub socket: PathBuf,
    pub server_uid: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub host: Option<Spanned<String>>,
    pub port: Option<Spanned<u16>>,
    pub database: Spanned<String>,
    pub grant: Spanned<String>,
    pub encrypt: Option<Spanned<String>>,
    #[serde(default)]
    pub allow_plaintext: bool,
    pub ca_file: Option<PathBuf>,
    pub certificate_sha256: Option<Spanned<String>>,
    pub consistency: Option<Spanned<String>>,
    pub database_snapshot: Option<Spanned<String>>,
    #[serde(default)]
    pub read_intent: bool,
    pub silence_seconds: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub grant: Spanned<String>,
    #[serde(default)]
    pub role: String,
    #[serde(default)]
    pub warehouse: String,
    pub database: Spanned<String>,
    pub schema: Spanned<String>,
    pub identifiers: Option<Spanned<String>>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub stage_endpoint_allow: Vec<Spanned<String>>,
    pub stage: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub connections: Option<Spanned<u64>>,
    pub committers: Option<Spanned<u64>>,
    pub batch_rows: Option<Spanned<u64>>,
    pub chunk_mib: Option<Spanned<u64>>,
    pub chunk_rows: Option<Spanned<u64>>,
    pub file_mib: Option<Spanned<u64>>,
    pub memory_mib: Option<Spanned<u64>>,
    pub value_mib: Option<Spanned<u64>>,
    pub spool_dir: Option<PathBuf>,
    pub patience_seconds: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub source: Spanned<String>,
    pub target: Option<Spanned<String>>,
    pub mode: Option<Spanned<String>>,
    pub watermark: Option<Spanned<IgnoredAny>>,
    pub key: Option<Spanned<IgnoredAny>>,
    pub columns: Option<Columns>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    #[serde(default)]
    pub exclude: Vec<Spanned<String>>,
    pub hash: Option<Spanned<IgnoredAny>>,
}
