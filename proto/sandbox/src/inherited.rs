//! What whoever started this process left to it: open descriptors, and the mask of file modes.

use std::{fs, os::fd::RawFd};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
    unistd::close,
};

use crate::report::{SandboxError, State, Step};

/// The standard three are everybody's.
const FIRST_OTHER: RawFd = 3;

/// Closes every descriptor but the standard three. Landlock judges what is opened from now on: a folder or a connection that
/// was left open would stay a way out of it.
///
/// Nothing of this process may be open yet, which is why it comes first.
pub(crate) fn close_descriptors() -> Result<State, SandboxError> {
    let failed = |attempted: String, source: std::io::Error| {
        SandboxError::failed(Step::Descriptors, attempted, source, "mount /proc")
    };
    let others = open_descriptors().map_err(|source| failed("read /proc/self/fd".to_owned(), source))?;
    let mut closed = 0;
    for descriptor in others {
        match close(descriptor) {
            Ok(()) => closed += 1,
            // The listing's own descriptor was in the list, and is closed by now.
            Err(Errno::EBADF) => {}
            Err(errno) => return Err(failed(format!("close descriptor {descriptor}"), errno.into())),
        }
    }
    Ok(State::Active(if closed == 0 { "none".to_owned() } else { format!("closed {closed}") }))
}

fn open_descriptors() -> std::io::Result<Vec<RawFd>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(descriptor) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && descriptor >= FIRST_OTHER
        {
            others.push(descriptor);
        }
    }
    Ok(others)
}

/// What a keeper of secrets makes is its own, unless it says otherwise.
pub(crate) fn keep_files_private() -> State {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    State::Active("umask 077".to_owned())
}
