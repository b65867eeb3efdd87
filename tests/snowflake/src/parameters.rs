//! Session parameters: what drivers are told of them at login and with every result.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The parameters that drivers read, with the service's defaults.
fn defaults() -> BTreeMap<String, Value> {
    [
        ("ABORT_DETACHED_QUERY", json!(false)),
        ("AUTOCOMMIT", json!(true)),
        ("BINARY_INPUT_FORMAT", json!("HEX")),
        ("BINARY_OUTPUT_FORMAT", json!("HEX")),
        ("CLIENT_ENCRYPTION_KEY_SIZE", json!(128)),
        ("CLIENT_MEMORY_LIMIT", json!(1536)),
        ("CLIENT_METADATA_REQUEST_USE_CONNECTION_CTX", json!(false)),
        ("CLIENT_PREFETCH_THREADS", json!(4)),
        ("CLIENT_RESULT_CHUNK_SIZE", json!(160)),
        ("CLIENT_RESULT_COLUMN_CASE_INSENSITIVE", json!(false)),
        ("CLIENT_SESSION_CLONE", json!(false)),
        ("CLIENT_SESSION_KEEP_ALIVE", json!(false)),
        ("CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", json!(3600)),
        ("CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", json!(65280)),
        ("CLIENT_TELEMETRY_ENABLED", json!(false)),
        ("CLIENT_TIMESTAMP_TYPE_MAPPING", json!("TIMESTAMP_LTZ")),
        ("CLIENT_VALIDATE_DEFAULT_PARAMETERS", json!(false)),
        ("DATE_OUTPUT_FORMAT", json!("YYYY-MM-DD")),
        ("ENABLE_STAGE_S3_PRIVATELINK_FOR_US_EAST_1", json!(false)),
        ("GO_QUERY_RESULT_FORMAT", json!("ARROW")),
        ("JDBC_QUERY_RESULT_FORMAT", json!("ARROW")),
        ("JDBC_TREAT_DECIMAL_AS_INT", json!(true)),
        ("ODBC_QUERY_RESULT_FORMAT", json!("ARROW")),
        ("PYTHON_CONNECTOR_QUERY_RESULT_FORMAT", json!("ARROW")),
        ("QUERY_CONTEXT_CACHE_SIZE", json!(5)),
        ("QUERY_TAG", json!("")),
        ("STATEMENT_TIMEOUT_IN_SECONDS", json!(172_800)),
        ("TIMESTAMP_LTZ_OUTPUT_FORMAT", json!("")),
        ("TIMESTAMP_NTZ_OUTPUT_FORMAT", json!("YYYY-MM-DD HH24:MI:SS.FF3")),
        ("TIMESTAMP_OUTPUT_FORMAT", json!("YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM")),
        ("TIMESTAMP_TYPE_MAPPING", json!("TIMESTAMP_NTZ")),
        ("TIMESTAMP_TZ_OUTPUT_FORMAT", json!("")),
        ("TIMEZONE", json!("UTC")),
        ("TIME_OUTPUT_FORMAT", json!("HH24:MI:SS")),
        ("TRANSACTION_ABORT_ON_ERROR", json!(false)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// All parameters as `[{name, value}]`: defaults, what the login asked for, and what the session has set since.
pub(crate) fn listed(sql: &keyferry_sql::Session, asked: &BTreeMap<String, Value>) -> Value {
    let mut all = defaults();
    for (name, value) in asked {
        all.insert(name.clone(), value.clone());
    }
    for (name, value) in &mut all {
        if let Some(set) = sql.parameter(name).filter(|set| !set.is_empty()) {
            *value = like(value, set);
        }
    }
    all.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// One parameter of a statement: its own, otherwise the session's, otherwise the default.
pub(crate) fn of_statement(
    name: &str,
    own: &BTreeMap<String, Value>,
    sql: &keyferry_sql::Session,
) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let own = own.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| text(value));
    own.or_else(|| sql.parameter(name).filter(|set| !set.is_empty()).map(str::to_owned))
        .or_else(|| defaults().get(name).map(text))
}

/// A value that ALTER SESSION set, in the JSON kind that drivers expect of this parameter.
fn like(default: &Value, set: &str) -> Value {
    match default {
        Value::Bool(_) => json!(set.eq_ignore_ascii_case("true")),
        Value::Number(_) => set.parse::<i64>().map_or_else(|_| json!(set), |number| json!(number)),
        _ => json!(set),
    }
}
