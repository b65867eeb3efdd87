//! From the catalog's words to a carried type, or to the reason why not.

use crate::model::{CodePage, SourceType};

/// A type that is not carried, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncarried {
    /// The type as declared.
    pub declared: String,
    /// What to do, where excluding the column is not the only way.
    pub hint: &'static str,
}

/// `max_length` of a type with (max).
const MAX: i32 = -1;

/// A column's type in the catalog's terms.
pub(super) struct Declared {
    pub name: String,
    /// Bytes; -1 is `max`.
    pub max_length: i32,
    pub precision: i32,
    pub scale: i32,
    pub code_page: Option<CodePage>,
}

impl Declared {
    pub(super) fn source_type(&self) -> Result<SourceType, Uncarried> {
        let bytes = u16::try_from(self.max_length).ok().filter(|bytes| *bytes > 0);
        let sized = |make: &dyn Fn(u16) -> SourceType| {
            bytes.map(make).ok_or_else(|| self.uncarried("its length is out of range"))
        };
        let text = |make: &dyn Fn(u16, CodePage) -> SourceType| {
            let page = self.code_page.ok_or_else(|| self.uncarried("its collation has no code page"))?;
            sized(&|bytes| make(bytes, page))
        };
        if self.max_length == MAX
            && let Some(unbounded) = self.unbounded()?
        {
            return Ok(unbounded);
        }
        Ok(match self.name.as_str() {
            "bit" => SourceType::Bit,
            "tinyint" => SourceType::TinyInt,
            "smallint" => SourceType::SmallInt,
            "int" => SourceType::Int,
            "bigint" => SourceType::BigInt,
            "decimal" | "numeric" => self.decimal()?,
            "money" => SourceType::Money,
            "smallmoney" => SourceType::SmallMoney,
            "real" => SourceType::Real,
            "float" => SourceType::Float,
            "date" => SourceType::Date,
            "smalldatetime" => SourceType::SmallDateTime,
            "datetime" => SourceType::DateTime,
            "datetime2" => match u8::try_from(self.scale) {
                Ok(scale @ 0..=7) => SourceType::DateTime2 { scale },
                _ => return Err(self.uncarried("its scale is not 0 to 7")),
            },
            "char" => text(&|bytes, code_page| SourceType::Char { bytes, code_page })?,
            "varchar" => text(&|bytes, code_page| SourceType::VarChar { bytes, code_page })?,
            "nchar" => sized(&|bytes| SourceType::NChar { units: bytes / 2 })?,
            "nvarchar" | "sysname" => sized(&|bytes| SourceType::NVarChar { units: bytes / 2 })?,
            "binary" => sized(&|bytes| SourceType::Binary { bytes })?,
            "varbinary" => sized(&|bytes| SourceType::VarBinary { bytes })?,
            "uniqueidentifier" => SourceType::UniqueIdentifier,
            _ => return Err(self.uncarried("this type is not carried yet")),
        })
    }

    fn unbounded(&self) -> Result<Option<SourceType>, Uncarried> {
        Ok(match self.name.as_str() {
            "varchar" => {
                let page = self.code_page.ok_or_else(|| self.uncarried("its collation has no code page"))?;
                Some(SourceType::VarCharMax { code_page: page })
            }
            "nvarchar" => Some(SourceType::NVarCharMax),
            "varbinary" => Some(SourceType::VarBinaryMax),
            _ => None,
        })
    }

    fn decimal(&self) -> Result<SourceType, Uncarried> {
        match (u8::try_from(self.precision), u8::try_from(self.scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => {
                Ok(SourceType::Decimal { precision, scale })
            }
            _ => Err(self.uncarried("precision and scale are out of range")),
        }
    }

    fn uncarried(&self, hint: &'static str) -> Uncarried {
        let Self { name, max_length, scale, .. } = self;
        let declared = match name.as_str() {
            "char" | "varchar" | "nchar" | "nvarchar" | "binary" | "varbinary" if *max_length == -1 => {
                format!("{name}(max)")
            }
            "time" | "datetimeoffset" => format!("{name}({scale})"),
            _ => name.clone(),
        };
        Uncarried { declared, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: &str, max_length: i32, precision: i32, scale: i32) -> Result<SourceType, Uncarried> {
        Declared { name: name.into(), max_length, precision, scale, code_page: Some(CodePage(1252)) }
            .source_type()
    }

    #[test]
    fn lengths_of_unicode_text_are_units_and_of_other_text_bytes() {
        assert_eq!(declared("nvarchar", 80, 0, 0), Ok(SourceType::NVarChar { units: 40 }));
        assert_eq!(
            declared("varchar", 80, 0, 0),
            Ok(SourceType::VarChar { bytes: 80, code_page: CodePage(1252) })
        );
    }

    #[test]
    fn a_length_of_minus_one_is_max() {
        assert_eq!(declared("nvarchar", -1, 0, 0), Ok(SourceType::NVarCharMax));
        assert_eq!(declared("varbinary", -1, 0, 0), Ok(SourceType::VarBinaryMax));
        assert_eq!(declared("varchar", -1, 0, 0), Ok(SourceType::VarCharMax { code_page: CodePage(1252) }));
    }

    #[test]
    fn what_is_not_carried_keeps_its_declared_name() {
        assert_eq!(declared("ntext", 16, 0, 0).unwrap_err().declared, "ntext");
        assert_eq!(declared("datetimeoffset", 10, 34, 7).unwrap_err().declared, "datetimeoffset(7)");
        assert_eq!(declared("xml", -1, 0, 0).unwrap_err().declared, "xml");
        assert!(declared("decimal", 17, 39, 0).is_err());
    }
}
