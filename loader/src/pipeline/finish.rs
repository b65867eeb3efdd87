//! After the last chunk: the target's witness over the staging table, then the publication. And the same comparison
//! without moving anything.

use std::{sync::Arc, time::Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Loading,
    closing::{Turn, turn, unless_published},
    narrow,
    queue::{Queue, Work},
    reader::Reader,
    retry,
    sessions::{Sessions, persist},
    until,
};
use crate::{
    config::{Consistency, Pipeline},
    fail,
    ledger::{Ledger, LedgerChunk, Run},
    model::{TablePlan, TargetName},
    plan::{Plan, PlannedTable},
    progress::{self, Progress},
    publish::{self, Published},
    report::{Report, TableReport},
    snowflake::{Answer, Statements as _},
    source::SqlServer,
    verify::{Level, check_extremes, check_target, extremes, extremes_sql, observed, target_sql},
    witness::{Side, Witness, WitnessError},
};

/// Chunks whose rows are in the staging table already.
pub(super) fn loaded_chunks(run: &Run) -> usize {
    run.chunks.iter().filter(|chunk| chunk.state.is_loaded()).count()
}

/// Refuses to continue a run whose loaded chunks were witnessed at a lower level than is asked for.
pub(super) async fn check_levels(
    plan: &Plan,
    runs: &[Run],
    level: Level,
    ledger: &Ledger,
    sessions: &mut Sessions,
) -> Result<(), Failure> {
    let begun = plan.tables.iter().zip(runs).filter(|(_, run)| run.resumed && loaded_chunks(run) > 0);
    for (table, run) in begun.filter(|_| level == Level::Hashes) {
        let known: Vec<LedgerChunk> = persist!(sessions, session => ledger.chunks(session, run))?;
        let mut chunks = Vec::new();
        for chunk in known.iter().filter(|chunk| chunk.state.is_loaded()) {
            if stored_witness(&table.plan, chunk)?.level < level {
                chunks.push(chunk.number);
            }
        }
        if !chunks.is_empty() {
            let (table, run_id) = (table.plan.source.clone(), run.run_id.clone());
            return Err(Failure::LowerLevel { table, run_id, chunks, ledger: ledger.name().sql() });
        }
    }
    Ok(())
}

pub(super) fn stored_witness(plan: &TablePlan, chunk: &LedgerChunk) -> Result<Witness, WitnessError> {
    let missing = || WitnessError::Stored(format!("chunk {} has none", chunk.number));
    Witness::from_json(&plan.columns, chunk.witness.as_deref().ok_or_else(missing)?)
}

/// Table after table: verify, publish, clean; or say that another process of the run has done so.
pub(super) async fn verify_and_publish(
    loading: &Loading,
    plan: &Plan,
    resumed: &[usize],
    shutdown: &CancellationToken,
    sessions: &mut Sessions,
) -> Result<Report, Failure> {
    let mut report = Report::new(plan, &loading.reader.progress);
    for ((table, run), resumed) in plan.tables.iter().zip(&loading.runs).zip(resumed) {
        let started = Instant::now();
        let published = match until(shutdown, turn(loading, run, sessions)).await? {
            Turn::Published(published) => published,
            Turn::Ours => {
                let outcome = verify_and_publish_one(loading, table, run, shutdown, sessions).await;
                unless_published(outcome, loading, run, sessions).await?
            }
        };
        if let Err(error) = persist!(sessions, session => publish::clean(session, run, &loading.stage)) {
            // The next run cleans up; the rows are published.
            tracing::warn!(%error, table = %table.plan.target, "published, but leftovers remain");
        }
        report.tables.push(TableReport {
            rows: published.rows,
            chunks: run.chunks.len(),
            resumed: *resumed,
            bytes: published.bytes,
            finishing_seconds: started.elapsed().as_secs_f64(),
            verified: loading.reader.level,
            published: true,
            read_apart: loading.points.apart(report.tables.len()),
            ..TableReport::of(table)
        });
    }
    if loading.points.parted(resumed) {
        report.consistency_statement = Consistency::PARTED;
    }
    Ok(report)
}

async fn verify_and_publish_one(
    loading: &Loading,
    table: &PlannedTable,
    run: &Run,
    shutdown: &CancellationToken,
    sessions: &mut Sessions,
) -> Result<Published, Failure> {
    until(shutdown, verify_staging(loading, table, run, sessions)).await?;
    fail::point("target_witnessed");
    let ledger = &loading.ledger;
    persist!(sessions, session => ledger.mark_verified(session, run))?;
    fail::point("marked_verified");
    if shutdown.is_cancelled() {
        return Err(Failure::Interrupted);
    }
    // From here on it is one transaction: it is waited for, and either it took effect or it did not.
    persist!(sessions, session => publish::publish(session, ledger, &table.plan, run))
}

/// Compares the staging table with what passed through the loader, this time and in earlier processes.
async fn verify_staging(
    loading: &Loading,
    table: &PlannedTable,
    run: &Run,
    sessions: &mut Sessions,
) -> Result<Vec<LedgerChunk>, Failure> {
    let ledger = &loading.ledger;
    let chunks: Vec<LedgerChunk> = persist!(sessions, session => ledger.chunks(session, run))?;
    let mut witness = Witness::new(&table.plan.columns, loading.reader.level);
    for chunk in &chunks {
        witness.merge(&stored_witness(&table.plan, chunk)?);
    }
    match check(&table.plan, &run.staging, loading.reader.level, &witness, sessions).await {
        Err(Failure::Mismatch(found)) => {
            Err(narrow::staging(loading, &table.plan, run, &chunks, sessions, *found).await.into())
        }
        other => other,
    }?;
    check_floats(&table.plan, &run.staging, loading.reader.level, &witness, sessions).await?;
    Ok(chunks)
}

/// The floats, exactly: asked after everything else agrees.
async fn check_floats(
    plan: &TablePlan,
    table: &TargetName,
    level: Level,
    witness: &Witness,
    sessions: &mut Sessions,
) -> Result<(), Failure> {
    let extremes = extremes(witness);
    let question = extremes_sql(plan, table, &extremes).filter(|_| level > Level::Counts);
    let Some(question) = question else { return Ok(()) };
    let answer: Answer = persist!(sessions, session => session.execute(&question))?;
    let row = answer.rows.first().map(Vec::as_slice).unwrap_or_default();
    Ok(check_extremes(plan, &extremes, row)?)
}

async fn check(
    plan: &TablePlan,
    table: &TargetName,
    level: Level,
    witness: &Witness,
    sessions: &mut Sessions,
) -> Result<(), Failure> {
    let question = target_sql(plan, table, level);
    let answer: Answer = persist!(sessions, session => session.execute(&question))?;
    let seen = observed(Side::Target, level, &plan.columns, &answer.rows)?;
    Ok(check_target(plan, witness, &seen)?)
}

/// Reads every chunk of the source again, moves nothing, and compares with the targets.
pub(super) async fn compare_again(
    pipeline: &Pipeline,
    level: Level,
    shutdown: &CancellationToken,
    server: SqlServer,
    plan: &Plan,
    sessions: &mut Sessions,
) -> Result<Report, Failure> {
    let progress = Arc::new(Progress::default());
    let tables = plan.tables.iter().map(|table| table.plan.clone()).collect();
    let reader = Arc::new(Reader::new(pipeline, server, tables, level, Arc::clone(&progress), plan.memory));
    let mut report = Report::new(plan, &progress);
    if pipeline.source.consistency == Consistency::PerRunBarrier {
        // No lock is taken to compare: each chunk is read again at a moment of its own.
        report.consistency_statement = Consistency::PerChunk.statement();
    }
    let done = CancellationToken::new();
    progress.expect(
        plan.tables.iter().map(|t| t.rows).sum(),
        plan.tables.iter().map(|t| t.plan.chunks.len() as u64).sum(),
    );
    let shown = tokio::spawn(progress::show(Arc::clone(&progress), done.clone()));
    let outcome = async {
        for (index, table) in plan.tables.iter().enumerate() {
            let started = Instant::now();
            let witness = add_up(&reader, index, plan.memory.lanes, shutdown).await?;
            let compared = async {
                match check(&table.plan, &table.plan.target, level, &witness, sessions).await {
                    Err(Failure::Mismatch(found)) => {
                        Err(narrow::target(&reader, &table.plan, sessions, *found).await.into())
                    }
                    other => other,
                }?;
                check_floats(&table.plan, &table.plan.target, level, &witness, sessions).await
            };
            until(shutdown, compared).await?;
            report.tables.push(TableReport {
                rows: witness.rows,
                chunks: table.plan.chunks.len(),
                bytes: table.bytes,
                finishing_seconds: started.elapsed().as_secs_f64(),
                verified: level,
                ..TableReport::of(table)
            });
        }
        Ok(())
    };
    let outcome = outcome.await;
    done.cancel();
    // Only a drawing: what became of it does not matter.
    let _ = shown.await;
    outcome.map(|()| report)
}

/// The witness of a whole table, read over several connections.
async fn add_up(
    reader: &Arc<Reader>,
    table: usize,
    connections: usize,
    shutdown: &CancellationToken,
) -> Result<Witness, Failure> {
    let plan = &reader.tables[table];
    let work = plan.chunks.iter().map(|chunk| Work {
        table,
        chunk: chunk.number,
        range: chunk.range.clone(),
        failures: 0,
    });
    let queue = Arc::new(Queue::new(work));
    let cancel = shutdown.child_token();
    let mut tasks = JoinSet::new();
    for _ in 0..connections.min(plan.chunks.len()) {
        let (reader, queue, cancel) = (Arc::clone(reader), Arc::clone(&queue), cancel.clone());
        tasks.spawn(async move { until(&cancel, add_up_chunks(&reader, &queue, table)).await });
    }
    let mut total = Witness::new(&plan.columns, reader.level);
    let mut cause = None;
    while let Some(ended) = tasks.join_next().await {
        match ended.unwrap_or(Err(Failure::Lost("a reader"))) {
            Ok(witness) => total.merge(&witness),
            Err(error) => {
                cancel.cancel();
                cause.get_or_insert(error);
            }
        }
    }
    cause.map_or(Ok(total), Err)
}

async fn add_up_chunks(reader: &Reader, queue: &Queue, table: usize) -> Result<Witness, Failure> {
    let mut total = Witness::new(&reader.tables[table].columns, reader.level);
    let mut open = None;
    while let Some(work) = queue.next().await {
        let outcome = async {
            let mut connection = match open.take() {
                Some(connection) => connection,
                None => reader.server.connect().await?,
            };
            let witness = reader.read(&mut connection, &work, None, false).await?;
            open = Some(connection);
            Ok::<_, Failure>(witness)
        };
        match outcome.await {
            Ok(witness) => {
                total.merge(&witness);
                reader.progress.chunk();
                queue.finish();
            }
            Err(error) if error.is_transient() && work.failures + 1 < reader.most_failures => {
                tracing::warn!(%error, chunk = work.chunk, "trying the chunk again");
                tokio::time::sleep(retry::pause(work.failures + 1)).await;
                queue.put_back(work);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}
