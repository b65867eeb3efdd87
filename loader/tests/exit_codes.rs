//! The built program, given what a new user gives it: the exit code and one short message.

#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Output},
};

const PIPELINE: &str = "pipeline: sales
broker: { socket: broker.sock, server_uid: 0 }
source: { host: 127.0.0.1, database: SalesDB, grant: sales-sql }
target: { grant: analytics, role: LOADER, warehouse: WH, database: RAW, schema: SALES }
tables:
  - { source: dbo.Orders }
sandbox: { mode: off } # tests run as root too, which it would refuse
";

fn loader(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loader")).args(arguments).current_dir(dir).output().unwrap()
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(text.lines().count() <= 8, "too long: {text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn help_is_no_error_and_shows_an_example() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["run", "--help"], &["plan", "--help"]] {
        let output = loader(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("Example:"), "{arguments:?}");
    }
}

#[test]
fn an_unknown_command_is_a_matter_of_usage() {
    let dir = tempfile::tempdir().unwrap();
    refused(&loader(dir.path(), &["rum", "p.yaml"]), 64, &["rum", "'run'"]);
}

#[test]
fn a_file_that_is_not_there_is_no_input() {
    let dir = tempfile::tempdir().unwrap();
    refused(&loader(dir.path(), &["run", "p.yaml"]), 66, &["p.yaml", "No such file"]);
}

#[test]
fn a_typo_is_a_matter_of_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yaml"), PIPELINE.replace("warehouse", "warehous")).unwrap();
    refused(
        &loader(dir.path(), &["plan", "p.yaml"]),
        78,
        &["p.yaml, line 4, column", "`warehous`", "`warehouse`"],
    );
}

#[test]
fn a_socket_that_nobody_serves_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yaml"), PIPELINE).unwrap();
    refused(&loader(dir.path(), &["status", "p.yaml"]), 69, &["broker.sock", "broker run"]);
}
