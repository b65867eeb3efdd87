//! `make redteam`: runs the test of every row of SECURITY.md, and prints threat, control and outcome.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the table is what it is for

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::redteam::{absent, programs, rows, unknown};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("redteam: {error:#}");
            ExitCode::from(70)
        }
    }
}

/// Arguments: the built test programs.
fn run() -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project's folder")?;
    let rows = rows(&fs::read_to_string(root.join("SECURITY.md"))?)?;
    ensure!(unknown(&rows, root)?.is_empty(), "tests that do not exist: {:?}", unknown(&rows, root)?);
    ensure!(absent(&rows).is_empty(), "threats without a row: {:?}", absent(&rows));
    let mut listings = Vec::new();
    for program in std::env::args_os().skip(1).map(PathBuf::from) {
        let listing = Command::new(&program).arg("--list").current_dir(root.join("tests")).output()?;
        listings.push((program, String::from_utf8_lossy(&listing.stdout).into_owned()));
    }
    let known = programs(&listings);
    let wanted: BTreeSet<&String> = rows.iter().flat_map(|row| &row.tests).collect();
    let missing: Vec<&&String> = wanted.iter().filter(|name| !known.contains_key(**name)).collect();
    ensure!(missing.is_empty(), "no built test program has {missing:?}");
    let mut outcomes = BTreeMap::new();
    for (number, name) in wanted.iter().enumerate() {
        let Some((program, whole)) = known.get(*name) else { continue };
        eprintln!("redteam: {} of {}: {name}", number + 1, wanted.len());
        outcomes.insert((*name).clone(), passes(program, whole, root)?);
    }
    let mut failed = 0;
    println!("| threat | control | outcome |\n| --- | --- | --- |");
    for row in &rows {
        let numbers: Vec<String> = row.numbers.iter().map(ToString::to_string).collect();
        let broken: Vec<&str> =
            row.tests.iter().filter(|name| !outcomes[*name]).map(String::as_str).collect();
        let outcome = if broken.is_empty() {
            format!("held ({} tests)", row.tests.len())
        } else {
            failed += 1;
            format!("**BROKEN**: {}", broken.join(", "))
        };
        println!("| {} {} | {} | {outcome} |", numbers.join(", "), row.threat, row.control);
    }
    println!("\n{} rows, {} tests, {failed} broken", rows.len(), wanted.len());
    Ok(failed == 0)
}

/// Runs one test; what it said is shown when it fails.
fn passes(program: &Path, whole: &str, root: &Path) -> Result<bool> {
    // Trials of the end-to-end tests have a kind in front of their name, which is not part of it.
    let name = whole.rsplit("] ").next().unwrap_or(whole);
    let folder = program_folder(program, root);
    let output =
        Command::new(program).args(["--exact", name, "--test-threads", "1"]).current_dir(folder).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let ran = said.contains("1 passed");
    if !ran || !output.status.success() {
        eprintln!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(ran && output.status.success())
}

/// Tests look for files beside their own crate's manifest.
fn program_folder(program: &Path, root: &Path) -> PathBuf {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = [
        ("keyferry_broker-", "broker"),
        ("command-", "broker"),
        ("keyferry_loader-", "loader"),
        ("keyferry_proto-", "proto"),
        ("keyferry_sandbox-", "proto/sandbox"),
        ("bite-", "proto/sandbox"),
    ];
    let found = folder.iter().find(|(prefix, _)| name.starts_with(prefix));
    root.join(found.map_or("tests", |(_, folder)| folder))
}
