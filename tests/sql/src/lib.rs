//! The SQL evaluator that the two database stand-ins share.
//!
//! A [`Database`] is a server: tables as immutable committed versions, locks, grants. A [`Session`] is one
//! connection: it parses a batch in its dialect, binds names to columns, and answers with [`Outcome`]s whose rows
//! are read lazily from a snapshot. Values are exact: 38 digits, the years 1 to 9999 at a nanosecond, offsets,
//! every Unicode scalar, and on the SQL Server side lone surrogates. SQL that it does not know is refused with an
//! error that quotes it.

// A table of functions has one signature for all of them, whatever each needs of it; and a binder's methods
// stay methods, so that they read alike.
#![allow(clippy::unnecessary_wraps, clippy::unused_self, clippy::unused_async, clippy::match_same_arms)]
// The closures of `strict` and the plan's nodes: types that have no better name.
#![allow(clippy::type_complexity, clippy::large_enum_variant, clippy::struct_field_names)]
#![allow(clippy::trivially_copy_pass_by_ref, clippy::needless_pass_by_value, clippy::wrong_self_convention)]
#![allow(clippy::items_after_statements, clippy::many_single_char_names, clippy::should_implement_trait)]
#![allow(clippy::match_wildcard_for_single_variants, clippy::format_collect, clippy::needless_for_each)]
#![allow(clippy::single_match_else, clippy::needless_late_init, clippy::assigning_clones)]

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
pub use session::{CallArgument, Called, Identity, Parameter, Session, Stop};
pub use stage::{StageColumn, StageReader, StageRequest, StageRow, StageRows};
pub use text::Text;
pub use types::{ClrType, Column, DataType, Dialect, Length};
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
