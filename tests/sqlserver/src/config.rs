//! What a caller decides about the server before it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use keyferry_sql::Database;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::computed::Computed;
use crate::faults::Faults;

/// Everything [`Server::start`](crate::Server::start) needs. [`Config::new`] fills in the defaults.
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate to show. Without one the server can only answer [`Encrypt::NotSupported`].
    pub tls: Option<TlsIdentity>,
    /// The server's side of the PRELOGIN encryption negotiation.
    pub encrypt: Encrypt,
    /// SQL logins, by name and password. Empty: integrated authentication only.
    pub logins: Vec<SqlLogin>,
    /// Integrated authentication by Kerberos. None: a client that tries gets error 18452.
    pub kerberos: Option<Kerberos>,
    /// What is served; a login that names a database it does not have gets error 4060.
    pub database: Arc<Database>,
    /// Largest packet the server agrees to, header included (512..=32767). Clients that ask for more get this.
    pub max_packet_size: u16,
    /// Switches that make answers fail on purpose, settable while the server runs.
    pub faults: Faults,
    /// Who answers for tables that are computed and not stored.
    pub computed: Computed,
    /// Cancelled by the caller to stop the server; [`Server::stop`](crate::Server::stop) cancels it too.
    pub shutdown: CancellationToken,
}

impl Config {
    /// A server for `database` with no login at all, no TLS and no fault armed.
    pub fn new(listen: SocketAddr, database: Arc<Database>) -> Self {
        Self {
            listen,
            tls: None,
            encrypt: Encrypt::Required,
            logins: Vec::new(),
            kerberos: None,
            database,
            max_packet_size: 32_767,
            faults: Faults::default(),
            computed: Computed::default(),
            shutdown: CancellationToken::new(),
        }
    }
}

/// The server's answer in the PRELOGIN encryption matrix (MS-TDS 2.2.6.5).
///
/// TDS 8 (TLS before PRELOGIN, ALPN `tds/8.0`) is served on the same port whenever there is a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypt {
    /// Encrypt the login packet only, unless the client asks for more.
    Off,
    /// Encrypt everything (the "Force Encryption" setting); a client that cannot is turned away.
    Required,
    /// No TLS at all; a client that requires encryption gives up by itself.
    NotSupported,
}

/// The certificate chain, leaf first, and its private key.
pub struct TlsIdentity {
    /// Leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// A login with a password (SQL Server authentication).
#[derive(Clone)]
pub struct SqlLogin {
    /// Compared without regard to ASCII case, as the server's default collation does.
    pub name: String,
    /// Compared exactly.
    pub(crate) password: String,
}

impl SqlLogin {
    /// A login called `name` that opens with `password`.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into() }
    }
}

impl fmt::Debug for SqlLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlLogin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The GSSAPI acceptor's side of integrated authentication.
///
/// MIT Kerberos reads its configuration from the file that the environment variable `KRB5_CONFIG` names: the process
/// that runs the server must be *started* with it set (changing the environment of a running program is not safe).
/// The acceptor needs only the default realm from it and never talks to a KDC. Replayed tickets are remembered in the
/// directory `KRB5RCACHEDIR`, or else in the system's temporary directory.
#[derive(Clone, Debug)]
pub struct Kerberos {
    /// Holds the keys of the service principal and nothing else that is needed.
    pub keytab: PathBuf,
    /// The service principal, `MSSQLSvc/host:port`; tickets for any other are refused even if the keytab has its key.
    pub spn: String,
    /// Client principal (`svc_loader@REALM`) to the login name the session runs as (`CORP\svc_loader`). Others: 18456.
    pub logins: BTreeMap<String, String>,
}
