//! A local SQL Server: it speaks TDS 7.4 and TDS 8 to any client and executes T-SQL with the shared evaluator.
//!
//! It checks what the real server checks (passwords, Kerberos tickets, packet and field lengths) and refuses with
//! the real server's error numbers. Written from MS-TDS; nothing is shared with the loader's reader.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use keyferry_sql::{Database, Dialect};
//! use keyferry_stand_in_sqlserver::{Config, Encrypt, Server, SqlLogin};
//!
//! let database = Database::new(Dialect::SqlServer, "sales");
//! let mut config = Config::new("127.0.0.1:0".parse()?, database);
//! config.encrypt = Encrypt::NotSupported; // or set config.tls
//! config.logins.push(SqlLogin::new("sa", "Local-dev-1"));
//! let server = Server::start(config).await?;
//! println!("listening on {}", server.addr());
//! server.stop().await;
//! # Ok(()) }
//! ```
//!
//! One connection is one task: `prelogin` → `transport` (TLS) → `login` → `requests`, answers leave through
//! `outgoing`. Values become bytes in `types` and `values`, rows in `rows`.

mod answer;
mod bulk;
mod computed;
mod config;
mod connection;
mod faults;
mod gss;
mod login;
mod login7;
mod outgoing;
mod packet;
mod parameters;
mod prelogin;
mod procedures;
mod requests;
mod rows;
mod rpc;
#[cfg(test)]
mod section4;
mod server;
mod tokens;
mod transactions;
mod transport;
mod types;
mod values;

pub use computed::{Answers, Computed, Encoded, MoreRows, encode};
pub use config::{Config, Encrypt, Kerberos, SqlLogin, TlsIdentity};
pub use faults::{Armed, Fault, Faults, When};
pub use server::{Server, StartError, Stats};
