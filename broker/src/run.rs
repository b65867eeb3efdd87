//! The life of the broker: claim, log in, serve, drain, wipe.

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    admin,
    audit::{AuditError, AuditLog, Outcome, Record, Taker},
    config::{Config, GrantConfig, GrantName},
    events::{self, Event, Events},
    grants::Grants,
    issuer::Upstreams,
    metrics::Metrics,
    policy::Policy,
    reload, renew,
    rpc::{self, Broker},
    service_account::{KeysError, Verifier},
    socket::{self, Place, Socket, SocketError},
    upstream::{self, Upstream, UpstreamError},
};

/// How long what is left may take after the drain is over.
const LAST_WORDS: Duration = Duration::from_secs(12);

/// How often the audit log is signed while lines are written.
const CHECKPOINT: Duration = Duration::from_mins(5);

/// Why the broker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no safe place to serve.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Decisions cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An upstream did not let the broker in.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// Health and metrics have no address.
    #[error("cannot serve health and metrics on {listen}: {source}; choose another `admin.listen`")]
    Admin {
        /// The configured address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody could prove a service account.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The server stopped by itself.
    #[error("the gRPC server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// A broker that may start: the socket's folder is its own, and the process is ready for Kerberos.
pub struct Prepared {
    config: Config,
    place: Arc<Place>,
    taker: Option<Taker>,
}

/// Claims the socket's folder and prepares the process. Call it before the program has a second thread.
///
/// The folder comes first: a second broker leaves before it has touched the first one's keytab or used up
/// a login.
pub fn prepare(config: Config) -> Result<Prepared, RunError> {
    let place = Arc::new(Place::claim(&config.socket.path)?);
    upstream::prepare(&config)?;
    let taker = AuditLog::taker(&config.audit)?;
    Ok(Prepared { config, place, taker })
}

/// [`prepare`] and [`Prepared::run`] in one, for a configuration without Kerberos or a process that has
/// been prepared.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    prepare(config)?.run(shutdown, Arc::default()).await
}

impl Prepared {
    /// Runs the broker until `shutdown`, then drains: nobody new is accepted, open sessions and exchanges may
    /// end until `limits.drain` is over, the rest is closed, and every secret is wiped.
    ///
    /// Each ring of `reload` takes the policy of the configuration file again.
    pub async fn run(self, shutdown: CancellationToken, reload: Arc<Notify>) -> Result<(), RunError> {
        let Self { config, place, taker } = self;
        let audit = AuditLog::start(&config.audit, taker)?;
        audit.record(Record::new("Start", Outcome::Noted)).await?;
        let (tasks, end_upstreams) = (TaskTracker::new(), CancellationToken::new());
        let (events, mut told) = events::channel();
        let started = Upstream::start(&config, &tasks, &end_upstreams, &shutdown, events.clone()).await;
        let upstream = match started {
            Ok(Some(upstream)) => upstream,
            Ok(None) => {
                info!("told to stop before serving; what was obtained is given back");
                let detail = "before anything was served".to_owned();
                audit.record(Record { detail, ..Record::new("Stop", Outcome::Noted) }).await?;
                return Ok(());
            }
            Err(error) => {
                events::report_told(&mut told, &audit, &Metrics::default()).await;
                let detail = error.to_string();
                audit.record(Record { detail, ..Record::new("Start", Outcome::Failed) }).await?;
                return Err(error.into());
            }
        };
        if let Some(key) = upstream.audit_key() {
            audit.sign_with(key).await?;
            tasks.spawn(sign_now_and_then(audit.clone(), end_upstreams.clone()));
        }
        let signals = Signals { shutdown, reload };
        let outcome =
            serve(&config, &place, Arc::clone(&upstream), audit.clone(), (events, told), signals).await;
        end_upstreams.cancel();
        tasks.close();
        if timeout(LAST_WORDS, tasks.wait()).await.is_err() {
            warn!("a renewal task did not end in time");
        }
        upstream.close().await;
        if let Err(error) = audit.record(Record::new("Stop", Outcome::Noted)).await {
            warn!(%error, "the stop is not in the audit log");
        }
        if let Err(error) = audit.close().await {
            warn!(%error, "the end of the audit log is not signed");
        }
        drop(place);
        outcome
    }
}

/// What a running broker is told from outside.
pub struct Signals {
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Takes the policy of the configuration file again.
    pub reload: Arc<Notify>,
}

/// Nothing that was written stays unsigned for longer than [`CHECKPOINT`].
async fn sign_now_and_then(audit: AuditLog, end: CancellationToken) {
    while timeout(CHECKPOINT, end.cancelled()).await.is_err() {
        if let Err(error) = audit.checkpoint().await {
            warn!(%error, "no checkpoint in the audit log");
        }
    }
}

/// Serves what the upstreams give until `shutdown`, and drains. The upstreams are left as they are.
pub async fn serve<U: Upstreams>(
    config: &Config,
    place: &Arc<Place>,
    upstreams: Arc<U>,
    audit: AuditLog,
    (events, told): (Events, mpsc::Receiver<Event>),
    Signals { shutdown, reload }: Signals,
) -> Result<(), RunError> {
    let accounts = match &config.service_accounts {
        Some(accounts) => Some(Verifier::open(accounts, events.clone())?),
        None => None,
    };
    let metrics = Arc::new(Metrics::default());
    let policy = Policy::new(config.policy.clone());
    let grants = Arc::new(Grants::new(bearers(config, &policy)));
    let end_all = CancellationToken::new();
    let broker = Arc::new(Broker::new(
        upstreams,
        (policy, accounts),
        grants,
        audit,
        Arc::clone(&metrics),
        &config.limits,
        end_all.clone(),
    ));
    let listen = config.admin.listen;
    let admin = admin::bind(listen).await.map_err(|source| RunError::Admin { listen, source })?;
    let socket = Socket::listen(place, &config.socket)?;
    announce(config, &socket, &admin);

    let background = TaskTracker::new();
    for slot in broker.grants.slots() {
        let (issuer, slot) = (Arc::clone(&broker.upstreams), Arc::clone(slot));
        let margin = config.limits.refresh_margin;
        background.spawn(renew::keep_fresh(issuer, slot, margin, Arc::clone(&metrics), end_all.clone()));
    }
    background.spawn(events::report_all(told, broker.audit.clone(), Arc::clone(&metrics), end_all.clone()));
    background.spawn(reload::policy(Arc::clone(&broker), config.clone(), reload, events, end_all.clone()));
    background.spawn(admin::serve(Arc::clone(&broker), admin, shutdown.clone(), end_all.clone()));

    let connections = socket::incoming(socket, config.limits.connections_per_uid, metrics);
    let serving = rpc::serve(Arc::clone(&broker), connections, shutdown.clone());
    let outcome = drain(serving, &broker, config.limits.drain, &shutdown).await;
    end_all.cancel();
    broker.tasks.close();
    background.close();
    let rest = async { tokio::join!(broker.tasks.wait(), background.wait()) };
    if timeout(LAST_WORDS, rest).await.is_err() {
        warn!("a session did not close in time; Snowflake ends it after its idle time");
    }
    broker.grants.wipe();
    outcome
}

/// Waits for the server; after `shutdown` no longer than `patience` before what is open is ended.
async fn drain<U: Upstreams>(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    broker: &Broker<U>,
    patience: Duration,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    tokio::pin!(serving);
    tokio::select! {
        outcome = &mut serving => return Ok(outcome?),
        () = shutdown.cancelled() => info!(?patience, "stopping: no new connections; open calls may end"),
    }
    broker.draining.cancel();
    if let Ok(outcome) = timeout(patience, &mut serving).await {
        return Ok(outcome?);
    }
    warn!("some calls are still open; ending them");
    broker.stop.cancel();
    // A connection that does not end even now is dropped with the server.
    timeout(LAST_WORDS, serving).await.unwrap_or(Ok(()))?;
    Ok(())
}

/// The grants of bearer tokens that somebody may use: nothing is fetched that nobody may have.
pub(crate) fn bearers(config: &Config, policy: &Policy) -> BTreeSet<GrantName> {
    let is_bearer = |name: &GrantName| matches!(config.grants.get(name), Some(GrantConfig::Snowflake(_)));
    policy.grants().into_iter().map(|(name, _)| name).filter(is_bearer).collect()
}

fn announce(config: &Config, socket: &Socket, admin: &tokio::net::TcpListener) {
    let address = admin.local_addr().map(|a| a.to_string()).unwrap_or_default();
    info!(
        socket = %socket.path().display(),
        admin = %address,
        grants = config.grants.len(),
        policy_entries = config.policy.len(),
        "serving"
    );
}
