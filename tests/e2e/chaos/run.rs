//! One arena: a world, a broker, and one run after another in it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use keyferry_e2e::{
    process::{Ended, Process, tail},
    world::PipelineSetup,
};
use nix::sys::signal::Signal;

use super::{
    cases::{At, Case},
    check, table,
    tally::Outcome,
};
use crate::harness::{PATIENCE, Stage, ordinary};

/// How long a zombie sleeps at most: whoever waits for its lock must not wait longer.
const ZOMBIE_SLEEP: Duration = Duration::from_secs(4);
/// How often a loader may say "try again later" after the last kill.
const LAST_TRIES: u32 = 3;

pub(super) struct Arena {
    pub(super) stage: Stage,
    broker: Option<Process>,
    /// How long an undisturbed run takes here.
    usual: Duration,
    pub(super) setup: PipelineSetup,
    loaders: u64,
}

impl Arena {
    /// Opens the broker and makes one undisturbed run, which must be exact.
    pub(super) async fn open(stage: Stage) -> Result<Self> {
        let broker = Some(stage.world.start_broker(&ordinary()).await?);
        let setup = PipelineSetup { limits: table::limits(), ..PipelineSetup::of(&["chaos"]) };
        let mut arena = Self { stage, broker, usual: Duration::ZERO, setup, loaders: 0 };
        let seed = fastrand::u64(..);
        check::prepare(&arena.stage, seed).await?;
        let started = Instant::now();
        let ended = arena.start("")?.wait(PATIENCE).await?;
        ensure!(
            ended.code() == Some(0),
            "the undisturbed run ended with {:?}:\n{}",
            ended.status,
            ended.output()
        );
        arena.usual = started.elapsed();
        check::exact(&arena.stage, seed).await?.ensure_exact()?;
        Ok(arena)
    }

    pub(super) async fn close(self) -> Result<()> {
        self.stage.end(self.broker).await
    }

    /// One run: a misfortune, then again until it says success, then the count.
    pub(super) async fn run(&mut self, number: usize, case: &Case, seed: u64) -> Result<Outcome> {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        check::prepare(&self.stage, seed).await?;
        let mut outcome = Outcome::default();
        match case {
            Case::Loader(at, again) => {
                self.killed_at(at, &mut outcome).await?;
                ensure!(outcome.fired.len() == 1, "the point {at} never fired");
                self.check_between(seed).await?;
                if let Some(again) = again {
                    self.killed_at(again, &mut outcome).await?;
                }
            }
            Case::Broker(at) => {
                let loader = self.stopped_at(at).await?;
                self.kill_broker().await?;
                loader.signal(Signal::SIGCONT)?;
                outcome.broker_kills += 1;
                outcome.stopped.push(at.point);
                self.judge(&loader.wait(PATIENCE).await?, seed).await?;
            }
            Case::Zombie(at) => {
                self.zombie(at, seed).await?;
                outcome.stopped.push(at.point);
                outcome.zombies += 1;
            }
            Case::LoaderSometime(part) => {
                let loader = self.start("")?;
                tokio::time::sleep(self.usual.mul_f64(*part)).await;
                self.kill_loader(loader, &mut outcome).await?;
            }
            Case::BrokerSometime(part) => {
                let loader = self.start("")?;
                tokio::time::sleep(self.usual.mul_f64(*part)).await;
                self.kill_broker().await?;
                outcome.broker_kills += 1;
                outcome.random += 1;
                self.judge(&loader.wait(PATIENCE).await?, seed).await?;
            }
            Case::BothSometime(part) => {
                let loader = self.start("")?;
                tokio::time::sleep(self.usual.mul_f64(*part)).await;
                self.kill_loader(loader, &mut outcome).await?;
                self.kill_broker().await?;
                outcome.broker_kills += 1;
            }
        }
        self.check_between(seed).await?;
        self.finish(seed, &mut outcome).await?;
        Ok(outcome)
    }

    /// One loader sleeps at a point while another does the work, then goes on as if nothing had happened.
    async fn zombie(&mut self, at: &At, seed: u64) -> Result<()> {
        let zombie = self.stopped_at(at).await?;
        let mut successor = self.start("")?;
        let deadline = Instant::now() + ZOMBIE_SLEEP;
        while successor.runs() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        zombie.signal(Signal::SIGCONT)?;
        self.judge(&successor.wait(PATIENCE).await?, seed).await?;
        self.judge(&zombie.wait(PATIENCE).await?, seed).await
    }

    /// The last run, undisturbed: it must end well, and what it left must be exact.
    async fn finish(&mut self, seed: u64, outcome: &mut Outcome) -> Result<()> {
        for attempt in 1.. {
            let ended = self.start("")?.wait(PATIENCE).await?;
            if ended.code() == Some(0) {
                break;
            }
            let said = tail(&ended.output());
            ensure!(
                ended.code() == Some(75) && attempt < LAST_TRIES,
                "undisturbed run {attempt} ended with {:?}:\n{said}",
                ended.status
            );
            outcome.asked_to_come_again += 1;
        }
        let found = check::exact(&self.stage, seed).await?;
        outcome.lost += found.lost;
        outcome.doubled += found.doubled;
        outcome.rows += found.rows;
        found.ensure_exact()?;
        check::ledger(&self.stage).await
    }

    async fn killed_at(&mut self, at: &At, outcome: &mut Outcome) -> Result<()> {
        let ended = self.start(&at.to_string())?.wait(PATIENCE).await?;
        match ended.code() {
            None => outcome.fired.push(at.point),
            Some(0) => {}
            Some(code) => bail!("instead of dying at {at} it ended with {code}:\n{}", tail(&ended.output())),
        }
        Ok(())
    }

    async fn stopped_at(&mut self, at: &At) -> Result<Process> {
        let mut loader = self.start(&format!("{at}:stop"))?;
        let deadline = Instant::now() + PATIENCE;
        while !stopped(&loader) {
            ensure!(loader.runs(), "the point {at} never fired: {}", tail(&loader.stderr()));
            ensure!(Instant::now() < deadline, "the point {at} was not reached in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(loader)
    }

    fn start(&mut self, point: &str) -> Result<Process> {
        let path = self.setup.write(&self.stage.world, "pipeline")?;
        self.loaders += 1;
        let name = format!("loader-{}", self.loaders % 8);
        let environment = [("KEYFERRY_FAILPOINT", point.to_owned())];
        self.stage.world.spawn_loader(&name, &["run", &path.display().to_string()], &environment)
    }

    async fn kill_loader(&mut self, loader: Process, outcome: &mut Outcome) -> Result<()> {
        // It may have ended a moment ago.
        drop(loader.signal(Signal::SIGKILL));
        let ended = loader.wait(PATIENCE).await?;
        outcome.random += 1;
        outcome.loader_kills += u64::from(ended.code().is_none());
        Ok(())
    }

    async fn kill_broker(&mut self) -> Result<()> {
        let broker = self.broker.take().context("no broker runs")?;
        broker.signal(Signal::SIGKILL)?;
        let ended = broker.wait(PATIENCE).await?;
        ensure!(
            ended.code().is_none(),
            "the broker had ended by itself: {:?}\n{}",
            ended.status,
            ended.stderr
        );
        self.broker = Some(self.stage.world.start_broker(&ordinary()).await?);
        Ok(())
    }

    /// Success must be true, and everything else must be a word for somebody who reads exit codes.
    async fn judge(&self, ended: &Ended, seed: u64) -> Result<()> {
        match ended.code() {
            Some(0) => check::exact(&self.stage, seed).await?.ensure_exact().context("a false success"),
            Some(69 | 75) => Ok(()),
            code => bail!("ended with {code:?}:\n{}", tail(&ended.output())),
        }
    }

    /// Before the end the target holds yesterday's rows or the new ones, whole: nothing between.
    async fn check_between(&self, seed: u64) -> Result<()> {
        check::untorn(&self.stage, seed).await
    }
}

/// Whether the kernel has stopped the process (state T in its status).
fn stopped(process: &Process) -> bool {
    let path = format!("/proc/{}/stat", process.id());
    let Ok(stat) = std::fs::read_to_string(&path) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state == Some("T")
}
