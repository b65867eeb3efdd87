//! A serving broker as an operator sees it: its configuration with one thing changed, its health, its metrics, its
//! audit log.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use keyferry_e2e::{
    process::{Ended, Process},
    world::{BrokerSetup, World},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that serves.
pub(crate) struct Live {
    pub(crate) process: Process,
    admin: String,
}

/// Writes the ordinary configuration with these texts replaced.
pub(crate) fn configure(world: &World, setup: &BrokerSetup, changes: &[(&str, &str)]) -> Result<PathBuf> {
    let path = world.dir.join("broker").join("broker.yaml");
    for old in [path.clone(), path.with_file_name("secret-id"), path.with_file_name("role-id")] {
        // Read-only files of an earlier broker cannot be written over.
        drop(fs::remove_file(old));
    }
    setup.write(world)?;
    let mut text = setup.yaml(world);
    for (from, to) in changes {
        ensure!(text.contains(from), "{from:?} is not in the configuration:\n{text}");
        text = text.replacen(from, to, 1);
    }
    fs::remove_file(&path)?;
    world.users.broker.file(&path, 0o400, text)
}

/// Starts a broker with this configuration and waits until it says that it serves.
pub(crate) async fn serve(world: &World, config: &Path) -> Result<Live> {
    let mut process = world.spawn_broker(&["run", "--config", &config.display().to_string()])?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = process.stderr();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let admin = lines
            .filter(|line| line["fields"]["message"] == "serving")
            .find_map(|line| line["fields"]["admin"].as_str().map(str::to_owned));
        if let Some(admin) = admin {
            return Ok(Live { process, admin });
        }
        if !process.runs() || Instant::now() > deadline {
            bail!("the broker does not serve; it said:\n{log}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts a broker that must not come up, and returns how it ended.
pub(crate) async fn fail(world: &World, config: &Path) -> Result<Ended> {
    world.spawn_broker(&["run", "--config", &config.display().to_string()])?.wait(PATIENCE).await
}

/// Every line of the audit log.
pub(crate) fn audit(world: &World) -> Result<Vec<Value>> {
    let text = fs::read_to_string(world.dir.join("broker").join("audit.log"))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("the line {line}"))).collect()
}

impl Live {
    /// What the broker answers at this path over HTTP.
    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.admin).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// `/health`, parsed.
    pub(crate) async fn health(&self) -> Result<Value> {
        let text = self.get("/health").await?;
        let (_, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
        serde_json::from_str(body).with_context(|| format!("the body {body}"))
    }

    /// One metric's value; 0 where it does not show yet. `name` is the whole name with its labels.
    pub(crate) async fn metric(&self, name: &str) -> Result<u64> {
        let text = self.get("/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }

    /// Waits until health is as wanted, and returns it.
    pub(crate) async fn until_health(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health().await?;
            if wanted(&health) {
                return Ok(health);
            }
            ensure!(Instant::now() < deadline, "waited in vain: {what}; health says {health:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
