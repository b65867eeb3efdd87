//! A world with one table of some dozen chunks, loaders that stop at a crash point, and what they left.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Ended, Process, tail},
    sample::{Table, tpch},
    world::{Options, PipelineSetup},
};
use keyferry_sql::{Identity, Session};
use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Stage, ordinary};

const LEDGER: &str = "RAW_ZONE.SALES.KEYFERRY_LEDGER";

pub(super) struct Bench {
    pub(super) stage: Stage,
    pub(super) broker: Option<Process>,
    pub(super) setup: PipelineSetup,
    tables: Vec<Table>,
}

impl Bench {
    pub(super) async fn open(options: &Options) -> Result<Self> {
        let stage = Stage::with(options).await?;
        let tables = vec![tpch::tables(0.002).pop().context("lineitem")?];
        stage.world.fill(&tables).await?;
        let broker = Some(stage.world.start_broker(&ordinary()).await?);
        let setup = PipelineSetup {
            limits: "connections: 2, committers: 2, chunk_rows: 1000".to_owned(),
            ..PipelineSetup::of(&["lineitem"])
        };
        Ok(Self { stage, broker, setup, tables })
    }

    /// Ordinary, but an abandoned transaction is rolled back soon.
    pub(super) async fn impatient() -> Result<Self> {
        Self::open(&Options { idle_transaction: Duration::from_millis(1500), ..Options::default() }).await
    }

    pub(super) async fn close(self) -> Result<()> {
        self.stage.end(self.broker).await
    }

    /// Starts `loader run` with these arguments and variables.
    pub(super) fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Process> {
        // A file for each: it is not written while another loader reads it.
        let name = format!("loader-{}", uuid::Uuid::new_v4().simple());
        let path = self.setup.write(&self.stage.world, &name)?.display().to_string();
        let environment: Vec<(&str, String)> =
            environment.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let arguments = [&["run", path.as_str()], arguments].concat();
        self.stage.world.spawn_loader(&name, &arguments, &environment)
    }

    /// Starts a loader and returns when it has stopped itself at a crash point.
    pub(super) async fn stopped_at(&self, arguments: &[&str], point: &str) -> Result<Process> {
        let mut loader = self.start(arguments, &[("KEYFERRY_FAILPOINT", &format!("{point}:1:stop"))])?;
        let deadline = Instant::now() + PATIENCE;
        while !is_stopped(&loader) {
            ensure!(loader.runs(), "the point {point} never fired: {}", tail(&loader.stderr()));
            ensure!(Instant::now() < deadline, "the point {point} was not reached in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(loader)
    }

    /// Runs a loader that dies at a crash point.
    pub(super) async fn killed_at(&self, arguments: &[&str], point: &str) -> Result<()> {
        let ended = self.start(arguments, &[("KEYFERRY_FAILPOINT", point)])?.wait(PATIENCE).await?;
        ensure!(ended.code().is_none(), "the point {point} never fired: {}", tail(&ended.output()));
        Ok(())
    }

    /// Runs a loader to its end.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.start(arguments, &[])?.wait(PATIENCE).await
    }

    /// Waits until a loader has said something.
    pub(super) async fn said(&self, loader: &mut Process, words: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !loader.stderr().contains(words) {
            ensure!(loader.runs(), "it ended without saying {words:?}: {}", tail(&loader.stderr()));
            ensure!(Instant::now() < deadline, "it never said {words:?}: {}", tail(&loader.stderr()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// A session at Snowflake that may do everything and goes over no wire.
    pub(super) fn admin(&self) -> Session {
        Session::new(&self.stage.world.target, Identity::default())
    }

    /// Runs a statement as the administrator.
    pub(super) async fn change(&self, sql: &str) -> Result<()> {
        for outcome in self.admin().execute(sql).await {
            outcome.map_err(|error| anyhow::anyhow!("{sql}: {error}"))?;
        }
        Ok(())
    }

    /// Takes what an earlier run published away, so that the next one cannot live on it.
    pub(super) async fn forget_target(&self) -> Result<()> {
        self.change("DROP TABLE IF EXISTS RAW_ZONE.SALES.LINEITEM").await
    }

    /// The owners of loaded chunks.
    pub(super) async fn owners(&self) -> Result<Vec<String>> {
        let sql = format!("SELECT DISTINCT OWNER FROM {LEDGER} WHERE CHUNK > 0 ORDER BY OWNER");
        Ok(self.stage.ask(&sql).await?.into_iter().flatten().collect())
    }

    /// Waits until Snowflake has rolled back a transaction that nobody cared for any more.
    pub(super) async fn abandoned_transaction(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.stage.world.snowflake.stats.snapshot().transactions_reaped == 0 {
            ensure!(Instant::now() < deadline, "no transaction was abandoned");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends every lease, as time would.
    pub(super) async fn end_leases(&self) -> Result<()> {
        self.change(&format!("UPDATE {LEDGER} SET LEASE_UNTIL = '2001-01-01' WHERE STATE = 'claimed'")).await
    }

    /// Fails unless the target holds exactly the source's rows and the ledger agrees: each chunk once, published.
    pub(super) async fn expect_exact(&self) -> Result<()> {
        self.stage.expect_exact(&self.tables).await?;
        let rows = self.tables.iter().map(|table| table.rows.len()).sum::<usize>().to_string();
        let runs = self
            .stage
            .ask(&format!(
                "SELECT RUN_ID, COUNT(*), COUNT(DISTINCT CHUNK), SUM(ROW_COUNT), \
                 SUM(CASE WHEN STATE = 'published' THEN 1 ELSE 0 END) FROM {LEDGER} WHERE CHUNK > 0 GROUP BY RUN_ID"
            ))
            .await?;
        ensure!(!runs.is_empty(), "the ledger knows no run");
        for run in &runs {
            let (chunks, distinct, found, published) = (&run[1], &run[2], &run[3], &run[4]);
            ensure!(chunks == distinct && chunks == published, "the ledger of {run:?}");
            ensure!(*found == rows, "the ledger counts {found} rows instead of {rows}: {run:?}");
        }
        let locks = self.stage.ask(&format!("SELECT COUNT(*) FROM {LEDGER} WHERE CHUNK = -1")).await?;
        ensure!(locks == [["1"]], "lock rows: {locks:?}");
        let finishers =
            format!("SELECT RUN_ID FROM {LEDGER} WHERE CHUNK = -2 GROUP BY RUN_ID HAVING COUNT(*) <> 1");
        let finishers = self.stage.ask(&finishers).await?;
        ensure!(finishers.is_empty(), "runs that were finished by several: {finishers:?}");
        Ok(())
    }
}

/// Continues a stopped process and waits for its end.
pub(super) async fn woken(loader: Process) -> Result<Ended> {
    loader.signal(Signal::SIGCONT)?;
    loader.wait(PATIENCE).await
}

/// Whether the kernel has stopped the process (state T).
fn is_stopped(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next()) == Some("T")
}
