//! The SECRET ZONE: the only folder whose files can open a [`Secret`].
//!
//! Vault is asked for the secret bundle; the keytab in it becomes a file on tmpfs and a Kerberos ticket;
//! the client secret in it becomes an Entra access token; that token becomes a Snowflake session whose
//! master token never leaves [`SnowflakeLogin`]. What comes out of this module is a
//! [`Grant`], a GSS token for one connection attempt, or a setting that is no secret.

mod audit_key;
mod bundle;
mod entra;
mod error;
mod http;
mod kerberos;
mod keytab;
mod relay;
mod rotation;
mod secret;
mod shape;
mod snowflake_login;
mod source;
mod status;
mod ticket;
mod tmpfs;
mod vault;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyferry_proto::grant::Grant;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    audit_key::AuditKey,
    error::{ErrorClass, UpstreamError, UpstreamName},
    relay::Relay,
    rotation::SecretStatus,
    secret::Secret,
    snowflake_login::SnowflakeLogin,
    status::UpstreamStatus,
};
use self::{
    rotation::Rotation,
    source::{Account, Source},
    status::Board,
    ticket::Kerberos,
    vault::Vault,
};
use crate::{
    config::{Config, GrantName},
    events::Events,
};

/// What TDS listens on when neither the service principal name nor anybody else says.
const SQL_SERVER_PORT: u16 = 1433;
/// How long a login that is under way is waited for when the broker is told to stop.
const LOGIN_END: Duration = Duration::from_secs(3);

/// All upstreams of one broker, logged in.
pub struct Upstream {
    vault: Arc<Vault>,
    kerberos: Option<Arc<Kerberos>>,
    grants: BTreeMap<GrantName, Source>,
    board: Arc<Board>,
    rotation: Rotation,
    audit_key: Option<Arc<AuditKey>>,
}

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

/// Prepares the process for Kerberos. Call it first thing in `main`, before any thread or runtime exists:
/// the Kerberos library takes its profile from the environment, which only a single thread may change.
/// [`Upstream::start`] refuses a process that was not prepared.
pub fn prepare(config: &Config) -> Result<(), UpstreamError> {
    config.kerberos.as_ref().map_or(Ok(()), ticket::prepare)
}

impl Upstream {
    /// Logs in to Vault, reads the bundle, puts the keytab onto tmpfs and gets a ticket; starts the
    /// renewal tasks on `tasks`, which end with `shutdown`. Fails with the first cause. Nothing when `stop` came
    /// first: then what was obtained is given back.
    pub async fn start(
        config: &Config,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
        stop: &CancellationToken,
        events: Events,
    ) -> Result<Option<Arc<Self>>, UpstreamError> {
        let board = Arc::new(Board::default());
        let mut grants = BTreeMap::new();
        for (name, grant) in &config.grants {
            grants.insert(name.clone(), Source::new(grant)?);
        }
        let mut spent = config.socket.path.clone().into_os_string();
        spent.push(".unwrapped");
        let vault = Vault::new(&config.vault, spent.into(), Arc::clone(&board), events.clone())?;
        let vault = Arc::new(vault);
        let login = vault.log_in();
        tokio::pin!(login);
        tokio::select! {
            outcome = &mut login => outcome?,
            () = stop.cancelled() => {
                // Vault may have made the token already: it is known only when the answer has come.
                let _ = tokio::time::timeout(LOGIN_END, &mut login).await;
                vault.revoke().await;
                return Ok(None);
            }
        }
        let started = tokio::select! {
            started = Self::finish(config, &vault, grants, board, events) => started,
            () = stop.cancelled() => {
                vault.revoke().await;
                return Ok(None);
            }
        };
        let upstream = match started {
            Ok(upstream) => Arc::new(upstream),
            Err(error) => {
                vault.revoke().await;
                return Err(error);
            }
        };
        tasks.spawn(Arc::clone(&vault).keep_fresh(shutdown.clone()));
        if let Some(kerberos) = &upstream.kerberos {
            tasks.spawn(Arc::clone(kerberos).keep_fresh(shutdown.clone()));
        }
        tasks.spawn(Arc::clone(&upstream).keep_current(shutdown.clone()));
        Ok(Some(upstream))
    }

    async fn finish(
        config: &Config,
        vault: &Arc<Vault>,
        grants: BTreeMap<GrantName, Source>,
        board: Arc<Board>,
        events: Events,
    ) -> Result<Self, UpstreamError> {
        let bundle = vault.read_bundle().await?;
        // A field that is missing shows at the start, not at the first request in the night.
        grants.values().try_for_each(|source| source.check(&bundle))?;
        let audit_key = config.audit.signing_key.as_ref();
        let audit_key =
            audit_key.map(|field| AuditKey::take(&bundle, field.as_str())).transpose()?.map(Arc::new);
        let refused = Arc::new(Notify::new());
        let kerberos = match &config.kerberos {
            Some(kerberos) => {
                Some(Kerberos::start(kerberos, &bundle, Arc::clone(&board), Arc::clone(&refused)).await?)
            }
            None => None,
        };
        for source in grants.values() {
            if let Source::Snowflake(account) = source {
                account.take(&bundle);
            }
        }
        let wrapped = vault.needs_delivery_after_restart();
        let rotation = Rotation::new(config.vault.secret.refresh, bundle, events, refused, wrapped);
        Ok(Self { vault: Arc::clone(vault), kerberos, grants, board, rotation, audit_key })
    }

    /// One call to the issuer of the grant's access tokens. Nothing is cached here.
    pub async fn bearer(&self, grant: &GrantName) -> Result<Grant, UpstreamError> {
        let issued = self.account(grant, "it has no access tokens")?.bearer().await;
        match &issued {
            Ok(_) => self.board.succeeded(UpstreamName::Entra, Some(grant.as_str()), None),
            Err(error) => {
                self.board.failed(Some(grant.as_str()), error);
                if error.class() == ErrorClass::Credential {
                    self.rotation.look_now();
                }
            }
        }
        issued
    }

    /// Changes whenever the credential behind a grant's access tokens was replaced.
    pub fn credential(&self, grant: &GrantName) -> Option<watch::Receiver<u64>> {
        match self.grants.get(grant) {
            Some(Source::Snowflake(account)) => Some(account.version()),
            _ => None,
        }
    }

    /// Which version of the secret is in use.
    pub fn secret_status(&self) -> SecretStatus {
        self.rotation.status()
    }

    /// The grant's settings, from the configuration and the bundle.
    pub fn settings(&self, grant: &GrantName) -> Result<GrantSettings, UpstreamError> {
        let source = self.source(grant)?;
        match source {
            Source::Kerberos(_) => source.settings(&self.rotation.current()),
            Source::Snowflake(account) => source.settings(&*account.bundle()?),
        }
    }

    /// The first GSS token of one connection attempt, and the context that waits for the answer.
    pub async fn begin_relay(&self, grant: &GrantName) -> Result<(Relay, RelayStep), UpstreamError> {
        let Source::Kerberos(config) = self.source(grant)? else {
            return Err(wrong_kind(grant, "it is no Kerberos service", "`session` or `token`"));
        };
        let Some(kerberos) = &self.kerberos else {
            return Err(wrong_kind(grant, "the broker has no Kerberos identity", "a `kerberos` section"));
        };
        Relay::begin(Arc::clone(kerberos), &self.board, grant.as_str(), config.spn.as_str()).await
    }

    /// Logs in to Snowflake with a bearer token. An empty role or warehouse takes the first allowed one.
    pub async fn open_session(
        &self,
        grant: &GrantName,
        bearer: &Grant,
        role: &str,
        warehouse: &str,
    ) -> Result<SnowflakeLogin, UpstreamError> {
        let account = self.account(grant, "it is no Snowflake account")?;
        let opened = account.open(grant, bearer, role, warehouse).await;
        match &opened {
            Ok(_) => self.board.succeeded(UpstreamName::Snowflake, Some(grant.as_str()), None),
            Err(error) => self.board.failed(Some(grant.as_str()), error),
        }
        opened
    }

    /// The key that signs the audit log, if the configuration names one. It is read once, at the start.
    pub fn audit_key(&self) -> Option<Arc<AuditKey>> {
        self.audit_key.clone()
    }

    /// How each upstream did last.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        self.board.list()
    }

    /// Wipes the keytab and revokes the broker's own Vault token; best effort, 3 seconds.
    pub async fn close(&self) {
        if let Some(kerberos) = &self.kerberos {
            kerberos.close();
        }
        self.vault.revoke().await;
    }

    fn account(&self, grant: &GrantName, found: &str) -> Result<&Account, UpstreamError> {
        match self.source(grant)? {
            Source::Snowflake(account) => Ok(account),
            Source::Kerberos(_) => Err(wrong_kind(grant, found, "`relay`")),
        }
    }

    fn source(&self, grant: &GrantName) -> Result<&Source, UpstreamError> {
        self.grants.get(grant).ok_or_else(|| wrong_kind(grant, "there is no such grant", "another name"))
    }
}

fn wrong_kind(grant: &GrantName, found: &str, instead: &str) -> UpstreamError {
    UpstreamError::new(
        UpstreamName::Configuration,
        ErrorClass::Configuration,
        format!("using grant {}", grant.as_str()),
        found,
        format!("use {instead}"),
    )
}

#[cfg(test)]
mod outages;
#[cfg(test)]
mod tests;
