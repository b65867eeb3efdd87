//! A Snowflake session that the broker opened: one task follows the stream of renewed tokens and carries reports of
//! refused ones back. When either side ends the stream the session is gone.

use std::time::{Duration, SystemTime};

use keyferry_proto::{
    grant::Grant,
    v1::{OpenSessionRequest, Outcome, SnowflakeSession},
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use super::{Broker, GrantError, LOGIN_DEADLINE, bounded};

const ATTEMPTED: &str = "open a Snowflake session with";

/// What is known about a session beside its tokens.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Where statements go.
    pub url: String,
    /// The account that the broker's grant names.
    pub account: String,
    /// The user that the broker logged in.
    pub user: String,
    /// The role in force.
    pub role: String,
    /// The warehouse in force.
    pub warehouse: String,
    /// As `CURRENT_SESSION()` prints it.
    pub session_id: String,
    /// The broker's audit id of this login.
    pub audit_id: String,
}

/// The token in force, or why there is none any more.
#[derive(Clone, Debug)]
pub enum TokenState {
    /// The newest token.
    Live(Grant),
    /// The stream ended: the broker has closed the session.
    Ended(String),
}

/// A generation that Snowflake refused, on its way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The refused token's name.
    pub generation: String,
    /// Snowflake's code.
    pub code: String,
}

/// A session as the broker granted it. Dropping it ends the stream, and with it the session.
#[derive(Debug)]
pub struct SessionGrant {
    /// What is known beside the tokens.
    pub info: SessionInfo,
    tokens: watch::Receiver<TokenState>,
    refusals: mpsc::Sender<Refusal>,
    follower: Option<AbortOnDropHandle<()>>,
}

impl SessionGrant {
    /// Puts a session together from its parts; [`Broker::open_session`] is the usual way.
    pub fn new(
        info: SessionInfo,
        tokens: watch::Receiver<TokenState>,
        refusals: mpsc::Sender<Refusal>,
    ) -> Self {
        Self { info, tokens, refusals, follower: None }
    }

    /// The newest token, or why there is none any more.
    pub fn current(&self) -> TokenState {
        self.tokens.borrow().clone()
    }

    /// Tells the broker that `generation` was refused and waits for another one. `Err` says why none came.
    pub async fn replacement(
        &mut self,
        generation: &str,
        code: &str,
        patience: Duration,
    ) -> Result<(), String> {
        let is_other = |state: &TokenState| match state {
            TokenState::Live(grant) => grant.generation() != generation,
            TokenState::Ended(_) => true,
        };
        if !is_other(&self.tokens.borrow()) {
            // A full queue means that the same refusal is already on its way.
            let _ =
                self.refusals.try_send(Refusal { generation: generation.to_owned(), code: code.to_owned() });
        }
        match tokio::time::timeout(patience, self.tokens.wait_for(is_other)).await {
            Ok(Ok(state)) => match &*state {
                TokenState::Live(_) => Ok(()),
                TokenState::Ended(reason) => Err(reason.clone()),
            },
            Ok(Err(_)) => Err("nobody follows the session any more".to_owned()),
            Err(_) => Err(format!(
                "Snowflake refused the token ({code}) and the broker sent no other within {} s",
                patience.as_secs()
            )),
        }
    }

    /// Ends the stream: the broker closes the session, which also aborts its open transaction.
    pub async fn close(mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
            let _ = follower.await;
        }
    }
}

pub(super) async fn open(
    broker: &Broker,
    grant: &str,
    role: &str,
    warehouse: &str,
) -> Result<SessionGrant, GrantError> {
    let mut client = broker.client.clone();
    let request = OpenSessionRequest {
        grant: grant.to_owned(),
        pipeline: broker.pipeline.clone(),
        run_id: broker.run_id.clone(),
        role: role.to_owned(),
        warehouse: warehouse.to_owned(),
    };
    let mut stream = bounded(ATTEMPTED, grant, LOGIN_DEADLINE, client.open_session(request)).await?;
    let first = async { stream.message().await.map(tonic::Response::new) };
    let first =
        bounded(ATTEMPTED, grant, LOGIN_DEADLINE, first).await?.ok_or_else(|| GrantError::Protocol {
            attempted: ATTEMPTED,
            grant: grant.to_owned(),
            found: "a stream that ended before its first token".to_owned(),
        })?;
    let info = SessionInfo {
        url: first.url.clone(),
        account: first.account.clone(),
        user: first.user.clone(),
        role: first.role.clone(),
        warehouse: first.warehouse.clone(),
        session_id: first.session_id.clone(),
        audit_id: first.audit_id.clone(),
    };
    let (tokens_tx, tokens) = watch::channel(TokenState::Live(token_of(first)));
    let (refusals, refusals_rx) = mpsc::channel(2);
    let follower = tokio::spawn(follow(broker.clone(), grant.to_owned(), stream, tokens_tx, refusals_rx));
    let follower = Some(AbortOnDropHandle::new(follower));
    Ok(SessionGrant { info, tokens, refusals, follower })
}

/// Publishes each renewed token and forwards each refusal, until the stream ends.
async fn follow(
    broker: Broker,
    grant: String,
    mut stream: Streaming<SnowflakeSession>,
    tokens: watch::Sender<TokenState>,
    mut refusals: mpsc::Receiver<Refusal>,
) {
    loop {
        tokio::select! {
            message = stream.message() => match message {
                Ok(Some(renewed)) => {
                    tracing::debug!(session = %renewed.session_id, generation = %renewed.generation, "session token renewed");
                    tokens.send_replace(TokenState::Live(token_of(renewed)));
                }
                Ok(None) => {
                    tokens.send_replace(TokenState::Ended("the broker closed the session".to_owned()));
                    return;
                }
                Err(status) => {
                    let error = GrantError::from_status(ATTEMPTED, &grant, &status);
                    tokens.send_replace(TokenState::Ended(error.to_string()));
                    return;
                }
            },
            Some(refusal) = refusals.recv() => {
                let outcome = broker.report(&grant, &refusal.generation, Outcome::Rejected, &refusal.code).await;
                if let Err(error) = outcome {
                    tracing::warn!(%error, "could not report a refused session token");
                }
            }
        }
    }
}

fn token_of(mut message: SnowflakeSession) -> Grant {
    let expires_at = message
        .expires_at
        .and_then(|at| SystemTime::try_from(at).ok())
        .unwrap_or_else(|| SystemTime::now() + Duration::from_mins(5));
    Grant::new(std::mem::take(&mut message.token), expires_at, std::mem::take(&mut message.generation))
}
