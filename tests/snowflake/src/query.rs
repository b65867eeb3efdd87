//! One statement from its request to its reply: repeats, polling, cancellation.

mod run;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{ACCEPT, HeaderMap},
};
pub(crate) use run::Run;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::Effect,
    http::{self, Cut, Outcome},
    lexer, parameters,
    prepare::Bindings,
    reply::{self, Refusal},
    route::expired,
    server::Shared,
    session::{Session, lock},
};

/// Results that a session keeps; older ones are forgotten.
const KEPT_RESULTS: usize = 64;
/// The code of a statement that its client, or its deadline, stopped.
const CANCELLED: &str = "000604";
/// Two days, as the service limits every statement.
const LONGEST_STATEMENT: u32 = 172_800;

/// The body of a query request, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    pub(crate) sql_text: String,
    #[serde(default)]
    pub(crate) async_exec: bool,
    #[serde(default)]
    pub(crate) describe_only: Option<bool>,
    #[serde(default)]
    pub(crate) bindings: Option<Bindings>,
    /// `@stage/folder` whose files hold the bindings, where there were too many for the request.
    #[serde(default)]
    pub(crate) bind_stage: Option<String>,
    /// Whether the `Accept` header rules out Arrow.
    #[serde(skip)]
    pub(crate) only_json: bool,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Value>>,
}

impl Body {
    /// Session parameters for this statement alone.
    pub(crate) fn parameters(&self) -> &BTreeMap<String, Value> {
        static NONE: BTreeMap<String, Value> = BTreeMap::new();
        self.parameters.as_ref().unwrap_or(&NONE)
    }
}

/// How a statement ended.
#[derive(Clone)]
struct Done {
    reply: Bytes,
    refusal: Option<Refusal>,
}

/// One statement.
pub(crate) struct Query {
    pub(crate) id: String,
    sql: String,
    started: Instant,
    done: watch::Sender<Option<Done>>,
    cancel: CancellationToken,
}

/// A session's statements.
#[derive(Default)]
pub(crate) struct Queries {
    by_request: HashMap<String, Arc<Query>>,
    by_id: HashMap<String, Arc<Query>>,
    order: VecDeque<(String, String)>,
}

impl Queries {
    fn insert(&mut self, request_id: &str, query: Arc<Query>) {
        self.order.push_back((request_id.to_owned(), query.id.clone()));
        self.by_id.insert(query.id.clone(), Arc::clone(&query));
        self.by_request.insert(request_id.to_owned(), query);
        while self.order.len() > KEPT_RESULTS {
            let Some((request, id)) = self.order.pop_front() else { break };
            if self.by_id.remove(&id).is_some_and(|old| {
                self.by_request.get(&request).is_some_and(|current| Arc::ptr_eq(current, &old))
            }) {
                self.by_request.remove(&request);
            }
        }
    }

    /// Forgets all results.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// `POST /queries/v1/query-request`.
pub(crate) async fn submit(
    server: &Arc<Shared>,
    session: Arc<Session>,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
    body: &[u8],
) -> Outcome {
    let Ok(mut body) = serde_json::from_slice::<Body>(body) else {
        let refusal = Refusal::new("390400", "22000", "The query request's body is not readable.");
        return Ok(http::json(&reply::refusal(&refusal)));
    };
    // Drivers that want text whatever the session says ask for plain JSON.
    body.only_json = headers.get(ACCEPT).is_some_and(|value| value.as_bytes() == b"application/json");
    let canonical = lexer::canonical(&body.sql_text);
    let (mut cut, mut cut_now) = (false, false);
    for effect in server.faults.on_statement(&canonical) {
        match effect {
            Effect::CutBefore => return Err(Cut),
            Effect::CutAfter => cut = true,
            Effect::Delay(time) => tokio::time::sleep(time).await,
            Effect::Unavailable => {
                return Ok(http::plain(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"));
            }
            Effect::Forbidden => return Ok(http::plain(StatusCode::FORBIDDEN, "Forbidden")),
            Effect::TokenExpired => return Ok(http::json(&reply::refusal(&expired()))),
            Effect::Refused(code) => return Ok(http::json(&reply::refusal(&Refusal::injected(code)))),
            Effect::CutDuring => cut_now = true,
            Effect::LockTimeout => return Ok(http::json(&lock_timeout(server, &session).await)),
            Effect::RunTwice => {}
        }
    }
    let request_id = query.get("requestId").cloned().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let detached = body.async_exec;
    let statement = start_or_join(server, &session, &request_id, body, &canonical);
    if cut_now {
        return Err(Cut);
    }
    if cut {
        finished(&statement).await;
        return Err(Cut);
    }
    if detached {
        return Ok(http::json(&in_progress("333334", &statement.id)));
    }
    Ok(answer(server, &statement).await)
}

/// What a statement is told that has waited too long for a lock.
async fn lock_timeout(server: &Shared, session: &Session) -> Value {
    let mut sql = session.sql.lock().await;
    let abort = sql.parameter("TRANSACTION_ABORT_ON_ERROR").is_some_and(|on| on.eq_ignore_ascii_case("true"));
    if abort && sql.in_transaction() {
        sql.rollback();
        server.history.rolled_back(session.id, server.config.load_history);
    }
    let message = "A statement has locked a table in another transaction and this lock has not yet been released.\nYour \
                   statement was aborted because it waited longer than LOCK_TIMEOUT for the lock.";
    reply::statement_refusal(&Refusal::new("000625", "57014", message), &uuid::Uuid::new_v4().to_string())
}

/// The statement that this requestId began, or a new one.
fn start_or_join(
    server: &Arc<Shared>,
    session: &Arc<Session>,
    request_id: &str,
    body: Body,
    canonical: &str,
) -> Arc<Query> {
    let mut queries = lock(&session.queries);
    if let Some(known) = queries.by_request.get(request_id) {
        let running = known.done.borrow().is_none();
        if !(running && server.faults.run_twice(canonical)) {
            server.stats.repeats();
            return Arc::clone(known);
        }
    }
    let statement = Arc::new(Query {
        id: uuid::Uuid::new_v4().to_string(),
        sql: body.sql_text.clone(),
        started: Instant::now(),
        done: watch::Sender::new(None),
        cancel: session.closed.child_token(),
    });
    queries.insert(request_id, Arc::clone(&statement));
    drop(queries);
    server.stats.statements();
    session.running.fetch_add(1, Ordering::Relaxed);
    let work = {
        let (server, session, statement) = (Arc::clone(server), Arc::clone(session), Arc::clone(&statement));
        let runtime = Handle::current();
        move || {
            let _finish = Finish { session: &session, statement: &statement };
            runtime.block_on(execute(&server, &session, &statement, &body));
        }
    };
    // The evaluator computes for long stretches, so a statement has a thread of its own.
    server.tasks.spawn_blocking(work);
    statement
}

/// Whatever happens to the thread, the statement ends and its client is told.
struct Finish<'a> {
    session: &'a Session,
    statement: &'a Query,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.session.running.fetch_sub(1, Ordering::Relaxed);
        self.session.touch();
        self.statement.done.send_if_modified(|done| {
            let refusal = Refusal::new("300002", "XX000", "Processing aborted by error 300002.");
            let body = reply::statement_refusal(&refusal, &self.statement.id).to_string();
            done.is_none() && {
                *done = Some(Done { reply: body.into(), refusal: Some(refusal) });
                true
            }
        });
    }
}

async fn execute(server: &Arc<Shared>, session: &Session, statement: &Query, body: &Body) {
    let work = async {
        let mut sql = session.sql.lock().await;
        let limit = parameters::of_statement("STATEMENT_TIMEOUT_IN_SECONDS", body.parameters(), &sql)
            .and_then(|text| text.parse::<u32>().ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(LONGEST_STATEMENT);
        let life = Duration::from_secs(u64::from(limit));
        let deadline = Instant::now() + life;
        let (cancel, shutdown) = (statement.cancel.clone(), server.config.shutdown.clone());
        sql.set_stop(Arc::new(move || {
            cancel.is_cancelled() || shutdown.is_cancelled() || Instant::now() >= deadline
        }));
        let mut run = Run { server, session, sql: &mut sql, query_id: &statement.id };
        let outcome = tokio::time::timeout(life, run.request(body)).await;
        match outcome {
            Ok(Err(refusal)) if refusal.code == CANCELLED && Instant::now() >= deadline => Err(late(limit)),
            Ok(outcome) => outcome,
            Err(_) => Err(late(limit)),
        }
    };
    let outcome = if let Some(id) = run::cancel_query(&body.sql_text) {
        // It does not wait for the session's other statements, one of which it may be about.
        let mut spare = keyferry_sql::Session::new(&server.config.database, session.hook.identity());
        Run { server, session, sql: &mut spare, query_id: &statement.id }.cancel(&id)
    } else {
        tokio::select! {
            biased;
            () = statement.cancel.cancelled() => Err(Refusal::cancelled()),
            () = server.config.shutdown.cancelled() => Err(Refusal::cancelled()),
            outcome = work => outcome,
        }
    };
    let done = match outcome {
        Ok(reply) => Done { reply: reply.into(), refusal: None },
        Err(refusal) => {
            tracing::debug!(code = refusal.code, message = refusal.message, "statement refused");
            let reply = reply::statement_refusal(&refusal, &statement.id).to_string().into();
            Done { reply, refusal: Some(refusal) }
        }
    };
    statement.done.send_replace(Some(done));
}

/// 000630: the statement took longer than it may.
fn late(seconds: u32) -> Refusal {
    Refusal::new(
        "000630",
        "57014",
        format!(
            "Statement reached its statement or warehouse timeout of {seconds} second(s) and was canceled."
        ),
    )
}

/// Keeps the result of one of several statements, which clients fetch by its id.
pub(crate) fn remember(session: &Session, id: &str, sql: &str, reply: Vec<u8>) {
    let statement = Arc::new(Query {
        id: id.to_owned(),
        sql: sql.to_owned(),
        started: Instant::now(),
        done: watch::Sender::new(Some(Done { reply: reply.into(), refusal: None })),
        cancel: session.closed.child_token(),
    });
    lock(&session.queries).insert(id, statement);
}

/// Waits until a statement has ended.
async fn finished(statement: &Query) -> Option<Done> {
    let mut done = statement.done.subscribe();
    done.wait_for(Option::is_some).await.ok().and_then(|done| done.clone())
}

/// The reply, if the statement ends while the request is held; otherwise "in progress".
async fn answer(server: &Shared, statement: &Query) -> hyper::Response<http_body_util::Full<Bytes>> {
    let polling = server.config.polling;
    let ready = async {
        let done = finished(statement).await;
        tokio::time::sleep(polling.ready_after.saturating_sub(statement.started.elapsed())).await;
        done
    };
    if let Ok(Some(done)) = tokio::time::timeout(polling.hold, ready).await {
        http::raw_json(done.reply)
    } else {
        server.stats.polls();
        http::json(&in_progress("333333", &statement.id))
    }
}

fn in_progress(code: &str, id: &str) -> Value {
    json!({
        "data": {
            "getResultUrl": format!("/queries/{id}/result"), "queryId": id, "queryAbortsAfterSecs": 300,
            "progressDesc": null,
        },
        "code": code, "message": "Query execution in progress.", "success": true, "headers": null,
    })
}

/// `GET /queries/{id}/result`.
pub(crate) async fn result(server: &Shared, session: &Session, id: &str) -> Outcome {
    let known = lock(&session.queries).by_id.get(id).cloned().or_else(|| of_same_user(server, session, id));
    if let Some(statement) = known {
        Ok(answer(server, &statement).await)
    } else {
        let refusal = Refusal::new("000709", "02000", format!("Statement {id} not found"));
        Ok(http::json(&reply::statement_refusal(&refusal, id)))
    }
}

/// A statement of another session of the same user.
fn of_same_user(server: &Shared, session: &Session, id: &str) -> Option<Arc<Query>> {
    let others = server.sessions.all();
    others
        .iter()
        .filter(|other| other.user == session.user && other.id != session.id)
        .find_map(|other| lock(&other.queries).by_id.get(id).cloned())
}

/// The reply that an earlier statement got, for `RESULT_SCAN`.
pub(crate) fn earlier_reply(server: &Shared, session: &Session, id: &str) -> Result<Bytes, Refusal> {
    let known = lock(&session.queries).by_id.get(id).cloned().or_else(|| of_same_user(server, session, id));
    let done = known.and_then(|statement| statement.done.borrow().clone());
    done.filter(|done| done.refusal.is_none())
        .map(|done| done.reply)
        .ok_or_else(|| Refusal::new("000709", "02000", format!("Statement {id} not found")))
}

/// `POST /queries/v1/abort-request`: by the request's id.
pub(crate) fn abort(server: &Shared, session: &Session, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let request_id = body.get("requestId").and_then(Value::as_str).unwrap_or_default();
    let known = lock(&session.queries).by_request.get(request_id).cloned();
    abort_one(server, known)
}

/// `POST /queries/{id}/abort-request`.
pub(crate) fn abort_by_id(server: &Shared, session: &Session, id: &str) -> Value {
    let known = lock(&session.queries).by_id.get(id).cloned().or_else(|| of_same_user(server, session, id));
    abort_one(server, known)
}

/// `SYSTEM$CANCEL_QUERY`: the sentence that it answers.
pub(crate) fn cancel(server: &Shared, session: &Session, id: &str) -> Result<String, Refusal> {
    let known = lock(&session.queries).by_id.get(id).cloned().or_else(|| of_same_user(server, session, id));
    let statement =
        known.ok_or_else(|| Refusal::new("000709", "02000", format!("Statement {id} not found")))?;
    if statement.done.borrow().is_some() {
        return Ok("Identified SQL statement is not currently executing.".to_owned());
    }
    server.stats.aborts();
    statement.cancel.cancel();
    Ok(format!("query [{id}] terminated."))
}

fn abort_one(server: &Shared, known: Option<Arc<Query>>) -> Value {
    if let Some(statement) = known.filter(|statement| statement.done.borrow().is_none()) {
        server.stats.aborts();
        statement.cancel.cancel();
        reply::success(&Value::Null)
    } else {
        let refusal = Refusal::new("000605", "57014", "Identified SQL statement is not currently executing.");
        reply::refusal(&refusal)
    }
}

/// `GET /monitoring/queries/{id}`.
pub(crate) fn monitor(server: &Shared, session: &Session, id: &str) -> Value {
    let known = lock(&session.queries).by_id.get(id).cloned().or_else(|| of_same_user(server, session, id));
    let queries: Vec<Value> = known
        .iter()
        .map(|statement| {
            let done = statement.done.borrow().clone();
            let ready = statement.started.elapsed() >= server.config.polling.ready_after;
            let (status, refusal) = match done {
                Some(Done { refusal: Some(refusal), .. }) => ("FAILED_WITH_ERROR", Some(refusal)),
                Some(_) if ready => ("SUCCESS", None),
                _ => ("RUNNING", None),
            };
            json!({
                "id": id, "status": status, "state": status, "sqlText": statement.sql, "sessionId": session.id,
                "errorCode": refusal.as_ref().map(|refusal| refusal.code.clone()),
                "errorMessage": refusal.map(|refusal| refusal.message),
            })
        })
        .collect();
    reply::success(&json!({ "queries": queries }))
}
