//! The broker: owns every long-lived secret and serves short-lived grants over a Unix socket.
//!
//! Credentials travel one way: [`upstream`] (Vault, KDC, Entra, Snowflake) → [`renew`] → [`grants`].
//! Requests travel the other: [`socket`] → [`caller`] → [`policy`] → [`grants`] → [`audit`] → [`rpc`].
//! [`run()`] starts all of it, and takes it down in the opposite order.

pub mod admin;
pub mod audit;
pub mod caller;
pub mod check;
mod clock;
pub mod codes;
pub mod config;
pub mod environment;
pub mod events;
pub mod grants;
pub mod issuer;
pub mod limits;
pub mod metrics;
pub mod policy;
pub mod probe;
mod reload;
pub mod renew;
pub mod rpc;
pub mod run;
pub mod sandbox;
pub mod schedule;
pub mod service_account;
pub mod socket;
#[cfg(test)]
mod testing;
pub mod upstream;

pub use self::run::{Prepared, RunError, prepare, run};
