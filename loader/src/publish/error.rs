//! Why the target was not replaced, or is not known to be.

use super::ShapeError;
use crate::{ledger::LedgerError, snowflake::SnowflakeError};

/// Why the target was not replaced, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A statement failed. After an unknown outcome publish again in a new session: it reads the ledger first.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The target has other columns.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Not every chunk is verified.
    #[error(
        "{table} is not published: of {chunks} chunks the ledger has {found}; all must be verified first"
    )]
    NotVerified {
        /// The target.
        table: String,
        /// Chunks of the run.
        chunks: usize,
        /// What the ledger says.
        found: String,
    },
    /// The staging table does not hold what the ledger says; rolled back.
    #[error(
        "{table} is not published: the staging table {staging} gave {found} rows where the ledger has {expected}; \
         rolled back, the target is untouched. A row access policy on it would hide rows from this role"
    )]
    Rows {
        /// The target.
        table: String,
        /// The staging table.
        staging: String,
        /// By the ledger.
        expected: u64,
        /// By INSERT OVERWRITE.
        found: u64,
    },
}

impl From<SnowflakeError> for PublishError {
    fn from(error: SnowflakeError) -> Self {
        Self::Ledger(error.into())
    }
}

impl PublishError {
    /// True when the outcome is open: publish again in a new session.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Ledger(LedgerError::Snowflake(error)) if error.is_unknown())
    }

    /// True when the same work in a new session may well succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_transient())
    }
}
