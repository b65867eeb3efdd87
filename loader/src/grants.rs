//! Asks the broker. Everything the loader may use for a moment comes through here: one GSS token per connection
//! attempt, Snowflake session tokens as they are renewed, and settings that are no secret.
//!
//! Nothing is cached and nothing is retried here: the broker caches, and a GSS token serves one attempt only.

mod relay;
mod session;

use std::time::Duration;

use keyferry_proto::{
    connect::{self, Address, Client, ConnectError},
    v1::{
        GetSettingsRequest, Outcome, ReportOutcomeRequest, WhoAmIRequest, WhoAmIResponse, settings::Settings,
    },
};
use tonic::{Code, Status};

pub use self::{
    relay::BrokerRelay,
    session::{Refusal, SessionGrant, SessionInfo, TokenState},
};

/// How long a plain call may take: the broker answers from memory or says that it cannot.
const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// How long the broker may take to log in to Snowflake or to start an exchange with the KDC.
const LOGIN_DEADLINE: Duration = Duration::from_mins(1);

/// A connection to the broker, for one pipeline and one run. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Broker {
    client: Client,
    pipeline: String,
    run_id: String,
}

impl Broker {
    /// Dials the socket and checks who serves it. `run_id` is this run's own name in the broker's audit log.
    pub async fn connect(address: &Address, pipeline: &str, run_id: &str) -> Result<Self, GrantError> {
        let client = connect::connect(address).await?;
        Ok(Self { client, pipeline: pipeline.to_owned(), run_id: run_id.to_owned() })
    }

    /// How the broker sees this process, and which grants policy lets it ask for.
    pub async fn whoami(&self) -> Result<WhoAmIResponse, GrantError> {
        let mut client = self.client.clone();
        let call = client.who_am_i(WhoAmIRequest {});
        bounded("ask the broker who I am", "any", CALL_DEADLINE, call).await
    }

    /// The settings that lie beside the grant's secrets and are none themselves.
    pub async fn settings(&self, grant: &str) -> Result<Settings, GrantError> {
        let mut client = self.client.clone();
        let request = GetSettingsRequest { grant: grant.to_owned(), pipeline: self.pipeline.clone() };
        let attempted = "read the settings of";
        let reply = bounded(attempted, grant, CALL_DEADLINE, client.get_settings(request)).await?;
        reply.settings.ok_or_else(|| GrantError::Protocol {
            attempted,
            grant: grant.to_owned(),
            found: "an answer without settings".to_owned(),
        })
    }

    /// The relay for one connection attempt to SQL Server.
    pub fn relay(&self, grant: &str) -> BrokerRelay {
        BrokerRelay::new(self.clone(), grant)
    }

    /// Lets the broker log in to Snowflake. The session lives as long as the returned value.
    pub async fn open_session(
        &self,
        grant: &str,
        role: &str,
        warehouse: &str,
    ) -> Result<SessionGrant, GrantError> {
        session::open(self, grant, role, warehouse).await
    }

    /// Tells the broker how an upstream answered to a grant. True when that started a renewal.
    pub async fn report(
        &self,
        grant: &str,
        generation: &str,
        outcome: Outcome,
        code: &str,
    ) -> Result<bool, GrantError> {
        let mut client = self.client.clone();
        let request = ReportOutcomeRequest {
            grant: grant.to_owned(),
            pipeline: self.pipeline.clone(),
            generation: generation.to_owned(),
            outcome: outcome.into(),
            code: code.to_owned(),
        };
        let call = client.report_outcome(request);
        Ok(bounded("report a refusal of", grant, CALL_DEADLINE, call).await?.renewing)
    }
}

/// Awaits one call, but no longer than `deadline`.
async fn bounded<T>(
    attempted: &'static str,
    grant: &str,
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, GrantError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(GrantError::from_status(attempted, grant, &status)),
        Err(_) => Err(GrantError::Unavailable {
            attempted,
            grant: grant.to_owned(),
            reason: format!("the broker did not answer within {} s", deadline.as_secs()),
        }),
    }
}

/// Why the broker gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The socket cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Policy says no.
    #[error(
        "the broker does not let this process {attempted} the grant {grant:?}: {reason}. \
         Ask for it in the broker's `policy`, or correct the grant's name or `pipeline` here"
    )]
    Denied {
        /// What was asked for.
        attempted: &'static str,
        /// The grant.
        grant: String,
        /// The broker's reason.
        reason: String,
    },
    /// An upstream refused: nothing changes until somebody acts.
    #[error("the broker could not {attempted} the grant {grant:?}: {reason}. Trying again will not help")]
    Refused {
        /// What was asked for.
        attempted: &'static str,
        /// The grant.
        grant: String,
        /// The broker's reason.
        reason: String,
    },
    /// The broker or an upstream is down.
    #[error(
        "cannot {attempted} the grant {grant:?} now: {reason}. Run again when the broker's /health says ok"
    )]
    Unavailable {
        /// What was asked for.
        attempted: &'static str,
        /// The grant.
        grant: String,
        /// What is down.
        reason: String,
    },
    /// Too many calls or streams.
    #[error(
        "the broker limits this process: cannot {attempted} the grant {grant:?}: {reason}. \
         Lower `limits.connections` or `limits.committers`, or run fewer loaders under this uid"
    )]
    Limited {
        /// What was asked for.
        attempted: &'static str,
        /// The grant.
        grant: String,
        /// The broker's reason.
        reason: String,
    },
    /// The request cannot be right.
    #[error(
        "the broker rejects the request to {attempted} the grant {grant:?}: {reason}. Correct the pipeline's file"
    )]
    Invalid {
        /// What was asked for.
        attempted: &'static str,
        /// The grant.
        grant: String,
        /// Which field.
        reason: String,
    },
    /// The answer makes no sense.
    #[error(
        "asked the broker to {attempted} the grant {grant:?} and got {found}; do broker and loader have the same version?"
    )]
    Protocol {
        /// What was asked for.
        attempted: &'static str,
        /// The grant.
        grant: String,
        /// What came instead.
        found: String,
    },
}

impl GrantError {
    fn from_status(attempted: &'static str, grant: &str, status: &Status) -> Self {
        if let Some(error) = connecting(status) {
            return Self::Connect(error);
        }
        let grant = grant.to_owned();
        if std::error::Error::source(status).is_some() {
            // Not the broker's words, but what became of the connection to it.
            let reason = "the connection to the broker broke; is it running (`broker run`)?".to_owned();
            return Self::Unavailable { attempted, grant, reason };
        }
        let reason: String = status.message().chars().filter(|c| !c.is_control()).take(600).collect();
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied { attempted, grant, reason },
            Code::FailedPrecondition => Self::Refused { attempted, grant, reason },
            Code::ResourceExhausted => Self::Limited { attempted, grant, reason },
            Code::InvalidArgument | Code::NotFound => Self::Invalid { attempted, grant, reason },
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
                Self::Unavailable { attempted, grant, reason }
            }
            code => Self::Protocol { attempted, grant, found: format!("{code:?}: {reason}") },
        }
    }

    /// True when the same request will be refused again until somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Connect(error) => !matches!(error, ConnectError::Unreachable { .. }),
            Self::Denied { .. } | Self::Refused { .. } | Self::Invalid { .. } | Self::Protocol { .. } => true,
            Self::Unavailable { .. } | Self::Limited { .. } => false,
        }
    }

    /// True when policy said no.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// Why a connection of the channel was not made: its later ones are checked like the first.
fn connecting(status: &Status) -> Option<ConnectError> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
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

    #[test]
    fn a_denial_is_permanent_and_names_the_grant_and_what_to_do() {
        let status = Status::permission_denied("uid 10002 has no use `session` for it");
        let error = GrantError::from_status("open a session with", "analytics", &status);
        assert!(error.is_denied() && error.is_permanent());
        let text = error.to_string();
        assert!(
            text.contains("\"analytics\"") && text.contains("uid 10002") && text.contains("`policy`"),
            "{text}"
        );
    }

    #[test]
    fn an_upstream_that_is_down_is_not_permanent() {
        let error = GrantError::from_status("use", "sales-sql", &Status::unavailable("the KDC is down"));
        assert!(!error.is_permanent());
        assert!(error.to_string().contains("the KDC is down"));
    }
}
