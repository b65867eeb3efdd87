//! The whole system on one machine: stand-ins, broker, loader, sample tables, and the proof.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what it prints is what it is for

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use keyferry_e2e::demo::{self, Wishes};

/// Starts a local Vault, Entra ID, Kerberos KDC, SQL Server and Snowflake, moves sample tables through
/// the broker, and proves that every row arrived and no long-lived secret reached the loader.
///
/// Example: local-dev --scale 0.1 --keep
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// TPC-H scale factor; 0.01 is about 87,000 rows
    #[arg(long, default_value_t = 0.01)]
    scale: f64,
    /// Leave everything running at the end and print how to poke at it
    #[arg(long)]
    keep: bool,
    /// The folder to work in; made by the program itself
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
    /// Hold the bytes that this file names, as the positive control of a leak scan
    #[arg(long, hide = true)]
    decoy: Option<PathBuf>,
    /// Call every method of the broker at a socket and write what it sent to a file
    #[arg(long, hide = true, num_args = 2, value_names = ["SOCKET", "FILE"])]
    record_calls: Vec<PathBuf>,
    /// Print the token that policy allows this caller
    #[arg(long, hide = true, num_args = 2, value_names = ["SOCKET", "SERVER_UID"])]
    get_token: Vec<String>,
    /// With --judge: let the loader move the sample tables first
    #[arg(long, hide = true)]
    loaded: bool,
    /// Run a third-party client against the stand-ins, instead of the demo; how to log in is in its environment
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    judge: Vec<PathBuf>,
}

fn main() -> ExitCode {
    start(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("local-dev: {error:#}");
        ExitCode::FAILURE
    })
}

fn start(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(plan) = &arguments.decoy {
        demo::hold_decoy(plan)?;
    }
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [socket, out] = arguments.record_calls.as_slice() {
        runtime.block_on(demo::record_calls(socket, out))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [socket, server_uid] = arguments.get_token.as_slice() {
        runtime.block_on(demo::print_token(socket.as_ref(), server_uid.parse()?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(dir) = &arguments.inside else {
        demo::restart_with_realm(&std::env::args().skip(1).collect::<Vec<_>>())?;
        return Ok(ExitCode::FAILURE);
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("KEYFERRY_LOG").unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    if !arguments.judge.is_empty() {
        return runtime.block_on(demo::judge(
            dir,
            &demo::Bench {
                command: arguments.judge.clone(),
                loaded: arguments.loaded,
                scale: arguments.scale,
            },
        ));
    }
    runtime.block_on(demo::run(dir, &Wishes { scale: arguments.scale, keep: arguments.keep }))
}
