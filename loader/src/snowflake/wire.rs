//! The replies of `/queries/v1/query-request`, as far as the loader reads them. Unknown fields are skipped; nothing
//! here prints, because a PUT's reply carries credentials.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

/// The statement is still running: poll `getResultUrl`.
pub(super) const IN_PROGRESS: [&str; 2] = ["333333", "333334"];
/// The session token is expired: the broker renews it.
pub(super) const SESSION_TOKEN_EXPIRED: &str = "390112";
/// The session or its master token is gone, or the token was never valid.
pub(super) const SESSION_GONE: [&str; 4] = ["390111", "390114", "390104", "390113"];

/// The head of every reply.
#[derive(Deserialize)]
pub(crate) struct Reply {
    #[serde(default)]
    pub(crate) success: bool,
    #[serde(default, deserialize_with = "text_or_number")]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) data: Option<Data>,
}

/// Everything that any of our statements may be answered with.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Data {
    pub(crate) query_id: Option<String>,
    pub(crate) get_result_url: Option<String>,
    pub(crate) query_result_format: Option<String>,
    pub(crate) rowtype: Option<Vec<RowType>>,
    pub(crate) rowset: Option<Vec<Vec<Option<String>>>>,
    pub(crate) total: Option<u64>,
    pub(crate) chunks: Option<Vec<Chunk>>,
    pub(crate) chunk_headers: Option<HashMap<String, String>>,
    pub(crate) qrmk: Option<String>,
    pub(crate) stage_info: Option<StageInfo>,
    pub(crate) encryption_material: Option<OneOrMany>,
    pub(crate) threshold: Option<u64>,
}

/// One column of a rowset.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RowType {
    pub(crate) name: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
}

/// A part of a rowset that lies in cloud storage.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chunk {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) row_count: u64,
}

/// Where a staged file goes.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StageInfo {
    pub(crate) location_type: String,
    pub(crate) location: String,
    pub(crate) region: Option<String>,
    pub(crate) end_point: Option<String>,
    pub(crate) creds: Option<StageCredentials>,
}

/// The session credentials for the stage.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct StageCredentials {
    #[serde(rename = "AWS_KEY_ID", deserialize_with = "wiped")]
    pub(crate) key_id: Zeroizing<String>,
    #[serde(rename = "AWS_SECRET_KEY", deserialize_with = "wiped")]
    pub(crate) secret_key: Zeroizing<String>,
    #[serde(rename = "AWS_TOKEN", deserialize_with = "wiped")]
    pub(crate) token: Zeroizing<String>,
}

/// PUT sends an object; GET an array; some servers an array for both.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// An object.
    One(EncryptionMaterial),
    /// An array.
    Many(Vec<Option<EncryptionMaterial>>),
}

/// What a staged file is encrypted under.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EncryptionMaterial {
    #[serde(deserialize_with = "wiped")]
    pub(crate) query_stage_master_key: Zeroizing<String>,
    pub(crate) query_id: String,
    #[serde(deserialize_with = "text_or_number")]
    pub(crate) smk_id: Option<String>,
}

fn wiped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    Ok(Zeroizing::new(Option::<String>::deserialize(deserializer)?.unwrap_or_default()))
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<serde_json::Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text)),
        Some(serde_json::Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(de::Error::custom("neither text nor a number")),
    }
}

/// Snowflake's sentence, fit for one line of a log.
pub(super) fn one_line(message: Option<&str>) -> String {
    let text = message.unwrap_or("no message");
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}
