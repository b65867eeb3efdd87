//! Crash points for tests: with the feature `failpoints` a process dies where `KEYFERRY_FAILPOINT` says.
//! Without the feature every point is nothing.

/// Kills this very process (SIGKILL: no destructor runs, no buffer is flushed) when `KEYFERRY_FAILPOINT` names
/// this point. Points: `after_copy` (COPY executed, before the ledger's UPDATE), `after_commit_sent` (COMMIT
/// executed, its reply not yet read).
#[cfg(feature = "failpoints")]
pub fn point(name: &str) {
    if std::env::var("KEYFERRY_FAILPOINT").is_ok_and(|wanted| wanted == name) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        std::process::abort();
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "failpoints"))]
pub fn point(_name: &str) {}
