//! The audit log: one JSON line before every answer, yes or no, chained by hashes.
//!
//! Each line carries the SHA-256 of the line before it, so a line that is changed, dropped or moved breaks
//! the chain. A line is on disk (`fdatasync`) before [`AuditLog::record`] returns; lines that arrive
//! together share one flush. While the log cannot be written every call fails, and nothing is granted. No
//! line holds a token: a token is named by its generation.

mod chain;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use self::chain::{Chain, TooLong};

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
        }
    }
}

struct Job {
    record: Record,
    done: oneshot::Sender<Result<String, AuditError>>,
}

/// A handle on the log. The file belongs to one thread, which ends with the last handle.
#[derive(Clone)]
pub struct AuditLog {
    jobs: mpsc::Sender<Job>,
    writable: Arc<AtomicBool>,
}

impl AuditLog {
    /// Opens the log for appending, and continues its chain.
    ///
    /// Refused: a symbolic link, anything but a plain file, a file of another owner.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let chain = Chain::open(path)
            .map_err(|cause| AuditError::Open { path: path.to_owned(), cause: cause.to_string() })?;
        Self::over(chain)
    }

    /// A log that cannot be written.
    #[cfg(test)]
    pub(crate) fn on_a_full_disk() -> Self {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        Self::over(Chain::over(full)).unwrap()
    }

    fn over(chain: Chain) -> Result<Self, AuditError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writable = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&writable);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_all(chain, queue, &state))
            .map_err(|e| AuditError::Write { cause: e.to_string() })?;
        Ok(Self { jobs, writable })
    }

    /// Writes one line and waits until it is on disk. Returns the line's id. A long detail is cut.
    pub async fn record(&self, mut record: Record) -> Result<String, AuditError> {
        if record.detail.len() > LONGEST_DETAIL {
            let end = record.detail.floor_char_boundary(LONGEST_DETAIL);
            record.detail.truncate(end);
            record.detail.push_str(" (cut)");
        }
        let (done, answer) = oneshot::channel();
        let closed = || {
            self.writable.store(false, Ordering::Relaxed);
            AuditError::Closed
        };
        self.jobs.send(Job { record, done }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// False after a line could not be written, until one could.
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }
}

/// Takes whatever waits, writes it with one flush, and only then tells who waits.
fn write_all(mut chain: Chain, mut queue: mpsc::Receiver<Job>, writable: &AtomicBool) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < QUEUE
            && let Ok(job) = queue.try_recv()
        {
            batch.push(job);
        }
        let (records, waiting): (Vec<Record>, Vec<_>) =
            batch.into_iter().map(|job| (job.record, job.done)).unzip();
        match chain.append(&records) {
            Ok(ids) => {
                writable.store(true, Ordering::Relaxed);
                for (done, id) in waiting.into_iter().zip(ids) {
                    // A caller that is gone needs no answer.
                    let _ = done.send(id.map_err(|TooLong| AuditError::TooLong));
                }
            }
            Err(cause) => {
                writable.store(false, Ordering::Relaxed);
                tracing::error!(%cause, "the audit log cannot be written; nothing is granted");
                for done in waiting {
                    let _ = done.send(Err(AuditError::Write { cause: cause.to_string() }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
