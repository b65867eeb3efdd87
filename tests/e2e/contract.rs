//! The contract has no field in which a long-lived secret could travel.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

use crate::harness::test;

/// Every field that holds text or bytes, each read once with the question what it could carry. A new
/// one fails the test below until it stands here too.
const REVIEWED: &[(&str, &str)] = &[
    ("WhoAmIResponse.broker_version", "a version"),
    ("WhoAmIResponse.audit_id", "an id"),
    ("PipelineRights.pipeline", "a name"),
    ("Right.grant", "a name"),
    ("WhoAmIResponse.service_account", "a name"),
    ("GetTokenRequest.grant", "a name"),
    ("GetTokenRequest.pipeline", "a name"),
    ("GetTokenRequest.run_id", "the caller's own name for its run"),
    ("GetTokenRequest.rejected_generation", "an id"),
    ("WatchTokenRequest.grant", "a name"),
    ("WatchTokenRequest.pipeline", "a name"),
    ("WatchTokenRequest.run_id", "the caller's own name for what it is doing"),
    ("Token.value", "an access token or key-pair JWT: an hour or less"),
    ("Token.generation", "an id"),
    ("Token.audit_id", "an id"),
    ("GssClient.server_token", "what SQL Server sent"),
    ("GssBegin.grant", "a name"),
    ("GssBegin.pipeline", "a name"),
    ("GssBegin.run_id", "the caller's own name for its run"),
    ("GssServer.token", "an AP-REQ: good for one connection attempt, holds no key"),
    ("GssServer.audit_id", "an id"),
    ("OpenSessionRequest.grant", "a name"),
    ("OpenSessionRequest.pipeline", "a name"),
    ("OpenSessionRequest.run_id", "the caller's own name for its run"),
    ("OpenSessionRequest.role", "a name"),
    ("OpenSessionRequest.warehouse", "a name"),
    ("SnowflakeSession.token", "a session token: an hour or less; the master token stays in the broker"),
    ("SnowflakeSession.generation", "an id"),
    ("SnowflakeSession.url", "an address"),
    ("SnowflakeSession.account", "a name"),
    ("SnowflakeSession.user", "a name"),
    ("SnowflakeSession.role", "a name"),
    ("SnowflakeSession.warehouse", "a name"),
    ("SnowflakeSession.session_id", "Snowflake's number of the session"),
    ("SnowflakeSession.audit_id", "an id"),
    ("GetSettingsRequest.grant", "a name"),
    ("GetSettingsRequest.pipeline", "a name"),
    ("Settings.audit_id", "an id"),
    ("SqlServerSettings.host", "an address"),
    ("SqlServerSettings.service_principal_name", "a name"),
    ("SnowflakeSettings.account", "a name"),
    ("SnowflakeSettings.url", "an address"),
    ("SnowflakeSettings.user", "a name"),
    ("SnowflakeSettings.roles", "names"),
    ("SnowflakeSettings.warehouses", "names"),
    ("ReportOutcomeRequest.grant", "a name"),
    ("ReportOutcomeRequest.pipeline", "a name"),
    ("ReportOutcomeRequest.generation", "an id"),
    ("ReportOutcomeRequest.code", "an upstream's error code"),
    ("ReportOutcomeResponse.audit_id", "an id"),
];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("the_readmes_configuration_files_are_accepted", readme_samples));
    trials.push(test("every_text_or_bytes_field_of_the_contract_was_reviewed", every_field_was_reviewed));
}

async fn every_field_was_reviewed() -> Result<()> {
    let set = FileDescriptorSet::decode(keyferry_proto::DESCRIPTORS)?;
    let ours = set
        .file
        .iter()
        .find(|file| file.package() == "keyferry.v1")
        .context("the contract is not in its descriptors")?;
    let mut found = BTreeSet::new();
    for message in &ours.message_type {
        walk(message, "", &mut found)?;
    }
    let reviewed: BTreeSet<String> = REVIEWED.iter().map(|(field, _)| (*field).to_owned()).collect();
    let unknown: Vec<_> = found.difference(&reviewed).collect();
    ensure!(unknown.is_empty(), "fields that nobody reviewed: {unknown:?}");
    let gone: Vec<_> = reviewed.difference(&found).collect();
    ensure!(gone.is_empty(), "reviewed fields that no longer exist: {gone:?}");
    let words = ["master", "secret", "password", "private", "keytab", "refresh", "ccache", "tgt"];
    for field in &found {
        let name = field.to_lowercase();
        ensure!(!words.iter().any(|word| name.contains(word)), "{field} sounds like a secret");
    }
    Ok(())
}

async fn readme_samples() -> Result<()> {
    let readme = include_str!("../../README.md");
    let sample = |name: &str| {
        let start = readme
            .find(&format!("```yaml\n# {name}"))
            .with_context(|| format!("the README has no {name}"))?;
        let text = &readme[start + "```yaml\n".len()..];
        text.split_once("```").map(|(text, _)| text).context("a sample without an end")
    };
    let folder = Path::new("/etc/keyferry");
    keyferry_broker::config::Config::parse(sample("broker.yaml")?, &folder.join("broker.yaml"), folder)?;
    keyferry_loader::config::Pipeline::parse(
        Path::new("/etc/keyferry/pipeline.yaml"),
        sample("pipeline.yaml")?,
    )?;
    Ok(())
}

fn walk(message: &DescriptorProto, outer: &str, found: &mut BTreeSet<String>) -> Result<()> {
    let name = format!("{outer}{}", message.name());
    for field in &message.field {
        match field.r#type() {
            Type::String | Type::Bytes => {
                found.insert(format!("{name}.{}", field.name()));
            }
            Type::Message => {
                // Anything and structs could carry whatever somebody puts in.
                let of = field.type_name();
                let known = [".keyferry.v1.", ".google.protobuf.Timestamp", ".google.protobuf.Duration"];
                ensure!(
                    known.iter().any(|prefix| of.starts_with(prefix)),
                    "{name}.{} is an open {of}",
                    field.name()
                );
            }
            _ => {}
        }
    }
    for nested in &message.nested_type {
        walk(nested, &format!("{name}."), found)?;
    }
    Ok(())
}
