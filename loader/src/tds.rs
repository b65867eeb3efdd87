//! A reader of SQL Server's wire, MS-TDS 7.4: PRELOGIN, TLS, LOGIN7 with relayed Kerberos tokens, SQL batches,
//! and result tokens that go straight into Arrow builders.
//!
//! It is a reader, not a driver: no pools, no cursors, no parameters, no cancellation (the connection is
//! dropped instead). Every length that the server sends is bounded, and no byte string makes it panic.

mod client;
mod error;
mod options;
mod relay;
mod tls;
mod types;

pub use client::{Connection, RowStream};
pub use error::{ServerError, TdsError};
pub use options::{ConnectOptions, Encrypt, Timeouts, Trust};
pub use relay::{Relay, RelayError, RelayStep};
pub use tls::TlsFailure;
pub use types::ColumnMeta;
