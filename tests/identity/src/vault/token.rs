//! `auth/token/`: tokens, their lives and their children.

use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    routes::{envelope, errors},
    store::{Store, duration, list, random_text, rfc3339},
};
use crate::http::Reply;

/// Vault's own life of a lease that says none, and the longest of all.
pub(super) const LEASE: Duration = Duration::from_hours(768);

/// One token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) accessor: String,
    pub(super) policies: Vec<String>,
    pub(super) ttl: Duration,
    pub(super) issued: Instant,
    pub(super) created: SystemTime,
    /// What renewals cannot exceed, from the issue on.
    pub(super) max: Duration,
    pub(super) explicit_max: Duration,
    pub(super) period: Duration,
    /// None lives for ever.
    pub(super) until: Option<Instant>,
    pub(super) renewable: bool,
    pub(super) root: bool,
    pub(super) uses_left: Option<u32>,
    pub(super) parent: Option<String>,
    pub(super) namespace: String,
    pub(super) path: String,
    pub(super) display_name: String,
    pub(super) metadata: Value,
}

impl Token {
    /// The token that a new Vault begins with.
    pub(super) fn root() -> Self {
        Self {
            policies: vec!["root".to_owned()],
            ttl: Duration::ZERO,
            until: None,
            renewable: false,
            root: true,
            path: "auth/token/root".to_owned(),
            display_name: "root".to_owned(),
            ..Self::new(Duration::ZERO, Duration::ZERO)
        }
    }

    /// A renewable token of these lives, with nothing else said.
    pub(super) fn new(ttl: Duration, max: Duration) -> Self {
        let now = Instant::now();
        let max = if max.is_zero() { LEASE } else { max };
        let ttl = if ttl.is_zero() { LEASE } else { ttl };
        Self {
            accessor: random_text(18).unwrap_or_default(),
            policies: Vec::new(),
            ttl: ttl.min(max),
            issued: now,
            created: SystemTime::now(),
            max,
            explicit_max: Duration::ZERO,
            period: Duration::ZERO,
            until: Some(now + ttl.min(max)),
            renewable: true,
            root: false,
            uses_left: None,
            parent: None,
            namespace: String::new(),
            path: String::new(),
            display_name: String::new(),
            metadata: Value::Null,
        }
    }

    /// Whole seconds left, as Vault rounds them; 0 for a token that lives for ever.
    pub(super) fn left(&self) -> u64 {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        left.unwrap_or_default().as_secs_f64().round() as u64
    }

    /// Moves the end, within the longest life.
    fn renew(&mut self, increment: Option<Duration>) {
        let now = Instant::now();
        let longest = self.issued + self.max;
        let wanted = if self.period.is_zero() { increment.unwrap_or(self.ttl) } else { self.period };
        let end = if self.period.is_zero() { (now + wanted).min(longest) } else { now + wanted };
        self.until = Some(end);
    }

    /// The `auth` of an answer.
    pub(super) fn auth(&self, value: &str) -> Value {
        json!({"client_token": value, "accessor": self.accessor, "policies": self.policies, "token_policies": self.policies,
            "metadata": self.metadata, "lease_duration": self.left(), "renewable": self.renewable, "entity_id": "",
            "token_type": "service", "orphan": self.parent.is_none(), "mfa_requirement": null,
            "num_uses": self.uses_left.unwrap_or(0)})
    }

    fn lookup(&self, value: &str) -> Value {
        let expires = self
            .until
            .map(|until| rfc3339(SystemTime::now() + until.saturating_duration_since(Instant::now())));
        let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        json!({"accessor": self.accessor, "id": value, "policies": self.policies, "ttl": self.left(),
            "creation_ttl": self.ttl.as_secs(), "creation_time": since(self.created), "issue_time": rfc3339(self.created),
            "expire_time": expires, "renewable": self.renewable, "type": "service", "orphan": self.parent.is_none(),
            "explicit_max_ttl": self.explicit_max.as_secs(), "num_uses": self.uses_left.unwrap_or(0), "path": self.path,
            "display_name": self.display_name, "meta": self.metadata, "entity_id": ""})
    }
}

/// Sorted, without doubles, with `default` unless it is not wanted.
pub(super) fn policies(mut named: Vec<String>, with_default: bool) -> Vec<String> {
    if with_default && !named.iter().any(|name| name == "root") {
        named.push("default".to_owned());
    }
    named.sort();
    named.dedup();
    named
}

/// An operation under `auth/token/`, already authorized.
pub(super) fn answer(
    store: &mut Store,
    own: &str,
    token: &Token,
    operation: &str,
    method: &Method,
    body: &Value,
) -> Reply {
    let write = method == Method::POST || method == Method::PUT;
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match operation {
        "lookup-self" if method == Method::GET || write => lookup(store, own),
        "lookup" if write => lookup(store, &field("token")),
        "lookup-accessor" if write => match store.by_accessor(&field("accessor")) {
            Some(value) => hide_id(lookup(store, &value)),
            None => errors(403, &["invalid accessor"]),
        },
        "renew-self" if write => renew(store, own, body),
        "renew" if write => renew(store, &field("token"), body),
        "revoke-self" if write => revoked(store, own),
        "revoke" if write => revoked(store, &field("token")),
        "revoke-accessor" if write => match store.by_accessor(&field("accessor")) {
            Some(value) => revoked(store, &value),
            None => errors(400, &["invalid accessor"]),
        },
        "accessors" if method.as_str() == "LIST" => {
            let keys: Vec<&String> = store.tokens.values().map(|token| &token.accessor).collect();
            envelope(json!({"data": {"keys": keys}}))
        }
        "create" if write => create(store, own, token, body),
        _ => errors(405, &["unsupported operation"]),
    }
}

fn lookup(store: &mut Store, value: &str) -> Reply {
    match store.token(value) {
        Some(token) => envelope(json!({"data": token.lookup(value)})),
        None => errors(403, &["bad token"]),
    }
}

/// Whoever knows an accessor does not learn the token.
fn hide_id(mut reply: Reply) -> Reply {
    if let Some(id) = reply.body.as_mut().and_then(|body| body.pointer_mut("/data/id")) {
        *id = json!("");
    }
    reply
}

fn revoked(store: &mut Store, value: &str) -> Reply {
    store.revoke(value);
    Reply::empty(204)
}

fn renew(store: &mut Store, value: &str, body: &Value) -> Reply {
    if store.token(value).is_none() {
        return errors(403, &["bad token"]);
    }
    let increment = body.get("increment").and_then(duration).filter(|wanted| !wanted.is_zero());
    let Some(token) = store.tokens.get_mut(value) else { return errors(403, &["bad token"]) };
    if !token.renewable {
        return errors(400, &["lease is not renewable"]);
    }
    let wanted = increment.unwrap_or(token.ttl);
    token.renew(increment);
    let token = token.clone();
    store.renewals += 1;
    let capped = wanted.as_secs() > token.left() + 1;
    let warnings = capped.then(|| {
        vec![format!(
            "TTL of \"{}s\" exceeded the effective max_ttl of \"{}s\"; TTL value is capped accordingly",
            wanted.as_secs(),
            token.left()
        )]
    });
    envelope(json!({"auth": token.auth(value), "warnings": warnings}))
}

fn create(store: &mut Store, own: &str, parent: &Token, body: &Value) -> Reply {
    let asked = body.get("policies").map(list);
    let with_default = body.get("no_default_policy").and_then(Value::as_bool) != Some(true);
    let named = policies(asked.unwrap_or_else(|| parent.policies.clone()), with_default);
    if !parent.root && !named.iter().all(|name| name == "default" || parent.policies.contains(name)) {
        return errors(400, &["child policies must be subset of parent"]);
    }
    let life = |name: &str| body.get(name).and_then(duration).unwrap_or_default();
    let orphan = body.get("no_parent").and_then(Value::as_bool) == Some(true);
    let period = life("period");
    if !parent.root && (orphan || !period.is_zero()) {
        return errors(400, &["root or sudo privileges required to create orphan or periodic token"]);
    }
    let root = named.iter().any(|name| name == "root");
    let explicit_max = life("explicit_max_ttl");
    let ttl = if period.is_zero() { life("ttl") } else { period };
    let mut token = Token::new(ttl, explicit_max);
    if root && ttl.is_zero() {
        (token.until, token.ttl, token.renewable) = (None, Duration::ZERO, false);
    }
    token.root = root;
    token.policies = named;
    token.explicit_max = explicit_max;
    token.period = period;
    token.renewable &= body.get("renewable").and_then(Value::as_bool) != Some(false);
    token.uses_left =
        body.get("num_uses").and_then(Value::as_u64).filter(|uses| *uses > 0).map(|uses| uses as u32);
    token.parent = (!orphan).then(|| own.to_owned());
    token.namespace.clone_from(&parent.namespace);
    "auth/token/create".clone_into(&mut token.path);
    token.display_name = match body.get("display_name").and_then(Value::as_str) {
        Some(name) => format!("token-{name}"),
        None => "token".to_owned(),
    };
    token.metadata = body.get("meta").cloned().unwrap_or(Value::Null);
    match store.keep_token(token.clone()) {
        Ok(value) => envelope(json!({"auth": token.auth(&value)})),
        Err(_) => errors(500, &["internal error"]),
    }
}
