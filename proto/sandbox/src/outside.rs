//! What the kernel says about any process, seen from outside: `broker selfcheck`, `loader selfcheck`.
//!
//! Landlock is not visible in `/proc`; that it bites is proved by trying. All the rest is read for every thread, as a filter
//! that was installed too late would be missing in some.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::surroundings::{field, owner};

/// What was found about one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Whether no control is missing.
    pub holds: bool,
    /// Each control.
    pub controls: Vec<Control>,
}

/// One control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    /// What it is.
    pub control: &'static str,
    /// What the kernel says.
    pub found: String,
    /// What it should say.
    pub wanted: &'static str,
    /// Whether the two fit.
    pub verdict: Verdict,
}

/// Whether a control holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    Missing,
    /// Better if it did; whoever starts the process decides.
    Note,
}

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot look at process {pid}: {attempted}: {source}; give the pid of a running process, in this process namespace"
)]
pub struct LookError {
    pid: u32,
    attempted: String,
    source: io::Error,
}

/// Looks at a running process. Needs no rights: what it reads is open to everybody on Linux.
pub fn look(pid: u32) -> Result<Findings, LookError> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    examine(&folder, pid).map_err(|(attempted, source)| LookError { pid, attempted, source })
}

type Failed = (String, io::Error);

fn read(path: &Path) -> Result<String, Failed> {
    fs::read_to_string(path).map_err(|source| (format!("read {}", path.display()), source))
}

fn examine(folder: &Path, pid: u32) -> Result<Findings, Failed> {
    let process = read(&folder.join("status"))?;
    let tasks = folder.join("task");
    let list = fs::read_dir(&tasks).map_err(|source| (format!("read {}", tasks.display()), source))?;
    let mut threads = Vec::new();
    for task in list.flatten() {
        match read(&task.path().join("status")) {
            Ok(status) => threads.push(status),
            // It ended meanwhile.
            Err((_, error)) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            Err(failed) => return Err(failed),
        }
    }
    let limits = read(&folder.join("limits"))?;
    // The folder itself always belongs to the process's user; what only that user may read tells.
    let private = folder.join("environ");
    let owner = owner(&private).map_err(|source| (format!("look at {}", private.display()), source))?;
    let mounts = read(&folder.join("mountinfo")).unwrap_or_default();
    let controls = controls(&process, &threads, &limits, owner, &mounts);
    Ok(Findings {
        pid,
        name: field(&process, "Name").unwrap_or_default().to_owned(),
        holds: controls.iter().all(|control| control.verdict != Verdict::Missing),
        controls,
    })
}

fn controls(process: &str, threads: &[String], limits: &str, owner: u32, mounts: &str) -> Vec<Control> {
    let each = |name| Each { name, threads };
    let no_capability = |text: &str| text.chars().all(|digit| digit == '0') && !text.is_empty();
    let mut all = vec![
        each("Uid").must("user", "not root, in every thread", |text| {
            let mut uids = text.split_whitespace();
            let first = uids.next();
            first.is_some_and(|uid| uid != "0") && uids.all(|uid| Some(uid) == first)
        }),
        each("NoNewPrivs").must("no new privileges", "1 in every thread", |text| text == "1"),
        each("Seccomp").must("seccomp", "2 (filter) in every thread", |text| text == "2"),
        each("Seccomp_filters").must("seccomp filters", "2 or more in every thread", |text| {
            text.parse().is_ok_and(|n: u32| n >= 2)
        }),
    ];
    for (control, name) in [
        ("effective capabilities", "CapEff"),
        ("permitted capabilities", "CapPrm"),
        ("inheritable capabilities", "CapInh"),
        ("ambient capabilities", "CapAmb"),
    ] {
        all.push(each(name).must(control, "0 in every thread", no_capability));
    }
    all.push(each("CapBnd").should("bounding set", "0: drop ALL in the container", no_capability));
    all.push(each("TracerPid").must("tracer", "0 in every thread", |text| text == "0"));
    all.push(Control {
        control: "not dumpable",
        found: format!("/proc/PID/environ belongs to uid {owner}"),
        wanted: "uid 0",
        verdict: verdict(owner == 0, Verdict::Missing),
    });
    for (control, name, wanted, most) in [
        ("core files", "Max core file size", "0", 0),
        ("open files", "Max open files", "at most 65536", 65_536),
        ("locked memory", "Max locked memory", "at most 8388608", 8 << 20),
    ] {
        let hard = hard_limit(limits, name);
        let holds = hard.parse().is_ok_and(|hard: u64| hard <= most);
        all.push(Control {
            control,
            found: hard.to_owned(),
            wanted,
            verdict: verdict(holds, Verdict::Missing),
        });
    }
    let swapped = field(process, "VmSwap").unwrap_or("unknown");
    all.push(Control {
        control: "swapped out",
        found: swapped.to_owned(),
        wanted: "0 kB: secret pages never are, others can be",
        verdict: verdict(swapped == "0 kB", Verdict::Note),
    });
    let read_only = root_is_read_only(mounts);
    all.push(Control {
        control: "root file system",
        found: if read_only { "read-only" } else { "writable" }.to_owned(),
        wanted: "read-only in a container",
        verdict: verdict(read_only, Verdict::Note),
    });
    all.push(Control {
        control: "landlock",
        found: "the kernel does not show it".to_owned(),
        wanted: "see the line `sandbox` in the program's log",
        verdict: Verdict::Note,
    });
    all
}

/// A field of every thread's status.
struct Each<'a> {
    name: &'static str,
    threads: &'a [String],
}

impl Each<'_> {
    fn must(&self, control: &'static str, wanted: &'static str, right: impl Fn(&str) -> bool) -> Control {
        self.judge(control, wanted, Verdict::Missing, right)
    }

    fn should(&self, control: &'static str, wanted: &'static str, right: impl Fn(&str) -> bool) -> Control {
        self.judge(control, wanted, Verdict::Note, right)
    }

    fn judge(
        &self,
        control: &'static str,
        wanted: &'static str,
        otherwise: Verdict,
        right: impl Fn(&str) -> bool,
    ) -> Control {
        let value = |status| field(status, self.name).unwrap_or("unknown").replace('\t', " ");
        let values = || self.threads.iter().map(|status| value(status));
        let wrong: Vec<String> = values().filter(|value| !right(value)).collect();
        let count = self.threads.len();
        let found = match (wrong.first(), values().next()) {
            (Some(value), _) => format!("{value} in {} of {count} threads", wrong.len()),
            (None, Some(value)) => format!("{value} in {count} threads"),
            (None, None) => "no threads".to_owned(),
        };
        let holds = wrong.is_empty() && count > 0;
        Control { control, found, wanted, verdict: verdict(holds, otherwise) }
    }
}

fn verdict(holds: bool, otherwise: Verdict) -> Verdict {
    if holds { Verdict::Holds } else { otherwise }
}

/// The hard limit, `unlimited` included.
fn hard_limit<'a>(limits: &'a str, name: &str) -> &'a str {
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().nth(1)).unwrap_or("unknown")
}

/// The mount at `/` that came last is the one that is seen.
fn root_is_read_only(mounts: &str) -> bool {
    let mut roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
    roots
        .next_back()
        .and_then(|line| line.split(' ').nth(5))
        .is_some_and(|options| options.split(',').any(|o| o == "ro"))
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "process {} ({})\n", self.pid, self.name)?;
        let width = |of: fn(&Control) -> usize| self.controls.iter().map(of).max().unwrap_or(0);
        let (control, found) = (width(|c| c.control.len()), width(|c| c.found.len()));
        for one in &self.controls {
            let mark = match one.verdict {
                Verdict::Holds => "ok",
                Verdict::Missing => "MISSING",
                Verdict::Note => "note",
            };
            writeln!(
                f,
                "{mark:<8} {:<control$}  {:<found$}  wanted: {}",
                one.control, one.found, one.wanted
            )?;
        }
        let verdict = if self.holds { "every control holds" } else { "NOT every control holds" };
        writeln!(f, "\n{verdict}")
    }
}

#[cfg(test)]
mod tests;
