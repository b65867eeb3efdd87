//! Other people's clients against the server: `tiberius`, and `tsql` of FreeTDS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures,
    clippy::doc_markdown,
    reason = "a test may panic, and the driver's futures are large"
)]

mod faults;
mod freetds;
mod kerberos;
mod logins;
mod raw;
mod statements;
mod support;
mod types;
