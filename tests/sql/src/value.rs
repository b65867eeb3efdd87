//! Values: exact, and the same for both dialects.

use std::sync::Arc;

use crate::{decimal::Decimal, text::Text, types::DataType};

/// Nanoseconds of a day.
pub const DAY_NS: u64 = 86_400_000_000_000;

/// One value. Its type is told by its column; `Value` alone says only the kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// bit, BOOLEAN, and the result of a predicate.
    Bool(bool),
    /// tinyint .. bigint of SQL Server.
    Int(i64),
    /// decimal, money, and every exact number of Snowflake.
    Decimal(Decimal),
    /// real.
    Real(f32),
    /// float, FLOAT.
    Float(f64),
    /// Days since 0001-01-01, proleptic Gregorian.
    Date(i32),
    /// Nanoseconds since midnight.
    Time(u64),
    /// A date and time of day without zone: days since 0001-01-01 and nanoseconds since midnight.
    DateTime {
        /// Days since 0001-01-01.
        days: i32,
        /// Nanoseconds since midnight.
        ns: u64,
    },
    /// An instant in UTC and the offset at which it is shown.
    DateTimeOffset {
        /// Days since 0001-01-01, in UTC.
        days: i32,
        /// Nanoseconds since midnight, in UTC.
        ns: u64,
        /// Minutes east of UTC.
        minutes: i16,
    },
    /// Text; well-formed or, on the SQL Server side, with lone surrogates.
    Text(Text),
    /// Binary.
    Bytes(Arc<[u8]>),
    /// uniqueidentifier, in the order in which its text shows the bytes.
    Uuid([u8; 16]),
    /// VARIANT, OBJECT, ARRAY.
    Variant(Arc<Variant>),
    /// `sql_variant`: a value with its own type.
    Typed(Arc<(DataType, Value)>),
}

/// A semi-structured value. Its scalars keep the exact kind that they had in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Variant {
    /// A scalar; `Value::Null` is JSON's null. Integers are `Value::Int` or `Value::Decimal`.
    Scalar(Value),
    /// An array.
    Array(Vec<Variant>),
    /// An object; names are in the order of the file and looked up exactly.
    Object(Vec<(Arc<str>, Variant)>),
}

/// One row.
pub type Row = Arc<[Value]>;

impl Value {
    /// Text from a string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Text::new(text.as_ref()))
    }

    /// An exact integer as a decimal of scale 0.
    pub fn number(unscaled: i128) -> Self {
        Self::Decimal(Decimal::new(unscaled, 0))
    }

    /// Binary from bytes.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(Arc::from(bytes.as_ref()))
    }

    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}
