//! Which code each failure has. Every match is exhaustive: a new failure needs a code to compile.

use keyferry_proto::connect::ConnectError;
use keyferry_sandbox::SandboxError;

use super::{self as codes, Entry};
use crate::{
    catalog::CatalogError, commit::CommitError, config::ConfigError, encode::EncodeError, grants::GrantError,
    ledger::LedgerError, pipeline::Failure, plan::PlanError, publish::PublishError,
    snowflake::SnowflakeError, source::SourceError, stage::StageError, tds::TdsError, witness::WitnessError,
};

impl Failure {
    /// The failure's entry in the catalogue: code, exit code, what to do.
    pub fn entry(&self) -> &'static Entry {
        match self {
            Self::Config(ConfigError::Unreadable { .. }) => &codes::PIPELINE_UNREADABLE,
            Self::Config(ConfigError::Invalid { .. }) => &codes::PIPELINE_INVALID,
            Self::Sandbox(error) => sandbox(error),
            Self::MetricsFile(_) => &codes::METRICS_FILE,
            Self::Shard(_) => &codes::SHARD,
            Self::Plan(error) => plan(error),
            Self::Grant(error) | Self::Source(SourceError::Grant(error)) => grant(error),
            Self::Source(SourceError::NoHost { .. }) => &codes::NO_HOST,
            Self::Source(SourceError::PortClosed(_)) => &codes::PORT_CLOSED,
            Self::Connect(error) | Self::Extract { source: error, .. } => tds(error),
            Self::Barrier { source, .. } => barrier(source),
            Self::Snowflake(error) => snowflake(error),
            Self::Ledger(error) => ledger(error),
            Self::Encode(error) => encode(error),
            Self::Stage(error) => stage(error),
            Self::Commit(error) => commit(error),
            Self::Publish(error) => publish(error),
            Self::Witness(error) => witness(error),
            Self::Mismatch(_) => &codes::MISMATCH,
            Self::LowerLevel { .. } => &codes::LOWER_LEVEL,
            Self::Busy { .. } => &codes::CHUNK_BUSY,
            Self::Interrupted => &codes::INTERRUPTED,
            Self::Lost(_) => &codes::LOST_TASK,
        }
    }
}

fn sandbox(error: &SandboxError) -> &'static Entry {
    match error {
        SandboxError::Refused { .. } => &codes::SANDBOX_REFUSED,
        SandboxError::Failed { .. } | SandboxError::Profile(_) => &codes::SANDBOX_FAILED,
        SandboxError::Missing { .. } => &codes::SANDBOX_MISSING,
    }
}

fn plan(error: &PlanError) -> &'static Entry {
    match error {
        PlanError::Catalog(CatalogError::Tds { source, .. }) => tds(source),
        PlanError::Catalog(CatalogError::NoTable { .. }) => &codes::NO_TABLE,
        PlanError::Catalog(CatalogError::NotATable { .. }) => &codes::NOT_A_TABLE,
        PlanError::Catalog(CatalogError::Unreadable { .. }) => &codes::TABLE_UNREADABLE,
        PlanError::Catalog(CatalogError::Answer { .. }) => &codes::CATALOG_ANSWER,
        PlanError::NoSnapshot { .. } => &codes::NO_SNAPSHOT_ISOLATION,
        PlanError::NoHashes { .. } => &codes::NO_HASHES,
        PlanError::NotASnapshot { .. } => &codes::NOT_A_SNAPSHOT,
        PlanError::Columns { .. } => &codes::COLUMNS,
        PlanError::TooManyChunks { .. } => &codes::TOO_MANY_CHUNKS,
        PlanError::Memory { .. } => &codes::MEMORY,
    }
}

fn grant(error: &GrantError) -> &'static Entry {
    match error {
        GrantError::Connect(ConnectError::Unreachable { .. } | ConnectError::NotASocket { .. }) => {
            &codes::BROKER_UNREACHABLE
        }
        GrantError::Connect(ConnectError::WrongServer { .. }) => &codes::BROKER_WRONG_SERVER,
        GrantError::Connect(ConnectError::Handshake { .. }) => &codes::BROKER_NO_GRPC,
        GrantError::Denied { .. } => &codes::GRANT_DENIED,
        GrantError::Refused { .. } => &codes::GRANT_REFUSED,
        GrantError::Unavailable { .. } => &codes::GRANT_UNAVAILABLE,
        GrantError::Limited { .. } => &codes::GRANT_LIMITED,
        GrantError::Invalid { .. } => &codes::GRANT_INVALID,
        GrantError::Protocol { .. } => &codes::GRANT_PROTOCOL,
    }
}

/// A barrier that was not reached for want of a lock is worth another run; anything else is what it is.
fn barrier(error: &TdsError) -> &'static Entry {
    match tds(error) {
        entry if entry.exit == codes::NO_POINT_IN_TIME.exit => &codes::NO_POINT_IN_TIME,
        entry => entry,
    }
}

fn tds(error: &TdsError) -> &'static Entry {
    match error {
        TdsError::Connect { .. } => &codes::SQLSERVER_UNREACHABLE,
        TdsError::Io { .. } => &codes::SQLSERVER_BROKE,
        TdsError::Closed { .. } => &codes::SQLSERVER_CLOSED,
        TdsError::Timeout { .. } => &codes::SQLSERVER_SILENT,
        TdsError::Tls { .. } => &codes::SQLSERVER_TLS,
        TdsError::Refused(_) => &codes::SQLSERVER_ENCRYPTION,
        TdsError::Relay(error) if error.is_permanent() => &codes::KERBEROS_REFUSED,
        TdsError::Relay(_) => &codes::KERBEROS_UNAVAILABLE,
        TdsError::NotMutual => &codes::SQLSERVER_NOT_MUTUAL,
        TdsError::Server(error) => server(error.number, error.is_transient()),
        TdsError::Protocol(_) => &codes::SQLSERVER_PROTOCOL,
        TdsError::Changed(_) => &codes::RESULT_CHANGED,
        TdsError::Value { .. } => &codes::VALUE,
        TdsError::Poisoned => &codes::CONNECTION_SPENT,
    }
}

fn server(number: i32, transient: bool) -> &'static Entry {
    match number {
        229 | 230 | 262 | 297 | 300 | 4060 | 18452 | 18456 | 18470 => &codes::SQLSERVER_PERMISSION,
        _ if transient => &codes::SQLSERVER_PASSING,
        3952 => &codes::SNAPSHOT_OFF,
        207 | 3961 => &codes::TABLE_CHANGED,
        _ => &codes::SQLSERVER_ERROR,
    }
}

fn snowflake(error: &SnowflakeError) -> &'static Entry {
    match error {
        SnowflakeError::Refused { .. } if error.is_transient() => &codes::SNOWFLAKE_PASSING,
        SnowflakeError::Refused { .. } => &codes::SNOWFLAKE_REFUSED,
        SnowflakeError::Privilege(_) => &codes::SNOWFLAKE_PRIVILEGE,
        SnowflakeError::Unknown { .. } => &codes::SNOWFLAKE_UNKNOWN,
        SnowflakeError::Expired { .. } => &codes::SNOWFLAKE_EXPIRED,
        SnowflakeError::Unreachable { .. } => &codes::SNOWFLAKE_UNREACHABLE,
        SnowflakeError::Poisoned { .. } => &codes::SNOWFLAKE_SPENT,
        SnowflakeError::Answer { .. } => &codes::SNOWFLAKE_ANSWER,
        SnowflakeError::Part { .. } => &codes::SNOWFLAKE_PART,
        SnowflakeError::Setup(_) => &codes::SNOWFLAKE_SETUP,
        SnowflakeError::Grant(error) => grant(error),
    }
}

fn ledger(error: &LedgerError) -> &'static Entry {
    match error {
        LedgerError::Snowflake(error) => snowflake(error),
        LedgerError::LockRow { .. } => &codes::LEDGER_LOCK_ROW,
        LedgerError::SchemaChanged { .. } => &codes::LEDGER_SCHEMA,
        LedgerError::OriginChanged { .. } => &codes::LEDGER_ORIGIN,
        LedgerError::Guard { .. } => &codes::LEDGER_GUARD,
        LedgerError::Corrupt { .. } => &codes::LEDGER_CORRUPT,
        LedgerError::NoChunks { .. } => &codes::LEDGER_NO_CHUNKS,
    }
}

fn encode(error: &EncodeError) -> &'static Entry {
    match error {
        EncodeError::DiskFull { .. } => &codes::SPOOL_FULL,
        EncodeError::Spool { .. } => &codes::SPOOL,
        EncodeError::Parquet(_) => &codes::PARQUET,
    }
}

fn stage(error: &StageError) -> &'static Entry {
    match error {
        StageError::Snowflake(error) => snowflake(error),
        StageError::Reply(_) => &codes::STAGE_REPLY,
        StageError::NotCarried(_) => &codes::STAGE_NOT_CARRIED,
        StageError::Endpoint(_) => &codes::STAGE_ENDPOINT,
        StageError::CredentialsExpired { .. } => &codes::STAGE_EXPIRED,
        StageError::Refused { .. } => &codes::STAGE_REFUSED,
        StageError::Unreachable { .. } => &codes::STAGE_UNREACHABLE,
        StageError::Spool { .. } => &codes::STAGE_SPOOL,
    }
}

fn commit(error: &CommitError) -> &'static Entry {
    match error {
        CommitError::Unknown(error) => snowflake(error),
        CommitError::ClaimLost { .. } => &codes::CLAIM_LOST,
        CommitError::Counts { .. } => &codes::COPY_COUNTS,
        CommitError::Refused { source, .. } => ledger(source),
    }
}

fn publish(error: &PublishError) -> &'static Entry {
    match error {
        PublishError::Ledger(error) => ledger(error),
        PublishError::Shape(_) => &codes::TARGET_SHAPE,
        PublishError::NotVerified { .. } => &codes::NOT_VERIFIED,
        PublishError::Rows { .. } => &codes::PUBLISHED_ROWS,
    }
}

fn witness(error: &WitnessError) -> &'static Entry {
    match error {
        WitnessError::Shape { .. } => &codes::WITNESS_SHAPE,
        WitnessError::Number { .. } => &codes::WITNESS_NUMBER,
        WitnessError::Stored(_) => &codes::WITNESS_STORED,
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn every_code_is_given_to_some_failure() {
        let table = include_str!("../codes.rs");
        let given = [include_str!("of.rs"), include_str!("../cli.rs")].concat();
        for line in table.lines().filter(|line| line.contains(" = \"L")) {
            let name = line.trim().split(' ').next().unwrap();
            assert!(given.contains(&format!("&codes::{name}")), "no failure has {name}");
        }
    }
}
