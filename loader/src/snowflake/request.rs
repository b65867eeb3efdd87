//! One statement from its first byte to its answer: send, poll, renew the token, ask again, or say what is unknown.

use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{
    Session, SnowflakeError,
    error::abbreviated,
    http::{self, BodyError, network_reason},
    rows::LARGEST_ANSWER,
    wire::{self, Data, Reply},
};
use crate::grants::TokenState;

/// One HTTP exchange: Snowflake itself answers within about 45 s, if only to say "still running".
const EXCHANGE_DEADLINE: Duration = Duration::from_mins(2);
const ABORT_DEADLINE: Duration = Duration::from_secs(5);
/// A token that is refused as soon as it is issued will not get better.
const MOST_RENEWALS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether a statement whose reply was lost is asked for again, under the same request id, in the same session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// Snowflake then recognises the request id.
    WithinSession,
    /// The first lost reply leaves the outcome unknown.
    Never,
}

/// How one HTTP exchange ended.
enum Exchange {
    Reply(Box<Reply>),
    /// Certainly not executed.
    NotSent(String),
    /// Perhaps executed.
    Lost(String),
    /// Certainly answered, and not by a statement's outcome.
    Rejected(reqwest::StatusCode),
    /// Executed, with an answer that is not accepted; asking again would bring the same.
    TooLong(String),
}

/// The state of one statement.
struct Statement<'a> {
    sql: &'a str,
    resend: Resend,
    request_id: Uuid,
    deadline: Instant,
    /// Since when nothing has been heard from Snowflake.
    silent_since: Option<Instant>,
    sent: u32,
    renewals: u32,
    /// A reply was lost, or Snowflake said that it runs: from here on only an answer tells what became of it.
    may_have_run: bool,
    /// Snowflake has said that it runs, and where its result will be.
    result: Option<url::Url>,
    pause: Duration,
}

impl Session {
    /// Executes `sql` and returns its raw answer.
    pub(super) async fn run(&mut self, sql: &str, resend: Resend) -> Result<Data, SnowflakeError> {
        if self.poisoned {
            return Err(SnowflakeError::Poisoned { session: self.session_id().to_owned() });
        }
        self.poisoned = true;
        self.sequence += 1;
        let statement = Statement {
            sql,
            resend,
            request_id: Uuid::new_v4(),
            // Snowflake's own limit comes first; this one is for a Snowflake that does not keep it.
            deadline: Instant::now() + self.options.statement_timeout + EXCHANGE_DEADLINE,
            silent_since: None,
            sent: 0,
            renewals: 0,
            may_have_run: false,
            result: None,
            pause: FIRST_PAUSE,
        };
        let outcome = self.drive(statement).await;
        self.poisoned = matches!(&outcome, Err(error) if error.is_session_gone());
        outcome
    }

    async fn drive(&mut self, mut statement: Statement<'_>) -> Result<Data, SnowflakeError> {
        loop {
            let (token, generation) = match self.grant.current() {
                TokenState::Live(grant) => (
                    zeroize::Zeroizing::new(String::from_utf8_lossy(grant.value()).into_owned()),
                    grant.generation().to_owned(),
                ),
                TokenState::Ended(reason) => return Err(self.gone(&statement, reason)),
            };
            if Instant::now() >= statement.deadline {
                self.abort(&statement, &token).await;
                return Err(unknown(&statement, "it ran longer than the configured time"));
            }
            match self.exchange(&mut statement, &token).await {
                Exchange::Reply(reply) => {
                    statement.silent_since = None;
                    if let Some(outcome) = self.judge(&mut statement, *reply, &generation).await {
                        return outcome;
                    }
                }
                Exchange::NotSent(reason) => {
                    if self.silent_too_long(&mut statement) {
                        return Err(if statement.may_have_run {
                            unknown(&statement, reason)
                        } else {
                            self.unreachable(&statement, reason)
                        });
                    }
                }
                Exchange::Lost(reason) => {
                    // Asking for a result again is harmless; sending the statement again is a decision.
                    statement.may_have_run = true;
                    let final_loss = statement.result.is_none() && statement.resend == Resend::Never;
                    if final_loss || self.silent_too_long(&mut statement) {
                        return Err(unknown(&statement, reason));
                    }
                    tracing::warn!(attempted = %abbreviated(statement.sql), %reason, "reply lost, asking again");
                }
                Exchange::TooLong(found) => {
                    return Err(SnowflakeError::Answer { attempted: abbreviated(statement.sql), found });
                }
                Exchange::Rejected(status) if statement.may_have_run => {
                    return Err(unknown(&statement, format!("HTTP {status}")));
                }
                Exchange::Rejected(status) => {
                    return Err(SnowflakeError::Answer {
                        attempted: abbreviated(statement.sql),
                        found: format!("HTTP {status}; check `account` and `url` of the broker's grant"),
                    });
                }
            }
            sleep(statement.next_pause()).await;
        }
    }

    /// What a reply means: `Some` ends the statement, `None` goes on.
    async fn judge(
        &mut self,
        statement: &mut Statement<'_>,
        reply: Reply,
        generation: &str,
    ) -> Option<Result<Data, SnowflakeError>> {
        let code = reply.code.unwrap_or_default();
        let attempted = || abbreviated(statement.sql);
        if wire::IN_PROGRESS.contains(&code.as_str()) {
            statement.may_have_run = true;
            let path = reply.data.and_then(|data| data.get_result_url);
            return match path.map(|path| self.result_url(&path)) {
                Some(Ok(url)) => {
                    statement.result = Some(url);
                    None
                }
                Some(Err(found)) => {
                    Some(Err(SnowflakeError::Unknown { attempted: attempted(), reason: found }))
                }
                // A poll's reply may leave the address out: the former one stands.
                None if statement.result.is_some() => None,
                None => {
                    Some(Err(unknown(statement, "it runs, but Snowflake says not where its result will be")))
                }
            };
        }
        if reply.success {
            return Some(Ok(reply.data.unwrap_or_default()));
        }
        if code == wire::SESSION_TOKEN_EXPIRED {
            statement.renewals += 1;
            if statement.renewals > MOST_RENEWALS {
                let reason = format!("Snowflake refused {MOST_RENEWALS} renewed tokens in a row ({code})");
                return Some(Err(self.gone(statement, reason)));
            }
            let patience = self.options.patience;
            return match self.grant.replacement(generation, &code, patience).await {
                Ok(()) => {
                    statement.pause = FIRST_PAUSE;
                    None
                }
                Err(reason) => Some(Err(self.gone(statement, reason))),
            };
        }
        if wire::SESSION_GONE.contains(&code.as_str()) {
            return Some(Err(self.gone(statement, format!("Snowflake says {code}"))));
        }
        Some(Err(SnowflakeError::Refused {
            attempted: attempted(),
            code,
            message: wire::one_line(reply.message.as_deref()),
            query_id: reply.data.and_then(|data| data.query_id).unwrap_or_default(),
        }))
    }

    /// Sends the statement, or asks for its result once Snowflake has said where that will be.
    async fn exchange(&self, statement: &mut Statement<'_>, token: &str) -> Exchange {
        let Some(authorization) = authorization(token) else {
            return Exchange::NotSent("the broker's token is no header value".to_owned());
        };
        let request = match &statement.result {
            Some(url) => self.clients.statements.get(url.clone()),
            None => self.clients.statements.post(self.query_url(statement)).json(&self.query_body(statement)),
        };
        let response = request
            .header(reqwest::header::AUTHORIZATION, authorization)
            .header(reqwest::header::ACCEPT, "application/json")
            .timeout(EXCHANGE_DEADLINE)
            .send()
            .await;
        let response = match response {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Exchange::NotSent(network_reason(&error));
            }
            Err(error) => {
                statement.sent += 1;
                return Exchange::Lost(network_reason(&error));
            }
        };
        statement.sent += 1;
        let status = response.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            return Exchange::Lost(format!("HTTP {status}"));
        }
        if !status.is_success() {
            return Exchange::Rejected(status);
        }
        match http::body(response, LARGEST_ANSWER).await {
            Ok(body) => match serde_json::from_slice::<Reply>(&body) {
                Ok(reply) => Exchange::Reply(Box::new(reply)),
                Err(error) => Exchange::Lost(format!(
                    "an answer that is not as documented: {:?} at byte {}",
                    error.classify(),
                    error.column()
                )),
            },
            Err(error @ BodyError::TooLong(_)) => Exchange::TooLong(error.to_string()),
            Err(error) => Exchange::Lost(error.to_string()),
        }
    }

    fn query_url(&self, statement: &Statement<'_>) -> url::Url {
        let mut url = self.base.clone();
        url.set_path("/queries/v1/query-request");
        let mut query = url.query_pairs_mut();
        query
            .clear()
            .append_pair("requestId", &statement.request_id.to_string())
            .append_pair("request_guid", &Uuid::new_v4().to_string());
        if statement.sent > 0 {
            query
                .append_pair("retry", "true")
                .append_pair("retryCount", &statement.sent.to_string())
                .append_pair("clientStartTime", &milliseconds().to_string());
        }
        drop(query);
        url
    }

    fn query_body(&self, statement: &Statement<'_>) -> serde_json::Value {
        json!({
            "sqlText": statement.sql,
            "asyncExec": false,
            "sequenceId": self.sequence,
            "isInternal": false,
            "describeOnly": false,
            "querySubmissionTime": milliseconds(),
            "parameters": { "QUERY_TAG": self.options.query_tag },
        })
    }

    /// Where the result will be: a path of the host that has the token already, or nothing.
    fn result_url(&self, path: &str) -> Result<url::Url, String> {
        let url = self
            .base
            .join(path)
            .map_err(|e| format!("it runs, but its result's address is unreadable: {e}"))?;
        if url.origin() == self.base.origin() {
            Ok(url)
        } else {
            Err("it runs, but Snowflake sends us to another host for its result, which must not see the token".to_owned())
        }
    }

    /// Asks Snowflake to stop a statement that nobody waits for any more. Best effort.
    async fn abort(&self, statement: &Statement<'_>, token: &str) {
        let mut url = self.base.clone();
        url.set_path("/queries/v1/abort-request");
        url.query_pairs_mut().clear().append_pair("requestId", &Uuid::new_v4().to_string());
        let Some(authorization) = authorization(token) else { return };
        let request = self
            .clients
            .statements
            .post(url)
            .header(reqwest::header::AUTHORIZATION, authorization)
            .header(reqwest::header::ACCEPT, "application/json")
            .json(&json!({ "sqlText": statement.sql, "requestId": statement.request_id.to_string() }));
        let _ = timeout(ABORT_DEADLINE, request.send()).await;
    }

    fn silent_too_long(&self, statement: &mut Statement<'_>) -> bool {
        let since = *statement.silent_since.get_or_insert_with(Instant::now);
        since.elapsed() > self.options.patience
    }

    /// The session is over: expired if the statement was never sent, unknown if it may have run.
    fn gone(&self, statement: &Statement<'_>, reason: String) -> SnowflakeError {
        if statement.may_have_run {
            return unknown(statement, reason);
        }
        SnowflakeError::Expired {
            attempted: abbreviated(statement.sql),
            session: self.session_id().to_owned(),
            reason,
        }
    }

    fn unreachable(&self, statement: &Statement<'_>, reason: String) -> SnowflakeError {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        SnowflakeError::Unreachable {
            attempted: abbreviated(statement.sql),
            host: format!("{host}:{port}"),
            reason,
        }
    }
}

impl Statement<'_> {
    /// Doubles up to [`LONGEST_PAUSE`], with jitter so that committers do not ask in step.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

fn unknown(statement: &Statement<'_>, reason: impl Into<String>) -> SnowflakeError {
    SnowflakeError::Unknown { attempted: abbreviated(statement.sql), reason: reason.into() }
}

/// Marked as sensitive, so that no trace of the HTTP library prints it.
fn authorization(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Snowflake Token=\"{token}\"")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn milliseconds() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
