//! What can go wrong on a SQL Server connection, each failure with what to do next.

use std::{fmt, io, time::Duration};

use super::{relay::RelayError, tls::TlsFailure};

/// Why a connection, a statement or a row failed. The connection that gave it is never used again.
#[derive(Debug, thiserror::Error)]
pub enum TdsError {
    /// The server's name did not resolve, or nobody accepts connections there.
    #[error(
        "cannot connect to SQL Server at {host}:{port}: {source}; check `source.host` and `source.port` and the network policy"
    )]
    Connect {
        /// The host that was tried.
        host: String,
        /// The port that was tried.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The transport broke in the middle of something.
    #[error(
        "the connection to SQL Server broke while {during}: {source}; the statement's outcome is unknown, use a new connection"
    )]
    Io {
        /// What was being done.
        during: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server closed the connection before its answer was complete.
    #[error(
        "SQL Server closed the connection while {during}; look into its error log, then use a new connection"
    )]
    Closed {
        /// What was being done.
        during: &'static str,
    },
    /// A deadline passed.
    #[error("SQL Server did not answer within {}s while {during}; the connection was dropped", .after.as_secs_f32())]
    Timeout {
        /// What was being done.
        during: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// TLS could not be set up; nothing was sent in clear instead.
    #[error("no TLS with SQL Server at {host}: {failure}")]
    Tls {
        /// The server's name as it was expected in the certificate.
        host: String,
        /// The cause and its fix.
        failure: TlsFailure,
    },
    /// The server wants something else than the configuration allows.
    #[error("{0}")]
    Refused(String),
    /// The broker or its Kerberos exchange failed.
    #[error("the Kerberos exchange with SQL Server failed: {0}")]
    Relay(#[from] RelayError),
    /// The server accepted the login without proving who it is.
    #[error(
        "SQL Server accepted the login but did not prove its own identity (the GSS exchange is not complete); \
         the connection was dropped. Check that the grant's SPN belongs to this server's service account"
    )]
    NotMutual,
    /// An error from SQL Server itself.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The bytes do not follow MS-TDS, or exceed a bound.
    #[error("SQL Server's answer cannot be read: {0}; the connection was dropped")]
    Protocol(String),
    /// The result set is not the one that was planned.
    #[error("the result set differs from the plan: {0}; the table's definition has changed, so plan again")]
    Changed(String),
    /// One value cannot be carried.
    #[error("column {column}, row {row} of the result: {message}")]
    Value {
        /// The column's name in the source.
        column: String,
        /// The row within this result set, counted from 1.
        row: u64,
        /// What is wrong with the value, and what to do.
        message: String,
    },
    /// The connection failed earlier and must not be used again.
    #[error("this SQL Server connection failed earlier and cannot be used again; open a new one")]
    Poisoned,
}

/// An ERROR token.
#[derive(Clone, Debug)]
pub struct ServerError {
    /// The number in `sys.messages`.
    pub number: i32,
    /// Tells the places in the engine that raise the same number apart.
    pub state: u8,
    /// The severity: 11 to 16 is the statement's fault, 20 and more ends the connection.
    pub class: u8,
    /// The message, at most 512 characters, without control characters.
    pub message: String,
    /// The name that the server gives itself.
    pub server: String,
    /// The procedure that raised it, mostly empty.
    pub procedure: String,
    /// The line within the batch or the procedure.
    pub line: u32,
}

/// Messages that quote a value of a row: the text stays out of logs.
const QUOTES_A_VALUE: &[i32] = &[241, 242, 244, 245, 248, 295, 296, 2601, 2627, 2628, 8114, 8115, 9803];

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQL Server error {} (class {}, state {}", self.number, self.class, self.state)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        f.write_str(")")?;
        if QUOTES_A_VALUE.contains(&self.number) {
            f.write_str(": its text quotes a value and is not shown")?;
        } else if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(hint) = hint(self.number) {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    /// Whether the same statement may well succeed on a new connection.
    pub fn is_transient(&self) -> bool {
        // https://learn.microsoft.com/azure/azure-sql/database/troubleshoot-common-errors-issues and the engine's
        // own: deadlock victim, lock timeout, snapshot conflict, out of memory, database in transition.
        matches!(
            self.number,
            40613
                | 40197
                | 40501
                | 40540
                | 49918
                | 49919
                | 49920
                | 10928
                | 10929
                | 10053
                | 10054
                | 10060
                | 1205
                | 1222
                | 3960
                | 926
                | 701
                | 802
                | 8645
                | 8651
                | 4060
                | 4221
                | 615
                | 233
                | 64
                | 6005
                | 18401
                | 17142
                | 976
                | 983
                | 3906
        )
    }
}

fn hint(number: i32) -> Option<&'static str> {
    Some(match number {
        18452 => {
            "the server does not accept this Kerberos identity: it needs a login for the grant's principal, \
             and Extended Protection must not be \"Required\" (channel bindings are not sent)"
        }
        18456 => "the login is known but refused: the state in the server's own error log says why",
        4060 => "the database does not exist or this login has no user in it: check `source.database`",
        18470 | 18486 => "the login is disabled or locked: ask the server's administrator",
        207 | 3961 => "the table's definition has changed since the plan was made: plan again",
        3952 => {
            "snapshot isolation is off: ALTER DATABASE ... SET ALLOW_SNAPSHOT_ISOLATION ON, or `consistency: read_committed`"
        }
        3960 => "a row changed meanwhile under snapshot isolation: try again",
        1205 => "chosen as the victim of a deadlock: try again",
        229 | 230 => "grant SELECT on it to the loader's user",
        208 => "check the table's name and schema, and that the loader's user may see it",
        _ => return None,
    })
}

impl TdsError {
    /// Whether trying again on a new connection makes sense.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Io { .. } | Self::Closed { .. } | Self::Timeout { .. } => true,
            Self::Server(error) => error.is_transient(),
            Self::Relay(error) => !error.is_permanent(),
            _ => false,
        }
    }

    /// SQL Server's error number, if it was SQL Server that refused.
    pub fn number(&self) -> Option<i32> {
        match self {
            Self::Server(error) => Some(error.number),
            _ => None,
        }
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(number: i32, message: &str) -> ServerError {
        ServerError {
            number,
            state: 1,
            class: 14,
            message: message.into(),
            server: String::new(),
            procedure: String::new(),
            line: 1,
        }
    }

    #[test]
    fn a_message_that_quotes_a_row_keeps_the_value_to_itself() {
        let shown = error(2627, "The duplicate key value is (jane@example.com).").to_string();
        assert!(!shown.contains("jane"), "{shown}");
        assert!(shown.contains("2627"), "{shown}");
        let shown = error(208, "Invalid object name 'dbo.T'.").to_string();
        assert!(shown.contains("dbo.T") && shown.contains("check the table's name"), "{shown}");
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        assert!(TdsError::Server(Box::new(error(1205, ""))).is_transient());
        assert!(!TdsError::Server(Box::new(error(208, ""))).is_transient());
        assert!(TdsError::Closed { during: "reading" }.is_transient());
        assert!(!TdsError::Poisoned.is_transient());
    }
}
