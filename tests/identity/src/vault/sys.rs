//! `sys/`: health, the seal, policies, mounts, namespaces, wrapping.

use std::{collections::BTreeMap, time::Duration};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    policy::{self, Policy},
    routes::{envelope, errors},
    store::{Space, Store, duration, rfc3339},
    token::Token,
};
use crate::http::{Call, Reply};

const VERSION: &str = "1.21.0";

/// What needs no token and answers even while sealed.
pub(super) fn open(store: &mut Store, call: &Call, path: &str) -> Option<Reply> {
    let write = call.method == Method::POST || call.method == Method::PUT;
    match path {
        "sys/health" => Some(health(store, call)),
        "sys/seal-status" => Some(seal_status(store)),
        "sys/init" if call.method == Method::GET => Some(Reply::json(200, json!({"initialized": true}))),
        "sys/leader" => Some(Reply::json(
            200,
            json!({"ha_enabled": false, "is_self": false, "leader_address": "", "leader_cluster_address": "",
                "performance_standby": false, "performance_standby_last_remote_wal": 0}),
        )),
        "sys/unseal" if write => Some(unseal(store, call)),
        _ => None,
    }
}

fn health(store: &Store, call: &Call) -> Reply {
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(call.query.as_bytes()).into_owned().collect();
    let code = |name: &str, usual: u16| {
        query
            .get(name)
            .and_then(|code| code.parse().ok())
            .filter(|code| (100..1000).contains(code))
            .unwrap_or(usual)
    };
    let status = if store.sealed { code("sealedcode", 503) } else { code("activecode", 200) };
    Reply::json(
        status,
        json!({"initialized": true, "sealed": store.sealed, "standby": false, "performance_standby": false,
        "replication_performance_mode": "disabled", "replication_dr_mode": "disabled", "server_time_utc": 0,
        "version": VERSION, "cluster_name": "stand-in", "cluster_id": "00000000-0000-0000-0000-000000000000"}),
    )
}

fn seal_status(store: &Store) -> Reply {
    Reply::json(
        200,
        json!({"sealed": store.sealed, "initialized": true, "type": "shamir", "t": 1, "n": 1, "progress": 0, "nonce": "",
            "version": VERSION, "migration": false, "recovery_seal": false, "storage_type": "inmem"}),
    )
}

fn unseal(store: &mut Store, call: &Call) -> Reply {
    let body = call.json().unwrap_or_default();
    match body.get("key").and_then(Value::as_str) {
        Some(key) if key == store.unseal_key => {
            store.sealed = false;
            seal_status(store)
        }
        Some(_) if store.sealed => errors(400, &["Unseal failed, invalid key"]),
        None if body.get("reset").and_then(Value::as_bool) != Some(true) => {
            errors(400, &["'key' must be specified in request body as JSON, or 'reset' set to true"])
        }
        _ => seal_status(store),
    }
}

/// An operation under `sys/`, already authorized.
pub(super) fn answer(
    store: &mut Store,
    space: &str,
    token: &Token,
    call: &Call,
    path: &str,
    body: &Value,
) -> Reply {
    let write = call.method == Method::POST || call.method == Method::PUT;
    let listing = call.method.as_str() == "LIST" || call.query.contains("list=true");
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match parts.as_slice() {
        ["seal"] if write => {
            store.sealed = true;
            Reply::empty(204)
        }
        ["capabilities-self"] if write => capabilities(store, space, token, body),
        ["wrapping", "wrap"] if write => envelope(json!({ "data": body })),
        ["policy"] if call.method == Method::GET || listing => policies(store.space(space), true),
        ["policies", "acl"] if listing => policies(store.space(space), false),
        ["policy", name] => one_policy(store.space(space), &name.to_lowercase(), call, body, "rules"),
        ["policies", "acl", name] => {
            one_policy(store.space(space), &name.to_lowercase(), call, body, "policy")
        }
        ["mounts"] if call.method == Method::GET => mounts(store.space(space)),
        ["auth"] if call.method == Method::GET => auths(store.space(space)),
        ["mounts", name @ ..] => mount(store.space(space), &name.join("/"), call, body),
        ["auth", name @ ..] => auth(store.space(space), &name.join("/"), call, body),
        ["namespaces"] if listing => namespaces(store, space),
        ["namespaces", name] => namespace(store, space, name, call),
        _ => errors(404, &["unsupported path"]),
    }
}

fn capabilities(store: &mut Store, space: &str, token: &Token, body: &Value) -> Reply {
    let mut found = serde_json::Map::new();
    let paths: Vec<&str> =
        body.get("paths").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if paths.is_empty() {
        return errors(400, &["paths must be supplied"]);
    }
    let here = store.space(space);
    for path in &paths {
        let rules =
            token.policies.iter().filter_map(|name| here.policies.get(name)).flat_map(|policy| &policy.rules);
        let words = if token.root { vec!["root".to_owned()] } else { policy::capabilities(rules, path) };
        found.insert((*path).to_owned(), json!(words));
    }
    if let [only] = paths.as_slice() {
        let words = found[*only].clone();
        found.insert("capabilities".to_owned(), words);
    }
    // These stand beside `data` as well.
    let mut answer = Value::Object(found.clone());
    answer["data"] = Value::Object(found);
    envelope(answer)
}

fn policies(space: &Space, legacy: bool) -> Reply {
    let mut names: Vec<&str> = space.policies.keys().map(String::as_str).collect();
    names.push("root");
    let data = if legacy { json!({"keys": names, "policies": names}) } else { json!({ "keys": names }) };
    let mut answer = json!({ "data": data });
    if legacy {
        answer["keys"] = json!(names);
        answer["policies"] = json!(names);
    }
    envelope(answer)
}

fn one_policy(space: &mut Space, name: &str, call: &Call, body: &Value, word: &str) -> Reply {
    match call.method {
        Method::GET => {
            let text = if name == "root" {
                Some("")
            } else {
                space.policies.get(name).map(|policy| policy.text.as_str())
            };
            let Some(text) = text else { return errors(404, &[]) };
            let mut answer = json!({"data": {"name": name, word: text}});
            if word == "rules" {
                answer["name"] = json!(name);
                answer["rules"] = json!(text);
            }
            envelope(answer)
        }
        Method::DELETE if name == "root" || name == "default" => {
            errors(400, &[&format!("cannot delete \"{name}\" policy")])
        }
        Method::DELETE => {
            space.policies.remove(name);
            Reply::empty(204)
        }
        Method::POST | Method::PUT => {
            if name == "root" {
                return errors(400, &["cannot update \"root\" policy"]);
            }
            let text =
                body.get("policy").or_else(|| body.get("rules")).and_then(Value::as_str).unwrap_or_default();
            if text.is_empty() {
                return errors(400, &["'policy' parameter not supplied or empty"]);
            }
            match Policy::read(text) {
                Ok(policy) => {
                    space.policies.insert(name.to_owned(), policy);
                    Reply::empty(204)
                }
                Err(error) => errors(400, &[&format!("failed to parse policy: {error}")]),
            }
        }
        _ => errors(405, &["unsupported operation"]),
    }
}

fn mounts(space: &Space) -> Reply {
    let shown = |kind: &str, options: Value| {
        json!({"type": kind, "description": "", "options": options, "local": false, "seal_wrap": false,
            "external_entropy_access": false, "config": {"default_lease_ttl": 0, "max_lease_ttl": 0, "force_no_cache": false}})
    };
    let mut all = serde_json::Map::new();
    for name in space.engines.keys() {
        all.insert(format!("{name}/"), shown("kv", json!({"version": "2"})));
    }
    all.insert("sys/".to_owned(), shown("system", Value::Null));
    listed(all)
}

fn auths(space: &Space) -> Reply {
    let shown = |kind: &str| json!({"type": kind, "description": "", "local": false, "seal_wrap": false, "config": {}});
    let mut all = serde_json::Map::new();
    for name in &space.approles {
        all.insert(format!("{name}/"), shown("approle"));
    }
    all.insert("token/".to_owned(), shown("token"));
    listed(all)
}

/// Mounts stand beside `data` as well.
fn listed(all: serde_json::Map<String, Value>) -> Reply {
    let mut answer = Value::Object(all.clone());
    answer["data"] = Value::Object(all);
    envelope(answer)
}

fn mount(space: &mut Space, name: &str, call: &Call, body: &Value) -> Reply {
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    let version =
        body.pointer("/options/version").map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    match call.method {
        Method::DELETE => {
            space.engines.remove(name);
            Reply::empty(204)
        }
        Method::POST | Method::PUT
            if kind == "kv-v2" || (kind == "kv" && version.as_deref() == Some("2")) =>
        {
            if space.engines.contains_key(name) {
                return errors(400, &[&format!("path is already in use at {name}/")]);
            }
            space.engines.insert(name.to_owned(), super::kv::Kv::default());
            Reply::empty(204)
        }
        Method::POST | Method::PUT if kind == "kv" => {
            errors(400, &["this stand-in has version 2 of kv only; say options.version = \"2\""])
        }
        Method::POST | Method::PUT => errors(400, &[&format!("plugin not found in the catalog: {kind}")]),
        _ => errors(405, &["unsupported operation"]),
    }
}

fn auth(space: &mut Space, name: &str, call: &Call, body: &Value) -> Reply {
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    match call.method {
        Method::DELETE => {
            space.approles.retain(|at| at != name);
            space.roles.retain(|(at, _), _| at != name);
            Reply::empty(204)
        }
        Method::POST | Method::PUT if kind == "approle" => {
            if space.approles.iter().any(|at| at == name) {
                return errors(400, &[&format!("path is already in use at {name}/")]);
            }
            space.approles.push(name.to_owned());
            Reply::empty(204)
        }
        Method::POST | Method::PUT => errors(400, &[&format!("plugin not found in the catalog: {kind}")]),
        _ => errors(405, &["unsupported operation"]),
    }
}

/// The full path of a namespace inside another.
fn within(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}/{name}") }
}

fn namespaces(store: &Store, space: &str) -> Reply {
    let prefix = if space.is_empty() { String::new() } else { format!("{space}/") };
    let inside = |path: &&String| {
        !path.is_empty() && path.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'))
    };
    let keys: Vec<String> =
        store.spaces.keys().filter(inside).map(|path| format!("{}/", &path[prefix.len()..])).collect();
    if keys.is_empty() { errors(404, &[]) } else { envelope(json!({"data": {"keys": keys}})) }
}

fn namespace(store: &mut Store, space: &str, name: &str, call: &Call) -> Reply {
    let path = within(space, name);
    match call.method {
        Method::DELETE => {
            let below = format!("{path}/");
            store.spaces.retain(|at, _| *at != path && !at.starts_with(&below));
            store.tokens.retain(|_, token| token.namespace != path && !token.namespace.starts_with(&below));
            Reply::empty(204)
        }
        Method::POST | Method::PUT => {
            let id = store.space(&path).id.clone();
            envelope(json!({"data": {"id": id, "path": format!("{path}/"), "custom_metadata": {}}}))
        }
        Method::GET => match store.spaces.get(&path) {
            Some(found) => {
                envelope(json!({"data": {"id": found.id, "path": format!("{path}/"), "custom_metadata": {}}}))
            }
            None => errors(404, &[]),
        },
        _ => errors(405, &["unsupported operation"]),
    }
}

/// `sys/wrapping/lookup`, `unwrap` and `rewrap`: the wrapping token itself is the permission.
pub(super) fn wrapping(store: &mut Store, call: &Call, what: &str, body: &Value) -> Reply {
    let given = body
        .get("token")
        .and_then(Value::as_str)
        .or_else(|| call.header("x-vault-token"))
        .unwrap_or_default()
        .to_owned();
    let Some(wrapped) = store.wrapped(&given) else {
        return errors(400, &["wrapping token is not valid or does not exist"]);
    };
    if what == "lookup" {
        return envelope(json!({"data": {"creation_path": wrapped.creation_path,
            "creation_time": rfc3339(wrapped.created), "creation_ttl": wrapped.ttl.as_secs()}}));
    }
    let (answer, path, ttl) = (wrapped.answer.clone(), wrapped.creation_path.clone(), wrapped.ttl);
    store.wrapped.remove(&given);
    if what == "unwrap" { envelope(answer) } else { wrap(store, answer, &path, ttl) }
}

/// Keeps an answer behind a token, which is answered instead.
pub(super) fn wrap(store: &mut Store, answer: Value, path: &str, ttl: Duration) -> Reply {
    let accessor = answer.pointer("/auth/accessor").cloned();
    let Some(token) = store.wrap(answer, path.to_owned(), ttl) else {
        return errors(500, &["internal error"]);
    };
    let created = store.wrapped(&token).map(|wrapped| rfc3339(wrapped.created));
    let accessor_of_token = super::store::random_text(18).unwrap_or_default();
    let mut info = json!({"token": token, "accessor": accessor_of_token, "ttl": ttl.as_secs(), "creation_time": created,
        "creation_path": path});
    if let Some(accessor) = accessor {
        info["wrapped_accessor"] = accessor;
    }
    envelope(json!({"data": null, "auth": null, "wrap_info": info}))
}

/// What `X-Vault-Wrap-TTL` asks for.
pub(super) fn wrap_ttl(call: &Call) -> Option<Duration> {
    let ttl = duration(&Value::String(call.header("x-vault-wrap-ttl")?.to_owned()))?;
    (!ttl.is_zero()).then_some(ttl)
}
