//! The listening socket, the connections' tasks, and their common state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::config::{Config, Encrypt};
use crate::connection;
use crate::gss::{Acceptor, GssError};
use crate::transport::TlsConfigs;

/// Connections served at once; more are closed at the door.
const MAX_CONNECTIONS: u64 = 512;
/// How long [`Server::stop`] waits for connections to notice.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A running server. Dropping it without [`Server::stop`] stops it too, without waiting.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// What every connection of a server shares.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) tls: Option<TlsConfigs>,
    pub(crate) acceptor: Option<Acceptor>,
    pub(crate) stats: Counters,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) refused_logins: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) attentions: AtomicU64,
}

/// What the server did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// TCP connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that were refused.
    pub refused_logins: u64,
    /// SQL batches and remote procedure calls executed.
    pub batches: u64,
    /// Rows sent.
    pub rows: u64,
    /// Requests cancelled by the client.
    pub attentions: u64,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could not be bound.
    #[error("cannot listen on {addr}: {source}; choose another address or port 0")]
    Bind {
        /// The configured address.
        addr: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// rustls refused the certificate or key.
    #[error("cannot use the server's certificate and key: {0}; check that they belong together")]
    Tls(#[from] rustls::Error),
    /// Encryption was asked for but there is no certificate.
    #[error(
        "encryption is {0:?} but no certificate is configured; set `tls` or choose Encrypt::NotSupported"
    )]
    NoCertificate(Encrypt),
    /// The service's keytab gives no acceptor credential.
    #[error("cannot accept Kerberos logins: {0}")]
    Kerberos(#[from] GssError),
    /// The packet size is outside the protocol's limits.
    #[error("max_packet_size is {0}, but TDS allows 512 to 32767 bytes; choose one of those")]
    PacketSize(u16),
}

impl Server {
    /// Checks the configuration, binds the socket and begins to serve.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if !(512..=32_767).contains(&config.max_packet_size) {
            return Err(StartError::PacketSize(config.max_packet_size));
        }
        let tls = config.tls.as_ref().map(TlsConfigs::new).transpose()?;
        if tls.is_none() && config.encrypt != Encrypt::NotSupported {
            return Err(StartError::NoCertificate(config.encrypt));
        }
        let acceptor = config.kerberos.as_ref().map(Acceptor::new).transpose()?;
        let addr = config.listen;
        let bound = TcpListener::bind(addr).await.and_then(|listener| {
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        });
        let (listener, addr) = bound.map_err(|source| StartError::Bind { addr, source })?;
        let shutdown = config.shutdown.child_token();
        let shared = Arc::new(Shared { config, tls, acceptor, stats: Counters::default() });
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, shared.clone(), tasks.clone(), shutdown.clone()));
        info!(%addr, "SQL Server stand-in is listening");
        Ok(Self { addr, shared, tasks, shutdown })
    }

    /// The bound address, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.stats;
        Stats {
            connections: read(&counters.connections),
            open: read(&counters.open),
            logins: read(&counters.logins),
            refused_logins: read(&counters.refused_logins),
            batches: read(&counters.batches),
            rows: read(&counters.rows),
            attentions: read(&counters.attentions),
        }
    }

    /// The switches that were given in the configuration.
    pub fn faults(&self) -> &crate::Faults {
        &self.shared.config.faults
    }

    /// Who answers for tables that are computed and not stored.
    pub fn computed(&self) -> &crate::Computed {
        &self.shared.config.computed
    }

    /// Closes the listening socket and every connection, and waits for their tasks (at most five seconds).
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WAIT, self.tasks.wait()).await.is_err() {
            warn!("connections of the SQL Server stand-in did not end in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.tasks.close();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let open = shared.stats.open.fetch_add(1, Ordering::Relaxed);
                shared.stats.connections.fetch_add(1, Ordering::Relaxed);
                let guard = OpenConnection(shared.clone());
                if open >= MAX_CONNECTIONS {
                    warn!(%peer, "too many connections; this one is closed");
                    continue;
                }
                tasks.spawn(serve(socket, peer, guard, shutdown.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: let some connections end before the next try.
                warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct OpenConnection(Arc<Shared>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, open: OpenConnection, shutdown: CancellationToken) {
    let _ = socket.set_nodelay(true);
    tokio::select! {
        () = shutdown.cancelled() => {}
        ended = connection::serve(socket, open.0.clone()) => match ended {
            Ok(()) => debug!(%peer, "connection closed"),
            Err(error) => info!(%peer, %error, "connection ended"),
        }
    }
}
