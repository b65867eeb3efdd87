//! The SQL evaluator that the two database stand-ins share.
//!
//! A [`Database`] is a server: tables as immutable committed versions, locks, grants. A [`Session`] is one
//! connection: it parses a batch in its dialect, binds names to columns, and answers with [`Outcome`]s whose rows
//! are read lazily from a snapshot. Values are exact: 38 digits, the years 1 to 9999 at a nanosecond, offsets,
//! every Unicode scalar, and on the SQL Server side lone surrogates. SQL that it does not know is refused with an
//! error that quotes it.

mod access;
mod bind;
mod calendar;
mod cast;
mod catalog;
mod collation;
mod database;
mod decimal;
mod error;
mod exec;
mod expr;
mod functions;
mod grants;
mod json;
mod keys;
mod locks;
mod outcome;
mod script;
mod session;
mod stage;
mod state;
mod storage;
mod text;
mod types;
mod value;

pub use collation::Collation;
pub use database::{Database, OpenTransaction, Settings};
pub use decimal::{Decimal, Rounding};
pub use error::{Effect, SqlError};
pub use outcome::{Context, Outcome, ResultSet, Rows, Verb};
pub use session::{Identity, Parameter, Session};
pub use stage::{StageReader, StageRequest, StageRow, StageRows};
pub use text::Text;
pub use types::{Column, DataType, Dialect, Length};
pub use value::{DAY_NS, Row, Value, Variant};

/// The text that a cast to the widest text type of the dialect gives; `NULL` is None.
pub fn show(dialect: Dialect, value: &Value, ty: &DataType) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let wide = match dialect {
        Dialect::SqlServer => DataType::NVarChar { length: Length::Max, collation: Collation::default() },
        Dialect::Snowflake => DataType::String { length: DataType::SNOWFLAKE_TEXT },
    };
    // SQL Server: binary as 0x…, dates and times as ISO 8601, all digits of a float and of money.
    let style = match (dialect, ty) {
        (Dialect::SqlServer, ty) if ty.is_binary() => 1,
        (Dialect::SqlServer, DataType::Money | DataType::SmallMoney) => 2,
        (Dialect::SqlServer, DataType::DateTime | DataType::SmallDateTime) => 121,
        _ => 0,
    };
    let cast = cast::Cast { style, ..cast::Cast::explicit(dialect) };
    cast::strings::to_text(&cast, value, ty, &wide).ok().map(|text| text.lossy().into_owned())
}
