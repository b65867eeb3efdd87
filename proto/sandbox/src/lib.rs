//! What broker and loader give up before they touch a credential or a row.
//!
//! ```text
//! Sandbox::begin    refuse root, given capabilities, a tracer, hazardous pods, one uid for both programs
//!                   left-over descriptors → limits → not dumpable → no new privileges → private files → secret pages
//! (the program makes what must exist: its folders, its locks)
//! Sandbox::confine  capabilities → Landlock → seccomp, before any thread exists
//! ```
//!
//! A step that fails ends the start. One that the kernel or the container cannot take is reported, and ends the start
//! under `strict`. [`outside`] asks the kernel afterwards, about any process.

mod calls;
mod capabilities;
mod inherited;
mod limits;
pub mod outside;
pub mod pages;
pub mod places;
mod reach;
mod report;
mod settings;
mod surroundings;

use std::collections::BTreeSet;

pub use self::{
    calls::{Condition, Otherwise, Profile, Rule, Word},
    reach::{Reach, may_connect},
    report::{Report, SandboxError, State, Step},
    settings::{Enforcement, Settings},
};

/// What `begin` must know of this process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The uids at the other side of the socket: none of them may be this process's own.
    pub neighbours: BTreeSet<u32>,
    /// Whether it keeps secrets, which then need pages of their own.
    pub keeps_secrets: bool,
}

/// A process on its way into the sandbox.
#[derive(Debug)]
pub struct Sandbox {
    settings: Settings,
    report: Report,
}

impl Sandbox {
    /// The first half: refuses what would make the rest worthless, then gives up what needs no knowledge of paths.
    ///
    /// Call it before the process opens, makes or asks for anything: descriptors that are open by then are closed.
    pub fn begin(settings: Settings, process: &Process) -> Result<Self, SandboxError> {
        let mut sandbox = Self { settings, report: Report::default() };
        if settings.strict && settings.mode != Enforcement::Enforce {
            return Err(SandboxError::Refused {
                step: Step::Settings,
                found: "`sandbox.strict` is true and `sandbox.mode` is not `enforce`".to_owned(),
                advice: "remove one of them",
            });
        }
        sandbox.take(Step::User, surroundings::user)?;
        sandbox.take(Step::Given, capabilities::given)?;
        sandbox.take(Step::Tracer, surroundings::tracer)?;
        sandbox.take(Step::Processes, surroundings::processes)?;
        sandbox.take(Step::Neighbours, || surroundings::neighbours(&process.neighbours))?;
        sandbox.take(Step::Descriptors, inherited::close_descriptors)?;
        sandbox.take(Step::Limits, limits::lower)?;
        sandbox.take(Step::Dumpable, limits::forbid_dumps)?;
        sandbox.take(Step::Privileges, limits::forbid_new_privileges)?;
        if process.keeps_secrets {
            sandbox.take(Step::Files, || Ok(inherited::keep_files_private()))?;
            sandbox.take(Step::Pages, pages::prepare)?;
        }
        Ok(sandbox)
    }

    /// The second half: capabilities, Landlock, seccomp. From here on only what `reach` and `profile` say is possible.
    ///
    /// Call it while the process has one thread: threads that exist already would stay outside.
    pub fn confine(mut self, reach: &Reach, profile: &Profile) -> Result<Report, SandboxError> {
        self.take(Step::Capabilities, capabilities::drop_all)?;
        self.take(Step::Landlock, || reach.restrict())?;
        self.take(Step::Seccomp, || profile.apply())?;
        Ok(self.report)
    }

    fn take(
        &mut self,
        step: Step,
        action: impl FnOnce() -> Result<State, SandboxError>,
    ) -> Result<(), SandboxError> {
        let state = match (self.settings.mode, self.settings.strict) {
            (Enforcement::Off, _) => State::Off,
            (mode, strict) => match action() {
                Ok(State::Missing(why)) if strict => return Err(SandboxError::Missing { step, why }),
                Ok(state) => state,
                Err(error) if mode == Enforcement::Report => State::Waived(error.to_string()),
                Err(error) => return Err(error),
            },
        };
        self.report.steps.push((step, state));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
