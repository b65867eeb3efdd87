//! System calls: a profile that people can read becomes two filters that the kernel runs.
//!
//! The first kills the process at a call that only an attack would make. The second lets the listed calls through and
//! answers every other one with `ENOSYS`, as an older kernel would: the C library then takes another way, and a call that
//! nobody thought of neither works nor ends a transfer. Of several filters the kernel obeys the strictest.

use std::{fs, io};

use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::report::{SandboxError, State, Step};

/// The system calls that a process may make from here on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Whose profile this is.
    pub about: String,
    /// What happens to a call that no rule names.
    pub otherwise: Otherwise,
    /// Calls that end the process.
    pub kill: Vec<Rule>,
    /// Calls that are let through.
    pub allow: Vec<Rule>,
}

/// What happens to a call that no rule names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    /// The error that it gets, by its C name.
    pub errno: String,
    /// Why this one.
    pub reason: String,
}

/// One rule: calls that belong together, and why they are here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the calls are about.
    pub group: String,
    /// Why they are let through, or kill.
    pub reason: String,
    /// Their names.
    pub calls: Vec<String>,
    /// The only architecture that has them.
    #[serde(default)]
    pub only: Option<String>,
    /// All of these must hold; without any, every call matches.
    #[serde(default)]
    pub when: Vec<Condition>,
}

/// What an argument must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// Only these bits are looked at.
    #[serde(default)]
    pub mask: Option<Word>,
    /// What they must be.
    pub equals: Word,
    /// Whether all 64 bits count; otherwise the lower 32, as of a C `int`.
    #[serde(default)]
    pub wide: bool,
}

/// A number, or C names of numbers with `|` between them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// As it is.
    Number(u64),
    /// As C has it.
    Names(String),
}

/// The numbers that profiles may call by their C names.
#[allow(clippy::unnecessary_cast, reason = "other C libraries have other types for some of them")]
const NAMES: &[(&str, u64)] = &[
    ("AF_UNIX", libc::AF_UNIX as u64),
    ("AF_INET", libc::AF_INET as u64),
    ("AF_INET6", libc::AF_INET6 as u64),
    ("AF_PACKET", libc::AF_PACKET as u64),
    ("AF_ALG", libc::AF_ALG as u64),
    ("AF_VSOCK", libc::AF_VSOCK as u64),
    ("SOCK_STREAM", libc::SOCK_STREAM as u64),
    ("SOCK_DGRAM", libc::SOCK_DGRAM as u64),
    ("SOCK_RAW", libc::SOCK_RAW as u64),
    ("SOCK_TYPE_MASK", 0xf),
    ("CLONE_THREAD", libc::CLONE_THREAD as u64),
    ("CLONE_NEWUSER", libc::CLONE_NEWUSER as u64),
    ("PROT_WRITE", libc::PROT_WRITE as u64),
    ("PROT_EXEC", libc::PROT_EXEC as u64),
    ("PR_SET_NAME", libc::PR_SET_NAME as u64),
    ("PR_SET_VMA", libc::PR_SET_VMA as u64),
    ("PR_GET_DUMPABLE", libc::PR_GET_DUMPABLE as u64),
    ("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE as u64),
    ("PR_SET_PTRACER", 0x5961_6d61),
    ("FIONBIO", libc::FIONBIO as u64),
    ("FIONREAD", libc::FIONREAD as u64),
    ("FIOCLEX", libc::FIOCLEX as u64),
    ("TCGETS", libc::TCGETS as u64),
    ("TIOCGWINSZ", libc::TIOCGWINSZ as u64),
    ("TIOCSTI", libc::TIOCSTI as u64),
    ("ENOSYS", libc::ENOSYS as u64),
    ("EPERM", libc::EPERM as u64),
];

impl Profile {
    /// Reads a profile. Every call must be known to this machine's architecture, every name must be a number, and every rule
    /// must have a reason.
    pub fn parse(json: &str) -> Result<Self, SandboxError> {
        let profile: Self = serde_json::from_str(json).map_err(|e| SandboxError::Profile(e.to_string()))?;
        let silent = |rule: &&Rule| rule.reason.trim().is_empty() || rule.calls.is_empty();
        if let Some(rule) = profile.kill.iter().chain(&profile.allow).find(silent) {
            return Err(SandboxError::Profile(format!("rule `{}` has no reason or no calls", rule.group)));
        }
        profile.compile()?;
        Ok(profile)
    }

    /// The filters, in the order in which they are installed.
    fn compile(&self) -> Result<[BpfProgram; 2], SandboxError> {
        let errno = number(&self.otherwise.errno)?;
        let kill = program(&self.kill, &json!("kill_process"), &json!("allow"))?;
        let allow = program(&self.allow, &json!("allow"), &json!({ "errno": errno }))?;
        Ok([kill, allow])
    }

    /// Installs the filters. The process must have one thread: others would stay outside.
    pub(crate) fn apply(&self) -> Result<State, SandboxError> {
        let failed = |attempted: &str, source: io::Error| {
            SandboxError::failed(Step::Seccomp, attempted, source, "report it")
        };
        let threads = fs::read_dir("/proc/self/task")
            .map_err(|source| failed("count the threads in /proc/self/task", source))?
            .count();
        if threads != 1 {
            return Err(failed(
                "filter system calls before there are threads",
                io::Error::other(format!("the process already has {threads} threads")),
            ));
        }
        for program in self.compile()? {
            match seccompiler::apply_filter(&program) {
                Ok(()) => {}
                Err(seccompiler::Error::Seccomp(source)) if unknown(&source) => {
                    return Ok(State::Missing(format!(
                        "this kernel or container does not let a process filter its system calls ({source}); use a \
                         kernel with CONFIG_SECCOMP_FILTER"
                    )));
                }
                Err(error) => return Err(failed("install the filter", io::Error::other(error.to_string()))),
            }
        }
        Ok(State::Active(format!(
            "{} calls allowed, {} kill",
            self.allow.iter().map(|rule| rule.calls.len()).sum::<usize>(),
            self.kill.iter().map(|rule| rule.calls.len()).sum::<usize>()
        )))
    }
}

fn unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL))
}

/// The rules as seccompiler's own JSON, which names calls but no other number.
fn program(rules: &[Rule], matched: &Value, otherwise: &Value) -> Result<BpfProgram, SandboxError> {
    let mut filter = Vec::new();
    for rule in
        rules.iter().filter(|rule| rule.only.as_deref().is_none_or(|only| only == std::env::consts::ARCH))
    {
        let mut conditions = Vec::new();
        for condition in &rule.when {
            let op = match &condition.mask {
                None => json!("eq"),
                Some(mask) => json!({ "masked_eq": mask.value()? }),
            };
            conditions.push(json!({
                "index": condition.argument,
                "type": if condition.wide { "qword" } else { "dword" },
                "op": op,
                "val": condition.equals.value()?,
            }));
        }
        for call in &rule.calls {
            filter.push(if conditions.is_empty() {
                json!({ "syscall": call })
            } else {
                json!({ "syscall": call, "args": conditions })
            });
        }
    }
    let text = json!({ "main": { "mismatch_action": otherwise, "match_action": matched, "filter": filter } });
    let arch =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|e| SandboxError::Profile(e.to_string()))?;
    let mut programs = compile_from_json(text.to_string().as_bytes(), arch)
        .map_err(|error| SandboxError::Profile(error.to_string()))?;
    programs.remove("main").ok_or_else(|| SandboxError::Profile("no filter came out of it".to_owned()))
}

impl Word {
    /// The number. Fails at a name that is not known.
    pub fn value(&self) -> Result<u64, SandboxError> {
        match self {
            Self::Number(value) => Ok(*value),
            Self::Names(names) => names.split('|').try_fold(0, |sum, name| Ok(sum | number(name.trim())?)),
        }
    }
}

fn number(name: &str) -> Result<u64, SandboxError> {
    let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    found.ok_or_else(|| SandboxError::Profile(format!("no number is known as `{name}`")))
}

#[cfg(test)]
mod tests;
