//! One call: the seal, the namespace, the token, its policies, and then whoever serves the path.

use hyper::Method;
use serde_json::{Value, json};

use super::{
    approle, policy,
    store::{Space, Store},
    sys,
    token::{self, Token},
};
use crate::http::{Call, Reply};

const DENIED: &str = "1 error occurred:\n\t* permission denied\n\n";
const INVALID: &str = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";

pub(super) fn answer(store: &mut Store, call: &Call) -> Reply {
    let Some(path) = call.path.strip_prefix("/v1/") else { return errors(404, &[]) };
    if let Some(reply) = sys::open(store, call, path) {
        return reply;
    }
    if store.sealed {
        store.faults.fired += 1;
        return errors(503, &["Vault is sealed"]);
    }
    if let Some((left, status)) = store.faults.answer.take_if(|(left, _)| *left > 0) {
        store.faults.answer = (left > 1).then_some((left - 1, status));
        store.faults.fired += 1;
        return errors(status, &["injected"]);
    }
    let Ok(body) = call.json() else { return errors(400, &["failed to parse JSON input"]) };
    let header = call.header("x-vault-namespace").unwrap_or_default();
    let Some((space, path)) = place(store, header.trim_matches('/'), path) else {
        return errors(404, &[&format!("no handler for route \"{path}\". route entry not found.")]);
    };
    let reply = serve(store, call, &space, &path, &body);
    match (sys::wrap_ttl(call), &reply.body) {
        (Some(ttl), Some(answer)) if reply.status == 200 && !is_wrapping(&path) => {
            sys::wrap(store, answer.clone(), &path, ttl)
        }
        _ => reply,
    }
}

fn is_wrapping(path: &str) -> bool {
    path.starts_with("sys/wrapping/") && path != "sys/wrapping/wrap"
}

/// The namespace that a call is about, by its header or by the first parts of its path, and the path inside.
fn place(store: &Store, header: &str, path: &str) -> Option<(String, String)> {
    if !store.spaces.contains_key(header) {
        return None;
    }
    let (mut space, mut path) = (header.to_owned(), path.to_owned());
    while let Some((first, rest)) = path.split_once('/') {
        let below = if space.is_empty() { first.to_owned() } else { format!("{space}/{first}") };
        if !store.spaces.contains_key(&below) {
            break;
        }
        (space, path) = (below, rest.to_owned());
    }
    Some((space, path))
}

fn serve(store: &mut Store, call: &Call, space: &str, path: &str, body: &Value) -> Reply {
    if let Some(mount) = path.strip_prefix("auth/").and_then(|rest| rest.strip_suffix("/login")) {
        if store.space(space).approles.iter().any(|at| at == mount) {
            return approle::login(store, space, mount, &call.method, body);
        }
        return errors(403, &[DENIED]);
    }
    if let Some(what @ ("lookup" | "unwrap" | "rewrap")) = path.strip_prefix("sys/wrapping/") {
        return sys::wrapping(store, call, what, body);
    }
    let bearer = || call.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
    let Some(value) = call.header("x-vault-token").or_else(bearer).filter(|value| !value.is_empty()) else {
        return errors(403, &[DENIED]);
    };
    let value = value.to_owned();
    let Some(token) = store.token(&value) else { return errors(403, &[INVALID]) };
    if !allowed(store, call, &token, space, path) {
        return errors(403, &[DENIED]);
    }
    store.use_up(&value);
    authorized(store, call, (&value, &token), space, path, body)
}

fn is_list(call: &Call) -> bool {
    call.method.as_str() == "LIST" || (call.method == Method::GET && call.query.contains("list=true"))
}

/// A token's policies are those of its own namespace; below it they see paths with the namespaces in front.
fn allowed(store: &mut Store, call: &Call, token: &Token, space: &str, path: &str) -> bool {
    let below = match (token.namespace.as_str(), space) {
        ("", space) => Some(space),
        (own, space) if own == space => Some(""),
        (own, space) => space.strip_prefix(own).and_then(|rest| rest.strip_prefix('/')),
    };
    let Some(below) = below else { return false };
    if token.root {
        return true;
    }
    let capability = match call.method {
        _ if is_list(call) => "list",
        Method::GET => "read",
        Method::DELETE => "delete",
        Method::PATCH => "patch",
        _ if is_new(store.space(space), path) => "create",
        _ => "update",
    };
    let full = if below.is_empty() { path.to_owned() } else { format!("{below}/{path}") };
    let own = store.space(&token.namespace);
    let rules =
        || token.policies.iter().filter_map(|name| own.policies.get(name)).flat_map(|policy| &policy.rules);
    policy::allows(rules(), &full, capability)
        && policy::wraps(rules(), &full, sys::wrap_ttl(call))
        && (path != "sys/seal" || policy::allows(rules(), &full, "sudo"))
}

/// Whether a write makes something: then the capability is `create` instead of `update`.
fn is_new(space: &Space, path: &str) -> bool {
    if let Some((mount, role)) = path.strip_prefix("auth/").and_then(|rest| rest.split_once("/role/"))
        && !role.contains('/')
    {
        return !space.roles.contains_key(&(mount.to_owned(), role.to_owned()));
    }
    let engine = space
        .engines
        .iter()
        .find_map(|(mount, engine)| Some((engine, path.strip_prefix(mount.as_str())?.strip_prefix('/')?)));
    engine.is_some_and(|(engine, rest)| {
        let secret = rest.strip_prefix("data/").or_else(|| rest.strip_prefix("metadata/"));
        secret.is_some_and(|secret| !engine.has(secret))
    })
}

fn authorized(
    store: &mut Store,
    call: &Call,
    (value, token): (&str, &Token),
    space: &str,
    path: &str,
    body: &Value,
) -> Reply {
    if let Some(operation) = path.strip_prefix("auth/token/") {
        return token::answer(store, value, token, operation.trim_end_matches('/'), &call.method, body);
    }
    if let Some(rest) = path.strip_prefix("sys/") {
        return sys::answer(store, space, token, call, rest, body);
    }
    let not_found = || errors(404, &[&format!("no handler for route \"{path}\". route entry not found.")]);
    if let Some(rest) = path.strip_prefix("auth/") {
        let Some((mount, rest)) = rest.split_once('/') else { return not_found() };
        let here = store.space(space);
        if !here.approles.iter().any(|at| at == mount) {
            return not_found();
        }
        return approle::answer(here, mount, rest, &call.method, body);
    }
    let mount = store
        .space(space)
        .engines
        .keys()
        .find(|mount| path.strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/')));
    let Some(mount) = mount.cloned() else { return not_found() };
    let rest = &path[mount.len() + 1..];
    if rest.starts_with("data/") && call.method == Method::GET {
        store.reads += 1;
    }
    match store.space(space).engines.get_mut(&mount) {
        Some(engine) => engine.answer(rest, is_list(call), call, body),
        None => not_found(),
    }
}

pub(super) fn envelope(body: Value) -> Reply {
    let mut full = json!({"request_id": uuid::Uuid::new_v4().to_string(), "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": null, "wrap_info": null, "warnings": null, "auth": null, "mount_type": ""});
    if let (Some(full), Value::Object(body)) = (full.as_object_mut(), body) {
        full.extend(body);
    }
    Reply::json(200, full)
}

pub(super) fn errors(status: u16, words: &[&str]) -> Reply {
    Reply::json(status, json!({ "errors": words }))
}
