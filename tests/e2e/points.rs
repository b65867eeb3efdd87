//! Consistency while somebody writes: what `per_run` and `per_chunk` promise, and what they do not.

mod writer;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::world::PipelineSetup;
use keyferry_sql::{Identity, Session};
use keyferry_stand_in_sqlserver::{Armed, Fault, When};
use libtest_mimic::Trial;

use self::writer::{PAIR, ROWS, State, Writer};
use crate::harness::{Stage, expect, ordinary, target, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("per_run_under_a_lock_barrier_is_one_committed_state_of_all_tables", barrier));
    trials.push(test("a_lost_connection_leaves_its_work_to_the_others_at_the_same_point", lost_connection));
    trials.push(test(
        "after_the_last_connection_at_the_point_is_lost_the_report_names_what_was_read_apart",
        lost_point,
    ));
    trials.push(test("a_run_that_died_under_the_barrier_continues_chunk_by_chunk_and_says_so", died));
    trials.push(test(
        "per_run_from_a_database_snapshot_survives_a_crash_and_takes_no_other_snapshot",
        snapshot,
    ));
    trials.push(test("per_chunk_is_exact_in_each_chunk_and_no_point_in_time_of_the_whole", per_chunk));
    trials.push(test("a_database_snapshot_that_is_none_stops_the_plan", no_snapshot));
}

const PER_RUN: &str = ", consistency: per_run";
const FROM_SNAPSHOT: &str = ", consistency: per_run, database_snapshot: SalesDB_point";
const MAKE_SNAPSHOT: &str = "CREATE DATABASE SalesDB_point ON (NAME = SalesDB, FILENAME = 'C:\\data\\point.ss') AS SNAPSHOT OF SalesDB";
const PARTED: &str = "one point in time was asked for and not kept throughout";

fn pipeline(connections: usize, source: &str) -> PipelineSetup {
    PipelineSetup {
        limits: format!("connections: {connections}, committers: 2, chunk_rows: 100"),
        source: source.to_owned(),
        ..PipelineSetup::of(&["accounts", "clock", "savings"])
    }
}

/// Every chunk takes a while, so that the writer comes in between.
fn slowly(stage: &Stage) -> Armed {
    let when = When { after_rows: 1, statement_contains: Some("SELECT [id], [token]".to_owned()), times: 0 };
    stage.world.sqlserver.faults().arm(when, Fault::Stall(Duration::from_millis(150)))
}

/// A table of the target, by id.
async fn rows(stage: &Stage, table: &str) -> Result<Vec<Vec<String>>> {
    stage
        .ask(&format!("SELECT \"ID\", \"TOKEN\", \"LOTS\", \"BALANCE\" FROM {} ORDER BY 1", target(table)))
        .await
}

/// The version that the target's clock shows.
async fn version(stage: &Stage) -> Result<usize> {
    let found = stage.ask(&format!("SELECT \"VERSION\" FROM {}", target("clock"))).await?;
    Ok(found.first().context("no clock")?[0].parse()?)
}

/// Fails unless the target is the state that its own clock names.
async fn expect_one_state(stage: &Stage, states: &[State]) -> Result<usize> {
    let version = version(stage).await?;
    let state = states.get(version).with_context(|| format!("version {version} of {}", states.len()))?;
    for table in ["accounts", "savings"] {
        let found = rows(stage, table).await?;
        ensure!(found == state.shown(table), "{table} is not as it was at version {version}");
    }
    Ok(version)
}

async fn barrier() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&writer::tables()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let slow = slowly(&stage);
    let writer = Writer::start(&stage.world);
    let setup = pipeline(3, PER_RUN);
    expect(
        &stage.loader("plan", &setup).await?,
        0,
        &["WITH (TABLOCK, HOLDLOCK)", "all chunks at one point in time"],
    )?;
    let ended = stage.loader("run", &setup).await?;
    let states = writer.stop().await?;
    expect(&ended, 0, &["all chunks at one point in time"])?;
    ensure!(!ended.output().contains(PARTED), "{}", ended.output());
    ensure!(slow.fired() >= 6, "only {} chunks were read slowly", slow.fired());
    let version = expect_one_state(&stage, &states).await?;
    ensure!(
        version > 0 && states.len() > version + 20,
        "nothing was written while the loader read: {version}"
    );
    // What is compared later is compared chunk by chunk, and says so: nobody writes now, so the source has moved on.
    let verified = stage.loader("verify", &setup).await?;
    expect(&verified, 65, &["is not the same on both sides"])?;
    stage.end(Some(broker)).await
}

async fn lost_connection() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&writer::tables()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let drop = cut_connection(&stage, 50);
    slowly(&stage);
    let writer = Writer::start(&stage.world);
    let ended = stage.loader("run", &pipeline(3, PER_RUN)).await?;
    let states = writer.stop().await?;
    expect(&ended, 0, &["trying the chunk again", "all chunks at one point in time"])?;
    ensure!(drop.fired() == 1, "no connection was cut");
    ensure!(!ended.output().contains(PARTED), "{}", ended.output());
    expect_one_state(&stage, &states).await?;
    stage.end(Some(broker)).await
}

fn cut_connection(stage: &Stage, after_rows: u64) -> Armed {
    let when =
        When { after_rows, statement_contains: Some("FROM [dbo].[savings] WHERE".to_owned()), times: 1 };
    stage.world.sqlserver.faults().arm(when, Fault::Drop)
}

async fn lost_point() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = writer::tables();
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let drop = cut_connection(&stage, 50);
    let ended = stage.loader("run", &pipeline(1, PER_RUN)).await?;
    // The chunks before the cut were read at the point; the cut one and those after it were not.
    expect(&ended, 0, &[PARTED, "dbo.savings: read at moments of their own: chunks 1-6"])?;
    ensure!(drop.fired() == 1, "no connection was cut");
    ensure!(!ended.output().contains("dbo.accounts: read at"), "{}", ended.output());
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}

async fn died() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = writer::tables();
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = pipeline(2, PER_RUN);
    let held = stage.loader_with("run", &setup, &[("KEYFERRY_FAILPOINT", "barrier_held".to_owned())]).await?;
    ensure!(held.code().is_none(), "it did not die while it held the locks: {}", held.output());
    // Its locks went with its connection, and nothing was loaded yet: the next one makes a barrier of its own.
    let died =
        stage.loader_with("run", &setup, &[("KEYFERRY_FAILPOINT", "after_commit_sent:3".to_owned())]).await?;
    ensure!(died.code().is_none(), "it did not die after a commit: {}", died.output());
    let ended = stage.loader("run", &setup).await?;
    expect(
        &ended,
        0,
        &["what is left is read chunk by chunk", PARTED, "read at moments of their own: chunks"],
    )?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}

async fn administer(stage: &Stage, sql: &str) -> Result<()> {
    let mut session =
        Session::new(&stage.world.source, Identity { user: "sa".to_owned(), ..Identity::default() });
    for outcome in session.execute(sql).await {
        outcome.map_err(|error| anyhow::anyhow!("{sql}: {error}"))?;
    }
    Ok(())
}

async fn snapshot() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&writer::tables()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let slow = slowly(&stage);
    let writer = Writer::start(&stage.world);
    tokio::time::sleep(Duration::from_millis(100)).await;
    administer(&stage, MAKE_SNAPSHOT).await?;
    let setup = pipeline(3, FROM_SNAPSHOT);
    let died =
        stage.loader_with("run", &setup, &[("KEYFERRY_FAILPOINT", "after_commit_sent:3".to_owned())]).await?;
    ensure!(died.code().is_none(), "it did not die: {}", died.output());
    let ended = stage.loader("run", &setup).await?;
    expect(&ended, 0, &["the database snapshot's", "from before"])?;
    ensure!(!ended.output().contains(PARTED) && slow.fired() >= 6, "{}", ended.output());
    let states = writer.stop().await?;
    let version = expect_one_state(&stage, &states).await?;
    ensure!(
        version > 0 && states.len() > version + 20,
        "nothing was written while the loader read: {version}"
    );
    // A run that another snapshot of the same name would continue is refused.
    let died =
        stage.loader_with("run", &setup, &[("KEYFERRY_FAILPOINT", "after_commit_sent:2".to_owned())]).await?;
    ensure!(died.code().is_none(), "it did not die: {}", died.output());
    administer(&stage, "DROP DATABASE SalesDB_point").await?;
    administer(&stage, MAKE_SNAPSHOT).await?;
    let refused = stage.loader("run", &setup).await?;
    ensure!(refused.code() != Some(0), "{}", refused.output());
    expect(&refused, refused.code().unwrap_or(-1), &["another database snapshot", "nothing was changed"])?;
    ensure!(expect_one_state(&stage, &states).await? == version, "the target was touched");
    stage.end(Some(broker)).await
}

async fn per_chunk() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&writer::tables()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let slow = slowly(&stage);
    let writer = Writer::start(&stage.world);
    let ended = stage.loader("run", &pipeline(1, "")).await?;
    let states = writer.stop().await?;
    expect(
        &ended,
        0,
        &["exact at the chunk's own moment", "a row whose key changes meanwhile can be missed or seen twice"],
    )?;
    ensure!(slow.fired() >= 6, "only {} chunks were read slowly", slow.fired());
    // Neighbours lie in one chunk: whoever moves money between them is seen before or after, never half.
    let accounts = rows(&stage, "accounts").await?;
    let number = |row: &[String], column: usize| row[column].parse::<i64>();
    ensure!(accounts.len() as i64 == ROWS, "{} accounts", accounts.len());
    for pair in accounts.chunks(2) {
        let sum = number(&pair[0], 3)? + number(&pair[1], 3)?;
        ensure!(sum == PAIR, "a pair within one chunk adds up to {sum}: {pair:?}");
    }
    // Lots went from the first chunk to the last one, which was read later: the documented limit is what is seen.
    let first: i64 = number(&accounts[0], 2)?;
    let last: i64 = number(&accounts[accounts.len() - 1], 2)?;
    ensure!((10 - first) / 2 < last - 10, "first and last chunk happen to be of one moment: {first}, {last}");
    let one_state = states.iter().any(|state| state.shown("accounts") == accounts);
    ensure!(!one_state, "chunks of different moments are one state of the source");
    stage.end(Some(broker)).await
}

async fn no_snapshot() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&writer::tables()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let other = ", consistency: per_run, database_snapshot: tempdb";
    expect(
        &stage.loader("plan", &pipeline(1, other)).await?,
        78,
        &["no database snapshot", "AS SNAPSHOT OF [SalesDB]"],
    )?;
    let alone = ", database_snapshot: SalesDB_point";
    expect(
        &stage.loader("plan", &pipeline(1, alone)).await?,
        78,
        &["write `consistency: per_run` beside it"],
    )?;
    let nowhere = stage.loader("plan", &pipeline(1, FROM_SNAPSHOT)).await?;
    expect(&nowhere, 77, &["SalesDB_point"])?;
    stage.end(Some(broker)).await
}
