//! The end-to-end tests: real programs, real sockets, real credentials, one world each.
//!
//! They have a `main` of their own because the Kerberos library reads `KRB5_CONFIG` once per process,
//! and a program with threads cannot set it.

// A test that cannot go on says where; its futures are polled once each.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    clippy::assigning_clones
)]

mod attacks;
mod boundary;
mod chaos;
mod chunks;
mod contract;
mod corruption;
mod crash;
mod fence;
mod happy;
mod harness;
mod input;
mod kubernetes;
mod live;
mod lives;
mod load;
mod memory;
mod outages;
mod points;
mod reference;
mod refused;
mod rotation;
mod sandbox;
mod secrets;
mod setup;
mod shards;
mod table;
mod tiberius_judge;
mod type_matrix;
mod workloads;

use std::{env, os::unix::process::CommandExt as _, process::Command};

fn main() {
    // The same program is the child that reads rows under the loader's user.
    let mut arguments = env::args().skip(1);
    if let (Some("--read-rows"), Some(pipeline)) = (arguments.next().as_deref(), arguments.next()) {
        if let Err(error) = tiberius_judge::read_rows(&pipeline) {
            eprintln!("{error:?}");
            std::process::exit(1);
        }
        return;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(("--call-broker", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        if let Err(error) = load::call_broker(rest) {
            eprintln!("{error:?}");
            std::process::exit(1);
        }
        return;
    }
    if env::var_os("KRB5_CONFIG").is_none() {
        restart_with_realm();
    }
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut arguments = libtest_mimic::Arguments::from_args();
    // These tests mostly wait for programs that they have started.
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    arguments.test_threads.get_or_insert(cores + 1);
    let mut trials = Vec::new();
    attacks::trials(&mut trials);
    happy::trials(&mut trials);
    fence::trials(&mut trials);
    secrets::trials(&mut trials);
    refused::trials(&mut trials);
    crash::trials(&mut trials);
    chaos::trials(&mut trials);
    outages::trials(&mut trials);
    lives::trials(&mut trials);
    kubernetes::trials(&mut trials);
    shards::trials(&mut trials);
    input::trials(&mut trials);
    chunks::trials(&mut trials);
    points::trials(&mut trials);
    memory::trials(&mut trials);
    setup::trials(&mut trials);
    boundary::trials(&mut trials);
    contract::trials(&mut trials);
    corruption::trials(&mut trials);
    rotation::trials(&mut trials);
    sandbox::trials(&mut trials);
    load::trials(&mut trials);
    reference::trials(&mut trials);
    tiberius_judge::trials(&mut trials);
    type_matrix::trials(&mut trials);
    workloads::trials(&mut trials);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // With a filter, rows are missing rightly.
    let whole = conclusion.num_filtered_out == 0 && !arguments.list && !conclusion.has_failed();
    let missing = if whole { table::missing() } else { Vec::new() };
    // The folder that the restart made.
    if let Some(folder) = env::var_os("KRB5RCACHEDIR") {
        drop(std::fs::remove_dir_all(folder));
    }
    assert!(missing.is_empty(), "tests that left no row in their table: {missing:#?}");
    conclusion.exit();
}

/// The acceptors of all worlds need only the realm's name; every broker gets a file of its own world.
fn restart_with_realm() {
    let folder = keyferry_e2e::world::fresh_folder().expect("a folder").keep();
    let config = folder.join("krb5.conf");
    let text = format!("[libdefaults]\n  default_realm = {}\n  rdns = false\n", keyferry_e2e::world::REALM);
    std::fs::write(&config, text).expect("write krb5.conf");
    let error = Command::new(env::current_exe().expect("this program"))
        .args(env::args_os().skip(1))
        .env("KRB5_CONFIG", &config)
        .env("KRB5RCACHEDIR", &folder)
        .exec();
    panic!("start again with KRB5_CONFIG: {error}");
}
