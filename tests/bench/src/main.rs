//! Measures what the loader and the broker cost, beside what people would use instead, and writes the tables into
//! `docs/benchmarks.md`. Started by `make bench`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the tables are what it is for
#![allow(unreachable_pub)] // one program: `pub` says what a module is for

mod callers;
mod machine;
mod readers;
mod run;
mod source;
mod stats;
mod table;
mod tables;
mod usage;

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use keyferry_e2e::world::{REALM, fresh_folder};

/// Measures, prints the tables, and writes them into docs/benchmarks.md.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// All measurements
    Run(run::Wishes),
    /// The work of one client, in a process of its own
    Read(readers::Reading),
    /// Callers of a broker
    Call(callers::Calling),
    /// Prints a token from the broker
    Token {
        /// The broker's socket
        socket: PathBuf,
        /// Who serves it
        server_uid: u32,
    },
    /// A bare tonic server
    Echo {
        /// Its socket
        socket: PathBuf,
        /// Bytes of the token that it answers with
        bytes: usize,
    },
}

fn main() -> Result<()> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match Arguments::parse().what {
        What::Read(reading) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(readers::read(&reading))
        }
        What::Call(calling) => threads()?.block_on(callers::call(&calling)),
        What::Token { socket, server_uid } => {
            use std::io::Write as _;
            let token = threads()?.block_on(callers::token(socket, server_uid))?;
            Ok(std::io::stdout().write_all(&token)?)
        }
        What::Echo { socket, bytes } => threads()?.block_on(callers::serve(&socket, bytes)),
        What::Run(wishes) => match wishes.inside.clone() {
            None => Err(restart_with_realm()),
            Some(dir) => {
                tracing_subscriber::fmt().with_env_filter("error").with_writer(std::io::stderr).init();
                let outcome = threads()?.block_on(run::run(&dir, &wishes));
                drop(std::fs::remove_dir_all(&dir));
                outcome
            }
        },
    }
}

fn threads() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The SQL Server stand-in's Kerberos library reads `KRB5_CONFIG` once, when the process starts.
fn restart_with_realm() -> anyhow::Error {
    let again = || -> Result<std::convert::Infallible> {
        let dir: PathBuf = fresh_folder()?.keep();
        // Each part has a world of its own; what accepts tickets in all of them needs the realm's name alone.
        std::fs::write(dir.join("krb5.conf"), format!("[libdefaults]\ndefault_realm = {REALM}\n"))?;
        let error = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .arg("--inside")
            .arg(&dir)
            .env("KRB5_CONFIG", dir.join("krb5.conf"))
            .env("KRB5RCACHEDIR", &dir)
            .exec();
        Err(error).context("start again with KRB5_CONFIG")
    };
    match again() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}
