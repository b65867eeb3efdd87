//! A server's databases: committed versions of tables, locks, grants and settings.

use std::{sync::Arc, time::Duration};

use crate::{collation::Collation, types::Dialect};

/// What a server is set to. Every field can be changed before the [`Database`] is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collation of new databases (SQL Server).
    pub collation: Collation,
    /// ALLOW_SNAPSHOT_ISOLATION of the first database (SQL Server); otherwise a SNAPSHOT transaction meets 3952.
    pub allow_snapshot: bool,
    /// Whether an UPDATE that waited for a lock sees what the other transaction committed meanwhile (Snowflake
    /// does not document which; a client must be right either way).
    pub waiters_see_commits: bool,
    /// How long a statement waits for a lock when the session does not say: forever for SQL Server, 12 hours for Snowflake.
    pub lock_timeout: Option<Duration>,
    /// Snowflake: how many statements may wait for one table's lock before `000625`.
    pub max_waiters: usize,
    /// What `@@VERSION` or `CURRENT_VERSION()` answers.
    pub version: String,
    /// What `@@SERVERNAME` or `CURRENT_ACCOUNT()` answers.
    pub server_name: String,
}

impl Settings {
    /// The defaults of a dialect.
    pub fn of(dialect: Dialect) -> Self {
        let snowflake = dialect == Dialect::Snowflake;
        Self {
            collation: Collation::default(),
            allow_snapshot: true,
            waiters_see_commits: true,
            lock_timeout: snowflake.then(|| Duration::from_secs(43_200)),
            max_waiters: 20,
            version: if snowflake {
                "9.35.1".to_owned()
            } else {
                "Microsoft SQL Server 2022 (RTM) - 16.0.1000.6 (X64) (Keyferry stand-in)".to_owned()
            },
            server_name: if snowflake { "MYACCOUNT".to_owned() } else { "SQL01".to_owned() },
        }
    }
}

/// A server (SQL Server) or account (Snowflake) with its databases. Share it with `Arc`.
pub struct Database {
    pub(crate) dialect: Dialect,
    pub(crate) settings: Settings,
}

impl Database {
    /// A server of this dialect with one database of this name, which has the schema `dbo` or `PUBLIC`.
    pub fn new(dialect: Dialect, name: &str) -> Arc<Self> {
        Self::with_settings(dialect, name, Settings::of(dialect))
    }

    /// The same with other settings.
    pub fn with_settings(dialect: Dialect, name: &str, settings: Settings) -> Arc<Self> {
        let _ = name;
        Arc::new(Self { dialect, settings })
    }

    /// Whose rules it follows.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What it is set to.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
