//! SQL Server: cut, refused, moved, silent, changed.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_stand_in_sqlserver::{Armed, Fault, When};
use libtest_mimic::Trial;

use super::{CHUNK_ROWS, Scene, fault};
use crate::harness::PATIENCE;

pub(super) fn trials(trials: &mut Vec<Trial>) {
    fault(trials, "SQL connection cut in mid-row", "a_connection_cut_in_mid_row_is_read_anew", || {
        passes(Fault::Drop, 2)
    });
    fault(trials, "deadlock victim (1205)", "a_deadlock_victim_reads_its_chunk_anew", || {
        passes(error(1205), 2)
    });
    fault(trials, "lock timeout (1222)", "a_lock_timeout_reads_the_chunk_anew", || passes(error(1222), 1));
    fault(trials, "snapshot conflict (3960)", "a_snapshot_conflict_reads_the_chunk_anew", || {
        passes(error(3960), 1)
    });
    fault(
        trials,
        "snapshot isolation switched off (3952)",
        "snapshot_isolation_switched_off_in_mid_run_stops_it",
        || stops(error(3952), 78, &["3952", "snapshot isolation", "ALLOW_SNAPSHOT_ISOLATION", "chunk"]),
    );
    fault(
        trials,
        "every read of a chunk fails (1205)",
        "a_chunk_that_fails_again_and_again_stops_the_run_by_name",
        || stops(error(1205), 75, &["1205", "dbo.orders, chunk", "o_orderkey"]),
    );
    fault(
        trials,
        "fail-over: logins refused (40613, 49918, 4060)",
        "logins_refused_while_a_server_moves_are_repeated",
        moves,
    );
    fault(trials, "database gone (4060)", "a_database_that_stays_away_stops_the_run", database_gone);
    fault(trials, "SQL Server restarted in mid-run", "a_server_that_restarts_is_waited_for", restarts);
    fault(trials, "query stalled", "a_silent_query_is_given_up_and_its_connection_never_reused", stalls);
    fault(
        trials,
        "schema changed in mid-run",
        "a_table_that_changes_in_mid_run_stops_before_its_copy",
        schema_changes,
    );
}

fn error(number: i32) -> Fault {
    Fault::Error { number, class: 13, message: format!("Injected error {number}.") }
}

/// In the middle of a chunk's rows.
fn arm(scene: &Scene, fault: Fault, times: u64) -> Armed {
    let when = When { after_rows: 250, statement_contains: Some(CHUNK_ROWS.to_owned()), times };
    scene.stage.world.sqlserver.faults().arm(when, fault)
}

async fn passes(fault: Fault, times: u64) -> Result<String> {
    let scene = Scene::new().await?;
    let armed = arm(&scene, fault, times);
    let ended = scene.run().await?;
    ensure!(armed.fired() == times, "fired {} times, not {times}", armed.fired());
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn stops(fault: Fault, code: i32, words: &[&str]) -> Result<String> {
    let scene = Scene::loaded().await?;
    let armed = arm(&scene, fault, 0);
    let ended = scene.run().await?;
    ensure!(armed.fired() > 0, "the fault never fired");
    let happened = scene.stopped(&ended, code, words).await?;
    armed.disarm();
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}

async fn moves() -> Result<String> {
    let scene = Scene::new().await?;
    let loader = scene.start_slowly(Duration::from_millis(300)).await?;
    let faults = scene.stage.world.sqlserver.faults();
    let refused: Vec<Armed> =
        [(40613, 2), (49918, 1), (4060, 1)].map(|(number, times)| faults.refuse_logins(number, times)).into();
    let cut = arm(&scene, Fault::Drop, 2);
    let ended = loader.wait(PATIENCE).await?;
    let fired: u64 = refused.iter().map(Armed::fired).sum();
    ensure!(cut.fired() == 2 && fired == 4, "{} cut, {fired} logins refused", cut.fired());
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn database_gone() -> Result<String> {
    let scene = Scene::loaded().await?;
    let refused = scene.stage.world.sqlserver.faults().refuse_logins(4060, 1000);
    let ended = scene.run().await?;
    ensure!(refused.fired() > 1, "refused {} logins", refused.fired());
    let happened = scene.stopped(&ended, 77, &["4060", "`source.database`"]).await?;
    refused.disarm();
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}

async fn restarts() -> Result<String> {
    let mut scene = Scene::new().await?;
    scene.setup.patience = 30;
    let loader = scene.start_slowly(Duration::from_millis(300)).await?;
    scene.stage.world.restart_sqlserver(Duration::from_secs(2)).await?;
    let ended = loader.wait(PATIENCE).await?;
    let logins = scene.stage.world.sqlserver.stats().logins;
    ensure!(logins > 0, "nobody logged in after the restart");
    ensure!(
        ended.stderr.contains("cannot connect to SQL Server"),
        "no refused connection:\n{}",
        ended.stderr
    );
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn stalls() -> Result<String> {
    let mut scene = Scene::new().await?;
    scene.setup.source = ", silence_seconds: 1".to_owned();
    let plain = scene.run().await?;
    scene.completed(&plain).await?;
    let usual = scene.stage.world.sqlserver.stats().logins;
    let armed = arm(&scene, Fault::Stall(Duration::from_secs(60)), 1);
    let ended = scene.run().await?;
    ensure!(armed.fired() == 1, "the fault never fired");
    ensure!(ended.stderr.contains("did not answer within 1s"), "no deadline in:\n{}", ended.stderr);
    let logins = scene.stage.world.sqlserver.stats().logins - usual;
    ensure!(logins == usual + 1, "{logins} logins instead of {usual} and one for the given-up connection");
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn schema_changes() -> Result<String> {
    let scene = Scene::loaded().await?;
    let loader = scene.start_slowly(Duration::from_millis(500)).await?;
    let loaded = scene.stage.world.snowflake.stats.snapshot().files_loaded;
    scene.stage.world.alter_source("ALTER TABLE dbo.orders DROP COLUMN o_comment").await?;
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.stopped(&ended, 75, &["dbo.orders, chunk", "has changed"]).await?;
    ensure!(scene.stage.world.snowflake.stats.snapshot().files_loaded >= loaded, "the stand-in forgot files");
    // The open run was planned for another table: it is not resumed behind the operator's back.
    let refused = scene.run().await?;
    scene.stopped(&refused, 78, &["planned for other columns", "DELETE FROM"]).await?;
    // The change is undone.
    scene.stage.world.alter_source("DROP TABLE dbo.orders").await?;
    scene.stage.world.fill(&scene.tables).await?;
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}
