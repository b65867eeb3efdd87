//! Replies that are lost before, during and after their statements, requests that run twice, results that come late,
//! locks that are waited for too long: each run is exact, and what must not be sent again is not.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::world::Options;
use keyferry_stand_in_snowflake::{Effect, Fault, Polling, Trigger};
use libtest_mimic::Trial;

use super::bench::Bench;
use crate::harness::{PATIENCE, expect, test};

const LEDGER: &str = "\"RAW_ZONE\".\"SALES\".\"KEYFERRY_LEDGER\"";

/// What no lost reply may cause to be sent again.
const SENT_ONCE: [&str; 5] = ["COPY", "COMMIT", "INSERT", "'loaded'", "'verified'"];

pub(super) fn trials(trials: &mut Vec<Trial>) {
    for (effect, name) in
        [(Effect::CutBefore, "before"), (Effect::CutDuring, "during"), (Effect::CutAfter, "after")]
    {
        trials.push(test(
            &format!("a_reply_that_is_lost_{name}_any_statement_of_a_commit_leaves_the_run_exact"),
            move || cut(effect, commits()),
        ));
        trials.push(test(
            &format!("a_reply_that_is_lost_{name}_any_statement_of_the_plan_or_the_publication_leaves_the_run_exact"),
            move || cut(effect, ends()),
        ));
    }
    trials.push(test("a_request_that_runs_twice_takes_the_lock_twice_and_changes_nothing_twice", twice));
    trials.push(test("a_lock_that_is_waited_for_too_long_is_tried_again", lock_timeouts));
    trials.push(test("results_that_come_late_or_whose_polls_are_lost_are_waited_for", late_polls));
}

/// Each with how many passages are spared.
fn commits() -> Vec<(String, u32)> {
    vec![
        ("COPY INTO".to_owned(), 1),
        (format!("UPDATE {LEDGER} SET STATE = 'claimed'"), 2),
        (format!("UPDATE {LEDGER} SET STATE = 'loaded'"), 1),
        (format!("UPDATE {LEDGER} SET ATTEMPT = ATTEMPT + 1"), 6),
        // The third is of a claim; of the later ones some are of chunks.
        ("COMMIT".to_owned(), 2),
        ("COMMIT".to_owned(), 5),
        ("COMMIT".to_owned(), 6),
        ("COMMIT".to_owned(), 7),
        ("BEGIN".to_owned(), 4),
    ]
}

fn ends() -> Vec<(String, u32)> {
    vec![
        (format!("INSERT INTO {LEDGER}"), 0),
        // Joining, and the plan.
        ("COMMIT".to_owned(), 0),
        ("COMMIT".to_owned(), 1),
        (format!("UPDATE {LEDGER} SET STATE = 'verified'"), 0),
        ("INSERT OVERWRITE".to_owned(), 0),
        (format!("UPDATE {LEDGER} SET STATE = 'published'"), 0),
        ("DROP TABLE".to_owned(), 0),
    ]
}

async fn cut(effect: Effect, statements: Vec<(String, u32)>) -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    let faults = &bench.stage.world.snowflake.faults;
    for (statement, skip) in &statements {
        bench.forget_target().await?;
        let on = Trigger::Statement(statement.clone());
        let fault = faults.arm(Fault::once(on.clone(), effect).after(*skip));
        // Armed for what must never happen: the same request again while the first is running.
        let again = faults.arm(Fault::once(on, Effect::RunTwice));
        let ended = bench.run(&[]).await?;
        ensure!(faults.fired(fault) == 1, "{statement} after {skip} was not cut");
        expect(&ended, 0, &[]).map_err(|error| error.context(statement.clone()))?;
        if SENT_ONCE.iter().any(|once| statement.contains(once)) {
            ensure!(faults.fired(again) == 0, "{statement} was sent again");
        }
        faults.disarm(again);
        bench.expect_exact().await.map_err(|error| error.context(statement.clone()))?;
    }
    // The publication's own COMMIT comes after the statement that marks it.
    bench.forget_target().await?;
    let commits = publication_commit(&bench, effect).await?;
    ensure!(commits == 1, "the publication's COMMIT was not cut");
    bench.expect_exact().await?;
    bench.close().await
}

/// Cuts the COMMIT of the publication: the loader pauses just before it, and the fault is armed then.
async fn publication_commit(bench: &Bench, effect: Effect) -> Result<u64> {
    let loader = bench.stopped_at(&[], "publish_marked").await?;
    let faults = &bench.stage.world.snowflake.faults;
    let fault = faults.arm(Fault::once(Trigger::Statement("COMMIT".to_owned()), effect));
    let ended = super::bench::woken(loader).await?;
    expect(&ended, 0, &[])?;
    Ok(faults.fired(fault))
}

async fn twice() -> Result<()> {
    // The loader may stop while it holds the lock itself.
    let bench = Bench::impatient().await?;
    let loader = bench.stopped_at(&[], "commit_begun").await?;
    // Somebody holds the lock row, so that the loader's next lock waits; its reply is cut meanwhile.
    let mut holder = bench.admin();
    for statement in ["BEGIN", "UPDATE RAW_ZONE.SALES.KEYFERRY_LEDGER SET ATTEMPT = ATTEMPT WHERE CHUNK = -1"]
    {
        for outcome in holder.execute(statement).await {
            outcome.map_err(|error| anyhow::anyhow!("{statement}: {error}"))?;
        }
    }
    let faults = &bench.stage.world.snowflake.faults;
    let lock = || Trigger::Statement(format!("UPDATE {LEDGER} SET ATTEMPT = ATTEMPT + 1"));
    let cut = faults.arm(Fault::once(lock(), Effect::CutDuring));
    let twice = faults.arm(Fault::once(lock(), Effect::RunTwice));
    loader.signal(nix::sys::signal::Signal::SIGCONT)?;
    let deadline = std::time::Instant::now() + PATIENCE;
    while faults.fired(twice) == 0 {
        ensure!(std::time::Instant::now() < deadline, "no request came again while the first was running");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holder.rollback();
    expect(&loader.wait(PATIENCE).await?, 0, &[])?;
    ensure!(faults.fired(cut) == 1, "no reply was cut");
    bench.expect_exact().await?;
    bench.close().await
}

async fn lock_timeouts() -> Result<()> {
    let bench = Bench::open(&Options::default()).await?;
    let faults = &bench.stage.world.snowflake.faults;
    let lock = Trigger::Statement(format!("UPDATE {LEDGER} SET ATTEMPT = ATTEMPT + 1"));
    let copy = Trigger::Statement("INSERT OVERWRITE".to_owned());
    // Claims and commits of chunks, and the publication's wait for the target.
    let first = faults.arm(Fault::once(lock, Effect::LockTimeout).after(4).times(3));
    let second = faults.arm(Fault::once(copy, Effect::LockTimeout));
    expect(&bench.run(&[]).await?, 0, &[])?;
    ensure!((faults.fired(first), faults.fired(second)) == (3, 1), "not all locks were waited for in vain");
    bench.expect_exact().await?;
    bench.close().await
}

async fn late_polls() -> Result<()> {
    let polling = Polling { ready_after: Duration::from_millis(40), hold: Duration::from_millis(10) };
    let bench = Bench::open(&Options { polling, ..Options::default() }).await?;
    let faults = &bench.stage.world.snowflake.faults;
    let late =
        faults.arm(Fault::once(Trigger::Poll, Effect::Delay(Duration::from_millis(300))).after(20).times(5));
    let lost = faults.arm(Fault::once(Trigger::Poll, Effect::CutAfter).after(40).times(5));
    let busy = faults.arm(Fault::once(Trigger::Poll, Effect::Unavailable).after(60).times(5));
    expect(&bench.run(&[]).await?, 0, &[])?;
    for fault in [late, lost, busy] {
        ensure!(faults.fired(fault) == 5, "not every poll was disturbed");
    }
    ensure!(bench.stage.world.snowflake.stats.snapshot().polls > 100, "hardly anything was polled for");
    bench.expect_exact().await?;
    bench.close().await
}
