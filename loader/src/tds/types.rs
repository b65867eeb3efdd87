//! `TYPE_INFO`: how the wire describes a column (MS-TDS 2.2.5.4 to 2.2.5.6).
//!
//! Every type that SQL Server has is parsed and named, so that a result set with a type that is not carried
//! gives an error that says which column and which type.

use std::{borrow::Cow, fmt};

use super::{
    collation::Collation,
    cursor::{Cursor, Parsed, wrong},
    packet::MAX_BUFFERED,
};
use crate::model::{CodePage, SourceType};

/// One column of a result set, as COLMETADATA describes it.
#[derive(Clone, Debug)]
pub struct ColumnMeta {
    /// The column's name; empty for an expression without an alias.
    pub name: String,
    /// Whether NULL may come.
    pub nullable: bool,
    pub(super) info: TypeInfo,
}

impl ColumnMeta {
    /// The type as T-SQL writes it.
    pub fn type_name(&self) -> String {
        self.info.to_string()
    }

    /// The type in the plan's terms, if it is one that is carried.
    pub fn source_type(&self) -> Option<SourceType> {
        self.info.source_type()
    }
}

/// A type, with everything that is needed to find the end of its values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TypeInfo {
    pub(super) token: u8,
    pub(super) layout: Layout,
    /// The declared maximum in bytes; 0 where the type has none.
    pub(super) size: u32,
    pub(super) precision: u8,
    pub(super) scale: u8,
    pub(super) collation: Option<Collation>,
    /// The name of a CLR type.
    pub(super) udt: Option<String>,
}

/// How a value says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Always this many bytes, never NULL.
    Fixed(u8),
    /// A length byte; 0 is NULL.
    Byte,
    /// Two length bytes; 0xFFFF is NULL.
    Short,
    /// `text`, `ntext`, `image`: a text pointer, a timestamp, four length bytes.
    Pointer,
    /// `sql_variant`: four length bytes; 0 is NULL.
    Variant,
    /// Chunks, for types with (max).
    Chunks,
}

/// The type tokens.
pub(super) mod token {
    pub(crate) const NULL: u8 = 0x1F;
    pub(crate) const IMAGE: u8 = 0x22;
    pub(crate) const TEXT: u8 = 0x23;
    pub(crate) const GUID: u8 = 0x24;
    pub(crate) const VARBINARY: u8 = 0x25;
    pub(crate) const INTN: u8 = 0x26;
    pub(crate) const VARCHAR: u8 = 0x27;
    pub(crate) const DATEN: u8 = 0x28;
    pub(crate) const TIMEN: u8 = 0x29;
    pub(crate) const DATETIME2N: u8 = 0x2A;
    pub(crate) const DATETIMEOFFSETN: u8 = 0x2B;
    pub(crate) const BINARY: u8 = 0x2D;
    pub(crate) const CHAR: u8 = 0x2F;
    pub(crate) const INT1: u8 = 0x30;
    pub(crate) const BIT: u8 = 0x32;
    pub(crate) const INT2: u8 = 0x34;
    pub(crate) const DECIMAL: u8 = 0x37;
    pub(crate) const INT4: u8 = 0x38;
    pub(crate) const DATETIM4: u8 = 0x3A;
    pub(crate) const FLT4: u8 = 0x3B;
    pub(crate) const MONEY: u8 = 0x3C;
    pub(crate) const DATETIME: u8 = 0x3D;
    pub(crate) const FLT8: u8 = 0x3E;
    pub(crate) const NUMERIC: u8 = 0x3F;
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
    pub(crate) const BIGVARBINARY: u8 = 0xA5;
    pub(crate) const BIGVARCHAR: u8 = 0xA7;
    pub(crate) const BIGBINARY: u8 = 0xAD;
    pub(crate) const BIGCHAR: u8 = 0xAF;
    pub(crate) const NVARCHAR: u8 = 0xE7;
    pub(crate) const NCHAR: u8 = 0xEF;
    pub(crate) const UDT: u8 = 0xF0;
    pub(crate) const XML: u8 = 0xF1;
}
use token as t;

const MAX_MARKER: u32 = 0xFFFF;

impl TypeInfo {
    pub(super) fn new(token: u8, layout: Layout) -> Self {
        Self { token, layout, size: 0, precision: 0, scale: 0, collation: None, udt: None }
    }

    /// Reads one `TYPE_INFO`.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        let token = cursor.u8()?;
        let fixed = |size: u8| Self { size: u32::from(size), ..Self::new(token, Layout::Fixed(size)) };
        let mut info = match token {
            t::NULL => fixed(0),
            t::INT1 | t::BIT => fixed(1),
            t::INT2 => fixed(2),
            t::INT4 | t::DATETIM4 | t::FLT4 | t::MONEY4 => fixed(4),
            t::MONEY | t::DATETIME | t::FLT8 | t::INT8 => fixed(8),
            t::DATEN => Self { size: 3, ..Self::new(token, Layout::Byte) },
            t::TIMEN | t::DATETIME2N | t::DATETIMEOFFSETN => {
                let scale = cursor.u8()?;
                Self { scale, ..Self::new(token, Layout::Byte) }
            }
            t::GUID | t::INTN | t::BITN | t::FLTN | t::MONEYN | t::DATETIMN | t::VARBINARY | t::BINARY => {
                let size = u32::from(cursor.u8()?);
                Self { size, ..Self::new(token, Layout::Byte) }
            }
            t::DECIMAL | t::NUMERIC | t::DECIMALN | t::NUMERICN => {
                let [size, precision, scale] = cursor.array()?;
                Self { size: u32::from(size), precision, scale, ..Self::new(token, Layout::Byte) }
            }
            t::CHAR | t::VARCHAR => {
                let size = u32::from(cursor.u8()?);
                let collation = Some(Collation::parse(cursor)?);
                Self { size, collation, ..Self::new(token, Layout::Byte) }
            }
            t::BIGVARBINARY | t::BIGBINARY => {
                let size = u32::from(cursor.u16()?);
                Self { size, ..Self::new(token, Layout::Short) }
            }
            t::BIGVARCHAR | t::BIGCHAR | t::NVARCHAR | t::NCHAR => {
                let size = u32::from(cursor.u16()?);
                let collation = Some(Collation::parse(cursor)?);
                Self { size, collation, ..Self::new(token, Layout::Short) }
            }
            t::TEXT | t::NTEXT => {
                let size = cursor.u32()?;
                let collation = Some(Collation::parse(cursor)?);
                Self { size, collation, ..Self::new(token, Layout::Pointer) }
            }
            t::IMAGE => Self { size: cursor.u32()?, ..Self::new(token, Layout::Pointer) },
            t::VARIANT => Self { size: cursor.u32()?, ..Self::new(token, Layout::Variant) },
            t::XML => {
                if cursor.u8()? != 0 {
                    cursor.b_varchar()?;
                    cursor.b_varchar()?;
                    cursor.us_varchar()?;
                }
                Self::new(token, Layout::Chunks)
            }
            t::UDT => {
                let size = u32::from(cursor.u16()?);
                cursor.b_varchar()?;
                cursor.b_varchar()?;
                let udt = Some(cursor.b_varchar()?);
                cursor.us_varchar()?;
                Self { size, udt, ..Self::new(token, Layout::Chunks) }
            }
            other => {
                return wrong(format!(
                    "a column has the type 0x{other:02x}, which MS-TDS 7.4 without extensions does not have"
                ));
            }
        };
        if info.layout == Layout::Short && info.size == MAX_MARKER {
            match token {
                t::BIGVARBINARY | t::BIGVARCHAR | t::NVARCHAR => info.layout = Layout::Chunks,
                _ => return wrong(format!("a column of type 0x{token:02x} claims to be (max)")),
            }
        }
        info.check()?;
        Ok(info)
    }

    /// Refuses parameters that the type cannot have.
    fn check(&self) -> Parsed<()> {
        let legal = match self.token {
            t::INTN => matches!(self.size, 1 | 2 | 4 | 8),
            t::BITN => self.size == 1,
            t::FLTN | t::MONEYN | t::DATETIMN => matches!(self.size, 4 | 8),
            t::GUID => self.size == 16,
            t::DECIMAL | t::NUMERIC | t::DECIMALN | t::NUMERICN => {
                (1..=38).contains(&self.precision)
                    && self.scale <= self.precision
                    && matches!(self.size, 5 | 9 | 13 | 17)
            }
            t::TIMEN | t::DATETIME2N | t::DATETIMEOFFSETN => self.scale <= 7,
            t::BIGVARBINARY | t::BIGVARCHAR | t::BIGBINARY | t::BIGCHAR if self.layout == Layout::Short => {
                self.size <= 8000
            }
            t::NVARCHAR | t::NCHAR if self.layout == Layout::Short => {
                self.size <= 8000 && self.size.is_multiple_of(2)
            }
            _ => true,
        };
        if legal {
            Ok(())
        } else {
            wrong(format!(
                "a column of type 0x{:02x} claims size {}, precision {}, scale {}",
                self.token, self.size, self.precision, self.scale
            ))
        }
    }

    /// The type in the plan's terms, if it is one that is carried.
    pub(super) fn source_type(&self) -> Option<SourceType> {
        let bytes = self.size as u16;
        let code_page = || self.collation.and_then(Collation::code_page).map(CodePage);
        Some(match (self.token, self.layout) {
            (t::BIGVARCHAR, Layout::Chunks) => SourceType::VarCharMax { code_page: code_page()? },
            (t::NVARCHAR, Layout::Chunks) => SourceType::NVarCharMax,
            (t::BIGVARBINARY, Layout::Chunks) => SourceType::VarBinaryMax,
            (_, Layout::Chunks | Layout::Pointer | Layout::Variant) => return None,
            (t::BIT | t::BITN, _) => SourceType::Bit,
            (t::INT1, _) => SourceType::TinyInt,
            (t::INT2, _) => SourceType::SmallInt,
            (t::INT4, _) => SourceType::Int,
            (t::INT8, _) => SourceType::BigInt,
            (t::INTN, _) => match self.size {
                1 => SourceType::TinyInt,
                2 => SourceType::SmallInt,
                4 => SourceType::Int,
                _ => SourceType::BigInt,
            },
            (t::DECIMAL | t::NUMERIC | t::DECIMALN | t::NUMERICN, _) => {
                SourceType::Decimal { precision: self.precision, scale: self.scale }
            }
            (t::MONEY, _) => SourceType::Money,
            (t::MONEY4, _) => SourceType::SmallMoney,
            (t::MONEYN, _) => {
                if self.size == 8 {
                    SourceType::Money
                } else {
                    SourceType::SmallMoney
                }
            }
            (t::FLT4, _) => SourceType::Real,
            (t::FLT8, _) => SourceType::Float,
            (t::FLTN, _) => {
                if self.size == 8 {
                    SourceType::Float
                } else {
                    SourceType::Real
                }
            }
            (t::DATETIM4, _) => SourceType::SmallDateTime,
            (t::DATETIME, _) => SourceType::DateTime,
            (t::DATETIMN, _) => {
                if self.size == 8 {
                    SourceType::DateTime
                } else {
                    SourceType::SmallDateTime
                }
            }
            (t::DATEN, _) => SourceType::Date,
            (t::DATETIME2N, _) => SourceType::DateTime2 { scale: self.scale },
            (t::BIGCHAR, _) => SourceType::Char { bytes, code_page: code_page()? },
            (t::BIGVARCHAR, _) => SourceType::VarChar { bytes, code_page: code_page()? },
            (t::NCHAR, _) => SourceType::NChar { units: bytes / 2 },
            (t::NVARCHAR, _) => SourceType::NVarChar { units: bytes / 2 },
            (t::BIGBINARY, _) => SourceType::Binary { bytes },
            (t::BIGVARBINARY, _) => SourceType::VarBinary { bytes },
            (t::GUID, _) => SourceType::UniqueIdentifier,
            _ => return None,
        })
    }

    /// Reads one value of this type, whatever it is, as its bytes; `None` is NULL.
    pub(super) fn value<'a>(&self, cursor: &mut Cursor<'a>) -> Parsed<Option<Cow<'a, [u8]>>> {
        let length = match self.layout {
            Layout::Fixed(0) => return Ok(None),
            Layout::Fixed(size) => usize::from(size),
            Layout::Byte => match cursor.u8()? {
                0 => return Ok(None),
                length => usize::from(length),
            },
            Layout::Short => match cursor.u16()? {
                0xFFFF => return Ok(None),
                length => usize::from(length),
            },
            Layout::Variant => match cursor.u32()? {
                0 => return Ok(None),
                length if length <= 8016 => length as usize,
                length => return wrong(format!("a sql_variant claims {length} bytes (8,016 are possible)")),
            },
            Layout::Pointer => match cursor.u8()? {
                0 => return Ok(None),
                pointer => {
                    cursor.take(usize::from(pointer) + 8)?;
                    cursor.u32()? as usize
                }
            },
            Layout::Chunks => return chunks(cursor),
        };
        cursor.take(length).map(|bytes| Some(Cow::Borrowed(bytes)))
    }
}

pub(super) const PLP_NULL: u64 = u64::MAX;
pub(super) const PLP_UNKNOWN: u64 = u64::MAX - 1;

/// Partially length-prefixed bytes (MS-TDS 2.2.5.2.3).
fn chunks<'a>(cursor: &mut Cursor<'a>) -> Parsed<Option<Cow<'a, [u8]>>> {
    let announced = cursor.u64()?;
    if announced == PLP_NULL {
        return Ok(None);
    }
    if announced != PLP_UNKNOWN && announced > MAX_BUFFERED as u64 {
        return wrong(format!(
            "one value claims {announced} bytes, more than the {MAX_BUFFERED} that are ever held"
        ));
    }
    let mut whole: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    loop {
        match cursor.u32()? as usize {
            0 => break,
            length => {
                let chunk = cursor.take(length)?;
                if whole.is_empty() {
                    whole = Cow::Borrowed(chunk);
                } else {
                    whole.to_mut().extend_from_slice(chunk);
                }
            }
        }
    }
    if announced != PLP_UNKNOWN && announced != whole.len() as u64 {
        return wrong(format!("one value announced {announced} bytes and has {}", whole.len()));
    }
    Ok(Some(whole))
}

impl fmt::Display for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = self.source_type() {
            return write!(f, "{source}");
        }
        match self.token {
            t::NULL => f.write_str("untyped NULL"),
            t::IMAGE => f.write_str("image"),
            t::TEXT => f.write_str("text"),
            t::NTEXT => f.write_str("ntext"),
            t::TIMEN => write!(f, "time({})", self.scale),
            t::DATETIMEOFFSETN => write!(f, "datetimeoffset({})", self.scale),
            t::VARIANT => f.write_str("sql_variant"),
            t::XML => f.write_str("xml"),
            t::UDT => f.write_str(self.udt.as_deref().unwrap_or("CLR type")),
            t::BIGVARCHAR | t::VARCHAR => self.unknown_collation(f, "varchar"),
            t::BIGCHAR | t::CHAR => self.unknown_collation(f, "char"),
            t::BINARY => write!(f, "binary({})", self.size),
            t::VARBINARY => write!(f, "varbinary({})", self.size),
            other => write!(f, "type 0x{other:02x}"),
        }
    }
}

impl TypeInfo {
    fn unknown_collation(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        match self.layout {
            Layout::Chunks => write!(f, "{name}(max)")?,
            _ => write!(f, "{name}({})", self.size)?,
        }
        match self.collation {
            Some(collation) => write!(f, " with {collation}"),
            None => Ok(()),
        }
    }
}
