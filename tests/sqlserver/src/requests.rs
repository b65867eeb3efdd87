//! A logged-in client's requests, one after the other: batches, procedure calls, transactions, attentions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyferry_sql::{Identity, Outcome, Parameter, Session, SqlError, Verb};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::answer::{Answer, Ended};
use crate::outgoing::Outgoing;
use crate::packet::{Message, Reader, WireError, kind};
use crate::procedures::{Action, Prepared};
use crate::rpc::{Call, skip_headers};
use crate::server::Shared;
use crate::tokens::{self, Change, Done, DoneKind, status};
use crate::transactions;

/// A session and what it needs to answer.
pub(crate) struct Requests {
    session: Session,
    /// As it was after the login: what a reset goes back to.
    identity: Identity,
    prepared: Prepared,
    packet_size: usize,
    shared: Arc<Shared>,
}

/// What the evaluator answered, or why it did not.
enum Executed {
    Outcomes(Vec<Result<Outcome, SqlError>>),
    Stopped(Ended),
}

impl Requests {
    pub(crate) fn new(session: Session, packet_size: usize, shared: Arc<Shared>) -> Self {
        let identity = session.identity().clone();
        Self { session, identity, prepared: Prepared::default(), packet_size, shared }
    }

    /// Answers until the client leaves. Dropping the session rolls back what it left open, as the real server does
    /// when it notices that a client is gone.
    pub(crate) async fn run(
        mut self,
        writing: impl AsyncWrite + Unpin,
        mut received: mpsc::Receiver<Message>,
    ) -> Result<(), WireError> {
        let mut out = Outgoing::new(writing, self.shared.config.faults.clone());
        out.set_packet_size(self.packet_size);
        while let Some(message) = received.recv().await {
            out.set_spid(self.session.id() as u16);
            match self.serve(message, &mut out, &mut received).await? {
                Ended::Complete => {}
                Ended::Cancelled => self.acknowledge(&mut out).await?,
                Ended::Fatal => {
                    out.close().await;
                    return Ok(());
                }
                Ended::Gone => return Ok(()),
            }
        }
        out.close().await;
        Ok(())
    }

    /// The answer to an attention, after whatever was already sent of the cancelled answer.
    async fn acknowledge<W: AsyncWrite + Unpin>(&self, out: &mut Outgoing<W>) -> Result<(), WireError> {
        self.shared.stats.attentions.fetch_add(1, Ordering::Relaxed);
        Done::plain(DoneKind::Done, status::ATTENTION).put(out.tokens());
        out.end().await
    }

    async fn serve<W: AsyncWrite + Unpin>(
        &mut self,
        message: Message,
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        if message.kind == kind::ATTENTION {
            return Ok(Ended::Cancelled);
        }
        if message.reset {
            self.reset(message.reset_keeps_transaction, out);
        }
        self.shared.stats.batches.fetch_add(1, Ordering::Relaxed);
        match message.kind {
            kind::BATCH => {
                let mut reader = Reader::new(&message.body, "batch");
                skip_headers(&mut reader)?;
                let sql = reader.utf16(reader.rest().len() / 2)?;
                self.batch(&sql, out, received).await
            }
            kind::TRANSACTION => {
                let sql = transactions::statement(&message.body)?;
                self.batch(&sql, out, received).await
            }
            kind::RPC => {
                let collation = self.session.database().settings().collation;
                let calls = Call::parse(&message.body, collation)?;
                let last = calls.len().saturating_sub(1);
                for (at, call) in calls.into_iter().enumerate() {
                    let ended = self.call(call, at < last, out, received).await?;
                    if ended != Ended::Complete {
                        return Ok(ended);
                    }
                    if out.is_full() {
                        out.send_full().await?;
                    }
                }
                out.end().await?;
                Ok(Ended::Complete)
            }
            other => Err(WireError::malformed("request", format!("type 0x{other:02X}"))),
        }
    }

    /// A pooled connection changes hands: everything but the login is forgotten.
    fn reset<W: AsyncWrite + Unpin>(&mut self, keep_transaction: bool, out: &mut Outgoing<W>) {
        if !keep_transaction || !self.session.in_transaction() {
            self.session = Session::new(&self.shared.config.database, self.identity.clone());
        }
        self.prepared.clear();
        Change::WasReset.put(out.tokens());
    }

    /// Runs SQL, unless the client cancels or leaves while it waits.
    async fn execute(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
        received: &mut mpsc::Receiver<Message>,
    ) -> Executed {
        tokio::select! {
            biased;
            outcomes = self.session.execute_with(sql, parameters) => Executed::Outcomes(outcomes),
            message = received.recv() => Executed::Stopped(match message {
                Some(message) if message.kind == kind::ATTENTION => Ended::Cancelled,
                _ => Ended::Gone,
            }),
        }
    }

    async fn batch<W: AsyncWrite + Unpin>(
        &mut self,
        sql: &str,
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        let before = self.session.transaction_id();
        let encoded = self.shared.config.computed.encoded(sql);
        let executed = match self.shared.config.computed.answer(sql) {
            _ if encoded.is_some() => Executed::Outcomes(Vec::new()),
            Some(result) => Executed::Outcomes(vec![Ok(Outcome::Rows(result))]),
            None => self.execute(sql, &[], received).await,
        };
        let outcomes = match executed {
            Executed::Outcomes(outcomes) => outcomes,
            Executed::Stopped(ended) => return Ok(ended),
        };
        let last = last_transaction_verb(&outcomes);
        let shared = self.shared.clone();
        let mut answer = Answer::new(out, received, &shared, sql, DoneKind::Done);
        let ended = match encoded {
            Some(encoded) => answer.encoded(encoded, &mut self.session).await?,
            None => answer.outcomes(outcomes, &mut self.session).await?,
        };
        if matches!(ended, Ended::Cancelled | Ended::Gone) {
            return Ok(ended);
        }
        let done = answer.take_held().unwrap_or(Done::plain(DoneKind::Done, 0));
        let tokens = answer.out.tokens();
        transaction_changes(before, self.session.transaction_id(), last, tokens);
        finish(done, ended).put(tokens);
        answer.out.end().await?;
        Ok(ended)
    }

    /// Answers one call of a message; `more` of them follow.
    async fn call<W: AsyncWrite + Unpin>(
        &mut self,
        call: Call,
        more: bool,
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        let before = self.session.transaction_id();
        let (sql, parameters, handle) = match self.prepared.resolve(call) {
            Ok(Action::Run { sql, parameters, handle }) => (sql, parameters, handle),
            Ok(Action::Handle(handle)) => (String::new(), Vec::new(), Some(handle)),
            Ok(Action::Nothing) => (String::new(), Vec::new(), None),
            Err(error) => return self.refuse(&error, more, out, received).await,
        };
        let asked = !sql.is_empty() && parameters.is_empty();
        let encoded = if asked { self.shared.config.computed.encoded(&sql) } else { None };
        let outcomes = if sql.is_empty() || encoded.is_some() {
            Vec::new()
        } else {
            match self.execute(&sql, &parameters, received).await {
                Executed::Outcomes(outcomes) => outcomes,
                Executed::Stopped(ended) => return Ok(ended),
            }
        };
        let last = last_transaction_verb(&outcomes);
        let shared = self.shared.clone();
        let mut answer = Answer::new(out, received, &shared, &sql, DoneKind::InProc);
        let ended = match encoded {
            Some(encoded) => answer.encoded(encoded, &mut self.session).await?,
            None => answer.outcomes(outcomes, &mut self.session).await?,
        };
        if matches!(ended, Ended::Cancelled | Ended::Gone) {
            return Ok(ended);
        }
        answer.release();
        let failed = answer.failed;
        let tokens = answer.out.tokens();
        transaction_changes(before, self.session.transaction_id(), last, tokens);
        tokens::return_status(i32::from(failed), tokens);
        if let Some(handle) = handle {
            tokens::return_int(0, "", handle, tokens);
        }
        let failure = if failed { status::ERROR } else { 0 };
        let status = if more { failure | status::MORE } else { failure };
        let done = Done { kind: DoneKind::Proc, status, command: tokens::EXECUTE, rows: 0 };
        finish(done, ended).put(tokens);
        if ended == Ended::Fatal {
            answer.out.end().await?;
        }
        Ok(ended)
    }

    /// A call that cannot even begin.
    async fn refuse<W: AsyncWrite + Unpin>(
        &mut self,
        error: &SqlError,
        more: bool,
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        let shared = self.shared.clone();
        let mut answer = Answer::new(out, received, &shared, "", DoneKind::Proc);
        let ended = answer.error(error, &mut self.session);
        if let Some(mut done) = answer.take_held() {
            done.status |= if more { status::MORE } else { 0 };
            done.put(answer.out.tokens());
        }
        if ended == Ended::Fatal {
            answer.out.end().await?;
        }
        Ok(ended)
    }
}

/// The final token, which says when the connection ends with it.
fn finish(mut done: Done, ended: Ended) -> Done {
    if ended == Ended::Fatal {
        done.status |= status::SERVER_ERROR;
    }
    done
}

fn last_transaction_verb(outcomes: &[Result<Outcome, SqlError>]) -> Option<Verb> {
    outcomes.iter().rev().find_map(|outcome| match outcome {
        Ok(Outcome::Done { verb: verb @ (Verb::Commit | Verb::Rollback), .. }) => Some(*verb),
        _ => None,
    })
}

/// Tells the client the descriptor of a transaction that began, or that its transaction ended.
fn transaction_changes(before: Option<u64>, after: Option<u64>, last: Option<Verb>, tokens: &mut Vec<u8>) {
    if before == after {
        return;
    }
    match before {
        Some(old) if last == Some(Verb::Commit) => Change::Committed(old).put(tokens),
        Some(old) => Change::RolledBack(old).put(tokens),
        None => {}
    }
    if let Some(new) = after {
        Change::Began(new).put(tokens);
    }
}
