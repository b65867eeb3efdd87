//! Resource limits, and the two switches that no program can turn back.

use nix::sys::{
    prctl,
    resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};

use crate::report::{SandboxError, State, Step};

/// Each limit, and the most that it may be. A lower one that was set from outside stays.
///
/// Threads are counted for all processes of a uid on a node, pods included: the number ends a runaway, not a busy node.
const LIMITS: [(Resource, &str, u64); 4] = [
    (Resource::RLIMIT_CORE, "core", 0),
    (Resource::RLIMIT_NOFILE, "open files", 65_536),
    (Resource::RLIMIT_NPROC, "threads", 8_192),
    (Resource::RLIMIT_MEMLOCK, "locked bytes", 8 << 20),
];

/// Lowers every limit to what is needed, hard and soft.
pub(crate) fn lower() -> Result<State, SandboxError> {
    let mut said = Vec::new();
    for (resource, name, most) in LIMITS {
        let failed = |attempted: &str| {
            let attempted = format!("{attempted} the limit of {name}");
            move |errno: nix::Error| SandboxError::failed(Step::Limits, attempted, errno, "report it")
        };
        let (soft, hard) = getrlimit(resource).map_err(failed("read"))?;
        let (soft, hard) = (soft.min(most), hard.min(most));
        setrlimit(resource, soft, hard).map_err(failed("lower"))?;
        let found = getrlimit(resource).map_err(failed("read"))?;
        if found.1 > most || found.1 == RLIM_INFINITY {
            return Err(failed("lower")(nix::Error::EPERM));
        }
        said.push(format!("{name} {soft}"));
    }
    Ok(State::Active(said.join(", ")))
}

/// No core file, and no way into `/proc/<pid>` for processes of the same uid.
pub(crate) fn forbid_dumps() -> Result<State, SandboxError> {
    let failed = |attempted| {
        move |errno: nix::Error| SandboxError::failed(Step::Dumpable, attempted, errno, "report it")
    };
    prctl::set_dumpable(false).map_err(failed("make the process undumpable"))?;
    if prctl::get_dumpable().map_err(failed("ask whether the process is dumpable"))? {
        return Err(failed("make the process undumpable")(nix::Error::EPERM));
    }
    Ok(State::Active("yes".to_owned()))
}

/// Set-uid bits and file capabilities mean nothing from here on.
pub(crate) fn forbid_new_privileges() -> Result<State, SandboxError> {
    let failed = |attempted| {
        move |errno: nix::Error| SandboxError::failed(Step::Privileges, attempted, errno, "report it")
    };
    prctl::set_no_new_privs().map_err(failed("forbid new privileges"))?;
    if !prctl::get_no_new_privs().map_err(failed("ask for new privileges"))? {
        return Err(failed("forbid new privileges")(nix::Error::EPERM));
    }
    Ok(State::Active("yes".to_owned()))
}
