//! `TYPE_INFO` (MS-TDS 2.2.5.6): how each column type is announced, and in which shape its values follow.

use keyferry_sql::{ClrType, Column, DataType, Length};

use crate::tokens::b_varchar;

/// Type tokens.
pub(crate) mod token {
    pub(crate) const IMAGE: u8 = 0x22;
    pub(crate) const TEXT: u8 = 0x23;
    pub(crate) const GUID: u8 = 0x24;
    pub(crate) const INTN: u8 = 0x26;
    pub(crate) const DATEN: u8 = 0x28;
    pub(crate) const TIMEN: u8 = 0x29;
    pub(crate) const DATETIME2N: u8 = 0x2A;
    pub(crate) const DATETIMEOFFSETN: u8 = 0x2B;
    pub(crate) const INT1: u8 = 0x30;
    pub(crate) const BIT: u8 = 0x32;
    pub(crate) const INT2: u8 = 0x34;
    pub(crate) const INT4: u8 = 0x38;
    pub(crate) const DATETIM4: u8 = 0x3A;
    pub(crate) const FLT4: u8 = 0x3B;
    pub(crate) const MONEY: u8 = 0x3C;
    pub(crate) const DATETIME: u8 = 0x3D;
    pub(crate) const FLT8: u8 = 0x3E;
    pub(crate) const VARIANT: u8 = 0x62;
    pub(crate) const NTEXT: u8 = 0x63;
    pub(crate) const BITN: u8 = 0x68;
    pub(crate) const DECIMALN: u8 = 0x6A;
    pub(crate) const NUMERICN: u8 = 0x6C;
    pub(crate) const FLTN: u8 = 0x6D;
    pub(crate) const MONEYN: u8 = 0x6E;
    pub(crate) const DATETIMN: u8 = 0x6F;
    pub(crate) const MONEY4: u8 = 0x7A;
    pub(crate) const INT8: u8 = 0x7F;
    pub(crate) const BIGVARBIN: u8 = 0xA5;
    pub(crate) const BIGVARCHAR: u8 = 0xA7;
    pub(crate) const BIGBINARY: u8 = 0xAD;
    pub(crate) const BIGCHAR: u8 = 0xAF;
    pub(crate) const NVARCHAR: u8 = 0xE7;
    pub(crate) const NCHAR: u8 = 0xEF;
    pub(crate) const UDT: u8 = 0xF0;
    pub(crate) const XML: u8 = 0xF1;
}

/// The length of a (max) type in `TYPE_INFO`.
pub(crate) const MAX_LENGTH: u16 = 0xFFFF;
const LOB: u32 = 0x7FFF_FFFF;

/// How a value's length precedes it, and what NULL looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No length; NULL cannot be said.
    Fixed,
    /// One byte of length, 0 is NULL.
    Byte,
    /// Two bytes of length, 0xFFFF is NULL.
    Short,
    /// Chunks (PLP), a length of all ones is NULL.
    Chunks,
    /// A text pointer, a timestamp, four bytes of length; a pointer of no length is NULL.
    Pointer,
    /// Four bytes of length, 0 is NULL (`sql_variant`).
    Long,
}

impl Shape {
    /// Bytes that a NULL takes in a ROW token.
    pub(crate) fn null_size(self) -> usize {
        match self {
            Self::Fixed => 0,
            Self::Byte | Self::Pointer => 1,
            Self::Short => 2,
            Self::Long => 4,
            Self::Chunks => 8,
        }
    }

    pub(crate) fn put_null(self, into: &mut Vec<u8>) {
        match self {
            Self::Fixed => {}
            Self::Byte | Self::Pointer => into.push(0),
            Self::Short => into.extend([0xFF; 2]),
            Self::Long => into.extend([0; 4]),
            Self::Chunks => into.extend([0xFF; 8]),
        }
    }
}

/// Bytes of a decimal's value, sign included, by its precision.
pub(crate) fn decimal_size(precision: u8) -> u8 {
    match precision {
        0..=9 => 5,
        10..=19 => 9,
        20..=28 => 13,
        _ => 17,
    }
}

/// Bytes of a time of day by its scale.
pub(crate) fn time_size(scale: u8) -> u8 {
    match scale {
        0..=2 => 3,
        3..=4 => 4,
        _ => 5,
    }
}

/// Appends a column's `TYPE_INFO` and says in which shape its values follow. None for a type that SQL Server lacks.
pub(crate) fn put_type(column: &Column, into: &mut Vec<u8>) -> Option<Shape> {
    let fixed = !column.nullable;
    // The fixed-length type of a column without NULL, or the N type with its length.
    let mut sized = |fixed_token: u8, n_token: u8, size: u8| {
        if fixed {
            into.push(fixed_token);
            Shape::Fixed
        } else {
            into.extend([n_token, size]);
            Shape::Byte
        }
    };
    let shape = match &column.ty {
        DataType::Bit => sized(token::BIT, token::BITN, 1),
        DataType::TinyInt => sized(token::INT1, token::INTN, 1),
        DataType::SmallInt => sized(token::INT2, token::INTN, 2),
        DataType::Int => sized(token::INT4, token::INTN, 4),
        DataType::BigInt => sized(token::INT8, token::INTN, 8),
        DataType::Real => sized(token::FLT4, token::FLTN, 4),
        DataType::Float => sized(token::FLT8, token::FLTN, 8),
        DataType::SmallMoney => sized(token::MONEY4, token::MONEYN, 4),
        DataType::Money => sized(token::MONEY, token::MONEYN, 8),
        DataType::SmallDateTime => sized(token::DATETIM4, token::DATETIMN, 4),
        DataType::DateTime => sized(token::DATETIME, token::DATETIMN, 8),
        DataType::Null => {
            into.extend([token::INTN, 4]);
            Shape::Byte
        }
        DataType::Decimal { precision, scale } => {
            into.extend([token::DECIMALN, decimal_size(*precision), *precision, *scale]);
            Shape::Byte
        }
        DataType::Date => {
            into.push(token::DATEN);
            Shape::Byte
        }
        DataType::Time { scale } => {
            into.extend([token::TIMEN, *scale]);
            Shape::Byte
        }
        DataType::DateTime2 { scale } => {
            into.extend([token::DATETIME2N, *scale]);
            Shape::Byte
        }
        DataType::DateTimeOffset { scale } => {
            into.extend([token::DATETIMEOFFSETN, *scale]);
            Shape::Byte
        }
        DataType::UniqueIdentifier => {
            into.extend([token::GUID, 16]);
            Shape::Byte
        }
        DataType::Char { length, collation } => {
            text(token::BIGCHAR, Length::Fixed(*length), 1, collation.tds(), into)
        }
        DataType::VarChar { length, collation } => text(token::BIGVARCHAR, *length, 1, collation.tds(), into),
        DataType::NChar { length, collation } => {
            text(token::NCHAR, Length::Fixed(*length), 2, collation.tds(), into)
        }
        DataType::NVarChar { length, collation } => text(token::NVARCHAR, *length, 2, collation.tds(), into),
        DataType::Binary { length } => binary(token::BIGBINARY, Length::Fixed(*length), into),
        DataType::VarBinary { length } => binary(token::BIGVARBIN, *length, into),
        DataType::RowVersion => binary(token::BIGBINARY, Length::Fixed(8), into),
        DataType::Text { collation } => {
            into.push(token::TEXT);
            into.extend(LOB.to_le_bytes());
            into.extend(collation.tds());
            Shape::Pointer
        }
        DataType::NText { collation } => {
            into.push(token::NTEXT);
            into.extend((LOB - 1).to_le_bytes());
            into.extend(collation.tds());
            Shape::Pointer
        }
        DataType::Image => {
            into.push(token::IMAGE);
            into.extend(LOB.to_le_bytes());
            Shape::Pointer
        }
        DataType::Xml => {
            into.extend([token::XML, 0]); // no schema
            Shape::Chunks
        }
        DataType::Clr(class) => {
            udt(*class, column.ty.name(), into);
            Shape::Chunks
        }
        DataType::SqlVariant => {
            into.push(token::VARIANT);
            into.extend(8009_u32.to_le_bytes());
            Shape::Long
        }
        _ => return None,
    };
    Some(shape)
}

/// `UDT_INFO`: where the type lives, and the class whose bytes follow.
fn udt(class: ClrType, name: &str, into: &mut Vec<u8>) {
    let (bytes, of) = match class {
        ClrType::HierarchyId => (892, "HierarchyId"),
        ClrType::Geography => (MAX_LENGTH, "Geography"),
        ClrType::Geometry => (MAX_LENGTH, "Geometry"),
    };
    into.push(token::UDT);
    into.extend(bytes.to_le_bytes());
    b_varchar("master", into);
    b_varchar("sys", into);
    b_varchar(name, into);
    let assembly = format!(
        "Microsoft.SqlServer.Types.Sql{of}, Microsoft.SqlServer.Types, Version=11.0.0.0, Culture=neutral, \
         PublicKeyToken=89845dcd8080cc91"
    );
    into.extend((assembly.len() as u16).to_le_bytes());
    into.extend(assembly.encode_utf16().flat_map(u16::to_le_bytes));
}

fn text(token: u8, length: Length, unit: u16, collation: [u8; 5], into: &mut Vec<u8>) -> Shape {
    let shape = binary(token, scaled(length, unit), into);
    into.extend(collation);
    shape
}

fn scaled(length: Length, unit: u16) -> Length {
    match length {
        Length::Fixed(count) => Length::Fixed(count.saturating_mul(unit).clamp(1, 8000)),
        Length::Max => Length::Max,
    }
}

fn binary(token: u8, length: Length, into: &mut Vec<u8>) -> Shape {
    into.push(token);
    match length {
        Length::Fixed(bytes) => {
            into.extend(bytes.clamp(1, 8000).to_le_bytes());
            Shape::Short
        }
        Length::Max => {
            into.extend(MAX_LENGTH.to_le_bytes());
            Shape::Chunks
        }
    }
}
