//! What is freed goes back: a setting of glibc's allocator that only the environment can make before the first byte.
//!
//! By itself the allocator learns from the first large buffer that large buffers are common, and then keeps up to
//! 32 MiB of each for later, in several places. Twelve values of 64 MiB then took 271 MiB under a budget of 256; with a
//! fixed threshold, which switches the learning off, they take 218 (`make memory`).

use std::{env, os::unix::process::CommandExt as _, process::Command};

/// The variable that glibc reads.
pub const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
/// Larger blocks are mappings of their own, gone when they are freed.
const ONE_MIB: &str = "1048576";

/// Starts this very program again, in the same process, with the setting; nothing if it is there already. Another
/// allocator does not read it. When the kernel refuses, the program goes on as it is.
pub fn settle() {
    if env::var_os(THRESHOLD).is_some() {
        return;
    }
    let (Ok(program), mut arguments) = (env::current_exe(), env::args_os()) else { return };
    let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
    // Only comes back when it failed.
    let _ = Command::new(program).arg0(name).args(arguments).env(THRESHOLD, ONE_MIB).exec();
}
