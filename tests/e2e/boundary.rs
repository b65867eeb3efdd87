//! The dependency fence: `.cargo/deny.toml`'s bans held against the workspace's own graph.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::test;

/// Crates that speak to a secret's upstream. None may be in the loader's tree.
const NOT_IN_THE_LOADER: &[&str] = &[
    "vaultrs",
    "oauth2",
    "openidconnect",
    "libgssapi",
    "cross-krb5",
    "sspi",
    "kerberos",
    "kms",
    "keyferry-broker",
    "tiberius",
    "jsonwebtoken",
    "keytab",
];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("the_loaders_tree_names_no_vault_kms_oauth_or_kerberos_crate", loaders_tree));
    trials.push(test("brokerctls_tree_holds_the_contract_and_nothing_of_an_upstream", brokerctls_tree));
    trials.push(test("the_workspace_keeps_the_dependency_rules", rules_hold));
    trials.push(test("the_dependency_rules_bite", rules_bite));
    trials.push(test("a_secret_can_be_opened_only_under_upstream", secret_is_fenced));
}

async fn loaders_tree() -> Result<()> {
    tree_is_clean("keyferry-loader", "arrow-array")
}

/// Neither an upstream's client nor a TLS stack: it speaks to a Unix socket only.
async fn brokerctls_tree() -> Result<()> {
    tree_is_clean("keyferry-brokerctl", "keyferry-proto")?;
    let tree = tree_of("keyferry-brokerctl")?;
    let tls = tree
        .lines()
        .find(|line| ["rustls ", "reqwest ", "hyper-rustls "].iter().any(|name| line.starts_with(name)));
    ensure!(tls.is_none(), "brokerctl depends on {tls:?}");
    Ok(())
}

fn tree_is_clean(package: &str, own: &str) -> Result<()> {
    let output = tree_of(package)?;
    ensure!(output.contains(own), "this is not the tree of {package}:\n{output}");
    for line in output.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let upstream = NOT_IN_THE_LOADER.iter().any(|word| name.contains(word));
        ensure!(name == package || !upstream, "{package} depends on {line}");
    }
    Ok(())
}

fn tree_of(package: &str) -> Result<String> {
    cargo(&[
        "tree",
        "--locked",
        "--offline",
        "-p",
        package,
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--all-features",
    ])
}

async fn rules_hold() -> Result<()> {
    let rules = Rules::read()?;
    let graph = Graph::read()?;
    let broken = rules.broken(&graph);
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

async fn rules_bite() -> Result<()> {
    let rules = Rules::read()?;
    for (from, to) in [
        ("keyferry-loader", "keyferry-broker"),
        ("keyferry-loader", "vaultrs"),
        ("keyferry-proto", "libgssapi"),
        ("keyferry-loader", "oauth2"),
        ("keyferry-loader", "ring"),
        ("keyferry-broker", "rsa"),
    ] {
        let mut graph = Graph::read()?;
        graph.0.entry(to.to_owned()).or_default().insert(from.to_owned());
        ensure!(!rules.broken(&graph).is_empty(), "{from} -> {to} passed unseen");
    }
    Ok(())
}

/// `Secret::expose` is `pub(super)`: nothing outside `upstream/` compiles with it. This holds the line itself.
async fn secret_is_fenced() -> Result<()> {
    let root = root()?;
    let source = std::fs::read_to_string(root.join("broker/src/upstream/secret.rs"))?;
    ensure!(source.contains("pub(super) fn expose"), "Secret::expose is no longer pub(super)");
    for derived in ["derive(Debug", "derive(Clone", "Serialize"] {
        let used = source.lines().any(|line| line.trim_start().starts_with('#') && line.contains(derived));
        ensure!(!used, "secret.rs derives {derived}");
    }
    Ok(())
}

/// Crate name to the names that depend on it directly.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Result<Self> {
        // `cargo metadata` names optional dependencies that no feature turns on; `cargo tree` knows what is built.
        let tree = cargo(&[
            "tree",
            "--locked",
            "--workspace",
            "--all-features",
            "-e",
            "normal,build,dev",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])?;
        let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        let metadata: Value = serde_json::from_str(&cargo(&[
            "metadata",
            "--locked",
            "--offline",
            "--format-version",
            "1",
            "--all-features",
        ])?)?;
        let mut names = BTreeMap::new();
        for package in metadata["packages"].as_array().context("no packages")? {
            names.insert(
                package["id"].as_str().unwrap_or_default(),
                package["name"].as_str().unwrap_or_default(),
            );
        }
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata.pointer("/resolve/nodes").and_then(Value::as_array).context("no graph")? {
            let parent = names[node["id"].as_str().unwrap_or_default()];
            for dependency in node["deps"].as_array().into_iter().flatten() {
                let child = names[dependency["pkg"].as_str().unwrap_or_default()];
                if built.contains(parent) && built.contains(child) {
                    graph.entry(child.to_owned()).or_default().insert(parent.to_owned());
                }
            }
        }
        ensure!(
            graph.contains_key("keyferry-broker") && graph.contains_key("vaultrs"),
            "a rule on a name that is not there would prove nothing"
        );
        Ok(Self(graph))
    }
}

/// The `bans.deny` entries: a crate, and the only crates that may depend on it.
struct Rules(Vec<(String, BTreeSet<String>)>);

impl Rules {
    fn read() -> Result<Self> {
        let text = std::fs::read_to_string(root()?.join(".cargo/deny.toml"))?;
        let file: toml::Table = toml::from_str(&text)?;
        let denied = file
            .get("bans")
            .and_then(|bans| bans.get("deny"))
            .and_then(toml::Value::as_array)
            .context("no bans.deny")?;
        let rules: Vec<_> = denied
            .iter()
            .filter_map(|entry| {
                let wrappers = entry.get("wrappers").and_then(toml::Value::as_array);
                let wrappers = wrappers
                    .into_iter()
                    .flatten()
                    .filter_map(toml::Value::as_str)
                    .map(str::to_owned)
                    .collect();
                Some((entry.get("name")?.as_str()?.to_owned(), wrappers))
            })
            .collect();
        ensure!(rules.len() >= 10, "only {} rules in deny.toml", rules.len());
        Ok(Self(rules))
    }

    fn broken(&self, graph: &Graph) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, wrappers) in &self.0 {
            for parent in graph.0.get(name).into_iter().flatten() {
                if !wrappers.contains(parent) {
                    broken.push(format!("{parent} depends on {name}, which only {wrappers:?} may"));
                }
            }
        }
        broken
    }
}

fn root() -> Result<std::path::PathBuf> {
    Ok(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?.to_owned())
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()?).output()?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
