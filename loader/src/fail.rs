//! Crash points for tests: with the feature `failpoints` a process dies where `KEYFERRY_FAILPOINT` says.
//! Without the feature every point is nothing.

/// Every point, in the order in which a run passes them.
#[cfg(feature = "failpoints")]
pub const POINTS: &[&str] = &[
    "run_opened",
    "staging_made",
    "claim_locked",
    "claim_updated",
    "after_claim",
    "extract_batch",
    "extract_end",
    "source_witnessed",
    "encode_batch",
    "encode_end",
    "spool_write",
    "spool_end",
    "before_upload",
    "after_upload",
    "commit_begun",
    "after_copy",
    "commit_locked",
    "commit_fenced",
    "after_commit_sent",
    "after_commit",
    "all_loaded",
    "target_witnessed",
    "marked_verified",
    "before_publish",
    "overwritten",
    "publish_marked",
    "publish_sent",
    "after_publish",
    "staging_dropped",
    "stage_removed",
];

/// Kills this very process (SIGKILL: no destructor runs, no buffer is flushed) when `KEYFERRY_FAILPOINT` names this
/// point: `after_copy` at the first passage, `after_copy:7` at the seventh. What `name` may be: [`POINTS`].
#[cfg(feature = "failpoints")]
pub fn point(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(POINTS.contains(&name), "{name} is missing in POINTS");
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("KEYFERRY_FAILPOINT").ok()?;
        let (point, passage) = text.split_once(':').unwrap_or((&text, "1"));
        Some((point.to_owned(), passage.parse().unwrap_or(1)))
    });
    let Some((point, passage)) = wanted else { return };
    if point == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *passage {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        std::process::abort();
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "failpoints"))]
pub fn point(_name: &str) {}
