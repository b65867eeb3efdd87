//! The command line: arguments in, exit code out. Results go to standard output, everything else to standard error.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    broker::Broker,
    exec::{self, ExecArguments},
    failure::Failure,
    link::{Link, LinkArguments},
    token::{self, TokenArguments},
    watch::{self, WatchArguments},
    whoami,
};

const EXAMPLES: &str = "\
Examples:
  export KEYFERRY_SERVER_UID=10001                   the uid that the broker runs as
  brokerctl whoami                                   what this user may ask for
  brokerctl token reporting | some-program           one token, printed
  brokerctl watch reporting --file /run/me/token     a file that always holds a valid token
  brokerctl exec reporting -- dbt run                a command with token, account and user in its environment

Exit codes:
    0  done
   64  wrong usage
   69  the broker cannot be reached
   70  the broker's answer makes no sense
   71  the system refused something
   73  the token's file cannot be written
   74  standard output cannot be written
   75  something that the broker needs is down, or this user asks too much: try again later
   77  not permitted: by policy, by an upstream, or somebody else serves the socket
   78  the socket's path is something else
  126  the command cannot be run
  127  the command is not found
  130  interrupted
With `exec` every other exit code is the command's own; 128 + n when signal n ended it.

A message begins with a code, error[C209] for example: docs/errors.md has them all.";

/// Gets short-lived tokens from the Keyferry broker, for any workload, under its own identity.
#[derive(Debug, Parser)]
#[command(name = "brokerctl", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    link: LinkArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how the broker sees this user and which grants it may ask for
    #[command(after_help = "Example: brokerctl whoami --output json | jq -r '.grants[].grant'")]
    Whoami {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print one token
    #[command(
        after_help = "Example: curl -H \"Authorization: Bearer $(brokerctl token reporting --min-ttl 10m)\" ..."
    )]
    Token(TokenArguments),
    /// Keep a file that holds a valid token, until told to stop
    #[command(after_help = watch::EXAMPLES)]
    Watch(WatchArguments),
    /// Run a command that gets the token by its environment
    #[command(after_help = exec::EXAMPLES)]
    Exec(ExecArguments),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wanted = !error.use_stderr();
            // Nothing is left to say where that cannot be written.
            let _ = error.print();
            return if wanted { ExitCode::SUCCESS } else { ExitCode::from(64) };
        }
    };
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Nothing is left to say where that cannot be written.
            let _ = writeln!(io::stderr(), "error[{}]: {failure}", failure.entry().code);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<u8, Failure> {
    // No other process of this user may read the token out of this one's memory.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|e| Failure::System { attempted: "make the process undumpable", source: e.into() })?;
    let link = Link::new(arguments.link, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { attempted: "start the runtime", source })?;
    match arguments.command {
        Command::Whoami { output } => {
            let answer = runtime.block_on(async { Broker::connect(&link).await?.whoami().await })?;
            print(&whoami::print(&answer, &link, output))
        }
        Command::Token(arguments) => print(&runtime.block_on(token::token(&link, &arguments))?),
        Command::Watch(arguments) => runtime.block_on(watch::watch(&link, &arguments)),
        Command::Exec(arguments) => exec::exec(&runtime, &link, &arguments),
    }
}

fn print(text: &str) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)?;
    Ok(0)
}

/// One line on standard error. A closed one changes nothing.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "brokerctl: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_what_the_examples_say() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
        for line in EXAMPLES.lines().filter_map(|line| line.strip_prefix("  brokerctl ")) {
            let words = line.split("   ").next().unwrap_or_default().split(" | ").next().unwrap_or_default();
            assert!(parse(&format!("brokerctl {words}")).is_ok(), "{words}");
        }
    }

    #[test]
    fn options_of_the_socket_stand_before_or_after_the_subcommand() {
        for line in [
            "brokerctl --server-uid 7 token x --min-ttl 5m",
            "brokerctl token --min-ttl 5m --server-uid 7 x",
            "brokerctl exec --server-uid 7 x -- env --server-uid 8",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        assert!(parse("brokerctl exec x env").is_err(), "a command stands behind `--`");
        assert!(parse("brokerctl watch x").is_err(), "a watch needs its file");
        assert!(parse("brokerctl watch x --file t --mode 0644").is_err(), "others may never read it");
    }
}
