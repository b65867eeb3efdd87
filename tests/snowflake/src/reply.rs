//! The envelope that every reply has.

use serde_json::{Value, json};

/// A refusal as the service words it: HTTP 200, `success: false`, a code of six digits.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) sqlstate: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &str, sqlstate: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), sqlstate: sqlstate.to_owned(), message: message.into() }
    }

    /// 001003: the statement cannot be read. The text says what.
    pub(crate) fn syntax(message: impl std::fmt::Display) -> Self {
        Self::new("001003", "42000", format!("SQL compilation error:\n{message}"))
    }

    /// 002003: there is no such object, or it may not be seen.
    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self::new(
            "002003",
            "02000",
            format!("SQL compilation error:\n{kind} '{name}' does not exist or not authorized."),
        )
    }

    /// A refusal that a test armed.
    pub(crate) fn injected(code: &str) -> Self {
        Self::new(code, "08001", "Refused on purpose.")
    }

    /// 000604: cancelled by its client.
    pub(crate) fn cancelled() -> Self {
        Self::new("000604", "57014", "SQL execution canceled")
    }
}

/// A reply that carries `data`.
pub(crate) fn success(data: &Value) -> Value {
    json!({ "data": data, "code": null, "message": null, "success": true, "headers": null })
}

/// A reply that refuses a login or a session.
pub(crate) fn refusal(refusal: &Refusal) -> Value {
    json!({
        "data": { "nextAction": "RETRY_LOGIN", "sqlState": refusal.sqlstate },
        "code": refusal.code, "message": refusal.message, "success": false, "headers": null,
    })
}

/// A reply that refuses a statement.
pub(crate) fn statement_refusal(refusal: &Refusal, query_id: &str) -> Value {
    json!({
        "data": {
            "internalError": false, "unredactedFromSecureObject": false, "errorCode": refusal.code, "age": 0,
            "sqlState": refusal.sqlstate, "queryId": query_id, "line": -1, "pos": -1, "type": "COMPILATION",
        },
        "code": refusal.code, "message": refusal.message, "success": false, "headers": null,
    })
}
