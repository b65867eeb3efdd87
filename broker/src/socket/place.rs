//! The folder that holds the socket: checked up to the root, and held by one broker at a time.

use std::{
    ffi::OsStr,
    fs::{File, Metadata, TryLockError},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::SocketError;

/// A folder that is safe for the socket, locked for this broker until dropped.
pub struct Place {
    folder: File,
    path: PathBuf,
    socket: PathBuf,
}

impl Place {
    /// Checks the folder of `socket` without claiming it.
    ///
    /// The folder and each one above it must be a real folder (no symbolic link) that belongs to root or to
    /// the broker and that nobody else can write, a sticky folder above it such as `/tmp` excepted: whoever
    /// can write a folder can put another socket there.
    pub fn check(socket: &Path) -> Result<(), SocketError> {
        let folder = folder_of(socket)?;
        for path in folder.ancestors() {
            let problem = |problem: String| SocketError::Folder { path: path.to_owned(), problem };
            let meta = path.symlink_metadata().map_err(|e| problem(missing(&e)))?;
            check_folder(&meta, path == folder).map_err(problem)?;
        }
        Ok(())
    }

    /// Checks and claims the folder. Fails at once when another broker holds it.
    pub fn claim(socket: &Path) -> Result<Self, SocketError> {
        Self::check(socket)?;
        let path = folder_of(socket)?.to_owned();
        let problem = |e: io::Error| SocketError::Folder { path: path.clone(), problem: missing(&e) };
        let folder = File::open(&path).map_err(problem)?;
        match folder.try_lock() {
            Ok(()) => Ok(Self { folder, path, socket: socket.to_owned() }),
            Err(TryLockError::WouldBlock) => Err(SocketError::AnotherBroker { path }),
            Err(TryLockError::Error(e)) => Err(problem(e)),
        }
    }

    pub(super) fn folder(&self) -> &File {
        &self.folder
    }

    pub(super) fn name(&self) -> &OsStr {
        self.socket.file_name().unwrap_or_default()
    }

    /// Removes what an earlier broker left behind. The lock is held, so nobody serves it.
    pub(super) fn clear_stale(&self) -> Result<(), SocketError> {
        let in_the_way = |problem| SocketError::InTheWay { path: self.socket.clone(), problem };
        let meta = match self.socket.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => return Err(in_the_way("it cannot be looked at")),
            Ok(meta) => meta,
        };
        if !meta.file_type().is_socket() {
            return Err(in_the_way("it is no socket"));
        }
        if meta.uid() != geteuid().as_raw() {
            return Err(in_the_way("it is a socket of another user"));
        }
        self.remove_socket().map_err(|source| SocketError::System {
            attempted: "remove the stale file of",
            path: self.socket.clone(),
            source,
        })
    }

    pub(super) fn remove_socket(&self) -> io::Result<()> {
        Ok(unlinkat(&self.folder, self.name(), UnlinkatFlags::NoRemoveDir)?)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn folder_of(socket: &Path) -> Result<&Path, SocketError> {
    let problem =
        |problem: &str| SocketError::Folder { path: socket.to_owned(), problem: problem.to_owned() };
    if socket.as_os_str().len() > 107 {
        return Err(problem(
            "the path of a Unix socket has at most 107 bytes; choose a shorter `socket.path`",
        ));
    }
    let plain = |part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_));
    match socket.parent() {
        Some(folder)
            if socket.is_absolute() && socket.file_name().is_some() && socket.components().all(plain) =>
        {
            Ok(folder)
        }
        _ => Err(problem("`socket.path` must be the path of a file, without `..`")),
    }
}

fn check_folder(meta: &Metadata, is_the_folder: bool) -> Result<(), String> {
    if meta.file_type().is_symlink() {
        return Err("it is a symbolic link, which could be turned elsewhere; name the real folder".to_owned());
    }
    if !meta.is_dir() {
        return Err("it is not a folder".to_owned());
    }
    let own = geteuid().as_raw();
    if meta.uid() != own && meta.uid() != 0 {
        return Err(format!(
            "it belongs to uid {}; it must belong to root or to the broker (uid {own})",
            meta.uid()
        ));
    }
    let sticky = meta.mode() & 0o1000 != 0;
    if meta.mode() & 0o022 != 0 && (is_the_folder || !sticky) {
        return Err(format!(
            "mode {:o} lets others put files there; take that away (chmod go-w)",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

fn missing(error: &io::Error) -> String {
    format!("{error}; create it for the broker's user (install -d -m 0750)")
}
