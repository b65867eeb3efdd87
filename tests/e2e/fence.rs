//! Several loaders on one run: shards, take-over, zombies whose work arrives late, and outcomes that nobody was told.

mod bench;
mod unknown;

use anyhow::{Result, ensure};
use keyferry_e2e::world::Options;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use self::bench::{Bench, woken};
use crate::harness::{PATIENCE, expect, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("a_restarted_shard_takes_its_own_chunks_over_at_once", restarted));
    trials.push(test("another_shard_takes_over_only_when_the_lease_is_over", other_shard));
    trials.push(test("two_shards_load_one_run_and_one_of_them_publishes_it", two_shards));
    trials.push(test("an_index_without_a_count_is_refused_before_anything_is_asked", index_alone));
    trials.push(test("loaders_that_start_at_once_on_an_empty_ledger_are_exact", at_once));
    trials.push(test("a_run_begun_at_one_server_is_not_resumed_at_another", other_origin));
    // Between the zombie's steps its successor has gained the claim, but the staging table is still there.
    for point in ["after_upload", "commit_begun", "after_copy", "commit_locked", "commit_fenced"] {
        trials.push(test(
            &format!("a_zombie_that_wakes_at_{point}_while_its_successor_works_is_refused_by_the_fence"),
            move || zombie_beside(point),
        ));
    }
    // And here everything is published and cleaned when it wakes.
    for point in ["after_claim", "commit_fenced", "overwritten", "publish_marked"] {
        trials.push(test(
            &format!("a_zombie_that_wakes_at_{point}_after_the_publication_changes_nothing"),
            move || zombie_after(point),
        ));
    }
    trials.push(test("an_abandoned_transaction_is_waited_out_and_its_rows_come_once", abandoned));
    unknown::trials(trials);
}

async fn restarted() -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    bench.killed_at(&[], "commit_fenced:2").await?;
    let again = bench.run(&[]).await?;
    expect(&again, 0, &["took over the chunks of an earlier process of this shard"])?;
    bench.expect_exact().await?;
    bench.close().await
}

async fn other_shard() -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    bench.killed_at(&["--shard", "1/2"], "after_copy").await?;
    let mut other = bench.start(&["--shard", "0/2"], &[])?;
    // Everything else is loaded by then; what the dead one had is not touched.
    bench.said(&mut other, "waiting for shard 1/2 #").await?;
    ensure!(other.runs(), "it did not wait");
    bench.end_leases().await?;
    expect(&other.wait(PATIENCE).await?, 0, &[])?;
    bench.expect_exact().await?;
    let owners = bench.owners().await?;
    ensure!(owners.iter().all(|owner| owner.contains("shard 0/2 #")), "{owners:?}");
    bench.close().await
}

async fn two_shards() -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    let first = bench.stopped_at(&["--shard", "0/2"], "after_claim").await?;
    // The second one is told by its environment, as the pods of an Indexed Job are.
    let job = [("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETION_COUNT", "2")];
    let mut second = bench.start(&[], &job)?;
    bench.said(&mut second, "waiting for shard 0/2 #").await?;
    let first = woken(first).await?;
    let second = second.wait(PATIENCE).await?;
    expect(&first, 0, &[])?;
    expect(&second, 0, &[])?;
    bench.expect_exact().await?;
    let owners = bench.owners().await?;
    for shard in ["shard 0/2 #", "shard 1/2 #"] {
        ensure!(
            owners.iter().any(|owner| owner.contains(shard)),
            "nothing was loaded by {shard}: {owners:?}"
        );
    }
    let runs =
        bench.stage.ask("SELECT DISTINCT RUN_ID FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK > 0").await?;
    ensure!(runs.len() == 1, "they did not share one run: {runs:?}");
    bench.close().await
}

async fn index_alone() -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    let ended = bench.start(&[], &[("JOB_COMPLETION_INDEX", "1")])?.wait(PATIENCE).await?;
    expect(&ended, 78, &["JOB_COMPLETION_COUNT", "--shard"])?;
    bench.close().await
}

async fn at_once() -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    let loaders = [bench.start(&[], &[])?, bench.start(&[], &[])?, bench.start(&[], &[])?];
    let mut successes = 0;
    for loader in loaders {
        let ended = loader.wait(PATIENCE).await?;
        match ended.code() {
            Some(0) => successes += 1,
            // The one that was superseded names the one that it would have to wait for.
            _ => expect(&ended, 75, &["was taken over by shard 0/1 #"])?,
        }
    }
    ensure!(successes > 0, "all of them gave way to each other");
    bench.expect_exact().await?;
    bench.close().await
}

async fn other_origin() -> Result<()> {
    let mut bench = Bench::open(&Options::default()).await?;
    bench.killed_at(&[], "after_copy").await?;
    let port = bench.stage.world.sqlserver.addr().port();
    bench.setup.source = format!(", host: \"127.0.0.1\", port: {port}");
    let refused = bench.run(&[]).await?;
    expect(&refused, 78, &[&format!("localhost:{port}"), &format!("127.0.0.1:{port}"), "two origins"])?;
    bench.setup.source.clear();
    expect(&bench.run(&[]).await?, 0, &[])?;
    bench.expect_exact().await?;
    bench.close().await
}

async fn zombie_beside(point: &'static str) -> Result<()> {
    let bench = Bench::impatient().await?;
    let zombie = bench.stopped_at(&[], point).await?;
    // The successor waits the zombie's transaction out where it holds the lock, loads everything, and pauses.
    let successor = bench.stopped_at(&[], "all_loaded").await?;
    // A zombie that had not begun its transaction is stopped by the fence alone.
    if point != "after_upload" {
        bench.abandoned_transaction().await?;
    }
    expect(&woken(zombie).await?, 75, &["was taken over by shard 0/1 #"])?;
    expect(&woken(successor).await?, 0, &[])?;
    bench.expect_exact().await?;
    bench.close().await
}

async fn zombie_after(point: &'static str) -> Result<()> {
    let bench = Bench::impatient().await?;
    let zombie = bench.stopped_at(&[], point).await?;
    let successor = bench.run(&[]).await?;
    expect(&successor, 0, &[])?;
    bench.expect_exact().await?;
    // Its work is done, by another: that is no failure.
    expect(&woken(zombie).await?, 0, &[])?;
    bench.expect_exact().await?;
    bench.close().await
}

async fn abandoned() -> Result<()> {
    let mut bench = Bench::impatient().await?;
    let loader = bench.stopped_at(&[], "commit_fenced").await?;
    // Loader and broker die together, so nobody closes the sessions at Snowflake.
    let Some(broker) = bench.broker.take() else { anyhow::bail!("no broker runs") };
    broker.signal(Signal::SIGKILL)?;
    loader.signal(Signal::SIGKILL)?;
    drop((broker.wait(PATIENCE).await?, loader.wait(PATIENCE).await?));
    bench.broker = Some(bench.stage.world.start_broker(&crate::harness::ordinary()).await?);
    expect(&bench.run(&[]).await?, 0, &[])?;
    bench.abandoned_transaction().await?;
    bench.expect_exact().await?;
    bench.close().await
}
