//! What can go wrong between the loader and Snowflake, and what each case means for the statement in question.

use crate::grants::GrantError;

/// Why a statement has no answer. [`SnowflakeError::Unknown`] alone leaves open whether it took effect.
#[derive(Debug, thiserror::Error)]
pub enum SnowflakeError {
    /// Snowflake executed nothing, or undid what it did, and said why.
    #[error("Snowflake refused `{attempted}`: {code}: {message}{}", query(query_id))]
    Refused {
        /// The statement, abbreviated.
        attempted: String,
        /// Snowflake's code, six digits.
        code: String,
        /// Snowflake's sentence.
        message: String,
        /// To look it up in `QUERY_HISTORY`; may be empty.
        query_id: String,
    },
    /// The role may not, or the object is not there: the two are the same to Snowflake.
    #[error(transparent)]
    Privilege(Box<MissingPrivilege>),
    /// The reply was lost after the statement may have been executed.
    #[error(
        "the reply to `{attempted}` was lost ({reason}): whether it took effect is unknown. \
         The session is given up and the ledger decides"
    )]
    Unknown {
        /// The statement, abbreviated.
        attempted: String,
        /// How it was lost.
        reason: String,
    },
    /// The session is over and the statement was not executed.
    #[error(
        "the Snowflake session {session} is over before `{attempted}`: {reason}. A new session is needed"
    )]
    Expired {
        /// The statement, abbreviated.
        attempted: String,
        /// The session's id.
        session: String,
        /// Why.
        reason: String,
    },
    /// Nothing was sent.
    #[error(
        "cannot reach Snowflake at {host} for `{attempted}`: {reason}. Check the network, proxy and `target.ca_file`"
    )]
    Unreachable {
        /// The statement, abbreviated.
        attempted: String,
        /// The host and port.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// An earlier statement of this session has an unknown outcome or was cancelled.
    #[error(
        "the Snowflake session {session} was given up after a lost or cancelled statement; open a new one"
    )]
    Poisoned {
        /// The session's id.
        session: String,
    },
    /// The answer came and makes no sense.
    #[error("Snowflake's answer to `{attempted}` is {found}")]
    Answer {
        /// The statement, abbreviated.
        attempted: String,
        /// What was found, and what was expected.
        found: String,
    },
    /// The statement was executed, and a part of its answer that lies in cloud storage could not be fetched.
    #[error(
        "a part of the answer to `{attempted}` could not be fetched: {reason}; the statement has to be sent anew"
    )]
    Part {
        /// The statement, abbreviated.
        attempted: String,
        /// What the network or the storage said.
        reason: String,
    },
    /// The connection cannot be set up as configured.
    #[error("cannot set up the connection to Snowflake: {0}")]
    Setup(String),
    /// The broker gave no session.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// What a role may not do, and what would let it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{object} does not exist or role {role} may not use it as `{attempted}` needs it ({code}: {message}); \
     as its owner run: {remedy}"
)]
pub struct MissingPrivilege {
    /// The statement, abbreviated.
    pub attempted: String,
    /// The object in question.
    pub object: String,
    /// The role of the session.
    pub role: String,
    /// The statement that helps.
    pub remedy: String,
    /// Snowflake's code.
    pub code: String,
    /// Snowflake's sentence.
    pub message: String,
}

fn query(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (query {id})") }
}

impl SnowflakeError {
    /// True when the statement may have taken effect: only the ledger, read in a new session, can tell.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// True when this session can do nothing more.
    pub fn is_session_gone(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::Expired { .. } | Self::Poisoned { .. } | Self::Unreachable { .. }
        )
    }

    /// True when the same work in a new session may well succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { code, .. } => TRANSIENT.contains(&code.as_str()),
            Self::Grant(error) => !error.is_permanent(),
            Self::Unknown { .. }
            | Self::Expired { .. }
            | Self::Poisoned { .. }
            | Self::Part { .. }
            | Self::Unreachable { .. } => true,
            Self::Privilege(_) | Self::Answer { .. } | Self::Setup(_) => false,
        }
    }

    /// Snowflake's own code, if it gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Privilege(missing) => Some(&missing.code),
            _ => None,
        }
    }

    /// True when the object is missing or hidden from the role.
    pub fn is_missing(&self) -> bool {
        matches!(self.code(), Some("002003" | "002043"))
    }

    /// Turns "insufficient privileges" and "does not exist or not authorized" into a sentence that says what to
    /// grant; leaves every other error alone.
    #[must_use]
    pub fn needing(self, object: &str, role: &str, remedy: &str) -> Self {
        match self {
            Self::Refused { attempted, code, message, .. } if UNAUTHORIZED.contains(&code.as_str()) => {
                Self::Privilege(Box::new(MissingPrivilege {
                    attempted,
                    object: object.to_owned(),
                    role: role.to_owned(),
                    remedy: remedy.to_owned(),
                    code,
                    message,
                }))
            }
            other => other,
        }
    }
}

/// Missing, hidden, or not enough rights.
const UNAUTHORIZED: [&str; 4] = ["003001", "003540", "002003", "002043"];

/// Too many waiters, lock time-out, deadlock victim, cancelled, statement time-out, warehouse busy or suspended.
const TRANSIENT: [&str; 7] = ["000625", "000629", "000630", "000604", "000639", "000606", "000608"];

/// The statement in a few words: enough to know which one, no values of rows.
pub(super) fn abbreviated(sql: &str) -> String {
    const LONGEST: usize = 90;
    let mut words = sql.split_whitespace();
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        if text.len() + word.len() + 1 > LONGEST {
            text.push_str(" …");
            break;
        }
        text.push(' ');
        text.push_str(word);
    }
    if text.chars().count() > LONGEST + 2 {
        text = text.chars().take(LONGEST).chain("…".chars()).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> SnowflakeError {
        SnowflakeError::Refused {
            attempted: "COPY INTO x".into(),
            code: code.into(),
            message: "Insufficient privileges".into(),
            query_id: "01b".into(),
        }
    }

    #[test]
    fn a_missing_privilege_names_object_role_and_the_grant_that_helps() {
        let error = refused("003001").needing(
            "the table \"D\".\"S\".\"T\"",
            "LOADER",
            "GRANT INSERT ON TABLE t TO ROLE LOADER",
        );
        let text = error.to_string();
        for part in ["\"D\".\"S\".\"T\"", "LOADER", "GRANT INSERT", "003001"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!error.is_transient());
    }

    #[test]
    fn another_refusal_stays_what_it_is() {
        assert!(matches!(refused("100038").needing("x", "r", "g"), SnowflakeError::Refused { .. }));
        assert!(refused("000625").is_transient());
    }

    #[test]
    fn a_long_statement_is_abbreviated() {
        let sql = format!("INSERT INTO t VALUES ({})", "1, ".repeat(1000));
        assert!(abbreviated(&sql).chars().count() < 100);
        assert!(abbreviated(&"x".repeat(5000)).chars().count() < 100);
        assert_eq!(abbreviated("BEGIN"), "BEGIN");
    }
}
