//! Whether everything that policy names can be served, and for how many more minutes without upstreams.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    issuer::Upstreams,
    rpc::Broker,
    upstream::{SecretStatus, UpstreamName, UpstreamStatus},
};

/// What `/health` says.
#[derive(Debug, Serialize)]
pub struct Health {
    status: &'static str,
    /// The audit log can be written; while it cannot, nothing is granted.
    audit_writable: bool,
    upstreams: Vec<UpstreamHealth>,
    /// The Vault secret's version in use, and why a newer one is not.
    secret: SecretStatus,
    grants: Vec<GrantHealth>,
}

#[derive(Debug, Serialize)]
struct UpstreamHealth {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_code: Option<String>,
    /// For how many more minutes what was obtained last is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes_left: Option<u64>,
}

#[derive(Debug, Serialize)]
struct GrantHealth {
    name: String,
    serves: bool,
    /// For how many more minutes the token held serves, should its issuer stay away.
    minutes_left: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl Health {
    /// True when everything that policy names can be served now.
    pub fn serves(&self) -> bool {
        matches!(self.status, "ok" | "degraded")
    }

    /// The JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Looks at every upstream and at every token held.
///
/// `ok`: all is well. `degraded`: an upstream failed last, and everything is still served. `down`:
/// something that policy names cannot be served. `draining`: the broker is stopping.
pub fn health<U: Upstreams>(broker: &Broker<U>, draining: bool) -> Health {
    let statuses = broker.upstreams.status();
    let used: BTreeSet<String> =
        broker.policy().grants().into_iter().map(|(name, _)| name.to_string()).collect();
    let grants: Vec<GrantHealth> = broker
        .grants
        .slots()
        .map(|slot| slot.state())
        .map(|state| GrantHealth {
            name: state.name.to_string(),
            serves: state.left.is_some(),
            minutes_left: minutes(state.left.unwrap_or_default()),
            last_error: state.error.map(|error| error.to_string()),
        })
        .collect();
    let audit_writable = broker.audit.is_writable();
    let served = grants.iter().all(|grant| grant.serves || !used.contains(&grant.name));
    let reachable = statuses.iter().all(still_good);
    let secret = broker.upstreams.secret_status();
    let untroubled = statuses.iter().all(|status| status.ok)
        && grants.iter().all(|g| g.last_error.is_none())
        && secret.problem.is_none();
    let status = match (draining, served && reachable && audit_writable, untroubled) {
        (true, ..) => "draining",
        (_, false, _) => "down",
        (_, true, false) => "degraded",
        (_, true, true) => "ok",
    };
    Health { status, audit_writable, upstreams: statuses.iter().map(describe).collect(), secret, grants }
}

/// A bearer token's issuer is judged by the tokens held; the others by what they gave last.
fn still_good(status: &UpstreamStatus) -> bool {
    status.ok || status.name == UpstreamName::Entra || left(status).is_some()
}

fn describe(status: &UpstreamStatus) -> UpstreamHealth {
    UpstreamHealth {
        name: status.name.as_str(),
        grant: status.grant.clone(),
        ok: status.ok,
        last_error: status.last_error.map(crate::upstream::ErrorClass::as_str),
        last_code: status.last_code.clone(),
        minutes_left: status.valid_until.map(|_| minutes(left(status).unwrap_or_default())),
    }
}

pub(super) fn left(status: &UpstreamStatus) -> Option<Duration> {
    status.valid_until?.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero())
}

fn minutes(left: Duration) -> u64 {
    left.as_secs() / 60
}
