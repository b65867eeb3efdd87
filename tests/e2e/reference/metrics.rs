//! The metrics catalogue in `docs/operate.md`: what the broker really exposes, and what the loader writes.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use keyferry_broker::{
    audit::AuditLog,
    metrics::Metrics,
    upstream::{UpstreamError, UpstreamName, UpstreamStatus},
};

const BEGIN: &str = "<!-- metrics -->\n";
const END: &str = "<!-- end metrics -->\n";

/// The document with the catalogue in its place.
pub(super) fn page(document: &str) -> Result<String> {
    let (before, rest) =
        document.split_once(BEGIN).context("docs/operate.md has no place for the metrics")?;
    let (_, after) = rest.split_once(END).context("the place for the metrics has no end")?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table()?))
}

fn table() -> Result<String> {
    let mut table = String::from("| metric | type | labels | what |\n| --- | --- | --- | --- |\n");
    let exposed = exposed()?;
    let mut count = 0;
    for line in exposed.lines() {
        let Some((name, what)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let kind = exposed.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
        let kind = kind.with_context(|| format!("{name} has no type"))?;
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = exposed.lines().find_map(|line| line.strip_prefix(&name));
        let sample = sample.with_context(|| format!("{name} has no sample: set it in the test"))?;
        let what = what.trim_end_matches('.');
        writeln!(table, "| `{name}` | {kind} | {} | {what} |", labels(sample))?;
        count += 1;
    }
    ensure!(count >= 13, "only {count} metrics of the broker were found");
    for (name, what) in keyferry_loader::metrics::METRICS {
        writeln!(table, "| `{name}` | gauge | `pipeline`, `shard`, `code` | {what} |")?;
    }
    Ok(table)
}

fn labels(sample: &str) -> String {
    let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let names = inside.map_or("", |(inside, _)| inside).split(',').filter_map(|pair| pair.split_once('='));
    let names: Vec<String> = names.map(|(name, _)| format!("`{name}`")).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// Every family with one sample.
fn exposed() -> Result<String> {
    let metrics = Metrics::default();
    metrics.answered("analytics", "OpenSession", "granted");
    metrics.refused("rate");
    metrics.upstream_call("bearer", &Ok::<(), UpstreamError>(()));
    metrics.happened("SecretVersionTaken");
    metrics.expires_in("analytics", 60);
    let open = (metrics.session_opened("analytics"), metrics.relay_opened("sales-sql"));
    let status = UpstreamStatus {
        name: UpstreamName::Vault,
        grant: None,
        ok: true,
        last_error: None,
        last_code: None,
        valid_until: Some(SystemTime::now()),
    };
    metrics.upstream_state(&status, Some(Duration::from_secs(60)));
    metrics.secret_versions(1, 1);
    let folder = tempfile::tempdir()?;
    metrics.audit_state(&AuditLog::open(&folder.path().join("audit.log"))?);
    let text = metrics.encode();
    drop(open);
    Ok(text)
}
