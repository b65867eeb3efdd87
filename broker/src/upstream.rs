//! The SECRET ZONE: the only folder whose files can open a [`Secret`].
//!
//! Vault is asked for the secret bundle; the keytab in it becomes a file on tmpfs and a Kerberos ticket;
//! the client secret in it becomes an Entra access token; that token becomes a Snowflake session whose
//! master token never leaves [`SnowflakeLogin`]. What comes out of this module is a
//! [`Grant`], a GSS token for one connection attempt, or a setting that is no secret.

mod bundle;
mod entra;
mod error;
mod http;
mod kerberos;
mod keytab;
mod relay;
mod secret;
mod snowflake_login;
mod status;
mod ticket;
mod tmpfs;
mod vault;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use keyferry_proto::grant::Grant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    bundle::Bundle,
    entra::Issuer,
    snowflake_login::{LoginService, Wanted},
    status::Board,
    ticket::Kerberos,
    vault::Vault,
};
pub use self::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    relay::Relay,
    secret::Secret,
    snowflake_login::SnowflakeLogin,
    status::UpstreamStatus,
};
use crate::config::{
    Config, GrantConfig, GrantName, KerberosGrant, SnowflakeGrant, SnowflakeLoginConfig, SnowflakeName,
};

/// What TDS listens on when neither the service principal name nor anybody else says.
const SQL_SERVER_PORT: u16 = 1433;

/// All upstreams of one broker, logged in.
pub struct Upstream {
    vault: Arc<Vault>,
    kerberos: Option<Arc<Kerberos>>,
    grants: BTreeMap<GrantName, Source>,
    board: Arc<Board>,
}

/// Where one grant comes from.
enum Source {
    Kerberos(KerberosGrant),
    Snowflake(Box<Account>),
}

/// One Snowflake account, and who issues the tokens for it.
struct Account {
    config: SnowflakeGrant,
    issuer: Issuer,
    service: Arc<LoginService>,
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
    /// renewal tasks on `tasks`, which end with `shutdown`. Fails with the first cause.
    pub async fn start(
        config: &Config,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Arc<Self>, UpstreamError> {
        let board = Arc::new(Board::default());
        let mut grants = BTreeMap::new();
        for (name, grant) in &config.grants {
            grants.insert(name.clone(), Source::new(grant)?);
        }
        let vault = Arc::new(Vault::new(&config.vault, Arc::clone(&board))?);
        vault.log_in().await?;
        let started = Self::finish(config, &vault, grants, board).await;
        let upstream = match started {
            Ok(upstream) => upstream,
            Err(error) => {
                vault.revoke().await;
                return Err(error);
            }
        };
        tasks.spawn(Arc::clone(&vault).keep_fresh(shutdown.clone()));
        if let Some(kerberos) = &upstream.kerberos {
            tasks.spawn(Arc::clone(kerberos).keep_fresh(shutdown.clone()));
        }
        Ok(Arc::new(upstream))
    }

    async fn finish(
        config: &Config,
        vault: &Arc<Vault>,
        grants: BTreeMap<GrantName, Source>,
        board: Arc<Board>,
    ) -> Result<Self, UpstreamError> {
        let bundle = vault.read_bundle().await?;
        let kerberos = match &config.kerberos {
            Some(kerberos) => Some(Kerberos::start(kerberos, &bundle, Arc::clone(&board)).await?),
            None => None,
        };
        // A field that is missing shows at the start, not at the first request in the night.
        for source in grants.values() {
            source.settings(&bundle)?;
        }
        Ok(Self { vault: Arc::clone(vault), kerberos, grants, board })
    }

    /// One call to the issuer of the grant's access tokens. Nothing is cached here.
    pub async fn bearer(&self, grant: &GrantName) -> Result<Grant, UpstreamError> {
        let Source::Snowflake(account) = self.source(grant)? else {
            return Err(wrong_kind(grant, "it has no access tokens", "`relay`"));
        };
        let bundle = self.vault.bundle()?;
        let issued = account.issuer.bearer(&bundle).await;
        match &issued {
            Ok(_) => self.board.succeeded(UpstreamName::Entra, Some(grant.as_str()), None),
            Err(error) => self.board.failed(Some(grant.as_str()), error),
        }
        issued
    }

    /// The grant's settings, from the configuration and the bundle.
    pub fn settings(&self, grant: &GrantName) -> Result<GrantSettings, UpstreamError> {
        let bundle = self.vault.bundle()?;
        self.source(grant)?.settings(&bundle)
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
        let Source::Snowflake(account) = self.source(grant)? else {
            return Err(wrong_kind(grant, "it is no Snowflake account", "`relay`"));
        };
        let bundle = self.vault.bundle()?;
        let Account { config, service, .. } = &**account;
        let wanted = Wanted {
            user: user(config, &bundle)?,
            role: choose(grant, "role", role, &config.roles)?,
            warehouse: choose(grant, "warehouse", warehouse, &config.warehouses)?,
        };
        let opened = service.open(bearer, wanted).await;
        match &opened {
            Ok(_) => self.board.succeeded(UpstreamName::Snowflake, Some(grant.as_str()), None),
            Err(error) => self.board.failed(Some(grant.as_str()), error),
        }
        opened
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

    fn source(&self, grant: &GrantName) -> Result<&Source, UpstreamError> {
        self.grants.get(grant).ok_or_else(|| wrong_kind(grant, "there is no such grant", "another name"))
    }
}

impl Source {
    fn new(config: &GrantConfig) -> Result<Self, UpstreamError> {
        Ok(match config {
            GrantConfig::Kerberos(config) => Self::Kerberos(config.clone()),
            GrantConfig::Snowflake(config) => {
                let SnowflakeLoginConfig::Entra(entra) = &config.login;
                let service =
                    LoginService::new(&config.url(), config.account.as_str(), config.ca_file.as_deref())?;
                Self::Snowflake(Box::new(Account {
                    config: config.clone(),
                    issuer: Issuer::new(entra)?,
                    service: Arc::new(service),
                }))
            }
        })
    }

    fn settings(&self, bundle: &Bundle) -> Result<GrantSettings, UpstreamError> {
        let texts = |names: &[SnowflakeName]| names.iter().map(|n| n.as_str().to_owned()).collect();
        Ok(match self {
            Self::Kerberos(config) => GrantSettings::SqlServer {
                host: match &config.host_key {
                    Some(key) => bundle.setting(key.as_str())?.to_owned(),
                    None => config.spn.host().to_owned(),
                },
                port: config.spn.port().unwrap_or(SQL_SERVER_PORT),
                service_principal_name: config.spn.as_str().to_owned(),
            },
            Self::Snowflake(account) => GrantSettings::Snowflake {
                account: account.config.account.as_str().to_owned(),
                url: account.config.url(),
                user: user(&account.config, bundle)?.to_owned(),
                roles: texts(&account.config.roles),
                warehouses: texts(&account.config.warehouses),
            },
        })
    }
}

fn user<'a>(config: &'a SnowflakeGrant, bundle: &'a Bundle) -> Result<&'a str, UpstreamError> {
    match (&config.user, &config.user_key) {
        (Some(user), _) => Ok(user.as_str()),
        (None, Some(key)) => bundle.setting(key.as_str()),
        (None, None) => Err(UpstreamError::new(
            UpstreamName::Configuration,
            ErrorClass::Configuration,
            "finding the Snowflake user",
            "neither `user` nor `user_key` is given",
            "give one of them in the grant",
        )),
    }
}

/// The caller's choice, when the grant allows it; the first allowed one, when the caller has none.
fn choose<'a>(
    grant: &GrantName,
    what: &str,
    chosen: &str,
    allowed: &'a [SnowflakeName],
) -> Result<&'a str, UpstreamError> {
    let found = allowed.iter().find(|name| chosen.is_empty() || name.as_str() == chosen);
    found.map(SnowflakeName::as_str).ok_or_else(|| {
        let allowed: Vec<&str> = allowed.iter().map(SnowflakeName::as_str).collect();
        UpstreamError::new(
            UpstreamName::Configuration,
            ErrorClass::Configuration,
            format!("choosing a {what} of grant {}", grant.as_str()),
            "the one that was asked for is not allowed",
            format!("ask for one of {}", allowed.join(", ")),
        )
    })
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
mod tests;
