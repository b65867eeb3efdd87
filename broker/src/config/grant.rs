//! What can be granted, and in which ways.

use std::{path::PathBuf, str::FromStr as _};

use serde::Deserialize;

use super::{HttpsUrl, SnowflakeName, VaultField};

/// What one grant is made of.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "a handful of them exist, once")]
pub enum GrantConfig {
    /// GSS tokens for one SQL Server.
    Kerberos(KerberosGrant),
    /// A Snowflake login.
    Snowflake(SnowflakeGrant),
}

impl GrantConfig {
    /// The ways in which policy may allow this grant.
    pub fn uses(&self) -> &'static [Use] {
        match self {
            Self::Kerberos(_) => &[Use::Relay],
            Self::Snowflake(_) => &[Use::Session, Use::Token],
        }
    }
}

/// GSS tokens for one SQL Server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KerberosGrant {
    /// The service's principal name.
    pub spn: ServicePrincipal,
    /// Vault field with the server's host name, for callers that leave the host out.
    #[serde(default)]
    pub host_key: Option<VaultField>,
}

/// `Service/host:port`, optionally with `@REALM`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServicePrincipal {
    text: String,
    host: String,
    port: Option<u16>,
}

impl ServicePrincipal {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host part.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, when the name has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl TryFrom<String> for ServicePrincipal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("service principal name {text:?} does not read `MSSQLSvc/host.example.com:1433`");
        let ok = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        };
        if text.len() > 512 {
            return Err("a service principal name has at most 512 characters".to_owned());
        }
        let (name, realm) = text.split_once('@').map_or((text.as_str(), None), |(n, r)| (n, Some(r)));
        let (service, instance) = name.split_once('/').ok_or_else(wrong)?;
        let (host, port) = instance.split_once(':').map_or((instance, None), |(h, p)| (h, Some(p)));
        let port = port.map(u16::from_str).transpose().map_err(|_| wrong())?;
        if !ok(service) || !ok(host) || realm.is_some_and(|r| !ok(r)) || port == Some(0) {
            return Err(wrong());
        }
        let host = host.to_owned();
        Ok(Self { text, host, port })
    }
}

/// A Snowflake login. Account, URL and user are fixed here: a caller chooses none of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnowflakeGrant {
    /// The account's identifier, for example `myorg-myaccount`.
    pub account: AccountName,
    /// Where the account is served; without it `https://ACCOUNT.snowflakecomputing.com`.
    #[serde(default)]
    url: Option<HttpsUrl>,
    /// PEM file of the only authority trusted for that URL; without it the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Vault field with the user's name.
    #[serde(default)]
    pub user_key: Option<VaultField>,
    /// The user's name, when it is not kept in Vault.
    #[serde(default)]
    pub user: Option<SnowflakeName>,
    /// The roles that a caller may choose from.
    pub roles: Vec<SnowflakeName>,
    /// The warehouses that a caller may choose from.
    pub warehouses: Vec<SnowflakeName>,
    /// How the broker logs in.
    pub login: SnowflakeLoginConfig,
}

impl SnowflakeGrant {
    /// Where the account is served, without a trailing slash.
    pub fn url(&self) -> String {
        match &self.url {
            Some(url) => url.as_str().to_owned(),
            None => format!("https://{}.snowflakecomputing.com", self.account.as_str().to_ascii_lowercase()),
        }
    }

    /// The TCP port where the account is served.
    pub fn port(&self) -> u16 {
        self.url.as_ref().map_or(443, HttpsUrl::port)
    }
}

/// A Snowflake account identifier: it becomes part of a host name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AccountName(String);

impl AccountName {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AccountName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let label = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if text.len() <= 128 && text.split('.').all(label) {
            Ok(Self(text))
        } else {
            Err("an account identifier reads `myorg-myaccount`: letters, digits, `-`, `_` and `.`".to_owned())
        }
    }
}

/// How the broker logs in to Snowflake.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnowflakeLoginConfig {
    /// With an access token from Microsoft Entra ID.
    Entra(EntraLogin),
}

/// Client credentials of Microsoft Entra ID.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntraLogin {
    /// Vault field with the tenant's id.
    pub tenant_key: VaultField,
    /// Vault field with the application's id.
    pub client_id_key: VaultField,
    /// Vault field with the client secret.
    pub client_secret_key: VaultField,
    /// What the token is for, for example `api://APPLICATION-ID/.default`.
    pub scope: String,
    /// The issuer; another cloud has its own. Default: `https://login.microsoftonline.com`.
    #[serde(default = "default_authority")]
    pub authority: HttpsUrl,
    /// PEM file of the only authority trusted for its certificate; without it the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// What a caller may do with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Relay GSS tokens that the broker makes.
    Relay,
    /// Use Snowflake sessions that the broker opens.
    Session,
    /// Hold a bearer token and log in itself.
    Token,
}

impl Use {
    /// The word that policy uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Session => "session",
            Self::Token => "token",
        }
    }
}

fn default_authority() -> HttpsUrl {
    HttpsUrl::constant("https://login.microsoftonline.com")
}
