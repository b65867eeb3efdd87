//! The callers of a broker, and the bare echo that it is compared with, each in a process of its own.

mod echo;
mod load;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

pub use echo::serve;
pub use load::token;

/// The policy's pipeline for the callers.
pub const PIPELINE: &str = "bench";

/// How to call.
#[derive(Args, Clone, Debug)]
pub struct Calling {
    /// token, relay or session
    pub call: String,
    /// The socket
    #[arg(long)]
    pub socket: PathBuf,
    /// Who serves it
    #[arg(long)]
    pub server_uid: u32,
    /// Calls that are open at once
    #[arg(long, default_value_t = 64)]
    pub callers: usize,
    /// Connections that these share
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Calls a second that are begun whether or not earlier ones have ended; without it each caller waits for its own
    #[arg(long)]
    pub per_second: Option<u64>,
    /// For how long
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// What the callers found.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Answered {
    /// Calls that were answered.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// From the first call to the last answer.
    pub seconds: f64,
    /// Half of the calls took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub most_ms: f64,
}

/// Calls, and prints one line of JSON.
#[allow(clippy::print_stdout)] // it is what the driver reads
pub async fn call(calling: &Calling) -> Result<()> {
    println!("{}", serde_json::to_string(&load::run(calling).await?)?);
    Ok(())
}
