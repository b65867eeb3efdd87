//! The main job, end to end.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::{
    sample::{Table, every_type, text, tpch},
    world::{Options, PipelineSetup},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Stage, expect, ordinary, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("tables_cross_exactly_and_a_second_run_replaces_them", tables_cross_exactly));
    trials.push(test("tokens_that_expire_during_the_run_are_renewed", tokens_expire));
    trials.push(test("an_interrupted_run_publishes_nothing_and_the_next_one_finishes", interrupted));
    trials.push(test("plan_verify_and_status_say_what_is", the_other_commands));
}

fn small() -> Vec<Table> {
    // At this scale there are too few suppliers for distinct part suppliers.
    let mut tables = tpch::tables(0.001);
    tables.retain(|table| table.name != "partsupp");
    tables.push(every_type::table());
    tables.push(text::table());
    tables
}

fn pipeline(tables: &[Table]) -> PipelineSetup {
    let mut setup = PipelineSetup::of(&tables.iter().map(|table| table.name).collect::<Vec<_>>());
    setup.limits = "connections: 4, committers: 2, chunk_rows: 1500".to_owned();
    setup
}

async fn tables_cross_exactly() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = small();
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    for _ in 0..2 {
        let ended = stage.loader("run", &pipeline(&tables)).await?;
        expect(&ended, 0, &["LINEITEM"])?;
        stage.expect_exact(&tables).await?;
    }
    let rows = stage
        .ask("SELECT COUNT(*), COUNT(DISTINCT SOURCE_SPID) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE TABLE_NAME ILIKE '%lineitem%' AND CHUNK >= 0")
        .await?;
    let chunks: u64 = rows[0][0].parse()?;
    ensure!(chunks >= 4, "lineitem's chunks: {chunks}");
    let objects = stage.world.snowflake.staged_objects();
    ensure!(objects.is_empty(), "staged files were left behind: {objects:?}");
    stage.end(Some(broker)).await
}

async fn tokens_expire() -> Result<()> {
    let options = Options {
        session_ttl: Duration::from_secs(2),
        token_life: Duration::from_secs(60),
        ..Options::default()
    };
    let stage = Stage::with(&options).await?;
    let tables = vec![tpch::tables(0.002).pop().expect("lineitem")];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    // Slow answers stretch the run over several lives of a session token.
    let slow = keyferry_stand_in_snowflake::Fault {
        on: keyferry_stand_in_snowflake::Trigger::Statement("COPY INTO".to_owned()),
        effect: keyferry_stand_in_snowflake::Effect::Delay(Duration::from_millis(1500)),
        skip: 0,
        times: 1000,
    };
    stage.world.snowflake.faults.arm(slow);
    let ended = stage.loader("run", &pipeline(&tables)).await?;
    expect(&ended, 0, &[])?;
    let renewals = stage.world.snowflake.stats.snapshot().renewals;
    ensure!(renewals >= 2, "only {renewals} renewals");
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}

async fn interrupted() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![tpch::tables(0.005).pop().expect("lineitem")];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = pipeline(&tables);
    let path = setup.write(&stage.world, "pipeline")?;
    let loader = stage.world.spawn_loader("interrupted", &["run", &path.display().to_string()], &[])?;
    while stage.world.snowflake.stats.snapshot().files_loaded < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loader.signal(Signal::SIGINT)?;
    let ended = loader.wait(PATIENCE).await?;
    expect(&ended, 130, &["interrupt"])?;
    let published =
        stage.ask("SELECT COUNT(*) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE STATE = 'published'").await?;
    ensure!(published[0][0] == "0", "an interrupted run published {published:?}");
    let before = stage.world.snowflake.stats.snapshot().files_loaded;
    expect(&stage.loader("run", &setup).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    let chunks: u64 =
        stage.ask("SELECT COUNT(*) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK >= 0").await?[0][0]
            .parse()?;
    let after = stage.world.snowflake.stats.snapshot().files_loaded - before;
    ensure!(after < chunks, "the second run loaded all {chunks} chunks again ({after} files)");
    stage.end(Some(broker)).await
}

async fn the_other_commands() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![every_type::table()];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = pipeline(&tables);
    expect(&stage.loader("plan", &setup).await?, 0, &["every_type", "NUMBER(38,0)", "TIMESTAMP_NTZ(7)"])?;
    expect(&stage.loader("run", &setup).await?, 0, &[])?;
    expect(&stage.loader("verify", &setup).await?, 0, &[])?;
    expect(&stage.loader("status", &setup).await?, 0, &["published"])?;
    // A row that changes at the target is seen.
    let mut session = keyferry_sql::Session::new(&stage.world.target, keyferry_sql::Identity::default());
    for outcome in session.execute("UPDATE RAW_ZONE.SALES.EVERY_TYPE SET C_INT = 7 WHERE ID = 0").await {
        outcome.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    expect(&stage.loader("verify", &setup).await?, 65, &["C_INT"])?;
    stage.end(Some(broker)).await
}
