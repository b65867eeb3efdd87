//! Moves SQL Server tables to Snowflake exactly once, holding only grants that live for minutes.
//!
//! Rows travel [`plan`] → [`extract`] → [`encode`] → [`stage`] → [`commit`] → [`verify`] → [`publish`]; there is
//! no way back. [`pipeline`] wires the stages and owns every capacity.

// Errors here are rare, carry what a reader needs, and are moved a few times at most.
#![allow(clippy::result_large_err)]

pub mod allocator;
pub mod catalog;
pub mod cli;
pub mod codes;
pub mod commit;
pub mod config;
pub mod encode;
pub mod extract;
pub mod fail;
pub mod grants;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod report;
pub mod sandbox;
pub mod shard;
pub mod snowflake;
pub mod source;
pub mod stage;
pub mod tds;
pub mod verify;
pub mod witness;
