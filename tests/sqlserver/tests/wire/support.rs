//! A running server with a certificate of its own, and clients that are connected to it.

use std::sync::Arc;
use std::time::Duration;

use keyferry_sql::{Database, Dialect};
use keyferry_stand_in_sqlserver::{Config, Encrypt, Server, SqlLogin, TlsIdentity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tiberius::{AuthMethod, Client, ColumnData, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

pub(crate) const USER: &str = "loader";
pub(crate) const PASSWORD: &str = "Pa55 w/ ümlaut";
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) type Tiberius = Client<Compat<TcpStream>>;

pub(crate) struct Local {
    pub(crate) server: Server,
    pub(crate) database: Arc<Database>,
    pub(crate) directory: tempfile::TempDir,
}

/// A server with the database `sales`, one SQL login, and a certificate of a private authority for `localhost`.
pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Local {
    let directory = tempfile::tempdir().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();

    let database = Database::new(Dialect::SqlServer, "sales");
    let mut config = Config::new("127.0.0.1:0".parse().unwrap(), database.clone());
    config.logins.push(SqlLogin::new(USER, PASSWORD));
    let key = key.serialize_der().try_into().unwrap();
    config.tls = Some(TlsIdentity { certificates: vec![leaf.der().clone()], key });
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    Local { server, database, directory }
}

/// The plainest server: no TLS at all, for tests that are about something else.
pub(crate) async fn start_plain() -> Local {
    start(|config| config.encrypt = Encrypt::NotSupported).await
}

impl Local {
    pub(crate) fn client_config(&self, encryption: EncryptionLevel) -> tiberius::Config {
        let mut config = tiberius::Config::new();
        config.host("localhost");
        config.port(self.server.addr().port());
        config.encryption(encryption);
        config.authentication(AuthMethod::sql_server(USER, PASSWORD));
        config.trust_cert_ca(self.directory.path().join("ca.pem").display());
        config
    }

    pub(crate) async fn connect(&self, config: tiberius::Config) -> tiberius::Result<Tiberius> {
        let tcp = TcpStream::connect(self.server.addr()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tokio::time::timeout(DEADLINE, Client::connect(config, tcp.compat_write())).await.unwrap()
    }

    pub(crate) async fn client(&self) -> Tiberius {
        self.connect(self.client_config(EncryptionLevel::NotSupported)).await.unwrap()
    }
}

/// Runs statements and panics with the server's words if one fails.
pub(crate) async fn run(client: &mut Tiberius, sql: &str) {
    if let Err(error) = try_run(client, sql).await {
        panic!("{sql}: {error}");
    }
}

pub(crate) async fn try_run(client: &mut Tiberius, sql: &str) -> tiberius::Result<()> {
    let running = async { client.simple_query(sql).await?.into_results().await };
    tokio::time::timeout(DEADLINE, running).await.unwrap().map(drop)
}

/// The first result set, every cell as tiberius has it.
pub(crate) async fn rows(client: &mut Tiberius, sql: &str) -> Vec<Vec<ColumnData<'static>>> {
    let reading = async { client.simple_query(sql).await?.into_first_result().await };
    let rows = match tokio::time::timeout(DEADLINE, reading).await.unwrap() {
        Ok(rows) => rows,
        Err(error) => panic!("{sql}: {error}"),
    };
    rows.iter().map(|row| row.cells().map(|(_, cell)| cell.clone()).collect()).collect()
}

/// The one column of the first result set as 32-bit integers.
pub(crate) async fn ints(client: &mut Tiberius, sql: &str) -> Vec<i32> {
    rows(client, sql)
        .await
        .into_iter()
        .map(|row| match row.as_slice() {
            [ColumnData::I32(Some(number))] => *number,
            other => panic!("{sql}: {other:?}"),
        })
        .collect()
}

/// The number of the error that a statement ends with.
pub(crate) async fn error_number(client: &mut Tiberius, sql: &str) -> u32 {
    match try_run(client, sql).await {
        Err(tiberius::error::Error::Server(token)) => token.code(),
        other => panic!("{sql}: {other:?}"),
    }
}
