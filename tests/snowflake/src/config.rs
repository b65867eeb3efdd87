//! What a test states before the server starts.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use keyferry_sql::Database;
use tokio_util::sync::CancellationToken;

/// Everything that the stand-in is told. [`Config::new`] fills in the service's own defaults.
pub struct Config {
    /// Where the service listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the object store listens. It must be an IPv4 loopback address: the endpoint that clients are told is
    /// that address cut in two, because drivers build `https://BUCKET.ENDPOINT`.
    pub objects_listen: SocketAddr,
    /// Certificate and key of both listeners.
    pub tls: Arc<rustls::ServerConfig>,
    /// The account's name, as clients send it in `ACCOUNT_NAME`. Compared without case.
    pub account: String,
    /// External OAuth integrations, tried by issuer.
    pub external_oauth: Vec<SecurityIntegration>,
    /// Who may log in.
    pub users: Vec<User>,
    /// Roles that may do everything. What other roles may do is said by GRANT statements in the evaluator.
    pub admin_roles: Vec<String>,
    /// Life of a session token.
    pub session_ttl: Duration,
    /// Life of a master token; each renewal gives a new one.
    pub master_ttl: Duration,
    /// How long a session token that was renewed is still accepted.
    pub old_token_grace: Duration,
    /// Life of the credentials that a PUT or GET hands out.
    pub stage_credentials_ttl: Duration,
    /// Key length of client-side encryption.
    pub stage_key: StageKey,
    /// An open transaction whose session was silent this long is rolled back.
    pub idle_transaction: Duration,
    /// The SQL evaluator's database. Its name is the database that clients see.
    pub database: Arc<Database>,
    /// How long results keep a client waiting.
    pub polling: Polling,
    /// Whether ROLLBACK also forgets which files were loaded. Undocumented in the real service, so both are here.
    pub load_history: LoadHistory,
    /// Ends both listeners and every task.
    pub shutdown: CancellationToken,
}

impl Config {
    /// The service's defaults on free loopback ports: tokens of one and four hours, no users.
    pub fn new(account: &str, tls: Arc<rustls::ServerConfig>, database: Arc<Database>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            objects_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls,
            account: account.to_owned(),
            external_oauth: Vec::new(),
            users: Vec::new(),
            admin_roles: vec!["ACCOUNTADMIN".to_owned()],
            session_ttl: Duration::from_hours(1),
            master_ttl: Duration::from_hours(4),
            old_token_grace: Duration::ZERO,
            stage_credentials_ttl: Duration::from_hours(1),
            stage_key: StageKey::default(),
            idle_transaction: Duration::from_mins(5),
            database,
            polling: Polling::default(),
            load_history: LoadHistory::default(),
            shutdown: CancellationToken::new(),
        }
    }
}

/// One `CREATE SECURITY INTEGRATION … TYPE = EXTERNAL_OAUTH`.
#[derive(Clone, Debug)]
pub struct SecurityIntegration {
    /// `EXTERNAL_OAUTH_ISSUER`: must equal the token's `iss`.
    pub issuer: String,
    /// `EXTERNAL_OAUTH_JWS_KEYS_URL`, https.
    pub jwks_url: String,
    /// The certificate authority that the key URL is trusted by, PEM. `None`: the roots that the HTTP client has.
    pub jwks_ca_pem: Option<String>,
    /// `EXTERNAL_OAUTH_AUDIENCE_LIST`: the token's `aud` must be one of these.
    pub audiences: Vec<String>,
    /// `EXTERNAL_OAUTH_TOKEN_USER_MAPPING_CLAIM`, for example `sub`, `upn` or `appid`.
    pub mapping_claim: String,
    /// The claim's value → user name, as `EXTERNAL_OAUTH_SNOWFLAKE_USER_MAPPING_ATTRIBUTE` does by the user's login name.
    pub mapping: BTreeMap<String, String>,
    /// `EXTERNAL_OAUTH_ANY_ROLE_MODE`.
    pub any_role: AnyRole,
}

/// Whether a token without a role scope may choose a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyRole {
    /// Any role of the user.
    Enabled,
    /// Only the roles that the token's `scp` names as `session:role:NAME` (or `session:role-any`).
    Disabled,
}

/// A Snowflake user.
#[derive(Clone, Debug)]
pub struct User {
    /// Name and login name.
    pub name: String,
    /// Roles granted to the user.
    pub roles: Vec<String>,
    /// The role of a session that asked for none.
    pub default_role: String,
    /// Warehouses that the user may use; the first is the default.
    pub warehouses: Vec<String>,
    /// Keys for `SNOWFLAKE_JWT` logins.
    pub key_pair: Option<KeyPair>,
}

impl User {
    /// A user with one role and one warehouse, who logs in by OAuth.
    pub fn new(name: &str, role: &str, warehouse: &str) -> Self {
        Self {
            name: name.to_owned(),
            roles: vec![role.to_owned()],
            default_role: role.to_owned(),
            warehouses: vec![warehouse.to_owned()],
            key_pair: None,
        }
    }
}

/// `RSA_PUBLIC_KEY` and `RSA_PUBLIC_KEY_2` of a user, as PEM (`BEGIN PUBLIC KEY`).
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// First slot.
    pub rsa_public_key: String,
    /// Second slot, for rotation.
    pub rsa_public_key_2: Option<String>,
}

/// When a result is there. A statement always runs in the background; these two say what the client sees of it.
#[derive(Clone, Copy, Debug)]
pub struct Polling {
    /// No result is given before the statement is this old.
    pub ready_after: Duration,
    /// A request is answered "in progress" when it has waited this long.
    pub hold: Duration,
}

impl Default for Polling {
    /// Every statement takes 5 ms, and a request is held for 45 s as in the real service.
    fn default() -> Self {
        Self { ready_after: Duration::from_millis(5), hold: Duration::from_secs(45) }
    }
}

/// What ROLLBACK does to the load history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadHistory {
    /// A file whose COPY was rolled back may be loaded again.
    #[default]
    RollsBack,
    /// A file whose COPY was rolled back counts as loaded.
    Survives,
}

/// `CLIENT_ENCRYPTION_KEY_SIZE` of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageKey {
    /// 128 bits, the default.
    #[default]
    Aes128,
    /// 256 bits.
    Aes256,
}
