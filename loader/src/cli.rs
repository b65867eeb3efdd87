//! The command line: arguments in, exit code out. What a user reads goes to stdout, logs go to stderr.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Parser, Subcommand, ValueEnum};
use keyferry_sandbox::{Report as SandboxReport, outside};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    allocator,
    codes::{self, Entry},
    config::Pipeline,
    ledger::RunStatus,
    metrics::{Ended, MetricsFile},
    pipeline::{self, Failure},
    plan::print::aligned,
    report::grouped,
    sandbox,
    shard::Shard,
    verify::Level,
};

const EXAMPLE: &str = "\
Example:
  loader plan pipeline.yaml                  what would be done, in full
  loader run pipeline.yaml                   do it; run again after any crash
  loader verify pipeline.yaml                compare source and target again
  loader status pipeline.yaml --output json  what the ledger says
  loader selfcheck --pid 4711                what the kernel says of a running loader's sandbox

Exit codes:
   0  done
  64  usage
  65  source and target differ, a value or a column cannot be carried, or a process misses a control of the sandbox
  66  file, table or process not found
  69  a server cannot be reached
  70  a fault in the loader
  75  try again
  77  permission
  78  configuration
 130  interrupted

A message begins with a code, error[L305] for example: docs/errors.md has them all.";

/// Moves tables from SQL Server to Snowflake, exactly once, holding only short-lived grants.
#[derive(Debug, Parser)]
#[command(name = "loader", version, after_help = EXAMPLE)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Work(Work),
    /// Print what the kernel says of a running process's sandbox, seen from outside. Ends with 0 when every control holds.
    #[command(after_help = "Example: loader selfcheck --pid \"$(pidof loader)\" --output json")]
    Selfcheck(Look),
}

/// What is done with a pipeline.
#[derive(Debug, Subcommand)]
enum Work {
    /// Print what a run would do: columns, chunks, statements, privileges. Changes nothing.
    #[command(
        after_help = "Example: loader plan pipeline.yaml --output json | jq '.tables[].chunks | length'"
    )]
    Plan(Common),
    /// Plan, move, verify, publish. Continues an interrupted run by itself.
    #[command(after_help = "Example: loader run pipeline.yaml --level hashes")]
    Run(RunArguments),
    /// Read the source again and compare it with the target. Changes nothing.
    #[command(after_help = "Example: loader verify pipeline.yaml --level counts")]
    Verify(Common),
    /// Print what the ledger says of this pipeline's runs.
    #[command(after_help = "Example: loader status pipeline.yaml --output json")]
    Status(Common),
}

#[derive(Debug, clap::Args)]
struct Look {
    /// The process.
    #[arg(long, value_name = "PID")]
    pid: u32,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The pipeline file.
    #[arg(value_name = "PIPELINE")]
    file: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
    /// How much is compared; without it, what the file says under `verify`, or `sums`.
    #[arg(long, value_enum)]
    level: Option<LevelArgument>,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    #[command(flatten)]
    common: Common,
    /// Which of several processes of one run this is, INDEX/COUNT from 0: it begins with its share of the chunks, then
    /// claims what is left. By default what JOB_COMPLETION_INDEX and JOB_COMPLETION_COUNT say, or 0/1.
    #[arg(long, value_name = "INDEX/COUNT")]
    shard: Option<Shard>,
    /// A file that says how the run ended, in the text format of Prometheus, for a collector that reads files.
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelArgument {
    /// Rows.
    Counts,
    /// Rows, values that are not NULL, and exact sums of every column.
    Sums,
    /// Also a sum of digests of every text and binary value (SQL Server 2016 and later).
    Hashes,
}

const USAGE: u8 = 64;
const MISSING: u8 = 65;
const SOFTWARE: u8 = 70;
/// Units and containers limit the number of threads; encoders and readers of the spool have their own, as many as
/// `limits.connections` and `limits.committers` say.
const MOST_WORKERS: usize = 16;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wanted = !error.use_stderr();
            let _ = error.print();
            return if wanted { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let work = match arguments.command {
        Command::Work(work) => work,
        Command::Selfcheck(look) => return selfcheck(&look),
    };
    if matches!(work, Work::Run(_) | Work::Verify(_)) {
        // These hold rows. Before any thread, and before anything is said: it begins anew.
        allocator::settle();
    }
    init_logs();
    let (pipeline, metrics) = match confined(&work) {
        Ok(both) => both,
        Err(error) => return complain(&error.to_string(), error.entry()),
    };
    // The one TLS provider of the process. A second installation is refused and changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(processors.min(MOST_WORKERS)).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), &codes::NO_RUNTIME),
    };
    runtime.block_on(execute(work, &pipeline, metrics.as_ref()))
}

/// Reads the file, then enters the sandbox: there is one thread, and only the metrics file, which the sandbox would not let
/// it open, is open.
fn confined(work: &Work) -> Result<(Pipeline, Option<MetricsFile>), Failure> {
    let pipeline = Pipeline::read(&work.common().file)?;
    let begun = sandbox::begin(&pipeline)?;
    let metrics = work.metrics_file().map(MetricsFile::open).transpose().map_err(Failure::MetricsFile)?;
    tell(&sandbox::confine(begun, &pipeline)?);
    Ok((pipeline, metrics))
}

/// One line about the sandbox; a warning where a step is missing.
fn tell(report: &SandboxReport) {
    if report.is_whole() {
        tracing::info!(steps = %report, "sandbox: every step is active");
    } else {
        tracing::warn!(steps = %report, "sandbox: NOT every step is active");
    }
}

fn selfcheck(look: &Look) -> ExitCode {
    match outside::look(look.pid) {
        Err(error) => complain(&error.to_string(), &codes::NO_SUCH_PROCESS),
        Ok(findings) => {
            let printed = print(&render(look.output, &findings, ToString::to_string));
            if findings.holds { printed } else { ExitCode::from(MISSING) }
        }
    }
}

impl Work {
    fn common(&self) -> &Common {
        let (Self::Plan(common)
        | Self::Run(RunArguments { common, .. })
        | Self::Verify(common)
        | Self::Status(common)) = self;
        common
    }

    fn metrics_file(&self) -> Option<&Path> {
        match self {
            Self::Run(RunArguments { metrics_file, .. }) => metrics_file.as_deref(),
            _ => None,
        }
    }
}

async fn execute(work: Work, pipeline: &Pipeline, metrics: Option<&MetricsFile>) -> ExitCode {
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(await_signal(shutdown.clone()));
    let outcome = Box::pin(dispatch(work, pipeline, metrics, &shutdown)).await;
    signals.abort();
    let _ = signals.await;
    match outcome {
        Ok(text) => print(&text),
        Err(error) => complain(&error.to_string(), error.entry()),
    }
}

async fn dispatch(
    work: Work,
    pipeline: &Pipeline,
    metrics: Option<&MetricsFile>,
    shutdown: &CancellationToken,
) -> Result<String, Failure> {
    let chosen = |common: &Common| {
        let level = common.level.map_or(pipeline.verify, |level| match level {
            LevelArgument::Counts => Level::Counts,
            LevelArgument::Sums => Level::Sums,
            LevelArgument::Hashes => Level::Hashes,
        });
        (level, common.output)
    };
    Ok(match work {
        Work::Plan(common) => {
            let (level, output) = chosen(&common);
            render(output, &pipeline::plan(pipeline, level, shutdown).await?, ToString::to_string)
        }
        Work::Run(RunArguments { common, shard, .. }) => {
            let (level, output) = chosen(&common);
            let shard = match shard {
                Some(shard) => shard,
                None => Shard::from_environment(|name| std::env::var(name).ok())?.unwrap_or_default(),
            };
            let started = Instant::now();
            let outcome = Box::pin(pipeline::run(pipeline, shard, level, shutdown)).await;
            if let Some(file) = metrics {
                let outcome = outcome.as_ref().map_err(Failure::entry);
                Ended { pipeline: &pipeline.name, shard, took: started.elapsed(), outcome }.write(file);
            }
            let report = outcome?;
            render(output, &report, ToString::to_string)
        }
        Work::Verify(common) => {
            let (level, output) = chosen(&common);
            let report = pipeline::verify(pipeline, level, shutdown).await?;
            render(output, &report, |report| format!("source and target agree\n\n{report}"))
        }
        Work::Status(common) => {
            let runs = pipeline::status(pipeline, shutdown).await?;
            render(common.output, &runs, |runs| status_text(&pipeline.name, runs))
        }
    })
}

fn render<T: Serialize>(output: Output, value: &T, human: impl FnOnce(&T) -> String) -> String {
    match output {
        Output::Human => human(value),
        // Numbers, strings and lists only: this cannot fail.
        Output::Json => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
    }
}

fn status_text(pipeline: &str, runs: &[RunStatus]) -> String {
    if runs.is_empty() {
        return format!("the ledger knows no run of {pipeline}; start one with `loader run`\n");
    }
    let header = ["table", "run", "state", "chunks", "rows", "last commit (UTC)", "held by"];
    let mut cells = vec![header.map(String::from)];
    for run in runs {
        cells.push([
            run.table.clone(),
            run.run_id.clone(),
            run.state.clone(),
            run.chunks.to_string(),
            grouped(run.rows),
            run.committed_at.clone().unwrap_or_default(),
            match (&run.owner, &run.lease_until) {
                (Some(owner), Some(until)) => format!("{owner} until {until}"),
                (owner, _) => owner.clone().unwrap_or_default(),
            },
        ]);
    }
    aligned(&cells).join("\n") + "\n"
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough, such as `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(SOFTWARE),
    }
}

fn complain(message: &str, entry: &Entry) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "error[{}]: {message}", entry.code);
    ExitCode::from(entry.exit)
}

/// Ctrl-C or SIGTERM cancels; the second one ends the process at once, as nothing depends on a clean end.
async fn await_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be watched; Ctrl-C will end the process without a word");
        return;
    };
    let either = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let mut either = either;
    either().await;
    tracing::info!("stopping; once more to stop at once");
    shutdown.cancel();
    either().await;
    std::process::exit(130);
}

/// JSON lines for a machine, plain lines for a person; `RUST_LOG` chooses what.
fn init_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A standard error that cannot be written (a full disk) must not end a thread.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let outcome = if io::stderr().is_terminal() {
        logs.without_time().with_target(false).try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
    // A subscriber that is there already is as good.
    let _ = outcome;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_missing_file_is_no_input() {
        let arguments = Arguments::try_parse_from(["loader", "plan", "/nowhere.yaml"]).unwrap();
        let Command::Work(work) = arguments.command else { panic!("a pipeline's command") };
        match confined(&work) {
            Err(error) => assert_eq!(error.exit_code(), 66),
            Ok(_) => panic!("refused"),
        }
    }

    #[test]
    fn an_unknown_run_is_said_plainly() {
        assert_eq!(
            status_text("sales", &[]),
            "the ledger knows no run of sales; start one with `loader run`\n"
        );
    }
}
