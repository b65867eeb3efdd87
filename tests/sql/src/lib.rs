//! The SQL evaluator that the two database stand-ins share.
//!
//! A [`Database`] is a server: tables as immutable committed versions, locks, grants. A [`Session`] is one
//! connection: it parses a batch in its dialect, binds names to columns, and answers with [`Outcome`]s whose rows
//! are read lazily from a snapshot. Values are exact: 38 digits, the years 1 to 9999 at a nanosecond, offsets,
//! every Unicode scalar, and on the SQL Server side lone surrogates. SQL that it does not know is refused with an
//! error that quotes it.

mod collation;
mod database;
mod decimal;
mod error;
mod outcome;
mod session;
mod stage;
mod text;
mod types;
mod value;

pub use collation::Collation;
pub use database::{Database, Settings};
pub use decimal::{Decimal, Rounding};
pub use error::{Effect, SqlError};
pub use outcome::{Context, Outcome, ResultSet, Rows, Verb};
pub use session::{Identity, Parameter, Session};
pub use stage::{StageReader, StageRequest, StageRow, StageRows};
pub use text::Text;
pub use types::{Column, DataType, Dialect, Length};
pub use value::{DAY_NS, Row, Value, Variant};
