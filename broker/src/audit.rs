//! The audit log: one JSON line before every answer, yes or no, chained by hashes.
//!
//! Each line carries the SHA-256 of the line before it, so a line that is changed, dropped or moved breaks
//! the chain. A line is on disk (`fdatasync`) before [`AuditLog::record`] returns; lines that arrive
//! together share one flush. While the log cannot be written every call fails, and nothing is granted. No
//! line holds a token: a token is named by its generation. Checkpoints, signed with a key from Vault, make the chain
//! one that nobody can forge or shorten unseen; [`verify()`] checks it anywhere.

mod chain;
mod checkpoint;
mod copies;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use self::{
    chain::Chain,
    copies::Copies,
    writer::{Job, Writer},
};
pub use self::{
    checkpoint::{PublicKey, Sign, key_id},
    copies::Taker,
    verify::{Finding, Verified, verify},
};
use crate::config::AuditConfig;

/// Lines that wait for the disk at most; more callers wait for their turn.
const QUEUE: usize = 256;

/// The longest detail of a line, in bytes. No message of the broker's own is near it.
const LONGEST_DETAIL: usize = 4096;

/// Why nothing could be recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be opened as an append-only file of the broker's own.
    #[error("cannot open the audit log {}: {cause}", path.display())]
    Open {
        /// The log.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A line could not be written and flushed.
    #[error("the audit log cannot be written ({cause}), so nothing is granted; make room for it or mend it")]
    Write {
        /// What the system said.
        cause: String,
    },
    /// What was to be recorded does not fit on a line.
    #[error(
        "the record of this decision is longer than a line of the audit log may be, so nothing is granted"
    )]
    TooLong,
    /// Nobody writes the log any more.
    #[error("the audit log is closed, so nothing is granted; the broker is stopping, or has to be restarted")]
    Closed,
}

/// How a decision went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something was given, or is about to be.
    Granted,
    /// Policy, a limit or a malformed request.
    Denied,
    /// Allowed, but an upstream did not give it.
    Failed,
    /// Something noted without a decision: a start, an end, a report.
    Noted,
}

/// One decision. Names are empty when the caller gave none that is well formed.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What was asked: the RPC's name, or an event of the broker.
    pub event: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// The caller's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The caller's gid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The service account that the call proved.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// The pipeline.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pipeline: String,
    /// The grant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grant: String,
    /// The caller's own name for what it is doing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub run_id: String,
    /// Which token, by name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generation: String,
    /// Snowflake's id of the session.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_id: String,
    /// Why, or how far.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Whether the server proved itself, for a Kerberos exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutual: Option<bool>,
    /// Of a checkpoint: over its number, the hash before it and its time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// Of a checkpoint: which key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
}

impl Record {
    /// A record of `event` with everything else empty.
    pub fn new(event: &'static str, outcome: Outcome) -> Self {
        Self {
            event,
            outcome,
            uid: None,
            gid: None,
            service_account: String::new(),
            pipeline: String::new(),
            grant: String::new(),
            run_id: String::new(),
            generation: String::new(),
            session_id: String::new(),
            detail: String::new(),
            mutual: None,
            signature: String::new(),
            key: String::new(),
        }
    }
}

/// A handle on the log. The file belongs to one thread, which ends with the last handle.
#[derive(Clone)]
pub struct AuditLog {
    jobs: mpsc::Sender<Job>,
    state: Arc<State>,
}

/// What the thread tells about itself.
struct State {
    writable: AtomicBool,
    lines: AtomicU64,
    copies_missed: Arc<AtomicU64>,
}

impl AuditLog {
    /// Opens the log for appending, and continues its chain.
    ///
    /// Refused: a symbolic link, anything but a plain file, a file of another owner.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        Self::over(Self::chain(path)?, None)
    }

    /// The same, with copies for this taker.
    pub fn start(config: &AuditConfig, taker: Option<Taker>) -> Result<Self, AuditError> {
        Self::over(Self::chain(&config.path)?, taker)
    }

    /// Opens what takes the copies that the configuration asks for. Call it before the sandbox closes.
    pub fn taker(config: &AuditConfig) -> Result<Option<Taker>, AuditError> {
        let opened = config.copy.as_ref().map(Taker::open).transpose();
        opened.map_err(|e| AuditError::Write { cause: format!("no socket for its copies: {e}") })
    }

    fn chain(path: &Path) -> Result<Chain, AuditError> {
        Chain::open(path)
            .map_err(|cause| AuditError::Open { path: path.to_owned(), cause: cause.to_string() })
    }

    /// A log that cannot be written.
    #[cfg(test)]
    pub(crate) fn on_a_full_disk() -> Self {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        Self::over(Chain::over(full), None).unwrap()
    }

    fn over(chain: Chain, taker: Option<Taker>) -> Result<Self, AuditError> {
        let failed = |e: std::io::Error| AuditError::Write { cause: e.to_string() };
        let (jobs, queue) = mpsc::channel(QUEUE);
        let copies_missed = Arc::new(AtomicU64::new(0));
        let copies = taker.map(|taker| Copies::start(taker, Arc::clone(&copies_missed)));
        let copies = copies.transpose().map_err(failed)?;
        let lines = AtomicU64::new(chain.lines());
        let state = Arc::new(State { writable: AtomicBool::new(true), lines, copies_missed });
        let mut writer = Writer::new(chain, copies, Arc::clone(&state));
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.take_all(queue))
            .map_err(failed)?;
        Ok(Self { jobs, state })
    }

    /// Writes one line and waits until it is on disk. Returns the line's id. A long detail is cut.
    pub async fn record(&self, mut record: Record) -> Result<String, AuditError> {
        if record.detail.len() > LONGEST_DETAIL {
            let end = record.detail.floor_char_boundary(LONGEST_DETAIL);
            record.detail.truncate(end);
            record.detail.push_str(" (cut)");
        }
        self.ask(|done| Job::Record(record, done)).await
    }

    /// From now on checkpoints are signed by this key; the first one at once.
    pub async fn sign_with(&self, signer: Arc<dyn Sign>) -> Result<(), AuditError> {
        self.ask(|done| Job::Sign(signer, done)).await
    }

    /// Signs what has been written since the last checkpoint, if anything was and there is a key.
    pub async fn checkpoint(&self) -> Result<(), AuditError> {
        self.ask(Job::Checkpoint).await
    }

    /// The last checkpoint, and the last copies.
    pub async fn close(&self) -> Result<(), AuditError> {
        self.checkpoint().await?;
        self.ask(Job::Flush).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, AuditError>>) -> Job,
    ) -> Result<T, AuditError> {
        let (done, answer) = oneshot::channel();
        let closed = || {
            self.state.writable.store(false, Ordering::Relaxed);
            AuditError::Closed
        };
        self.jobs.send(job(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// False after a line could not be written, until one could.
    pub fn is_writable(&self) -> bool {
        self.state.writable.load(Ordering::Relaxed)
    }

    /// How many lines the file has.
    pub fn lines(&self) -> u64 {
        self.state.lines.load(Ordering::Relaxed)
    }

    /// How many lines no copy was taken of.
    pub fn copies_missed(&self) -> u64 {
        self.state.copies_missed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
