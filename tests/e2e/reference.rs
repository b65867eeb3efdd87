//! `docs/configuration.md`, `docs/errors.md` and the metrics of `docs/operate.md` are made from the code; these tests fail when they differ.
//!
//! `make reference` writes them anew.

mod counts;
mod errors;
mod keys;
mod metrics;
mod page;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use keyferry_broker::config::Config;
use keyferry_loader::config::Pipeline;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use self::keys::{Form, Key};
use crate::harness::test;

/// Set by `make reference`: the pages are written instead of compared.
const WRITE: &str = "KEYFERRY_WRITE_REFERENCE";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("reference_the_configuration_page_is_what_the_code_reads", configuration));
    trials.push(test("reference_every_default_that_is_stated_is_the_real_one", defaults));
    trials.push(test("reference_what_a_reviewer_must_read_is_counted", counted));
    trials.push(test("reference_the_metrics_catalogue_is_what_is_exposed", exposed));
    trials.push(test("reference_the_error_page_is_what_the_code_gives", catalogue));
}

async fn configuration() -> Result<()> {
    held("configuration.md", &page::configuration(&broker()?, &pipeline()?))
}

async fn catalogue() -> Result<()> {
    held("errors.md", &errors::page()?)
}

async fn counted() -> Result<()> {
    held("audit-in-an-hour.md", &counts::page(&keys::root())?)
}

async fn exposed() -> Result<()> {
    let document =
        fs::read_to_string(keys::root().join("docs/operate.md")).context("read docs/operate.md")?;
    held("operate.md", &metrics::page(&document)?)
}

/// A key that is set to the default that its comment states changes nothing.
async fn defaults() -> Result<()> {
    let mut tried = BTreeSet::new();
    for key in broker()? {
        let Some(default) = &key.default else { continue };
        let with = minimal_broker();
        let set = set(with.clone(), &key, default)?;
        let (plain, set) = (read_broker(&with)?, read_broker(&set).with_context(|| key.path.clone())?);
        ensure!(plain == set, "broker.yaml, {}: {default} is not what it is without the key", key.path);
        tried.insert(key.path);
    }
    for key in pipeline()? {
        let Some(default) = &key.default else { continue };
        let with = minimal_pipeline();
        let set = set(with.clone(), &key, default)?;
        let (plain, set) = (read_pipeline(&with)?, read_pipeline(&set).with_context(|| key.path.clone())?);
        ensure!(plain == set, "pipeline.yaml, {}: {default} is not what it is without the key", key.path);
        tried.insert(key.path);
    }
    ensure!(tried.len() > 20, "only {} defaults were tried: {tried:?}", tried.len());
    // The comparison bites: another value is another configuration.
    let mut other = minimal_pipeline();
    other["limits"]["connections"] = json!(5);
    ensure!(read_pipeline(&other)? != read_pipeline(&minimal_pipeline())?, "the comparison sees nothing");
    Ok(())
}

fn broker() -> Result<Vec<Key>> {
    let files = [
        "broker/src/config/document.rs",
        "broker/src/config.rs",
        "broker/src/config/grant.rs",
        "proto/sandbox/src/settings.rs",
    ];
    keys::read(&files, "Document")
}

fn pipeline() -> Result<Vec<Key>> {
    keys::read(&["loader/src/config/raw.rs"], "Pipeline")
}

/// Compares a page with the file, or writes it.
fn held(name: &str, text: &str) -> Result<()> {
    let file = keys::root().join("docs").join(name);
    if std::env::var_os(WRITE).is_some() {
        return fs::write(&file, text).with_context(|| format!("write {}", file.display()));
    }
    let found = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    if found == text {
        return Ok(());
    }
    let differs = found.lines().zip(text.lines()).find(|(found, made)| found != made);
    bail!("docs/{name} is not what the code says; run `make reference`. First difference: {differs:?}");
}

/// The smallest documents that are read; YAML contains JSON.
fn minimal_broker() -> Value {
    json!({
        "socket": { "path": "/run/k/broker.sock" },
        "vault": {
            "address": "https://vault:8200",
            "auth": { "approle": { "role_id_file": "/r", "secret_id_file": "/s" } },
            "secret": { "mount": "secret", "path": "p" },
        },
        "kerberos": { "principal_key": "principal", "keytab_key": "keytab", "tmpfs": "/run/t" },
        "grants": {
            "NAME": { "snowflake": {
                "account": "a-b", "user": "U", "roles": ["R"], "warehouses": ["W"],
                "login": { "entra": { "tenant_key": "tenant", "client_id_key": "id", "client_secret_key": "cs", "scope": "s" } },
            } },
            "OTHER": { "kerberos": { "spn": "MSSQLSvc/h:1433" } },
        },
        "service_accounts": { "issuer": "https://cluster", "keys_file": "/k" },
        "policy": [{ "caller": { "uid": 10_002 }, "pipeline": "p", "allow": { "NAME": "session" } }],
        "audit": { "path": "/a" },
    })
}

fn minimal_pipeline() -> Value {
    json!({
        "pipeline": "p",
        "broker": { "socket": "/run/k/broker.sock", "server_uid": 10_001 },
        "source": { "database": "d", "grant": "g" },
        "target": { "grant": "t", "database": "D", "schema": "S" },
        "limits": {},
        "tables": [{ "source": "dbo.T" }],
    })
}

fn read_broker(document: &Value) -> Result<String> {
    let config = Config::parse(&document.to_string(), Path::new("broker.yaml"), Path::new("/"))?;
    Ok(format!("{config:?}"))
}

fn read_pipeline(document: &Value) -> Result<String> {
    Ok(format!("{:?}", Pipeline::parse(Path::new("pipeline.yaml"), &document.to_string())?))
}

/// The document with one key set.
fn set(mut document: Value, key: &Key, default: &str) -> Result<Value> {
    let value: Value = match key.form {
        Form::Text => Value::String(default.trim_matches('"').to_owned()),
        Form::Plain => serde_json::from_str(default).with_context(|| format!("{}: {default}", key.path))?,
    };
    let mut place = &mut document;
    let parts: Vec<&str> = key.path.split('.').collect();
    let (last, above) = parts.split_last().context("an empty path")?;
    for part in above {
        place = match part.strip_suffix("[]") {
            Some(list) => &mut place[list][0],
            None => &mut place[*part],
        };
        if place.is_null() {
            *place = json!({});
        }
    }
    place[*last] = value;
    Ok(document)
}
