//! The Unix socket: a folder that nobody else can change, one broker only, explicit mode and backlog.

mod accept;
mod connection;
mod folder;
mod place;

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
        stat::{FchmodatFlags, Mode as FileMode, fchmodat, umask},
    },
    unistd::{Gid, Group as SystemGroup, fchownat},
};
use tokio::net::UnixListener;

pub use self::{accept::incoming, connection::Connection, folder::make_folder, place::Place};
use crate::config::{Group, SocketConfig};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 512;

/// Why there is no socket to serve on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The folder, or one above it, is not safe.
    #[error("the socket's folder {}: {problem}", path.display())]
    Folder {
        /// The folder at fault.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Something lies at the socket's path that is not a stale socket of this broker.
    #[error("{} is in the way: {problem}; move it away or choose another `socket.path`", path.display())]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What it is.
        problem: &'static str,
    },
    /// Another broker holds the folder.
    #[error("another broker serves in {}; stop it first, or give each broker a folder of its own", path.display())]
    AnotherBroker {
        /// The folder.
        path: PathBuf,
    },
    /// The group does not exist.
    #[error("the group `{0}` of `socket.group` does not exist on this system; create it or write its number")]
    NoSuchGroup(String),
    /// The system refused.
    #[error("cannot {attempted} the socket {}: {source}", path.display())]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that is being served; its file goes when this is dropped. The folder stays claimed for as long
/// as anybody holds the [`Place`].
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

struct SocketFile {
    path: PathBuf,
    place: Arc<Place>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = self.place.remove_socket() {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

impl Socket {
    /// Binds in a claimed folder and listens. Nobody can connect before mode and group are set.
    pub fn listen(place: &Arc<Place>, config: &SocketConfig) -> Result<Self, SocketError> {
        let path = config.path.clone();
        let gid = config.group.as_ref().map(find_group).transpose()?;
        place.clear_stale()?;
        let failed = |attempted| {
            let path = path.clone();
            move |e: nix::Error| SocketError::System { attempted, path, source: e.into() }
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd: OwnedFd =
            socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed("create"))?;
        let address = UnixAddr::new(&path).map_err(failed("name"))?;
        let before = umask(FileMode::from_bits_truncate(0o177));
        let bound = bind(fd.as_raw_fd(), &address);
        umask(before);
        bound.map_err(failed("bind"))?;
        let file = SocketFile { path: path.clone(), place: Arc::clone(place) };
        let (folder, name) = (file.place.folder(), file.place.name());
        if let Some(gid) = gid {
            let no_follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(folder, name, None, Some(gid), no_follow).map_err(failed("change the group of"))?;
        }
        let mode = FileMode::from_bits_truncate(config.mode.0);
        fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink).map_err(failed("change the mode of"))?;
        let backlog = Backlog::new(BACKLOG).map_err(failed("listen on"))?;
        listen(&fd, backlog).map_err(failed("listen on"))?;
        let listener = UnixListener::from_std(StdListener::from(fd))
            .map_err(|source| SocketError::System { attempted: "serve", path, source })?;
        Ok(Self { listener, file })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

fn find_group(group: &Group) -> Result<Gid, SocketError> {
    match group {
        Group::Id(id) => Ok(Gid::from_raw(*id)),
        Group::Name(name) => SystemGroup::from_name(name)
            .ok()
            .flatten()
            .map(|found| found.gid)
            .ok_or_else(|| SocketError::NoSuchGroup(name.clone())),
    }
}

#[cfg(test)]
mod tests;
