//! One committer: its own Snowflake session, one chunk's transaction at a time.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, mpsc};

use super::{Failure, Loading, keeper::Ask, queue::Work, retry, sessions::Sessions, sessions::persist};
use crate::{
    commit::{self, ChunkFacts, CommitError},
    ledger::{Claim, Reclaimed},
};

/// How long a commit that is under way may go on after an interruption.
const GRACE: Duration = Duration::from_secs(10);

/// A staged chunk.
pub(super) struct Job {
    pub work: Work,
    pub claim: Claim,
    pub facts: ChunkFacts,
}

/// Shared by all committers.
pub(super) type Jobs = Arc<Mutex<mpsc::Receiver<Job>>>;

/// Commits until no chunk can come any more.
pub(super) async fn serve(
    loading: Arc<Loading>,
    mut sessions: Sessions,
    jobs: Jobs,
    asks: mpsc::Sender<Ask>,
) -> Result<(), Failure> {
    let outcome = commit_all(&loading, &mut sessions, &jobs, &asks).await;
    sessions.discard().await;
    outcome
}

async fn commit_all(
    loading: &Loading,
    sessions: &mut Sessions,
    jobs: &Jobs,
    asks: &mpsc::Sender<Ask>,
) -> Result<(), Failure> {
    loop {
        let job = tokio::select! {
            job = async { jobs.lock().await.recv().await } => job,
            () = loading.cancel.cancelled() => return Err(Failure::Interrupted),
        };
        let Some(job) = job else { return Ok(()) };
        let (table, chunk) = (job.work.table, job.work.chunk);
        let interrupted = async {
            loading.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            outcome = commit(loading, sessions, job) => outcome?,
            // The dropped statement poisons the session; closing it ends the transaction.
            () = interrupted => return Err(Failure::Interrupted),
        }
        // The keeper may be gone when the run is ending.
        let _ = asks.send(Ask::Release { table, chunk }).await;
    }
}

async fn commit(loading: &Loading, sessions: &mut Sessions, mut job: Job) -> Result<(), Failure> {
    let plan = loading.reader.table(&job.work);
    let run = loading.run(job.work.table);
    // Opening a session may be tried again and again; what follows may not.
    let opened = persist!(sessions, session => async { Ok::<_, Failure>(session.audit_id().to_owned()) });
    job.facts.audit_id = opened?;
    let session = sessions.current().await?;
    let waiting = loading.reader.progress.commit.start();
    let outcome =
        commit::commit(session, &loading.ledger, run, plan, &loading.stage, &job.claim, &job.facts).await;
    drop(waiting);
    match outcome {
        Ok(committed) => {
            tracing::debug!(
                chunk = job.claim.chunk,
                rows = job.facts.rows,
                query = committed.query_id,
                "committed"
            );
            loaded(loading, &job);
            Ok(())
        }
        Err(error) if error.is_unknown() => {
            tracing::warn!(%error, chunk = job.claim.chunk, "asking the ledger what became of the commit");
            sessions.discard().await;
            let (ledger, claim) = (&loading.ledger, &job.claim);
            let found: Reclaimed = persist!(sessions, session => ledger.reclaim(session, run, claim))?;
            match found {
                Reclaimed::Loaded => {
                    loaded(loading, &job);
                    Ok(())
                }
                Reclaimed::Again(_) => again(loading, job, error),
                Reclaimed::Lost { owner } => {
                    let (table, attempt) = (plan.target.to_string(), job.claim.attempt);
                    Err(CommitError::ClaimLost { chunk: job.claim.chunk, table, attempt, owner }.into())
                }
            }
        }
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, chunk = job.claim.chunk, "trying the chunk again");
            sessions.discard().await;
            tokio::time::sleep(retry::pause(job.work.failures + 1)).await;
            again(loading, job, error)
        }
        Err(error) => Err(error.into()),
    }
}

/// A COPY was attempted with these files, so they are never used again: the chunk is read anew under a new claim.
fn again(loading: &Loading, job: Job, error: CommitError) -> Result<(), Failure> {
    if job.work.failures + 1 >= loading.reader.most_failures {
        return Err(error.into());
    }
    loading.queue.put_back(job.work);
    Ok(())
}

fn loaded(loading: &Loading, job: &Job) {
    loading.reader.progress.chunk();
    loading.reader.progress.staged(job.facts.files.iter().map(|file| file.bytes).sum());
    loading.queue.finish();
}
