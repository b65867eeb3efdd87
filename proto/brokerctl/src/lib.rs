//! The command for workloads other than the loader: dbt, Airflow, a script, a service.
//!
//! It asks the broker for a short-lived token under the caller's own identity and hands it over in the way that the
//! workload understands: printed, in a file that is kept current, or in the environment of a command. It keeps no
//! token anywhere else, and no argument of any process ever holds one.

mod broker;
mod cli;
pub mod codes;
mod exec;
mod failure;
mod held;
mod link;
mod token;
mod watch;
mod whoami;

pub use cli::main;
