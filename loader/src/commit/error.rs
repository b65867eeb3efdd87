//! Why a chunk is not committed, or is not known to be.

use crate::{ledger::LedgerError, model::KeyRange, snowflake::SnowflakeError};

/// Why a chunk was not committed, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Whether it is committed is unknown. Drop the session; [`crate::ledger::Ledger::reclaim`] in a new one decides.
    #[error(transparent)]
    Unknown(SnowflakeError),
    /// Another loader has taken the chunk over; nothing of this attempt remains.
    #[error(
        "chunk {chunk} of {table}: the claim (attempt {attempt}) was taken over by {owner}; this attempt was rolled back, \
         and what this loader committed before stays. Another loader runs as the same shard, or the lease ran out: wait \
         for {owner} (`loader status`), or give each process a --shard of its own"
    )]
    ClaimLost {
        /// The chunk.
        chunk: u32,
        /// The table.
        table: String,
        /// The lost attempt.
        attempt: u64,
        /// Who has it.
        owner: String,
    },
    /// COPY loaded something else than was staged; rolled back.
    #[error("chunk {chunk} of {table} ({range}): {found}; rolled back, nothing was loaded")]
    Counts {
        /// The chunk.
        chunk: u32,
        /// The table.
        table: String,
        /// Its key range.
        range: KeyRange,
        /// The difference.
        found: String,
    },
    /// A statement was refused; rolled back.
    #[error("chunk {chunk} of {table} ({range}) was rolled back: {source}")]
    Refused {
        /// The chunk.
        chunk: u32,
        /// The table.
        table: String,
        /// Its key range.
        range: KeyRange,
        /// Why.
        source: Box<LedgerError>,
    },
}

impl CommitError {
    /// True when the outcome is open.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// True when the same chunk may well be committed by another attempt.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::ClaimLost { .. } | Self::Counts { .. } => false,
            Self::Refused { source, .. } => source.is_transient(),
        }
    }
}
