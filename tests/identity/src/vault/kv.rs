//! KV version 2: versions with metadata, soft deletion, check-and-set.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    routes::{envelope, errors},
    store::{duration, rfc3339},
};
use crate::http::{Call, Reply};

/// How many versions Vault keeps where nobody says.
const KEPT: u64 = 10;

/// One engine.
#[derive(Default)]
pub(super) struct Kv {
    entries: BTreeMap<String, Entry>,
    rules: Rules,
}

/// What a mount or a secret says about its versions.
#[derive(Clone, Default)]
struct Rules {
    max_versions: u64,
    cas_required: bool,
    delete_version_after: Duration,
}

struct Entry {
    versions: BTreeMap<u64, Version>,
    current: u64,
    created: SystemTime,
    updated: SystemTime,
    rules: Rules,
    custom_metadata: Value,
}

struct Version {
    /// None is destroyed.
    data: Option<Value>,
    created: SystemTime,
    /// May lie in the future.
    deleted: Option<SystemTime>,
}

impl Version {
    fn is_live(&self) -> bool {
        self.data.is_some() && self.deleted.is_none_or(|at| at > SystemTime::now())
    }

    fn json(&self) -> Value {
        json!({"created_time": rfc3339(self.created), "deletion_time": self.deleted.map(rfc3339).unwrap_or_default(),
            "destroyed": self.data.is_none()})
    }
}

impl Entry {
    fn new() -> Self {
        let now = SystemTime::now();
        Self {
            versions: BTreeMap::new(),
            current: 0,
            created: now,
            updated: now,
            rules: Rules::default(),
            custom_metadata: Value::Null,
        }
    }

    fn version_json(&self, number: u64) -> Value {
        let mut shown = self.versions.get(&number).map_or(Value::Null, Version::json);
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("version".to_owned(), json!(number));
            shown.insert("custom_metadata".to_owned(), self.custom_metadata.clone());
        }
        shown
    }
}

impl Kv {
    /// Writes a new version and returns its number.
    pub(super) fn put(&mut self, path: &str, data: Value) -> u64 {
        let mount = self.rules.clone();
        let entry = self.entries.entry(path.to_owned()).or_insert_with(Entry::new);
        let now = SystemTime::now();
        let after = [entry.rules.delete_version_after, mount.delete_version_after];
        let after = after.into_iter().find(|after| !after.is_zero());
        entry.current += 1;
        entry.updated = now;
        let version = Version { data: Some(data), created: now, deleted: after.map(|after| now + after) };
        entry.versions.insert(entry.current, version);
        let most = [entry.rules.max_versions, mount.max_versions].into_iter().find(|most| *most > 0);
        while entry.versions.len() as u64 > most.unwrap_or(KEPT) {
            entry.versions.pop_first();
        }
        entry.current
    }

    /// Whether a write would be an update rather than the creation of a secret.
    pub(super) fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// An operation, already authorized; `rest` is what follows the mount.
    pub(super) fn answer(&mut self, rest: &str, listing: bool, call: &Call, body: &Value) -> Reply {
        let (kind, path) = rest.split_once('/').unwrap_or((rest, ""));
        let write = call.method == Method::POST || call.method == Method::PUT;
        match (kind, &call.method) {
            ("config", &Method::GET) => envelope(json!({"data": rules_json(&self.rules)})),
            ("config", _) if write => settle(&mut self.rules, body),
            ("metadata", _) if listing => self.list(path),
            _ if path.is_empty() => errors(404, &["unsupported path"]),
            ("data", &Method::GET) => self.read(path, call),
            ("data", &Method::DELETE) => {
                if let Some(version) =
                    self.entries.get_mut(path).and_then(|entry| entry.versions.get_mut(&entry.current))
                {
                    version.deleted.get_or_insert_with(SystemTime::now);
                }
                Reply::empty(204)
            }
            ("data", &Method::PATCH) => self.patch(path, call, body),
            ("data", _) if write => self.write(path, body),
            ("delete" | "undelete" | "destroy", _) if write => self.change(path, kind, body),
            ("subkeys", &Method::GET) => self.subkeys(path, call),
            ("metadata", &Method::GET) => self.metadata(path),
            ("metadata", &Method::DELETE) => {
                self.entries.remove(path);
                Reply::empty(204)
            }
            ("metadata", _) if write || call.method == Method::PATCH => {
                let entry = self.entries.entry(path.to_owned()).or_insert_with(Entry::new);
                if let Some(custom) = body.get("custom_metadata") {
                    entry.custom_metadata = custom.clone();
                }
                settle(&mut entry.rules, body)
            }
            ("data" | "delete" | "undelete" | "destroy" | "metadata" | "subkeys" | "config", _) => {
                errors(405, &["unsupported operation"])
            }
            _ => invalid_path(),
        }
    }

    fn wanted(entry: &Entry, call: &Call) -> u64 {
        url::form_urlencoded::parse(call.query.as_bytes())
            .find(|(name, _)| name == "version")
            .and_then(|(_, value)| value.parse().ok())
            .filter(|number| *number > 0)
            .unwrap_or(entry.current)
    }

    fn read(&self, path: &str, call: &Call) -> Reply {
        let Some(entry) = self.entries.get(path) else { return errors(404, &[]) };
        let wanted = Self::wanted(entry, call);
        let Some(version) = entry.versions.get(&wanted) else { return errors(404, &[]) };
        let live = version.is_live();
        let data = if live { version.data.clone() } else { None };
        // A deleted version answers 404 with its metadata.
        let answer = envelope(json!({"data": {"data": data, "metadata": entry.version_json(wanted)}}));
        Reply { status: Reply::empty(if live { 200 } else { 404 }).status, ..answer }
    }

    fn subkeys(&self, path: &str, call: &Call) -> Reply {
        let Some(entry) = self.entries.get(path) else { return errors(404, &[]) };
        let wanted = Self::wanted(entry, call);
        let Some(version) = entry.versions.get(&wanted) else { return errors(404, &[]) };
        let live = version.is_live();
        let keys = version.data.as_ref().filter(|_| live).map(without_leaves);
        let answer = envelope(json!({"data": {"subkeys": keys, "metadata": entry.version_json(wanted)}}));
        Reply { status: Reply::empty(if live { 200 } else { 404 }).status, ..answer }
    }

    /// Refuses unless the writer knows the version that it replaces.
    fn check_and_set(&self, path: &str, body: &Value) -> Result<(), Reply> {
        let entry = self.entries.get(path);
        let required = self.rules.cas_required || entry.is_some_and(|entry| entry.rules.cas_required);
        match body.pointer("/options/cas").and_then(Value::as_u64) {
            None if required => Err(errors(400, &["check-and-set parameter required for this call"])),
            Some(given) if given != entry.map_or(0, |entry| entry.current) => {
                Err(errors(400, &["check-and-set parameter did not match the current version"]))
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, path: &str, body: &Value) -> Reply {
        let Some(data) = body.get("data").filter(|data| !data.is_null()) else {
            return errors(400, &["no data provided"]);
        };
        if let Err(refusal) = self.check_and_set(path, body) {
            return refusal;
        }
        let number = self.put(path, data.clone());
        envelope(json!({"data": self.entries.get(path).map(|entry| entry.version_json(number))}))
    }

    fn patch(&mut self, path: &str, call: &Call, body: &Value) -> Reply {
        if call.header("content-type").is_none_or(|kind| !kind.starts_with("application/merge-patch+json")) {
            return errors(415, &["PATCH requires Content-Type of application/merge-patch+json"]);
        }
        let Some(entry) = self.entries.get(path) else { return errors(404, &[]) };
        let current = entry.versions.get(&entry.current).filter(|version| version.is_live());
        let Some(mut data) = current.and_then(|version| version.data.clone()) else {
            return errors(404, &[]);
        };
        merge(&mut data, body.get("data").unwrap_or(&Value::Null));
        let options = body.get("options").cloned().unwrap_or(Value::Null);
        self.write(path, &json!({"data": data, "options": options}))
    }

    fn change(&mut self, path: &str, kind: &str, body: &Value) -> Reply {
        let numbers: Vec<u64> = body
            .get("versions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        if numbers.is_empty() {
            return errors(400, &["No version number provided"]);
        }
        let Some(entry) = self.entries.get_mut(path) else { return errors(404, &[]) };
        for number in numbers {
            let Some(version) = entry.versions.get_mut(&number) else { continue };
            match kind {
                "delete" => version.deleted = Some(SystemTime::now()),
                "undelete" => version.deleted = None,
                _ => version.data = None,
            }
        }
        Reply::empty(204)
    }

    fn metadata(&self, path: &str) -> Reply {
        let Some(entry) = self.entries.get(path) else { return errors(404, &[]) };
        let versions: serde_json::Map<String, Value> =
            entry.versions.iter().map(|(number, version)| (number.to_string(), version.json())).collect();
        let oldest = entry.versions.keys().next().filter(|oldest| **oldest > 1).copied().unwrap_or(0);
        let mut data = rules_json(&entry.rules);
        if let Some(data) = data.as_object_mut() {
            data.insert("created_time".to_owned(), json!(rfc3339(entry.created)));
            data.insert("updated_time".to_owned(), json!(rfc3339(entry.updated)));
            data.insert("current_version".to_owned(), json!(entry.current));
            data.insert("oldest_version".to_owned(), json!(oldest));
            data.insert("custom_metadata".to_owned(), entry.custom_metadata.clone());
            data.insert("versions".to_owned(), versions.into());
        }
        envelope(json!({ "data": data }))
    }

    fn list(&self, path: &str) -> Reply {
        let folder = path.trim_end_matches('/');
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut keys: Vec<String> = self
            .entries
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| {
                rest.split_once('/').map_or_else(|| rest.to_owned(), |(folder, _)| format!("{folder}/"))
            })
            .collect();
        keys.dedup();
        if keys.is_empty() { errors(404, &[]) } else { envelope(json!({"data": {"keys": keys}})) }
    }
}

fn settle(rules: &mut Rules, body: &Value) -> Reply {
    if let Some(most) = body.get("max_versions").and_then(Value::as_u64) {
        rules.max_versions = most;
    }
    if let Some(required) = body.get("cas_required").and_then(Value::as_bool) {
        rules.cas_required = required;
    }
    if let Some(after) = body.get("delete_version_after").filter(|after| !after.is_null()) {
        let Some(after) = duration(after) else {
            return errors(
                400,
                &["error converting input for field \"delete_version_after\": not a duration"],
            );
        };
        rules.delete_version_after = after;
    }
    Reply::empty(204)
}

fn rules_json(rules: &Rules) -> Value {
    let seconds = rules.delete_version_after.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let after = match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    };
    json!({"max_versions": rules.max_versions, "cas_required": rules.cas_required, "delete_version_after": after})
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn without_leaves(data: &Value) -> Value {
    match data {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), without_leaves(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}

fn invalid_path() -> Reply {
    let words = "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. \
                 If using the Vault CLI, use 'vault kv get' for this operation.";
    let answer = envelope(json!({ "warnings": [words] }));
    Reply { status: Reply::empty(404).status, ..answer }
}
