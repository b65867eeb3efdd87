//! Corruption on purpose: each kind is put in once, found by the level that sees it, and named by table, chunk and key
//! range; the target is left as it was.

use anyhow::{Result, ensure};
use keyferry_e2e::{
    process::Ended,
    sample::{every_type, text, tpch},
    world::PipelineSetup,
};
use libtest_mimic::Trial;

use crate::harness::{PATIENCE, Stage, expect, ordinary, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("at_level_hashes_every_type_and_script_agrees_on_both_sides", hashes_agree));
    trials.push(test("a_run_begun_at_sums_is_not_called_verified_at_hashes", lower_level));
}

/// Runs the loader at a level.
async fn at_level(
    stage: &Stage,
    verb: &str,
    setup: &PipelineSetup,
    level: &str,
    environment: &[(&str, String)],
) -> Result<Ended> {
    let path = setup.write(&stage.world, "pipeline")?.display().to_string();
    let name = format!("loader-{}", uuid::Uuid::new_v4().simple());
    let loader = stage.world.spawn_loader(&name, &[verb, &path, "--level", level], environment)?;
    loader.wait(PATIENCE).await
}

async fn hashes_agree() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![every_type::table(), text::table()];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = PipelineSetup::of(&tables.iter().map(|table| table.name).collect::<Vec<_>>());
    let plan = at_level(&stage, "plan", &setup, "hashes", &[]).await?;
    expect(
        &plan,
        0,
        &["sum of SHA-256 digests", "smallest and the largest value are compared: c_real, c_float"],
    )?;
    let plan = at_level(&stage, "plan", &setup, "sums", &[]).await?;
    expect(&plan, 0, &["only the length of values is compared", "c_varchar", "c_uniqueidentifier"])?;
    expect(&at_level(&stage, "run", &setup, "hashes", &[]).await?, 0, &["hashes"])?;
    stage.expect_exact(&tables).await?;
    expect(&at_level(&stage, "verify", &setup, "hashes", &[]).await?, 0, &["agree"])?;
    stage.end(Some(broker)).await
}

async fn lower_level() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![tpch::tables(0.002).pop().expect("lineitem")];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = PipelineSetup {
        limits: "connections: 2, committers: 2, chunk_rows: 4000".to_owned(),
        ..PipelineSetup::of(&["lineitem"])
    };
    let killed =
        at_level(&stage, "run", &setup, "sums", &[("KEYFERRY_FAILPOINT", "before_publish".to_owned())])
            .await?;
    ensure!(killed.code().is_none(), "the point never fired:\n{}", killed.output());
    let refused = at_level(&stage, "run", &setup, "hashes", &[]).await?;
    expect(&refused, 78, &["dbo.lineitem", "lower level", "--level sums", "nothing was changed"])?;
    expect(&at_level(&stage, "run", &setup, "sums", &[]).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}
