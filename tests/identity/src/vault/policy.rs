//! ACL policies: path patterns with capabilities, deny by default, the most specific path wins.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Vault's own policy for every token, as far as its paths are here.
const DEFAULT: &str = r#"
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/wrapping/wrap" { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
"#;

/// A policy as it was written, and what it says.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) text: String,
    pub(super) rules: Vec<Rule>,
}

/// One `path` block.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    path: String,
    capabilities: Vec<String>,
    /// Answers must be wrapped, for at least and at most so long.
    wrapping: (Option<Duration>, Option<Duration>),
}

const CAPABILITIES: &[&str] =
    &["create", "read", "update", "patch", "delete", "list", "sudo", "deny", "subscribe", "recover"];

impl Policy {
    pub(super) fn read(text: &str) -> Result<Self> {
        Ok(Self { text: text.to_owned(), rules: parse(text)? })
    }
}

/// The policy `default`.
pub(super) fn default() -> Policy {
    Policy { text: DEFAULT.trim().to_owned(), rules: parse(DEFAULT).unwrap_or_default() }
}

/// Parses `path "secret/data/x" { capabilities = ["read"] }` blocks; `#` starts a comment.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>> {
    let text: String =
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rules = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix("path") else {
            bail!("expected `path`, found {:?}", rest.lines().next().unwrap_or_default())
        };
        let (path, after) = quoted(after.trim_start())?;
        let Some(body) = after.trim_start().strip_prefix('{') else {
            bail!("expected a block after path {path:?}")
        };
        let Some((body, tail)) = body.split_once('}') else { bail!("the block of path {path:?} has no end") };
        let mut rule = Rule { path: path.to_owned(), capabilities: Vec::new(), wrapping: (None, None) };
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some((key, value)) = line.split_once('=') else {
                bail!("path {path:?}: no value in {line:?}")
            };
            match key.trim() {
                "capabilities" => rule.capabilities = listed(path, value)?,
                "min_wrapping_ttl" => rule.wrapping.0 = Some(lasting(path, value)?),
                "max_wrapping_ttl" => rule.wrapping.1 = Some(lasting(path, value)?),
                other => bail!("path {path:?}: unknown key {other:?}"),
            }
        }
        if rule.capabilities.is_empty() {
            bail!("path {path:?} names no capabilities");
        }
        rules.push(rule);
        rest = tail.trim();
    }
    Ok(rules)
}

fn listed(path: &str, list: &str) -> Result<Vec<String>> {
    let capabilities: Vec<String> = list
        .trim()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split(',')
        .map(|word| word.trim().trim_matches('"').to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    match capabilities.iter().find(|word| !CAPABILITIES.contains(&word.as_str())) {
        Some(wrong) => bail!("path {path:?}: invalid capability {wrong:?}"),
        None => Ok(capabilities),
    }
}

fn lasting(path: &str, value: &str) -> Result<Duration> {
    let text = serde_json::Value::String(value.trim().trim_matches('"').to_owned());
    super::store::duration(&text).with_context(|| format!("path {path:?}: {value} is no duration"))
}

/// Whether an answer on this path may be wrapped for so long, or go unwrapped.
pub(super) fn wraps<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    path: &str,
    ttl: Option<Duration>,
) -> bool {
    let matching: Vec<&Rule> = rules.into_iter().filter(|rule| matches(&rule.path, path)).collect();
    let best = matching.iter().map(|rule| specificity(&rule.path)).max();
    let mut bounds =
        matching.iter().filter(|rule| Some(specificity(&rule.path)) == best).map(|rule| rule.wrapping);
    bounds.all(|(least, most)| {
        let bound = least.is_some() || most.is_some();
        !bound
            || ttl.is_some_and(|ttl| {
                least.is_none_or(|least| ttl >= least) && most.is_none_or(|most| ttl <= most)
            })
    })
}

fn quoted(text: &str) -> Result<(&str, &str)> {
    let Some((inside, rest)) = text.strip_prefix('"').and_then(|text| text.split_once('"')) else {
        bail!("expected a quoted path");
    };
    Ok((inside, rest))
}

/// True when the most specific path that matches allows this, in any of the token's policies, and none denies it.
pub(super) fn allows<'a>(rules: impl IntoIterator<Item = &'a Rule>, path: &str, capability: &str) -> bool {
    capabilities(rules, path).iter().any(|word| word == capability)
}

/// What the rules allow on a path, sorted; `deny` alone when nothing is.
pub(super) fn capabilities<'a>(rules: impl IntoIterator<Item = &'a Rule>, path: &str) -> Vec<String> {
    let matching: Vec<&Rule> = rules.into_iter().filter(|rule| matches(&rule.path, path)).collect();
    let best = matching.iter().map(|rule| specificity(&rule.path)).max();
    let mut found: Vec<String> = matching
        .iter()
        .filter(|rule| Some(specificity(&rule.path)) == best)
        .flat_map(|rule| rule.capabilities.iter().cloned())
        .collect();
    found.sort();
    found.dedup();
    if found.is_empty() || found.iter().any(|word| word == "deny") {
        return vec!["deny".to_owned()];
    }
    found
}

/// No wildcard before any; then a later first wildcard; then no `*` at the end; then fewer `+`; then a longer path.
fn specificity(pattern: &str) -> (usize, bool, usize, usize) {
    let wildcard = pattern.find(['+', '*']).unwrap_or(usize::MAX);
    let pluses = pattern.split('/').filter(|part| *part == "+").count();
    (wildcard, !pattern.ends_with('*'), usize::MAX - pluses, pattern.len())
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, open) = pattern.strip_suffix('*').map_or((pattern, false), |prefix| (prefix, true));
    let (mut wanted, mut found) = (pattern.split('/').peekable(), path.split('/'));
    while let Some(part) = wanted.next() {
        let Some(here) = found.next() else { return false };
        let last = wanted.peek().is_none();
        let fits = part == "+" || part == here || (open && last && here.starts_with(part));
        if !fits {
            return false;
        }
    }
    open || found.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_path_decides_and_nothing_is_allowed_by_default() {
        let rules = parse(
            "# comment\npath \"secret/data/*\" { capabilities = [\"read\", \"list\"] }\n\
             path \"secret/data/private\" { capabilities = [\"deny\"] }\npath \"auth/+/login\" { capabilities = [\"update\"] }\n\
             path \"secret/+/team/*\" { capabilities = [\"delete\"] }",
        )
        .unwrap();
        assert!(allows(&rules, "secret/data/a/b", "read"));
        assert!(!allows(&rules, "secret/data/a/b", "update"));
        assert!(!allows(&rules, "secret/data/private", "read"));
        assert!(allows(&rules, "auth/approle/login", "update"));
        assert!(!allows(&rules, "sys/health", "read"));
        assert!(allows(&rules, "secret/metadata/team/x", "delete"));
        assert!(!allows(&rules, "secret/metadata/team", "delete"));
        assert_eq!(capabilities(&rules, "secret/data/a"), ["list", "read"]);
        assert_eq!(capabilities(&rules, "nothing"), ["deny"]);
        let wrapped = parse(
            "path \"make\" {\n  capabilities = [\"update\"]\n  min_wrapping_ttl = \"10s\"\n  max_wrapping_ttl = \"5m\"\n}",
        )
        .unwrap();
        let answers = |ttl: Option<u64>| wraps(&wrapped, "make", ttl.map(Duration::from_secs));
        assert!(answers(Some(10)) && answers(Some(300)) && wraps(&wrapped, "other", None));
        assert!(!answers(None) && !answers(Some(9)) && !answers(Some(301)));
        assert!(parse("path secret").is_err());
        assert!(parse("path \"a\" { capabilities = [\"fly\"] }").is_err());
    }
}
