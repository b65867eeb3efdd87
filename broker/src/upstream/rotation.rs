//! Rotation while running: a new version of the secret bundle is looked for, tried, and taken when it works.
//!
//! Until it works the version before it stays in use, credential by credential: a new client secret is taken when
//! Entra gives a token for it, a new keytab when the KDC gives a ticket for it. A version that lacks a field, or
//! holds one that cannot be right, is not tried at all.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Source, Upstream, bundle::Bundle, error::UpstreamError};
use crate::{
    events::{Event, Events},
    schedule::Backoff,
};

/// Which version of the secret is in use, and what stands in the way of a newer one. Nothing here is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecretStatus {
    /// The newest version that is in use as a whole.
    pub version_in_use: u64,
    /// The newest version that Vault has.
    pub newest_version: u64,
    /// Why the newest version is not in use, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What a restart of the broker needs that it does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_needs: Option<&'static str>,
}

/// The state of the rotation.
pub(super) struct Rotation {
    every: Duration,
    events: Events,
    /// Rung when an upstream refuses a credential: there may be a newer one.
    refused: Arc<Notify>,
    /// The version in use as a whole; settings that belong to no single credential come from it.
    current: RwLock<Arc<Bundle>>,
    status: Mutex<SecretStatus>,
}

/// Why a version is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Time,
    Refused,
}

impl Rotation {
    pub(super) fn new(
        every: Duration,
        bundle: Arc<Bundle>,
        events: Events,
        refused: Arc<Notify>,
        wrapped: bool,
    ) -> Self {
        let version = bundle.version();
        let restart_needs =
            wrapped.then_some("a new wrapped secret_id: the one that was delivered works only once");
        let status =
            SecretStatus { version_in_use: version, newest_version: version, problem: None, restart_needs };
        Self { every, events, refused, current: RwLock::new(bundle), status: Mutex::new(status) }
    }

    pub(super) fn current(&self) -> Arc<Bundle> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn status(&self) -> SecretStatus {
        self.noted().clone()
    }

    /// An upstream refused a credential.
    pub(super) fn look_now(&self) {
        self.refused.notify_one();
    }

    fn taken(&self, bundle: &Arc<Bundle>) {
        let version = bundle.version();
        let before = std::mem::replace(
            &mut *self.current.write().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(bundle),
        );
        {
            let mut status = self.noted();
            (status.version_in_use, status.newest_version, status.problem) = (version, version, None);
        }
        tracing::info!(version, before = before.version(), "a new version of the secret is in use");
        let detail = format!("version {version} after version {}", before.version());
        self.events.tell(Event::SecretVersionTaken(detail));
    }

    /// The version in use is the newest one.
    fn settled(&self, version: u64) {
        let mut status = self.noted();
        (status.newest_version, status.problem) = (version, None);
    }

    fn refused_version(&self, version: u64, errors: &[UpstreamError]) {
        let refused = errors.iter().any(UpstreamError::is_permanent);
        let found = if refused { "does not work" } else { "could not be tried yet" };
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let problem =
            format!("version {version} {found}, the one before it stays in use: {}", errors.join("; "));
        let mut status = self.noted();
        status.newest_version = version;
        if status.problem.as_ref() == Some(&problem) {
            tracing::debug!(problem, "still not in use");
            return;
        }
        if refused {
            tracing::error!(problem, "a new version of the secret is refused");
            self.events.tell(Event::SecretVersionRefused(problem.clone()));
        } else {
            tracing::warn!(problem, "a new version of the secret is not in use yet");
        }
        status.problem = Some(problem);
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, SecretStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fifth more or less than the configured time, so that many brokers do not ask together.
    fn next(&self) -> Duration {
        self.every.mul_f64(0.8 + fastrand::f64() * 0.4)
    }
}

impl Upstream {
    /// Looks for a new version now and then, and soon after an upstream refused a credential; at growing pauses
    /// when refusals go on and nothing new is there.
    pub(super) async fn keep_current(self: Arc<Self>, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut earliest = Instant::now();
        let mut candidate = None;
        let mut due = Instant::now() + self.rotation.next();
        loop {
            let why = tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(due) => Why::Time,
                () = self.rotation.refused.notified() => Why::Refused,
            };
            if why == Why::Refused {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep_until(earliest) => {}
                }
            }
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look(&mut candidate, why) => looked,
            };
            let asked = looked.as_ref().err().and_then(UpstreamError::retry_after);
            if let Err(error) = &looked {
                tracing::warn!(%error, "no new version of the secret could be looked for");
            }
            if why == Why::Time {
                due = Instant::now() + self.rotation.next();
                backoff.reset();
            } else if matches!(looked, Ok(true)) {
                backoff.reset();
            } else {
                earliest = Instant::now() + backoff.after_failure(asked, fastrand::f64());
            }
        }
    }

    /// One look at Vault. True when a new version is in use now.
    async fn look(&self, candidate: &mut Option<Arc<Bundle>>, why: Why) -> Result<bool, UpstreamError> {
        let newest = self.vault.read_bundle().await?;
        let in_use = self.rotation.current().version();
        // A version that was deleted and written anew begins to count at 1: different is what counts.
        let is_new = newest.version() != candidate.as_ref().map_or(in_use, |held| held.version());
        if newest.version() == in_use {
            *candidate = None;
            self.rotation.settled(in_use);
            return Ok(false);
        }
        *candidate = Some(Arc::clone(&newest));
        let taken = self.try_bundle(&newest, is_new || why == Why::Time).await;
        if taken {
            *candidate = None;
        }
        Ok(taken)
    }

    /// Tries every credential that is new in this version. A key that the directory refuses is not shown to it
    /// again out of turn, for it counts the attempts and locks the account.
    async fn try_bundle(&self, bundle: &Arc<Bundle>, keytab_too: bool) -> bool {
        if let Err(error) = self.check(bundle) {
            self.rotation.refused_version(bundle.version(), &[error]);
            return false;
        }
        let mut errors = Vec::new();
        let mut waiting = false;
        if let Some(kerberos) = self.kerberos.as_ref().filter(|kerberos| !kerberos.uses(bundle)) {
            if keytab_too {
                errors.extend(kerberos.replace(bundle).await.err());
            } else {
                waiting = true;
            }
        }
        for source in self.grants.values() {
            let Source::Snowflake(account) = source else { continue };
            if account.uses(bundle) {
                account.take(bundle);
            } else {
                errors.extend(account.replace(bundle).await.err());
            }
        }
        if errors.is_empty() && !waiting {
            self.rotation.taken(bundle);
            return true;
        }
        if !errors.is_empty() {
            self.rotation.refused_version(bundle.version(), &errors);
        }
        false
    }

    /// Whether a bundle has everything that the grants need, as far as looking at it tells.
    pub(super) fn check(&self, bundle: &Bundle) -> Result<(), UpstreamError> {
        if let Some(kerberos) = &self.kerberos {
            kerberos.check(bundle)?;
        }
        self.grants.values().try_for_each(|source| source.check(bundle))
    }
}

#[cfg(test)]
mod tests;
