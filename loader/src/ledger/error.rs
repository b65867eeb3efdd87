//! What can go wrong with the ledger, and what to do about it.

use crate::snowflake::SnowflakeError;

/// Why the ledger could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A statement failed; after an unknown outcome a new session has to look.
    #[error(transparent)]
    Snowflake(#[from] SnowflakeError),
    /// The lock row is missing or doubled: somebody changed the table by hand.
    #[error(
        "{ledger} has {found} lock rows (CHUNK = -1) instead of one; nothing was changed. \
         Restore the table from Time Travel, or drop it if no run is open"
    )]
    LockRow {
        /// The table.
        ledger: String,
        /// How many.
        found: u64,
    },
    /// An open run was planned for another shape of the table.
    #[error(
        "run {run_id} of {table} is open and was planned for other columns, types or keys than the table has now, or over \
         another database snapshot; nothing was changed. Undo that change, or give the run up: DELETE FROM {ledger} WHERE RUN_ID = '{run_id}'"
    )]
    SchemaChanged {
        /// The run.
        run_id: String,
        /// The table.
        table: String,
        /// The ledger.
        ledger: String,
    },
    /// An open run reads from somewhere else.
    #[error(
        "run {run_id} of {table} is open and reads from {began_at}; this pipeline reads from {now}, and one run must not \
         mix two origins. Nothing was changed. Point `source` back, or give the run up: \
         DELETE FROM {ledger} WHERE RUN_ID = '{run_id}'"
    )]
    OriginChanged {
        /// The run.
        run_id: String,
        /// The table.
        table: String,
        /// The ledger.
        ledger: String,
        /// Where the run began to read.
        began_at: String,
        /// Where this pipeline reads.
        now: String,
    },
    /// A guarded change did not touch the rows that it named.
    #[error(
        "{ledger}: {attempted} touched {found} rows instead of {expected}; it was rolled back. \
         Another loader changed the run meanwhile: look at `loader status`"
    )]
    Guard {
        /// The ledger.
        ledger: String,
        /// The change.
        attempted: &'static str,
        /// Rows that it had to touch.
        expected: u64,
        /// Rows that it touched.
        found: u64,
    },
    /// What is in the table makes no sense.
    #[error("{ledger} holds {found}; it was changed by hand or by another version. Nothing was changed")]
    Corrupt {
        /// The ledger.
        ledger: String,
        /// What.
        found: String,
    },
    /// A plan without chunks.
    #[error("the plan of {table} has no chunk; an empty table has one")]
    NoChunks {
        /// The table.
        table: String,
    },
}

impl LedgerError {
    /// True when the same work in a new session may well succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Snowflake(error) if error.is_transient())
    }
}
