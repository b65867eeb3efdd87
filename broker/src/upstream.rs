//! The SECRET ZONE: the only folder whose files can open a [`Secret`](secret::Secret).
//!
//! Vault is asked for the secret bundle; the keytab in it becomes a file on tmpfs and a Kerberos ticket;
//! the client secret in it becomes an Entra access token; that token becomes a Snowflake session whose
//! master token never leaves [`SnowflakeLogin`]. What comes out of this module is a
//! [`Grant`], a GSS token for one connection attempt, or a setting that is no secret.

mod error;
mod status;

use std::{sync::Arc, time::SystemTime};

use keyferry_proto::grant::Grant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    status::UpstreamStatus,
};
use crate::config::{Config, GrantName};

/// All upstreams of one broker, logged in.
pub struct Upstream {}

/// What a grant's configuration and the Vault bundle say about where to connect; no secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantSettings {
    /// A SQL Server that is reached with Kerberos.
    SqlServer {
        /// Fully qualified host name.
        host: String,
        /// TCP port, as in the service principal name.
        port: u16,
        /// For example `MSSQLSvc/sql01.corp.example.com:1433`.
        service_principal_name: String,
    },
    /// A Snowflake account.
    Snowflake {
        /// Account identifier.
        account: String,
        /// Where logins and statements go.
        url: String,
        /// The user that the broker logs in as.
        user: String,
        /// The roles that a caller may choose from.
        roles: Vec<String>,
        /// The warehouses that a caller may choose from.
        warehouses: Vec<String>,
    },
}

/// One GSS token to send, and how far the exchange is.
#[derive(Debug)]
pub struct RelayStep {
    /// To be sent to the server once. Empty when there is nothing to send.
    pub token: Vec<u8>,
    /// The exchange is over.
    pub complete: bool,
    /// The server has proved itself.
    pub mutual: bool,
    /// When the broker's ticket for the service ends.
    pub ticket_expires_at: SystemTime,
}

/// One Kerberos exchange; it waits at most 30 seconds for the server's answer.
pub struct Relay {}

impl Relay {
    /// Takes what the server sent. A call after the exchange is complete, or after 30 seconds, is an error.
    pub async fn step(&mut self, server_token: &[u8]) -> Result<RelayStep, UpstreamError> {
        absent()
    }
}

/// One Snowflake session. The master token behind it stays in here.
pub struct SnowflakeLogin {
    grant: Grant,
}

impl SnowflakeLogin {
    /// The session token that holds now.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
    /// The session's id, as `CURRENT_SESSION()` prints it.
    pub fn session_id(&self) -> &str {
        ""
    }
    /// The role that Snowflake says is in use.
    pub fn role(&self) -> &str {
        ""
    }
    /// The warehouse that Snowflake says is in use.
    pub fn warehouse(&self) -> &str {
        ""
    }
    /// Trades session and master token for new ones.
    pub async fn renew(&mut self) -> Result<(), UpstreamError> {
        absent()
    }
    /// Ends the session at Snowflake, which also rolls back its open transaction. Best effort, 5 seconds.
    pub async fn close(self) {}
}

impl Upstream {
    /// Logs in to Vault, reads the bundle, puts the keytab onto tmpfs and gets a ticket; starts the
    /// renewal tasks on `tasks`, which end with `shutdown`. Fails with the first cause.
    pub async fn start(
        config: &Config,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Arc<Self>, UpstreamError> {
        absent()
    }

    /// One call to the issuer of the grant's access tokens. Nothing is cached here.
    pub async fn bearer(&self, grant: &GrantName) -> Result<Grant, UpstreamError> {
        absent()
    }

    /// The grant's settings, from the configuration and the bundle.
    pub fn settings(&self, grant: &GrantName) -> Result<GrantSettings, UpstreamError> {
        absent()
    }

    /// The first GSS token of one connection attempt, and the context that waits for the answer.
    pub async fn begin_relay(&self, grant: &GrantName) -> Result<(Relay, RelayStep), UpstreamError> {
        absent()
    }

    /// Logs in to Snowflake with a bearer token. An empty role or warehouse takes the first allowed one.
    pub async fn open_session(
        &self,
        grant: &GrantName,
        bearer: &Grant,
        role: &str,
        warehouse: &str,
    ) -> Result<SnowflakeLogin, UpstreamError> {
        absent()
    }

    /// How each upstream did last.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        Vec::new()
    }

    /// Wipes the keytab and revokes the broker's own Vault token; best effort, 5 seconds.
    pub async fn close(&self) {}
}

fn absent<T>() -> Result<T, UpstreamError> {
    Err(UpstreamError::new(
        UpstreamName::Configuration,
        ErrorClass::Configuration,
        "starting",
        "this build has no upstreams yet",
        "use a later one",
    ))
}
