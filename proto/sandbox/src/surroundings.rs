//! Who this process is and among whom: what would make the rest of the sandbox worthless is refused first.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt as _};

use nix::unistd::{getegid, geteuid, getgid, getuid};

use crate::report::{SandboxError, State, Step};

/// Root is refused: it could undo most of what follows, and owns what others must not touch.
pub(crate) fn user() -> Result<State, SandboxError> {
    let uids = [getuid().as_raw(), geteuid().as_raw()];
    let gids = [getgid().as_raw(), getegid().as_raw()];
    if uids.contains(&0) {
        return Err(SandboxError::Refused {
            step: Step::User,
            found: "it was started as root".to_owned(),
            advice: "start it under an unprivileged user of its own (in Kubernetes `runAsNonRoot: true` and `runAsUser`)",
        });
    }
    if uids[0] != uids[1] || gids[0] != gids[1] {
        return Err(SandboxError::Refused {
            step: Step::User,
            found: format!("real and effective user or group differ: uid {uids:?}, gid {gids:?}"),
            advice: "take the set-uid and set-gid bits off the program",
        });
    }
    Ok(State::Active(format!("uid {}", uids[0])))
}

/// A tracer reads and writes memory and registers.
pub(crate) fn tracer() -> Result<State, SandboxError> {
    let status = read("/proc/self/status", Step::Tracer)?;
    match field(&status, "TracerPid") {
        Some("0") => Ok(State::Active("none".to_owned())),
        found => Err(SandboxError::Refused {
            step: Step::Tracer,
            found: format!("process {} traces it", found.unwrap_or("?")),
            advice: "start it without a debugger, or with `sandbox: { mode: off }`",
        }),
    }
}

/// One uid for both programs: then only the socket's protocol is between the loader and the secrets.
pub(crate) fn neighbours(uids: &BTreeSet<u32>) -> Result<State, SandboxError> {
    let own = geteuid().as_raw();
    if uids.contains(&own) {
        return Err(SandboxError::Refused {
            step: Step::Neighbours,
            found: format!("broker and caller are one user, uid {own}"),
            advice: "give each a uid of its own; on a laptop `sandbox: { mode: report }` lets them start as one",
        });
    }
    Ok(State::Active("other uids".to_owned()))
}

/// Other containers' processes among ours: each could be looked at through `/proc`, and signalled.
pub(crate) fn processes() -> Result<State, SandboxError> {
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let scene =
        Scene { chain: ancestors()?, first: cgroup("1"), own: cgroup("self"), strangers: strangers(in_pod) };
    match scene.hazard() {
        None => Ok(State::Active("its own".to_owned())),
        Some(found) => Err(SandboxError::Refused {
            step: Step::Processes,
            found,
            advice: "remove `shareProcessNamespace` and `hostPID` from the pod (`--pid` from the container)",
        }),
    }
}

/// What tells whose process namespace this is.
#[derive(Debug, Default)]
struct Scene {
    /// Pids from this process to the last ancestor that can be seen.
    chain: Vec<u32>,
    /// The control groups of the namespace's first process.
    first: Option<String>,
    /// Our own.
    own: Option<String>,
    /// In a pod: a process of another user that is no ancestor.
    strangers: Option<(u32, u32)>,
}

impl Scene {
    fn hazard(&self) -> Option<String> {
        if let (Some(first), Some(own)) = (&self.first, &self.own) {
            // A group outside the root of our control group namespace is shown with `..`.
            if outside(first) && !outside(own) {
                return Some("process 1 belongs to another container or to the host".to_owned());
            }
            // Whoever was put into a namespace that had a first process already has no ancestors in it.
            if self.chain.last().is_some_and(|last| *last != 1) && first != own {
                return Some(
                    "it was put into a process namespace whose first process is of another container"
                        .to_owned(),
                );
            }
        }
        let (pid, uid) = self.strangers?;
        Some(format!("this is a pod, and process {pid} of uid {uid} can be seen from here"))
    }
}

fn outside(groups: &str) -> bool {
    groups.lines().any(|line| line.splitn(3, ':').nth(2).is_some_and(|path| path.starts_with("/..")))
}

fn ancestors() -> Result<Vec<u32>, SandboxError> {
    let mut chain = vec![std::process::id()];
    while let Some(last) = chain.last().copied().filter(|last| *last != 1) {
        let status = match fs::read_to_string(format!("/proc/{last}/status")) {
            Ok(status) => status,
            // A parent that ended just now, or that we may not see.
            Err(_) if chain.len() > 1 => break,
            Err(source) => {
                return Err(SandboxError::failed(
                    Step::Processes,
                    "read /proc/self/status",
                    source,
                    "mount /proc",
                ));
            }
        };
        match field(&status, "PPid").and_then(|parent| parent.parse().ok()) {
            None | Some(0) => break,
            Some(parent) => chain.push(parent),
        }
    }
    Ok(chain)
}

fn cgroup(of: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{of}/cgroup")).ok()
}

fn strangers(in_pod: bool) -> Option<(u32, u32)> {
    if !in_pod {
        return None;
    }
    let own = geteuid().as_raw();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let uid = field(&status, "Uid")?.split_whitespace().next()?.parse().ok()?;
        // Root's processes beside ours are the container runtime's way in, such as a shell for an operator.
        (uid != own && uid != 0 && entry.metadata().ok()?.is_dir()).then_some((pid, uid))
    })
}

fn read(path: &str, step: Step) -> Result<String, SandboxError> {
    fs::read_to_string(path).map_err(|source: io::Error| {
        SandboxError::failed(step, format!("read {path}"), source, "mount /proc")
    })
}

/// The text of a field of `/proc/<pid>/status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The uid that owns a private file of a process in `/proc`: root's, when the process is not dumpable.
pub(crate) fn owner(file: &std::path::Path) -> io::Result<u32> {
    Ok(fs::metadata(file)?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(chain: &[u32], first: &str, own: &str) -> Scene {
        Scene { chain: chain.to_vec(), first: Some(first.into()), own: Some(own.into()), strangers: None }
    }

    #[test]
    fn an_ordinary_container_a_host_and_a_command_in_a_container_are_no_hazard() {
        assert_eq!(scene(&[1], "0::/\n", "0::/\n").hazard(), None, "the entrypoint itself");
        assert_eq!(scene(&[7, 1], "0::/\n", "0::/\n").hazard(), None, "below an init");
        assert_eq!(scene(&[31], "0::/\n", "0::/\n").hazard(), None, "`kubectl exec`");
        assert_eq!(
            scene(&[900, 1], "0::/init.scope\n", "0::/system.slice/keyferry.service\n").hazard(),
            None,
            "a unit on a host"
        );
    }

    #[test]
    fn a_shared_process_namespace_is_a_hazard() {
        let found = scene(&[9], "0::/../pause\n", "0::/\n").hazard().unwrap();
        assert!(found.contains("process 1 belongs to another container"), "{found}");
        let found = scene(&[9], "0::/pods/pause\n", "0::/pods/broker\n").hazard().unwrap();
        assert!(found.contains("put into a process namespace"), "{found}");
    }

    #[test]
    fn the_hosts_process_namespace_in_a_container_is_a_hazard() {
        assert!(scene(&[4711, 800, 1], "0::/../../init.scope\n", "0::/\n").hazard().is_some());
    }

    #[test]
    fn a_stranger_in_a_pod_is_a_hazard() {
        let scene = Scene { strangers: Some((12, 65_535)), ..Scene::default() };
        assert!(scene.hazard().unwrap().contains("process 12 of uid 65535"));
    }

    #[test]
    fn the_own_uid_at_the_other_side_is_refused() {
        let own = geteuid().as_raw();
        assert!(neighbours(&BTreeSet::from([own + 1])).is_ok());
        let error = neighbours(&BTreeSet::from([own, own + 1])).unwrap_err();
        assert!(error.to_string().contains(&format!("uid {own}")), "{error}");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tx\nUid:\t5\t5\t5\t5\nNSpid:\t3\n";
        assert_eq!(field(status, "Uid"), Some("5\t5\t5\t5"));
        assert_eq!(field(status, "pid"), None);
    }
}
