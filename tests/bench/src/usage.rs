//! What a client's work cost, as the client itself sees it: between the login and the end of its work, so that the start
//! of an interpreter is nobody's fault.

use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::{Deserialize, Serialize};

/// One client's line on standard output.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Measured {
    /// Rows that were read.
    pub rows: u64,
    /// From the query to the end.
    pub seconds: f64,
    /// User and system time of the process meanwhile.
    pub cpu_seconds: f64,
    /// The process's peak (VmHWM), in KiB.
    pub peak_kib: u64,
    /// Bytes of the file, if one was written.
    #[serde(default)]
    pub file_bytes: u64,
    /// Bytes that came over the socket, where the client knows.
    #[serde(default)]
    pub wire_bytes: u64,
    /// NULLs by column, as they went into the file: what makes clients' work comparable.
    #[serde(default)]
    pub nulls: Vec<u64>,
    /// Names and versions.
    #[serde(default)]
    pub versions: String,
}

/// A running measurement.
pub struct Meter {
    started: Instant,
    cpu: f64,
}

impl Meter {
    /// Begins now.
    pub fn start() -> Result<Self> {
        Ok(Self { started: Instant::now(), cpu: cpu_seconds()? })
    }

    /// Ends now.
    pub fn stop(&self, rows: u64) -> Result<Measured> {
        Ok(Measured {
            rows,
            seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds()? - self.cpu,
            peak_kib: peak_kib("self")?,
            ..Measured::default()
        })
    }
}

fn cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

/// `VmHWM` of a process (a pid, or `self`).
pub fn peak_kib(process: &str) -> Result<u64> {
    status_kib(process, "VmHWM:")
}

/// One line of a process's status, in KiB.
pub fn status_kib(process: &str, line: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).context("the process's status")?;
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    let value = value.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok());
    value.with_context(|| format!("no {line} in the status of {process}"))
}
