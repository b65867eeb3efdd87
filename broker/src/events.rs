//! What happens to the broker's own credentials, policy and keys while it runs: one line in the audit log and one count each.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    audit::{AuditLog, Outcome, Record},
    metrics::Metrics,
};

/// Events that wait for the audit log at most.
const QUEUE: usize = 64;

/// Something that happened to a credential of the broker's own, or to what it decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A wrapping token had been used by somebody else, or was made elsewhere: raise the alarm.
    SecretIdIntercepted(String),
    /// A version of the Vault secret is in use.
    SecretVersionTaken(String),
    /// A version of the Vault secret does not work; the one before it stays in use.
    SecretVersionRefused(String),
    /// The policy of the configuration file is in force.
    PolicyTaken(String),
    /// The configuration file cannot be taken again; the policy before it stays in force.
    PolicyRefused(String),
    /// The cluster's keys have changed.
    ClusterKeysTaken(String),
    /// The file with the cluster's keys cannot be used; the keys before it stay in use.
    ClusterKeysRefused(String),
}

impl Event {
    /// Every kind, for metrics that begin at 0.
    pub const KINDS: [&'static str; 7] = [
        "SecretIdIntercepted",
        "SecretVersionTaken",
        "SecretVersionRefused",
        "PolicyTaken",
        "PolicyRefused",
        "ClusterKeysTaken",
        "ClusterKeysRefused",
    ];

    /// The event's name in the audit log and in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SecretIdIntercepted(_) => "SecretIdIntercepted",
            Self::SecretVersionTaken(_) => "SecretVersionTaken",
            Self::SecretVersionRefused(_) => "SecretVersionRefused",
            Self::PolicyTaken(_) => "PolicyTaken",
            Self::PolicyRefused(_) => "PolicyRefused",
            Self::ClusterKeysTaken(_) => "ClusterKeysTaken",
            Self::ClusterKeysRefused(_) => "ClusterKeysRefused",
        }
    }

    fn record(self) -> Record {
        let (kind, outcome) = (
            self.kind(),
            match &self {
                Self::SecretVersionTaken(_) | Self::PolicyTaken(_) | Self::ClusterKeysTaken(_) => {
                    Outcome::Noted
                }
                Self::SecretIdIntercepted(_)
                | Self::SecretVersionRefused(_)
                | Self::PolicyRefused(_)
                | Self::ClusterKeysRefused(_) => Outcome::Failed,
            },
        );
        let (Self::SecretIdIntercepted(detail)
        | Self::SecretVersionTaken(detail)
        | Self::SecretVersionRefused(detail)
        | Self::PolicyTaken(detail)
        | Self::PolicyRefused(detail)
        | Self::ClusterKeysTaken(detail)
        | Self::ClusterKeysRefused(detail)) = self;
        Record { detail, ..Record::new(kind, outcome) }
    }
}

/// Where events are told.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Event>);

/// A teller, and what hears it.
pub fn channel() -> (Events, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Events(sender), receiver)
}

impl Events {
    /// Tells an event; never waits.
    pub fn tell(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.0.try_send(event) {
            error!(?event, "an event is not in the audit log: too many wait for it");
        }
    }
}

/// Writes what has been told so far, without waiting for more.
pub async fn report_told(told: &mut mpsc::Receiver<Event>, audit: &AuditLog, metrics: &Metrics) {
    while let Ok(event) = told.try_recv() {
        report(event, audit, metrics).await;
    }
}

/// Writes what is told until `shutdown`.
pub async fn report_all(
    mut told: mpsc::Receiver<Event>,
    audit: AuditLog,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            event = told.recv() => match event {
                Some(event) => report(event, &audit, &metrics).await,
                None => return,
            },
            () = shutdown.cancelled() => break,
        }
    }
    report_told(&mut told, &audit, &metrics).await;
}

async fn report(event: Event, audit: &AuditLog, metrics: &Metrics) {
    metrics.happened(event.kind());
    let kind = event.kind();
    if let Err(error) = audit.record(event.record()).await {
        error!(%error, kind, "an event is not in the audit log");
    }
}
