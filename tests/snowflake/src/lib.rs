//! A local Snowflake for tests and the demo: the HTTPS wire of the service and an S3-kind object store for its
//! internal stages, over the shared SQL evaluator `keyferry-sql`.
//!
//! It refuses what the real service refuses. Logins are checked against the issuer's published keys, session tokens
//! expire, stage credentials are scoped to one prefix and expire too, staged files are decrypted with the key that
//! was handed out for them, and SQL is executed, not recognised.
//!
//! A test starts one with [`Server::start`]; [`Handle`] holds the addresses, the counters and the fault switches.
//!
//! | module | what it does |
//! | --- | --- |
//! | `config` | what a test states before the start |
//! | `server`, `http` | listeners, TLS, request and reply bodies |
//! | `route` | which endpoint answers which path |
//! | `login`, `oauth`, `keypair` | who may log in |
//! | `session` | tokens, renewal, expiry, idle transactions |
//! | `parameters` | session parameters as drivers are told of them |
//! | `query`, `prepare`, `statement` | one statement from request to reply, polling, repeats, cancellation |
//! | `results` | values as the drivers read them |
//! | `stages`, `transfer` | stages and the replies to PUT and GET |
//! | `objects` | the object store: signatures, multipart, ranges |
//! | `copy` | COPY INTO: decrypt, read, convert, append, remember |
//! | `faults`, `stats` | switches and counters |

mod config;
mod copy;
mod counting;
mod crypt;
mod faults;
mod http;
mod keypair;
mod lexer;
mod login;
mod oauth;
mod objects;
mod parameters;
mod prepare;
mod query;
mod reply;
mod results;
mod route;
mod server;
mod session;
mod stages;
mod statement;
mod stats;
mod transfer;

pub use config::{AnyRole, Config, KeyPair, LoadHistory, Polling, SecurityIntegration, StageKey, User};
pub use counting::{Counted, Counting};
pub use faults::{Effect, Fault, FaultId, Faults, Trigger};
pub use server::{Handle, Server, StartError};
pub use stats::{Snapshot, Stats};
