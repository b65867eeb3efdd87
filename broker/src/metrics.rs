//! What `/metrics` counts. No label ever holds anything that a caller can invent.

use std::{sync::atomic::AtomicI64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    audit::AuditLog,
    events::Event,
    upstream::{UpstreamError, UpstreamStatus},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    grant: String,
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GrantLabels {
    grant: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssuerLabels {
    upstream: &'static str,
    grant: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VersionLabels {
    which: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

/// All counters and gauges of the broker.
pub struct Metrics {
    registry: Registry,
    answers: Family<AnswerLabels, Counter>,
    denied: Family<ReasonLabels, Counter>,
    upstream: Family<UpstreamLabels, Counter>,
    expiry: Family<GrantLabels, Gauge>,
    sessions: Family<GrantLabels, Gauge>,
    relays: Family<GrantLabels, Gauge>,
    events: Family<EventLabels, Counter>,
    up: Family<IssuerLabels, Gauge>,
    left: Family<IssuerLabels, Gauge>,
    version: Family<VersionLabels, Gauge>,
    audit_writable: Gauge,
    audit_lines: Gauge,
    copies_missed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("keyferry_broker");
        let metrics = Self {
            answers: Family::default(),
            denied: Family::default(),
            upstream: Family::default(),
            expiry: Family::default(),
            sessions: Family::default(),
            relays: Family::default(),
            events: Family::default(),
            up: Family::default(),
            left: Family::default(),
            version: Family::default(),
            audit_writable: Gauge::default(),
            audit_lines: Gauge::default(),
            copies_missed: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("grants", "Answers about a grant, by call and outcome", metrics.answers.clone());
        registry.register("denied", "Requests refused before any upstream was asked", metrics.denied.clone());
        registry.register("upstream_calls", "Calls to upstreams, by outcome", metrics.upstream.clone());
        registry.register(
            "seconds_to_expiry",
            "For how long the token held still serves; 0 when none does",
            metrics.expiry.clone(),
        );
        registry.register("sessions_open", "Snowflake sessions open for callers", metrics.sessions.clone());
        registry.register("relays_open", "Kerberos exchanges that wait for a server", metrics.relays.clone());
        registry.register(
            "events",
            "What happened to the broker's own credentials; alert on SecretIdIntercepted",
            metrics.events.clone(),
        );
        metrics.register_state(&mut registry);
        for event in Event::KINDS {
            drop(metrics.events.get_or_create(&EventLabels { event }));
        }
        Self { registry, ..metrics }
    }
}

/// Counts one thing up while it lives.
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// What is set when somebody looks.
    fn register_state(&self, registry: &mut Registry) {
        registry.register("upstream_up", "Whether the last call to this upstream succeeded", self.up.clone());
        registry.register(
            "upstream_seconds_left",
            "For how long what this upstream gave last is good: the Vault token, the ticket",
            self.left.clone(),
        );
        registry.register(
            "secret_version",
            "The Vault secret's version in use and the newest one",
            self.version.clone(),
        );
        registry.register(
            "audit_writable",
            "Whether the audit log can be written; while it cannot, nothing is granted",
            self.audit_writable.clone(),
        );
        registry.register("audit_lines", "Lines in the audit log", self.audit_lines.clone());
        registry.register(
            "audit_copies_missed",
            "Lines of the audit log that standard output or the system's log did not take",
            self.copies_missed.clone(),
        );
    }

    /// How an upstream did last, and for how long what it gave is good.
    pub fn upstream_state(&self, status: &UpstreamStatus, left: Option<Duration>) {
        let grant = status.grant.clone().unwrap_or_default();
        let labels = IssuerLabels { upstream: status.name.as_str(), grant };
        self.up.get_or_create(&labels).set(i64::from(status.ok));
        if status.valid_until.is_some() {
            self.left.get_or_create(&labels).set(whole(left.unwrap_or_default().as_secs()));
        }
    }

    /// Which version of the secret is in use, and which is the newest.
    pub fn secret_versions(&self, in_use: u64, newest: u64) {
        for (which, version) in [("in_use", in_use), ("newest", newest)] {
            self.version.get_or_create(&VersionLabels { which }).set(whole(version));
        }
    }

    /// How the audit log is.
    pub fn audit_state(&self, audit: &AuditLog) {
        self.audit_writable.set(i64::from(audit.is_writable()));
        self.audit_lines.set(whole(audit.lines()));
        self.copies_missed.inc_by(audit.copies_missed().saturating_sub(self.copies_missed.get()));
    }

    /// An answer about a grant that policy allowed.
    pub fn answered(&self, grant: &str, call: &'static str, outcome: &'static str) {
        self.answers.get_or_create(&AnswerLabels { grant: grant.to_owned(), call, outcome }).inc();
    }

    /// A request that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.denied.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A call to an upstream.
    pub fn upstream_call<T>(&self, call: &'static str, outcome: &Result<T, UpstreamError>) {
        let outcome = outcome.as_ref().map_or_else(|error| error.class().as_str(), |_| "ok");
        self.upstream.get_or_create(&UpstreamLabels { call, outcome }).inc();
    }

    /// Something happened to a credential of the broker's own.
    pub fn happened(&self, event: &'static str) {
        self.events.get_or_create(&EventLabels { event }).inc();
    }

    /// For how long a grant's token still serves.
    pub fn expires_in(&self, grant: &str, seconds: u64) {
        self.expiry.get_or_create(&GrantLabels { grant: grant.to_owned() }).set(whole(seconds));
    }

    /// A Snowflake session is open until the result is dropped.
    pub fn session_opened(&self, grant: &str) -> Open {
        open(&self.sessions, grant)
    }

    /// A Kerberos exchange is open until the result is dropped.
    pub fn relay_opened(&self, grant: &str) -> Open {
        open(&self.relays, grant)
    }

    /// Everything in the text format of Prometheus.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn open(family: &Family<GrantLabels, Gauge>, grant: &str) -> Open {
    let gauge: Gauge<i64, AtomicI64> = family.get_or_create(&GrantLabels { grant: grant.to_owned() }).clone();
    gauge.inc();
    Open(gauge)
}
