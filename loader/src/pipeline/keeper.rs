//! Claims chunks, asks where their files go, and keeps the leases alive: all in one session of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{Failure, Loading, elsewhere, sessions::Sessions, sessions::persist};
use crate::{
    ledger::{Claim, Claimed},
    plan::LEASE,
    stage::StageTarget,
};

/// What the others ask of it.
pub(super) enum Ask {
    /// The right to load a chunk.
    Claim { table: usize, chunk: u32, reply: oneshot::Sender<Result<Claimed, Failure>> },
    /// Where files under a prefix go.
    Put { prefix: String, reply: oneshot::Sender<Result<StageTarget, Failure>> },
    /// The chunk is committed or given up: its lease needs no care any more.
    Release { table: usize, chunk: u32 },
    /// Somebody else has a chunk: see what the others have done by now.
    Look,
}

/// Serves until nobody can ask any more. Returns its session for what comes after.
pub(super) async fn serve(
    loading: Arc<Loading>,
    mut sessions: Sessions,
    mut asks: mpsc::Receiver<Ask>,
) -> Result<Sessions, Failure> {
    let mut held: HashMap<(usize, u32), Claim> = HashMap::new();
    let mut renewals = tokio::time::interval(LEASE / 3);
    renewals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    renewals.reset();
    let mut looks = tokio::time::interval(elsewhere::LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ask = tokio::select! {
            ask = asks.recv() => ask,
            _ = looks.tick() => {
                elsewhere::look(&loading, &mut sessions).await?;
                continue;
            }
            _ = renewals.tick() => {
                renew(&loading, &mut sessions, &mut held).await?;
                continue;
            }
        };
        match ask {
            None => return Ok(sessions),
            Some(Ask::Claim { table, chunk, reply }) => {
                let (ledger, run) = (&loading.ledger, loading.run(table));
                let claimed = persist!(sessions, session => ledger.claim(session, run, chunk));
                if let Ok(Claimed::Mine(claim)) = &claimed {
                    held.insert((table, chunk), claim.clone());
                }
                // Whoever asked may be gone already: then the run is ending.
                let _ = reply.send(claimed);
            }
            Some(Ask::Put { prefix, reply }) => {
                let target = persist!(sessions, session => session.put_target(&loading.stage, &prefix));
                let _ = reply.send(target);
            }
            Some(Ask::Look) => elsewhere::look(&loading, &mut sessions).await?,
            Some(Ask::Release { table, chunk }) => drop(held.remove(&(table, chunk))),
        }
    }
}

/// A claim that is no longer ours is not worked on any more: its commit would be refused by the fence anyway.
async fn renew(
    loading: &Loading,
    sessions: &mut Sessions,
    held: &mut HashMap<(usize, u32), Claim>,
) -> Result<(), Failure> {
    for ((table, chunk), claim) in held.iter() {
        let (ledger, run) = (&loading.ledger, loading.run(*table));
        let ours: bool = persist!(sessions, session => ledger.renew_lease(session, run, claim))?;
        if !ours {
            // It may also have been committed a moment ago; the fence decides.
            tracing::debug!(chunk, attempt = claim.attempt, "a lease was not renewed");
        }
    }
    Ok(())
}

/// Asks and waits for the answer.
pub(super) async fn ask<T>(
    asks: &mpsc::Sender<Ask>,
    make: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Ask,
) -> Result<T, Failure> {
    const KEEPER: &str = "the keeper of claims";
    let (reply, answer) = oneshot::channel();
    asks.send(make(reply)).await.map_err(|_| Failure::Lost(KEEPER))?;
    // The keeper's own statements have deadlines; this one only bounds a queue of them.
    match tokio::time::timeout(Duration::from_hours(4), answer).await {
        Ok(Ok(answer)) => answer,
        _ => Err(Failure::Lost(KEEPER)),
    }
}
