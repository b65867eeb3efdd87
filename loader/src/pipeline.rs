//! The wiring of a run, and every capacity.
//!
//! ```text
//! queue of chunks → N × (read → encode → upload) → M × commit → verify → publish
//!                        2 batches   1 file        M jobs
//! ```
//! A keeper with a session of its own claims chunks for the readers. The first error, or a signal, cancels all;
//! everything is joined before the run returns. The target is touched by the publication only.

mod budget;
mod closing;
mod committer;
mod elsewhere;
mod failure;
mod finish;
mod keeper;
mod mover;
mod narrow;
mod points;
mod queue;
mod ranges;
mod reader;
mod retry;
pub(crate) mod sessions;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use failure::Failure;
use keyferry_proto::connect::Address;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    elsewhere::Elsewhere,
    points::Points,
    queue::{Queue, Work, biggest_first},
    reader::Reader,
    sessions::{Sessions, persist},
};
use crate::{
    config::Pipeline,
    encode::EncodeOptions,
    fail,
    grants::Broker,
    ledger::{Ledger, Run, RunStatus},
    model::TargetName,
    plan::{self, Plan},
    progress::{self, Progress},
    publish,
    report::Report,
    shard::Shard,
    source::SqlServer,
    stage::{self, UploadOptions, spool::SpoolDir},
    tds::Connection,
    verify::Level,
};

/// Batches between a reader and its encoder; their bytes are of the memory budget (`budget.rs`), whose sizes the plan
/// has settled (`plan/memory.rs`).
const BATCHES_TO_ENCODE: usize = 2;
/// Finished files between an encoder and its upload: on disk, not in memory.
const FILES_TO_UPLOAD: usize = 1;
/// Questions that wait for the keeper.
const ASKS: usize = 64;
/// The longest that a file waits for room in the spool directory.
const PATIENCE_FOR_SPACE: Duration = Duration::from_mins(10);

/// Everything that the tasks of one run share.
struct Loading {
    reader: Reader,
    queue: Queue,
    elsewhere: Elsewhere,
    points: Points,
    runs: Vec<Run>,
    ledger: Ledger,
    stage: TargetName,
    encode: EncodeOptions,
    upload: UploadOptions,
    file_bytes: u64,
    cancel: CancellationToken,
    /// Encoders run on threads; they end when their channels close.
    blocking: TaskTracker,
}

impl Loading {
    fn run(&self, table: usize) -> &Run {
        &self.runs[table]
    }
}

/// Dials the broker. Each process has a name of its own in the broker's audit log.
pub async fn broker(pipeline: &Pipeline) -> Result<Broker, Failure> {
    let address = Address {
        socket: pipeline.broker.socket.clone(),
        server_uid: pipeline.broker.server_uid,
        patience: std::time::Duration::from_secs(5),
        service_account_token: pipeline.broker.service_account_token.clone(),
    };
    let run_id = uuid::Uuid::new_v4().to_string();
    Ok(Broker::connect(&address, &pipeline.name, &run_id).await?)
}

/// Makes the plan; nothing is changed anywhere.
pub async fn plan(pipeline: &Pipeline, level: Level, shutdown: &CancellationToken) -> Result<Plan, Failure> {
    until(shutdown, async {
        let broker = broker(pipeline).await?;
        let server = SqlServer::resolve(&broker, &pipeline.source).await?;
        plan_at(&server, pipeline, level).await
    })
    .await
}

/// Plans on a connection of its own, again on a new one after a failure in passing.
async fn plan_at(server: &SqlServer, pipeline: &Pipeline, level: Level) -> Result<Plan, Failure> {
    let server = server.for_planning();
    let most_failures = retry::most_failures(pipeline.limits.patience);
    let mut failures = 0;
    loop {
        let outcome = match server.connect().await {
            Ok(mut connection) => plan::plan(&mut connection, pipeline, level)
                .await
                .map(|plan| plan.from_origin(&server.address(), &pipeline.source.grant))
                .map_err(Failure::from),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Err(error) if error.is_transient() && failures + 1 < most_failures => {
                failures += 1;
                tracing::warn!(%error, failures, server = server.address(), "trying again on a new connection");
                tokio::time::sleep(retry::pause(failures)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Plans, moves, verifies, publishes. Chunks that the ledger has already are skipped; a shard begins with its share
/// and then claims what the others have left.
pub async fn run(
    pipeline: &Pipeline,
    shard: Shard,
    level: Level,
    shutdown: &CancellationToken,
) -> Result<Report, Failure> {
    let started = Instant::now();
    let (broker, server, plan) = until(shutdown, async {
        let broker = broker(pipeline).await?;
        let server = SqlServer::resolve(&broker, &pipeline.source).await?;
        let plan = plan_at(&server, pipeline, level).await?;
        Ok((broker, server, plan))
    })
    .await?;
    let mut sessions = Sessions::new(&broker, pipeline);
    let work = load_and_publish(pipeline, shard, level, shutdown, server, &plan, &mut sessions);
    // Large, and awaited once.
    let outcome = Box::pin(work).await;
    sessions.discard().await;
    let mut report = outcome?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

#[allow(clippy::too_many_arguments)]
async fn load_and_publish(
    pipeline: &Pipeline,
    shard: Shard,
    level: Level,
    shutdown: &CancellationToken,
    server: SqlServer,
    plan: &Plan,
    sessions: &mut Sessions,
) -> Result<Report, Failure> {
    let ledger = plan::shard_ledger(pipeline, shard);
    let (ledger, runs) = until(shutdown, open_runs(&ledger, plan, sessions)).await?;
    until(shutdown, finish::check_levels(plan, &runs, level, &ledger, sessions)).await?;
    let resumed: Vec<usize> = runs.iter().map(finish::loaded_chunks).collect();
    let progress = Arc::new(Progress::default());
    let loading = Arc::new(loading(pipeline, shard, level, shutdown, server, plan, runs, ledger, progress));
    let started = Instant::now();
    let point = until(shutdown, points::reach(&loading, pipeline, &resumed)).await?;
    match move_all(&loading, sessions.sibling(), pipeline, point).await {
        Ok(keeper) => {
            tracing::debug!(seconds = started.elapsed().as_secs_f64(), "all chunks are loaded");
            fail::point("all_loaded");
            sessions.discard().await;
            *sessions = keeper;
        }
        Err(error) if closing::all_published(&error, &loading, sessions).await => {}
        Err(error) => return Err(error),
    }
    finish::verify_and_publish(&loading, plan, &resumed, shutdown, sessions).await
}

/// Opens or resumes a run of each table, and makes what is missing at the target.
async fn open_runs(
    ledger: &Ledger,
    plan: &Plan,
    sessions: &mut Sessions,
) -> Result<(Ledger, Vec<Run>), Failure> {
    persist!(sessions, session => ledger.ensure(session))?;
    let ledger: Ledger = persist!(sessions, session => ledger.join(session))?;
    persist!(sessions, session => stage::ensure(session, &plan.stage))?;
    let mut runs = Vec::with_capacity(plan.tables.len());
    for table in &plan.tables {
        let run: Run = persist!(sessions, session => ledger.open_or_resume(session, &table.plan))?;
        if run.resumed {
            let loaded = finish::loaded_chunks(&run);
            tracing::info!(table = %table.plan.source, run = run.run_id, loaded, chunks = run.chunks.len(), "resuming");
        }
        fail::point("run_opened");
        persist!(sessions, session => publish::prepare(session, &table.plan, &run))?;
        fail::point("staging_made");
        persist!(sessions, session => publish::clean_previous(session, &ledger, &table.plan, &plan.stage))?;
        runs.push(run);
    }
    Ok((ledger, runs))
}

#[allow(clippy::too_many_arguments)]
fn loading(
    pipeline: &Pipeline,
    shard: Shard,
    level: Level,
    shutdown: &CancellationToken,
    server: SqlServer,
    plan: &Plan,
    runs: Vec<Run>,
    ledger: Ledger,
    progress: Arc<Progress>,
) -> Loading {
    let limits = &pipeline.limits;
    let pending = runs.iter().enumerate().flat_map(|(table, run)| {
        let open = run.chunks.iter().filter(|chunk| !chunk.state.is_loaded());
        open.map(move |chunk| {
            let planned = plan.tables[table].plan.chunks.get(chunk.number as usize - 1);
            let rows = planned.filter(|planned| planned.range == chunk.range).map_or(0, |c| c.estimated_rows);
            (rows, Work { table, chunk: chunk.number, range: chunk.range.clone(), failures: 0 })
        })
    });
    let (mine, others): (Vec<_>, Vec<_>) = pending.partition(|(_, work)| shard.has(work.chunk));
    let mut pending = biggest_first(mine);
    // The others begin at the other end of their shares.
    pending.extend(biggest_first(others).into_iter().rev());
    progress.expect(plan.tables.iter().map(|t| t.rows).sum(), pending.len() as u64);
    let sizes = plan.memory;
    let need = limits.file.bytes() * 2 * sizes.lanes as u64;
    let tables = plan.tables.iter().map(|table| table.plan.clone()).collect();
    Loading {
        reader: Reader::new(pipeline, server, tables, level, progress, sizes),
        queue: Queue::new(pending),
        elsewhere: Elsewhere::default(),
        points: Points::default(),
        runs,
        ledger,
        stage: plan.stage.clone(),
        encode: EncodeOptions {
            row_group_bytes: sizes.row_group,
            spool: SpoolDir::new(limits.spool_dir.clone(), need, PATIENCE_FOR_SPACE),
        },
        upload: UploadOptions { part_bytes: sizes.part, ..UploadOptions::default() },
        file_bytes: limits.file.bytes(),
        cancel: shutdown.child_token(),
        blocking: TaskTracker::new(),
    }
}

/// Starts all tasks, waits for all, and returns the keeper's session. The first cause of a failure is the one told.
async fn move_all(
    loading: &Arc<Loading>,
    sessions: Sessions,
    pipeline: &Pipeline,
    point: Vec<Connection>,
) -> Result<Sessions, Failure> {
    let limits = &pipeline.limits;
    let (asks_tx, asks_rx) = mpsc::channel(ASKS);
    let (jobs_tx, jobs_rx) = mpsc::channel(limits.committers);
    let jobs = Arc::new(Mutex::new(jobs_rx));
    let mut tasks: JoinSet<Result<Option<Sessions>, Failure>> = JoinSet::new();
    for _ in 0..limits.committers {
        let task =
            committer::serve(Arc::clone(loading), sessions.sibling(), Arc::clone(&jobs), asks_tx.clone());
        tasks.spawn(async { task.await.map(|()| None) });
    }
    drop(jobs);
    // Where all connections are at one point, no other one is opened beside them.
    let connections = if point.is_empty() { limits.connections } else { point.len() };
    let mut point = point.into_iter();
    for _ in 0..connections {
        let cancel = loading.cancel.clone();
        let task = mover::serve(Arc::clone(loading), asks_tx.clone(), jobs_tx.clone(), point.next());
        tasks.spawn(async move { until(&cancel, task).await.map(|()| None) });
    }
    drop((jobs_tx, asks_tx));
    let cancel = loading.cancel.clone();
    let task = keeper::serve(Arc::clone(loading), sessions, asks_rx);
    tasks.spawn(async move { until(&cancel, task).await.map(Some) });

    let done = CancellationToken::new();
    let shown = tokio::spawn(progress::show(Arc::clone(&loading.reader.progress), done.clone()));
    let outcome = join(loading, tasks).await;
    done.cancel();
    // Only a drawing: what became of it does not matter.
    let _ = shown.await;
    loading.blocking.close();
    loading.blocking.wait().await;
    outcome
}

async fn join(
    loading: &Loading,
    mut tasks: JoinSet<Result<Option<Sessions>, Failure>>,
) -> Result<Sessions, Failure> {
    let mut keeper = None;
    let mut cause: Option<Failure> = None;
    while let Some(ended) = tasks.join_next().await {
        match ended.unwrap_or(Err(Failure::Lost("a task of the run"))) {
            Ok(sessions) => keeper = keeper.or(sessions),
            Err(error) => {
                loading.cancel.cancel();
                // What stopped because another stopped is not the cause.
                let echo = |e: &Failure| matches!(e, Failure::Interrupted | Failure::Lost(_));
                if cause.as_ref().is_none_or(|known| echo(known) && !echo(&error)) {
                    cause = Some(error);
                }
            }
        }
    }
    match (cause, keeper) {
        (None, Some(sessions)) => Ok(sessions),
        (Some(error), Some(mut sessions)) => {
            sessions.discard().await;
            Err(error)
        }
        (Some(error), None) => Err(error),
        (None, None) => Err(Failure::Lost("the keeper of claims")),
    }
}

/// Reads the source again and compares it with the target as it is now.
pub async fn verify(
    pipeline: &Pipeline,
    level: Level,
    shutdown: &CancellationToken,
) -> Result<Report, Failure> {
    let started = Instant::now();
    let (broker, server, plan) = until(shutdown, async {
        let broker = broker(pipeline).await?;
        let server = SqlServer::resolve(&broker, &pipeline.source).await?;
        let plan = plan_at(&server, pipeline, level).await?;
        Ok((broker, server, plan))
    })
    .await?;
    let mut sessions = Sessions::new(&broker, pipeline);
    let outcome = finish::compare_again(pipeline, level, shutdown, server, &plan, &mut sessions).await;
    sessions.discard().await;
    let mut report = outcome?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// What the ledger says.
pub async fn status(pipeline: &Pipeline, shutdown: &CancellationToken) -> Result<Vec<RunStatus>, Failure> {
    let broker = until(shutdown, broker(pipeline)).await?;
    let mut sessions = Sessions::new(&broker, pipeline);
    let ledger = plan::ledger(pipeline);
    let outcome = until(shutdown, async { persist!(sessions, session => ledger.status(session)) }).await;
    sessions.discard().await;
    outcome
}

/// Waits for work, or for the signal that ends it.
async fn until<T>(
    shutdown: &CancellationToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        () = shutdown.cancelled() => Err(Failure::Interrupted),
    }
}
