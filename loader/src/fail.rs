//! Crash points for tests: with the feature `failpoints` a process dies where `KEYFERRY_FAILPOINT` says.
//! Without the feature every point is nothing.

pub(crate) mod corrupt;

/// Every point, in the order in which a run passes them.
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

/// Points that only some configurations pass: `barrier_held` needs `consistency: per_run`.
pub const OTHER_POINTS: &[&str] = &["barrier_held"];

/// What happens at the point that `KEYFERRY_FAILPOINT` names: `after_copy` kills this very process (SIGKILL: no
/// destructor runs, no buffer is flushed) at the first passage, `after_copy:7` at the seventh, and `after_copy:7:stop`
/// stops it there until somebody continues it (SIGSTOP). What `name` may be: [`POINTS`], [`OTHER_POINTS`].
#[cfg(feature = "failpoints")]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!([POINTS, OTHER_POINTS].concat().contains(&name), "{name} is in no list of points");
    let Some(wanted) = wanted() else { return };
    if wanted.point == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == wanted.passage {
        if wanted.stop {
            let _ = raise(Signal::SIGSTOP);
        } else {
            let _ = raise(Signal::SIGKILL);
            std::process::abort();
        }
    }
}

#[cfg(feature = "failpoints")]
struct Wanted {
    point: String,
    passage: u64,
    stop: bool,
}

#[cfg(feature = "failpoints")]
fn wanted() -> Option<&'static Wanted> {
    static WANTED: std::sync::OnceLock<Option<Wanted>> = std::sync::OnceLock::new();
    let read = || {
        let text = std::env::var("KEYFERRY_FAILPOINT").ok()?;
        let mut parts = text.split(':');
        let point = parts.next()?.to_owned();
        let passage = parts.next().and_then(|passage| passage.parse().ok()).unwrap_or(1);
        Some(Wanted { point, passage, stop: parts.next() == Some("stop") })
    };
    WANTED.get_or_init(read).as_ref()
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "failpoints"))]
pub fn point(_name: &str) {}
