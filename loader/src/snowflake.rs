//! Statements in a Snowflake session that the broker opened.
//!
//! One [`Session`] is one Snowflake session, so one transaction at a time: each committer has its own. A statement is
//! sent with a request id of its own; what becomes of it when the reply is lost is in [`SnowflakeError`]. After an
//! unknown outcome, and after a caller that stopped waiting, the session is poisoned: it is closed, never reused.

mod error;
mod http;
#[cfg(test)]
pub(crate) mod mini;
mod request;
mod rows;
#[cfg(test)]
pub(crate) mod script;
pub(crate) mod wire;

use std::{path::PathBuf, time::Duration};

pub(crate) use self::http::HttpClients;
use self::{error::abbreviated, request::Resend, wire::Data};
pub use self::{
    error::{MissingPrivilege, SnowflakeError},
    rows::{Answer, Column},
};
use crate::{
    grants::{Broker, SessionGrant},
    model::TargetName,
    sandbox,
    stage::{StageError, StageTarget},
};

/// How a session is opened and how long its statements may take.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The broker's grant with the use `session`.
    pub grant: String,
    /// The role; empty takes the grant's first.
    pub role: String,
    /// The warehouse; empty takes the grant's first.
    pub warehouse: String,
    /// `QUERY_TAG` of every statement: pipeline, run and the configured tags.
    pub query_tag: String,
    /// PEM roots instead of the system's, for Snowflake and its stages.
    pub ca_file: Option<PathBuf>,
    /// `host:port` of stage end points outside the clouds' own domains.
    pub stage_endpoint_allow: Vec<String>,
    /// The longest that one statement may run, waiting for locks included.
    pub statement_timeout: Duration,
    /// The longest that a statement waits for a lock. More than ten minutes, so that the transaction of a dead loader
    /// is waited out (Snowflake ends it after five idle minutes once it blocks somebody).
    pub lock_timeout: Duration,
    /// How long a session token that Snowflake refused may take to be replaced, and how long an unreachable
    /// Snowflake is asked again.
    pub patience: Duration,
}

impl SessionOptions {
    /// A grant, a role and a warehouse, with the usual deadlines.
    pub fn new(grant: &str, role: &str, warehouse: &str) -> Self {
        Self {
            grant: grant.to_owned(),
            role: role.to_owned(),
            warehouse: warehouse.to_owned(),
            query_tag: "keyferry".to_owned(),
            ca_file: None,
            stage_endpoint_allow: Vec::new(),
            statement_timeout: Duration::from_hours(2),
            lock_timeout: Duration::from_mins(15),
            patience: Duration::from_mins(1),
        }
    }
}

/// What the ledger, the commit and the publication need of a session.
pub trait Statements: Send {
    /// Executes one statement. A lost reply is asked for again within this session, under the same request id; should
    /// Snowflake not know it again, the statement runs twice. For what may: reading, taking the lock, beginning,
    /// rolling back, and DDL with IF [NOT] EXISTS.
    fn execute(&mut self, sql: &str) -> impl Future<Output = Result<Answer, SnowflakeError>> + Send;

    /// Executes one statement that is sent once: a lost reply is [`SnowflakeError::Unknown`] at once. For COMMIT, COPY
    /// and every change that must not be made twice.
    fn execute_once(&mut self, sql: &str) -> impl Future<Output = Result<Answer, SnowflakeError>> + Send;

    /// The role in force, for messages.
    fn role(&self) -> &str;
}

/// One Snowflake session.
#[derive(Debug)]
pub struct Session {
    grant: SessionGrant,
    clients: HttpClients,
    base: url::Url,
    options: SessionOptions,
    sequence: u64,
    /// Set while a statement is under way: if it is set when the next one starts, the caller of the former gave up.
    poisoned: bool,
}

impl Session {
    /// Has the broker log in and sets what this session's statements rely on.
    pub async fn open(broker: &Broker, options: &SessionOptions) -> Result<Self, SnowflakeError> {
        let clients = HttpClients::new(options.ca_file.as_deref())?;
        let grant = broker.open_session(&options.grant, &options.role, &options.warehouse).await?;
        let mut session = Self::from_grant(grant, clients, options.clone())?;
        session.execute(&settings(options)).await?;
        tracing::debug!(
            session = session.session_id(),
            role = session.grant.info.role,
            "Snowflake session open"
        );
        Ok(session)
    }

    fn from_grant(
        grant: SessionGrant,
        clients: HttpClients,
        options: SessionOptions,
    ) -> Result<Self, SnowflakeError> {
        let base = url::Url::parse(&grant.info.url)
            .map_err(|e| SnowflakeError::Setup(format!("the broker names no usable Snowflake URL: {e}")))?;
        let plain_in_tests = cfg!(test) && base.scheme() == "http";
        if base.scheme() != "https" && !plain_in_tests {
            let found = format!("the broker names a Snowflake URL with {:?}, not https", base.scheme());
            return Err(SnowflakeError::Setup(found));
        }
        if let Some(advice) = base.port_or_known_default().and_then(|port| sandbox::closed(port, "Snowflake"))
        {
            return Err(SnowflakeError::Setup(advice));
        }
        Ok(Self { grant, clients, base, options, sequence: 0, poisoned: false })
    }

    /// Snowflake's id of the session, as `CURRENT_SESSION()` prints it.
    pub fn session_id(&self) -> &str {
        &self.grant.info.session_id
    }

    /// The user that the broker logged in.
    pub fn user(&self) -> &str {
        &self.grant.info.user
    }

    /// The broker's audit id of the login.
    pub fn audit_id(&self) -> &str {
        &self.grant.info.audit_id
    }

    /// True when the session must be closed and replaced.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Asks where files for `stage` under `prefix` go, with which credentials and under which key.
    pub async fn put_target(&mut self, stage: &TargetName, prefix: &str) -> Result<StageTarget, StageError> {
        let sql = crate::stage::put_statement(stage, prefix);
        let role = self.grant.info.role.clone();
        let data = self.run(&sql, Resend::WithinSession).await.map_err(|error| {
            let object = format!("the stage {}", stage.sql());
            let remedy = format!("GRANT READ, WRITE ON STAGE {} TO ROLE {role}", stage.sql());
            error.needing(&object, &role, &remedy)
        })?;
        StageTarget::from_reply(data, self.clients.objects.clone(), &self.options.stage_endpoint_allow)
    }

    /// Ends the session; the broker closes it at Snowflake, which also aborts an open transaction.
    pub async fn close(self) {
        self.grant.close().await;
    }

    async fn answer(&mut self, sql: &str, resend: Resend) -> Result<Answer, SnowflakeError> {
        let mut data = self.run(sql, resend).await?;
        if data.query_result_format.as_deref() == Some("arrow") {
            return Err(SnowflakeError::Answer {
                attempted: abbreviated(sql),
                found: "in Arrow where JSON was asked for; unset the session parameters *_QUERY_RESULT_FORMAT of this user"
                    .to_owned(),
            });
        }
        let parts = Data {
            chunks: data.chunks.take(),
            chunk_headers: data.chunk_headers.take(),
            qrmk: data.qrmk.take(),
            total: data.total,
            ..Data::default()
        };
        let mut answer = Answer::from_data(data);
        if parts.chunks.as_ref().is_some_and(|chunks| !chunks.is_empty()) {
            let allow = &self.options.stage_endpoint_allow;
            rows::fetch_parts(&self.clients.objects, allow, &abbreviated(sql), &parts, &mut answer).await?;
        }
        Ok(answer)
    }
}

impl Statements for Session {
    async fn execute(&mut self, sql: &str) -> Result<Answer, SnowflakeError> {
        self.answer(sql, Resend::WithinSession).await
    }

    async fn execute_once(&mut self, sql: &str) -> Result<Answer, SnowflakeError> {
        self.answer(sql, Resend::Never).await
    }

    fn role(&self) -> &str {
        &self.grant.info.role
    }
}

/// Everything that an account's or a user's defaults could otherwise change under our statements.
pub(crate) fn settings(options: &SessionOptions) -> String {
    format!(
        "ALTER SESSION SET AUTOCOMMIT = FALSE TRANSACTION_ABORT_ON_ERROR = TRUE LOCK_TIMEOUT = {} \
         STATEMENT_TIMEOUT_IN_SECONDS = {} ABORT_DETACHED_QUERY = TRUE TIMEZONE = 'UTC' \
         TIMESTAMP_INPUT_FORMAT = 'AUTO' QUOTED_IDENTIFIERS_IGNORE_CASE = FALSE",
        options.lock_timeout.as_secs(),
        options.statement_timeout.as_secs(),
    )
}

#[cfg(test)]
mod tests;
