//! Paths, methods and the answers' shapes.

use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    policy,
    store::{Store, Token, Version, rfc3339},
};
use crate::http::{Call, Reply};

pub(super) fn answer(store: &mut Store, call: &Call) -> Reply {
    let Some(path) = call.path.strip_prefix("/v1/") else { return errors(404, &[]) };
    if path == "sys/health" {
        return health(store);
    }
    if path == "sys/seal-status" {
        return Reply::json(
            200,
            json!({"sealed": store.sealed, "initialized": true, "type": "shamir", "t": 1, "n": 1, "progress": 0, "version": "1.21.0"}),
        );
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
    if let Some(mount) = path.strip_prefix("auth/").and_then(|rest| rest.strip_suffix("/login")) {
        return login(store, call, mount, &body);
    }
    if matches!(path, "sys/wrapping/lookup" | "sys/wrapping/unwrap") {
        return wrapping(store, call, path, &body);
    }
    let Some(value) = call
        .header("x-vault-token")
        .or_else(|| call.header("authorization").and_then(|h| h.strip_prefix("Bearer ")))
    else {
        return errors(403, &["missing client token"]);
    };
    let value = value.to_owned();
    let Some(token) = store.token(&value) else {
        return errors(403, &["permission denied", "invalid token"]);
    };
    if let Some(operation) = path.strip_prefix("auth/token/") {
        return own_token(store, &value, &token, operation, &call.method, &body);
    }
    let capability = match (&call.method, call.query.contains("list=true")) {
        (&Method::GET, false) => "read",
        (&Method::GET, true) => "list",
        (&Method::DELETE, _) => "delete",
        (&Method::PATCH, _) => "patch",
        (method, _) if method.as_str() == "LIST" => "list",
        _ => "update",
    };
    let rules = token.policies.iter().filter_map(|name| store.policies.get(name)).flatten();
    // A write to a path that does not exist yet needs `create`; either word lets it pass here.
    let allowed = token.root || {
        let rules: Vec<_> = rules.collect();
        policy::allows(rules.iter().copied(), path, capability)
            || (capability == "update" && policy::allows(rules.iter().copied(), path, "create"))
    };
    if !allowed {
        return errors(403, &["1 error occurred:\n\t* permission denied\n\n"]);
    }
    engine(store, call, path, capability, &body)
}

fn health(store: &Store) -> Reply {
    let status = if store.sealed { 503 } else { 200 };
    Reply::json(
        status,
        json!({"initialized": true, "sealed": store.sealed, "standby": false, "performance_standby": false,
        "replication_performance_mode": "disabled", "replication_dr_mode": "disabled", "server_time_utc": 0,
        "version": "1.21.0", "cluster_name": "stand-in", "cluster_id": "00000000-0000-0000-0000-000000000000"}),
    )
}

fn login(store: &mut Store, call: &Call, mount: &str, body: &Value) -> Reply {
    if call.method != Method::POST && call.method != Method::PUT {
        return errors(405, &["unsupported operation"]);
    }
    store.login_attempts += 1;
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if field("role_id").is_empty() {
        return errors(400, &["missing role_id"]);
    }
    if !store.roles.keys().any(|(at, _)| at == mount) {
        return errors(403, &["permission denied"]);
    }
    match store.login(mount, &field("role_id"), &field("secret_id")) {
        Ok((value, token)) => envelope(json!({"auth": auth(&value, &token)})),
        Err(word) => errors(400, &[word]),
    }
}

fn auth(value: &str, token: &Token) -> Value {
    json!({"client_token": value, "accessor": token.accessor, "policies": token.policies, "token_policies": token.policies,
        "metadata": {"role_name": "stand-in"}, "lease_duration": left(token), "renewable": true, "entity_id": "",
        "token_type": "service", "orphan": true, "mfa_requirement": null, "num_uses": 0})
}

fn left(token: &Token) -> u64 {
    // Vault rounds to whole seconds.
    (token.until.saturating_duration_since(Instant::now()).as_secs_f64()).round() as u64
}

fn own_token(
    store: &mut Store,
    value: &str,
    token: &Token,
    operation: &str,
    method: &Method,
    body: &Value,
) -> Reply {
    match (operation, method) {
        ("lookup-self", &Method::GET) => {
            envelope(json!({"data": {"accessor": token.accessor, "id": value, "policies": token.policies,
            "ttl": left(token), "creation_ttl": token.ttl.as_secs(), "renewable": !token.root, "type": "service", "orphan": true,
            "explicit_max_ttl": 0, "num_uses": 0, "path": "auth/approle/login", "display_name": "approle"}}))
        }
        ("renew-self", &Method::POST | &Method::PUT) => {
            if token.root {
                return errors(400, &["lease is not renewable"]);
            }
            let increment = match body.get("increment") {
                Some(Value::Number(n)) => n.as_u64().map(Duration::from_secs),
                Some(Value::String(text)) => text.trim_end_matches('s').parse().ok().map(Duration::from_secs),
                _ => None,
            };
            match store.renew(value, increment.filter(|wanted| !wanted.is_zero())) {
                Some(token) => envelope(json!({"auth": auth(value, &token)})),
                None => errors(403, &["permission denied"]),
            }
        }
        ("revoke-self", &Method::POST | &Method::PUT) => {
            store.tokens.remove(value);
            Reply::empty(204)
        }
        _ => errors(404, &["unsupported path"]),
    }
}

fn wrapping(store: &mut Store, call: &Call, path: &str, body: &Value) -> Reply {
    let given = body
        .get("token")
        .and_then(Value::as_str)
        .or_else(|| call.header("x-vault-token"))
        .unwrap_or_default()
        .to_owned();
    let Some(wrapped) = store.wrapped(&given) else {
        return errors(400, &["wrapping token is not valid or does not exist"]);
    };
    if path.ends_with("lookup") {
        return envelope(
            json!({"data": {"creation_path": wrapped.creation_path, "creation_time": rfc3339(wrapped.created),
            "creation_ttl": wrapped.ttl.as_secs()}}),
        );
    }
    let answer = wrapped.answer.clone();
    store.wrapped.remove(&given);
    envelope(answer)
}

fn engine(store: &mut Store, call: &Call, path: &str, capability: &str, body: &Value) -> Reply {
    if let Some(rest) = path.strip_prefix("auth/") {
        return approle(store, call, rest);
    }
    if path == "sys/seal" {
        store.sealed = true;
        return Reply::empty(204);
    }
    let mut parts = path.splitn(3, '/');
    let (Some(mount), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return errors(404, &["no handler for route"]);
    };
    let key = (mount.to_owned(), name.trim_end_matches('/').to_owned());
    match (kind, capability) {
        ("data", "read") => {
            store.reads += 1;
            read(store, &key, call)
        }
        ("data", "update") => write(store, &key, body),
        ("data", "delete") => {
            if let Some(version) = store.kv.get_mut(&key).and_then(|entry| entry.versions.last_mut()) {
                version.deleted.get_or_insert_with(SystemTime::now);
            }
            Reply::empty(204)
        }
        ("delete" | "undelete" | "destroy", "update") => {
            change_versions(store, &key, kind, body);
            Reply::empty(204)
        }
        ("metadata", "read") => metadata(store, &key),
        ("metadata", "list") => list(store, mount, &key.1),
        ("metadata", "delete") => {
            store.kv.remove(&key);
            Reply::empty(204)
        }
        _ => errors(404, &["unsupported path"]),
    }
}

fn approle(store: &mut Store, call: &Call, rest: &str) -> Reply {
    let mut parts = rest.split('/');
    let (Some(mount), Some("role"), Some(role), Some(what)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return errors(404, &["no handler for route"]);
    };
    let (mount, role) = (mount.to_owned(), role.to_owned());
    let Some(state) = store.roles.get(&(mount.clone(), role.clone())) else { return errors(404, &[]) };
    match (what, &call.method) {
        ("role-id", &Method::GET) => envelope(json!({"data": {"role_id": state.role_id}})),
        ("secret-id", &Method::POST | &Method::PUT) => {
            if let Some(seconds) =
                call.header("x-vault-wrap-ttl").and_then(|ttl| ttl.trim_end_matches('s').parse().ok())
            {
                let ttl = Duration::from_secs(seconds);
                let token = store.wrap_secret_id(&mount, &role, ttl).unwrap_or_default();
                return envelope(json!({"wrap_info": {"token": token, "accessor": "", "ttl": seconds,
                    "creation_time": rfc3339(SystemTime::now()), "creation_path": format!("auth/{mount}/role/{role}/secret-id")}}));
            }
            let uses = state.role.secret_id_num_uses;
            let ttl = state.role.secret_id_ttl.as_secs();
            let id = store.issue_secret_id(&role).unwrap_or_default();
            envelope(json!({"data": {"secret_id": id, "secret_id_accessor": uuid::Uuid::new_v4().to_string(),
                "secret_id_num_uses": uses, "secret_id_ttl": ttl}}))
        }
        _ => errors(405, &["unsupported operation"]),
    }
}

fn read(store: &Store, key: &(String, String), call: &Call) -> Reply {
    let Some(entry) = store.kv.get(key) else { return errors(404, &[]) };
    let wanted = url::form_urlencoded::parse(call.query.as_bytes())
        .find(|(name, _)| name == "version")
        .and_then(|(_, value)| value.parse::<usize>().ok())
        .filter(|number| *number > 0)
        .unwrap_or(entry.versions.len());
    let Some(version) = wanted.checked_sub(1).and_then(|index| entry.versions.get(index)) else {
        return errors(404, &[]);
    };
    let live = version.deleted.is_none() && version.data.is_some();
    let data = if live { version.data.clone().unwrap_or(Value::Null) } else { Value::Null };
    // A deleted version answers 404 with its metadata.
    Reply {
        status: Reply::empty(if live { 200 } else { 404 }).status,
        ..envelope(json!({"data": {"data": data, "metadata": version_json(version, wanted)}}))
    }
}

fn version_json(version: &Version, number: usize) -> Value {
    json!({"created_time": rfc3339(version.created), "custom_metadata": null, "version": number, "destroyed": version.data.is_none(),
        "deletion_time": version.deleted.map(rfc3339).unwrap_or_default()})
}

fn write(store: &mut Store, key: &(String, String), body: &Value) -> Reply {
    let Some(data) = body.get("data") else { return errors(400, &["no data provided"]) };
    let current = store.kv.get(key).map_or(0, |entry| entry.versions.len() as u64);
    if let Some(cas) = body.pointer("/options/cas").and_then(Value::as_u64)
        && cas != current
    {
        return errors(400, &["check-and-set parameter did not match the current version"]);
    }
    let number = store.kv_put(&key.0, &key.1, data.clone());
    let version = store
        .kv
        .get(key)
        .and_then(|entry| entry.versions.last())
        .map(|version| version_json(version, number as usize));
    envelope(json!({ "data": version }))
}

fn change_versions(store: &mut Store, key: &(String, String), kind: &str, body: &Value) {
    let Some(entry) = store.kv.get_mut(key) else { return };
    for number in
        body.get("versions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64)
    {
        let Some(version) = (number as usize).checked_sub(1).and_then(|index| entry.versions.get_mut(index))
        else {
            continue;
        };
        match kind {
            "delete" => version.deleted = Some(SystemTime::now()),
            "undelete" => version.deleted = None,
            _ => version.data = None,
        }
    }
}

fn metadata(store: &Store, key: &(String, String)) -> Reply {
    let Some(entry) = store.kv.get(key) else { return errors(404, &[]) };
    let versions: serde_json::Map<String, Value> = entry
        .versions
        .iter()
        .enumerate()
        .map(|(index, version)| ((index + 1).to_string(), version_json(version, index + 1)))
        .collect();
    envelope(
        json!({"data": {"cas_required": false, "created_time": entry.versions.first().map(|v| rfc3339(v.created)),
        "current_version": entry.versions.len(), "custom_metadata": null, "delete_version_after": "0s", "max_versions": 0, "oldest_version": 0,
        "updated_time": entry.versions.last().map(|v| rfc3339(v.created)), "versions": versions}}),
    )
}

fn list(store: &Store, mount: &str, prefix: &str) -> Reply {
    let prefix = if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) };
    let mut keys: Vec<String> = store
        .kv
        .keys()
        .filter(|(at, _)| at == mount)
        .filter_map(|(_, path)| path.strip_prefix(&prefix))
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(folder, _)| format!("{folder}/")))
        .collect();
    keys.dedup();
    if keys.is_empty() { errors(404, &[]) } else { envelope(json!({"data": {"keys": keys}})) }
}

fn envelope(body: Value) -> Reply {
    let mut full = json!({"request_id": uuid::Uuid::new_v4().to_string(), "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": null, "wrap_info": null, "warnings": null, "auth": null, "mount_type": ""});
    if let (Some(full), Value::Object(body)) = (full.as_object_mut(), body) {
        full.extend(body);
    }
    Reply::json(200, full)
}

fn errors(status: u16, words: &[&str]) -> Reply {
    Reply::json(status, json!({ "errors": words }))
}
