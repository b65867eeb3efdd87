//! Other people's clients against the server: tiberius and FreeTDS.

mod faults;
mod freetds;
mod kerberos;
mod logins;
mod raw;
mod statements;
mod support;
mod types;
