//! The thread that owns the log's file.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::{mpsc, oneshot};

use super::{
    AuditError, QUEUE, Record, State,
    chain::{Appended, Chain, TooLong},
    checkpoint::Sign,
    copies::Copies,
};

/// A checkpoint is written after so many lines, if none was asked for before.
const LINES_A_CHECKPOINT: u64 = 1000;

/// Who waits for an answer.
pub(super) type Waiting<T> = oneshot::Sender<Result<T, AuditError>>;

/// What the thread is asked to do.
#[allow(clippy::large_enum_variant, reason = "nearly every job is a record")]
pub(super) enum Job {
    /// Write one line.
    Record(Record, Waiting<String>),
    /// Sign checkpoints with this key.
    Sign(Arc<dyn Sign>, Waiting<()>),
    /// Write a checkpoint.
    Checkpoint(Waiting<()>),
    /// Wait for the copies.
    Flush(Waiting<()>),
}

pub(super) struct Writer {
    chain: Chain,
    copies: Option<Copies>,
    state: Arc<State>,
    signer: Option<Arc<dyn Sign>>,
    /// Lines since the last checkpoint.
    unsigned: u64,
}

impl Writer {
    pub(super) fn new(chain: Chain, copies: Option<Copies>, state: Arc<State>) -> Self {
        let unsigned = chain.lines();
        Self { chain, copies, state, signer: None, unsigned }
    }

    /// Takes whatever waits, writes it with one flush, and only then tells who waits.
    pub(super) fn take_all(&mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| queue.blocking_recv()) {
            match job {
                Job::Record(record, done) => {
                    let (mut records, mut waiting) = (vec![record], vec![done]);
                    while records.len() < QUEUE
                        && let Ok(job) = queue.try_recv()
                    {
                        match job {
                            Job::Record(record, done) => {
                                records.push(record);
                                waiting.push(done);
                            }
                            other => {
                                next = Some(other);
                                break;
                            }
                        }
                    }
                    self.write(&records, waiting);
                }
                Job::Sign(signer, done) => {
                    self.signer = Some(signer);
                    // A caller that is gone needs no answer.
                    let _ = done.send(self.checkpoint());
                }
                Job::Checkpoint(done) => drop(done.send(self.checkpoint())),
                Job::Flush(done) => {
                    self.copies.iter().for_each(Copies::flush);
                    let _ = done.send(Ok(()));
                }
            }
        }
    }

    fn write(&mut self, records: &[Record], waiting: Vec<Waiting<String>>) {
        let appended = self.chain.append(records);
        match self.note(appended) {
            Ok(ids) => {
                for (done, id) in waiting.into_iter().zip(ids) {
                    // A caller that is gone needs no answer.
                    let _ = done.send(id.map_err(|TooLong| AuditError::TooLong));
                }
            }
            Err(error) => {
                for done in waiting {
                    let _ = done.send(Err(error.clone()));
                }
            }
        }
        if self.unsigned >= LINES_A_CHECKPOINT {
            // The next line fails as this one did, and says so to its caller.
            let _ = self.checkpoint();
        }
    }

    fn checkpoint(&mut self) -> Result<(), AuditError> {
        let Some(signer) = self.signer.clone().filter(|_| self.unsigned > 0) else { return Ok(()) };
        let appended = self.chain.checkpoint(signer.as_ref());
        self.note(appended)?;
        self.unsigned = 0;
        Ok(())
    }

    /// Says how it went to whoever looks, and hands the copies over.
    fn note(
        &mut self,
        appended: std::io::Result<Appended>,
    ) -> Result<Vec<Result<String, TooLong>>, AuditError> {
        self.state.writable.store(appended.is_ok(), Ordering::Relaxed);
        match appended {
            Ok(Appended { ids, text }) => {
                let lines = self.chain.lines();
                self.unsigned += lines - self.state.lines.swap(lines, Ordering::Relaxed);
                self.copies.iter().for_each(|copies| copies.hand_over(&text));
                Ok(ids)
            }
            Err(cause) => {
                tracing::error!(%cause, "the audit log cannot be written; nothing is granted");
                Err(AuditError::Write { cause: cause.to_string() })
            }
        }
    }
}
