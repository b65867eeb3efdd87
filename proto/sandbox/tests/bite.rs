//! Each control bites: a process that has it cannot do what a process without it can.
//!
//! This program starts itself again, under an unprivileged user where it can, with an attempt to make. The child enters the
//! sandbox, or does not, and says what came of the attempt.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]

#[path = "bite/attempts.rs"]
mod attempts;
#[path = "bite/calls.rs"]
mod calls;
#[path = "bite/child.rs"]
mod child;
#[path = "bite/numbers.rs"]
mod numbers;
#[path = "bite/reach.rs"]
mod reach;
#[path = "bite/start.rs"]
mod start;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--attempt") {
        attempts::run(&arguments.collect::<Vec<_>>());
        return;
    }
    let mut trials = Vec::new();
    calls::trials(&mut trials);
    reach::trials(&mut trials);
    start::trials(&mut trials);
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A test that needs no rights.
fn test(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}

/// A test that proves nothing unless it runs as root: it fails in CI, and is counted elsewhere.
fn root_test(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let owned = name.to_owned();
    Trial::test(name, move || {
        if nix::unistd::geteuid().is_root() {
            body();
            return Ok(());
        }
        if std::env::var_os("CI").is_some() {
            return Err(Failed::from("this test needs root, and CI must prove it"));
        }
        eprintln!("NOT PROVED without root: {owned}");
        if let Some(path) = std::env::var_os("KEYFERRY_NOT_PROVED") {
            use std::io::Write as _;
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            writeln!(file.unwrap(), "{owned}").unwrap();
        }
        Ok(())
    })
}
