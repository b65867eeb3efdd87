//! What every test needs: a trial on a runtime of its own, and a world with broker and loader.

use std::{future::Future, io::Write as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Ended, Process, User},
    proof::oracle::Auditor,
    sample::Table,
    world::{BrokerSetup, Options, PipelineSetup, TARGET_DATABASE, TARGET_SCHEMA, World, fresh_folder},
};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

/// Longer than any command of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A test that runs anywhere.
pub(crate) fn test<F, Fut>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>>,
{
    Trial::test(name, move || block_on(body()))
}

/// A test that proves nothing unless it runs as root: it fails in CI, and is counted elsewhere.
pub(crate) fn root_test<F, Fut>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>>,
{
    let name = name.to_owned();
    Trial::test(name.clone(), move || {
        if User::current().uid == 0 {
            return block_on(body());
        }
        if std::env::var_os("CI").is_some() {
            return Err(Failed::from("this test needs root, and CI must prove it"));
        }
        note_not_proved(&name);
        Ok(())
    })
}

fn note_not_proved(name: &str) {
    eprintln!("NOT PROVED without root: {name}");
    if let Some(path) = std::env::var_os("KEYFERRY_NOT_PROVED")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        drop(writeln!(file, "{name}"));
    }
}

fn block_on(body: impl Future<Output = Result<()>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("a runtime").and_then(|runtime| runtime.block_on(body));
    outcome.map_err(|error| Failed::from(format!("{error:?}")))
}

/// A world in a folder that goes with it.
pub(crate) struct Stage {
    pub(crate) world: World,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(&Options::default()).await
    }

    pub(crate) async fn with(options: &Options) -> Result<Self> {
        let folder = fresh_folder()?;
        Ok(Self { world: World::start(folder.path(), options).await?, folder })
    }

    /// Runs the loader to its end.
    pub(crate) async fn loader(&self, verb: &str, pipeline: &PipelineSetup) -> Result<Ended> {
        self.loader_with(verb, pipeline, &[]).await
    }

    /// The same with environment variables.
    pub(crate) async fn loader_with(
        &self,
        verb: &str,
        pipeline: &PipelineSetup,
        environment: &[(&str, String)],
    ) -> Result<Ended> {
        let path = pipeline.write(&self.world, "pipeline")?;
        let name = format!("loader-{}", uuid::Uuid::new_v4().simple());
        let loader = self.world.spawn_loader(&name, &[verb, &path.display().to_string()], environment)?;
        loader.wait(PATIENCE).await
    }

    /// Fails unless the target holds exactly the generator's rows.
    pub(crate) async fn expect_exact(&self, tables: &[Table]) -> Result<()> {
        let mut auditor = Auditor::login(&self.world.auditor()).await?;
        for table in tables {
            let result = auditor.compare(table, &target(table.name)).await?;
            ensure!(result.equal(), "{}: {result:#?}", table.name);
        }
        Ok(())
    }

    /// Runs a query as the auditor.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        Auditor::login(&self.world.auditor()).await?.query(sql).await
    }

    /// Ends the broker and the stand-ins.
    pub(crate) async fn end(self, broker: Option<Process>) -> Result<()> {
        if let Some(broker) = broker {
            let ended = broker.stop(Duration::from_secs(20)).await?;
            ensure!(ended.status.success(), "the broker ended with {}: {}", ended.status, ended.stderr);
        }
        self.world.stop().await;
        self.folder.close()?;
        Ok(())
    }
}

/// The target of a sample table, quoted.
pub(crate) fn target(name: &str) -> String {
    format!("\"{TARGET_DATABASE}\".\"{TARGET_SCHEMA}\".\"{}\"", name.to_uppercase())
}

/// The ordinary broker.
pub(crate) fn ordinary() -> BrokerSetup {
    BrokerSetup::default()
}

/// Fails unless the command ended with `code` and said every one of `words`; shows what it said.
pub(crate) fn expect(ended: &Ended, code: i32, words: &[&str]) -> Result<()> {
    let said = ended.output();
    ensure!(ended.code() == Some(code), "expected exit code {code}, found {:?}:\n{said}", ended.status);
    for word in words {
        ensure!(said.contains(word), "expected {word:?} in:\n{said}");
    }
    for never in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        ensure!(!said.contains(never), "found {never:?} in:\n{said}");
    }
    Ok(())
}
