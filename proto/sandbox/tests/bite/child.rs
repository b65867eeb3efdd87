//! Starting this program again with an attempt.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

/// Whom children run as when this process is root.
pub(crate) const UID: u32 = 10_011;

/// Whose profile of system calls a child takes on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Broker,
    Loader,
    Nobody,
}

impl As {
    fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Loader => "loader",
            Self::Nobody => "nobody",
        }
    }
}

/// What a child said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) signal: Option<i32>,
    pub(crate) code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self {
            text: String::from_utf8_lossy(&text).trim().to_owned(),
            signal: output.status.signal(),
            code: output.status.code(),
        }
    }
}

/// This program, where every user can start it.
pub(crate) fn program() -> PathBuf {
    static COPY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = COPY.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("keyferry-bite-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (own, copy) = (std::env::current_exe().unwrap(), folder.path().join("bite"));
        // Another process copies: a file that this one had open for writing could still be open in a fork of it.
        assert!(Command::new("cp").arg(own).arg(copy).status().unwrap().success());
        folder
    });
    folder.path().join("bite")
}

/// A command that makes an attempt, as an unprivileged user where this process is root.
pub(crate) fn attempt(who: As, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("--attempt").arg(who.word()).args(words).env_clear().stdin(Stdio::null()).current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(UID).gid(UID);
    }
    command
}

/// Makes an attempt and returns what came of it.
pub(crate) fn tried(who: As, words: &[&str]) -> Said {
    attempt(who, words).output().unwrap().into()
}

/// The same through `setpriv`, which gives and takes capabilities before it starts the child.
pub(crate) fn with_privileges(flags: &[&str], who: As, words: &[&str]) -> Said {
    let mut command = Command::new("setpriv");
    let user = [format!("--reuid={UID}"), format!("--regid={UID}"), "--clear-groups".to_owned()];
    command.args(user).args(flags).arg(program()).arg("--attempt").arg(who.word()).args(words);
    command.stdin(Stdio::null()).current_dir("/").output().unwrap().into()
}
