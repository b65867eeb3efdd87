//! One table, four pods: four loaders, each with a broker of its own, and one pod that is killed half-way.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::Process,
    sample::tpch,
    world::{Options, PipelineSetup, World},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Stage, expect, ordinary, root_test};

const SHARDS: usize = 4;
/// The pod that is killed.
const KILLED: usize = 2;
const LEDGER: &str = "RAW_ZONE.SALES.KEYFERRY_LEDGER";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials
        .push(root_test("four_shards_with_a_broker_each_one_pod_killed_are_exact_and_published_once", four));
}

/// A broker and a loader that share nothing with the other pods but Vault, SQL Server and Snowflake.
struct Pod {
    broker: Process,
    loader: Process,
}

impl Pod {
    async fn start(world: &World, index: usize, life: usize) -> Result<Self> {
        let socket = socket(world, index)?;
        let folder = world.dir.join("broker");
        let private = world.users.broker.folder(&world.private().join(format!("pod-{index}")), 0o700)?;
        ordinary().write(world)?;
        let yaml = ordinary()
            .yaml(world)
            .replace(&world.socket().display().to_string(), &socket.display().to_string())
            .replace(
                &format!("tmpfs: {}", world.private().display()),
                &format!("tmpfs: {}", private.display()),
            )
            .replace("path: audit.log", &format!("path: audit-{index}.log"));
        let config =
            world.users.broker.file(&folder.join(format!("broker-{index}-{life}.yaml")), 0o400, yaml)?;
        let mut broker = world.spawn_broker_as(
            &format!("broker-{index}-{life}"),
            &["run", "--config", &config.display().to_string()],
        )?;
        for _ in 0..600 {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                break;
            }
            ensure!(broker.runs(), "broker {index} did not start:\n{}", broker.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let setup = PipelineSetup {
            socket: Some(socket),
            limits: "connections: 2, committers: 1, chunk_rows: 250".to_owned(),
            patience: 60,
            ..PipelineSetup::of(&["lineitem"])
        };
        let pipeline = setup.write(world, &format!("pipeline-{index}-{life}"))?.display().to_string();
        let shard = format!("{index}/{SHARDS}");
        let loader = world.spawn_loader(
            &format!("loader-{index}-{life}"),
            &["run", &pipeline, "--shard", &shard],
            &[],
        )?;
        Ok(Self { broker, loader })
    }

    async fn end(self, index: usize) -> Result<()> {
        let ended = self.loader.wait(PATIENCE).await?;
        expect(&ended, 0, &[]).with_context(|| format!("the loader of shard {index}"))?;
        let ended = self.broker.stop(Duration::from_secs(20)).await?;
        ensure!(ended.status.success(), "broker {index} ended with {}", ended.status);
        Ok(())
    }
}

fn socket(world: &World, index: usize) -> Result<PathBuf> {
    let folder = world.users.broker.folder(&world.dir.join(format!("socket-{index}")), 0o750)?;
    Ok(folder.join("broker.sock"))
}

async fn four() -> Result<()> {
    let stage =
        Stage::with(&Options { idle_transaction: Duration::from_secs(2), ..Options::default() }).await?;
    let world = &stage.world;
    let tables = vec![tpch::tables(0.002).pop().context("lineitem")?];
    world.fill(&tables).await?;
    let mut pods = Vec::new();
    for index in 0..SHARDS {
        pods.push(Pod::start(world, index, 1).await?);
    }

    // The pod dies with work behind it and before it: kill -9 for both of its processes.
    let own =
        format!("SELECT COUNT(*) FROM {LEDGER} WHERE CHUNK > 0 AND OWNER LIKE 'shard {KILLED}/{SHARDS} #%'");
    for _ in 0..600 {
        let counted = stage.ask(&own).await.ok().and_then(|rows| rows.first()?.first()?.parse::<u32>().ok());
        if counted.is_some_and(|count| count >= 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let killed = pods.remove(KILLED);
    killed.loader.signal(Signal::SIGKILL)?;
    killed.broker.signal(Signal::SIGKILL)?;
    let ended = killed.loader.wait(PATIENCE).await?;
    ensure!(ended.code().is_none(), "the loader had ended before it was killed: {}", ended.output());
    drop(killed.broker.wait(PATIENCE).await?);
    // The Job starts another pod for the same index.
    let again = Pod::start(world, KILLED, 2).await?;

    for (index, pod) in pods.into_iter().enumerate() {
        pod.end(index).await?;
    }
    again.end(KILLED).await?;
    stage.expect_exact(&tables).await?;
    let shards = stage
        .ask(&format!("SELECT DISTINCT SPLIT_PART(OWNER, ' #', 1) FROM {LEDGER} WHERE CHUNK > 0"))
        .await?;
    ensure!(shards.len() == SHARDS, "not every shard loaded something: {shards:?}");
    let runs = stage.ask(&format!("SELECT DISTINCT RUN_ID FROM {LEDGER} WHERE CHUNK > 0")).await?;
    ensure!(runs.len() == 1, "they did not share one run: {runs:?}");
    let states = stage.ask(&format!("SELECT DISTINCT STATE FROM {LEDGER} WHERE CHUNK > 0")).await?;
    ensure!(states == [["\"published\""]], "the chunks are {states:?}");
    stage.end(None).await
}
