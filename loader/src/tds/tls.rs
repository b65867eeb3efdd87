//! TLS inside TDS.

/// Why TLS failed, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// Something else.
    #[error("{0}")]
    Other(String),
}
