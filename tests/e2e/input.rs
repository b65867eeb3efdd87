//! Bad input, as a new user would give it: one short message that says what, where and what to do.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use keyferry_e2e::{
    process::Ended,
    sample::{every_type, tpch},
    world::PipelineSetup,
};
use libtest_mimic::Trial;

use crate::harness::{PATIENCE, Stage, expect, ordinary, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("a_typo_in_a_key_is_named_with_line_column_and_the_right_key", typo));
    trials.push(test("a_missing_file_is_named", missing_file));
    trials.push(test("a_socket_that_nobody_serves_is_named", dead_socket));
    trials.push(test("a_table_that_does_not_exist_is_named", missing_table));
    trials.push(test("a_type_that_is_not_carried_stops_the_plan", uncarried_type));
    trials.push(test("a_target_without_privileges_is_named_and_nothing_is_published", no_privileges));
}

async fn typo() -> Result<()> {
    let stage = Stage::new().await?;
    let path = PipelineSetup::of(&["region"]).write(&stage.world, "pipeline")?;
    let text = std::fs::read_to_string(&path)?.replace("warehouse:", "warehous:");
    stage.world.users.loader.file(&path, 0o600, text)?;
    let ended = loader(&stage, &["run", &path.display().to_string()]).await?;
    expect(&ended, 78, &["warehous", "warehouse", "line 7, column 3"])?;
    short(&ended)?;
    let config = ordinary().write(&stage.world)?;
    let text = std::fs::read_to_string(&config)?.replace("grants:", "grant:");
    stage.world.users.broker.file(&config, 0o600, text)?;
    let broker = stage.world.spawn_broker(&["run", "--config", &config.display().to_string()])?;
    let ended = broker.wait(PATIENCE).await?;
    expect(&ended, 78, &["grant", "grants", "broker.yaml:8:1"])?;
    short(&ended)?;
    stage.end(None).await
}

async fn missing_file() -> Result<()> {
    let stage = Stage::new().await?;
    let ended = loader(&stage, &["run", "/no/such/pipeline.yaml"]).await?;
    expect(&ended, 66, &["/no/such/pipeline.yaml"])?;
    short(&ended)?;
    stage.end(None).await
}

async fn dead_socket() -> Result<()> {
    let stage = Stage::new().await?;
    let socket = PathBuf::from("/no/such/broker.sock");
    let setup = PipelineSetup { socket: Some(socket), ..PipelineSetup::of(&["region"]) };
    let ended = stage.loader("run", &setup).await?;
    expect(&ended, 69, &["/no/such/broker.sock", "broker run"])?;
    short(&ended)?;
    stage.end(None).await
}

async fn missing_table() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&tpch::tables(0.0001)[..1]).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("run", &PipelineSetup::of(&["regoin"])).await?;
    expect(&ended, 66, &["dbo.regoin"])?;
    short(&ended)?;
    stage.end(Some(broker)).await
}

async fn uncarried_type() -> Result<()> {
    let stage = Stage::new().await?;
    let mut session = keyferry_sql::Session::new(&stage.world.source, keyferry_sql::Identity::default());
    for outcome in session.execute("CREATE TABLE dbo.odd (id int NOT NULL PRIMARY KEY, doc xml NULL)").await {
        outcome.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("plan", &PipelineSetup::of(&["odd"])).await?;
    expect(&ended, 65, &["dbo.odd", "doc", "xml", "exclude"])?;
    short(&ended)?;
    stage.end(Some(broker)).await
}

async fn no_privileges() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&[every_type::table()]).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage
        .loader("run", &PipelineSetup { role: "READER".to_owned(), ..PipelineSetup::of(&["every_type"]) })
        .await?;
    expect(&ended, 77, &["READER", "GRANT"])?;
    short(&ended)?;
    let tables = stage
        .ask("SELECT COUNT(*) FROM RAW_ZONE.INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'EVERY_TYPE'")
        .await?;
    ensure!(tables[0][0] == "0", "something was made: {tables:?}");
    stage.end(Some(broker)).await
}

async fn loader(stage: &Stage, arguments: &[&str]) -> Result<Ended> {
    stage.world.spawn_loader("input", arguments, &[])?.wait(PATIENCE).await
}

/// A tired reader sees the message at once: it is among a few lines.
fn short(ended: &Ended) -> Result<()> {
    let lines = ended.stderr.lines().count();
    ensure!(lines <= 12, "{lines} lines for one mistake:\n{}", ended.stderr);
    Ok(())
}
