//! Where long-lived secrets lie while the programs run: as root, in memory, environment, arguments, open files and logs.
//!
//! Each scan has its control: the same scan at the same moment finds the same secrets in a process that only has them in
//! its environment.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use keyferry_e2e::{
    process::Process,
    proof::{
        needles::Needle,
        scan::{Report, Scanner},
    },
    sample::tpch,
    world::{PipelineSetup, World},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, root_test},
    live::{configure, serve},
    rotation::{OFTEN, fields, put, register},
};

/// Where a loader stops in mid-run until it is told to go on.
const IN_MID_RUN: &str = "after_copy:1:stop";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(root_test("a_loader_in_mid_run_holds_no_long_lived_secret_anywhere", loader));
    trials.push(root_test(
        "after_a_rotation_nothing_of_the_old_client_secret_is_left_in_the_brokers_memory",
        forgotten,
    ));
}

/// Searches a process, and a decoy in which every one of the secrets must be found.
fn search(world: &World, needles: &[Needle], process: &Process) -> Result<Report> {
    let texts: Vec<String> = needles.iter().map(|needle| hex::encode(&needle.bytes)).collect();
    let scanner = Scanner::new(needles.to_vec())?;
    let report = scanner.process(process.id(), &process.logs())?;
    let decoy = Process::start(
        "decoy",
        Path::new("/bin/sleep"),
        &["60"],
        &[("DECOY", texts.join(" "))],
        world.users.loader,
        &world.dir.join("logs"),
    )?;
    let control = scanner.process(decoy.id(), &[])?;
    decoy.signal(Signal::SIGKILL)?;
    let unseen = needles.iter().find(|needle| !control.hits.iter().any(|hit| hit.secret == needle.name));
    ensure!(unseen.is_none(), "the control does not find {}", unseen.map_or("", |needle| &needle.name));
    ensure!(
        control.hits.len() >= needles.len(),
        "the control finds {} of {}",
        control.hits.len(),
        needles.len()
    );
    ensure!(report.memory_bytes > 0, "nothing was searched");
    Ok(report)
}

fn none(report: &Report) -> Result<()> {
    let places: Vec<String> = report.hits.iter().map(|hit| format!("{hit:?}")).collect();
    ensure!(places.is_empty(), "{} places hold one: {places:#?}", places.len());
    Ok(())
}

async fn loader() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let tables: Vec<_> = tpch::tables(0.001).into_iter().filter(|table| table.name == "orders").collect();
    world.fill(&tables).await?;
    let broker = world.start_broker(&ordinary()).await?;
    let pipeline = PipelineSetup::of(&["orders"]).write(world, "pipeline")?.display().to_string();
    let loader = world.spawn_loader(
        "loader",
        &["run", &pipeline],
        &[("KEYFERRY_FAILPOINT", IN_MID_RUN.to_owned())],
    )?;
    let deadline = std::time::Instant::now() + PATIENCE;
    let status = || std::fs::read_to_string(format!("/proc/{}/status", loader.id())).unwrap_or_default();
    while !status().contains("State:\tT") {
        ensure!(std::time::Instant::now() < deadline, "it never stopped; it said:\n{}", loader.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let needles = world.needles()?;
    for kind in ["secret_id", "Entra client secret", "Vault token", "keytab key", "Snowflake master token"] {
        ensure!(needles.iter().any(|needle| needle.name == kind), "no {kind} is searched for");
    }
    let report = search(world, &needles, &loader)?;
    none(&report)?;
    ensure!(report.unreadable.is_empty(), "not searched: {:?}", report.unreadable);
    expect(&loader.wait(PATIENCE).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}

/// Root sees all pages of the broker but the secret ones: after a rotation nothing of the old client secret lies anywhere,
/// nor of the secrets in use. What the Kerberos library keeps is its own.
async fn forgotten() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let broker = serve(world, &configure(world, &ordinary(), &[OFTEN])?).await?;
    let old = world.secrets.client_secret.clone();
    let next = "cs~the-second-secret-of-the-application";
    register(world, &[&old, next]);
    let mut newer = fields(world);
    newer["client_secret"] = json!(next);
    let version = put(world, &newer);
    broker
        .until_health("the new version is in use", |health| health["secret"]["version_in_use"] == version)
        .await?;
    let needle = |name: &str, text: &str| Needle { name: name.to_owned(), bytes: text.as_bytes().to_vec() };
    let mut needles = vec![
        needle("the old client secret", &old),
        needle("the client secret in use", next),
        needle("the secret_id", &world.secrets.secret_id),
        needle("the keytab as Vault holds it", &BASE64_STANDARD.encode(&world.secrets.keytab)),
    ];
    needles.extend(world.needles()?.into_iter().filter(|needle| needle.name == "Vault token"));
    // It reads Vault again every second, and for a moment an answer is on its way. What is kept would be there each time.
    let mut outcome = Ok(());
    for _ in 0..5 {
        outcome = none(&search(world, &needles, &broker.process)?).context("in the broker");
        if outcome.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    outcome?;
    stage.end(Some(broker.process)).await
}
