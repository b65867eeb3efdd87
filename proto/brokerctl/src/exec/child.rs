//! A command with brokerctl beside it: the token's file is kept current while it runs, and goes with it.

use std::{
    ffi::OsStr,
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        statfs::{TMPFS_MAGIC, statfs},
    },
    unistd::{Pid, mkdtemp},
};
use tokio::{
    process::Child,
    signal::unix::{Signal as Signals, SignalKind},
};

use crate::{
    cli::say,
    failure::Failure,
    held::Held,
    link::Link,
    watch::{
        Watcher, Written, listen,
        place::{Place, PlaceError},
    },
};

/// The file, 0600 in a folder of its own that only this user may enter. Both are removed at the end.
pub(super) struct PrivateFile {
    folder: PathBuf,
    place: Place,
}

impl PrivateFile {
    /// Makes the folder in `chosen`, or else on the first usual place that is a tmpfs.
    pub(super) fn new(chosen: Option<&Path>) -> Result<Self, Failure> {
        let parent = match chosen {
            Some(folder) => folder.to_owned(),
            None => memory().ok_or_else(|| PlaceError::Folder {
                folder: "/dev/shm".into(),
                problem: "neither XDG_RUNTIME_DIR nor this is a tmpfs, and the token would reach a disk"
                    .to_owned(),
                remedy: "name a folder yourself with --file-dir",
            })?,
        };
        let folder = mkdtemp(&parent.join("brokerctl-XXXXXX")).map_err(|e| PlaceError::Folder {
            folder: parent,
            problem: e.desc().to_owned(),
            remedy: "name a folder that this user may write with --file-dir",
        })?;
        let place = Place::new(&folder.join("token"), 0o600, None)?;
        Ok(Self { folder, place })
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            say(&format!("{} is left behind: {error}", self.folder.display()));
        }
    }
}

fn memory() -> Option<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut places = own.into_iter().chain([PathBuf::from("/dev/shm")]);
    places.find(|path| statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC))
}

/// One command.
pub(super) struct Run<'a> {
    pub(super) link: &'a Link,
    pub(super) grant: &'a str,
    pub(super) file: &'a PrivateFile,
    pub(super) program: &'a OsStr,
}

impl Run<'_> {
    /// Starts the command and stays until it has ended. A file that cannot be kept current does not end it.
    pub(super) async fn until_its_end(self, command: Command, held: Held) -> Result<u8, Failure> {
        self.file.place.write(held.text())?;
        let mut forward = Forward::listen()?;
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| super::not_started(self.program, source))?;
        let mut watcher = Watcher {
            link: self.link,
            grant: self.grant,
            place: &self.file.place,
            after: &[],
            once: false,
            written: Some(Written {
                generation: held.generation().to_owned(),
                end: std::time::SystemTime::now() + held.left(),
            }),
        };
        drop(held);
        let keep = async {
            if let Err(failure) = watcher.keep().await {
                say(&format!("the token's file is not kept current any more: {failure}"));
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(keep);
        loop {
            let signal = tokio::select! {
                status = child.wait() => {
                    let status = status
                        .map_err(|source| Failure::System { attempted: "wait for the command", source })?;
                    return Ok(super::code(status));
                }
                signal = forward.next() => signal,
                () = &mut keep => continue,
            };
            pass_on(&child, signal);
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // A command that has just ended needs no signal.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The signals that are meant for the command.
struct Forward {
    terminate: Signals,
    hangup: Signals,
    interrupt: Signals,
    quit: Signals,
    user1: Signals,
    user2: Signals,
    /// The terminal sends its own signals to the command as well.
    terminal: bool,
}

impl Forward {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
            terminal: io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Signal {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => Signal::SIGTERM,
                _ = self.hangup.recv() => Signal::SIGHUP,
                _ = self.interrupt.recv() => Signal::SIGINT,
                _ = self.quit.recv() => Signal::SIGQUIT,
                _ = self.user1.recv() => Signal::SIGUSR1,
                _ = self.user2.recv() => Signal::SIGUSR2,
            };
            if !(self.terminal && matches!(signal, Signal::SIGINT | Signal::SIGQUIT)) {
                return signal;
            }
        }
    }
}
