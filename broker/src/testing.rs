//! A broker over a real socket with upstreams that do as they are told.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use keyferry_proto::{
    connect::{self, Address, Client},
    grant::Grant,
};
use nix::unistd::{getegid, geteuid};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    RunError,
    audit::AuditLog,
    config::{CallerMatch, Config, GrantName, PolicyEntry, Use},
    events,
    issuer::{Exchange, Issuer, Session, Upstreams},
    run,
    socket::Place,
    upstream::{
        ErrorClass, GrantSettings, RelayStep, SecretStatus, UpstreamError, UpstreamName, UpstreamStatus,
    },
};

/// What every token of the fake upstreams holds.
pub(crate) const TOKEN: &str = "not-to-be-seen-anywhere";

/// What the fake upstreams do, and what was done to them.
pub(crate) struct Fake {
    pub(crate) session_life: Mutex<Duration>,
    pub(crate) login_takes: Mutex<Duration>,
    pub(crate) fails: Mutex<Option<UpstreamError>>,
    pub(crate) refuses_bearer: Mutex<Option<String>>,
    pub(crate) proves_itself: AtomicBool,
    pub(crate) has_a_defect: AtomicBool,
    pub(crate) status: Mutex<Vec<UpstreamStatus>>,
    pub(crate) secret: Mutex<SecretStatus>,
    pub(crate) bearers: AtomicU64,
    pub(crate) opened: AtomicU64,
    pub(crate) renewed: AtomicU64,
    pub(crate) renewals_tried: AtomicU64,
    pub(crate) closed: Arc<AtomicU64>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            session_life: Mutex::new(Duration::from_hours(1)),
            login_takes: Mutex::default(),
            fails: Mutex::default(),
            refuses_bearer: Mutex::default(),
            proves_itself: AtomicBool::new(true),
            has_a_defect: AtomicBool::new(false),
            status: Mutex::default(),
            secret: Mutex::default(),
            bearers: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            renewals_tried: AtomicU64::new(0),
            closed: Arc::default(),
        }
    }
}

pub(crate) fn upstream_error(class: ErrorClass) -> UpstreamError {
    UpstreamError::new(UpstreamName::Entra, class, "asking for a token", "no", "mend it")
}

/// Lets the tests keep the fake while the broker owns it.
pub(crate) struct Handle(pub(crate) Arc<Fake>);

impl Handle {
    fn failure(&self) -> Result<(), UpstreamError> {
        self.0.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Issuer for Handle {
    async fn issue(&self, _: &GrantName) -> Result<Grant, UpstreamError> {
        let number = self.0.bearers.fetch_add(1, Ordering::SeqCst) + 1;
        self.failure()?;
        let ends = SystemTime::now() + Duration::from_hours(1);
        Ok(Grant::new(TOKEN.into(), ends, format!("bearer-{number}")))
    }
}

impl Upstreams for Handle {
    type Exchange = FakeExchange;
    type Session = FakeSession;

    fn settings(&self, grant: &GrantName) -> Result<GrantSettings, UpstreamError> {
        assert!(!self.0.has_a_defect.load(Ordering::SeqCst), "a defect");
        Ok(match grant.as_str() {
            "sales-sql" => GrantSettings::SqlServer {
                host: "sql01".to_owned(),
                port: 1433,
                service_principal_name: "MSSQLSvc/sql01:1433".to_owned(),
            },
            _ => GrantSettings::Snowflake {
                account: "acc".to_owned(),
                url: "https://acc.example.com".to_owned(),
                user: "SVC".to_owned(),
                roles: vec!["LOADER".to_owned(), "READER".to_owned()],
                warehouses: vec!["LOAD_WH".to_owned()],
            },
        })
    }

    async fn begin_relay(&self, _: &GrantName) -> Result<(FakeExchange, RelayStep), UpstreamError> {
        self.failure()?;
        Ok((FakeExchange(Arc::clone(&self.0)), step(TOKEN.into(), false, false)))
    }

    async fn open_session(
        &self,
        _: &GrantName,
        bearer: &Grant,
        role: &str,
        warehouse: &str,
    ) -> Result<FakeSession, UpstreamError> {
        let takes = *self.0.login_takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.failure()?;
        if self.0.refuses_bearer.lock().unwrap().as_deref() == Some(bearer.generation()) {
            return Err(upstream_error(ErrorClass::Expired));
        }
        let number = self.0.opened.fetch_add(1, Ordering::SeqCst) + 1;
        let mut session = FakeSession {
            fake: Arc::clone(&self.0),
            id: number.to_string(),
            renewals: 0,
            grant: Grant::new(Vec::new(), SystemTime::now(), ""),
            role: role.to_owned(),
            warehouse: warehouse.to_owned(),
        };
        session.mint();
        Ok(session)
    }

    fn status(&self) -> Vec<UpstreamStatus> {
        self.0.status.lock().unwrap().clone()
    }

    fn secret_status(&self) -> SecretStatus {
        self.0.secret.lock().unwrap().clone()
    }
}

fn step(token: Vec<u8>, complete: bool, mutual: bool) -> RelayStep {
    RelayStep { token, complete, mutual, ticket_expires_at: SystemTime::now() + Duration::from_mins(10) }
}

pub(crate) struct FakeExchange(Arc<Fake>);

impl Exchange for FakeExchange {
    async fn step(&mut self, server_token: &[u8]) -> Result<RelayStep, UpstreamError> {
        if server_token != b"server" {
            return Err(upstream_error(ErrorClass::Credential));
        }
        Ok(step(Vec::new(), true, self.0.proves_itself.load(Ordering::SeqCst)))
    }
}

pub(crate) struct FakeSession {
    fake: Arc<Fake>,
    id: String,
    renewals: u64,
    grant: Grant,
    role: String,
    warehouse: String,
}

impl FakeSession {
    fn mint(&mut self) {
        let ends = SystemTime::now() + *self.fake.session_life.lock().unwrap();
        self.grant = Grant::new(TOKEN.into(), ends, format!("session-{}-{}", self.id, self.renewals));
    }
}

impl Session for FakeSession {
    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn session_id(&self) -> &str {
        &self.id
    }

    fn role(&self) -> &str {
        &self.role
    }

    fn warehouse(&self) -> &str {
        &self.warehouse
    }

    async fn renew(&mut self) -> Result<(), UpstreamError> {
        self.fake.renewals_tried.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.fake.fails.lock().unwrap().clone() {
            return Err(error);
        }
        self.fake.renewed.fetch_add(1, Ordering::SeqCst);
        self.renewals += 1;
        self.mint();
        Ok(())
    }

    async fn close(self) {
        self.fake.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// The configuration of the tests; policy allows this very process everything for pipeline `p`.
pub(crate) fn config(folder: &Path) -> Config {
    let text = r#"
socket: { path: broker.sock }
vault:
  address: https://127.0.0.1:8200
  auth: { approle: { role_id_file: role-id, secret_id_file: secret-id } }
  secret: { mount: secret, path: p }
kerberos: { principal_key: p, keytab_key: k, tmpfs: private }
grants:
  sales-sql: { kerberos: { spn: "MSSQLSvc/sql01:1433" } }
  analytics: &snowflake
    snowflake: { account: acc, user: SVC, roles: [LOADER], warehouses: [LOAD_WH],
                 login: { entra: { tenant_key: t, client_id_key: c, client_secret_key: s, scope: x } } }
  reporting: *snowflake
policy: []
audit: { path: audit.log }
admin: { listen: "127.0.0.1:0" }
limits: { drain: 300ms }
"#;
    let mut config = Config::parse(text, Path::new("broker.yaml"), folder).unwrap();
    let allow = [("sales-sql", Use::Relay), ("analytics", Use::Session), ("reporting", Use::Token)];
    // The tests may run as root, which a configuration file could not name.
    config.policy = vec![PolicyEntry {
        caller: CallerMatch {
            uid: Some(geteuid().as_raw()),
            gid: Some(getegid().as_raw()),
            service_account: None,
        },
        pipeline: "p".parse().unwrap(),
        allow: allow.into_iter().map(|(name, allowed)| (name.parse().unwrap(), allowed)).collect(),
    }];
    config
}

pub(crate) fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    dir
}

/// A broker that serves, and a client of it.
pub(crate) struct Bench {
    pub(crate) fake: Arc<Fake>,
    pub(crate) client: Client,
    pub(crate) socket: PathBuf,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), RunError>>,
    folder: TempDir,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_audit(change, |config| AuditLog::open(&config.audit.path).unwrap()).await
    }

    pub(crate) async fn with_audit(
        change: impl FnOnce(&mut Config),
        audit: impl FnOnce(&Config) -> AuditLog,
    ) -> Self {
        let folder = folder();
        let mut config = config(folder.path());
        change(&mut config);
        let (fake, shutdown) = (Arc::new(Fake::default()), CancellationToken::new());
        let (upstreams, audit) = (Arc::new(Handle(Arc::clone(&fake))), audit(&config));
        let place = Arc::new(Place::claim(&config.socket.path).unwrap());
        let socket = config.socket.path.clone();
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move {
            let signals = run::Signals { shutdown: stop, reload: Arc::default() };
            run::serve(&config, &place, upstreams, audit, events::channel(), signals).await
        });
        let client = dial(&socket).await;
        Self { fake, client, socket, shutdown, serving, folder }
    }

    /// Every line of the audit log, parsed.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
        let forms = [TOKEN.to_owned(), BASE64_STANDARD.encode(TOKEN), hex::encode(TOKEN)];
        assert!(forms.iter().all(|form| !text.contains(form)), "a token is in the audit log");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) async fn dial(socket: &Path) -> Client {
    let address = Address {
        socket: socket.to_owned(),
        server_uid: geteuid().as_raw(),
        patience: Duration::from_secs(10),
        service_account_token: None,
    };
    connect::connect(&address).await.unwrap()
}

/// Appends a row to the table of faults that the test run prints at its end: `faults.jsonl` in `KEYFERRY_RESULTS`, or
/// in `results` of the build folder.
pub(crate) fn fault_row(fault: &str, happened: &str, test: &str) {
    use std::io::Write as _;
    let built = || {
        let own = std::env::current_exe().unwrap();
        let profile = own.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
        profile.and_then(Path::parent).map(|target| target.join("results"))
    };
    let Some(folder) = std::env::var_os("KEYFERRY_RESULTS").map(PathBuf::from).or_else(built) else { return };
    fs::create_dir_all(&folder).unwrap();
    let row = [("fault", fault), ("what happened", happened), ("test", test)];
    let line = serde_json::to_string(&row).unwrap() + "\n";
    let file = fs::OpenOptions::new().create(true).append(true).open(folder.join("faults.jsonl"));
    file.unwrap().write_all(line.as_bytes()).unwrap();
}

/// Waits until a condition holds; fails after ten seconds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}
