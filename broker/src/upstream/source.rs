//! Where each grant comes from: a Kerberos service, or a Snowflake account with the application that logs in to it.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use keyferry_proto::grant::Grant;
use tokio::sync::watch;

use super::{
    GrantSettings, SQL_SERVER_PORT,
    bundle::Bundle,
    entra::Issuer,
    error::{ErrorClass, UpstreamError, UpstreamName},
    shape::Shape,
    snowflake_login::{LoginService, SnowflakeLogin, Wanted},
};
use crate::config::{
    GrantConfig, GrantName, KerberosGrant, SnowflakeGrant, SnowflakeLoginConfig, SnowflakeName,
};

/// Where one grant comes from.
pub(super) enum Source {
    Kerberos(KerberosGrant),
    Snowflake(Box<Account>),
}

/// One Snowflake account, and who issues the tokens for it.
pub(super) struct Account {
    config: SnowflakeGrant,
    issuer: Issuer,
    service: Arc<LoginService>,
    /// The version of the secret bundle whose credential is in use here.
    bundle: RwLock<Option<Arc<Bundle>>>,
    /// The token that proved a new credential: it is the next one given.
    proof: Mutex<Option<Grant>>,
    /// The bundle's version, for those who hold tokens of the credential before it.
    version: watch::Sender<u64>,
}

impl Source {
    pub(super) fn new(config: &GrantConfig) -> Result<Self, UpstreamError> {
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
                    bundle: RwLock::new(None),
                    proof: Mutex::new(None),
                    version: watch::Sender::new(0),
                }))
            }
        })
    }

    /// Whether the bundle has all that this grant needs, as far as looking at it tells.
    pub(super) fn check(&self, bundle: &Bundle) -> Result<(), UpstreamError> {
        self.settings(bundle)?;
        match self {
            Self::Kerberos(_) => Ok(()),
            Self::Snowflake(account) => account.issuer.check(bundle),
        }
    }

    pub(super) fn settings(&self, bundle: &Bundle) -> Result<GrantSettings, UpstreamError> {
        let texts = |names: &[SnowflakeName]| names.iter().map(|n| n.as_str().to_owned()).collect();
        Ok(match self {
            Self::Kerberos(config) => GrantSettings::SqlServer {
                host: match &config.host_key {
                    Some(key) => bundle.setting(key.as_str(), Shape::Host)?.to_owned(),
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

impl Account {
    /// The bundle whose credential is in use.
    pub(super) fn bundle(&self) -> Result<Arc<Bundle>, UpstreamError> {
        self.bundle.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(|| {
            let found = "nothing was read from Vault yet";
            let advice = "wait for the broker to have started";
            UpstreamError::new(UpstreamName::Vault, ErrorClass::Expired, "taking a secret", found, advice)
        })
    }

    /// Takes a bundle as it is.
    pub(super) fn take(&self, bundle: &Arc<Bundle>) {
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(bundle));
    }

    /// True when this bundle's credential is the one in use.
    pub(super) fn uses(&self, bundle: &Bundle) -> bool {
        self.bundle().is_ok_and(|held| self.issuer.same_credential(&held, bundle))
    }

    /// Gets a token with the credential of a bundle, and only then takes it for the one in use. When the issuer
    /// refuses it everything stays as it was.
    pub(super) async fn replace(&self, bundle: &Arc<Bundle>) -> Result<(), UpstreamError> {
        let grant = self.issuer.bearer(bundle).await?;
        *self.proof() = Some(grant);
        self.take(bundle);
        self.version.send_replace(bundle.version());
        Ok(())
    }

    /// Changes whenever another credential is in use.
    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The token that proved a new credential, else one call to the issuer.
    pub(super) async fn bearer(&self) -> Result<Grant, UpstreamError> {
        if let Some(grant) = self.proof().take().filter(|grant| grant.expires_at() > SystemTime::now()) {
            return Ok(grant);
        }
        self.issuer.bearer(&*self.bundle()?).await
    }

    /// Logs in to Snowflake. An empty role or warehouse takes the first allowed one.
    pub(super) async fn open(
        &self,
        grant: &GrantName,
        bearer: &Grant,
        role: &str,
        warehouse: &str,
    ) -> Result<SnowflakeLogin, UpstreamError> {
        let (config, bundle) = (&self.config, self.bundle()?);
        let wanted = Wanted {
            user: user(config, &bundle)?,
            named: config.user_key.as_ref().map(|key| format!("the user in `{key}`")),
            role: choose(grant, "role", role, &config.roles)?,
            warehouse: choose(grant, "warehouse", warehouse, &config.warehouses)?,
        };
        self.service.open(bearer, wanted).await
    }

    fn proof(&self) -> std::sync::MutexGuard<'_, Option<Grant>> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn user<'a>(config: &'a SnowflakeGrant, bundle: &'a Bundle) -> Result<&'a str, UpstreamError> {
    match (&config.user, &config.user_key) {
        (Some(user), _) => Ok(user.as_str()),
        (None, Some(key)) => bundle.setting(key.as_str(), Shape::SnowflakeUser),
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
