//! ACL policies: path patterns with capabilities, deny by default, the most specific path wins.

use anyhow::{Result, bail};

/// One `path` block.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    path: String,
    capabilities: Vec<String>,
}

/// Parses `path "secret/data/x" { capabilities = ["read"] }` blocks; `#` starts a comment.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>> {
    let text: String =
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rules = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix("path") else {
            bail!("expected `path`, found {:?}", rest.lines().next())
        };
        let (path, after) = quoted(after.trim_start())?;
        let Some(body) = after.trim_start().strip_prefix('{') else {
            bail!("expected a block after path {path:?}")
        };
        let Some((body, tail)) = body.split_once('}') else { bail!("the block of path {path:?} has no end") };
        let Some((key, list)) = body.split_once('=') else { bail!("path {path:?} names no capabilities") };
        if key.trim() != "capabilities" {
            bail!("path {path:?}: unknown key {:?}", key.trim());
        }
        let capabilities = list
            .trim()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .split(',')
            .map(|word| word.trim().trim_matches('"').to_owned())
            .filter(|word| !word.is_empty())
            .collect();
        rules.push(Rule { path: path.to_owned(), capabilities });
        rest = tail.trim();
    }
    Ok(rules)
}

fn quoted(text: &str) -> Result<(&str, &str)> {
    let Some((inside, rest)) = text.strip_prefix('"').and_then(|text| text.split_once('"')) else {
        bail!("expected a quoted path");
    };
    Ok((inside, rest))
}

/// True when the most specific rule that matches `path` has `capability` and no rule of that path denies.
pub(super) fn allows<'a>(rules: impl IntoIterator<Item = &'a Rule>, path: &str, capability: &str) -> bool {
    let mut best: Option<&Rule> = None;
    for rule in rules.into_iter().filter(|rule| matches(&rule.path, path)) {
        if rule.capabilities.iter().any(|word| word == "deny") && rule.path == path {
            return false;
        }
        if best.is_none_or(|found| specificity(&rule.path) > specificity(&found.path)) {
            best = Some(rule);
        }
    }
    best.is_some_and(|rule| {
        !rule.capabilities.iter().any(|word| word == "deny")
            && rule.capabilities.iter().any(|word| word == capability)
    })
}

fn specificity(pattern: &str) -> (bool, usize) {
    (!pattern.ends_with('*') && !pattern.contains('+'), pattern.len())
}

fn matches(pattern: &str, path: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix('*') {
        return path.starts_with(prefix);
    }
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_path_decides_and_nothing_is_allowed_by_default() {
        let rules = parse(
            "# comment\npath \"secret/data/*\" { capabilities = [\"read\", \"list\"] }\n\
             path \"secret/data/private\" { capabilities = [\"deny\"] }\npath \"auth/+/login\" { capabilities = [\"update\"] }",
        )
        .unwrap();
        assert!(allows(&rules, "secret/data/a/b", "read"));
        assert!(!allows(&rules, "secret/data/a/b", "update"));
        assert!(!allows(&rules, "secret/data/private", "read"));
        assert!(allows(&rules, "auth/approle/login", "update"));
        assert!(!allows(&rules, "sys/health", "read"));
        assert!(parse("path secret").is_err());
    }
}
