//! Everything that ends a run, and the exit code that says of which kind it was.

use keyferry_sandbox::SandboxError;

use crate::{
    commit::CommitError,
    config::ConfigError,
    encode::EncodeError,
    grants::GrantError,
    ledger::LedgerError,
    model::{KeyRange, TableName},
    plan::PlanError,
    publish::PublishError,
    shard::ShardError,
    snowflake::SnowflakeError,
    source::SourceError,
    stage::StageError,
    tds::TdsError,
    verify::Mismatch,
    witness::WitnessError,
};

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The pipeline file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The file of `--metrics-file`.
    #[error("cannot open the file of --metrics-file: {0}")]
    MetricsFile(std::io::Error),
    /// The part of the run.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The broker.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The source's address.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A connection to SQL Server, before any chunk.
    #[error(transparent)]
    Connect(#[from] TdsError),
    /// Reading a chunk.
    #[error("{table}, chunk {chunk} ({range}): {source}")]
    Extract {
        /// The source table.
        table: TableName,
        /// The chunk's number.
        chunk: u32,
        /// Its key range.
        range: KeyRange,
        /// What the connection said.
        source: TdsError,
    },
    /// The moment in which nobody writes.
    #[error(
        "one point in time for all connections was not reached in {attempts} attempts: {source}. Writers that stay open \
         keep the shared lock from being granted: run again when they are done, name a `database_snapshot`, or use \
         `consistency: per_chunk`"
    )]
    Barrier {
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt met.
        source: TdsError,
    },
    /// A statement at Snowflake.
    #[error(transparent)]
    Snowflake(#[from] SnowflakeError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The parquet file.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The upload.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The commit of a chunk.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The publication.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The loader's own sums.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// Source and target, or source and stream, do not agree.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
    /// A run that another process began kept less than is asked for now.
    #[error(
        "{table}: run {run_id} was begun at a lower level, and {} of its loaded chunks (the first is {}) have no digests, \
         so they cannot be verified at `hashes`; nothing was changed. Run again with `--level sums`, or give the run up: \
         DELETE FROM {ledger} WHERE RUN_ID = '{run_id}'",
        chunks.len(),
        chunks.first().copied().unwrap_or_default()
    )]
    LowerLevel {
        /// The source table.
        table: TableName,
        /// The run.
        run_id: String,
        /// The chunks without digests.
        chunks: Vec<u32>,
        /// The ledger's table.
        ledger: String,
    },
    /// Another loader works on the same table.
    #[error(
        "{table}: chunk {chunk} is claimed by {owner}{}; wait for it, or see `loader status`. What this loader \
         committed stays",
        until(lease_until.as_deref())
    )]
    Busy {
        /// The source table.
        table: TableName,
        /// The chunk.
        chunk: u32,
        /// Who has it.
        owner: String,
        /// By Snowflake's clock.
        lease_until: Option<String>,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; nothing is half-published, and running again continues where this run stopped")]
    Interrupted,
    /// A part of the loader stopped without a word.
    #[error("{0} stopped unexpectedly; this is a fault in the loader, please report it")]
    Lost(&'static str),
}

fn until(lease: Option<&str>) -> String {
    lease.map_or(String::new(), |until| format!(" until {until} UTC"))
}

impl From<Mismatch> for Failure {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(Box::new(mismatch))
    }
}

impl Failure {
    /// Whether the same chunk may well succeed on a new connection and in a new session.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) | Self::Extract { source: error, .. } => error.is_transient(),
            Self::Snowflake(error) => error.is_transient(),
            Self::Ledger(error) => error.is_transient(),
            Self::Stage(error) => error.is_transient(),
            Self::Encode(error) => error.is_transient(),
            Self::Commit(error) => error.is_transient(),
            Self::Publish(error) => error.is_transient(),
            Self::Plan(error) => error.is_transient(),
            Self::Grant(error) | Self::Source(SourceError::Grant(error)) => !error.is_permanent(),
            _ => false,
        }
    }

    /// The process's exit code, after sysexits: 65 data, 66 no input, 69 unavailable, 70 internal, 75 try again,
    /// 77 permission, 78 configuration, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        self.entry().exit
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_own_exit_code() {
        let missing = crate::config::Pipeline::read(Path::new("/nowhere.yaml")).unwrap_err();
        assert_eq!(Failure::from(missing).exit_code(), 66);
        let wrong = crate::config::Pipeline::parse(Path::new("p.yaml"), "pipelin: x").unwrap_err();
        assert_eq!(Failure::from(wrong).exit_code(), 78);
        let snapshot = PlanError::NoSnapshot { database: "SalesDB".into() };
        assert_eq!(Failure::from(snapshot).exit_code(), 78);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
        let denied = GrantError::Denied { attempted: "use", grant: "g".into(), reason: "no".into() };
        assert_eq!(Failure::from(denied).exit_code(), 77);
        let down = GrantError::Unavailable { attempted: "use", grant: "g".into(), reason: "KDC".into() };
        assert_eq!(Failure::from(down).exit_code(), 69);
        let timeout = TdsError::Timeout { during: "reading", after: std::time::Duration::from_secs(1) };
        assert_eq!(Failure::from(timeout).exit_code(), 69);
        let unknown = SnowflakeError::Unknown { attempted: "COMMIT".into(), reason: "reset".into() };
        assert_eq!(Failure::from(unknown).exit_code(), 75);
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
        assert!(Failure::from(TdsError::Closed { during: "reading" }).is_transient());
        assert!(!Failure::from(TdsError::Poisoned).is_transient());
        assert!(!Failure::Interrupted.is_transient());
    }
}
