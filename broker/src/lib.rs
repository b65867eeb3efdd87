//! The broker: owns every long-lived secret and serves short-lived grants over a Unix socket.

pub mod audit;
pub mod caller;
mod clock;
pub mod config;
pub mod grants;
pub mod issuer;
pub mod limits;
pub mod metrics;
pub mod policy;
pub mod renew;
pub mod schedule;
pub mod socket;
pub mod upstream;
