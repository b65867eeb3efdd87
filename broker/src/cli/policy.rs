//! `broker policy explain`.

use std::process::ExitCode;

use keyferry_broker::{
    config::Config,
    policy::{Question, explain},
};

use super::{Explain, Output};

/// What no caller may have ends with this.
const NOT_ALLOWED: u8 = 77;

/// Prints what policy decides; the exit code says whether anything is allowed.
#[allow(clippy::print_stdout, reason = "the answer is what the command is for")]
pub(crate) fn run(asked: Explain) -> anyhow::Result<ExitCode> {
    let config = Config::load(&asked.config)?;
    let found =
        explain(&config, &Question { caller: asked.caller, pipeline: asked.pipeline, grant: asked.grant });
    match asked.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&found)?),
        Output::Text => print!("{found}"),
    }
    Ok(if found.allowed { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALLOWED) })
}
