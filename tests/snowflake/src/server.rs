//! Two listeners, their TLS, and the state that all requests share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Faults, Stats,
    copy::History,
    http::Cut,
    oauth::ExternalOauth,
    objects::{self, ObjectStore, ResultParts},
    route,
    session::Sessions,
    stages::Stages,
};

/// A TLS handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A client that sends no request for this long is let go.
const HEADER_LIMIT: Duration = Duration::from_mins(2);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The object store needs an IPv4 address in 127.0.0.0/8.
    #[error("the object store cannot listen on {0}: give it an IPv4 loopback address")]
    ObjectsAddress(SocketAddr),
    /// A security integration's certificate authority could not be read.
    #[error("the certificate authority of a security integration is not readable: {0}")]
    Authority(#[from] reqwest::Error),
}

/// What every request can reach.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) faults: Arc<Faults>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) sessions: Sessions,
    pub(crate) oauth: ExternalOauth,
    pub(crate) objects: ObjectStore,
    pub(crate) results: ResultParts,
    pub(crate) stages: Stages,
    pub(crate) history: History,
    pub(crate) counting: crate::Counting,
    pub(crate) tasks: TaskTracker,
    /// What `stageInfo.endPoint` says to drivers that put the bucket in front.
    pub(crate) endpoint: String,
}

impl Shared {
    /// The object store's whole address.
    pub(crate) fn objects_address(&self) -> String {
        format!("{}.{}", objects::BUCKET, self.endpoint)
    }
}

/// The stand-in; see [`Server::start`].
pub struct Server;

/// A running stand-in.
pub struct Handle {
    /// Where the service listens.
    pub addr: SocketAddr,
    /// Where the object store listens.
    pub objects_addr: SocketAddr,
    /// `https://ADDRESS` of the service.
    pub url: String,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Fault switches.
    pub faults: Arc<Faults>,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
}

impl Handle {
    /// The tables whose rows are counted instead of stored.
    pub fn counting(&self) -> &crate::Counting {
        &self.shared.counting
    }

    /// Makes every session token that is out count as expired (390112), so that clients must renew.
    pub fn expire_session_tokens(&self) {
        self.shared.sessions.expire_all();
    }

    /// Makes every stage credential that is out count as expired.
    pub fn expire_stage_credentials(&self) {
        self.shared.objects.expire_all();
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.shared.sessions.all().len()
    }

    /// The master tokens of open sessions: what a leak scan must search for.
    pub fn master_tokens(&self) -> Vec<String> {
        self.shared.sessions.master_tokens()
    }

    /// The keys of all staged objects, in order.
    pub fn staged_objects(&self) -> Vec<String> {
        self.shared.objects.list("").into_iter().map(|(key, _)| key).collect()
    }

    /// Changes one byte in the middle of a staged object, as a bad disk would; false when there is no such object.
    pub fn damage_staged_object(&self, key: &str) -> bool {
        self.shared.objects.damage(key)
    }

    /// Stops listening, ends every connection and statement, and waits for them.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.shared.tasks.wait().await;
    }
}

impl Server {
    /// Binds both listeners and serves until `config.shutdown` fires.
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        // A second provider cannot be installed: then the process has one already, and that is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = bind(config.listen).await?;
        let objects_listener = bind(config.objects_listen).await?;
        let local = |listener: &TcpListener, addr| {
            listener.local_addr().map_err(|source| StartError::Listen { addr, source })
        };
        let addr = local(&listener, config.listen)?;
        let objects_addr = local(&objects_listener, config.objects_listen)?;
        let endpoint = endpoint(objects_addr)?;
        let stats = Arc::new(Stats::default());
        let faults = Arc::new(Faults::default());
        let shared = Arc::new(Shared {
            sessions: Sessions::new(config.session_ttl, config.master_ttl, config.old_token_grace),
            oauth: ExternalOauth::new(&config.external_oauth, Arc::clone(&stats))?,
            objects: ObjectStore::default(),
            results: ResultParts::default(),
            stages: Stages::default(),
            history: History::default(),
            counting: crate::Counting::default(),
            tasks: TaskTracker::new(),
            faults: Arc::clone(&faults),
            stats: Arc::clone(&stats),
            endpoint,
            config,
        });
        introduce(&shared.config).await;
        let shutdown = shared.config.shutdown.clone();
        shared.tasks.spawn(accept(Arc::clone(&shared), listener, Door::Service));
        shared.tasks.spawn(accept(Arc::clone(&shared), objects_listener, Door::Objects));
        shared.tasks.spawn(reap(Arc::clone(&shared)));
        shared.tasks.close();
        tracing::info!(%addr, %objects_addr, account = shared.config.account, "Snowflake stand-in is listening");
        Ok(Handle { addr, objects_addr, url: format!("https://{addr}"), stats, faults, shared, shutdown })
    }
}

/// Tells the evaluator who has which role.
async fn introduce(config: &Config) {
    let mut admin = keyferry_sql::Session::new(&config.database, keyferry_sql::Identity::default());
    for user in &config.users {
        for role in &user.roles {
            let name = |text: &str| text.to_uppercase().replace('"', "\"\"");
            let grant = format!("GRANT ROLE \"{}\" TO USER \"{}\"", name(role), name(&user.name));
            for answer in admin.execute(&grant).await {
                if let Err(error) = answer {
                    tracing::warn!(%error, role, user = user.name, "the role was not granted");
                }
            }
        }
    }
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { addr, source })
}

/// `127.0.0.1:4000` → `0.0.1:4000`, to which drivers put the bucket `127` and a dot in front.
fn endpoint(addr: SocketAddr) -> Result<String, StartError> {
    addr.to_string()
        .strip_prefix(&format!("{}.", objects::BUCKET))
        .map(str::to_owned)
        .ok_or(StartError::ObjectsAddress(addr))
}

#[derive(Clone, Copy)]
enum Door {
    Service,
    Objects,
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, door: Door) {
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.config.tls));
    let shutdown = shared.config.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let work = connection(Arc::clone(&shared), acceptor.clone(), stream, door);
                shared.tasks.spawn(shutdown.clone().run_until_cancelled_owned(work));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream, door: Door) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let service = service_fn(move |request| dispatch(Arc::clone(&shared), door, request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

async fn dispatch(
    shared: Arc<Shared>,
    door: Door,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Cut> {
    match door {
        Door::Service => route::serve(shared, request).await,
        Door::Objects => objects::serve(&shared, request).await,
    }
}

/// Rolls back transactions whose client went silent, and forgets dead tokens.
async fn reap(shared: Arc<Shared>) {
    let limit = shared.config.idle_transaction;
    let mut ticks =
        tokio::time::interval((limit / 4).clamp(Duration::from_millis(50), Duration::from_secs(5)));
    loop {
        tokio::select! {
            () = shared.config.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for session in shared.sessions.idle(limit) {
            // A session whose statement runs is not idle.
            if let Ok(mut sql) = session.sql.try_lock()
                && sql.in_transaction()
            {
                sql.rollback();
                shared.history.rolled_back(session.id, shared.config.load_history);
                shared.stats.transactions_reaped();
                tracing::info!(session = session.id, "an idle transaction was rolled back");
            }
        }
        shared.sessions.sweep();
    }
}
