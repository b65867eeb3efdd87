//! What became of each step, and why a process does not start.

use std::{fmt, io};

use serde::Serialize;

/// One step, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The section `sandbox` of the configuration makes sense.
    Settings,
    /// The process is not root.
    User,
    /// It was given no capability.
    Given,
    /// Nobody traces it.
    Tracer,
    /// It shares no process namespace with other containers.
    Processes,
    /// Nobody on the other side of the socket has its uid.
    Neighbours,
    /// Nothing that was left open by whoever started the process is still open.
    Descriptors,
    /// No core files; no more descriptors, threads and locked memory than it needs.
    Limits,
    /// No core, no tracing, no reading of its memory by the same uid.
    Dumpable,
    /// Nothing it could start would have more rights.
    Privileges,
    /// What it makes belongs to nobody else.
    Files,
    /// Secrets lie on pages of their own.
    Pages,
    /// No capability is left to be gained.
    Capabilities,
    /// Files, TCP ports, abstract sockets, signals.
    Landlock,
    /// System calls.
    Seccomp,
}

impl Step {
    /// Its name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::User => "user",
            Self::Given => "given capabilities",
            Self::Tracer => "tracer",
            Self::Processes => "process namespace",
            Self::Neighbours => "neighbours",
            Self::Descriptors => "inherited descriptors",
            Self::Limits => "limits",
            Self::Dumpable => "not dumpable",
            Self::Privileges => "no new privileges",
            Self::Files => "files",
            Self::Pages => "secret pages",
            Self::Capabilities => "capabilities",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "snake_case")]
pub enum State {
    /// It holds; with what it is worth.
    Active(String),
    /// This kernel or container cannot do it, or not all of it: why, and what to do. `strict` refuses that.
    Missing(String),
    /// It failed, and `mode: report` lets the process start all the same.
    Waived(String),
    /// `mode: off`.
    Off,
}

/// Every step and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which they were taken.
    pub steps: Vec<(Step, State)>,
}

impl Report {
    /// What became of a step; nothing when it is not among the steps of this process.
    pub fn of(&self, step: Step) -> Option<&State> {
        self.steps.iter().find(|(taken, _)| *taken == step).map(|(_, state)| state)
    }

    /// Whether every step holds, whole.
    pub fn is_whole(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|(_, state)| matches!(state, State::Active(_)))
    }

    /// The steps that do not hold, or not whole.
    pub fn gaps(&self) -> impl Iterator<Item = &(Step, State)> {
        self.steps.iter().filter(|(_, state)| !matches!(state, State::Active(_)))
    }
}

/// One line: `user: uid 10001; ...; landlock: NOT POSSIBLE (...)`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (step, state)) in self.steps.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: ", step.as_str())?;
            match state {
                State::Active(detail) => f.write_str(detail)?,
                State::Missing(why) => write!(f, "NOT POSSIBLE ({why})")?,
                State::Waived(why) => write!(f, "WAIVED ({why})")?,
                State::Off => f.write_str("OFF")?,
            }
        }
        Ok(())
    }
}

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Who or where the process is would make the sandbox worthless.
    #[error("the sandbox refuses to start here ({}): {found}; {advice}", step.as_str())]
    Refused {
        /// Which step.
        step: Step,
        /// What was found.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The system did not let a step be taken.
    #[error("the sandbox cannot be set up ({}): {attempted}: {source}; {advice}", step.as_str())]
    Failed {
        /// Which step.
        step: Step,
        /// What was attempted.
        attempted: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The kernel or container cannot do a step, and `strict` wants it.
    #[error("`sandbox.strict` wants every step ({}): {why}; or set `sandbox.strict: false` and know what is missing", step.as_str())]
    Missing {
        /// Which step.
        step: Step,
        /// What is missing, and what to do.
        why: String,
    },
    /// A profile of system calls cannot be used.
    #[error("the profile of system calls is wrong: {0}; report it")]
    Profile(String),
}

impl SandboxError {
    pub(crate) fn failed(
        step: Step,
        attempted: impl Into<String>,
        source: impl Into<io::Error>,
        advice: &'static str,
    ) -> Self {
        Self::Failed { step, attempted: attempted.into(), source: source.into(), advice }
    }

    /// Which step.
    pub fn step(&self) -> Step {
        match self {
            Self::Refused { step, .. } | Self::Failed { step, .. } | Self::Missing { step, .. } => *step,
            Self::Profile(_) => Step::Seccomp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_and_shouts_where_something_is_missing() {
        let report = Report {
            steps: vec![
                (Step::User, State::Active("uid 7".to_owned())),
                (Step::Landlock, State::Missing("no Landlock".to_owned())),
            ],
        };
        assert_eq!(report.to_string(), "user: uid 7; landlock: NOT POSSIBLE (no Landlock)");
        assert!(!report.is_whole());
        assert_eq!(report.gaps().count(), 1);
    }

    #[test]
    fn a_report_without_steps_is_not_whole() {
        assert!(!Report::default().is_whole());
    }
}
