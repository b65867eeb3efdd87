//! Landlock: which files, TCP ports, abstract sockets and processes this process can still reach.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, PathFd, PathFdError, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, Scope,
};

use crate::report::{SandboxError, State, Step};

/// The rights that the rules below were written for and tested with. Rights of later kernels are left as they are.
const KNOWN: ABI = ABI::V7;
/// The first kernel interface that has all of these rights: TCP came with 4, abstract sockets and signals with 6.
const WHOLE: i32 = 6;

/// The TCP ports that are open, once Landlock has closed the others.
static CONNECT: OnceLock<BTreeSet<u16>> = OnceLock::new();

/// All that the process needs from here on. What does not exist when the rules are made cannot be reached later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Files and folders that are read.
    pub read: BTreeSet<PathBuf>,
    /// Files and folders in which files, folders and sockets are made, written, renamed and removed.
    pub write: BTreeSet<PathBuf>,
    /// TCP ports at any address that are connected to.
    pub connect: BTreeSet<u16>,
    /// TCP ports that are listened on; 0 means any free one.
    pub bind: BTreeSet<u16>,
}

/// Whether the sandbox lets this process connect to a TCP port.
pub fn may_connect(port: u16) -> bool {
    CONNECT.get().is_none_or(|open| open.contains(&port))
}

impl Reach {
    pub(crate) fn restrict(&self) -> Result<State, SandboxError> {
        let status = self.rules().map_err(|error| {
            SandboxError::failed(
                Step::Landlock,
                "restrict files and ports",
                io::Error::other(error.to_string()),
                "report it, with the kernel's version",
            )
        })?;
        let abi = match status.landlock {
            LandlockStatus::NotImplemented | LandlockStatus::NotEnabled => 0,
            LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        };
        if abi >= 4 {
            // Set once: the rules of a process only ever grow tighter.
            let _ = CONNECT.set(self.connect.clone());
        }
        Ok(match lacking(abi) {
            None => State::Active(format!(
                "ABI {abi}, {} paths to read, {} to write, connect to {}",
                self.read.len(),
                self.write.len(),
                list(&self.connect)
            )),
            Some(why) => State::Missing(why),
        })
    }

    fn rules(&self) -> Result<RestrictionStatus, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?;
        for path in &self.read {
            ruleset = beneath(ruleset, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        let null = PathBuf::from("/dev/null");
        for path in self.write.iter().chain([&null]) {
            ruleset = beneath(ruleset, path, writing())?;
        }
        for port in &self.connect {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        for port in &self.bind {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        ruleset.restrict_self()
    }
}

/// Everything but starting programs, devices, pipes, links, and carrying files to another folder.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
}

fn beneath(
    ruleset: landlock::RulesetCreated,
    path: &Path,
    rights: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(file) => {
            let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(KNOWN) };
            ruleset.add_rule(PathBeneath::new(file, rights))
        }
        // Not there, or not to be looked at: then nothing can be read there either.
        Err(PathFdError::OpenCall { .. } | _) => Ok(ruleset),
    }
}

/// What an older kernel's Landlock leaves open; nothing when it has all that is used here.
fn lacking(abi: i32) -> Option<String> {
    let since = "Linux 6.12 has all of it";
    match abi {
        WHOLE.. => None,
        ..=0 => Some(format!(
            "this kernel has no Landlock, or it is off: files, ports and abstract sockets are bounded by users and \
             the network policy alone; {since}, with `landlock` in the boot parameter `lsm=`"
        )),
        1..=3 => Some(format!(
            "this kernel's Landlock (ABI {abi}) bounds files, not TCP ports, abstract sockets and signals; {since}"
        )),
        _ => Some(format!(
            "this kernel's Landlock (ABI {abi}) bounds files and TCP ports, not abstract sockets and signals; {since}"
        )),
    }
}

fn list(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_kernel_leaves_open_is_said() {
        let cases = [
            (0, "no Landlock"),
            (1, "not TCP ports"),
            (3, "not TCP ports"),
            (4, "not abstract"),
            (5, "signals"),
        ];
        for (abi, words) in cases {
            assert!(lacking(abi).unwrap().contains(words), "{abi}");
        }
        assert_eq!([lacking(6), lacking(7), lacking(12)], [None, None, None]);
    }

    #[test]
    fn nothing_is_closed_before_it_was_closed() {
        assert!(may_connect(1));
    }
}
