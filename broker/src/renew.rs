//! The one keep-fresh loop: one task per grant, the only place that calls an issuer.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    grants::Slot,
    issuer::Issuer,
    metrics::Metrics,
    schedule::{self, Backoff},
    upstream::{ErrorClass, UpstreamError, UpstreamName},
};

/// One attempt takes no longer than this.
const ATTEMPT: Duration = Duration::from_secs(20);

/// What an issuer refuses for good is asked for this rarely; a credential that is replaced ends the wait.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);

/// Two attempts that callers asked for are never closer than this.
const PACE: Duration = Duration::from_secs(1);

/// Keeps one grant's token fresh until `shutdown`. A failed attempt leaves the token we hold in place.
///
/// The next attempt comes when 70 to 80 % of the life is over (at the latest `margin` before the end), when
/// a caller wants one, or after a growing pause when the last one failed.
pub async fn keep_fresh(
    issuer: Arc<impl Issuer>,
    slot: Arc<Slot>,
    margin: Duration,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut credential = issuer.credential(slot.name());
    loop {
        if let Some(credential) = &mut credential {
            credential.mark_unchanged();
        }
        let attempt = timeout(ATTEMPT, issuer.issue(slot.name()));
        let outcome = tokio::select! {
            outcome = attempt => outcome.unwrap_or_else(|_| Err(too_slow())),
            () = shutdown.cancelled() => return,
        };
        metrics.upstream_call("bearer", &outcome);
        let outcome = outcome.and_then(|grant| slot.publish(grant).map_err(|_| lapsed()));
        let rest = async {
            match outcome {
                Ok(life) => {
                    backoff.reset();
                    let wait = schedule::renew_in(life, margin, fastrand::f64());
                    info!(grant = %slot.name(), ?life, renew_in = ?wait, "token issued");
                    let due = slot.until_left(life.saturating_sub(wait));
                    let asked = async {
                        tokio::time::sleep(PACE).await;
                        slot.until_wanted().await;
                    };
                    tokio::select! { () = due => {}, () = asked => {} }
                }
                Err(error) => {
                    let pause = backoff.after_failure(error.retry_after(), fastrand::f64());
                    let pause = if error.is_permanent() { pause.max(REFUSED_PAUSE) } else { pause };
                    if backoff.failures() <= 3 {
                        warn!(grant = %slot.name(), %error, ?pause, "no token");
                    } else {
                        debug!(grant = %slot.name(), %error, ?pause, "still no token");
                    }
                    slot.fail(error, Instant::now() + pause);
                    tokio::time::sleep(pause).await;
                }
            }
        };
        tokio::select! {
            () = rest => {}
            () = replaced(&mut credential) => {
                info!(grant = %slot.name(), "the credential was replaced; so is its token");
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Waits until another credential is in use.
async fn replaced(credential: &mut Option<watch::Receiver<u64>>) {
    if let Some(credential) = credential
        && credential.changed().await.is_ok()
    {
        return;
    }
    // An issuer that is gone replaces nothing any more.
    std::future::pending::<()>().await;
}

fn too_slow() -> UpstreamError {
    UpstreamError::new(
        UpstreamName::Entra,
        ErrorClass::Unreachable,
        "asking for an access token",
        format!("no answer within {} s", ATTEMPT.as_secs()),
        "check the network between the broker and the issuer",
    )
}

fn lapsed() -> UpstreamError {
    UpstreamError::new(
        UpstreamName::Entra,
        ErrorClass::Clock,
        "asking for an access token",
        "the token that came had already ended",
        "compare the clocks of the broker and the issuer",
    )
}

#[cfg(test)]
mod tests;
