//! The command line: arguments in, exit code out. What a user reads goes to stdout, logs go to stderr.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    allocator,
    codes::{self, Entry},
    config::Pipeline,
    ledger::RunStatus,
    pipeline::{self, Failure},
    plan::print::aligned,
    report::grouped,
    shard::Shard,
    verify::Level,
};

const EXAMPLE: &str = "\
Example:
  loader plan pipeline.yaml                  what would be done, in full
  loader run pipeline.yaml                   do it; run again after any crash
  loader verify pipeline.yaml                compare source and target again
  loader status pipeline.yaml --output json  what the ledger says

Exit codes:
   0  done
  64  usage
  65  source and target differ, or a value or a column cannot be carried
  66  file or table not found
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
const SOFTWARE: u8 = 70;

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
    if matches!(arguments.command, Command::Run(_) | Command::Verify(_)) {
        // These hold rows. Before any thread, and before anything is said: it begins anew.
        allocator::settle();
    }
    init_logs();
    // The one TLS provider of the process. A second installation is refused and changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), &codes::NO_RUNTIME),
    };
    runtime.block_on(execute(arguments.command))
}

async fn execute(command: Command) -> ExitCode {
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(await_signal(shutdown.clone()));
    let outcome = Box::pin(dispatch(command, &shutdown)).await;
    signals.abort();
    let _ = signals.await;
    match outcome {
        Ok(text) => print(&text),
        Err(error) => complain(&error.to_string(), error.entry()),
    }
}

async fn dispatch(command: Command, shutdown: &CancellationToken) -> Result<String, Failure> {
    let (Command::Plan(common)
    | Command::Run(RunArguments { common, .. })
    | Command::Verify(common)
    | Command::Status(common)) = &command;
    let pipeline = Pipeline::read(&common.file)?;
    let level = common.level.map_or(pipeline.verify, |level| match level {
        LevelArgument::Counts => Level::Counts,
        LevelArgument::Sums => Level::Sums,
        LevelArgument::Hashes => Level::Hashes,
    });
    let output = common.output;
    Ok(match command {
        Command::Plan(_) => {
            render(output, &pipeline::plan(&pipeline, level, shutdown).await?, ToString::to_string)
        }
        Command::Run(RunArguments { shard, .. }) => {
            let shard = match shard {
                Some(shard) => shard,
                None => Shard::from_environment(|name| std::env::var(name).ok())?.unwrap_or_default(),
            };
            let report = Box::pin(pipeline::run(&pipeline, shard, level, shutdown)).await?;
            render(output, &report, ToString::to_string)
        }
        Command::Verify(_) => {
            let report = pipeline::verify(&pipeline, level, shutdown).await?;
            render(output, &report, |report| format!("source and target agree\n\n{report}"))
        }
        Command::Status(_) => {
            let runs = pipeline::status(&pipeline, shutdown).await?;
            render(output, &runs, |runs| status_text(&pipeline.name, runs))
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

    #[tokio::test]
    async fn a_missing_file_is_no_input() {
        let arguments = Arguments::try_parse_from(["loader", "plan", "/nowhere.yaml"]).unwrap();
        match Box::pin(dispatch(arguments.command, &CancellationToken::new())).await {
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
