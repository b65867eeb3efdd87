//! `brokerctl token`: one token on standard output.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde::Serialize;
use zeroize::Zeroizing;

use crate::{broker::Broker, cli::Output, failure::Failure, held::Held, link::Link};

/// What `token` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArguments {
    /// The grant, as `brokerctl whoami` names it
    #[arg(value_name = "NAME")]
    grant: String,
    /// The token must live at least this long, for example 20m
    #[arg(long, value_name = "TIME", value_parser = crate::link::duration, default_value = "0s")]
    min_ttl: Duration,
    /// Snowflake refused the token of this generation: get another one
    #[arg(long, value_name = "GENERATION")]
    rejected: Option<String>,
    /// The token alone, or JSON with its kind, end and generation
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Print the token even on a terminal
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Printed<'a> {
    token: &'a str,
    kind: &'static str,
    expires_at: String,
    generation: &'a str,
    audit_id: &'a str,
    upstream_down: bool,
}

/// The text to print; it is wiped after that.
pub(crate) async fn token(link: &Link, arguments: &TokenArguments) -> Result<Zeroizing<String>, Failure> {
    // Whoever can read the terminal's scrollback, its recording or a shared screen could use the token for an hour.
    if io::stdout().is_terminal() && !arguments.force {
        return Err(Failure::Usage(
            "standard output is a terminal, where the token would stay readable; pipe it into what needs it, use \
             `brokerctl exec` or `brokerctl watch --file`, or say --force"
                .to_owned(),
        ));
    }
    let mut broker = Broker::connect(link).await?;
    let held = broker.token(&arguments.grant, arguments.min_ttl, arguments.rejected.as_deref()).await?;
    Ok(print(&held, arguments.output))
}

fn print(held: &Held, output: Output) -> Zeroizing<String> {
    Zeroizing::new(match output {
        Output::Text => format!("{}\n", held.text()),
        Output::Json => {
            let printed = Printed {
                token: held.text(),
                kind: held.kind.as_str(),
                expires_at: held.expires(),
                generation: held.generation(),
                audit_id: &held.audit_id,
                upstream_down: held.upstream_down,
            };
            // Strings only: this cannot fail.
            serde_json::to_string(&printed).unwrap_or_default() + "\n"
        }
    })
}
