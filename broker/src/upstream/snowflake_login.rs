//! Snowflake's login service: session token out, master token kept, both renewed together.

mod verdict;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyferry_proto::grant::Grant;
use reqwest::{Method, RequestBuilder, header::HeaderValue};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::{Zeroize as _, Zeroizing};

use self::verdict::{data, odd, verdict};
use super::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    http::{Answer, Http, wiped_body, wiped_header},
    secret::Secret,
};

/// Session tokens live an hour; longer is cut, much longer is not believed.
const LONGEST_LIFE: Duration = Duration::from_hours(24);
const ABSURD_LIFE: i64 = 366 * 24 * 3600;
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// One account's login service.
pub(super) struct LoginService {
    http: Http,
    base: Url,
    account: String,
}

/// One Snowflake session. The master token behind it stays in here.
pub struct SnowflakeLogin {
    service: Arc<LoginService>,
    grant: Grant,
    master: Secret,
    session_id: String,
    role: String,
    warehouse: String,
}

/// What a login is about.
pub(super) struct Wanted<'a> {
    pub(super) user: &'a str,
    /// What messages call the user: a name that is kept in Vault is not repeated.
    pub(super) named: Option<String>,
    pub(super) role: &'a str,
    pub(super) warehouse: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    token: Secret,
    #[serde(alias = "validityInSecondsST")]
    validity_in_seconds: i64,
    master_token: Secret,
    session_id: SessionId,
    #[serde(default)]
    session_info: SessionInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renewed {
    session_token: Secret,
    #[serde(rename = "validityInSecondsST")]
    validity_in_seconds: i64,
    master_token: Secret,
}

/// A number in Snowflake's answers, a text in some emulations of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum SessionId {
    Number(u64),
    Text(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionInfo {
    role_name: Option<String>,
    warehouse_name: Option<String>,
}

impl LoginService {
    pub(super) fn new(url: &str, account: &str, ca_file: Option<&Path>) -> Result<Self, UpstreamError> {
        let base = Url::parse(url).map_err(|_| {
            let advice = "correct `url` or `account` of the grant";
            UpstreamError::new(
                UpstreamName::Snowflake,
                ErrorClass::Configuration,
                "reading the configuration",
                "the account's address is no address",
                advice,
            )
        })?;
        let http = Http::new(UpstreamName::Snowflake, ca_file)?;
        Ok(Self { http, base, account: account.to_owned() })
    }

    /// Logs in with an OAuth access token.
    pub(super) async fn open(
        self: &Arc<Self>,
        bearer: &Grant,
        wanted: Wanted<'_>,
    ) -> Result<SnowflakeLogin, UpstreamError> {
        let attempted =
            format!("logging in to {} as {}", self.account, wanted.named.as_deref().unwrap_or(wanted.user));
        let token = std::str::from_utf8(bearer.value())
            .map_err(|_| odd(&attempted, "a bearer token that is no text"))?;
        let body = json!({ "data": {
            "CLIENT_APP_ID": "Keyferry",
            "CLIENT_APP_VERSION": env!("CARGO_PKG_VERSION"),
            "ACCOUNT_NAME": self.account,
            "LOGIN_NAME": wanted.user,
            "AUTHENTICATOR": "OAUTH",
            "TOKEN": token,
            "SESSION_PARAMETERS": { "CLIENT_SESSION_KEEP_ALIVE": false },
            "CLIENT_ENVIRONMENT": { "APPLICATION": "Keyferry", "OS": std::env::consts::OS },
            "CLIENT_CAPABILITIES": { "SMK_ID_AS_STRING": true },
        }});
        let request = self
            .post("session/v1/login-request", HeaderValue::from_static("Snowflake Token=\"None\""))?
            .query(&[("warehouse", wanted.warehouse), ("roleName", wanted.role)]);
        let asked_at = SystemTime::now();
        let answer = self.send(&attempted, request, body, token.len()).await?;
        let reply: LoggedIn = data(&attempted, &answer)?;
        let login = SnowflakeLogin {
            service: Arc::clone(self),
            grant: session_grant(&attempted, &reply.token, reply.validity_in_seconds, asked_at)?,
            master: reply.master_token,
            session_id: match reply.session_id {
                SessionId::Number(number) => number.to_string(),
                SessionId::Text(text) if text.len() <= 32 && text.bytes().all(|b| b.is_ascii_digit()) => text,
                SessionId::Text(_) => return Err(odd(&attempted, "a session id that is no number")),
            },
            role: reply.session_info.role_name.unwrap_or_default(),
            warehouse: reply.session_info.warehouse_name.unwrap_or_default(),
        };
        login.insist_on(&attempted, &wanted).await
    }

    fn post(&self, path: &str, authorization: HeaderValue) -> Result<RequestBuilder, UpstreamError> {
        let url = self.base.join(path).map_err(|_| odd("calling Snowflake", "no address"))?;
        let id = || uuid::Uuid::new_v4().to_string();
        Ok(self
            .http
            .request(Method::POST, url)
            .query(&[("requestId", id()), ("request_guid", id())])
            .header("accept", "application/snowflake")
            .header("authorization", authorization))
    }

    /// Sends a body that holds a token, and wipes it.
    async fn send(
        &self,
        attempted: &str,
        request: RequestBuilder,
        mut body: serde_json::Value,
        token_length: usize,
    ) -> Result<Answer, UpstreamError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024 + token_length));
        let written = serde_json::to_writer(&mut *bytes, &body);
        wipe(&mut body);
        written.map_err(|_| odd(attempted, "a request that cannot be written"))?;
        let request = request.header("content-type", "application/json").body(wiped_body(bytes));
        let answer = self.http.send(attempted, request).await?;
        verdict(attempted, &answer)?;
        Ok(answer)
    }
}

impl SnowflakeLogin {
    /// The session token that holds now.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The session's id, as `CURRENT_SESSION()` prints it.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// The role that Snowflake says is in use.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The warehouse that Snowflake says is in use.
    pub fn warehouse(&self) -> &str {
        &self.warehouse
    }

    /// Trades session and master token for new ones. When it fails the old ones are still held.
    ///
    /// An error of the class `expired` says that the session is gone: open a new one.
    pub async fn renew(&mut self) -> Result<(), UpstreamError> {
        let attempted = format!("renewing session {} of {}", self.session_id, self.service.account);
        let old = self.session_token()?;
        let body = json!({ "oldSessionToken": old.expose(), "requestType": "RENEW" });
        let request = self.service.post("session/token-request", authorization(&self.master, &attempted)?)?;
        let asked_at = SystemTime::now();
        let length = old.expose().len();
        let answer = self.service.send(&attempted, request, body, length).await?;
        let reply: Renewed = data(&attempted, &answer)?;
        self.grant = session_grant(&attempted, &reply.session_token, reply.validity_in_seconds, asked_at)?;
        self.master = reply.master_token;
        Ok(())
    }

    /// Ends the session at Snowflake, which also rolls back its open transaction. Best effort, 5 seconds.
    pub async fn close(self) {
        let attempted = format!("closing session {} of {}", self.session_id, self.service.account);
        let outcome = tokio::time::timeout(CLOSE_DEADLINE, async {
            let token = self.session_token()?;
            let request = self.service.post("session", authorization(&token, &attempted)?)?;
            self.service.send(&attempted, request.query(&[("delete", "true")]), json!({}), 0).await
        })
        .await;
        match outcome {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the session dies of idleness"),
            Err(_) => tracing::warn!("{attempted} took too long; the session dies of idleness"),
        }
    }

    fn session_token(&self) -> Result<Secret, UpstreamError> {
        // Made from a Secret's text, so it is text.
        Ok(Secret::new(String::from_utf8_lossy(self.grant.value()).into_owned())?)
    }

    /// A login with a role that the user may not use can succeed with another one: that is no success here.
    async fn insist_on(self, attempted: &str, wanted: &Wanted<'_>) -> Result<Self, UpstreamError> {
        let refuse = |what: &str, wanted: &str, advice: &str| {
            let found = format!("Snowflake did not take the {what} {wanted}");
            UpstreamError::new(UpstreamName::Snowflake, ErrorClass::Denied, attempted, found, advice)
        };
        let error = if !is_name(&self.role) || !is_name(&self.warehouse) {
            odd(attempted, "a role or warehouse whose name is none")
        } else if !same_name(wanted.role, &self.role) {
            refuse("role", wanted.role, "grant it to the user, and allow it in the security integration")
        } else if !same_name(wanted.warehouse, &self.warehouse) {
            refuse("warehouse", wanted.warehouse, "make it, and grant USAGE on it to the role")
        } else {
            return Ok(self);
        };
        self.close().await;
        Err(error)
    }
}

/// Snowflake's identifiers have 255 characters at most, and quotes around them.
fn is_name(text: &str) -> bool {
    text.chars().take(258).count() <= 257 && !text.chars().any(char::is_control)
}

/// Names compare as Snowflake reads them: without quotes, in any case.
fn same_name(wanted: &str, found: &str) -> bool {
    let bare = |name: &str| name.trim_matches('"').to_owned();
    wanted.is_empty() || bare(wanted).eq_ignore_ascii_case(&bare(found))
}

fn authorization(token: &Secret, attempted: &str) -> Result<HeaderValue, UpstreamError> {
    let mut text = Zeroizing::new(Vec::with_capacity(token.expose().len() + 20));
    for part in ["Snowflake Token=\"", token.expose(), "\""] {
        text.extend_from_slice(part.as_bytes());
    }
    wiped_header(text).ok_or_else(|| odd(attempted, "a token that no header could carry"))
}

fn session_grant(
    attempted: &str,
    token: &Secret,
    seconds: i64,
    asked_at: SystemTime,
) -> Result<Grant, UpstreamError> {
    if seconds <= 0 || seconds > ABSURD_LIFE {
        return Err(odd(attempted, "a session token with an impossible life"));
    }
    let text = token.expose();
    if text.is_empty() || text.len() > 32 * 1024 || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        return Err(odd(attempted, "a session token that no header could carry"));
    }
    let life = Duration::from_secs(seconds.unsigned_abs()).min(LONGEST_LIFE);
    let generation = uuid::Uuid::new_v4().simple().to_string();
    Ok(Grant::new(text.as_bytes().to_vec(), asked_at + life, generation))
}

/// Wipes every text of a request's body.
fn wipe(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => text.zeroize(),
        serde_json::Value::Array(list) => list.iter_mut().for_each(wipe),
        serde_json::Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
