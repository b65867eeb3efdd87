//! The broker's command: arguments → configuration → run → exit code.

mod cli;

use std::{alloc::System, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use keyferry_broker::{
    RunError, check, config::Config, environment, prepare, probe::probe, sandbox, socket::make_folder,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;
use zeroizing_alloc::ZeroAlloc;

use self::cli::{Arguments, AuditCommand, Command, Output, PolicyCommand};

/// Memory is wiped when it is freed: copies of a secret pass through buffers of libraries that do not wipe theirs.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Callers are few, and what they ask for is short.
const MOST_WORKERS: usize = 4;
/// Exchanges with the Kerberos library at once; more of them wait.
const MOST_BLOCKING: usize = 32;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // First of all: every TLS connection of this process uses this provider.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::log_to_stderr();
    let outcome = installed
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed first"))
        .and_then(|()| match arguments.command {
            Command::Run { config } => run(&config),
            Command::Check { config, output } => run_check(&config, output),
            Command::Selfcheck { pid, output } => cli::selfcheck(pid, output),
            Command::Health { config, wait, pid } => run_health(&config, wait, pid),
            Command::Audit(AuditCommand::Verify { log, key, at_least, output }) => {
                cli::audit::run(&log, key.as_deref(), at_least, output)
            }
            Command::Policy(PolicyCommand::Explain(asked)) => cli::policy::run(asked),
            Command::SocketFolder { path, group } => {
                make_folder(&path, group).map_err(RunError::from)?;
                Ok(ExitCode::SUCCESS)
            }
        });
    outcome.unwrap_or_else(|error| cli::complain(&error))
}

/// The folder is claimed and the process confined before the runtime starts its threads.
fn run(file: &Path) -> anyhow::Result<ExitCode> {
    environment::check(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
    let config = Config::load(file)?;
    let (begun, reach) = (sandbox::begin(&config)?, sandbox::reach(&config));
    let prepared = prepare(config)?;
    cli::tell(&sandbox::confine(begun, &reach)?);
    runtime()?.block_on(async {
        prepared.run(stop_signals()?, reload_signal()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn run_check(file: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let config = check::aside(Config::load(file)?);
    let (begun, mut reach) = (sandbox::begin(&config)?, sandbox::reach(&config));
    // The check's own folder is removed at its end.
    reach
        .write
        .extend(config.kerberos.as_ref().and_then(|kerberos| Some(kerberos.tmpfs.parent()?.to_owned())));
    check::prepare(&config)?;
    cli::tell(&sandbox::confine(begun, &reach)?);
    let report = runtime()?.block_on(check::check(&config));
    cli::print(&report, output)?;
    Ok(cli::exit_code_of_check(&report))
}

#[allow(clippy::print_stdout, reason = "the answer is what the command is for")]
fn run_health(config: &Path, wait: Duration, pid: Option<i32>) -> anyhow::Result<ExitCode> {
    println!("{}", probe(Config::load(config)?.admin.listen, wait, pid)?);
    Ok(ExitCode::SUCCESS)
}

/// Bounded on a machine with many processors: units and containers limit the number of threads.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.min(MOST_WORKERS))
        .max_blocking_threads(MOST_BLOCKING)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Rung at each SIGHUP.
fn reload_signal() -> anyhow::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let ring = Arc::new(Notify::new());
    let rung = Arc::clone(&ring);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            rung.notify_one();
        }
    });
    Ok(ring)
}

/// The token that the first SIGTERM or SIGINT cancels; a second one ends the process at once.
fn stop_signals() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Whoever writes beyond a limit on the size of files is killed unless the signal has a taker; with one, the
    // write fails, and the audit log says so.
    drop(signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if again {
                tracing::warn!("told to stop twice; leaving without draining");
                std::process::exit(130);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}
