//! The broker itself: killed, stopped, replaced.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::world::{BrokerSetup, Options};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;

use super::{Scene, fault, until};
use crate::harness::{PATIENCE, Stage, expect, ordinary};

pub(super) fn trials(trials: &mut Vec<Trial>) {
    fault(
        trials,
        "broker killed (-9) and restarted, plain secret_id",
        "a_killed_broker_that_comes_back_does_not_stop_a_run",
        killed,
    );
    fault(
        trials,
        "broker killed (-9), wrapped secret_id",
        "a_killed_broker_with_a_wrapped_secret_id_says_what_the_operator_must_do",
        killed_wrapped,
    );
    fault(
        trials,
        "broker stopped (SIGTERM), run ends in its drain",
        "a_stopping_broker_lets_a_run_end",
        drained,
    );
    fault(
        trials,
        "broker stopped (SIGTERM) and replaced, socket recreated",
        "a_replaced_broker_is_found_at_its_new_socket",
        replaced,
    );
    if keyferry_e2e::process::User::current().uid == 0 {
        fault(
            trials,
            "broker's socket taken by another uid in mid-run",
            "a_socket_taken_by_another_uid_in_mid_run_is_not_spoken_to",
            usurped,
        );
    }
}

/// The transactions of a dead broker's sessions end soon.
fn options() -> Options {
    Options { idle_transaction: Duration::from_secs(2), ..Options::default() }
}

async fn killed() -> Result<String> {
    let mut scene = Scene::with(&options()).await?;
    scene.setup.patience = 30;
    let loader = scene.start_slowly(Duration::from_millis(400)).await?;
    for _ in 0..2 {
        kill(&mut scene).await?;
        scene.broker = Some(scene.stage.world.start_broker(&ordinary()).await?);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.completed(&ended).await?;
    ensure!(super::tries(&ended) > 0, "the run did not notice");
    scene.end().await?;
    Ok(happened)
}

async fn kill(scene: &mut Scene) -> Result<()> {
    let broker = scene.broker.take().context("a broker")?;
    broker.signal(Signal::SIGKILL)?;
    let ended = broker.wait(PATIENCE).await?;
    ensure!(ended.code().is_none(), "the broker was not killed: {}", ended.status);
    Ok(())
}

async fn killed_wrapped() -> Result<String> {
    let stage = Stage::with(&options()).await?;
    let wrapped = |stage: &Stage| -> Result<BrokerSetup> {
        let token = stage.world.vault.wrap_secret_id("loader", Duration::from_secs(300))?;
        Ok(BrokerSetup { secret_id: Some(token), wrapped: true, ..ordinary() })
    };
    let setup = wrapped(&stage)?;
    let mut scene = Scene::on(stage, &setup).await?;
    scene.load_all_but_the_last_chunk().await?;
    let loader = scene.start_slowly(Duration::from_millis(400)).await?;
    kill(&mut scene).await?;
    let config = setup.write(&scene.stage.world)?;
    let restarted = scene.stage.world.spawn_broker(&["run", "--config", &config.display().to_string()])?;
    let refused = restarted.wait(PATIENCE).await?;
    expect(
        &refused,
        77,
        &["wrapping token", "this broker itself unwrapped it", "deliver a new wrapped secret_id"],
    )?;
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.stopped(&ended, 69, &["cannot reach the broker", "is it running"]).await?;
    // What the operator was told to do.
    scene.broker = Some(scene.stage.world.start_broker(&wrapped(&scene.stage)?).await?);
    scene.runs_again().await?;
    scene.end().await?;
    Ok(format!("{happened} after a new wrapped secret_id, as the broker had said"))
}

async fn drained() -> Result<String> {
    let mut scene = Scene::new().await?;
    let loader = scene.start_slowly(Duration::from_millis(400)).await?;
    let broker = scene.broker.take().context("a broker")?;
    broker.signal(Signal::SIGTERM)?;
    let (ended, stopped) = tokio::join!(loader.wait(PATIENCE), broker.wait(PATIENCE));
    ensure!(stopped?.status.success(), "the broker did not stop in order");
    let happened = scene.completed(&ended?).await?;
    scene.end().await?;
    Ok(happened)
}

async fn replaced() -> Result<String> {
    let stage = Stage::with(&options()).await?;
    let hasty = BrokerSetup { extra: "limits: { drain: 0s }\n".to_owned(), ..ordinary() };
    let mut scene = Scene::on(stage, &hasty).await?;
    scene.setup.patience = 30;
    let loader = scene.start_slowly(Duration::from_millis(400)).await?;
    let socket = scene.stage.world.socket();
    let inode = std::fs::metadata(&socket)?.ino();
    let broker = scene.broker.take().context("a broker")?;
    let stopped = broker.stop(PATIENCE).await?;
    ensure!(stopped.status.success(), "the broker did not stop in order: {}", stopped.stderr);
    // The old inode's number may be given out again; the old file must be gone.
    ensure!(!socket.exists(), "the socket {inode} outlives its broker");
    scene.broker = Some(scene.stage.world.start_broker(&ordinary()).await?);
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.completed(&ended).await?;
    ensure!(super::tries(&ended) > 0, "the run did not notice");
    scene.end().await?;
    Ok(happened)
}

/// Root serves the socket instead of the broker: the uid is checked on every connection, not only on the first.
async fn usurped() -> Result<String> {
    let stage = Stage::with(&options()).await?;
    let hasty = BrokerSetup { extra: "limits: { drain: 0s }\n".to_owned(), ..ordinary() };
    let mut scene = Scene::on(stage, &hasty).await?;
    scene.load_all_but_the_last_chunk().await?;
    let loader = scene.start_slowly(Duration::from_millis(400)).await?;
    scene.broker.take().context("a broker")?.stop(PATIENCE).await?;
    let socket = scene.stage.world.socket();
    let impostor = tokio::net::UnixListener::bind(&socket)?;
    scene.stage.world.users.loader.own(&socket, 0o666)?;
    let (calls, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (heard, read) = (Arc::clone(&calls), Arc::clone(&bytes));
    let listening = tokio::spawn(async move {
        while let Ok((mut stream, _)) = impostor.accept().await {
            heard.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 1024];
            if let Ok(length) = stream.read(&mut buffer).await {
                read.fetch_add(length as u64, Ordering::SeqCst);
            }
        }
    });
    let ended = loader.wait(PATIENCE).await?;
    until("a call of the impostor", || calls.load(Ordering::SeqCst) > 0).await?;
    listening.abort();
    ensure!(bytes.load(Ordering::SeqCst) == 0, "something was sent to the impostor");
    let happened = scene.stopped(&ended, 77, &["served by uid 0", "nothing was sent"]).await?;
    std::fs::remove_file(&socket)?;
    scene.broker = Some(scene.stage.world.start_broker(&ordinary()).await?);
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}
