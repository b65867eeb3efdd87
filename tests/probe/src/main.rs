//! Attacks of a compromised loader, from inside its container: each is tried by a process of its own, once with what the
//! container leaves it, and once more under the loader's own sandbox.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the table is what it is for

mod attacks;

use std::{
    env,
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode, Stdio},
};

use attacks::{ATTACKS, Attack, Outcome};
use keyferry_sandbox::{Process, Profile, Reach, Sandbox, Settings};

/// A child that was refused ends with this.
const REFUSED: i32 = 10;
/// A child that succeeded ends with this.
const SUCCEEDED: i32 = 11;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--one", name, confined] => one(name, *confined == "sandboxed"),
        [] => all(),
        _ => {
            eprintln!(
                "probe: no arguments; PROBE_BROKER_PORTS names ports that must be closed, separated by commas"
            );
            ExitCode::from(64)
        }
    }
}

/// Tries everything and prints the table; fails when something that must be refused was not.
fn all() -> ExitCode {
    let mut failed = 0;
    println!("| attack | in the container | with the loader's sandbox |");
    println!("| --- | --- | --- |");
    for attack in ATTACKS {
        let (plain, confined) = (attempt(attack, "plain"), attempt(attack, "sandboxed"));
        let wrong = !confined.1 || (attack.by_container && !plain.1);
        println!(
            "| {} | {} | {}{} |",
            attack.name,
            plain.0,
            confined.0,
            if wrong { " **MISSED**" } else { "" }
        );
        failed += u8::from(wrong);
    }
    ExitCode::from(failed.min(1))
}

/// What became of an attack, and whether it was refused.
fn attempt(attack: &Attack, how: &str) -> (String, bool) {
    let own = env::current_exe();
    let output =
        own.and_then(|own| Command::new(own).args(["--one", attack.name, how]).stdin(Stdio::null()).output());
    match output {
        Err(error) => (format!("could not be tried: {error}"), false),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            match (output.status.code(), output.status.signal()) {
                (Some(REFUSED), _) => (format!("refused: {said}"), true),
                (Some(SUCCEEDED), _) => (format!("possible: {said}"), false),
                (_, Some(31)) => ("killed (SIGSYS)".to_owned(), true),
                _ => {
                    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    (format!("could not be tried: {} {error}", output.status), false)
                }
            }
        }
    }
}

fn one(name: &str, confined: bool) -> ExitCode {
    let Some(attack) = ATTACKS.iter().find(|attack| attack.name == name) else {
        eprintln!("probe: no attack {name:?}");
        return ExitCode::from(64);
    };
    if confined && let Err(error) = confine() {
        eprintln!("probe: the sandbox: {error}");
        return ExitCode::from(70);
    }
    let (code, said) = match (attack.run)() {
        Outcome::Refused(how) => (REFUSED, how),
        Outcome::Succeeded(how) => (SUCCEEDED, how),
    };
    println!("{said}");
    ExitCode::from(code as u8)
}

/// What the loader does before it starts a thread, with the socket, its spool and one port of SQL Server and Snowflake.
fn confine() -> Result<(), String> {
    let sandbox =
        Sandbox::begin(Settings::default(), &Process::default()).map_err(|error| error.to_string())?;
    let reach = Reach {
        read: ["/run/keyferry", "/etc/keyferry", "/etc/resolv.conf", "/etc/hosts", "/proc/self"]
            .map(Into::into)
            .into(),
        write: ["/var/spool/keyferry"].map(Into::into).into(),
        connect: [1433, 443].into(),
        ..Reach::default()
    };
    let profile = Profile::parse(include_str!("../../../deploy/seccomp/loader.json"))
        .map_err(|error| error.to_string())?;
    sandbox.confine(&reach, &profile).map(drop).map_err(|error| error.to_string())
}
