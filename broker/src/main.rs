//! The broker's command line: arguments → configuration → run → exit code.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use keyferry_broker::{
    RunError, check,
    check::{Cause, StepOutcome},
    config::{Config, ConfigError},
    prepare,
    upstream::UpstreamError,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Owns every long-lived secret; serves short-lived grants over a Unix socket.
#[derive(Parser)]
#[command(name = "broker", version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then drain
    #[command(after_help = "Example:\n  broker run --config /etc/keyferry/broker.yaml")]
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Validate the configuration, reach every upstream, print what would be served
    ///
    /// Logs in with the secret_id once (a secret_id with a limited number of uses loses one), but never
    /// with a wrapped one.
    #[command(after_help = "Example:\n  broker check --config /etc/keyferry/broker.yaml --output json")]
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 69 an upstream is unavailable, 70 internal error, 71 the system refused, \
                          73 the audit log cannot be written, 75 another broker serves here, 77 an upstream refused \
                          the broker, 78 the configuration is wrong";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // First of all: every TLS connection of this process uses this provider.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("broker: another TLS provider was installed first");
        return ExitCode::from(70);
    }
    log_to_stderr();
    let outcome = harden().and_then(|()| match arguments.command {
        Command::Run { config } => run(&config),
        Command::Check { config, output } => run_check(&config, output),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("broker: {error:#}");
        ExitCode::from(exit_code(&error))
    })
}

fn run(config: &std::path::Path) -> anyhow::Result<ExitCode> {
    let prepared = prepare(Config::load(config)?)?;
    runtime()?.block_on(async {
        prepared.run(stop_signals()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn run_check(config: &std::path::Path, output: Output) -> anyhow::Result<ExitCode> {
    let config = check::aside(Config::load(config)?);
    check::prepare(&config)?;
    let report = runtime()?.block_on(check::check(&config));
    print(&report, output)?;
    Ok(match report.cause {
        None => ExitCode::SUCCESS,
        Some(Cause::Local) => ExitCode::from(78),
        Some(Cause::Unavailable) => ExitCode::from(69),
        Some(Cause::Refused) => ExitCode::from(77),
    })
}

#[allow(clippy::print_stdout, reason = "the report is what this command is for")]
fn print(report: &check::Report, output: Output) -> anyhow::Result<()> {
    if let Output::Json = output {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    for step in &report.steps {
        let mark = match step.outcome {
            StepOutcome::Ok => "ok",
            StepOutcome::Failed => "FAILED",
            StepOutcome::Skipped => "skipped",
        };
        println!("{mark:<8} {:<20} {}", step.what, step.detail);
    }
    println!("\nwould serve:");
    for line in &report.serves {
        let gid = line.gid.map(|gid| format!(" gid {gid}")).unwrap_or_default();
        println!("  uid {}{gid}  pipeline {}  {}: {}", line.uid, line.pipeline, line.grant, line.r#use);
    }
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// No core files, and nobody of the same uid may look into this process.
fn harden() -> anyhow::Result<()> {
    use nix::sys::{
        prctl::set_dumpable,
        resource::{Resource, setrlimit},
    };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core files")?;
    set_dumpable(false).context("cannot make the process undumpable")
}

/// The token that the first SIGTERM or SIGINT cancels; a second one ends the process at once.
fn stop_signals() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if again {
                tracing::warn!("told to stop twice; leaving without draining");
                std::process::exit(75);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}

/// Text on a terminal, JSON lines otherwise. The level is `KEYFERRY_LOG`; the libraries that see tokens
/// on the wire stay at warnings whatever it says.
fn log_to_stderr() {
    let wanted = std::env::var("KEYFERRY_LOG").unwrap_or_else(|_| "info".to_owned());
    let quiet = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,reqwest=warn,rustls=warn,vaultrs=warn,rustify=warn";
    let filter = EnvFilter::new(format!("{wanted},{quiet}"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { log.init() } else { log.json().init() }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let of_upstream = |error: &UpstreamError| if error.is_permanent() { 77 } else { 69 };
    if error.is::<ConfigError>() {
        return 78;
    }
    if let Some(error) = error.downcast_ref::<UpstreamError>() {
        return of_upstream(error);
    }
    match error.downcast_ref::<RunError>() {
        Some(RunError::Upstream(error)) => of_upstream(error),
        Some(RunError::Audit(_)) => 73,
        Some(RunError::Socket(keyferry_broker::socket::SocketError::AnotherBroker { .. })) => 75,
        Some(RunError::Socket(_) | RunError::Admin { .. }) => 71,
        Some(RunError::Server(_)) | None => 70,
    }
}
