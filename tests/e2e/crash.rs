//! A loader killed with -9 at the two points that matter most, and what the next run makes of it.

use anyhow::{Result, ensure};
use keyferry_e2e::{sample::tpch, world::PipelineSetup};
use libtest_mimic::Trial;

use crate::harness::{Stage, expect, ordinary, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("killed_between_copy_and_the_ledgers_update_then_run_again_is_exact", || {
        killed_at("after_copy")
    }));
    trials.push(test("killed_after_commit_before_its_reply_then_run_again_is_exact", || {
        killed_at("after_commit_sent")
    }));
    trials.push(test("killed_after_a_claim_then_run_again_is_exact", || killed_at("after_claim")));
    trials.push(test("killed_before_publishing_then_run_again_is_exact", || killed_at("before_publish")));
    trials.push(test("killed_after_publishing_then_run_again_is_exact", || killed_at("after_publish")));
}

async fn killed_at(point: &'static str) -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![tpch::tables(0.002).pop().expect("lineitem")];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = PipelineSetup {
        limits: "connections: 2, committers: 2, chunk_rows: 2000".to_owned(),
        ..PipelineSetup::of(&["lineitem"])
    };
    let killed = stage.loader_with("run", &setup, &[("KEYFERRY_FAILPOINT", point.to_owned())]).await?;
    ensure!(
        killed.code().is_none(),
        "the point {point} never fired: {:?}\n{}",
        killed.status,
        killed.output()
    );
    let again = stage.loader("run", &setup).await?;
    expect(&again, 0, &[])?;
    stage.expect_exact(&tables).await?;
    let doubles = stage
        .ask("SELECT CHUNK, COUNT(*) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK >= 0 GROUP BY RUN_ID, CHUNK HAVING COUNT(*) > 1")
        .await?;
    ensure!(doubles.is_empty(), "chunks with several ledger rows: {doubles:?}");
    stage.end(Some(broker)).await
}
