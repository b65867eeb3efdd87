//! Arguments, log, printed results and exit codes of the broker's command.

pub(crate) mod audit;
pub(crate) mod policy;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use keyferry_broker::{
    check::{Cause, Report, StepOutcome},
    codes,
    config::{GrantName, PipelineName},
    environment::SecretInEnvironment,
    policy::Described,
};
use keyferry_sandbox::{
    Report as SandboxReport,
    outside::{self, LookError},
};
use tracing_subscriber::EnvFilter;

/// Owns every long-lived secret; serves short-lived grants over a Unix socket.
#[derive(Parser)]
#[command(name = "broker", version, about, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve until SIGTERM or SIGINT, then drain
    #[command(after_help = "Example:\n  broker run --config /etc/keyferry/broker.yaml")]
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ask the broker of this configuration how it is: exit code 0 when it serves everything that policy names
    #[command(after_help = "Example:\n  broker health --config /etc/keyferry/broker.yaml --wait 120s")]
    Health {
        /// The configuration; only `admin.listen` is used
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Ask again for so long before saying no
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
        wait: Duration,
        /// The broker's process: do not wait on when it has ended
        #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
        pid: Option<i32>,
    },
    /// Look at an audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Ask what policy allows
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Make a folder for the socket in a volume that everybody may write, as the root of a pod's emptyDir is
    #[command(after_help = "Example:\n  broker socket-folder /volume/socket --group 10000")]
    SocketFolder {
        /// The folder to make; its parent must be there
        path: PathBuf,
        /// The number of the group that may enter it
        #[arg(long, value_name = "GID")]
        group: Option<u32>,
    },
    /// Validate the configuration, reach every upstream, print what would be served
    ///
    /// Logs in with the `secret_id` once (one with a limited number of uses loses one), but never with a
    /// wrapped one. Safe beside a running broker.
    #[command(after_help = "Example:\n  broker check --config /etc/keyferry/broker.yaml --output json")]
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print what the kernel says of a running process's sandbox, seen from outside
    ///
    /// Reads `/proc` only, and needs no rights. Ends with 0 when every control holds.
    #[command(after_help = "Example:\n  broker selfcheck --pid \"$(pidof broker)\" --output json")]
    Selfcheck {
        /// The process
        #[arg(long, value_name = "PID")]
        pid: u32,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the chain, the numbers and the signed checkpoints of a log, on any machine
    #[command(after_help = "Example:\n  broker audit verify audit.log --key audit.pub --at-least 1042\n\n\
                            Exit codes: 0 as it was written; 65 changed, shortened or put together; 77 signed by somebody else; \
                            75 whole so far, the last lines not signed yet, or no key given; 66 not readable")]
    Verify {
        /// The log
        log: PathBuf,
        /// The public key that checkpoints are signed with (PEM); without it only the chain is checked
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// How many lines are known to have been written, from the metric `keyferry_broker_audit_lines` or the last checkpoint
        /// in the broker's own log
        #[arg(long, value_name = "LINES")]
        at_least: Option<u64>,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what a caller would get, and why; ends with 0 when policy allows what was asked, with 77 when not
    ///
    /// Reads the configuration only: no upstream and no running broker is asked.
    #[command(
        after_help = "Example:\n  broker policy explain --caller uid=10002 --grant snowflake-analytics"
    )]
    Explain(Explain),
}

#[derive(clap::Args)]
pub(crate) struct Explain {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/keyferry/broker.yaml")]
    pub(crate) config: PathBuf,
    /// Who would call: uid=UID[,gid=GID][,service-account=NAMESPACE/NAME]
    #[arg(long, value_name = "CALLER")]
    pub(crate) caller: Described,
    /// The grant; without it, everything that the caller may use
    #[arg(long, value_name = "NAME")]
    pub(crate) grant: Option<GrantName>,
    /// The pipeline; without it, each of the caller's own
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<PipelineName>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    ok
  65   a process does not hold every control of the sandbox; the audit log is not what was written
  66   no such process; the file to verify cannot be read
  69   an upstream is unavailable
  70   internal error
  71   the system refused a socket or an address
  73   the audit log cannot be written
  75   another broker serves here; the end of the audit log is not signed yet
  77   an upstream refused the broker; the audit log was signed by somebody else; policy does not allow what was asked about
  78   the configuration, or a path that it names, is wrong
  130  told to stop twice

A message ends or begins with a code, [B304] for example: docs/errors.md has them all.";

/// Text on a terminal, JSON lines otherwise. The level is `KEYFERRY_LOG`; the libraries that see tokens
/// on the wire stay at warnings whatever it says.
pub(crate) fn log_to_stderr() {
    const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,reqwest=warn,rustls=warn,\
                         vaultrs=warn,rustify=warn";
    let wanted = std::env::var("KEYFERRY_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::new(format!("{wanted},{QUIET}"));
    // A log that cannot be written (its disk is full) must not end the thread that wanted to write it.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if std::io::stderr().is_terminal() { log.init() } else { log.json().init() }
}

/// Prints what a check found.
#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
pub(crate) fn print(report: &Report, output: Output) -> anyhow::Result<()> {
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
        let who = [
            line.uid.map(|uid| format!("uid {uid}")),
            line.gid.map(|gid| format!("gid {gid}")),
            line.service_account.as_ref().map(|account| format!("service account {account}")),
        ];
        let who = who.into_iter().flatten().collect::<Vec<_>>().join(" ");
        println!("  {who}  pipeline {}  {}: {}", line.pipeline, line.grant, line.r#use);
    }
    Ok(())
}

pub(crate) fn exit_code_of_check(report: &Report) -> ExitCode {
    ExitCode::from(match report.cause {
        None => 0,
        Some(Cause::Local) => 78,
        Some(Cause::Unavailable) => 69,
        Some(Cause::Refused) => 77,
    })
}

/// Prints what the kernel says of a process; the exit code says whether every control holds.
#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
pub(crate) fn selfcheck(pid: u32, output: Output) -> anyhow::Result<ExitCode> {
    let findings = outside::look(pid)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        Output::Text => print!("{findings}"),
    }
    Ok(ExitCode::from(if findings.holds { 0 } else { 65 }))
}

/// One line about the sandbox; a warning where a step is missing.
pub(crate) fn tell(report: &SandboxReport) {
    if report.is_whole() {
        tracing::info!(steps = %report, "sandbox: every step is active");
    } else {
        tracing::warn!(steps = %report, "sandbox: NOT every step is active");
    }
}

/// Says what ended the command, with its code, and gives the exit code.
#[allow(clippy::print_stderr, reason = "the last word of a command is for whoever started it")]
pub(crate) fn complain(error: &anyhow::Error) -> ExitCode {
    let entry = entry(error);
    eprintln!("broker: error[{}]: {error:#}", entry.code);
    ExitCode::from(entry.exit)
}

fn entry(error: &anyhow::Error) -> &'static codes::Entry {
    let config = error.downcast_ref().map(codes::of_config);
    let upstream = || error.downcast_ref().map(codes::of_upstream);
    let run = || error.downcast_ref().map(codes::of_run);
    let environment = error.is::<SecretInEnvironment>().then_some(&codes::SECRET_IN_ENVIRONMENT);
    let sandbox = || error.downcast_ref().map(codes::of_sandbox);
    let look = || error.downcast_ref::<LookError>().map(|_| &codes::NO_SUCH_PROCESS);
    let probe = || error.downcast_ref().map(codes::of_probe);
    let audit = || error.downcast_ref().map(audit::Refused::entry);
    let asked = || look().or_else(probe).or_else(audit);
    let started = || environment.or_else(upstream).or_else(run).or_else(sandbox);
    config.or_else(started).or_else(asked).unwrap_or(&codes::INTERNAL)
}
