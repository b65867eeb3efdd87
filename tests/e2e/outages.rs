//! The fault table: every fault fires in a real run, which then completes exactly or stops with a true message.
//!
//! One trial is one fault and one row of the table that `tests/setup/test.sh` prints. Each asserts that its fault
//! fired (the stand-in's own counter); what the target holds is judged by the independent oracle.

mod broker;
mod identity;
mod snowflake;
mod source;
mod stage;
mod together;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Ended, Process},
    proof::oracle::Auditor,
    sample::{Table, tpch},
    world::{BrokerSetup, Options, PipelineSetup},
};
use keyferry_stand_in_snowflake::{Effect, Fault, FaultId, Trigger};
use libtest_mimic::Trial;

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, target, test},
    table,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    source::trials(trials);
    snowflake::trials(trials);
    stage::trials(trials);
    identity::trials(trials);
    broker::trials(trials);
    together::trials(trials);
}

/// A trial that leaves a row: the fault, what happened, the test.
fn fault<F, Fut>(trials: &mut Vec<Trial>, fault: &'static str, name: &'static str, body: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<String>>,
{
    table::promise("faults", name);
    let trial = test(name, move || async move {
        let happened = body().await?;
        table::row("faults", &[("fault", fault), ("what happened", &happened), ("test", name)]);
        Ok(())
    });
    trials.push(trial.with_kind("outage"));
}

/// What the answer of a chunk's own SELECT is recognised by.
pub(crate) const CHUNK_ROWS: &str = "[o_comment] FROM [dbo].[orders]";
const CHUNK: usize = 500;

/// A world with one table of six chunks, a broker and a pipeline.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    broker: Option<Process>,
    tables: Vec<Table>,
    pub(crate) setup: PipelineSetup,
}

fn orders() -> Table {
    let mut tables = tpch::tables(0.002);
    tables.retain(|table| table.name == "orders");
    tables.pop().expect("orders")
}

impl Scene {
    async fn new() -> Result<Self> {
        Self::with(&Options::default()).await
    }

    pub(crate) async fn with(options: &Options) -> Result<Self> {
        let stage = Stage::with(options).await?;
        Self::on(stage, &ordinary()).await
    }

    /// The same with a broker of one's own choice.
    async fn on(stage: Stage, broker: &BrokerSetup) -> Result<Self> {
        let tables = vec![orders()];
        stage.world.fill(&tables).await?;
        let broker = Some(stage.world.start_broker(broker).await?);
        let setup = PipelineSetup {
            limits: format!("connections: 2, committers: 2, chunk_rows: {CHUNK}"),
            ..PipelineSetup::of(&["orders"])
        };
        Ok(Self { stage, broker, tables, setup })
    }

    /// A scene whose target holds what the source held before its last chunk came: what a failed run must not touch.
    async fn loaded() -> Result<Self> {
        let scene = Self::new().await?;
        scene.load_all_but_the_last_chunk().await?;
        Ok(scene)
    }

    async fn load_all_but_the_last_chunk(&self) -> Result<()> {
        let last = &self.tables[0].rows[before().rows.len()..];
        let (key, world) = (before().rows.len(), &self.stage.world);
        let first_of_last = last[0][0].canonical();
        world.alter_source(&format!("DELETE FROM dbo.orders WHERE o_orderkey >= {first_of_last}")).await?;
        expect(&self.run().await?, 0, &[])?;
        self.untouched().await.with_context(|| format!("after loading the first {key} rows"))?;
        world.append(&self.tables[0], last).await
    }

    async fn run(&self) -> Result<Ended> {
        self.stage.loader("run", &self.setup).await
    }

    /// Starts a run and leaves it running.
    pub(crate) fn start(&self) -> Result<Process> {
        let path = self.setup.write(&self.stage.world, "pipeline")?;
        let name = format!("loader-{}", uuid::Uuid::new_v4().simple());
        self.stage.world.spawn_loader(&name, &["run", &path.display().to_string()], &[])
    }

    /// Starts a run whose commits are slow, and returns when its first chunk is loaded.
    async fn start_slowly(&self, pause: Duration) -> Result<Process> {
        let slow = Fault { on: copies(), effect: Effect::Delay(pause), skip: 1, times: 1000 };
        self.stage.world.snowflake.faults.arm(slow);
        let loader = self.start()?;
        let stats = &self.stage.world.snowflake.stats;
        let loaded = stats.snapshot().files_loaded;
        until("the first chunk's COPY", || stats.snapshot().files_loaded > loaded).await?;
        Ok(loader)
    }

    /// Fails unless this run and its target are complete and exact, with one ledger row for each chunk.
    pub(crate) async fn completed(&self, ended: &Ended) -> Result<String> {
        expect(ended, 0, &[])?;
        self.stage.expect_exact(&self.tables).await?;
        let doubles = self
            .stage
            .ask("SELECT RUN_ID, CHUNK FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK >= 0 GROUP BY RUN_ID, CHUNK HAVING COUNT(*) > 1")
            .await?;
        ensure!(doubles.is_empty(), "chunks with several ledger rows: {doubles:?}");
        Ok(format!("completed exactly; {} tried again", tries(ended)))
    }

    /// Fails unless this run stopped with `code` and these words, and its target is as it was. Tells the first line.
    async fn stopped(&self, ended: &Ended, code: i32, words: &[&str]) -> Result<String> {
        expect(ended, code, words)?;
        self.untouched().await?;
        Ok(format!("stopped with {code}, target untouched; the next run was exact"))
    }

    /// Fails unless the target holds what it held before.
    async fn untouched(&self) -> Result<()> {
        let mut auditor = Auditor::login(&self.stage.world.auditor()).await?;
        let found = auditor.compare(&before(), &target("orders")).await?;
        ensure!(found.equal(), "the target was touched: {found:#?}");
        Ok(())
    }

    /// Runs again without the fault.
    async fn runs_again(&self) -> Result<()> {
        let again = self.run().await?;
        self.completed(&again).await.map(drop).context("the run after the fault")
    }

    fn arm(&self, on: Trigger, effect: Effect, skip: u32, times: u32) -> FaultId {
        self.stage.world.snowflake.faults.arm(Fault { on, effect, skip, times })
    }

    /// Fails unless a fault of Snowflake's fired so often.
    fn fired(&self, id: FaultId, at_least: u64) -> Result<()> {
        let fired = self.stage.world.snowflake.faults.fired(id);
        ensure!(fired >= at_least, "the fault fired {fired} times, not {at_least}");
        Ok(())
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.stage.end(self.broker).await
    }
}

/// The table as it was before its last chunk came.
fn before() -> Table {
    let mut table = orders();
    let rows = table.rows.len() - CHUNK;
    table.rows.truncate(rows);
    table
}

fn copies() -> Trigger {
    Trigger::Statement("COPY INTO".to_owned())
}

/// How often a run says that it tries something again.
fn tries(ended: &Ended) -> usize {
    ended.stderr.lines().filter(|line| line.contains("again")).count()
}

/// Waits for something that a running program brings about.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !happened() {
        ensure!(std::time::Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
