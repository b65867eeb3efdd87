//! Several processes may have loaded one run: one of them verifies and publishes it, the others wait and say for whom.

use super::{Failure, Loading, elsewhere::LOOK, sessions::Sessions, sessions::persist};
use crate::{
    ledger::{Finishing, Run},
    publish::Published,
};

/// What is left to do for a run whose chunks are all loaded.
pub(super) enum Turn {
    /// To verify and publish it.
    Ours,
    /// Nothing: it is published.
    Published(Published),
}

/// Waits until the run is published, or until it is this process's turn to do so: at once if nobody else is at it, or
/// when the lease of whoever was is over.
pub(super) async fn turn(loading: &Loading, run: &Run, sessions: &mut Sessions) -> Result<Turn, Failure> {
    let ledger = &loading.ledger;
    let mut told = None;
    loop {
        if let Some(published) = published(loading, run, sessions).await? {
            return Ok(Turn::Published(published));
        }
        let finishing: Finishing = persist!(sessions, session => ledger.claim_finish(session, run))?;
        let Finishing::Other { owner, lease_until } = finishing else { return Ok(Turn::Ours) };
        if told.as_ref() != Some(&owner) {
            let until = lease_until.unwrap_or_default();
            tracing::info!(
                table = run.table,
                "all chunks are loaded; {owner} publishes (lease until {until} UTC)"
            );
            told = Some(owner);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The run as it was published, by whomever.
async fn published(
    loading: &Loading,
    run: &Run,
    sessions: &mut Sessions,
) -> Result<Option<Published>, Failure> {
    let ledger = &loading.ledger;
    persist!(sessions, session => ledger.published(session, run))
}

/// What failed because another process has published the run meanwhile has not failed.
pub(super) async fn unless_published(
    outcome: Result<Published, Failure>,
    loading: &Loading,
    run: &Run,
    sessions: &mut Sessions,
) -> Result<Published, Failure> {
    let error = match outcome {
        Err(error) if !matches!(error, Failure::Interrupted) => error,
        outcome => return outcome,
    };
    match published(loading, run, sessions).await {
        Ok(Some(published)) => {
            tracing::warn!(%error, table = run.table, "stopped; another loader has published the run meanwhile");
            Ok(published)
        }
        _ => Err(error),
    }
}

/// The same for all tables at once, after the chunks could not all be moved.
pub(super) async fn all_published(error: &Failure, loading: &Loading, sessions: &mut Sessions) -> bool {
    if matches!(error, Failure::Interrupted) {
        return false;
    }
    for run in &loading.runs {
        if !matches!(published(loading, run, sessions).await, Ok(Some(_))) {
            return false;
        }
    }
    tracing::warn!(%error, "stopped; another loader has published everything meanwhile");
    true
}
