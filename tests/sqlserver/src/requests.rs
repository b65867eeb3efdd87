//! A logged-in client's requests, one after the other: batches, procedure calls, transactions, attentions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyferry_sql::{DataType, Identity, Outcome, Parameter, Session, SqlError, Value, Verb};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::answer::{Answer, Ended};
use crate::bulk;
use crate::computed::Encoded;
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
    /// Where the rows of the next message go, after INSERT BULK.
    bulk: Option<bulk::Target>,
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
        Self { session, identity, prepared: Prepared::default(), bulk: None, packet_size, shared }
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
            let running = message.kind != kind::ATTENTION;
            match self.serve(message, &mut out, &mut received).await? {
                Ended::Complete => {}
                Ended::Cancelled => self.acknowledge(running, &mut out).await?,
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
    async fn acknowledge<W: AsyncWrite + Unpin>(
        &self,
        running: bool,
        out: &mut Outgoing<W>,
    ) -> Result<(), WireError> {
        if running {
            // The answer that was cut short ends as a message of its own; clients wait for one more.
            Done::plain(DoneKind::Done, 0).put(out.tokens());
            out.end().await?;
        }
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
                self.calls(calls, out, received).await
            }
            kind::BULK => self.load(&message.body, out, received).await,
            other => Err(WireError::malformed("request", format!("type 0x{other:02X}"))),
        }
    }

    /// Puts the rows of a bulk load into the table that INSERT BULK named.
    async fn load<W: AsyncWrite + Unpin>(
        &mut self,
        body: &[u8],
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        let Some(target) = self.bulk.take() else {
            return Err(WireError::malformed("request", "bulk load without INSERT BULK"));
        };
        let collation = self.session.database().settings().collation;
        let rows = bulk::rows(body, collation)?;
        let loaded = self.session.append(&target.table, &target.columns, rows.into_iter().map(Ok)).await;
        let outcome = loaded.map(|rows| Outcome::Count { verb: Verb::Insert, rows });
        let shared = self.shared.clone();
        let mut answer = Answer::new(out, received, &shared, "INSERT BULK", DoneKind::Done);
        let ended = answer.outcomes(vec![outcome], &mut self.session).await?;
        let done = answer.take_held().unwrap_or(Done::plain(DoneKind::Done, 0));
        finish(done, ended).put(answer.out.tokens());
        answer.out.end().await?;
        Ok(ended)
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
        self.bulk = bulk::Target::parse(sql);
        if self.bulk.is_some() {
            Done::plain(DoneKind::Done, 0).put(out.tokens());
            out.end().await?;
            return Ok(Ended::Complete);
        }
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

    /// Runs the calls of one message, one after the other.
    async fn calls<W: AsyncWrite + Unpin>(
        &mut self,
        calls: Vec<Call>,
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        let count = calls.len();
        for (at, call) in calls.into_iter().enumerate() {
            let ended = self.call(call, at + 1 == count, out, received).await?;
            if ended != Ended::Complete {
                return Ok(ended);
            }
        }
        Ok(Ended::Complete)
    }

    async fn call<W: AsyncWrite + Unpin>(
        &mut self,
        call: Call,
        last: bool,
        out: &mut Outgoing<W>,
        received: &mut mpsc::Receiver<Message>,
    ) -> Result<Ended, WireError> {
        let before = self.session.transaction_id();
        let action = match self.prepared.resolve(call) {
            Ok(action) => action,
            Err(error) => Action::Refused(error),
        };
        let Some(done) = self.act(action, received).await else { return Ok(Ended::Gone) };
        let Acted { statement, encoded, executed, status, outputs, handle } = done;
        let outcomes = match executed {
            Executed::Outcomes(outcomes) => outcomes,
            Executed::Stopped(ended) => return Ok(ended),
        };
        let verb = last_transaction_verb(&outcomes);
        let shared = self.shared.clone();
        let mut answer = Answer::new(out, received, &shared, &statement, DoneKind::InProc);
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
        transaction_changes(before, self.session.transaction_id(), verb, tokens);
        tokens::return_status(status.unwrap_or(i32::from(failed)), tokens);
        if let Some((name, handle)) = handle {
            tokens::return_int(0, &name, handle, tokens);
        }
        for (ordinal, name, ty, value) in &outputs {
            tokens::return_value(*ordinal, name, ty, value, tokens);
        }
        let flags = if failed { status::ERROR } else { 0 } | if last { 0 } else { status::MORE };
        let done = Done { kind: DoneKind::Proc, status: flags, command: tokens::EXECUTE, rows: 0 };
        finish(done, ended).put(tokens);
        if last || ended == Ended::Fatal {
            answer.out.end().await?;
        }
        Ok(ended)
    }

    /// Does what a call means; None: the client is gone.
    async fn act(&mut self, action: Action, received: &mut mpsc::Receiver<Message>) -> Option<Acted> {
        let mut acted = Acted {
            statement: String::new(),
            encoded: None,
            executed: Executed::Outcomes(Vec::new()),
            status: None,
            outputs: Vec::new(),
            handle: None,
        };
        match action {
            Action::Run { sql, declared, parameters, handle, outputs } => {
                if parameters.is_empty() {
                    acted.encoded = self.shared.config.computed.encoded(&sql);
                }
                if acted.encoded.is_some() {
                    (acted.statement, acted.handle) = (sql, handle);
                    return Some(acted);
                }
                acted.executed = match self.session.bind_declared(&declared, &sql, parameters) {
                    Ok(parameters) => self.execute(&sql, &parameters, received).await,
                    Err(error) => Executed::Outcomes(vec![Err(error)]),
                };
                for (ordinal, name) in outputs {
                    if let Some((ty, value)) = self.session.variable(&name) {
                        acted.outputs.push((ordinal, name, ty.clone(), value.clone()));
                    }
                }
                (acted.statement, acted.handle) = (sql, handle);
            }
            Action::Call { name, arguments } => {
                tokio::select! {
                    biased;
                    called = self.session.call(&name, &arguments) => {
                        acted.status = Some(called.status);
                        acted.outputs = called
                            .outputs
                            .into_iter()
                            .map(|(at, name, ty, value)| (at as u16, name, ty, value))
                            .collect();
                        acted.executed = Executed::Outcomes(called.outcomes);
                    }
                    message = received.recv() => acted.executed = Executed::Stopped(stopped(message)?),
                }
                acted.statement = name;
            }
            Action::Handle(name, handle) => acted.handle = Some((name, handle)),
            Action::Nothing => {}
            Action::Refused(error) => acted.executed = Executed::Outcomes(vec![Err(error)]),
        }
        Some(acted)
    }
}

/// What a call did.
struct Acted {
    /// The text that faults are matched against.
    statement: String,
    /// Rows that are there already, instead of an execution.
    encoded: Option<Encoded>,
    executed: Executed,
    /// RETURN's code, of a procedure of the database.
    status: Option<i32>,
    outputs: Vec<(u16, String, DataType, Value)>,
    /// A new prepared statement: the name of the parameter that takes it, and its number.
    handle: Option<(String, i32)>,
}

/// Why a statement was given up while it ran.
fn stopped(message: Option<Message>) -> Option<Ended> {
    (message?.kind == kind::ATTENTION).then_some(Ended::Cancelled)
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
