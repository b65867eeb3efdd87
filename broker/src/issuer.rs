//! What the rest of the broker needs from the upstreams, as traits: the renewal loop and the RPCs are
//! written against these, [`Upstream`] implements them, and tests put a fake there.

use std::future::Future;

use keyferry_proto::grant::Grant;
use tokio::sync::watch;

use crate::{
    config::GrantName,
    upstream::{
        GrantSettings, Relay, RelayStep, SecretStatus, SnowflakeLogin, Upstream, UpstreamError,
        UpstreamStatus,
    },
};

/// Issues bearer tokens. Nothing is cached behind it.
pub trait Issuer: Send + Sync + 'static {
    /// One call to the issuer of `grant`'s access tokens.
    fn issue(&self, grant: &GrantName) -> impl Future<Output = Result<Grant, UpstreamError>> + Send;

    /// Changes whenever the credential that is shown to the issuer was replaced: a token that was issued for
    /// the one before is then to be replaced, too.
    fn credential(&self, _grant: &GrantName) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Everything that the RPCs ask of the upstreams.
pub trait Upstreams: Issuer {
    /// One Kerberos exchange.
    type Exchange: Exchange;
    /// One Snowflake session.
    type Session: Session;

    /// The settings of `grant` that are no secret.
    fn settings(&self, grant: &GrantName) -> Result<GrantSettings, UpstreamError>;

    /// Starts a Kerberos exchange and makes its first token.
    fn begin_relay(
        &self,
        grant: &GrantName,
    ) -> impl Future<Output = Result<(Self::Exchange, RelayStep), UpstreamError>> + Send;

    /// Opens a Snowflake session.
    fn open_session(
        &self,
        grant: &GrantName,
        bearer: &Grant,
        role: &str,
        warehouse: &str,
    ) -> impl Future<Output = Result<Self::Session, UpstreamError>> + Send;

    /// How each upstream did last.
    fn status(&self) -> Vec<UpstreamStatus>;

    /// Which version of the secret is in use.
    fn secret_status(&self) -> SecretStatus;
}

/// One Kerberos exchange.
pub trait Exchange: Send + 'static {
    /// Takes what the server sent and makes the next token.
    fn step(&mut self, server_token: &[u8]) -> impl Future<Output = Result<RelayStep, UpstreamError>> + Send;
}

/// One Snowflake session.
pub trait Session: Send + 'static {
    /// The session token that holds now.
    fn grant(&self) -> &Grant;
    /// Snowflake's id of the session.
    fn session_id(&self) -> &str;
    /// The role in use.
    fn role(&self) -> &str;
    /// The warehouse in use.
    fn warehouse(&self) -> &str;
    /// Gets a new session token.
    fn renew(&mut self) -> impl Future<Output = Result<(), UpstreamError>> + Send;
    /// Ends the session at Snowflake, best effort.
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Issuer for Upstream {
    async fn issue(&self, grant: &GrantName) -> Result<Grant, UpstreamError> {
        self.bearer(grant).await
    }

    fn credential(&self, grant: &GrantName) -> Option<watch::Receiver<u64>> {
        Upstream::credential(self, grant)
    }
}

impl Upstreams for Upstream {
    type Exchange = Relay;
    type Session = SnowflakeLogin;

    fn settings(&self, grant: &GrantName) -> Result<GrantSettings, UpstreamError> {
        Upstream::settings(self, grant)
    }

    async fn begin_relay(&self, grant: &GrantName) -> Result<(Relay, RelayStep), UpstreamError> {
        Upstream::begin_relay(self, grant).await
    }

    async fn open_session(
        &self,
        grant: &GrantName,
        bearer: &Grant,
        role: &str,
        warehouse: &str,
    ) -> Result<SnowflakeLogin, UpstreamError> {
        Upstream::open_session(self, grant, bearer, role, warehouse).await
    }

    fn status(&self) -> Vec<UpstreamStatus> {
        Upstream::status(self)
    }

    fn secret_status(&self) -> SecretStatus {
        Upstream::secret_status(self)
    }
}

impl Exchange for Relay {
    async fn step(&mut self, server_token: &[u8]) -> Result<RelayStep, UpstreamError> {
        Relay::step(self, server_token).await
    }
}

impl Session for SnowflakeLogin {
    fn grant(&self) -> &Grant {
        SnowflakeLogin::grant(self)
    }

    fn session_id(&self) -> &str {
        SnowflakeLogin::session_id(self)
    }

    fn role(&self) -> &str {
        SnowflakeLogin::role(self)
    }

    fn warehouse(&self) -> &str {
        SnowflakeLogin::warehouse(self)
    }

    async fn renew(&mut self) -> Result<(), UpstreamError> {
        SnowflakeLogin::renew(self).await
    }

    async fn close(self) {
        SnowflakeLogin::close(self).await;
    }
}
