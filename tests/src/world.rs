//! Everything around broker and loader: a Vault, an Entra, a KDC, a SQL Server, a Snowflake, on free
//! loopback ports, with certificates of one throw-away authority, under users of their own.

mod configs;
mod gate;
mod judges;
mod servers;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use keyferry_sql::{Database, Dialect, Identity, Row, Session, SqlError, Value};
use keyferry_stand_in_identity::{
    certs::Authority,
    entra::Entra,
    kdc::{Kdc, Lifetimes},
    vault::Vault,
};
use keyferry_stand_in_snowflake as snowflake;
use keyferry_stand_in_sqlserver as sqlserver;

pub use self::{
    configs::{BrokerSetup, PipelineSetup},
    gate::Gate,
    judges::JUDGE_KEY_USER,
};
use crate::{
    process::{Process, User, built, copy_program},
    proof::{kerberos, kerberos::Recorder, needles::Needle, oracle::Access},
    sample::{Cell, Table},
};

/// The realm of every world. The acceptor's `krb5.conf` is read once per process, so it is one name.
pub const REALM: &str = "KEYFERRY.TEST";
/// The source database.
pub const SOURCE_DATABASE: &str = "SalesDB";
/// The Snowflake account.
pub const ACCOUNT: &str = "keyferry-demo";
/// The Snowflake database.
pub const TARGET_DATABASE: &str = "RAW_ZONE";
/// The Snowflake schema.
pub const TARGET_SCHEMA: &str = "SALES";
const TENANT: &str = "9f3c1d52-5a7e-4a55-9d0f-5d2f4c1b7a10";
const LOADER_APP: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01";
const AUDITOR_APP: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a02";

/// The set-up files that a user gets are the ones that the stand-ins are set up with.
const VAULT_POLICY: &str = include_str!("../../deploy/vault/loader-policy.hcl");
const SNOWFLAKE_SETUP: &str = include_str!("../../deploy/snowflake/setup.sql");

/// How a world differs from the ordinary one.
#[derive(Clone, Debug)]
pub struct Options {
    /// The life of Snowflake session tokens.
    pub session_ttl: Duration,
    /// The life of Entra's access tokens.
    pub token_life: Duration,
    /// The first life of Vault's tokens.
    pub vault_ttl: Duration,
    /// What Entra's tokens can be asked for.
    pub resource: String,
    /// The audience that Snowflake accepts; empty for the one of `deploy/snowflake/setup.sql`.
    pub audience: String,
    /// The life of Kerberos tickets.
    pub ticket: Duration,
    /// After how much silence Snowflake rolls an open transaction back.
    pub idle_transaction: Duration,
    /// The life of the credentials that a PUT hands out.
    pub stage_credentials: Duration,
    /// When Snowflake gives a statement's result.
    pub polling: snowflake::Polling,
    /// Whether there are a Kerberos user and a key pair for third-party clients.
    pub judges: bool,
    /// What SQL Server answers to a client's wish for TLS.
    pub encrypt: sqlserver::Encrypt,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session_ttl: Duration::from_secs(3600),
            token_life: Duration::from_secs(3600),
            vault_ttl: Duration::from_secs(3600),
            resource: "api://snowflake".to_owned(),
            audience: String::new(),
            ticket: Duration::from_secs(36_000),
            idle_transaction: Duration::from_mins(5),
            stage_credentials: Duration::from_secs(3600),
            polling: snowflake::Polling::default(),
            judges: false,
            // As an installation without "Force Encryption": a client that asks for encryption gets it.
            encrypt: sqlserver::Encrypt::Off,
        }
    }
}

/// Who the two programs run as.
#[derive(Clone, Copy, Debug)]
pub struct Users {
    /// The broker's user.
    pub broker: User,
    /// The loader's user.
    pub loader: User,
    /// Whether the two are different unprivileged users; only root can make it so.
    pub separate: bool,
}

impl Users {
    /// Two unprivileged users when this process is root, otherwise this user twice.
    pub fn choose() -> Self {
        let current = User::current();
        if current.uid == 0 {
            let (broker, loader) = (User { uid: 10_001, gid: 20_000 }, User { uid: 10_002, gid: 20_000 });
            Self { broker, loader, separate: true }
        } else {
            Self { broker: current, loader: current, separate: false }
        }
    }
}

/// The long-lived secrets of a world.
#[derive(Clone)]
pub struct Secrets {
    /// AppRole's role_id.
    pub role_id: String,
    /// AppRole's secret_id.
    pub secret_id: String,
    /// The Entra application's secret.
    pub client_secret: String,
    /// The loader account's keytab.
    pub keytab: Vec<u8>,
}

/// A running world.
pub struct World {
    /// Its folder.
    pub dir: PathBuf,
    /// Who runs what.
    pub users: Users,
    /// The authority of all certificates.
    pub authority: Authority,
    /// Vault.
    pub vault: Vault,
    /// Entra.
    pub entra: Entra,
    /// The KDC.
    pub kdc: Kdc,
    /// The recording proxy that the broker's Kerberos goes through.
    pub recorder: Recorder,
    /// SQL Server on the wire.
    pub sqlserver: sqlserver::Server,
    /// SQL Server's tables.
    pub source: Arc<Database>,
    /// Snowflake on the wire.
    pub snowflake: snowflake::Handle,
    /// Snowflake's tables.
    pub target: Arc<Database>,
    /// What must never leave the broker.
    pub secrets: Secrets,
    private: Private,
    auditor_secret: String,
    encrypt: sqlserver::Encrypt,
}

impl World {
    /// Starts everything in `dir`, which must be empty and reachable by other users.
    pub async fn start(dir: &Path, options: &Options) -> Result<Self> {
        let users = Users::choose();
        let authority = Authority::new("Keyferry local development")?;
        let ca = dir.join("ca.pem");
        authority.write_pem(&ca)?;
        let loopback = &["localhost", "127.0.0.1"];

        let vault = Vault::start(authority.server(loopback)?).await?;
        let entra =
            Entra::start(authority.server(loopback)?, TENANT, &[&options.resource], options.token_life)
                .await?;
        let client_secret = format!("cs~{}", uuid::Uuid::new_v4().simple());
        let auditor_secret = format!("au~{}", uuid::Uuid::new_v4().simple());
        servers::register(&entra, LOADER_APP, &client_secret);
        servers::register(&entra, AUDITOR_APP, &auditor_secret);
        let reports_secret = format!("rs~{}", uuid::Uuid::new_v4().simple());
        if options.judges {
            servers::register(&entra, judges::REPORTS_APP, &reports_secret);
        }

        let lifetimes = Lifetimes { ticket: options.ticket, ..Lifetimes::default() };
        let kdc = Kdc::start(&dir.join("kdc"), REALM, lifetimes)?;
        let recorder = Recorder::start(kdc.address())?;
        kdc.write_client_config(&dir.join("krb5.conf"), recorder.address())?;
        kdc.add_principal("svc_loader")?;
        let keytab_file = dir.join("kdc").join("svc_loader.keytab");
        kdc.export_keytab("svc_loader", &keytab_file)?;
        let keytab = fs::read(&keytab_file)?;

        let judges_key = if options.judges { Some(judges::prepare(dir, &kdc)?) } else { None };
        if options.judges {
            entra.add_certificate(AUDITOR_APP, &judges::certificate(dir)?)?;
        }
        let source = Database::new(Dialect::SqlServer, SOURCE_DATABASE);
        let sqlserver = servers::start_sqlserver(dir, &authority, &kdc, &source, options.encrypt).await?;
        let target = Database::new(Dialect::Snowflake, TARGET_DATABASE);
        let snowflake = servers::start_snowflake(&authority, &entra, &target, options, judges_key).await?;

        let (role_id, secret_id) =
            servers::fill_vault(&vault, options, [&client_secret, &reports_secret], &keytab)?;
        let private = Private::new(users.broker)?;
        let secrets = Secrets { role_id, secret_id, client_secret, keytab };
        users.broker.folder(&dir.join("broker"), 0o700)?;
        users.loader.folder(&dir.join("loader"), 0o700)?;
        users.broker.folder(&dir.join("socket"), 0o750)?;
        fs::create_dir_all(dir.join("logs"))?;
        Ok(Self {
            dir: dir.to_owned(),
            users,
            authority,
            vault,
            entra,
            kdc,
            recorder,
            sqlserver,
            source,
            snowflake,
            target,
            secrets,
            private,
            auditor_secret,
            encrypt: options.encrypt,
        })
    }

    /// The authority's certificate file.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The broker's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket").join("broker.sock")
    }

    /// The folder on tmpfs where the broker keeps the keytab.
    pub fn private(&self) -> &Path {
        &self.private.0
    }

    /// Creates sample tables in the source and fills them.
    pub async fn fill(&self, tables: &[Table]) -> Result<()> {
        let mut session = self.administrator();
        for table in tables {
            for outcome in session.execute(&table.ddl).await {
                outcome.map_err(|error| anyhow::anyhow!("create {}: {error}", table.name))?;
            }
            append(&mut session, table, &table.rows).await?;
        }
        Ok(())
    }

    /// Adds rows to a table that is there.
    pub async fn append(&self, table: &Table, rows: &[Vec<Cell>]) -> Result<()> {
        append(&mut self.administrator(), table, rows).await
    }

    /// Runs T-SQL in the source as its administrator would.
    pub async fn alter_source(&self, sql: &str) -> Result<()> {
        for outcome in self.administrator().execute(sql).await {
            outcome.map_err(|error| anyhow::anyhow!("{sql}: {error}"))?;
        }
        Ok(())
    }

    fn administrator(&self) -> Session {
        Session::new(&self.source, Identity { user: "sa".to_owned(), ..Identity::default() })
    }

    /// Takes SQL Server down, waits, and starts it again at the same address; the database stays.
    pub async fn restart_sqlserver(&mut self, down: Duration) -> Result<()> {
        self.sqlserver.stop().await;
        tokio::time::sleep(down).await;
        let port = self.sqlserver.addr().port();
        self.sqlserver =
            servers::serve_sqlserver(&self.dir, &self.authority, port, &self.source, self.encrypt).await?;
        Ok(())
    }

    /// Writes the broker's files and starts it; returns when it is ready or says why not.
    pub async fn start_broker(&self, setup: &BrokerSetup) -> Result<Process> {
        let config = setup.write(self)?;
        let mut broker = self.spawn_broker(&["run", "--config", &config.display().to_string()])?;
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            if tokio::net::UnixStream::connect(self.socket()).await.is_ok() {
                return Ok(broker);
            }
            if !broker.runs() || std::time::Instant::now() > deadline {
                bail!("the broker did not come up; it said:\n{}", broker.stderr());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the broker's program with any arguments.
    pub fn spawn_broker(&self, arguments: &[&str]) -> Result<Process> {
        self.spawn_broker_as("broker", arguments)
    }

    /// The same, with logs of that name.
    pub fn spawn_broker_as(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let program = self.program("broker")?;
        Process::start(name, &program, arguments, &[], self.users.broker, &self.dir.join("logs"))
    }

    /// Starts the loader's program with any arguments.
    pub fn spawn_loader(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Result<Process> {
        self.spawn_loader_as(name, arguments, environment, self.users.loader)
    }

    /// The same as another user.
    pub fn spawn_loader_as(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, String)],
        user: User,
    ) -> Result<Process> {
        let program = self.program("loader")?;
        Process::start(name, &program, arguments, environment, user, &self.dir.join("logs"))
    }

    /// Starts the other workloads' program with any arguments, as any user.
    pub fn spawn_brokerctl(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, String)],
        user: User,
    ) -> Result<Process> {
        let program = self.program("brokerctl")?;
        Process::start(name, &program, arguments, environment, user, &self.dir.join("logs"))
    }

    /// A built program, copied to where every user can reach it.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let copy = self.dir.join(name.to_owned() + ".bin");
        copy_program(&built(name)?, &copy)?;
        Ok(copy)
    }

    /// How the independent auditor reaches Snowflake.
    pub fn auditor(&self) -> Access {
        Access {
            ca_pem: self.authority.pem(),
            token_url: format!("{}/{TENANT}/oauth2/v2.0/token", self.entra.url()),
            client_id: AUDITOR_APP.to_owned(),
            client_secret: self.auditor_secret.clone(),
            scope: "api://snowflake/.default".to_owned(),
            snowflake_url: self.snowflake.url.clone(),
            account: ACCOUNT.to_owned(),
            user: "AUDITOR".to_owned(),
        }
    }

    /// Every long-lived secret as it is at this moment.
    pub fn needles(&self) -> Result<Vec<Needle>> {
        let needle = |name: &str, bytes: &[u8]| Needle { name: name.to_owned(), bytes: bytes.to_vec() };
        let mut all = vec![
            needle("secret_id", self.secrets.secret_id.as_bytes()),
            needle("Entra client secret", self.secrets.client_secret.as_bytes()),
        ];
        for token in self.vault.live_tokens() {
            all.push(needle("Vault token", token.as_bytes()));
        }
        let keys = kerberos::keytab_keys(&self.secrets.keytab)?;
        for key in &keys {
            all.push(needle("keytab key", key));
        }
        for revealed in self.recorder.reveal(&keys)? {
            // A ticket is long; its first bytes are as telling as the whole and survive a partial overwrite.
            all.push(needle(revealed.what, &revealed.bytes[..revealed.bytes.len().min(64)]));
        }
        for token in self.snowflake.master_tokens() {
            all.push(needle("Snowflake master token", token.as_bytes()));
        }
        Ok(all)
    }

    /// Stops every stand-in.
    pub async fn stop(mut self) {
        self.vault.stop().await;
        self.entra.stop().await;
        self.kdc.stop();
        self.sqlserver.stop().await;
        self.snowflake.stop().await;
    }
}

async fn append(session: &mut Session, table: &Table, rows: &[Vec<Cell>]) -> Result<()> {
    let values = rows.iter().map(|row| Ok::<Row, SqlError>(row.iter().map(value).collect()));
    let appended = session.append(&format!("dbo.[{}]", table.name), &[], values).await;
    let count = appended.map_err(|error| anyhow::anyhow!("fill {}: {error}", table.name))?;
    anyhow::ensure!(count == rows.len() as u64, "{}: {count} rows went in", table.name);
    Ok(())
}

/// A folder on tmpfs that goes with its world, however that ends.
struct Private(PathBuf);

impl Private {
    /// A folder of the broker's own, where the keytab may lie.
    fn new(owner: User) -> Result<Self> {
        let path = Path::new("/dev/shm").join(format!("keyferry-{}", uuid::Uuid::new_v4().simple()));
        Ok(Self(owner.folder(&path, 0o700)?))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A generated cell as the evaluator holds it.
pub fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => Value::Bool(*value),
        Cell::Int(value) => Value::Int(*value),
        Cell::Decimal(unscaled, scale) => Value::Decimal(keyferry_sql::Decimal::new(*unscaled, *scale)),
        Cell::Real(value) => Value::Real(*value),
        Cell::Float(value) => Value::Float(*value),
        Cell::Date(days) => Value::Date(*days),
        Cell::DateTime(days, ns) => Value::DateTime { days: *days, ns: *ns },
        Cell::Text(text) => Value::text(text),
        Cell::Bytes(bytes) => Value::bytes(bytes),
        Cell::Uuid(bytes) => Value::Uuid(*bytes),
    }
}

/// A folder for one world, gone when this is dropped (or stopped being needed).
pub fn fresh_folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new()
        .prefix("keyferry-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    Ok(dir)
}
