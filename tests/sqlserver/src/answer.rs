//! The answer to one request: outcomes become tokens, rows are encoded as they are read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keyferry_sql::{Context, Effect, Outcome, ResultSet, Session, SqlError, Verb};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::computed::Encoded;
use crate::faults::Fault;
use crate::outgoing::Outgoing;
use crate::packet::{Message, WireError, kind};
use crate::rows::RowWriter;
use crate::server::Shared;
use crate::tokens::{self, Change, Done, DoneKind, Notice, status};

/// From this class on an error ends the connection.
const FATAL_CLASS: u8 = 20;

/// Errors that undo the change that a statement was making; the client is told that it ended.
const TERMINATED: &[i32] = &[515, 547, 2601, 2627, 2628, 3960, 8115, 8152];

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All of it was sent, or will be with the final token.
    Complete,
    /// The client cancelled it.
    Cancelled,
    /// An error of class 20 or above: the connection ends after the final token.
    Fatal,
    /// The connection is gone, or is to be dropped without another byte.
    Gone,
}

/// An answer under construction. DONE tokens are held back by one: only the last has no MORE flag.
pub(crate) struct Answer<'a, W> {
    pub(crate) out: &'a mut Outgoing<W>,
    pub(crate) received: &'a mut mpsc::Receiver<Message>,
    pub(crate) shared: &'a Shared,
    /// The text that faults are matched against.
    pub(crate) statement: &'a str,
    /// What ends each statement.
    pub(crate) done: DoneKind,
    /// Whether any statement failed.
    pub(crate) failed: bool,
    held: Option<Done>,
    /// Procedures that a batch runs inside each other: their statements end with DONEINPROC.
    entered: u32,
}

impl<'a, W: AsyncWrite + Unpin> Answer<'a, W> {
    pub(crate) fn new(
        out: &'a mut Outgoing<W>,
        received: &'a mut mpsc::Receiver<Message>,
        shared: &'a Shared,
        statement: &'a str,
        done: DoneKind,
    ) -> Self {
        Self { out, received, shared, statement, done, failed: false, held: None, entered: 0 }
    }

    /// Sends the outcomes' tokens. `session` is told when an error undoes its transaction.
    pub(crate) async fn outcomes(
        &mut self,
        outcomes: Vec<Result<Outcome, SqlError>>,
        session: &mut Session,
    ) -> Result<Ended, WireError> {
        for outcome in outcomes {
            let ended = match outcome {
                Ok(Outcome::Rows(result)) => self.rows(result, session).await?,
                Ok(Outcome::Count { verb, rows }) => {
                    self.hold(Done {
                        kind: self.kind(),
                        status: status::COUNT,
                        command: tokens::command(verb),
                        rows,
                    });
                    Ended::Complete
                }
                Ok(Outcome::Done { verb, .. }) => {
                    self.hold(Done { kind: self.kind(), status: 0, command: tokens::command(verb), rows: 0 });
                    Ended::Complete
                }
                Ok(Outcome::Info { number, class, state, message }) => {
                    self.inform(number, class.min(10), state, &message);
                    Ended::Complete
                }
                Ok(Outcome::Entered) => {
                    self.entered += 1;
                    Ended::Complete
                }
                Ok(Outcome::Left { status }) => {
                    self.left(status);
                    Ended::Complete
                }
                Ok(Outcome::Changed { what, old, new }) => {
                    self.changed(what, &old, &new);
                    Ended::Complete
                }
                Err(error) => self.error(&error, session),
            };
            if ended != Ended::Complete {
                return Ok(ended);
            }
        }
        Ok(Ended::Complete)
    }

    /// An error and the DONE that says so. The transaction it undoes is rolled back here if rows were still read.
    pub(crate) fn error(&mut self, error: &SqlError, session: &mut Session) -> Ended {
        self.failed = true;
        let SqlError { number, class, state, line, message, procedure, .. } = error;
        if error.effect == Effect::Transaction {
            session.rollback();
        }
        self.notice(&Notice {
            number: *number,
            state: *state,
            class: (*class).max(11),
            message,
            line: (*line).max(1),
            procedure,
        });
        if TERMINATED.contains(number) {
            self.inform(3621, 0, 0, "The statement has been terminated.");
        }
        self.hold(Done::plain(self.kind(), status::ERROR));
        if *class >= FATAL_CLASS { Ended::Fatal } else { Ended::Complete }
    }

    /// Takes the held token, to end the message with it.
    pub(crate) fn take_held(&mut self) -> Option<Done> {
        self.held.take()
    }

    /// Puts the held token with its MORE flag: something follows.
    pub(crate) fn release(&mut self) {
        if let Some(mut done) = self.held.take() {
            done.status |= status::MORE;
            done.put(self.out.tokens());
        }
    }

    fn hold(&mut self, done: Done) {
        self.release();
        self.held = Some(done);
    }

    fn notice(&mut self, notice: &Notice<'_>) {
        self.release();
        let server = &self.shared.config.database.settings().server_name;
        notice.put(server, self.out.tokens());
    }

    /// What ends the current statement.
    fn kind(&self) -> DoneKind {
        if self.entered > 0 { DoneKind::InProc } else { self.done }
    }

    /// A procedure that a statement called has returned. The call that a client made ends with its own tokens.
    fn left(&mut self, status: i32) {
        self.entered = self.entered.saturating_sub(1);
        if self.done == DoneKind::Done && self.entered == 0 {
            self.release();
            tokens::return_status(status, self.out.tokens());
            self.hold(Done::plain(DoneKind::Proc, 0));
        }
    }

    fn inform(&mut self, number: i32, class: u8, state: u8, message: &str) {
        self.notice(&Notice { number, state, class, message, line: 1, procedure: "" });
    }

    fn changed(&mut self, what: Context, old: &str, new: &str) {
        self.release();
        if what == Context::Database {
            Change::Database { new, old }.put(self.out.tokens());
            let message = format!("Changed database context to '{new}'.");
            self.inform(5701, 0, 1, &message);
        }
    }

    async fn rows(&mut self, result: ResultSet, session: &mut Session) -> Result<Ended, WireError> {
        let ResultSet { columns, mut rows } = result;
        self.release();
        let writer = match RowWriter::begin(columns, self.out.tokens()) {
            Ok(writer) => writer,
            Err(error) => return Ok(self.error(&error, session)),
        };
        let mut sent = 0;
        let ended = loop {
            if let Some(fault) = self.shared.config.faults.strike(self.statement, sent) {
                match self.strike(fault, session).await? {
                    Ended::Complete => {}
                    ended => break ended,
                }
                if self.failed {
                    break Ended::Complete;
                }
            }
            let Some(row) = rows.next() else {
                let command = tokens::command(Verb::Select);
                self.hold(Done { kind: self.kind(), status: status::COUNT, command, rows: sent });
                break Ended::Complete;
            };
            if let Err(error) = row.and_then(|row| writer.put(&row, self.out.tokens())) {
                break self.error(&error, session);
            }
            sent += 1;
            if self.out.is_full() {
                self.out.send_full().await?;
                match self.heard() {
                    Ended::Complete => {}
                    ended => break ended,
                }
            }
        };
        self.shared.stats.rows.fetch_add(sent, Ordering::Relaxed);
        Ok(ended)
    }

    /// Sends a result whose rows are encoded already. No fault strikes it.
    pub(crate) async fn encoded(
        &mut self,
        result: Encoded,
        session: &mut Session,
    ) -> Result<Ended, WireError> {
        let Encoded { columns, mut more } = result;
        self.release();
        if let Err(error) = RowWriter::begin(columns, self.out.tokens()) {
            return Ok(self.error(&error, session));
        }
        let mut sent = 0;
        loop {
            let rows = more(self.out.tokens());
            if rows == 0 {
                break;
            }
            sent += rows;
            if self.out.is_full() {
                self.out.send_full().await?;
                match self.heard() {
                    Ended::Complete => {}
                    ended => return Ok(ended),
                }
            }
        }
        let command = tokens::command(Verb::Select);
        self.hold(Done { kind: self.done, status: status::COUNT, command, rows: sent });
        self.shared.stats.rows.fetch_add(sent, Ordering::Relaxed);
        Ok(Ended::Complete)
    }

    /// Whether the client said anything while its answer is being sent: it may only cancel.
    fn heard(&mut self) -> Ended {
        match self.received.try_recv() {
            Ok(message) if message.kind == kind::ATTENTION => Ended::Cancelled,
            Ok(_) => Ended::Gone,
            // A client that has closed its side may still read.
            Err(_) => Ended::Complete,
        }
    }

    async fn strike(&mut self, fault: Fault, session: &mut Session) -> Result<Ended, WireError> {
        match fault {
            Fault::Drop => {
                // In the middle of a token: its last byte stays here.
                self.out.tokens().pop();
                self.out.send_all().await?;
                Ok(Ended::Gone)
            }
            Fault::Error { number, class, message } => {
                let undone = matches!(number, 1205 | 3960);
                let effect = if undone { Effect::Transaction } else { Effect::Batch };
                let error = SqlError::mssql(number, message).with_class(class).ending(effect);
                Ok(self.error(&error, session))
            }
            Fault::Stall(time) => {
                self.out.send_all().await?;
                Ok(self.stall(time).await)
            }
        }
    }

    async fn stall(&mut self, time: Duration) -> Ended {
        tokio::select! {
            () = tokio::time::sleep(time) => Ended::Complete,
            message = self.received.recv() => match message {
                Some(message) if message.kind == kind::ATTENTION => Ended::Cancelled,
                _ => Ended::Gone,
            },
        }
    }
}
