//! Everything that ends a command, and the exit code that says of which kind it was.

use std::{error::Error as _, io, path::PathBuf};

use keyferry_proto::connect::ConnectError;
use tonic::{Code, Status};

use crate::{
    codes::{self, Entry},
    watch::place::PlaceError,
};

/// The longest message of the broker that is repeated, in characters.
const LONGEST: usize = 600;

/// Why there is no token, or no way to hand it over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments cannot be right.
    #[error("{0}")]
    Usage(String),
    /// The socket cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended in the middle.
    #[error(
        "could not {attempted}: the connection to the broker broke; is it running (`broker run`)? Try again when it is"
    )]
    Broken {
        /// What was asked for.
        attempted: &'static str,
    },
    /// The broker, or what it needs, is not there now.
    #[error("cannot {attempted} now: {reason}. Try again later; the broker's /health says what is down")]
    Unavailable {
        /// What was asked for.
        attempted: &'static str,
        /// The broker's reason.
        reason: String,
    },
    /// Too many calls or streams of this uid.
    #[error(
        "the broker limits this user: cannot {attempted}: {reason}. Ask less often, or run fewer at once"
    )]
    Limited {
        /// What was asked for.
        attempted: &'static str,
        /// The broker's reason.
        reason: String,
    },
    /// Policy says no.
    #[error(
        "the broker does not let this user {attempted}: {reason}. `brokerctl whoami` shows what it may ask for; its operator \
         can add an entry with the use `token` under `policy`"
    )]
    Denied {
        /// What was asked for.
        attempted: &'static str,
        /// The broker's reason.
        reason: String,
    },
    /// An upstream refused the broker: nothing changes until somebody acts.
    #[error("the broker could not {attempted}: {reason}. Trying again will not help until that is mended")]
    Refused {
        /// What was asked for.
        attempted: &'static str,
        /// The broker's reason.
        reason: String,
    },
    /// The request cannot be right.
    #[error("the broker rejects the request to {attempted}: {reason}. Correct the arguments")]
    Invalid {
        /// What was asked for.
        attempted: &'static str,
        /// Which field.
        reason: String,
    },
    /// The answer makes no sense.
    #[error("asked the broker to {attempted} and got {found}; are broker and brokerctl of the same version?")]
    Protocol {
        /// What was asked for.
        attempted: &'static str,
        /// What came instead.
        found: String,
    },
    /// The token cannot be put where it should be.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// What was to be printed could not be.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// The command cannot be started.
    #[error("cannot start {}: {source}", program.display())]
    Command {
        /// Its name as it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something that a program takes for granted.
    #[error("cannot {attempted}: {source}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    /// The broker's status for a call, or what became of the connection.
    pub(crate) fn of_status(attempted: &'static str, status: &Status) -> Self {
        if let Some(error) = connecting(status) {
            return Self::Connect(error);
        }
        if status.source().is_some() {
            return Self::Broken { attempted };
        }
        let reason: String = status.message().chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        let reason = reason.trim_end_matches('.').to_owned();
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied { attempted, reason },
            Code::FailedPrecondition => Self::Refused { attempted, reason },
            Code::ResourceExhausted => Self::Limited { attempted, reason },
            Code::InvalidArgument | Code::NotFound => Self::Invalid { attempted, reason },
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
                Self::Unavailable { attempted, reason }
            }
            code => Self::Protocol { attempted, found: format!("{code:?}: {reason}") },
        }
    }

    /// What the catalogue says of it: code and exit code.
    pub(crate) fn entry(&self) -> &'static Entry {
        match self {
            Self::Usage(_) => &codes::USAGE,
            Self::System { .. } => &codes::SYSTEM,
            Self::Output(_) => &codes::OUTPUT,
            Self::Connect(ConnectError::Unreachable { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                &codes::SOCKET_CLOSED
            }
            Self::Connect(ConnectError::Unreachable { .. }) => &codes::UNREACHABLE,
            Self::Connect(ConnectError::NotASocket { .. }) => &codes::NOT_A_SOCKET,
            Self::Connect(ConnectError::WrongServer { .. }) => &codes::WRONG_SERVER,
            Self::Connect(ConnectError::Handshake { .. }) => &codes::NOT_A_BROKER,
            Self::Broken { .. } => &codes::BROKEN,
            Self::Unavailable { .. } => &codes::UNAVAILABLE,
            Self::Limited { .. } => &codes::LIMITED,
            Self::Denied { .. } => &codes::DENIED,
            Self::Refused { .. } => &codes::REFUSED,
            Self::Invalid { .. } => &codes::INVALID,
            Self::Protocol { .. } => &codes::PROTOCOL,
            Self::Place(PlaceError::NoFile(_)) => &codes::NO_FILE,
            Self::Place(PlaceError::Folder { .. }) => &codes::UNSAFE_FOLDER,
            Self::Place(PlaceError::Occupied { .. }) => &codes::OCCUPIED,
            Self::Place(PlaceError::Write { .. }) => &codes::WRITE,
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => &codes::NOT_FOUND,
            Self::Command { .. } => &codes::NOT_RUN,
        }
    }

    /// 64 and up as in sysexits; 126 and 127 as shells have them.
    pub(crate) fn exit_code(&self) -> u8 {
        self.entry().exit
    }

    /// True when a watch has no reason to go on: the same request will fail until somebody changes it, or policy.
    /// A broker that an upstream refuses is not of these: somebody mends that behind it, and it says so in its health.
    pub(crate) fn ends_a_watch(&self) -> bool {
        match self {
            Self::Connect(error) => {
                matches!(error, ConnectError::NotASocket { .. } | ConnectError::WrongServer { .. })
                    || self.exit_code() == 77
            }
            Self::Broken { .. } | Self::Unavailable { .. } | Self::Limited { .. } | Self::Refused { .. } => {
                false
            }
            _ => true,
        }
    }
}

/// Why a connection of the channel was not made: its later ones are checked like the first.
fn connecting(status: &Status) -> Option<ConnectError> {
    let mut cause = status.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<ConnectError>()) {
            return error.again();
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: &Status) -> u8 {
        Failure::of_status("get a token", status).exit_code()
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        assert_eq!(code(&Status::permission_denied("no")), 77);
        assert_eq!(code(&Status::failed_precondition("AADSTS7000215")), 77);
        assert_eq!(code(&Status::unavailable("Entra is down")), 75);
        assert_eq!(code(&Status::resource_exhausted("slow down")), 75);
        assert_eq!(code(&Status::invalid_argument("`grant`")), 64);
        assert_eq!(code(&Status::internal("?")), 70);
        let gone = ConnectError::Unreachable { path: "/s".into(), source: io::Error::from_raw_os_error(2) };
        assert_eq!(Failure::from(gone).exit_code(), 69);
        let closed =
            ConnectError::Unreachable { path: "/s".into(), source: io::Error::from_raw_os_error(13) };
        assert_eq!(Failure::from(closed).exit_code(), 77);
    }

    #[test]
    fn a_denial_says_who_can_change_it_and_ends_a_watch_but_an_outage_does_not() {
        let denied =
            Failure::of_status("get a token", &Status::permission_denied("policy names no pipeline"));
        let text = denied.to_string();
        assert!(text.contains("policy names no pipeline") && text.contains("whoami"), "{text}");
        assert!(denied.ends_a_watch());
        assert!(!Failure::of_status("watch", &Status::unavailable("stopping")).ends_a_watch());
        assert!(!Failure::of_status("watch", &Status::failed_precondition("secret lapsed")).ends_a_watch());
    }

    #[test]
    fn a_long_or_many_lined_message_is_cut_to_one_short_line() {
        let long = "x\n".repeat(5000);
        let text = Failure::of_status("get a token", &Status::unavailable(long)).to_string();
        assert!(text.len() < 900 && !text.contains('\n'), "{}", text.len());
    }
}
