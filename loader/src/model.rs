//! What a plan says, in types: the columns with their exact source types, the key ranges, the names on both
//! sides. Every stage reads these and none changes them.

mod key;

use std::fmt;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
pub use key::{Bound, KeyColumn, KeyPart, KeyRange};
use serde::Serialize;

/// A SQL Server code page by its number; 65001 is UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CodePage(pub u16);

impl CodePage {
    /// UTF-8, as the `_UTF8` collations have it.
    pub const UTF_8: Self = Self(65001);
}

/// The source types that are carried; any other stops the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceType {
    /// `bit`
    Bit,
    /// `tinyint`, unsigned
    TinyInt,
    /// `smallint`
    SmallInt,
    /// `int`
    Int,
    /// `bigint`
    BigInt,
    /// `decimal(p,s)` and `numeric(p,s)`
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `money`: a 64-bit count of 1/10000
    Money,
    /// `smallmoney`: a 32-bit count of 1/10000
    SmallMoney,
    /// `real`, 4 bytes
    Real,
    /// `float`, 8 bytes
    Float,
    /// `date`, 0001 to 9999
    Date,
    /// `smalldatetime`, whole minutes
    SmallDateTime,
    /// `datetime`, 1/300 s
    DateTime,
    /// `datetime2(n)`
    DateTime2 {
        /// Digits of the second, 0 to 7.
        scale: u8,
    },
    /// `char(n)`
    Char {
        /// The declared length in bytes.
        bytes: u16,
        /// The column's own code page, from its collation.
        code_page: CodePage,
    },
    /// `varchar(n)`
    VarChar {
        /// The declared length in bytes.
        bytes: u16,
        /// The column's own code page, from its collation.
        code_page: CodePage,
    },
    /// `nchar(n)`
    NChar {
        /// The declared length in UTF-16 units.
        units: u16,
    },
    /// `nvarchar(n)`
    NVarChar {
        /// The declared length in UTF-16 units.
        units: u16,
    },
    /// `varchar(max)`
    VarCharMax {
        /// The column's own code page, from its collation.
        code_page: CodePage,
    },
    /// `nvarchar(max)`
    NVarCharMax,
    /// `varbinary(max)`
    VarBinaryMax,
    /// `binary(n)`
    Binary {
        /// The declared length.
        bytes: u16,
    },
    /// `varbinary(n)`
    VarBinary {
        /// The declared length.
        bytes: u16,
    },
    /// `uniqueidentifier`
    UniqueIdentifier,
}

/// The most bytes of UTF-8 that a VARCHAR holds.
pub const LARGEST_TEXT: usize = 128 << 20;
/// The most bytes that a BINARY holds.
pub const LARGEST_BINARY: usize = 64 << 20;

impl SourceType {
    /// For a type with (max), the most bytes of a value that the target holds; such values arrive in pieces.
    pub fn largest_value(&self) -> Option<usize> {
        match self {
            Self::VarCharMax { .. } | Self::NVarCharMax => Some(LARGEST_TEXT),
            Self::VarBinaryMax => Some(LARGEST_BINARY),
            _ => None,
        }
    }

    /// The Arrow type that holds every value of this type exactly.
    ///
    /// `datetime2(7)` is text `YYYY-MM-DD HH:MM:SS.fffffff`: 64 bits of nanoseconds cover only 1677 to 2262 and
    /// microseconds lose a digit. `decimal(38,38)` is text because Snowflake's scale ends at 37.
    pub fn arrow(&self) -> DataType {
        match *self {
            Self::Bit => DataType::Boolean,
            Self::TinyInt | Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Decimal { scale: 38, .. } => DataType::Utf8,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Self::Money => DataType::Decimal128(19, 4),
            Self::SmallMoney => DataType::Decimal128(10, 4),
            Self::Real => DataType::Float32,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::SmallDateTime | Self::DateTime => DataType::Timestamp(TimeUnit::Millisecond, None),
            Self::DateTime2 { scale } if scale <= 6 => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::DateTime2 { .. }
            | Self::Char { .. }
            | Self::VarChar { .. }
            | Self::NChar { .. }
            | Self::NVarChar { .. }
            | Self::UniqueIdentifier => DataType::Utf8,
            Self::Binary { .. } | Self::VarBinary { .. } => DataType::Binary,
            Self::VarCharMax { .. } | Self::NVarCharMax => DataType::LargeUtf8,
            Self::VarBinaryMax => DataType::LargeBinary,
        }
    }

    /// The type of the target's column.
    pub fn snowflake(&self) -> String {
        match *self {
            Self::Bit => "BOOLEAN".into(),
            Self::TinyInt => "NUMBER(3,0)".into(),
            Self::SmallInt => "NUMBER(5,0)".into(),
            Self::Int => "NUMBER(10,0)".into(),
            Self::BigInt => "NUMBER(19,0)".into(),
            Self::Decimal { scale: 38, .. } => "VARCHAR".into(),
            Self::Decimal { precision, scale } => format!("NUMBER({precision},{scale})"),
            Self::Money => "NUMBER(19,4)".into(),
            Self::SmallMoney => "NUMBER(10,4)".into(),
            Self::Real | Self::Float => "FLOAT".into(),
            Self::Date => "DATE".into(),
            Self::SmallDateTime | Self::DateTime => "TIMESTAMP_NTZ(3)".into(),
            Self::DateTime2 { scale } => format!("TIMESTAMP_NTZ({scale})"),
            Self::Char { .. } | Self::VarChar { .. } | Self::NChar { .. } | Self::NVarChar { .. } => {
                "VARCHAR".into()
            }
            Self::Binary { .. } | Self::VarBinary { .. } => "BINARY".into(),
            Self::VarCharMax { .. } | Self::NVarCharMax => format!("VARCHAR({LARGEST_TEXT})"),
            Self::VarBinaryMax => format!("BINARY({LARGEST_BINARY})"),
            Self::UniqueIdentifier => "VARCHAR(36)".into(),
        }
    }

    /// The most bytes that one value takes in memory after decoding.
    pub fn widest_bytes(&self) -> u64 {
        match *self {
            Self::Bit | Self::TinyInt | Self::SmallInt => 2,
            Self::Int | Self::Real | Self::Date => 4,
            Self::BigInt | Self::Float | Self::SmallDateTime | Self::DateTime => 8,
            Self::Decimal { scale: 38, .. } => 41,
            Self::Decimal { .. } | Self::Money | Self::SmallMoney => 16,
            Self::DateTime2 { scale } => {
                if scale <= 6 {
                    8
                } else {
                    27
                }
            }
            // One byte or unit of a code page becomes at most three bytes of UTF-8.
            Self::Char { bytes, code_page } | Self::VarChar { bytes, code_page } => {
                u64::from(bytes) * if code_page == CodePage::UTF_8 { 1 } else { 3 }
            }
            Self::NChar { units } | Self::NVarChar { units } => u64::from(units) * 3,
            Self::Binary { bytes } | Self::VarBinary { bytes } => u64::from(bytes),
            Self::VarCharMax { .. } | Self::NVarCharMax => LARGEST_TEXT as u64,
            Self::VarBinaryMax => LARGEST_BINARY as u64,
            Self::UniqueIdentifier => 36,
        }
    }
}

/// The type as T-SQL writes it.
impl fmt::Display for SourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bit => f.write_str("bit"),
            Self::TinyInt => f.write_str("tinyint"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Int => f.write_str("int"),
            Self::BigInt => f.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Money => f.write_str("money"),
            Self::SmallMoney => f.write_str("smallmoney"),
            Self::Real => f.write_str("real"),
            Self::Float => f.write_str("float"),
            Self::Date => f.write_str("date"),
            Self::SmallDateTime => f.write_str("smalldatetime"),
            Self::DateTime => f.write_str("datetime"),
            Self::DateTime2 { scale } => write!(f, "datetime2({scale})"),
            Self::Char { bytes, code_page } => write!(f, "char({bytes}) cp{}", code_page.0),
            Self::VarChar { bytes, code_page } => write!(f, "varchar({bytes}) cp{}", code_page.0),
            Self::NChar { units } => write!(f, "nchar({units})"),
            Self::NVarChar { units } => write!(f, "nvarchar({units})"),
            Self::VarCharMax { code_page } => write!(f, "varchar(max) cp{}", code_page.0),
            Self::NVarCharMax => f.write_str("nvarchar(max)"),
            Self::VarBinaryMax => f.write_str("varbinary(max)"),
            Self::Binary { bytes } => write!(f, "binary({bytes})"),
            Self::VarBinary { bytes } => write!(f, "varbinary({bytes})"),
            Self::UniqueIdentifier => f.write_str("uniqueidentifier"),
        }
    }
}

/// One column that crosses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnPlan {
    /// Its name at the source, unquoted.
    pub source_name: String,
    /// Its name at the target and in the Parquet file, unquoted, in the case the target has.
    pub target_name: String,
    /// Its exact type at the source.
    pub source: SourceType,
    /// Whether the source allows NULL.
    pub nullable: bool,
}

/// The Arrow schema of a table's batches and files: the target's names, the types of [`SourceType::arrow`].
pub fn arrow_schema(columns: &[ColumnPlan]) -> Schema {
    let field = |c: &ColumnPlan| Field::new(&c.target_name, c.source.arrow(), c.nullable);
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}

/// The column of a staging table that says which file a row came from: no name of the table's own columns.
pub fn file_column(columns: &[ColumnPlan]) -> String {
    let mut name = "KEYFERRY_FILE".to_owned();
    while columns.iter().any(|column| column.target_name.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    name
}

/// One chunk: the unit of commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChunkPlan {
    /// Counted from 1 within its table.
    pub number: u32,
    /// The rows that belong to it.
    pub range: KeyRange,
    /// Rows expected, from the counted quantiles.
    pub estimated_rows: u64,
    /// Source bytes expected.
    pub estimated_bytes: u64,
}

/// A table of the source; names are unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TableName {
    /// The schema, for example `dbo`.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl TableName {
    /// Both parts in brackets, as T-SQL wants them.
    pub fn sql(&self) -> String {
        format!("{}.{}", bracketed(&self.schema), bracketed(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A table of the target; names are unquoted, in the case the target has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TargetName {
    /// The database.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl TargetName {
    /// All three parts in double quotes.
    pub fn sql(&self) -> String {
        format!("{}.{}.{}", quoted(&self.database), quoted(&self.schema), quoted(&self.name))
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.database, self.schema, self.name)
    }
}

/// All that is decided about one table before anything moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TablePlan {
    /// Where the rows come from.
    pub source: TableName,
    /// Where they are published.
    pub target: TargetName,
    /// Where they land first.
    pub staging: TargetName,
    /// What crosses, in the source's order.
    pub columns: Vec<ColumnPlan>,
    /// Every column of the indexes that the table can be cut by; none makes one chunk. The chunks' ranges name those
    /// that it was cut by.
    pub keys: Vec<KeyColumn>,
    /// In the order of their numbers.
    pub chunks: Vec<ChunkPlan>,
    /// SHA-256, hex, over names and types of both sides, then `@` and the origin in words: a run is resumed only under
    /// the same.
    pub schema_hash: String,
}

/// A T-SQL identifier in brackets.
pub fn bracketed(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

/// A Snowflake identifier in double quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server reads at the front of `text`: the name between the marks, and what is left behind it.
    fn read(text: &str, open: char, close: char) -> Option<(String, &str)> {
        let mut rest = text.strip_prefix(open)?;
        let mut name = String::new();
        loop {
            let at = rest.find(close)?;
            name.push_str(&rest[..at]);
            rest = &rest[at + close.len_utf8()..];
            match rest.strip_prefix(close) {
                Some(behind) => {
                    name.push(close);
                    rest = behind;
                }
                None => return Some((name, rest)),
            }
        }
    }

    proptest! {
        #[test]
        fn any_name_survives_its_quotes_on_both_sides(name in ".*|[\\]\"\\[;-]{1,20}", behind in "[ .;a]{0,3}") {
            let source = bracketed(&name) + &behind;
            prop_assert_eq!(read(&source, '[', ']'), Some((name.clone(), behind.as_str())));
            let target = quoted(&name) + &behind;
            prop_assert_eq!(read(&target, '"', '"'), Some((name, behind.as_str())));
        }
    }
}
