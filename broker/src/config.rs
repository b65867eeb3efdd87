//! `broker.yaml` as checked types: paths and names, never a secret.
//!
//! A value of [`Config`] has been checked as far as a file can be checked without asking an upstream:
//! every name is well formed, every grant that policy names exists and can be used as policy says, and
//! every path is absolute (a relative one counts from the configuration's own folder).

mod document;
mod error;
mod fields;
mod grant;
mod names;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use keyferry_sandbox::Settings as SandboxSettings;
use serde::Deserialize;
use url::Url;

pub use self::{
    error::ConfigError,
    grant::{
        AccountName, EntraLogin, GrantConfig, KerberosGrant, ServicePrincipal, SnowflakeGrant,
        SnowflakeLoginConfig, Use,
    },
    names::{
        GrantName, NameError, PipelineName, RunId, ServiceAccountName, SnowflakeName, VaultField, VaultPath,
    },
};

/// The largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The uid that the kernel reports for anyone whose own uid is not mapped here.
pub(crate) const UNMAPPED_UID: u32 = 65_534;

/// All that the broker is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where callers connect.
    pub socket: SocketConfig,
    /// Where the secrets are kept.
    pub vault: VaultConfig,
    /// The broker's own Kerberos identity; present whenever a grant needs it.
    pub kerberos: Option<KerberosConfig>,
    /// What can be granted.
    pub grants: BTreeMap<GrantName, GrantConfig>,
    /// How callers in Kubernetes prove which service account they are; without it no token counts.
    pub service_accounts: Option<ServiceAccountsConfig>,
    /// Who may have it. Nothing else is allowed.
    pub policy: Vec<PolicyEntry>,
    /// Where decisions are written.
    pub audit: AuditConfig,
    /// Where health and metrics are served.
    pub admin: AdminConfig,
    /// Rates, caps and margins.
    pub limits: Limits,
    /// What the process gives up before it does anything.
    pub sandbox: SandboxSettings,
}

/// Where callers connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketConfig {
    /// The socket's path. Its folder must belong to the broker's uid or to root.
    pub path: PathBuf,
    /// The group whose members may connect, by name or number; without it the broker's own.
    #[serde(default)]
    pub group: Option<Group>,
    /// The socket's mode: `"0660"` or `"0600"`. Default: `"0660"`.
    #[serde(default)]
    pub mode: Mode,
}

/// A group by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Group {
    /// Looked up in the system's group database.
    Name(String),
    /// A gid.
    Id(u32),
}

impl TryFrom<String> for Group {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > 64 || text.contains(|c: char| c.is_control() || c == ':') {
            return Err("a group is a name of 1 to 64 characters or a number".to_owned());
        }
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => Ok(Self::Name(text)),
        }
    }
}

/// Permission bits of the socket. Others never get any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

impl Default for Mode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode @ (0o600 | 0o660)) => Ok(Self(mode)),
            _ => Err("the socket's mode is \"0660\" (owner and group) or \"0600\" (owner only)".to_owned()),
        }
    }
}

/// Where the secrets are kept, and how the broker proves itself there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// `https://host:port`.
    pub address: HttpsUrl,
    /// PEM file of the only authority trusted for Vault's certificate; without it the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Vault Enterprise namespace.
    #[serde(default)]
    pub namespace: Option<VaultPath>,
    /// How to log in.
    pub auth: VaultAuth,
    /// The KV v2 secret that holds every field named in this configuration.
    pub secret: KvSecret,
}

/// How to log in to Vault.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultAuth {
    /// With `role_id` and `secret_id`.
    #[serde(rename = "approle")]
    AppRole(AppRole),
}

/// `role_id` and `secret_id`, each in a file of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Where the method is mounted. Default: `approle`.
    #[serde(default = "default_approle_mount")]
    pub mount: VaultPath,
    /// File with the `role_id`.
    pub role_id_file: PathBuf,
    /// File with the `secret_id`, or with the token that wraps it.
    pub secret_id_file: PathBuf,
    /// True when `secret_id_file` holds a wrapping token. Default: `false`.
    #[serde(default)]
    pub wrapped: bool,
}

/// A secret of a KV v2 mount.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvSecret {
    /// The mount.
    pub mount: VaultPath,
    /// The path below it.
    pub path: VaultPath,
    /// How often a new version is looked for, 1 second to 24 hours. Default: `5m`.
    #[serde(default = "default_refresh", deserialize_with = "document::duration")]
    pub refresh: Duration,
}

/// The broker's own Kerberos identity.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KerberosConfig {
    /// Vault field with the client principal, for example `svc_loader@CORP.EXAMPLE.COM`.
    pub principal_key: VaultField,
    /// Vault field with the keytab, in base64.
    pub keytab_key: VaultField,
    /// A folder on tmpfs, the broker's own, for keytab and ticket.
    pub tmpfs: PathBuf,
    /// The Kerberos profile. Default: `/etc/krb5.conf`.
    #[serde(default = "default_krb5_conf")]
    pub krb5_conf: PathBuf,
}

/// An `https` address without user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpsUrl(String);

impl HttpsUrl {
    /// An address that stands in the source and is known to be well formed.
    fn constant(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The address as text, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        Url::parse(&self.0).ok().and_then(|url| url.port_or_known_default()).unwrap_or(443)
    }
}

impl TryFrom<String> for HttpsUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|e| format!("an address was expected: {e}"))?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        match url.scheme() {
            "https" if bare && url.has_host() => Ok(Self(url.as_str().trim_end_matches('/').to_owned())),
            "https" => Err("an address has no user, query or fragment; leave them out".to_owned()),
            other => Err(format!("scheme `{other}` carries secrets in the open; write `https://`")),
        }
    }
}

/// One line of policy: this caller, moving this pipeline, may use these grants in these ways.
#[derive(Clone, Debug)]
pub struct PolicyEntry {
    /// Who.
    pub caller: CallerMatch,
    /// In which role.
    pub pipeline: PipelineName,
    /// What.
    pub allow: BTreeMap<GrantName, Use>,
}

/// Which callers an entry is about: those of whom everything that is said here is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerMatch {
    /// The uid at connect. Never 0 (root needs no broker) and never 65534 (anybody unmapped).
    pub uid: Option<u32>,
    /// The gid at connect, when it matters.
    pub gid: Option<u32>,
    /// The service account whose token the call carries.
    pub service_account: Option<ServiceAccountName>,
}

/// How callers in Kubernetes prove which service account they are: by the projected token that a call carries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountsConfig {
    /// The issuer that tokens must name, as `kubectl get --raw /.well-known/openid-configuration` prints it.
    pub issuer: String,
    /// The audience that tokens must be made for. Default: `keyferry`.
    #[serde(default = "default_audience")]
    pub audience: String,
    /// File with the cluster's public keys, as `kubectl get --raw /openid/v1/jwks` prints them. Read again when it changes.
    pub keys_file: PathBuf,
    /// File with this pod's uid, by the downward API; tokens of every other pod are then refused.
    #[serde(default)]
    pub pod_uid_file: Option<PathBuf>,
    /// The longest life that a token may have, 10 minutes to 24 hours. Default: `1h`.
    #[serde(default = "default_max_life", deserialize_with = "document::duration")]
    pub max_life: Duration,
}

/// Where decisions are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// The log. Its folder must exist.
    pub path: PathBuf,
    /// Each line once more: `stdout`, `syslog` (RFC 5424 to `/dev/log`) or `syslog:/another/socket`.
    #[serde(default)]
    pub copy: Option<AuditCopy>,
    /// Vault field with the Ed25519 key (PEM) that signs the log's checkpoints.
    #[serde(default)]
    pub signing_key: Option<VaultField>,
}

/// Where the audit log's lines go beside its file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AuditCopy {
    /// Standard output.
    Stdout,
    /// A datagram socket of the system's log.
    Syslog(PathBuf),
}

impl TryFrom<String> for AuditCopy {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.as_str() {
            "stdout" => Ok(Self::Stdout),
            "syslog" => Ok(Self::Syslog("/dev/log".into())),
            _ => match text.strip_prefix("syslog:").filter(|path| path.starts_with('/')) {
                Some(path) => Ok(Self::Syslog(path.into())),
                None => Err("a copy goes to `stdout`, `syslog` or `syslog:/path/of/a/socket`"),
            },
        }
    }
}

/// Where health and metrics are served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port; port 0 takes a free one, which is logged. Default: `127.0.0.1:8080`.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

/// Rates, caps and margins. Every one has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls a second per uid; a burst of twice as many passes. Default: `100`.
    pub calls_per_second: u32,
    /// Connections open at once per uid. Default: `64`.
    pub connections_per_uid: usize,
    /// Snowflake sessions open at once per uid. Default: `32`.
    pub sessions_per_uid: usize,
    /// Kerberos exchanges open at once per uid. Default: `32`.
    pub relays_per_uid: usize,
    /// Watches of tokens open at once per uid. Default: `32`.
    pub watches_per_uid: usize,
    /// Renew no later than this long before the end, whatever the life. Default: `1m`.
    #[serde(deserialize_with = "document::duration")]
    pub refresh_margin: Duration,
    /// How long open sessions may go on after SIGTERM, at most an hour. Default: `20s`.
    #[serde(deserialize_with = "document::duration")]
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_per_second: 100,
            connections_per_uid: 64,
            sessions_per_uid: 32,
            relays_per_uid: 32,
            watches_per_uid: 32,
            refresh_margin: Duration::from_mins(1),
            drain: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// Fails when the file cannot be read or is larger than 1 MiB, and with file, line and column at the
    /// first thing that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned(), found: size, max: MAX_CONFIG_BYTES });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let absolute = std::path::absolute(path).map_err(read)?;
        Self::parse(&text, path, absolute.parent().unwrap_or(Path::new("/")))
    }

    /// Checks a configuration's text. `file` is named in errors; relative paths count from `folder`.
    pub fn parse(text: &str, file: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let mut config = document::parse(text, file)?;
        file.clone_into(&mut config.file);
        config.anchor_paths(folder);
        Ok(config)
    }

    fn anchor_paths(&mut self, folder: &Path) {
        let anchor = |path: &mut PathBuf| *path = folder.join(&*path);
        anchor(&mut self.socket.path);
        self.vault.ca_file.iter_mut().for_each(anchor);
        let VaultAuth::AppRole(approle) = &mut self.vault.auth;
        anchor(&mut approle.role_id_file);
        anchor(&mut approle.secret_id_file);
        if let Some(kerberos) = &mut self.kerberos {
            anchor(&mut kerberos.tmpfs);
            anchor(&mut kerberos.krb5_conf);
        }
        if let Some(accounts) = &mut self.service_accounts {
            anchor(&mut accounts.keys_file);
            accounts.pod_uid_file.iter_mut().for_each(anchor);
        }
        for grant in self.grants.values_mut() {
            if let GrantConfig::Snowflake(snowflake) = grant {
                snowflake.ca_file.iter_mut().for_each(anchor);
                let SnowflakeLoginConfig::Entra(entra) = &mut snowflake.login;
                entra.ca_file.iter_mut().for_each(anchor);
            }
        }
        anchor(&mut self.audit.path);
    }
}

fn default_approle_mount() -> VaultPath {
    VaultPath::constant("approle")
}

fn default_refresh() -> Duration {
    Duration::from_mins(5)
}

fn default_audience() -> String {
    "keyferry".to_owned()
}

fn default_max_life() -> Duration {
    Duration::from_hours(1)
}

fn default_krb5_conf() -> PathBuf {
    PathBuf::from("/etc/krb5.conf")
}

#[cfg(test)]
mod tests;
