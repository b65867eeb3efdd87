//! Pages for secrets: never swapped, never in a core file, never in a child, wiped when a secret is dropped.
//!
//! Where the kernel has it, the pages are `memfd_secret`'s, which even the kernel takes out of its own map: neither
//! `process_vm_readv` nor `/proc/<pid>/mem` reads them, root's included. Elsewhere they are private pages, locked. The only
//! file of this crate with foreign calls.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zeroize::Zeroize as _;

use crate::report::{SandboxError, State, Step};

/// What is reserved at once, in bytes: a multiple of every page size that Linux has here.
const REGION: usize = 64 << 10;
/// What is handed out: secrets of two owners never share a block.
const BLOCK: usize = 64;

/// No page can be locked any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "no page for a secret can be locked: {0}; raise the limit of locked memory (`ulimit -l`, `LimitMEMLOCK=`) to 8 MiB"
)]
pub struct NoRoom(#[from] io::Error);

/// Bytes on a secret page. They are wiped when it is dropped.
pub struct Locked {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the bytes belong to this value alone until it is dropped, and are only read meanwhile.
unsafe impl Send for Locked {}
// SAFETY: as above; reading from several threads is no conflict.
unsafe impl Sync for Locked {}

impl Locked {
    /// Copies `bytes` to a secret page. The caller wipes its own copy. Fails when no page can be locked any more.
    pub fn copy(bytes: &[u8]) -> Result<Self, NoRoom> {
        let start = arena().reserve(bytes.len())?;
        // SAFETY: `reserve` gave room for `bytes.len()` bytes that nobody else has, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), bytes.len()) };
        Ok(Self { start, length: bytes.len() })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `copy` has filled them, regions are never unmapped, and nobody writes to them before the drop.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: as in `bytes`, and `&mut self` says that nobody reads them now.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }.zeroize();
        arena().release(self.start, self.length);
    }
}

/// What kind of pages a region has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `memfd_secret`.
    Secret,
    /// Locked, not dumped, empty in a child.
    Private,
}

struct Region {
    start: NonNull<u8>,
    /// Which blocks are taken.
    taken: Vec<bool>,
    kind: Kind,
}

// SAFETY: the address is that of a mapping that lives as long as the process; who uses which block is `taken`'s.
unsafe impl Send for Region {}

struct Arena(Vec<Region>);

static ARENA: Mutex<Arena> = Mutex::new(Arena(Vec::new()));

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    fn reserve(&mut self, length: usize) -> Result<NonNull<u8>, NoRoom> {
        let blocks = length.div_ceil(BLOCK).max(1);
        if let Some(start) = self.0.iter_mut().find_map(|region| region.reserve(blocks)) {
            return Ok(start);
        }
        let region = Region::map(length.next_multiple_of(REGION).max(REGION))?;
        self.0.push(region);
        let start = self.0.last_mut().and_then(|region| region.reserve(blocks));
        start.ok_or_else(|| NoRoom(io::ErrorKind::OutOfMemory.into()))
    }

    fn release(&mut self, start: NonNull<u8>, length: usize) {
        let blocks = length.div_ceil(BLOCK).max(1);
        for region in &mut self.0 {
            let offset = start.addr().get().wrapping_sub(region.start.addr().get());
            if offset < region.taken.len() * BLOCK {
                region.taken[offset / BLOCK..][..blocks].fill(false);
                return;
            }
        }
    }
}

impl Region {
    /// A run of free blocks, the first that is long enough.
    fn reserve(&mut self, blocks: usize) -> Option<NonNull<u8>> {
        let mut run = 0;
        let end = self.taken.iter().position(|taken| {
            run = if *taken { 0 } else { run + 1 };
            run == blocks
        })?;
        let first = end + 1 - blocks;
        self.taken[first..=end].fill(true);
        // SAFETY: `taken` has one entry for each block of the mapping, so the result is inside of it.
        Some(unsafe { self.start.add(first * BLOCK) })
    }

    fn map(size: usize) -> io::Result<Self> {
        let (start, kind) = match map_secret(size) {
            Ok(start) => (start, Kind::Secret),
            // An older kernel, one without it, or a container that forbids it.
            Err(_) => (map_private(size)?, Kind::Private),
        };
        Ok(Self { start, taken: vec![false; size / BLOCK], kind })
    }
}

fn map_secret(size: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: the call takes one number and gives a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let file = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    // SAFETY: the descriptor is open.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), size as libc::off_t) })?;
    // The mapping keeps the pages; the descriptor is closed at the end of this function.
    map(size, libc::MAP_SHARED, file.as_raw_fd(), &[libc::MADV_DONTFORK])
}

fn map_private(size: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let start = map(size, flags, -1, &[libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK])?;
    // SAFETY: the range is the mapping that was just made.
    check(unsafe { libc::mlock(start.as_ptr().cast(), size) })?;
    Ok(start)
}

fn map(
    size: usize,
    flags: libc::c_int,
    file: libc::c_int,
    advice: &[libc::c_int],
) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, file, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for word in advice {
        // SAFETY: the range is the mapping that was just made; these words change no byte of it.
        check(unsafe { libc::madvise(start, size, *word) })?;
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reserves the first pages, so that a container that cannot lock any shows at the start.
pub(crate) fn prepare() -> Result<State, SandboxError> {
    let failed = |source: NoRoom| {
        SandboxError::failed(
            Step::Pages,
            "lock pages for secrets",
            source.0,
            "raise the limit of locked memory (`ulimit -l`, `LimitMEMLOCK=`) to 8 MiB",
        )
    };
    drop(Locked::copy(b"a first secret").map_err(failed)?);
    let secret = arena().0.iter().all(|region| region.kind == Kind::Secret);
    Ok(State::Active(if secret { "memfd_secret" } else { "locked, not dumped" }.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_was_copied_and_its_room_is_wiped_and_used_again() {
        let secret = Locked::copy(b"one secret").unwrap();
        assert_eq!(secret.bytes(), b"one secret");
        let (start, length) = (secret.start, secret.length);
        drop(secret);
        // SAFETY: regions are never unmapped, and the tests of this module take other blocks or write there whole.
        let left = unsafe { slice::from_raw_parts(start.as_ptr(), length) };
        assert_ne!(left, b"one secret");
    }

    #[test]
    fn secrets_of_every_length_stand_apart() {
        let lengths = [0, 1, 63, 64, 65, 4096, REGION - 1, REGION, REGION + 1, 3 * REGION];
        let secrets: Vec<Locked> = lengths
            .iter()
            .enumerate()
            .map(|(n, length)| Locked::copy(&vec![n as u8; *length]).unwrap())
            .collect();
        for (n, secret) in secrets.iter().enumerate() {
            assert_eq!(secret.bytes().len(), lengths[n]);
            assert!(secret.bytes().iter().all(|byte| *byte == n as u8));
        }
    }

    #[test]
    fn private_pages_are_locked_and_neither_dumped_nor_inherited() {
        let start = map_private(REGION).unwrap();
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let address = format!("{:x}", start.addr().get());
        let mut of_it = text.lines().skip_while(|line| !covers(line, start.addr().get()));
        let flags = of_it.find(|line| line.starts_with("VmFlags:")).unwrap_or_default();
        for flag in [" lo", " dd", " wf"] {
            assert!(flags.contains(flag), "no{flag} at {address}: {flags}");
        }
    }

    fn covers(line: &str, address: usize) -> bool {
        let parse = |text| usize::from_str_radix(text, 16).ok();
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        range
            .and_then(|(from, to)| Some((parse(from)?, parse(to)?)))
            .is_some_and(|(from, to)| (from..to).contains(&address))
    }

    #[test]
    fn a_run_of_blocks_is_found_between_taken_ones() {
        let mut region = Region::map(REGION).unwrap();
        let first = region.reserve(2).unwrap();
        let second = region.reserve(1).unwrap();
        assert_eq!(second.addr().get() - first.addr().get(), 2 * BLOCK);
        region.taken[0..2].fill(false);
        assert_eq!(region.reserve(2).unwrap(), first);
        assert!(region.reserve(REGION / BLOCK).is_none());
    }
}
