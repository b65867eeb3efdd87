//! `broker socket-folder`: a folder for the socket inside a volume that everybody may write, as the root of a pod's
//! emptyDir is. Broker and loader then mount the folder and not the volume.

use std::{
    fs::{DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use nix::{
    fcntl::OFlag,
    unistd::{Gid, fchown, geteuid},
};

use super::SocketError;

/// Makes the folder for this process's user, 0750, of that group. One that is there already must be this user's.
pub fn make_folder(path: &Path, group: Option<u32>) -> Result<(), SocketError> {
    let problem = |problem: String| SocketError::Folder { path: path.to_owned(), problem };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(problem(format!("it cannot be made: {error}; mount a volume at its parent")));
        }
        _ => {}
    }
    let open = File::options()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)
        .map_err(|error| problem(format!("it is there and no folder of its own ({error}); take it away")))?;
    let meta = open.metadata().map_err(|error| problem(error.to_string()))?;
    if meta.uid() != geteuid().as_raw() {
        return Err(problem(format!(
            "it is there and belongs to uid {}, not to the broker (uid {}); take it away",
            meta.uid(),
            geteuid()
        )));
    }
    if let Some(group) = group {
        fchown(&open, None, Some(Gid::from_raw(group))).map_err(|error| {
            problem(format!("its group cannot be {group}: {error}; make the broker's user a member of it"))
        })?;
    }
    open.set_permissions(Permissions::from_mode(0o750)).map_err(|error| problem(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::socket::Place;

    #[test]
    fn a_volume_that_everybody_may_write_gets_a_folder_that_nobody_else_may() {
        let volume = tempfile::tempdir().unwrap();
        fs::set_permissions(volume.path(), Permissions::from_mode(0o777)).unwrap();
        let folder = volume.path().join("socket");
        for _ in 0..2 {
            make_folder(&folder, Some(nix::unistd::getegid().as_raw())).unwrap();
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o750);
        }
        // Seen through the volume it is refused: whoever may write above it can put another folder there.
        let error = Place::check(&folder.join("broker.sock")).unwrap_err().to_string();
        assert!(error.contains("lets others put files there"), "{error}");
    }

    #[test]
    fn what_somebody_else_put_there_is_refused() {
        let volume = tempfile::tempdir().unwrap();
        let (file, link) = (volume.path().join("file"), volume.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(volume.path(), &link).unwrap();
        for path in [&file, &link, &volume.path().join("absent/folder")] {
            assert!(matches!(make_folder(path, None), Err(SocketError::Folder { .. })), "{path:?}");
        }
    }
}
