//! `auth/MOUNT/`: AppRole's roles, secret_ids and logins.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    routes::{envelope, errors},
    store::{Role, Space, Store, duration, list, rfc3339},
    token::{Token, policies},
};
use crate::http::Reply;

const REFUSED: &str = "invalid role or secret ID";

/// A role and its secret_ids.
pub(super) struct RoleState {
    pub(super) role: Role,
    pub(super) role_id: String,
    pub(super) secret_ids: BTreeMap<String, SecretId>,
    pub(super) token_num_uses: u32,
    pub(super) bind_secret_id: bool,
}

/// One secret_id.
pub(super) struct SecretId {
    accessor: String,
    uses_left: Option<u32>,
    until: Option<Instant>,
    ttl: Duration,
    created: SystemTime,
    metadata: Value,
}

impl RoleState {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            role_id: uuid::Uuid::new_v4().to_string(),
            secret_ids: BTreeMap::new(),
            token_num_uses: 0,
            bind_secret_id: true,
        }
    }

    /// A new secret_id with the role's limits, and the `data` of its answer.
    pub(super) fn issue(&mut self, chosen: Option<String>, metadata: &Value) -> (String, Value) {
        let id = chosen.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let (uses, ttl) = (self.role.secret_id_num_uses, self.role.secret_id_ttl);
        let secret_id = SecretId {
            accessor: uuid::Uuid::new_v4().to_string(),
            uses_left: (uses > 0).then_some(uses),
            until: (!ttl.is_zero()).then(|| Instant::now() + ttl),
            ttl,
            created: SystemTime::now(),
            metadata: metadata.clone(),
        };
        let data = json!({"secret_id": id, "secret_id_accessor": secret_id.accessor, "secret_id_num_uses": uses,
            "secret_id_ttl": ttl.as_secs()});
        self.secret_ids.insert(id.clone(), secret_id);
        (id, data)
    }

    fn forget_ended(&mut self) {
        let now = Instant::now();
        self.secret_ids.retain(|_, id| id.until.is_none_or(|until| until > now));
    }

    fn by_accessor(&self, accessor: &str) -> Option<String> {
        self.secret_ids.iter().find(|(_, id)| id.accessor == accessor).map(|(value, _)| value.clone())
    }
}

impl SecretId {
    fn data(&self) -> Value {
        let end = self
            .until
            .map(|until| rfc3339(SystemTime::now() + until.saturating_duration_since(Instant::now())));
        json!({"secret_id_accessor": self.accessor, "secret_id_num_uses": self.uses_left.unwrap_or(0),
            "secret_id_ttl": self.ttl.as_secs(), "creation_time": rfc3339(self.created),
            "expiration_time": end.unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned()), "metadata": self.metadata,
            "cidr_list": [], "token_bound_cidrs": []})
    }
}

/// `POST auth/MOUNT/login`: needs no token.
pub(super) fn login(store: &mut Store, space: &str, mount: &str, method: &Method, body: &Value) -> Reply {
    if method != Method::POST && method != Method::PUT {
        return errors(405, &["unsupported operation"]);
    }
    store.login_attempts += 1;
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    if field("role_id").is_empty() {
        return errors(400, &["missing role_id"]);
    }
    match log_in(store.space(space), mount, &field("role_id"), &field("secret_id")) {
        Ok(token) => {
            let token = Token { namespace: space.to_owned(), ..token };
            store.logins += 1;
            match store.keep_token(token.clone()) {
                Ok(value) => envelope(json!({"auth": token.auth(&value)})),
                Err(_) => errors(500, &["internal error"]),
            }
        }
        Err(word) => errors(400, &[word]),
    }
}

fn log_in(space: &mut Space, mount: &str, role_id: &str, secret_id: &str) -> Result<Token, &'static str> {
    let ((_, name), state) = space
        .roles
        .iter_mut()
        .find(|((at, _), state)| at == mount && state.role_id == role_id)
        .ok_or(REFUSED)?;
    let mut metadata = json!({ "role_name": name });
    if state.bind_secret_id {
        if secret_id.is_empty() {
            return Err("missing secret_id");
        }
        state.forget_ended();
        let id = state.secret_ids.get_mut(secret_id).ok_or(REFUSED)?;
        if let (Some(all), Some(own)) = (metadata.as_object_mut(), id.metadata.as_object()) {
            all.extend(own.clone());
        }
        if let Some(left) = &mut id.uses_left {
            *left -= 1;
            if *left == 0 {
                state.secret_ids.remove(secret_id);
            }
        }
    }
    let role = &state.role;
    Ok(Token {
        policies: policies(role.policies.clone(), true),
        metadata,
        uses_left: (state.token_num_uses > 0).then_some(state.token_num_uses),
        path: format!("auth/{mount}/login"),
        display_name: mount.to_owned(),
        ..Token::new(role.token_ttl, role.token_max_ttl)
    })
}

/// Administration, already authorized. `rest` is what follows the mount.
pub(super) fn answer(space: &mut Space, mount: &str, rest: &str, method: &Method, body: &Value) -> Reply {
    let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    let listing = method.as_str() == "LIST";
    match parts.as_slice() {
        ["role"] if listing => {
            let names = space.roles.keys().filter(|(at, _)| at == mount).map(|(_, name)| name.clone());
            keys(names)
        }
        ["role", name] => role(space, mount, name, method, body),
        ["role", name, what @ ..] => {
            let key = (mount.to_owned(), (*name).to_owned());
            let Some(state) = space.roles.get_mut(&key) else {
                return errors(404, &[&format!("role \"{name}\" does not exist")]);
            };
            state.forget_ended();
            of_role(state, what, method, listing, body)
        }
        _ => errors(404, &["unsupported path"]),
    }
}

fn keys(keys: impl Iterator<Item = String>) -> Reply {
    let keys: Vec<String> = keys.collect();
    if keys.is_empty() { errors(404, &[]) } else { envelope(json!({"data": {"keys": keys}})) }
}

fn role(space: &mut Space, mount: &str, name: &str, method: &Method, body: &Value) -> Reply {
    let key = (mount.to_owned(), name.to_owned());
    match *method {
        Method::GET => match space.roles.get(&key) {
            None => errors(404, &[]),
            Some(RoleState { role, token_num_uses, bind_secret_id, .. }) => envelope(json!({"data": {
                "bind_secret_id": bind_secret_id, "local_secret_ids": false, "secret_id_bound_cidrs": null,
                "secret_id_num_uses": role.secret_id_num_uses, "secret_id_ttl": role.secret_id_ttl.as_secs(),
                "token_bound_cidrs": [], "token_explicit_max_ttl": 0, "token_max_ttl": role.token_max_ttl.as_secs(),
                "token_no_default_policy": false, "token_num_uses": token_num_uses, "token_period": 0,
                "token_policies": role.policies, "token_ttl": role.token_ttl.as_secs(), "token_type": "default",
            }})),
        },
        Method::DELETE => {
            space.roles.remove(&key);
            Reply::empty(204)
        }
        Method::POST | Method::PUT => {
            let nothing = Role {
                token_ttl: Duration::ZERO,
                token_max_ttl: Duration::ZERO,
                secret_id_num_uses: 0,
                secret_id_ttl: Duration::ZERO,
                policies: Vec::new(),
            };
            let state = space.roles.entry(key).or_insert_with(|| RoleState::new(nothing));
            settle(state, body)
        }
        _ => errors(405, &["unsupported operation"]),
    }
}

fn settle(state: &mut RoleState, body: &Value) -> Reply {
    let role = &mut state.role;
    for (name, place) in [
        ("token_ttl", &mut role.token_ttl),
        ("token_max_ttl", &mut role.token_max_ttl),
        ("secret_id_ttl", &mut role.secret_id_ttl),
    ] {
        if let Some(given) = body.get(name).filter(|given| !given.is_null()) {
            let Some(life) = duration(given) else {
                return errors(400, &[&format!("error converting input for field {name:?}: not a duration")]);
            };
            *place = life;
        }
    }
    if !role.token_max_ttl.is_zero() && role.token_ttl > role.token_max_ttl {
        return errors(400, &["\"token_ttl\" cannot be greater than \"token_max_ttl\""]);
    }
    if let Some(named) = body.get("token_policies").or_else(|| body.get("policies")) {
        role.policies = list(named);
    }
    let number = |name: &str| body.get(name).and_then(Value::as_u64).map(|number| number as u32);
    role.secret_id_num_uses = number("secret_id_num_uses").unwrap_or(role.secret_id_num_uses);
    state.token_num_uses = number("token_num_uses").unwrap_or(state.token_num_uses);
    state.bind_secret_id =
        body.get("bind_secret_id").and_then(Value::as_bool).unwrap_or(state.bind_secret_id);
    Reply::empty(204)
}

fn of_role(state: &mut RoleState, what: &[&str], method: &Method, listing: bool, body: &Value) -> Reply {
    let write = method == Method::POST || method == Method::PUT;
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    // hvac sends the metadata of a secret_id as JSON inside a text.
    let metadata = match body.get("metadata") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(other) => other.clone(),
        None => json!({}),
    };
    match what {
        ["role-id"] if method == Method::GET => envelope(json!({"data": {"role_id": state.role_id}})),
        ["role-id"] if write => {
            state.role_id = field("role_id");
            Reply::empty(204)
        }
        ["secret-id"] if write => envelope(json!({"data": state.issue(None, &metadata).1})),
        ["secret-id"] if listing => keys(state.secret_ids.values().map(|id| id.accessor.clone())),
        ["custom-secret-id"] if write => {
            let chosen = field("secret_id");
            if chosen.is_empty() {
                return errors(400, &["missing secret_id"]);
            }
            if state.secret_ids.contains_key(&chosen) {
                return errors(400, &["failed to store secret_id: SecretID is already registered"]);
            }
            envelope(json!({"data": state.issue(Some(chosen), &metadata).1}))
        }
        ["secret-id", "lookup"] if write => match state.secret_ids.get(&field("secret_id")) {
            Some(id) => envelope(json!({"data": id.data()})),
            None => Reply::empty(204),
        },
        ["secret-id", "destroy"] if write || method == Method::DELETE => {
            state.secret_ids.remove(&field("secret_id"));
            Reply::empty(204)
        }
        ["secret-id-accessor", "lookup"] if write => {
            let accessor = field("secret_id_accessor");
            match state.by_accessor(&accessor).and_then(|value| state.secret_ids.get(&value)) {
                Some(id) => envelope(json!({"data": id.data()})),
                None => errors(
                    404,
                    &[&format!("failed to find accessor entry for secret_id_accessor: {accessor:?}")],
                ),
            }
        }
        ["secret-id-accessor", "destroy"] if write || method == Method::DELETE => {
            let accessor = field("secret_id_accessor");
            match state.by_accessor(&accessor) {
                Some(value) => {
                    state.secret_ids.remove(&value);
                    Reply::empty(204)
                }
                None => errors(
                    404,
                    &[&format!("failed to find accessor entry for secret_id_accessor: {accessor:?}")],
                ),
            }
        }
        _ => errors(405, &["unsupported operation"]),
    }
}
