//! The spool's directory: who writes to it now, and what happens when it is full. A chunk waits with its first file until
//! there is room for it beside what the others will still write. Where that was wrong, a file in the making waits until
//! another one is uploaded and gone; the last one that could free nothing gives up, and its own space helps the others.

use std::{
    error::Error,
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

/// How often a waiting chunk looks at the disk, which others fill and empty too.
const LOOK: Duration = Duration::from_millis(500);

/// A directory for encrypted files that wait for their upload; clones share their knowledge of it.
#[derive(Clone, Debug)]
pub struct SpoolDir {
    path: PathBuf,
    need: u64,
    patience: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<Files>,
    changed: Condvar,
    /// For those who wait before they begin.
    left: Notify,
}

#[derive(Debug, Default)]
struct Files {
    /// All that take space: written, or waiting for their upload.
    present: usize,
    /// Those that wait for space.
    stuck: usize,
    /// Counts the files that went away.
    gone: u64,
    /// What all that are written will still write, as far as is known.
    promised: u64,
}

/// One file's place in the directory; dropping it says that its space is free again.
#[derive(Debug)]
pub struct Place {
    dir: SpoolDir,
    promised: u64,
}

impl SpoolDir {
    /// `need` is what a run may write there at once; a file waits for room for at most `patience`.
    pub fn new(path: PathBuf, need: u64, patience: Duration) -> Self {
        Self { path, need, patience, shared: Arc::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a run may write there at once.
    pub fn need(&self) -> u64 {
        self.need
    }

    /// Bytes that are free there now, as far as the system says.
    pub fn free(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.path)
            .map_or(0, |found| found.blocks_available() * found.fragment_size())
    }

    /// A place for a file of about so many bytes. Waits until there is room for it, or for nobody else.
    pub async fn enter(&self, expected: u64) -> Place {
        let deadline = Instant::now() + self.patience;
        let mut told = false;
        loop {
            let left = self.shared.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            let free = self.free();
            let place = self.files(|files| {
                let fits = files.present == 0 || free >= files.promised.saturating_add(expected);
                (fits || Instant::now() >= deadline).then(|| self.count_in(files, expected))
            });
            if let Some(place) = place {
                return place;
            }
            if !told {
                told = true;
                let dir = self.path.display();
                tracing::warn!(%dir, free, expected, "the spool directory is full; waiting for uploads to free it");
            }
            // Whether it was told or only looked makes no difference.
            let _ = timeout(LOOK, left).await;
        }
    }

    /// A place at once: the chunk has begun, and waiting could hold up those for whom it waits.
    pub(crate) fn enter_now(&self) -> Place {
        self.files(|files| self.count_in(files, 0))
    }

    fn count_in(&self, files: &mut Files, expected: u64) -> Place {
        files.present += 1;
        files.promised += expected;
        Place { dir: self.clone(), promised: expected }
    }

    /// Writes all of `bytes` at `offset`, waiting for space where there is none. It blocks.
    pub(super) fn write_all(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let deadline = Instant::now() + self.patience;
        let mut done = 0;
        while done < bytes.len() {
            let seen = self.files(|files| files.gone);
            let at = offset + done as u64;
            match file.write_at(&bytes[done..], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => self.wait(seen, deadline, at)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until a file is gone since `seen`.
    fn wait(&self, seen: u64, deadline: Instant, written: u64) -> io::Result<()> {
        let mut files = self.shared.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.stuck += 1;
        let mut told = false;
        let outcome = loop {
            if files.gone != seen {
                break Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // Nobody is left who could free space, or nobody did in all this time.
            if files.stuck >= files.present || left.is_zero() {
                break Err(SpoolFull { written, alone: files.present <= 1 }.into_io());
            }
            if !told {
                told = true;
                let others = files.present - files.stuck;
                tracing::warn!(dir = %self.path.display(), others, "the spool directory is full; waiting for uploads to free it");
            }
            files = self.shared.changed.wait_timeout(files, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        files.stuck -= 1;
        outcome
    }

    fn files<T>(&self, look: impl FnOnce(&mut Files) -> T) -> T {
        look(&mut self.shared.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    /// The directory.
    pub(super) fn dir(&self) -> &SpoolDir {
        &self.dir
    }

    /// So much of what was promised is written.
    pub(super) fn written(&mut self, bytes: u64) {
        let kept = bytes.min(self.promised);
        self.promised -= kept;
        self.dir.files(|files| files.promised -= kept);
    }

    /// The file is whole.
    pub(super) fn complete(&mut self) {
        self.written(u64::MAX);
        self.dir.shared.left.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.complete();
        self.dir.files(|files| {
            files.present -= 1;
            files.gone += 1;
        });
        self.dir.shared.changed.notify_all();
        self.dir.shared.left.notify_waiters();
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The directory is full and stays so; it travels inside an `io::Error`, as a writer's errors must.
#[derive(Clone, Copy, Debug)]
pub struct SpoolFull {
    /// Bytes of the file that were written.
    pub written: u64,
    /// Whether no other file of this run takes space.
    pub alone: bool,
}

impl SpoolFull {
    /// Finds it in an error.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }

    /// Puts it into an error.
    pub fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::StorageFull, self)
    }
}

impl fmt::Display for SpoolFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the spool directory is full after {} bytes", self.written)
    }
}

impl Error for SpoolFull {}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` is a disk without space.
    fn full() -> File {
        File::options().write(true).open("/dev/full").unwrap()
    }

    fn dir() -> SpoolDir {
        SpoolDir::new(std::env::temp_dir(), 1 << 30, Duration::from_secs(30))
    }

    #[tokio::test]
    async fn a_chunk_begins_only_when_its_file_fits_beside_what_the_others_promised() {
        let dir = dir();
        let most = dir.free() / 10 * 8;
        let mut first = dir.enter(most).await;
        let waiting = tokio::spawn({
            let dir = dir.clone();
            async move { dir.enter(most).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "the first will still write");
        first.complete();
        let second = waiting.await.unwrap();
        assert_eq!(dir.files(|files| (files.present, files.promised)), (2, most));
        drop((first, second));
        // More than there is room for: alone it may try.
        drop(dir.enter(u64::MAX).await);
        assert_eq!(dir.files(|files| (files.present, files.promised)), (0, 0));
    }

    #[test]
    fn alone_on_a_full_disk_there_is_nothing_to_wait_for() {
        let dir = dir();
        let _present = dir.enter_now();
        let error = SpoolFull::of(&dir.write_all(&full(), b"x", 7).unwrap_err()).unwrap();
        assert!(error.alone && error.written == 7);
    }

    #[test]
    fn a_writer_waits_until_another_file_is_gone_and_the_last_stuck_one_gives_up() {
        let dir = dir();
        let (mine, other) = (dir.enter_now(), dir.enter_now());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| dir.write_all(&full(), b"x", 0));
            while dir.files(|files| files.stuck) == 0 {
                std::thread::yield_now();
            }
            assert!(!writer.is_finished(), "it waits for the other file");
            drop(other);
            // The disk is full for ever: once more it finds no room, and now it is alone.
            let error = writer.join().unwrap().unwrap_err();
            assert!(SpoolFull::of(&error).unwrap().alone);
        });
        drop(mine);
        assert_eq!(dir.files(|files| (files.present, files.stuck, files.gone)), (0, 0, 2));
    }

    #[test]
    fn of_two_stuck_writers_the_later_one_makes_room_for_the_other() {
        let dir = dir();
        let (first, second) = (dir.enter_now(), dir.enter_now());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| dir.write_all(&full(), b"x", 0));
            while dir.files(|files| files.stuck) == 0 {
                std::thread::yield_now();
            }
            let error = SpoolFull::of(&dir.write_all(&full(), b"y", 0).unwrap_err()).unwrap();
            assert!(!error.alone, "it is worth another try");
            drop(second);
            assert!(waiting.join().unwrap().is_err());
        });
        drop(first);
    }
}
