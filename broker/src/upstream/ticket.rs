//! The broker's Kerberos ticket: taken with the keytab, renewed past half of its life, wiped at the end.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    bundle::Bundle,
    error::{ErrorClass, UpstreamError, UpstreamName},
    kerberos::{Failure, Ticket, set_profile},
    keytab::{Keytab, Version},
    shape::Shape,
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
    principal_key: String,
    keytab_key: String,
    identity: Mutex<Option<Arc<Identity>>>,
    ticket: RwLock<Option<Arc<Ticket>>>,
    threads: Arc<Semaphore>,
    board: Arc<Board>,
    /// Rung when the identity was replaced.
    replaced: Notify,
    /// Rung when the KDC refuses the key: there may be a newer one in Vault.
    refused: Arc<Notify>,
}

/// A keytab, whose it is and where it came from. Dropping it wipes the files.
struct Identity {
    principal: String,
    /// One file for each version of the key, newest first.
    keytabs: Vec<PrivateFile>,
    bundle: Arc<Bundle>,
}

impl Identity {
    /// Shows the newest key to the KDC, and the one before it where the KDC does not know the newest (yet).
    fn acquire(&self) -> Result<Ticket, Failure> {
        let mut refused = None;
        for keytab in &self.keytabs {
            match Ticket::acquire(&self.principal, &keytab.path()) {
                Err(failure) if failure.is_about_the_key() => refused = refused.or(Some(failure)),
                outcome => return outcome,
            }
        }
        Err(refused.unwrap_or_else(|| Failure::own("a keytab without a key")))
    }
}

/// Prepares the Kerberos profile while the program has one thread; see `kerberos.rs`.
pub(super) fn prepare(config: &KerberosConfig) -> Result<(), UpstreamError> {
    PrivateFolder::open(&config.tmpfs)?;
    set_profile(&config.tmpfs, &config.krb5_conf)
}

impl Kerberos {
    /// Writes the keytab onto tmpfs and gets the first ticket. `refused` is rung when the KDC refuses a key.
    pub(super) async fn start(
        config: &KerberosConfig,
        bundle: &Arc<Bundle>,
        board: Arc<Board>,
        refused: Arc<Notify>,
    ) -> Result<Arc<Self>, UpstreamError> {
        let kerberos = Self {
            folder: PrivateFolder::open(&config.tmpfs)?,
            principal_key: config.principal_key.as_str().to_owned(),
            keytab_key: config.keytab_key.as_str().to_owned(),
            identity: Mutex::new(None),
            ticket: RwLock::new(None),
            threads: Arc::new(Semaphore::new(THREADS)),
            board,
            replaced: Notify::new(),
            refused,
        };
        *kerberos.held() = Some(Arc::new(kerberos.unpack(bundle)?));
        // Refuses a process whose profile is not the prepared one, whatever set it.
        set_profile(&config.tmpfs, &config.krb5_conf)?;
        kerberos.renew().await?;
        Ok(Arc::new(kerberos))
    }

    /// Whether the bundle holds a keytab of its principal, as far as looking at it tells.
    pub(super) fn check(&self, bundle: &Bundle) -> Result<(), UpstreamError> {
        self.keytab(bundle).map(drop)
    }

    /// True when this bundle's principal and keytab are the ones in use.
    pub(super) fn uses(&self, bundle: &Bundle) -> bool {
        let keys = [self.principal_key.as_str(), self.keytab_key.as_str()];
        self.identity().is_some_and(|identity| identity.bundle.agrees(bundle, &keys))
    }

    /// Gets a ticket with the keytab of a bundle, and only then takes it for the one that is held. When the KDC
    /// refuses it everything stays as it was.
    pub(super) async fn replace(&self, bundle: &Arc<Bundle>) -> Result<(), UpstreamError> {
        let identity = Arc::new(self.unpack(bundle)?);
        let ticket = self.acquire(&identity).await?;
        {
            let mut held = self.held();
            if held.is_none() {
                // The broker is closing; what was written is wiped with this identity.
                return Ok(());
            }
            *held = Some(identity);
            self.take(ticket);
        }
        self.replaced.notify_one();
        Ok(())
    }

    fn keytab(&self, bundle: &Bundle) -> Result<Keytab, UpstreamError> {
        let principal = bundle.setting(&self.principal_key, Shape::Principal)?;
        Keytab::parse(bundle.secret(&self.keytab_key)?, principal, &self.principal_key)
    }

    /// Writes the keytab of a bundle onto tmpfs.
    fn unpack(&self, bundle: &Arc<Bundle>) -> Result<Identity, UpstreamError> {
        let keytab = self.keytab(bundle)?;
        let write = |version: &Version| self.folder.write("keytab", version.bytes());
        let keytabs = keytab.versions().iter().map(write).collect::<Result<_, _>>()?;
        let kvnos: Vec<u32> = keytab.versions().iter().map(Version::kvno).collect();
        tracing::info!(
            principal = keytab.principal(),
            ?kvnos,
            version = bundle.version(),
            "the keytab is on tmpfs"
        );
        Ok(Identity { principal: keytab.principal().to_owned(), keytabs, bundle: Arc::clone(bundle) })
    }

    /// Renews the ticket until `shutdown`. A failed attempt leaves the ticket that is held in place.
    pub(super) async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut wait = self.renew_in();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.replaced.notified() => {
                    pause = FIRST_PAUSE;
                    wait = self.renew_in();
                    continue;
                }
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
        self.held().take();
        self.ticket.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn renew(&self) -> Result<(), UpstreamError> {
        let Some(identity) = self.identity() else { return Ok(()) };
        match self.acquire(&identity).await {
            Ok(ticket) => {
                let held = self.held();
                // A ticket of a keytab that was replaced meanwhile is not wanted any more.
                if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &identity)) {
                    self.take(ticket);
                }
                Ok(())
            }
            Err(error) => {
                self.board.failed(None, &error);
                if error.class() == ErrorClass::Credential {
                    self.refused.notify_one();
                }
                Err(error)
            }
        }
    }

    async fn acquire(&self, identity: &Arc<Identity>) -> Result<Ticket, UpstreamError> {
        let attempted = format!("getting a ticket for {}", identity.principal);
        let identity = Arc::clone(identity);
        self.call(&attempted, move || identity.acquire()).await
    }

    fn take(&self, ticket: Ticket) {
        let until = ticket.expires_at();
        tracing::info!(life_seconds = ticket.life().as_secs(), "got a Kerberos ticket");
        *self.ticket.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ticket));
        self.board.succeeded(UpstreamName::Kerberos, None, Some(until));
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Arc<Identity>>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> Option<Arc<Identity>> {
        self.held().clone()
    }

    fn renew_in(&self) -> Duration {
        let held = self.ticket.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.map_or(FIRST_PAUSE, |ticket| {
            let due = ticket.expires_at() - ticket.life().mul_f64(0.5 - fastrand::f64() / 10.0);
            due.duration_since(SystemTime::now()).unwrap_or_default().max(Duration::from_millis(500))
        })
    }
}
