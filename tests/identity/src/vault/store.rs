//! What Vault remembers: roles, secret_ids, tokens with their lives, wrapped answers, KV versions.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::policy::Rule;

/// An AppRole's settings.
#[derive(Clone, Debug)]
pub struct Role {
    /// The first life of a login's token.
    pub token_ttl: Duration,
    /// What renewals cannot exceed.
    pub token_max_ttl: Duration,
    /// How often one secret_id logs in; 0 is without limit.
    pub secret_id_num_uses: u32,
    /// How long a secret_id lives; zero is for ever.
    pub secret_id_ttl: Duration,
    /// The policies of its tokens.
    pub policies: Vec<String>,
}

/// How the next answers differ from the real thing's good days. Each counts how often it fired.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Answers that many calls with this status and an `errors` body.
    pub answer: Option<(u32, u16)>,
    /// Waits before each answer.
    pub latency: Duration,
    /// How many answers a fault has changed.
    pub fired: u64,
}

pub(super) struct RoleState {
    pub(super) role: Role,
    pub(super) role_id: String,
    secret_ids: HashMap<String, SecretId>,
}

struct SecretId {
    uses_left: Option<u32>,
    until: Option<Instant>,
}

#[derive(Clone)]
pub(super) struct Token {
    pub(super) accessor: String,
    pub(super) policies: Vec<String>,
    pub(super) ttl: Duration,
    pub(super) issued: Instant,
    pub(super) max: Duration,
    pub(super) until: Instant,
    pub(super) root: bool,
}

pub(super) struct Wrapped {
    pub(super) answer: Value,
    pub(super) creation_path: String,
    pub(super) created: SystemTime,
    pub(super) ttl: Duration,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Entry {
    pub(super) versions: Vec<Version>,
}

pub(super) struct Version {
    pub(super) data: Option<Value>,
    pub(super) created: SystemTime,
    pub(super) deleted: Option<SystemTime>,
}

pub(super) struct Store {
    pub(super) sealed: bool,
    pub(super) roles: BTreeMap<(String, String), RoleState>,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) wrapped: HashMap<String, Wrapped>,
    pub(super) kv: BTreeMap<(String, String), Entry>,
    pub(super) policies: BTreeMap<String, Vec<Rule>>,
    pub(super) faults: Faults,
    pub(super) logins: u64,
    pub(super) login_attempts: u64,
    pub(super) reads: u64,
    pub(super) renewals: u64,
}

impl Store {
    pub(super) fn new(root_token: &str) -> Self {
        let forever = Duration::from_hours(10 * 365 * 24);
        let root = Token {
            accessor: "root".to_owned(),
            policies: vec!["root".to_owned()],
            ttl: Duration::ZERO,
            issued: Instant::now(),
            max: forever,
            until: Instant::now() + forever,
            root: true,
        };
        Self {
            sealed: false,
            roles: BTreeMap::new(),
            tokens: HashMap::from([(root_token.to_owned(), root)]),
            wrapped: HashMap::new(),
            kv: BTreeMap::new(),
            policies: BTreeMap::new(),
            faults: Faults::default(),
            logins: 0,
            login_attempts: 0,
            reads: 0,
            renewals: 0,
        }
    }

    pub(super) fn create_role(&mut self, name: &str, role: Role) -> String {
        let role_id = uuid::Uuid::new_v4().to_string();
        let state = RoleState { role, role_id: role_id.clone(), secret_ids: HashMap::new() };
        self.roles.insert(("approle".to_owned(), name.to_owned()), state);
        role_id
    }

    pub(super) fn issue_secret_id(&mut self, name: &str) -> Option<String> {
        let state = self.roles.get_mut(&("approle".to_owned(), name.to_owned()))?;
        let id = uuid::Uuid::new_v4().to_string();
        let uses_left = (state.role.secret_id_num_uses > 0).then_some(state.role.secret_id_num_uses);
        let until = (!state.role.secret_id_ttl.is_zero()).then(|| Instant::now() + state.role.secret_id_ttl);
        state.secret_ids.insert(id.clone(), SecretId { uses_left, until });
        Some(id)
    }

    pub(super) fn destroy_secret_ids(&mut self, name: &str) {
        if let Some(state) = self.roles.get_mut(&("approle".to_owned(), name.to_owned())) {
            state.secret_ids.clear();
        }
    }

    pub(super) fn wrap_secret_id(&mut self, mount: &str, name: &str, ttl: Duration) -> Option<String> {
        let secret_id = self.issue_secret_id(name)?;
        let answer = json!({"data": {"secret_id": secret_id, "secret_id_accessor": uuid::Uuid::new_v4().to_string(),
            "secret_id_num_uses": 0, "secret_id_ttl": 0}});
        self.wrap(answer, format!("auth/{mount}/role/{name}/secret-id"), ttl)
    }

    pub(super) fn wrap(&mut self, answer: Value, creation_path: String, ttl: Duration) -> Option<String> {
        let token = format!("hvs.{}", random_text(24).ok()?);
        let wrapped =
            Wrapped { answer, creation_path, created: SystemTime::now(), ttl, until: Instant::now() + ttl };
        self.wrapped.insert(token.clone(), wrapped);
        Some(token)
    }

    /// Looks at a wrapping token without using it up.
    pub(super) fn wrapped(&self, token: &str) -> Option<&Wrapped> {
        self.wrapped.get(token).filter(|wrapped| wrapped.until > Instant::now())
    }

    /// Logs in; the error is Vault's own word.
    pub(super) fn login(
        &mut self,
        mount: &str,
        role_id: &str,
        secret_id: &str,
    ) -> Result<(String, Token), &'static str> {
        let now = Instant::now();
        let ((_, _), state) = self
            .roles
            .iter_mut()
            .find(|((at, _), state)| at == mount && state.role_id == role_id)
            .ok_or("invalid role or secret ID")?;
        let id = state.secret_ids.get_mut(secret_id).ok_or("invalid role or secret ID")?;
        if id.until.is_some_and(|until| until <= now) {
            state.secret_ids.remove(secret_id);
            return Err("invalid role or secret ID");
        }
        if let Some(left) = &mut id.uses_left {
            *left -= 1;
            if *left == 0 {
                state.secret_ids.remove(secret_id);
            }
        }
        let role = state.role.clone();
        let mut policies = vec!["default".to_owned()];
        policies.extend(role.policies);
        let token = Token {
            accessor: random_text(18).map_err(|_| "no entropy")?,
            policies,
            ttl: role.token_ttl,
            issued: now,
            max: role.token_max_ttl,
            until: now + role.token_ttl.min(role.token_max_ttl),
            root: false,
        };
        let value = format!("hvs.{}", random_text(72).map_err(|_| "no entropy")?);
        self.tokens.insert(value.clone(), token.clone());
        self.logins += 1;
        Ok((value, token))
    }

    /// The living token behind a header's value.
    pub(super) fn token(&mut self, value: &str) -> Option<Token> {
        let now = Instant::now();
        self.tokens.retain(|_, token| token.until > now);
        self.tokens.get(value).cloned()
    }

    /// Renews within the maximum life, and returns the token as it is now.
    pub(super) fn renew(&mut self, value: &str, increment: Option<Duration>) -> Option<Token> {
        let token = self.tokens.get_mut(value)?;
        let now = Instant::now();
        token.until = (now + increment.unwrap_or(token.ttl)).min(token.issued + token.max);
        self.renewals += 1;
        Some(token.clone())
    }

    pub(super) fn revoke_logins(&mut self) {
        self.tokens.retain(|_, token| token.root);
    }

    pub(super) fn live_tokens(&self) -> Vec<String> {
        let now = Instant::now();
        self.tokens
            .iter()
            .filter(|(_, token)| !token.root && token.until > now)
            .map(|(value, _)| value.clone())
            .collect()
    }

    pub(super) fn kv_put(&mut self, mount: &str, path: &str, data: Value) -> u64 {
        let entry = self.kv.entry((mount.to_owned(), path.to_owned())).or_default();
        entry.versions.push(Version { data: Some(data), created: SystemTime::now(), deleted: None });
        entry.versions.len() as u64
    }
}

pub(super) fn random_text(bytes: usize) -> Result<String> {
    let mut raw = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut raw).ok().context("no random numbers")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(raw))
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}
