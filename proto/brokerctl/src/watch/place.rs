//! Where a token's file lies: who may reach it, and how it is replaced as a whole.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, Metadata},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::{Mode, fchmod},
    unistd::{Gid, Group, UnlinkatFlags, fchown, geteuid, unlinkat},
};

/// Why a token's file cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// The path names no file.
    #[error("{} names no file; give --file a path like /run/me/token", .0.display())]
    NoFile(PathBuf),
    /// The folder is not safe, or not there.
    #[error("no token is put into {}: {problem}; {remedy}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Something else lies at the path.
    #[error("{} is {found}, not a plain file of this user; remove it or choose another path", path.display())]
    Occupied {
        /// The file's path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file cannot be written.
    #[error("cannot {attempted} {}: {source}; what it held before is still there", path.display())]
    Write {
        /// Which step.
        attempted: &'static str,
        /// The file's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file's path with the mode and group that it gets.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    name: OsString,
    path: PathBuf,
    mode: u32,
    group: Option<Gid>,
}

impl Place {
    /// A place that nobody has looked at yet.
    pub(crate) fn new(path: &Path, mode: u32, group: Option<Gid>) -> Result<Self, PlaceError> {
        let name = path.file_name().ok_or_else(|| PlaceError::NoFile(path.to_owned()))?.to_owned();
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { folder, name, path: path.to_owned(), mode, group })
    }

    /// The file's path as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether a token may be put here, before one is asked for.
    pub(crate) fn check(&self) -> Result<(), PlaceError> {
        self.open_folder()?;
        self.refuse_others()
    }

    /// True when a plain file lies here.
    pub(crate) fn holds_a_file(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|found| found.is_file())
    }

    /// Replaces the file as a whole: it is made beside it, 0600 from the start, flushed, and renamed.
    pub(crate) fn write(&self, token: &str) -> Result<(), PlaceError> {
        // The folder is looked at anew each time; what is done then is done in that very folder.
        let folder = self.open_folder()?;
        self.refuse_others()?;
        let temporary = self.temporary();
        let written = self.fill(&folder, &temporary, token).and_then(|()| {
            renameat(&folder, temporary.as_os_str(), &folder, self.name.as_os_str())
                .map_err(|e| self.failed("put into place", e))
        });
        if written.is_err() {
            // What cannot be removed either is overwritten by the next try.
            let _ = unlinkat(&folder, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        written?;
        File::from(folder).sync_all().map_err(|source| self.failed("flush the folder of", source))
    }

    /// Removes the file, if it is one.
    pub(crate) fn remove(&self) {
        if let Ok(folder) = self.open_folder()
            && self.holds_a_file()
        {
            // At the end of a process nothing better can be done than to leave it.
            let _ = unlinkat(&folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }

    fn temporary(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".brokerctl");
        name
    }

    fn fill(&self, folder: &OwnedFd, temporary: &OsString, token: &str) -> Result<(), PlaceError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let make = || openat(folder, temporary.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let made = match make() {
            Err(Errno::EEXIST) => {
                // A killed process left it.
                let _ = unlinkat(folder, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
                make()
            }
            other => other,
        };
        let mut file = File::from(made.map_err(|e| self.failed("make", e))?);
        file.write_all(token.as_bytes()).map_err(|e| self.failed("write", e))?;
        if self.group.is_some() {
            fchown(&file, None, self.group).map_err(|e| self.failed("give the group", e))?;
        }
        fchmod(&file, Mode::from_bits_truncate(self.mode)).map_err(|e| self.failed("set the mode of", e))?;
        file.sync_all().map_err(|e| self.failed("flush", e))
    }

    fn failed(&self, attempted: &'static str, source: impl Into<io::Error>) -> PlaceError {
        PlaceError::Write { attempted, path: self.path.clone(), source: source.into() }
    }

    fn open_folder(&self) -> Result<OwnedFd, PlaceError> {
        let refuse =
            |problem: String, remedy| PlaceError::Folder { folder: self.folder.clone(), problem, remedy };
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(refuse(format!("it is not there and cannot be made: {error}"), "make it first"));
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = open(&self.folder, flags, Mode::empty()).map_err(|e| match e {
            Errno::ENOTDIR | Errno::ELOOP => {
                refuse("it is a link or no folder".to_owned(), "name the folder itself")
            }
            e => refuse(e.desc().to_owned(), "give this user the folder"),
        })?;
        let found = folder.try_clone().map(File::from).and_then(|file| file.metadata());
        let found = found.map_err(|e| refuse(e.to_string(), "look at its file system"))?;
        safe(&found, geteuid().as_raw())
            .map_err(|problem| refuse(problem, "use a folder that only this user may write"))?;
        Ok(folder)
    }

    fn refuse_others(&self) -> Result<(), PlaceError> {
        let occupied = |found| Err(PlaceError::Occupied { path: self.path.clone(), found });
        match self.path.symlink_metadata() {
            Ok(found) if found.file_type().is_symlink() => occupied("a symbolic link"),
            Ok(found) if !found.is_file() => occupied("a folder, a pipe or a device"),
            Ok(found) if found.uid() != geteuid().as_raw() => occupied("a file of another user"),
            Err(_) | Ok(_) => Ok(()),
        }
    }
}

/// Nobody but this user and root may be able to replace a file in the folder.
fn safe(folder: &Metadata, own: u32) -> Result<(), String> {
    if folder.uid() != own && folder.uid() != 0 {
        return Err(format!("it belongs to uid {}, not to uid {own} or root", folder.uid()));
    }
    if folder.mode() & 0o022 != 0 {
        return Err(format!("others may write there (mode {:04o})", folder.mode() & 0o7777));
    }
    Ok(())
}

/// Reads `--mode`: the owner may read, a group may read, nobody else anything.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| mode & !0o640 == 0 && mode & 0o400 != 0)
        .ok_or_else(|| format!("{text:?} is none of 0600, 0400, 0640, 0440: nobody else may read a token"))
}

/// Reads `--group`: a gid or a name.
pub(crate) fn group(text: &str) -> Result<Gid, String> {
    if let Ok(gid) = text.parse() {
        return Ok(Gid::from_raw(gid));
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(format!("{text:?} is neither a gid nor a group of this machine")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    fn place(path: &Path) -> Place {
        Place::new(path, 0o600, None).unwrap()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nobody_else_can_read_it() {
        let dir = folder();
        let path = dir.path().join("token");
        place(&path).write("one").unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), first.mode() & 0o7777), ("one", 0o600));
        let open = fs::File::open(&path).unwrap();
        Place::new(&path, 0o440, Some(nix::unistd::getegid())).unwrap().write("two-longer").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two-longer");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o440);
        assert_eq!(io::read_to_string(open).unwrap(), "one", "who had it open reads the old one to its end");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        place(&path).remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_leftover_of_a_killed_process_does_not_stop_the_next() {
        let dir = folder();
        fs::write(dir.path().join(".token.brokerctl"), "half of a tok").unwrap();
        let path = dir.path().join("token");
        place(&path).write("whole").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    }

    #[test]
    fn a_link_a_folder_and_a_folder_that_others_may_write_are_refused() {
        let dir = folder();
        let (elsewhere, link) = (dir.path().join("elsewhere"), dir.path().join("token"));
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, &link).unwrap();
        assert!(matches!(place(&link).write("x"), Err(PlaceError::Occupied { .. })));
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        assert!(matches!(place(&real).check(), Err(PlaceError::Occupied { .. })));
        symlink(&real, dir.path().join("linked")).unwrap();
        let error = place(&dir.path().join("linked/token")).check().unwrap_err();
        assert!(error.to_string().contains("link"), "{error}");
        for mode in [0o777, 0o1777, 0o770] {
            fs::set_permissions(&real, fs::Permissions::from_mode(mode)).unwrap();
            let error = place(&real.join("token")).write("x").unwrap_err();
            assert!(error.to_string().contains("others may write"), "{error}");
        }
        assert!(Place::new(Path::new("/"), 0o600, None).is_err());
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let dir = folder();
        let found = fs::metadata(dir.path()).unwrap();
        assert!(safe(&found, found.uid()).is_ok());
        // Root's own folders are everybody's.
        let stranger = safe(&found, found.uid() + 1);
        assert_eq!(stranger.is_ok(), found.uid() == 0);
    }

    #[test]
    fn a_missing_folder_is_made_for_this_user_alone_but_not_its_parents() {
        let dir = folder();
        let path = dir.path().join("new/token");
        place(&path).write("x").unwrap();
        assert_eq!(fs::metadata(dir.path().join("new")).unwrap().mode() & 0o777, 0o700);
        assert!(place(&dir.path().join("a/b/token")).check().is_err());
    }

    #[test]
    fn no_mode_lets_others_read() {
        assert!(["0600", "0400", "640", "0440"].iter().all(|text| mode(text).is_ok()));
        assert!(["0644", "0660", "0700", "0040", "888", "", "-1"].iter().all(|text| mode(text).is_err()));
    }
}
