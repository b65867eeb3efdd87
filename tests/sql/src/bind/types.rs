//! Type names of both dialects, and the common type of two expressions.

use crate::{
    bind::Binder,
    collation::Collation,
    error::SqlError,
    types::{ClrType, DataType, Dialect, Length},
};

impl Binder<'_> {
    /// The type that a declaration names, as in `decimal(10,2)` or `TIMESTAMP_NTZ(9)`.
    pub(crate) fn data_type(&self, ty: &sqlparser::ast::DataType) -> Result<DataType, SqlError> {
        resolve(self.dialect(), &ty.to_string(), self.env.db.settings().collation)
    }
}

/// Reads a type's text.
pub(crate) fn resolve(dialect: Dialect, text: &str, collation: Collation) -> Result<DataType, SqlError> {
    let upper = text.replace(['[', ']', '"'], "").to_uppercase();
    let (head, rest) = upper.split_once('(').unwrap_or((&upper, ""));
    let (arguments, tail) = rest.split_once(')').unwrap_or((rest, ""));
    let name = format!("{} {}", head.trim(), tail.trim());
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let unknown = || match dialect {
        Dialect::SqlServer => SqlError::mssql(243, format!("Type {text} is not a defined system type.")),
        Dialect::Snowflake => SqlError::snowflake(
            2040,
            "42601",
            format!("SQL compilation error:\nUnsupported data type '{text}'."),
        ),
    };
    let number =
        |at: usize| arguments.get(at).map(|part| part.parse::<u32>().map_err(|_| unknown())).transpose();
    match dialect {
        Dialect::SqlServer => {
            mssql(name.trim(), number(0), &number, &arguments, collation).ok_or_else(unknown)?
        }
        Dialect::Snowflake => snowflake(name.trim(), &number).ok_or_else(unknown)?,
    }
}

type Argument = Result<Option<u32>, SqlError>;

fn mssql(
    name: &str,
    first: Argument,
    number: &impl Fn(usize) -> Argument,
    arguments: &[&str],
    collation: Collation,
) -> Option<Result<DataType, SqlError>> {
    let max = arguments.first() == Some(&"MAX");
    let first = if max { Ok(None) } else { first };
    let sized = |default: u16, limit: u32| -> Result<u16, SqlError> {
        match first.clone()? {
            None => Ok(default),
            Some(0) => Err(SqlError::mssql(1001, "Line 1: Length or precision specification 0 is invalid.")),
            Some(length) if length > limit => Err(SqlError::mssql(
                131,
                format!(
                    "The size ({length}) given to the type '{}' exceeds the maximum allowed for any data type ({limit}).",
                    name.to_lowercase()
                ),
            )),
            Some(length) => Ok(length as u16),
        }
    };
    let length = |limit: u32| if max { Ok(Length::Max) } else { sized(1, limit).map(Length::Fixed) };
    let scale = |default: u32| -> Result<u8, SqlError> {
        match first.clone()?.unwrap_or(default) {
            scale @ 0..=7 => Ok(scale as u8),
            scale => Err(SqlError::mssql(1002, format!("Line 1: Specified scale {scale} is invalid."))),
        }
    };
    Some(match name {
        "BIT" | "BOOLEAN" | "BOOL" => Ok(DataType::Bit),
        "TINYINT" => Ok(DataType::TinyInt),
        "SMALLINT" => Ok(DataType::SmallInt),
        "INT" | "INTEGER" => Ok(DataType::Int),
        "BIGINT" => Ok(DataType::BigInt),
        "DECIMAL" | "NUMERIC" | "DEC" => (|| {
            let precision = first.clone()?.unwrap_or(18);
            let scale = number(1)?.unwrap_or(0);
            if precision == 0 || precision > 38 {
                return Err(SqlError::mssql(
                    2750,
                    format!(
                        "Column or parameter #1: Specified column precision {precision} is greater than the maximum precision of 38."
                    ),
                ));
            }
            if scale > precision {
                return Err(SqlError::mssql(192, "The scale must be less than or equal to the precision."));
            }
            Ok(DataType::Decimal { precision: precision as u8, scale: scale as u8 })
        })(),
        "MONEY" => Ok(DataType::Money),
        "SMALLMONEY" => Ok(DataType::SmallMoney),
        "REAL" => Ok(DataType::Real),
        "FLOAT" | "DOUBLE PRECISION" => match first {
            Ok(Some(1..=24)) => Ok(DataType::Real),
            other => other.map(|_| DataType::Float),
        },
        "DATE" => Ok(DataType::Date),
        "TIME" => scale(7).map(|scale| DataType::Time { scale }),
        "SMALLDATETIME" => Ok(DataType::SmallDateTime),
        "DATETIME" => Ok(DataType::DateTime),
        "DATETIME2" => scale(7).map(|scale| DataType::DateTime2 { scale }),
        "DATETIMEOFFSET" => scale(7).map(|scale| DataType::DateTimeOffset { scale }),
        "CHAR" | "CHARACTER" => sized(1, 8000).map(|length| DataType::Char { length, collation }),
        "VARCHAR" | "CHAR VARYING" | "CHARACTER VARYING" => {
            length(8000).map(|length| DataType::VarChar { length, collation })
        }
        "NCHAR" | "NATIONAL CHAR" => sized(1, 4000).map(|length| DataType::NChar { length, collation }),
        "NVARCHAR" | "NATIONAL CHARACTER VARYING" => {
            length(4000).map(|length| DataType::NVarChar { length, collation })
        }
        "SYSNAME" => Ok(DataType::NVarChar { length: Length::Fixed(128), collation }),
        "TEXT" => Ok(DataType::Text { collation }),
        "NTEXT" => Ok(DataType::NText { collation }),
        "BINARY" => sized(1, 8000).map(|length| DataType::Binary { length }),
        "VARBINARY" => length(8000).map(|length| DataType::VarBinary { length }),
        "IMAGE" => Ok(DataType::Image),
        "ROWVERSION" | "TIMESTAMP" => Ok(DataType::RowVersion),
        "UNIQUEIDENTIFIER" | "UUID" => Ok(DataType::UniqueIdentifier),
        "XML" => Ok(DataType::Xml),
        "SQL_VARIANT" => Ok(DataType::SqlVariant),
        "HIERARCHYID" => Ok(DataType::Clr(ClrType::HierarchyId)),
        "GEOGRAPHY" => Ok(DataType::Clr(ClrType::Geography)),
        "GEOMETRY" => Ok(DataType::Clr(ClrType::Geometry)),
        _ => return None,
    })
}

fn snowflake(name: &str, number: &impl Fn(usize) -> Argument) -> Option<Result<DataType, SqlError>> {
    let name = name.replace(" WITHOUT TIME ZONE", "").replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMP_TZ");
    let text = |default: u32| number(0).map(|length| DataType::String { length: length.unwrap_or(default) });
    let scale = || -> Result<u8, SqlError> {
        let scale = number(0)?.unwrap_or(9);
        u8::try_from(scale).ok().filter(|scale| *scale <= 9).ok_or_else(|| {
            SqlError::snowflake(
                2041,
                "42601",
                format!("SQL compilation error:\nInvalid precision {scale}. Must be between 0 and 9."),
            )
        })
    };
    Some(match name.as_str() {
        "NUMBER" | "DECIMAL" | "NUMERIC" | "DEC" => (|| {
            let (precision, scale) = (number(0)?.unwrap_or(38), number(1)?.unwrap_or(0));
            if !(1..=38).contains(&precision) || scale > precision || scale > 37 {
                return Err(SqlError::snowflake(
                    2,
                    "42601",
                    format!(
                        "SQL compilation error:\ninvalid number type NUMBER({precision},{scale}): precision 1 to 38, scale 0 to 37"
                    ),
                ));
            }
            Ok(DataType::Number { precision: precision as u8, scale: scale as u8 })
        })(),
        "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT" | "BYTEINT" => {
            Ok(DataType::Number { precision: 38, scale: 0 })
        }
        "FLOAT" | "FLOAT4" | "FLOAT8" | "DOUBLE" | "DOUBLE PRECISION" | "REAL" => Ok(DataType::Double),
        "BOOLEAN" | "BOOL" => Ok(DataType::Boolean),
        "VARCHAR" | "STRING" | "TEXT" | "NVARCHAR" | "NVARCHAR2" | "CHAR VARYING" | "CHARACTER VARYING" => {
            text(DataType::SNOWFLAKE_DEFAULT_TEXT)
        }
        "CHAR" | "CHARACTER" | "NCHAR" => text(1),
        "BINARY" | "VARBINARY" => number(0)
            .map(|length| DataType::Bytes { length: length.unwrap_or(DataType::SNOWFLAKE_DEFAULT_BYTES) }),
        "DATE" => Ok(DataType::Date),
        "TIME" => scale().map(|scale| DataType::Time { scale }),
        "DATETIME" | "TIMESTAMP" | "TIMESTAMP_NTZ" | "TIMESTAMPNTZ" => {
            scale().map(|scale| DataType::TimestampNtz { scale })
        }
        "TIMESTAMP_LTZ" | "TIMESTAMPLTZ" => scale().map(|scale| DataType::TimestampLtz { scale }),
        "TIMESTAMP_TZ" | "TIMESTAMPTZ" => scale().map(|scale| DataType::TimestampTz { scale }),
        "VARIANT" => Ok(DataType::Variant),
        "OBJECT" => Ok(DataType::Object),
        "ARRAY" => Ok(DataType::Array),
        _ => return None,
    })
}

/// SQL Server's data type precedence; the higher one wins.
fn rank(ty: &DataType) -> u8 {
    match ty {
        DataType::Null => 0,
        DataType::Binary { .. } => 1,
        DataType::VarBinary { .. } | DataType::Image | DataType::RowVersion | DataType::Bytes { .. } => 2,
        DataType::Char { .. } => 3,
        DataType::VarChar { .. } | DataType::Text { .. } | DataType::String { .. } => 4,
        DataType::NChar { .. } => 5,
        DataType::NVarChar { .. } | DataType::NText { .. } => 6,
        DataType::UniqueIdentifier => 7,
        DataType::Bit | DataType::Boolean => 8,
        DataType::TinyInt => 9,
        DataType::SmallInt => 10,
        DataType::Int => 11,
        DataType::BigInt => 12,
        DataType::SmallMoney => 13,
        DataType::Money => 14,
        DataType::Decimal { .. } | DataType::Number { .. } => 15,
        DataType::Real => 16,
        DataType::Float | DataType::Double => 17,
        DataType::Time { .. } => 18,
        DataType::Date => 19,
        DataType::SmallDateTime => 20,
        DataType::DateTime => 21,
        DataType::DateTime2 { .. } | DataType::TimestampNtz { .. } => 22,
        DataType::TimestampLtz { .. } => 23,
        DataType::DateTimeOffset { .. } | DataType::TimestampTz { .. } => 24,
        DataType::Xml | DataType::SqlVariant | DataType::Clr(_) => 26,
        DataType::Variant | DataType::Object | DataType::Array => 27,
    }
}

fn longest(a: Length, b: Length) -> Length {
    match (a, b) {
        (Length::Fixed(a), Length::Fixed(b)) => Length::Fixed(a.max(b)),
        _ => Length::Max,
    }
}

fn text_length(ty: &DataType) -> Length {
    match ty {
        DataType::Char { length, .. } | DataType::NChar { length, .. } | DataType::Binary { length } => {
            Length::Fixed(*length)
        }
        DataType::VarChar { length, .. }
        | DataType::NVarChar { length, .. }
        | DataType::VarBinary { length } => *length,
        DataType::RowVersion => Length::Fixed(8),
        _ => Length::Max,
    }
}

/// The type to which two expressions are brought by CASE, UNION, COALESCE or a comparison.
pub(crate) fn common(dialect: Dialect, a: &DataType, b: &DataType) -> DataType {
    if a == b {
        return a.clone();
    }
    if *a == DataType::Null {
        return b.clone();
    }
    if *b == DataType::Null {
        return a.clone();
    }
    if let (Some((pa, sa)), Some((pb, sb))) = (a.precision_scale(), b.precision_scale())
        && (matches!(a, DataType::Decimal { .. } | DataType::Number { .. })
            || matches!(b, DataType::Decimal { .. } | DataType::Number { .. }))
    {
        let scale = sa.max(sb);
        let whole = (pa - sa).max(pb - sb);
        let precision = (whole + scale).min(38);
        let scale = scale.min(38 - whole.min(38));
        return match dialect {
            Dialect::SqlServer => DataType::Decimal { precision, scale },
            Dialect::Snowflake => DataType::Number { precision, scale },
        };
    }
    let (high, low) = if rank(a) >= rank(b) { (a, b) } else { (b, a) };
    let low_fraction = low.fraction().unwrap_or(0);
    match high {
        DataType::String { length } => {
            let other = if let DataType::String { length } = low {
                *length
            } else {
                DataType::SNOWFLAKE_DEFAULT_TEXT
            };
            DataType::String { length: (*length).max(other) }
        }
        DataType::Bytes { length } => {
            let other = if let DataType::Bytes { length } = low { *length } else { *length };
            DataType::Bytes { length: (*length).max(other) }
        }
        DataType::Char { length, collation } if text_length(low) == Length::Fixed(*length) => {
            DataType::Char { length: *length, collation: *collation }
        }
        DataType::Char { collation, .. } | DataType::VarChar { collation, .. }
            if low.is_text() || low.is_binary() =>
        {
            DataType::VarChar { length: longest(text_length(high), text_length(low)), collation: *collation }
        }
        DataType::NChar { collation, .. } | DataType::NVarChar { collation, .. }
            if low.is_text() || low.is_binary() =>
        {
            DataType::NVarChar { length: longest(text_length(high), text_length(low)), collation: *collation }
        }
        DataType::Binary { .. } | DataType::VarBinary { .. } => {
            DataType::VarBinary { length: longest(text_length(high), text_length(low)) }
        }
        DataType::Time { scale } => DataType::Time { scale: (*scale).max(low_fraction) },
        DataType::DateTime2 { scale } if low.is_temporal() => {
            DataType::DateTime2 { scale: (*scale).max(low_fraction) }
        }
        DataType::TimestampNtz { scale } if low.is_temporal() => {
            DataType::TimestampNtz { scale: (*scale).max(low_fraction) }
        }
        DataType::DateTimeOffset { scale } if low.is_temporal() => {
            DataType::DateTimeOffset { scale: (*scale).max(low_fraction) }
        }
        DataType::TimestampTz { scale } if low.is_temporal() => {
            DataType::TimestampTz { scale: (*scale).max(low_fraction) }
        }
        other => other.clone(),
    }
}

/// Kinds whose values compare with each other as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Null,
    Exact,
    Float,
    Text,
    Binary,
    Date,
    Time,
    Instant,
    Uuid,
    Other,
}

pub(crate) fn family(ty: &DataType) -> Family {
    match ty {
        DataType::Null => Family::Null,
        DataType::Real | DataType::Float | DataType::Double => Family::Float,
        DataType::Bit | DataType::Boolean => Family::Exact,
        DataType::Date => Family::Date,
        DataType::Time { .. } => Family::Time,
        DataType::UniqueIdentifier => Family::Uuid,
        ty if ty.is_number() => Family::Exact,
        ty if ty.is_text() => Family::Text,
        ty if ty.is_binary() => Family::Binary,
        ty if ty.is_temporal() => Family::Instant,
        _ => Family::Other,
    }
}
