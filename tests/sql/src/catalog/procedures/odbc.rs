//! SQL Server's types in ODBC's terms, as `sp_columns_100` and `sp_datatype_info_100` tell them.

use crate::{
    catalog::{Sheet, int, smallint, sysname},
    types::{DataType, Length},
    value::Value,
};

use super::{number, varchar};

/// What ODBC is told about a column's type.
pub(super) struct Facts {
    /// `DATA_TYPE`: ODBC 3's code.
    pub code: i64,
    /// `SQL_DATA_TYPE`: the same, but for dates the code of their family.
    pub family: i64,
    /// `SQL_DATETIME_SUB`.
    pub part: Option<i64>,
    pub precision: i64,
    pub length: i64,
    pub scale: Option<i64>,
    pub radix: Option<i64>,
    pub octets: Option<i64>,
}

const DATETIME: i64 = 9;

pub(super) fn facts(ty: &DataType) -> Facts {
    let exact = |code, precision, length, scale| Facts {
        code,
        family: code,
        part: None,
        precision,
        length,
        scale: Some(scale),
        radix: Some(10),
        octets: None,
    };
    let plain =
        |code, precision, length| Facts { scale: None, radix: None, ..exact(code, precision, length, 0) };
    let moment = |code, part, precision, length, scale| Facts {
        family: if code < 0 { code } else { DATETIME },
        part,
        radix: None,
        scale,
        ..exact(code, precision, length, 0)
    };
    let sized = |code, length: &Length, unit: i64| {
        let (characters, bytes) = match length {
            Length::Fixed(length) => (i64::from(*length), i64::from(*length) * unit),
            Length::Max => (0, 0),
        };
        Facts { octets: Some(bytes), ..plain(code, characters, bytes) }
    };
    let fraction = |whole: i64, scale: u8| if scale == 0 { whole } else { whole + 1 + i64::from(scale) };
    match ty {
        DataType::Bit => plain(-7, 1, 1),
        DataType::TinyInt => exact(-6, 3, 1, 0),
        DataType::SmallInt => exact(5, 5, 2, 0),
        DataType::BigInt => exact(-5, 19, 8, 0),
        DataType::Decimal { precision, scale } => {
            exact(3, i64::from(*precision), i64::from(*precision) + 2, i64::from(*scale))
        }
        DataType::Money => exact(3, 19, 21, 4),
        DataType::SmallMoney => exact(3, 10, 12, 4),
        DataType::Real => Facts { scale: None, radix: Some(2), ..exact(7, 24, 4, 0) },
        DataType::Float => Facts { scale: None, radix: Some(2), ..exact(6, 53, 8, 0) },
        DataType::Date => moment(91, Some(1), 10, 6, Some(0)),
        DataType::Time { scale } => moment(-154, None, fraction(8, *scale), 12, Some(i64::from(*scale))),
        DataType::SmallDateTime => moment(93, Some(3), 16, 16, Some(0)),
        DataType::DateTime => moment(93, Some(3), 23, 16, Some(3)),
        DataType::DateTime2 { scale } => {
            moment(93, Some(3), fraction(19, *scale), 16, Some(i64::from(*scale)))
        }
        DataType::DateTimeOffset { scale } => {
            moment(-155, None, fraction(26, *scale), 20, Some(i64::from(*scale)))
        }
        DataType::Char { length, .. } => sized(1, &Length::Fixed(*length), 1),
        DataType::VarChar { length, .. } => sized(12, length, 1),
        DataType::NChar { length, .. } => sized(-8, &Length::Fixed(*length), 2),
        DataType::NVarChar { length, .. } => sized(-9, length, 2),
        DataType::Text { .. } => Facts { octets: Some(0x7FFF_FFFF), ..plain(-1, 0x7FFF_FFFF, 0x7FFF_FFFF) },
        DataType::NText { .. } => Facts { octets: Some(0x7FFF_FFFE), ..plain(-10, 0x3FFF_FFFF, 0x7FFF_FFFE) },
        DataType::Binary { length } => sized(-2, &Length::Fixed(*length), 1),
        DataType::VarBinary { length } => sized(-3, length, 1),
        DataType::Image => Facts { octets: Some(0x7FFF_FFFF), ..plain(-4, 0x7FFF_FFFF, 0x7FFF_FFFF) },
        DataType::RowVersion => sized(-2, &Length::Fixed(8), 1),
        DataType::UniqueIdentifier => plain(-11, 36, 16),
        DataType::Xml => Facts { octets: Some(0), ..plain(-152, 0, 0) },
        DataType::SqlVariant => plain(-150, 8000, 8000),
        DataType::Clr(_) => Facts { octets: Some(0), ..plain(-151, 0, 0) },
        _ => exact(4, 10, 4, 0),
    }
}

/// `SS_DATA_TYPE`: the type's token on the wire.
pub(super) fn token(ty: &DataType, nullable: bool) -> i64 {
    let of = |fixed: i64, n: i64| if nullable { n } else { fixed };
    match ty {
        DataType::Bit => of(50, 50),
        DataType::TinyInt => of(48, 38),
        DataType::SmallInt => of(52, 38),
        DataType::BigInt => of(63, 108),
        DataType::Decimal { .. } => of(55, 106),
        DataType::Money => of(60, 110),
        DataType::SmallMoney => of(122, 110),
        DataType::Real => of(59, 109),
        DataType::Float => of(62, 109),
        DataType::SmallDateTime => of(58, 111),
        DataType::DateTime => of(61, 111),
        DataType::Date
        | DataType::Time { .. }
        | DataType::DateTime2 { .. }
        | DataType::DateTimeOffset { .. } => 0,
        DataType::Char { .. } | DataType::NChar { .. } => of(47, 39),
        DataType::VarChar { .. } | DataType::NVarChar { .. } | DataType::SqlVariant => 39,
        DataType::Text { .. } | DataType::NText { .. } => 35,
        DataType::Image => 34,
        DataType::Binary { .. } | DataType::RowVersion => of(45, 37),
        DataType::VarBinary { .. } | DataType::UniqueIdentifier => 37,
        DataType::Xml => 0,
        DataType::Clr(_) => 23,
        _ => of(56, 38),
    }
}

/// One row of `sp_datatype_info`: name, code, precision, prefix, suffix, parameters, searchable, unsigned, money,
/// identity, least and largest scale, user type.
type Kind = (
    &'static str,
    i64,
    i64,
    Option<&'static str>,
    Option<&'static str>,
    i64,
    Option<i64>,
    i64,
    Option<i64>,
    Option<(i64, i64)>,
    i64,
);

const PARTS: [Option<&str>; 4] = [None, Some("precision,scale"), Some("length"), Some("max length")];

const KINDS: &[Kind] = &[
    ("datetimeoffset", -155, 34, Some("'"), Some("'"), 0, None, 0, None, Some((0, 7)), 0),
    ("time", -154, 16, Some("'"), Some("'"), 0, None, 0, None, Some((0, 7)), 0),
    ("xml", -152, 0, Some("N'"), Some("'"), 0, None, 0, None, None, 0),
    ("sql_variant", -150, 8000, None, None, 0, None, 0, None, Some((0, 0)), 39),
    ("uniqueidentifier", -11, 36, Some("'"), Some("'"), 0, None, 0, None, None, 37),
    ("ntext", -10, 0x3FFF_FFFF, Some("N'"), Some("'"), 0, None, 0, None, None, 0),
    ("nvarchar", -9, 4000, Some("N'"), Some("'"), 3, None, 0, None, None, 0),
    ("sysname", -9, 128, Some("N'"), Some("'"), 0, None, 0, None, None, 18),
    ("nchar", -8, 4000, Some("N'"), Some("'"), 2, None, 0, None, None, 0),
    ("bit", -7, 1, None, None, 0, None, 0, None, Some((0, 0)), 16),
    ("tinyint", -6, 3, None, None, 0, Some(1), 0, Some(0), Some((0, 0)), 5),
    ("tinyint identity", -6, 3, None, None, 0, Some(1), 0, Some(1), Some((0, 0)), 5),
    ("bigint", -5, 19, None, None, 0, Some(0), 0, Some(0), Some((0, 0)), 0),
    ("bigint identity", -5, 19, None, None, 0, Some(0), 0, Some(1), Some((0, 0)), 0),
    ("image", -4, 0x7FFF_FFFF, Some("0x"), None, 0, None, 0, None, None, 20),
    ("varbinary", -3, 8000, Some("0x"), None, 3, None, 0, None, None, 4),
    ("binary", -2, 8000, Some("0x"), None, 2, None, 0, None, None, 3),
    ("timestamp", -2, 8, Some("0x"), None, 0, None, 0, None, None, 80),
    ("text", -1, 0x7FFF_FFFF, Some("'"), Some("'"), 0, None, 0, None, None, 19),
    ("char", 1, 8000, Some("'"), Some("'"), 2, None, 0, None, None, 1),
    ("numeric", 2, 38, None, None, 1, Some(0), 0, Some(0), Some((0, 38)), 10),
    ("numeric() identity", 2, 38, None, None, 1, Some(0), 0, Some(1), Some((0, 0)), 10),
    ("decimal", 3, 38, None, None, 1, Some(0), 0, Some(0), Some((0, 38)), 24),
    ("money", 3, 19, Some("$"), None, 0, Some(0), 1, Some(0), Some((4, 4)), 11),
    ("smallmoney", 3, 10, Some("$"), None, 0, Some(0), 1, Some(0), Some((4, 4)), 21),
    ("decimal() identity", 3, 38, None, None, 1, Some(0), 0, Some(1), Some((0, 0)), 24),
    ("int", 4, 10, None, None, 0, Some(0), 0, Some(0), Some((0, 0)), 7),
    ("int identity", 4, 10, None, None, 0, Some(0), 0, Some(1), Some((0, 0)), 7),
    ("smallint", 5, 5, None, None, 0, Some(0), 0, Some(0), Some((0, 0)), 6),
    ("smallint identity", 5, 5, None, None, 0, Some(0), 0, Some(1), Some((0, 0)), 6),
    ("float", 6, 53, None, None, 0, Some(0), 0, Some(0), None, 8),
    ("real", 7, 24, None, None, 0, Some(0), 0, Some(0), None, 23),
    ("varchar", 12, 8000, Some("'"), Some("'"), 3, None, 0, None, None, 2),
    ("date", 91, 10, Some("'"), Some("'"), 0, None, 0, None, Some((0, 0)), 0),
    ("datetime2", 93, 27, Some("'"), Some("'"), 0, None, 0, None, Some((0, 7)), 0),
    ("datetime", 93, 23, Some("'"), Some("'"), 0, None, 0, None, Some((3, 3)), 12),
    ("smalldatetime", 93, 16, Some("'"), Some("'"), 0, None, 0, None, Some((0, 0)), 22),
];

/// The types of one ODBC code, or all of them for 0.
pub(super) fn data_types(code: i64) -> Sheet {
    let mut sheet = Sheet::new(&[
        sysname("TYPE_NAME"),
        smallint("DATA_TYPE"),
        int("PRECISION"),
        varchar("LITERAL_PREFIX", 32),
        varchar("LITERAL_SUFFIX", 32),
        varchar("CREATE_PARAMS", 32),
        smallint("NULLABLE"),
        smallint("CASE_SENSITIVE"),
        smallint("SEARCHABLE"),
        smallint("UNSIGNED_ATTRIBUTE"),
        smallint("MONEY"),
        smallint("AUTO_INCREMENT"),
        sysname("LOCAL_TYPE_NAME"),
        smallint("MINIMUM_SCALE"),
        smallint("MAXIMUM_SCALE"),
        smallint("SQL_DATA_TYPE"),
        smallint("SQL_DATETIME_SUB"),
        int("NUM_PREC_RADIX"),
        smallint("INTERVAL_PRECISION"),
        smallint("USERTYPE"),
    ]);
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::text);
    for (name, number_of, precision, prefix, suffix, parts, unsigned, money, identity, scales, user) in KINDS
    {
        if code != 0 && code != *number_of {
            continue;
        }
        let moment = matches!(number_of, 91 | 93);
        let radix = match number_of {
            6 | 7 => Some(2),
            2..=5 | -5 | -6 => Some(10),
            _ => None,
        };
        // Large values can be searched by LIKE at most, some not at all.
        let searchable = match *name {
            "text" | "ntext" => 1,
            "image" | "xml" => 0,
            "sql_variant" | "uniqueidentifier" | "binary" | "varbinary" | "timestamp" => 2,
            name if name.contains("char") || name == "sysname" || name.contains("date") || name == "time" => {
                3
            }
            _ => 2,
        };
        sheet.push(vec![
            Value::text(name),
            Value::Int(*number_of),
            Value::Int(*precision),
            text(*prefix),
            text(*suffix),
            text(PARTS.get(*parts as usize).copied().flatten()),
            Value::Int(i64::from(*identity != Some(1) && *name != "timestamp")),
            Value::Int(i64::from(*name == "xml")),
            Value::Int(searchable),
            number(*unsigned),
            Value::Int(*money),
            number(*identity),
            Value::text(name),
            number(scales.map(|(least, _)| least)),
            number(scales.map(|(_, most)| most)),
            Value::Int(if moment { DATETIME } else { *number_of }),
            number(moment.then_some(if *number_of == 91 { 1 } else { 3 })),
            number(radix),
            Value::Null,
            Value::Int(*user),
        ]);
    }
    sheet
}
