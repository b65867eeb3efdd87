//! A reader of SQL Server's wire, MS-TDS 7.4: PRELOGIN, TLS, LOGIN7 with relayed Kerberos tokens, SQL batches,
//! and result tokens that go straight into Arrow builders.
//!
//! It is a reader, not a driver: no pools, no cursors, no parameters, no cancellation (the connection is
//! dropped instead). Every length that the server sends is bounded, and no byte string makes it panic.

mod client;
mod collation;
mod columns;
mod cursor;
mod error;
mod login;
mod numbers;
mod options;
mod packet;
mod pieces;
mod pin;
mod prelogin;
mod relay;
mod rows;
mod streamed;
mod temporal;
mod text;
mod tls;
mod token;
mod types;
mod wrapped;

pub use client::{Connection, RowStream};
pub use collation::carries_code_page;
pub use error::{ServerError, TdsError};
pub use options::{ConnectOptions, Encrypt, Timeouts, Trust};
pub use relay::{Relay, RelayError, RelayStep};
pub(crate) use rows::Rows;
pub use tls::TlsFailure;
pub use types::ColumnMeta;

#[cfg(test)]
mod tests;
