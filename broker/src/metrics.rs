//! What `/metrics` counts. No label ever holds anything that a caller can invent.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{events::Event, upstream::UpstreamError};

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
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.expiry.get_or_create(&GrantLabels { grant: grant.to_owned() }).set(seconds);
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

fn open(family: &Family<GrantLabels, Gauge>, grant: &str) -> Open {
    let gauge: Gauge<i64, AtomicI64> = family.get_or_create(&GrantLabels { grant: grant.to_owned() }).clone();
    gauge.inc();
    Open(gauge)
}
