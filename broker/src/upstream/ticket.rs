//! The broker's Kerberos ticket: taken with the keytab, renewed past half of its life, wiped at the end.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    bundle::Bundle,
    error::{ErrorClass, UpstreamError, UpstreamName},
    kerberos::{Failure, Ticket, set_profile},
    keytab::Keytab,
    status::Board,
    tmpfs::{PrivateFile, PrivateFolder},
};
use crate::config::KerberosConfig;

/// A call into the Kerberos library takes at most this long; its thread may need longer to come back.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(12);
/// Threads that may hang in the library at once.
const THREADS: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A directory counts wrong keys and locks the account: a refused one is tried this rarely.
const REFUSED_PAUSE: Duration = Duration::from_mins(5);

/// The broker's identity in Kerberos.
pub(super) struct Kerberos {
    folder: Arc<PrivateFolder>,
    identity: Mutex<Option<Arc<Identity>>>,
    ticket: RwLock<Option<Arc<Ticket>>>,
    threads: Arc<Semaphore>,
    board: Arc<Board>,
}

/// One keytab and whose it is. Dropping it wipes the file.
struct Identity {
    principal: String,
    keytab: PrivateFile,
}

/// Prepares the Kerberos profile while the program has one thread; see `kerberos.rs`.
pub(super) fn prepare(config: &KerberosConfig) -> Result<(), UpstreamError> {
    PrivateFolder::open(&config.tmpfs)?;
    set_profile(&config.tmpfs, &config.krb5_conf)
}

impl Kerberos {
    /// Writes the keytab onto tmpfs and gets the first ticket.
    pub(super) async fn start(
        config: &KerberosConfig,
        bundle: &Bundle,
        board: Arc<Board>,
    ) -> Result<Arc<Self>, UpstreamError> {
        let kerberos = Self {
            folder: PrivateFolder::open(&config.tmpfs)?,
            identity: Mutex::new(None),
            ticket: RwLock::new(None),
            threads: Arc::new(Semaphore::new(THREADS)),
            board,
        };
        kerberos.install(config, bundle)?;
        // Refuses a process whose profile is not the prepared one, whatever set it.
        set_profile(&config.tmpfs, &config.krb5_conf)?;
        kerberos.renew().await?;
        Ok(Arc::new(kerberos))
    }

    /// Takes the keytab of a bundle; the one before it is wiped once no call uses it.
    fn install(&self, config: &KerberosConfig, bundle: &Bundle) -> Result<(), UpstreamError> {
        let principal = bundle.setting(config.principal_key.as_str())?;
        let keytab = Keytab::parse(bundle.secret(config.keytab_key.as_str())?, principal)?;
        let file = self.folder.write("keytab", keytab.bytes())?;
        tracing::info!(
            principal = keytab.principal(),
            kvno = keytab.newest(),
            version = bundle.version(),
            "the keytab is on tmpfs"
        );
        let identity = Identity { principal: keytab.principal().to_owned(), keytab: file };
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(identity));
        Ok(())
    }

    /// Renews the ticket until `shutdown`. A failed attempt leaves the ticket that is held in place.
    pub(super) async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut wait = self.renew_in();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = match self.renew().await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    self.renew_in()
                }
                Err(error) => {
                    tracing::warn!(%error, "the Kerberos ticket was not renewed");
                    let refused = matches!(error.class(), ErrorClass::Credential | ErrorClass::Denied);
                    let wait = if refused { REFUSED_PAUSE } else { pause };
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    wait.mul_f64(0.75 + fastrand::f64() / 2.0)
                }
            };
        }
    }

    /// The ticket that is held, as long as it is good.
    pub(super) fn ticket(&self) -> Result<Arc<Ticket>, UpstreamError> {
        let held = self.ticket.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|t| t.expires_at() > SystemTime::now()).ok_or_else(|| {
            UpstreamError::new(
                UpstreamName::Kerberos,
                ErrorClass::Expired,
                "using the Kerberos ticket",
                "it has ended",
                "see in the log why it was not renewed",
            )
        })
    }

    /// The client principal's realm.
    pub(super) fn realm(&self) -> Option<String> {
        let identity = self.identity()?;
        identity.principal.rsplit_once('@').map(|(_, realm)| realm.to_owned())
    }

    /// Runs a call into the library on a thread that may block.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        attempted: &str,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, UpstreamError> {
        let too_long = |what: &str| {
            UpstreamError::new(
                UpstreamName::Kerberos,
                ErrorClass::Unreachable,
                attempted,
                format!("{what} within {} s", CALL_DEADLINE.as_secs()),
                "check the realm's `kdc` in the Kerberos profile, and port 88 between",
            )
        };
        let call = async {
            let Ok(permit) = Arc::clone(&self.threads).acquire_owned().await else {
                return Err(too_long("no thread was free"));
            };
            let call = tokio::task::spawn_blocking(move || {
                let outcome = work();
                drop(permit);
                outcome
            });
            match call.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(failure)) => Err(failure.explain(attempted.to_owned())),
                Err(_) => Err(too_long("the library's thread did not finish")),
            }
        };
        tokio::time::timeout(CALL_DEADLINE, call)
            .await
            .unwrap_or_else(|_| Err(too_long("no answer from the Kerberos library")))
    }

    /// Wipes the keytab and lets go of the ticket; exchanges that still run keep theirs to their end.
    pub(super) fn close(&self) {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ticket.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn renew(&self) -> Result<(), UpstreamError> {
        let Some(identity) = self.identity() else { return Ok(()) };
        let attempted = format!("getting a ticket for {}", identity.principal);
        let work = move || Ticket::acquire(&identity.principal, &identity.keytab.path());
        match self.call(&attempted, work).await {
            Ok(ticket) => {
                let until = ticket.expires_at();
                tracing::info!(life_seconds = ticket.life().as_secs(), "got a Kerberos ticket");
                *self.ticket.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ticket));
                self.board.succeeded(UpstreamName::Kerberos, None, Some(until));
                Ok(())
            }
            Err(error) => {
                self.board.failed(None, &error);
                Err(error)
            }
        }
    }

    fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn renew_in(&self) -> Duration {
        let held = self.ticket.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.map_or(FIRST_PAUSE, |ticket| {
            let due = ticket.expires_at() - ticket.life().mul_f64(0.5 - fastrand::f64() / 10.0);
            due.duration_since(SystemTime::now()).unwrap_or_default().max(Duration::from_millis(500))
        })
    }
}
