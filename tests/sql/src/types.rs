//! The types of columns and expressions, of both dialects.

use std::fmt;

use crate::collation::Collation;

/// Whose rules a database follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Transact-SQL.
    SqlServer,
    /// Snowflake's SQL.
    Snowflake,
}

/// A declared length of text or binary: a number of bytes or units, or `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Length {
    /// At most so many bytes (char, varchar, binary) or UTF-16 units (nchar, nvarchar).
    Fixed(u16),
    /// `varchar(max)` and its kin.
    Max,
}

/// A type of SQL Server that is a class of its common language runtime. Values are the bytes that it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClrType {
    /// hierarchyid.
    HierarchyId,
    /// geography.
    Geography,
    /// geometry.
    Geometry,
}

/// A type of either dialect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    /// The type of a bare NULL literal; on the wire SQL Server says int, Snowflake text.
    Null,

    // SQL Server.
    /// bit; also the type of predicates.
    Bit,
    /// tinyint (0..=255).
    TinyInt,
    /// smallint.
    SmallInt,
    /// int.
    Int,
    /// bigint.
    BigInt,
    /// decimal and numeric.
    Decimal {
        /// Digits in all, 1..=38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// money: values are `Value::Decimal` of scale 4.
    Money,
    /// smallmoney: values are `Value::Decimal` of scale 4.
    SmallMoney,
    /// real.
    Real,
    /// float(53).
    Float,
    /// date (both dialects).
    Date,
    /// time(n): of SQL Server 0..=7, of Snowflake 0..=9 (both dialects).
    Time {
        /// Fractional digits.
        scale: u8,
    },
    /// smalldatetime.
    SmallDateTime,
    /// datetime: values are rounded to 1/300 s and shown at milliseconds.
    DateTime,
    /// datetime2(n).
    DateTime2 {
        /// Fractional digits, 0..=7.
        scale: u8,
    },
    /// datetimeoffset(n).
    DateTimeOffset {
        /// Fractional digits, 0..=7.
        scale: u8,
    },
    /// char(n), n in bytes of the collation's code page.
    Char {
        /// Bytes.
        length: u16,
        /// Code page and order.
        collation: Collation,
    },
    /// varchar(n | max), n in bytes of the collation's code page.
    VarChar {
        /// Bytes.
        length: Length,
        /// Code page and order.
        collation: Collation,
    },
    /// nchar(n), n in UTF-16 units.
    NChar {
        /// UTF-16 units.
        length: u16,
        /// Order.
        collation: Collation,
    },
    /// nvarchar(n | max), n in UTF-16 units.
    NVarChar {
        /// UTF-16 units.
        length: Length,
        /// Order.
        collation: Collation,
    },
    /// text.
    Text {
        /// Code page and order.
        collation: Collation,
    },
    /// ntext.
    NText {
        /// Order.
        collation: Collation,
    },
    /// binary(n).
    Binary {
        /// Bytes.
        length: u16,
    },
    /// varbinary(n | max).
    VarBinary {
        /// Bytes.
        length: Length,
    },
    /// image.
    Image,
    /// rowversion (timestamp): eight bytes that the database writes.
    RowVersion,
    /// uniqueidentifier.
    UniqueIdentifier,
    /// xml: values are text.
    Xml,
    /// `sql_variant`: values are `Value::Typed`.
    SqlVariant,
    /// hierarchyid, geography, geometry.
    Clr(ClrType),

    // Snowflake.
    /// NUMBER(p, s): values are always `Value::Decimal` of this scale.
    Number {
        /// Digits in all, 1..=38.
        precision: u8,
        /// Digits after the point, 0..=37.
        scale: u8,
    },
    /// FLOAT.
    Double,
    /// BOOLEAN.
    Boolean,
    /// VARCHAR(n), n in characters, at most 134217728.
    String {
        /// Characters.
        length: u32,
    },
    /// BINARY(n), at most 67108864 bytes.
    Bytes {
        /// Bytes.
        length: u32,
    },
    /// `TIMESTAMP_NTZ(n)`: values are `Value::DateTime`.
    TimestampNtz {
        /// Fractional digits, 0..=9.
        scale: u8,
    },
    /// `TIMESTAMP_LTZ(n)`: values are `Value::DateTimeOffset` in the session's zone (UTC).
    TimestampLtz {
        /// Fractional digits, 0..=9.
        scale: u8,
    },
    /// `TIMESTAMP_TZ(n)`: values are `Value::DateTimeOffset`.
    TimestampTz {
        /// Fractional digits, 0..=9.
        scale: u8,
    },
    /// VARIANT.
    Variant,
    /// OBJECT.
    Object,
    /// ARRAY.
    Array,
}

impl DataType {
    /// The largest text that Snowflake stores, in bytes and characters.
    pub const SNOWFLAKE_TEXT: u32 = 134_217_728;
    /// What an undeclared VARCHAR and a text literal without bound mean.
    pub const SNOWFLAKE_DEFAULT_TEXT: u32 = 16_777_216;
    /// The largest BINARY that Snowflake stores.
    pub const SNOWFLAKE_BYTES: u32 = 67_108_864;
    /// What an undeclared BINARY means.
    pub const SNOWFLAKE_DEFAULT_BYTES: u32 = 8_388_608;

    /// Whether values of this type are text.
    pub fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Char { .. }
                | Self::VarChar { .. }
                | Self::NChar { .. }
                | Self::NVarChar { .. }
                | Self::Text { .. }
                | Self::NText { .. }
                | Self::Xml
                | Self::String { .. }
        )
    }

    /// Whether values of this type are bytes.
    pub fn is_binary(&self) -> bool {
        matches!(
            self,
            Self::Binary { .. }
                | Self::VarBinary { .. }
                | Self::Image
                | Self::RowVersion
                | Self::Clr(_)
                | Self::Bytes { .. }
        )
    }

    /// Whether this is an integer type of SQL Server.
    pub fn is_integer(&self) -> bool {
        matches!(self, Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt)
    }

    /// Whether this is real, float or Snowflake's FLOAT.
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Real | Self::Float | Self::Double)
    }

    /// Whether values are numbers (bit and BOOLEAN are not).
    pub fn is_number(&self) -> bool {
        self.is_integer()
            || self.is_float()
            || matches!(self, Self::Decimal { .. } | Self::Money | Self::SmallMoney | Self::Number { .. })
    }

    /// Whether values are dates, times or instants.
    pub fn is_temporal(&self) -> bool {
        matches!(
            self,
            Self::Date
                | Self::Time { .. }
                | Self::SmallDateTime
                | Self::DateTime
                | Self::DateTime2 { .. }
                | Self::DateTimeOffset { .. }
                | Self::TimestampNtz { .. }
                | Self::TimestampLtz { .. }
                | Self::TimestampTz { .. }
        )
    }

    /// Whether this is VARIANT, OBJECT or ARRAY.
    pub fn is_semi_structured(&self) -> bool {
        matches!(self, Self::Variant | Self::Object | Self::Array)
    }

    /// The collation of a SQL Server text type.
    pub fn collation(&self) -> Option<Collation> {
        match self {
            Self::Char { collation, .. }
            | Self::VarChar { collation, .. }
            | Self::NChar { collation, .. }
            | Self::NVarChar { collation, .. }
            | Self::Text { collation }
            | Self::NText { collation } => Some(*collation),
            _ => None,
        }
    }

    /// Whether text of this type is stored in a code page (char, varchar, text).
    pub fn has_code_page(&self) -> bool {
        matches!(self, Self::Char { .. } | Self::VarChar { .. } | Self::Text { .. })
    }

    /// Precision and scale of an exact number.
    pub fn precision_scale(&self) -> Option<(u8, u8)> {
        Some(match self {
            Self::Bit | Self::Boolean => (1, 0),
            Self::TinyInt => (3, 0),
            Self::SmallInt => (5, 0),
            Self::Int => (10, 0),
            Self::BigInt => (19, 0),
            Self::Money => (19, 4),
            Self::SmallMoney => (10, 4),
            Self::Decimal { precision, scale } | Self::Number { precision, scale } => (*precision, *scale),
            _ => return None,
        })
    }

    /// Fractional digits of a time-like type.
    pub fn fraction(&self) -> Option<u8> {
        Some(match self {
            Self::Date | Self::SmallDateTime => 0,
            Self::DateTime => 3,
            Self::Time { scale }
            | Self::DateTime2 { scale }
            | Self::DateTimeOffset { scale }
            | Self::TimestampNtz { scale }
            | Self::TimestampLtz { scale }
            | Self::TimestampTz { scale } => *scale,
            _ => return None,
        })
    }

    /// The bare name as catalog views print it: `nvarchar`, `NUMBER`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null | Self::Int => "int",
            Self::Bit => "bit",
            Self::TinyInt => "tinyint",
            Self::SmallInt => "smallint",
            Self::BigInt => "bigint",
            Self::Decimal { .. } => "decimal",
            Self::Money => "money",
            Self::SmallMoney => "smallmoney",
            Self::Real => "real",
            Self::Float => "float",
            Self::Date => "date",
            Self::Time { .. } => "time",
            Self::SmallDateTime => "smalldatetime",
            Self::DateTime => "datetime",
            Self::DateTime2 { .. } => "datetime2",
            Self::DateTimeOffset { .. } => "datetimeoffset",
            Self::Char { .. } => "char",
            Self::VarChar { .. } => "varchar",
            Self::NChar { .. } => "nchar",
            Self::NVarChar { .. } => "nvarchar",
            Self::Text { .. } => "text",
            Self::NText { .. } => "ntext",
            Self::Binary { .. } => "binary",
            Self::VarBinary { .. } => "varbinary",
            Self::Image => "image",
            Self::RowVersion => "timestamp",
            Self::UniqueIdentifier => "uniqueidentifier",
            Self::Xml => "xml",
            Self::SqlVariant => "sql_variant",
            Self::Clr(ClrType::HierarchyId) => "hierarchyid",
            Self::Clr(ClrType::Geography) => "geography",
            Self::Clr(ClrType::Geometry) => "geometry",
            Self::Number { .. } => "NUMBER",
            Self::Double => "FLOAT",
            Self::Boolean => "BOOLEAN",
            Self::String { .. } => "TEXT",
            Self::Bytes { .. } => "BINARY",
            Self::TimestampNtz { .. } => "TIMESTAMP_NTZ",
            Self::TimestampLtz { .. } => "TIMESTAMP_LTZ",
            Self::TimestampTz { .. } => "TIMESTAMP_TZ",
            Self::Variant => "VARIANT",
            Self::Object => "OBJECT",
            Self::Array => "ARRAY",
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |length: &Length| match length {
            Length::Fixed(n) => n.to_string(),
            Length::Max => "max".to_owned(),
        };
        match self {
            Self::Decimal { precision, scale } | Self::Number { precision, scale } => {
                write!(f, "{}({precision},{scale})", self.name())
            }
            Self::Time { scale }
            | Self::DateTime2 { scale }
            | Self::DateTimeOffset { scale }
            | Self::TimestampNtz { scale }
            | Self::TimestampLtz { scale }
            | Self::TimestampTz { scale } => write!(f, "{}({scale})", self.name()),
            Self::Char { length, .. } | Self::NChar { length, .. } | Self::Binary { length } => {
                write!(f, "{}({length})", self.name())
            }
            Self::VarChar { length: n, .. }
            | Self::NVarChar { length: n, .. }
            | Self::VarBinary { length: n } => {
                write!(f, "{}({})", self.name(), length(n))
            }
            Self::String { length } => write!(f, "VARCHAR({length})"),
            Self::Bytes { length } => write!(f, "BINARY({length})"),
            _ => f.write_str(self.name()),
        }
    }
}

/// One column of a table or a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name; empty for an unnamed expression of SQL Server.
    pub name: String,
    /// The type.
    pub ty: DataType,
    /// Whether NULL may occur.
    pub nullable: bool,
    /// Whether it is the table's identity (autoincrement) column.
    pub identity: bool,
    /// Whether the value is computed from other columns.
    pub computed: bool,
}

impl Column {
    /// A plain column.
    pub fn new(name: impl Into<String>, ty: DataType, nullable: bool) -> Self {
        Self { name: name.into(), ty, nullable, identity: false, computed: false }
    }
}
