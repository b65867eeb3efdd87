//! Files that must never reach a disk: they are made on a folder that the kernel says is tmpfs, and
//! overwritten before they are removed.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File},
    io::{Seek as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::{
        stat::{FchmodatFlags, Mode, fchmodat},
        statfs::{TMPFS_MAGIC, fstatfs},
    },
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use super::error::{ErrorClass, UpstreamError, UpstreamName};

/// A folder on tmpfs that belongs to the broker alone.
pub(super) struct PrivateFolder {
    path: PathBuf,
    folder: OwnedFd,
    next: AtomicU64,
}

/// A file in the folder, mode 0400. It is overwritten and removed when dropped.
pub(super) struct PrivateFile {
    folder: Arc<PrivateFolder>,
    name: OsString,
    file: File,
    length: u64,
}

impl PrivateFolder {
    /// Opens the folder, making it where it is missing, and wipes what a killed broker left in it.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, UpstreamError> {
        match DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(refuse(path, format!("cannot make it: {e}"), "mount a tmpfs at its parent"));
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = open(path, flags, Mode::empty())
            .map_err(|e| refuse(path, format!("cannot open it: {e}"), "name a folder, not a link to one"))?;
        let kind =
            fstatfs(&folder).map_err(|e| refuse(path, format!("cannot ask its file system: {e}"), ""))?;
        if kind.filesystem_type() != TMPFS_MAGIC {
            return Err(refuse(
                path,
                "it is not on tmpfs: a keytab would reach a disk".to_owned(),
                "mount one (`mount -t tmpfs -o size=1m,mode=0700,noswap tmpfs PATH`; in Kubernetes an emptyDir with \
                 `medium: Memory`)",
            ));
        }
        let meta = File::from(folder.try_clone().map_err(|e| refuse(path, e.to_string(), ""))?)
            .metadata()
            .map_err(|e| refuse(path, e.to_string(), ""))?;
        if meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
            return Err(refuse(
                path,
                format!("it belongs to uid {} with mode {:04o}", meta.uid(), meta.mode() & 0o7777),
                "give it to the broker's user alone: `chown` and `chmod 0700`",
            ));
        }
        let folder = Arc::new(Self { path: path.to_owned(), folder, next: AtomicU64::new(1) });
        folder.wipe_leftovers()?;
        Ok(folder)
    }

    /// Writes a new file, readable by its owner only.
    pub(super) fn write(self: &Arc<Self>, suffix: &str, bytes: &[u8]) -> Result<PrivateFile, UpstreamError> {
        let name = OsString::from(format!("{}.{suffix}", self.next.fetch_add(1, Ordering::Relaxed)));
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.folder, name.as_os_str(), flags, Mode::S_IRUSR)
            .map_err(|e| refuse(&self.path, format!("cannot make a file in it: {e}"), "check its size"))?;
        let mut private =
            PrivateFile { folder: Arc::clone(self), name, file: File::from(fd), length: bytes.len() as u64 };
        private
            .file
            .write_all(bytes)
            .map_err(|e| refuse(&self.path, format!("cannot write a file in it: {e}"), "check its size"))?;
        Ok(private)
    }

    fn wipe_leftovers(&self) -> Result<(), UpstreamError> {
        let list = std::fs::read_dir(&self.path).map_err(|e| refuse(&self.path, e.to_string(), ""))?;
        for entry in list.flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().ends_with(b".keytab") {
                // The file is 0400: only with its mode changed can it be overwritten.
                let _ = fchmodat(
                    &self.folder,
                    name.as_os_str(),
                    Mode::S_IRUSR | Mode::S_IWUSR,
                    FchmodatFlags::FollowSymlink,
                );
                let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
                if let Ok(fd) = openat(&self.folder, name.as_os_str(), flags, Mode::empty()) {
                    let file = File::from(fd);
                    let length = file.metadata().map_or(0, |m| m.len());
                    overwrite(&file, length);
                }
                remove(&self.folder, &name);
            }
        }
        Ok(())
    }
}

impl PrivateFile {
    /// Where it lies.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path.join(&self.name)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        let _ = self.file.rewind();
        overwrite(&self.file, self.length);
        remove(&self.folder.folder, &self.name);
    }
}

fn overwrite(file: &File, length: u64) {
    let zeros = [0; 4096];
    let mut at = 0;
    while at < length {
        let size = (length - at).min(zeros.len() as u64);
        if file.write_all_at(&zeros[..size as usize], at).is_err() {
            tracing::error!("a keytab could not be overwritten; its folder is tmpfs: unmount it");
            return;
        }
        at += size;
    }
}

fn remove(folder: &OwnedFd, name: &OsString) {
    match unlinkat(folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => {
            tracing::error!(%error, "a keytab could not be removed; its folder is tmpfs: unmount it");
        }
    }
}

fn refuse(path: &Path, found: String, advice: &str) -> UpstreamError {
    let advice = if advice.is_empty() { "check `kerberos.tmpfs`" } else { advice };
    UpstreamError::new(
        UpstreamName::Configuration,
        ErrorClass::Configuration,
        format!("using {} for the keytab", path.display()),
        found,
        advice,
    )
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn on_tmpfs() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("keyferry-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .unwrap()
    }

    #[test]
    fn a_folder_on_a_disk_is_refused() {
        // /proc is on no disk either, and no tmpfs: that is what is tested.
        let error = PrivateFolder::open(Path::new("/proc/self")).err().unwrap();
        assert!(
            error.to_string().contains("cannot open it") || error.to_string().contains("tmpfs"),
            "{error}"
        );
        let error = PrivateFolder::open(Path::new("/proc")).err().unwrap();
        assert!(error.to_string().contains("not on tmpfs"), "{error}");
    }

    #[test]
    fn a_folder_that_others_can_enter_or_a_link_to_one_is_refused() {
        let dir = on_tmpfs();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = PrivateFolder::open(dir.path()).err().unwrap();
        assert!(error.to_string().contains("mode 0750"), "{error}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(PrivateFolder::open(&link).is_err());
    }

    #[test]
    fn a_file_is_0400_and_is_overwritten_before_it_goes() {
        let dir = on_tmpfs();
        let folder = PrivateFolder::open(dir.path()).ok().unwrap();
        let file = folder.write("keytab", b"secret bytes").ok().unwrap();
        let path = file.path();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o400);
        let mut witness = File::open(&path).unwrap();
        drop(file);
        assert!(!path.exists());
        let mut left = Vec::new();
        witness.read_to_end(&mut left).unwrap();
        assert_eq!(left, [0; 12]);
    }

    #[test]
    fn what_a_killed_broker_left_is_wiped_at_the_next_start() {
        let dir = on_tmpfs();
        let left = dir.path().join("7.keytab");
        fs::write(&left, b"secret bytes").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o400)).unwrap();
        let mut witness = File::open(&left).unwrap();
        PrivateFolder::open(dir.path()).ok().unwrap();
        assert!(!left.exists());
        let mut content = Vec::new();
        witness.read_to_end(&mut content).unwrap();
        assert_eq!(content, [0; 12]);
    }
}
