//! Which endpoint answers which path of the service.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use hyper::{Method, Request, StatusCode, body::Incoming, http::request::Parts};
use serde_json::{Value, json};

use crate::{
    faults::Effect,
    http::{self, Cut, Outcome, REQUEST_LIMIT},
    login, query,
    reply::{self, Refusal},
    server::Shared,
    session::{Session, lock},
};

/// Answers one request to the service.
pub(crate) async fn serve(server: Arc<Shared>, request: Request<Incoming>) -> Outcome {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let mut cut_after = false;
    let mut effects = server.faults.on_path(&path);
    if path.starts_with("/queries/") && path.ends_with("/result") {
        effects.extend(server.faults.on_poll());
    }
    for effect in effects {
        match effect {
            Effect::CutBefore => return Err(Cut),
            Effect::CutAfter => cut_after = true,
            Effect::Delay(time) => tokio::time::sleep(time).await,
            Effect::Unavailable => {
                return Ok(http::plain(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"));
            }
            Effect::Forbidden => return Ok(http::plain(StatusCode::FORBIDDEN, "Forbidden")),
            Effect::TokenExpired => return Ok(http::json(&reply::refusal(&expired()))),
            Effect::Refused(code) => return Ok(http::json(&reply::refusal(&Refusal::injected(code)))),
            // These are of statements alone.
            Effect::CutDuring | Effect::LockTimeout | Effect::RunTwice => {}
        }
    }
    let body = match http::read(body, REQUEST_LIMIT).await {
        Ok(body) => body,
        Err(error) => return Ok(http::plain(StatusCode::BAD_REQUEST, error.to_string())),
    };
    let body = match http::decoded(&parts.headers, body, REQUEST_LIMIT) {
        Ok(body) => body,
        Err(error) => return Ok(http::plain(StatusCode::BAD_REQUEST, error.to_string())),
    };
    let reply = answer(&server, &parts, &path, body).await?;
    if cut_after { Err(Cut) } else { Ok(reply) }
}

/// What a request with an expired session token is told.
pub(crate) fn expired() -> Refusal {
    Refusal::new("390112", "08001", "Your session has expired. Please login again.")
}

async fn answer(server: &Arc<Shared>, parts: &Parts, path: &str, body: Bytes) -> Outcome {
    let query: BTreeMap<String, String> = parts
        .uri
        .query()
        .map(|text| url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
        .unwrap_or_default();
    // Some drivers join paths with two slashes.
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::POST, ["session", "v1", "login-request"]) => {
            let answer = login::login(server, &query, &body).await;
            match &answer {
                Ok(_) => server.stats.logins(),
                Err(refusal) => {
                    server.stats.logins_refused();
                    tracing::info!(code = refusal.code, message = refusal.message, "login refused");
                }
            }
            Ok(http::json(&envelope(answer)))
        }
        (&Method::POST, ["session", "token-request"]) => {
            Ok(http::json(&envelope(renew(server, parts, &body))))
        }
        (&Method::POST, ["telemetry", "send" | "v1"]) => {
            Ok(http::json(&reply::success(&json!("Log Received"))))
        }
        (&Method::POST, ["session"]) if query.get("delete").is_some_and(|value| value == "true") => {
            Ok(http::json(&envelope(close(server, parts).await)))
        }
        (&Method::POST, ["session", "heartbeat"]) => {
            Ok(http::json(&envelope(session_of(server, parts).map(|_| json!(null)))))
        }
        (&Method::POST, ["queries", "v1", "query-request"]) => match session_of(server, parts) {
            Ok(session) => query::submit(server, session, &query, &parts.headers, &body).await,
            Err(refusal) => Ok(http::json(&reply::refusal(&refusal))),
        },
        (&Method::POST, ["queries", "v1", "abort-request"]) => match session_of(server, parts) {
            Ok(session) => Ok(http::json(&query::abort(server, &session, &body))),
            Err(refusal) => Ok(http::json(&reply::refusal(&refusal))),
        },
        (&Method::POST, ["queries", id, "abort-request"]) => match session_of(server, parts) {
            Ok(session) => Ok(http::json(&query::abort_by_id(server, &session, id))),
            Err(refusal) => Ok(http::json(&reply::refusal(&refusal))),
        },
        (&Method::GET, ["queries", id, "result"]) => match session_of(server, parts) {
            Ok(session) => query::result(server, &session, id).await,
            Err(refusal) => Ok(http::json(&reply::refusal(&refusal))),
        },
        (&Method::GET, ["monitoring", "queries", id]) => match session_of(server, parts) {
            Ok(session) => Ok(http::json(&query::monitor(server, &session, id))),
            Err(refusal) => Ok(http::json(&reply::refusal(&refusal))),
        },
        _ => {
            tracing::info!(method = %parts.method, path, "no such endpoint");
            Ok(http::plain(StatusCode::NOT_FOUND, "no such endpoint"))
        }
    }
}

fn envelope(answer: Result<Value, Refusal>) -> Value {
    match answer {
        Ok(data) => reply::success(&data),
        Err(refusal) => reply::refusal(&refusal),
    }
}

/// The token of `Authorization: Snowflake Token="…"`.
fn token_of(parts: &Parts) -> &str {
    parts
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("Snowflake Token=\""))
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default()
}

fn session_of(server: &Shared, parts: &Parts) -> Result<Arc<Session>, Refusal> {
    server.sessions.find(token_of(parts)).inspect_err(|refusal| {
        if refusal.code == "390112" {
            server.stats.expired_tokens();
        }
    })
}

fn renew(server: &Shared, parts: &Parts, body: &[u8]) -> Result<Value, Refusal> {
    let unreadable = || Refusal::new("390400", "08001", "The token request's body is not readable.");
    let body: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let field = |name: &str| body.get(name).and_then(Value::as_str).ok_or_else(unreadable);
    if !field("requestType")?.eq_ignore_ascii_case("RENEW") {
        return Err(Refusal::new("390400", "08001", "Only requestType RENEW is carried."));
    }
    let tokens = server.sessions.renew(token_of(parts), field("oldSessionToken")?)?;
    let session_id = server.sessions.find(&tokens.session).map(|session| session.id)?;
    server.stats.renewals();
    let (session_seconds, master_seconds) =
        (server.config.session_ttl.as_secs(), server.config.master_ttl.as_secs());
    Ok(json!({
        "sessionToken": tokens.session, "masterToken": tokens.master, "sessionId": session_id,
        "validityInSecondsST": session_seconds, "validityInSecondsMT": master_seconds,
        "validityInSeconds": session_seconds, "masterValidityInSeconds": master_seconds,
    }))
}

/// Ends a session: its statements are cancelled and its open transaction is rolled back before the reply.
async fn close(server: &Shared, parts: &Parts) -> Result<Value, Refusal> {
    let session = session_of(server, parts)?;
    session.close();
    server.stats.sessions_closed();
    session.sql.lock().await.rollback();
    server.history.rolled_back(session.id, server.config.load_history);
    lock(&session.queries).clear();
    server.stages.drop_temporary(session.id);
    Ok(Value::Null)
}
