//! The five capability sets: none may be given, none may be left.

use std::io;

use caps::{CapSet, CapsHashSet};

use crate::report::{SandboxError, State, Step};

/// The sets that give rights now, or would give them to a program that is started.
const LIVE: [CapSet; 4] = [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient];

/// Refuses a process that was given any: somebody meant it to do more than it needs.
pub(crate) fn given() -> Result<State, SandboxError> {
    let mut names: Vec<String> = Vec::new();
    for set in LIVE {
        names.extend(read(Step::Given, set)?.iter().map(|capability| format!("{set:?} {capability}")));
    }
    if names.is_empty() {
        return Ok(State::Active("none".to_owned()));
    }
    names.sort();
    Err(SandboxError::Refused {
        step: Step::Given,
        found: format!("the process was given capabilities: {}", names.join(", ")),
        advice: "start it without any (in Kubernetes `capabilities: { drop: [ALL] }` and no `add`)",
    })
}

/// Empties every set. The bounding set can be emptied only by who has CAP_SETPCAP, which nobody here has: a container
/// or unit must do it. It is then said to be missing; without new privileges nothing can be gained from it.
pub(crate) fn drop_all() -> Result<State, SandboxError> {
    let failed = |set: CapSet| {
        move |error: caps::errors::CapsError| {
            SandboxError::failed(
                Step::Capabilities,
                format!("empty the {set:?} set"),
                io::Error::other(error.to_string()),
                "report it",
            )
        }
    };
    let may_bound = caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)
        .map_err(failed(CapSet::Effective))?;
    if may_bound {
        caps::clear(None, CapSet::Bounding).map_err(failed(CapSet::Bounding))?;
    }
    // The effective set must go before the permitted one, of which it is a part.
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(failed(set))?;
    }
    for set in LIVE {
        let left = read(Step::Capabilities, set)?;
        if !left.is_empty() {
            return Err(SandboxError::failed(
                Step::Capabilities,
                format!("look whether the {set:?} set is empty"),
                io::Error::other(format!("{left:?}")),
                "report it",
            ));
        }
    }
    let bounding = read(Step::Capabilities, CapSet::Bounding)?.len();
    if bounding == 0 {
        return Ok(State::Active("all sets empty".to_owned()));
    }
    Ok(State::Missing(format!(
        "the bounding set still has {bounding}, of no use without new privileges; drop ALL in the container, or \
         write `CapabilityBoundingSet=` in the unit"
    )))
}

fn read(step: Step, set: CapSet) -> Result<CapsHashSet, SandboxError> {
    caps::read(None, set).map_err(|error| {
        SandboxError::failed(
            step,
            format!("read the {set:?} set"),
            io::Error::other(error.to_string()),
            "report it",
        )
    })
}
