//! Vault: the broker's token and its renewal, and the secret bundle.

mod calls;
mod identity;
mod refusal;
mod spent;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    calls::{Auth, Calls},
    identity::{Delivery, Identity},
    refusal::{not_replicated, token_refused},
};
use super::{
    bundle::Bundle,
    error::{ErrorClass, UpstreamError, UpstreamName},
    http::Http,
    secret::Secret,
    status::Board,
};
use crate::{
    config::{VaultAuth, VaultConfig},
    events::{Event, Events},
};

/// A token that never ends (a lease of 0) is looked after as if it had this lease.
const LONGEST_LEASE: Duration = Duration::from_hours(24);
/// After a refused token was replaced, the next refusal is believed for so long.
const RELOGIN_PAUSE: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Replicas that are behind are asked this often before they count as failed.
const REPLICA_TRIES: u32 = 4;
const REPLICA_PAUSE: Duration = Duration::from_millis(150);
const REVOKE_DEADLINE: Duration = Duration::from_secs(3);

/// The broker's connection to Vault. It owns the token and the bundle; both are replaced, never changed.
pub(super) struct Vault {
    calls: Calls,
    identity: Identity,
    mount: String,
    path: String,
    token: RwLock<Option<Arc<Token>>>,
    gate: tokio::sync::Mutex<Gate>,
    board: Arc<Board>,
    events: Events,
}

/// One token, from its login or last renewal on.
struct Token {
    secret: Secret,
    /// Counts logins: tells a caller whose call was refused whether somebody has logged in since.
    login: u64,
    obtained: Instant,
    lease: Duration,
    /// The lease that the login gave. A renewal that gives much less is nearing the maximum life.
    first_lease: Duration,
    renewable: bool,
}

/// What lets one login through at a time, and none for nothing.
#[derive(Default)]
struct Gate {
    logins: u64,
    not_before: Option<Instant>,
    /// The delivery of the `secret_id` that Vault refused for good, and how.
    refused: Option<(Option<Delivery>, UpstreamError)>,
}

impl Vault {
    /// Prepares the client; nothing is sent yet. `spent` is where it is noted which wrapping token was unwrapped.
    pub(super) fn new(
        config: &VaultConfig,
        spent: PathBuf,
        board: Arc<Board>,
        events: Events,
    ) -> Result<Self, UpstreamError> {
        let http = Http::new(UpstreamName::Vault, config.ca_file.as_deref())?;
        let VaultAuth::AppRole(approle) = &config.auth;
        Ok(Self {
            calls: Calls::new(config, http)?,
            identity: Identity::new(approle, spent),
            mount: config.secret.mount.as_str().to_owned(),
            path: config.secret.path.as_str().to_owned(),
            token: RwLock::new(None),
            gate: tokio::sync::Mutex::default(),
            board,
            events,
        })
    }

    /// True when a restart of the broker needs another `secret_id`, for the one in the file works once.
    pub(super) fn needs_delivery_after_restart(&self) -> bool {
        self.identity.is_wrapped()
    }

    /// Logs in for the first time.
    pub(super) async fn log_in(&self) -> Result<(), UpstreamError> {
        let mut gate = self.gate.lock().await;
        self.log_in_behind(&mut gate).await.map(drop)
    }

    /// Reads the newest version of the bundle. Whether it works is another question.
    pub(super) async fn read_bundle(&self) -> Result<Arc<Bundle>, UpstreamError> {
        let mut tries = 1;
        loop {
            match self.note(self.read_once().await) {
                Err(e) if not_replicated(&e) && tries < REPLICA_TRIES => {
                    tokio::time::sleep(REPLICA_PAUSE * tries).await;
                    tries += 1;
                }
                Err(e) => return Err(e),
                Ok(bundle) => return Ok(bundle),
            }
        }
    }

    /// Keeps the token alive until `shutdown`. A failed attempt leaves the token that is held in place.
    pub(super) async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut wait = self.token().map_or(FIRST_PAUSE, |t| t.renew_in());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = match self.note(self.renew().await) {
                Ok(token) => {
                    pause = FIRST_PAUSE;
                    token.renew_in()
                }
                Err(error) => {
                    tracing::warn!(%error, "the Vault token was not renewed");
                    let asked = error.retry_after().unwrap_or_default();
                    let wait = pause.mul_f64(0.5 + fastrand::f64()).max(asked);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    wait
                }
            };
        }
    }

    /// Revokes the broker's own token and forgets it.
    pub(super) async fn revoke(&self) {
        let token = self.token.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(token) = token else { return };
        match tokio::time::timeout(REVOKE_DEADLINE, self.calls.revoke_self(&token.secret)).await {
            Ok(Ok(())) => tracing::info!("the Vault token is revoked"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the Vault token was not revoked; it ends with its lease");
            }
            Err(_) => tracing::warn!("the Vault token was not revoked in time; it ends with its lease"),
        }
    }

    async fn read_once(&self) -> Result<Arc<Bundle>, UpstreamError> {
        let token = self.token().ok_or_else(not_logged_in)?;
        let read = match self.calls.read(&token.secret, &self.mount, &self.path).await {
            Err(e) if token_refused(&e) => {
                let fresh = self.log_in_again(token.login, e).await?;
                self.calls.read(&fresh.secret, &self.mount, &self.path).await
            }
            outcome => outcome,
        };
        let (version, fields) = read?;
        Ok(Arc::new(Bundle::new(version, format!("{}/{}", self.mount, self.path), fields)))
    }

    async fn renew(&self) -> Result<Arc<Token>, UpstreamError> {
        let token = self.token();
        let Some(token) = token.filter(|t| t.is_worth_renewing()) else {
            return self.log_in_behind(&mut *self.gate.lock().await).await;
        };
        match self.calls.renew_self(&token.secret, token.first_lease.as_secs()).await {
            Ok(auth) => Ok(self.hold(auth, token.login, Some(token.first_lease))),
            Err(e) if token_refused(&e) => self.log_in_again(token.login, e).await,
            Err(e) => Err(e),
        }
    }

    /// One login however many calls were refused, and none soon after another.
    async fn log_in_again(
        &self,
        refused_login: u64,
        why: UpstreamError,
    ) -> Result<Arc<Token>, UpstreamError> {
        let mut gate = self.gate.lock().await;
        if let Some(token) = self.token().filter(|t| t.login != refused_login) {
            return Ok(token);
        }
        let now = Instant::now();
        if gate.not_before.is_some_and(|t| now < t) {
            return Err(why);
        }
        gate.not_before = Some(now + RELOGIN_PAUSE);
        self.log_in_behind(&mut gate).await
    }

    async fn log_in_behind(&self, gate: &mut Gate) -> Result<Arc<Token>, UpstreamError> {
        let delivery = self.identity.delivery();
        if let Some((refused, error)) = &gate.refused
            && *refused == delivery
        {
            // Asking again with what was refused for good would only count as an attack.
            return Err(error.clone());
        }
        match self.note(self.identity.login(&self.calls).await) {
            Ok(auth) => {
                gate.refused = None;
                gate.logins += 1;
                let token = self.hold(auth, gate.logins, None);
                tracing::info!(lease_seconds = token.lease.as_secs(), "logged in to Vault");
                Ok(token)
            }
            Err(error) => {
                if matches!(error.class(), ErrorClass::Credential | ErrorClass::Intercepted) {
                    tracing::error!(%error, "Vault refuses the broker; no login until the secret_id's file changes");
                    if error.class() == ErrorClass::Intercepted {
                        self.events.tell(Event::SecretIdIntercepted(error.to_string()));
                    }
                    self.identity.forget().await;
                    gate.refused = Some((delivery, error.clone()));
                }
                Err(error)
            }
        }
    }

    fn hold(&self, auth: Auth, login: u64, first_lease: Option<Duration>) -> Arc<Token> {
        let lease = match auth.lease_duration {
            // A login without a lease is a token without an end; a renewal without one is a token at its end.
            0 if first_lease.is_some() => Duration::ZERO,
            0 => LONGEST_LEASE,
            seconds => Duration::from_secs(seconds).min(LONGEST_LEASE),
        };
        let token = Arc::new(Token {
            secret: auth.client_token,
            login,
            obtained: Instant::now(),
            lease,
            first_lease: first_lease.unwrap_or(lease),
            renewable: auth.renewable,
        });
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        self.board.succeeded(UpstreamName::Vault, None, Some(SystemTime::now() + lease));
        token
    }

    fn token(&self) -> Option<Arc<Token>> {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, outcome: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        match &outcome {
            Ok(_) => self.board.succeeded(UpstreamName::Vault, None, None),
            Err(error) => self.board.failed(None, error),
        }
        outcome
    }
}

impl Token {
    /// At two thirds of the lease, give or take a twentieth.
    fn renew_in(&self) -> Duration {
        let due = self.lease.mul_f64(2.0 / 3.0 + (fastrand::f64() - 0.5) / 10.0);
        // A renewed lease that is short already says that the maximum life is near: only a login helps, and waiting
        // for it gains nothing.
        let due = if self.is_near_its_maximum() { Duration::ZERO } else { due };
        due.saturating_sub(self.obtained.elapsed()).max(Duration::from_millis(200))
    }

    /// False when only a new login gives a longer life.
    fn is_worth_renewing(&self) -> bool {
        self.renewable && !self.is_near_its_maximum() && self.obtained.elapsed() < self.lease
    }

    fn is_near_its_maximum(&self) -> bool {
        self.lease * 2 <= self.first_lease
    }
}

fn not_logged_in() -> UpstreamError {
    let found = "the broker is not logged in";
    let advice = "look for the login's own error further up in the log";
    UpstreamError::new(UpstreamName::Vault, ErrorClass::Expired, "calling Vault", found, advice)
}

#[cfg(test)]
mod tests;
