//! The demo: moves sample tables through the broker and proves what it claims.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what it prints is what it is for

mod decoy;
mod judge;
mod run;
mod table;
mod wire;

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

pub use decoy::hold as hold_decoy;
pub use judge::{Bench, print_token};
pub use wire::record as record_calls;

use crate::world::fresh_folder;

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// TPC-H's scale factor.
    pub scale: f64,
    /// Leave everything running at the end.
    pub keep: bool,
}

/// Starts this very program again with `KRB5_CONFIG` set.
///
/// The SQL Server stand-in's Kerberos library reads that variable once; a running program with threads
/// cannot set it safely.
pub fn restart_with_realm(arguments: &[String]) -> Result<()> {
    let dir = fresh_folder()?.keep();
    let error = Command::new(std::env::current_exe()?)
        .arg("--inside")
        .arg(&dir)
        .args(arguments)
        .env("KRB5_CONFIG", dir.join("krb5.conf"))
        .env("KRB5RCACHEDIR", &dir)
        .exec();
    Err(error).context("start again with KRB5_CONFIG")
}

/// Runs a third-party client against a world in `dir`, and removes the folder afterwards.
pub async fn judge(dir: &Path, bench: &Bench) -> Result<ExitCode> {
    finish(dir, judge::run(dir, bench).await)
}

/// Runs the demo in `dir` and removes it afterwards.
pub async fn run(dir: &Path, wishes: &Wishes) -> Result<ExitCode> {
    finish(dir, run::run(dir, wishes).await)
}

fn finish(dir: &Path, outcome: Result<bool>) -> Result<ExitCode> {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("could not remove {}: {error}", dir.display());
    }
    Ok(if outcome? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
