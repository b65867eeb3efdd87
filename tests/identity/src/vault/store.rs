//! What Vault remembers: namespaces with their roles, mounts and policies; tokens with their lives; wrapped answers.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    approle::RoleState,
    kv::Kv,
    policy::{self, Policy},
    token::Token,
};

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

pub(super) struct Wrapped {
    pub(super) answer: Value,
    pub(super) creation_path: String,
    pub(super) created: SystemTime,
    pub(super) ttl: Duration,
    until: Instant,
}

/// One namespace.
pub(super) struct Space {
    pub(super) id: String,
    /// By mount and name.
    pub(super) roles: BTreeMap<(String, String), RoleState>,
    /// KV v2 engines by mount.
    pub(super) engines: BTreeMap<String, Kv>,
    /// AppRole's mounts.
    pub(super) approles: Vec<String>,
    pub(super) policies: BTreeMap<String, Policy>,
}

impl Space {
    /// With what a new Vault has; KV at `secret/` and AppRole at `approle/` only where they are asked for.
    pub(super) fn new(furnished: bool) -> Self {
        let default = policy::default();
        let mut space = Self {
            id: random_text(4).unwrap_or_default(),
            roles: BTreeMap::new(),
            engines: BTreeMap::new(),
            approles: Vec::new(),
            policies: BTreeMap::from([("default".to_owned(), default)]),
        };
        if furnished {
            space.engines.insert("secret".to_owned(), Kv::default());
            space.approles.push("approle".to_owned());
        }
        space
    }
}

pub(super) struct Store {
    pub(super) sealed: bool,
    pub(super) unseal_key: String,
    /// By path without slashes at its ends; the root namespace is empty.
    pub(super) spaces: BTreeMap<String, Space>,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) wrapped: HashMap<String, Wrapped>,
    pub(super) faults: Faults,
    pub(super) logins: u64,
    pub(super) login_attempts: u64,
    pub(super) reads: u64,
    pub(super) renewals: u64,
}

impl Store {
    pub(super) fn new(root_token: &str) -> Result<Self> {
        let mut raw = [0; 32];
        aws_lc_rs::rand::fill(&mut raw).ok().context("no random numbers")?;
        Ok(Self {
            sealed: false,
            unseal_key: hex::encode(raw),
            spaces: BTreeMap::from([(String::new(), Space::new(true))]),
            tokens: HashMap::from([(root_token.to_owned(), Token::root())]),
            wrapped: HashMap::new(),
            faults: Faults::default(),
            logins: 0,
            login_attempts: 0,
            reads: 0,
            renewals: 0,
        })
    }

    /// The root namespace, which is always there.
    pub(super) fn root(&mut self) -> &mut Space {
        self.space("")
    }

    /// A namespace; one that nobody has made yet is made.
    pub(super) fn space(&mut self, name: &str) -> &mut Space {
        self.spaces.entry(name.to_owned()).or_insert_with(|| Space::new(false))
    }

    pub(super) fn create_role(&mut self, name: &str, role: Role) -> String {
        let state = RoleState::new(role);
        let role_id = state.role_id.clone();
        self.root().roles.insert(("approle".to_owned(), name.to_owned()), state);
        role_id
    }

    pub(super) fn issue_secret_id(&mut self, name: &str) -> Option<String> {
        let state = self.root().roles.get_mut(&("approle".to_owned(), name.to_owned()))?;
        Some(state.issue(None, &json!({})).0)
    }

    pub(super) fn destroy_secret_ids(&mut self, name: &str) {
        if let Some(state) = self.root().roles.get_mut(&("approle".to_owned(), name.to_owned())) {
            state.secret_ids.clear();
        }
    }

    pub(super) fn wrap_secret_id(&mut self, name: &str, ttl: Duration) -> Option<String> {
        let state = self.root().roles.get_mut(&("approle".to_owned(), name.to_owned()))?;
        let (_, answer) = state.issue(None, &json!({}));
        self.wrap(json!({ "data": answer }), format!("auth/approle/role/{name}/secret-id"), ttl)
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

    /// Keeps a new token and returns its value.
    pub(super) fn keep_token(&mut self, token: Token) -> Result<String> {
        let value = format!("hvs.{}", random_text(72)?);
        self.tokens.insert(value.clone(), token);
        Ok(value)
    }

    /// The living token behind a header's value.
    pub(super) fn token(&mut self, value: &str) -> Option<Token> {
        let now = Instant::now();
        let ended: Vec<String> = self
            .tokens
            .iter()
            .filter(|(_, token)| token.until.is_some_and(|until| until <= now))
            .map(|(value, _)| value.clone())
            .collect();
        for value in ended {
            self.revoke(&value);
        }
        self.tokens.get(value).cloned()
    }

    /// Counts one use of a token that has a limited number of them. The last one still serves its call.
    pub(super) fn use_up(&mut self, value: &str) {
        if let Some(left) = self.tokens.get_mut(value).and_then(|token| token.uses_left.as_mut()) {
            *left -= 1;
            if *left == 0 {
                self.revoke(value);
            }
        }
    }

    /// Ends a token and all that it has created.
    pub(super) fn revoke(&mut self, value: &str) {
        let mut ending = vec![value.to_owned()];
        while let Some(value) = ending.pop() {
            if self.tokens.remove(&value).is_some() {
                let children =
                    self.tokens.iter().filter(|(_, token)| token.parent.as_deref() == Some(&value));
                ending.extend(children.map(|(child, _)| child.clone()));
            }
        }
    }

    /// The value of the token with this accessor.
    pub(super) fn by_accessor(&self, accessor: &str) -> Option<String> {
        self.tokens.iter().find(|(_, token)| token.accessor == accessor).map(|(value, _)| value.clone())
    }

    pub(super) fn revoke_logins(&mut self) {
        self.tokens.retain(|_, token| token.root);
    }

    pub(super) fn live_tokens(&self) -> Vec<String> {
        let now = Instant::now();
        self.tokens
            .iter()
            .filter(|(_, token)| !token.root && token.until.is_none_or(|until| until > now))
            .map(|(value, _)| value.clone())
            .collect()
    }

    pub(super) fn kv_put(&mut self, mount: &str, path: &str, data: Value) -> u64 {
        self.root().engines.entry(mount.to_owned()).or_default().put(path, data)
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

/// A duration as Vault takes it: seconds as a number or text, or text with a unit.
pub(super) fn duration(value: &Value) -> Option<Duration> {
    let text = match value {
        Value::Number(number) => return number.as_u64().map(Duration::from_secs),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    let (digits, seconds) = match text.char_indices().last()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        (at, 'd') => (&text[..at], 86_400),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// A list as Vault takes it: of texts, or one text with commas.
pub(super) fn list(value: &Value) -> Vec<String> {
    let words: Vec<&str> = match value {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => text.split(',').collect(),
        _ => Vec::new(),
    };
    words.into_iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}
