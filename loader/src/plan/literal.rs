//! Key values as T-SQL literals of the key's own type, so that a comparison converts no column and can seek.

use super::sql::string;
use crate::model::{CodePage, SourceType};

/// Why a table is not cut by a key of this type.
pub(super) fn uncuttable(source: SourceType) -> Option<&'static str> {
    match source {
        SourceType::Real | SourceType::Float => Some("a float's printed form does not name it exactly"),
        SourceType::VarCharMax { .. } | SourceType::NVarCharMax | SourceType::VarBinaryMax => {
            Some("its values have any length")
        }
        _ => None,
    }
}

/// A literal that the server reads back as exactly this value; `None` when `text` is not of the expected form
/// (the boundary is then left out, which makes one larger chunk and loses nothing).
pub(crate) fn literal(source: SourceType, collation: Option<&str>, text: &str) -> Option<String> {
    match source {
        SourceType::TinyInt | SourceType::SmallInt | SourceType::Int => {
            text.parse::<i32>().ok().map(|number| number.to_string())
        }
        SourceType::BigInt => text.parse::<i64>().ok().map(|number| format!("CAST({number} AS bigint)")),
        SourceType::Decimal { precision, scale } => {
            is_decimal(text).then(|| format!("CAST('{text}' AS decimal({precision},{scale}))"))
        }
        SourceType::Money => is_decimal(text).then(|| format!("CAST('{text}' AS money)")),
        SourceType::SmallMoney => is_decimal(text).then(|| format!("CAST('{text}' AS smallmoney)")),
        SourceType::Date => made_of(text, "-").then(|| format!("CAST('{text}' AS date)")),
        // With a T the form does not depend on the session's language or DATEFORMAT.
        SourceType::DateTime => moment(text, 3).map(|t| format!("CAST('{t}' AS datetime)")),
        SourceType::SmallDateTime => moment(text, 0).map(|t| format!("CAST('{t}' AS smalldatetime)")),
        SourceType::DateTime2 { scale } => {
            moment(text, scale.into()).map(|t| format!("CAST('{t}' AS datetime2({scale}))"))
        }
        SourceType::NChar { .. } | SourceType::NVarChar { .. } => is_printable(text).then(|| string(text)),
        SourceType::Char { bytes, code_page } | SourceType::VarChar { bytes, code_page } => {
            code_page_literal(text, bytes, code_page, collation)
        }
        SourceType::Binary { .. } | SourceType::VarBinary { .. } => {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
            let whole = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            whole.then(|| format!("0x{digits}"))
        }
        SourceType::UniqueIdentifier => {
            uuid::Uuid::try_parse(text).ok().map(|id| format!("CAST('{id:X}' AS uniqueidentifier)"))
        }
        SourceType::Bit => matches!(text, "0" | "1").then(|| format!("CAST({text} AS bit)")),
        SourceType::Real
        | SourceType::Float
        | SourceType::VarCharMax { .. }
        | SourceType::NVarCharMax
        | SourceType::VarBinaryMax => None,
    }
}

/// A `'…'` literal takes the database's code page, which need not be the column's: beyond ASCII the value is
/// written as Unicode and cast under the column's own collation.
fn code_page_literal(
    text: &str,
    bytes: u16,
    CodePage(page): CodePage,
    collation: Option<&str>,
) -> Option<String> {
    if !is_printable(text) {
        return None;
    }
    if text.is_ascii() && page != 1200 {
        return Some(format!("'{}'", text.replace('\'', "''")));
    }
    let collation = collation.filter(|c| c.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))?;
    Some(format!("CAST({} COLLATE {collation} AS varchar({bytes}))", string(text)))
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.len() < 42
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().filter(|b| *b == b'.').count() <= 1
        && digits.bytes().any(|b| b.is_ascii_digit())
}

fn made_of(text: &str, punctuation: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || punctuation.as_bytes().contains(&b))
}

/// `YYYY-MM-DD HH:MM:SS[.f…]` with a T between date and time and at most `digits` of the second.
fn moment(text: &str, digits: usize) -> Option<String> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let fits = date.len() == 10 && clock.len() == 8 && made_of(date, "-") && made_of(clock, ":");
    if !fits || !(fraction.is_empty() || made_of(fraction, "")) {
        return None;
    }
    let (kept, beyond) = fraction.split_at(fraction.len().min(digits));
    if beyond.bytes().any(|b| b != b'0') {
        return None;
    }
    Some(if kept.is_empty() { format!("{date}T{clock}") } else { format!("{date}T{clock}.{kept}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(source: SourceType, text: &str) -> Option<String> {
        literal(source, Some("Cyrillic_General_CI_AS"), text)
    }

    #[test]
    fn each_key_type_has_a_literal_of_its_own_type() {
        let varchar = SourceType::VarChar { bytes: 20, code_page: CodePage(1251) };
        let literals = [
            written(SourceType::Int, "-42"),
            written(SourceType::BigInt, "9223372036854775807"),
            written(SourceType::Decimal { precision: 10, scale: 2 }, "-12.50"),
            written(SourceType::Date, "0001-01-01"),
            written(SourceType::DateTime, "2020-02-29 23:59:59.997"),
            written(SourceType::SmallDateTime, "2020-02-29 23:59:00.000"),
            written(SourceType::DateTime2 { scale: 7 }, "9999-12-31 23:59:59.9999999"),
            written(varchar, "O'Neil"),
            written(varchar, "Ж"),
            written(SourceType::NVarChar { units: 9 }, "O'Ж"),
            written(SourceType::VarBinary { bytes: 4 }, "0x00FF"),
            written(SourceType::UniqueIdentifier, "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        ];
        let literals: Vec<_> = literals.into_iter().map(|l| l.expect("a literal")).collect();
        insta::assert_snapshot!(literals.join("\n"), @r"
        -42
        CAST(9223372036854775807 AS bigint)
        CAST('-12.50' AS decimal(10,2))
        CAST('0001-01-01' AS date)
        CAST('2020-02-29T23:59:59.997' AS datetime)
        CAST('2020-02-29T23:59:00' AS smalldatetime)
        CAST('9999-12-31T23:59:59.9999999' AS datetime2(7))
        'O''Neil'
        CAST(N'Ж' COLLATE Cyrillic_General_CI_AS AS varchar(20))
        N'O''Ж'
        0x00FF
        CAST('6F9619FF-8B86-D011-B42D-00C04FC964FF' AS uniqueidentifier)
        ");
    }

    #[test]
    fn a_value_that_no_literal_can_name_gives_no_boundary() {
        assert_eq!(written(SourceType::Int, "1; DROP TABLE t"), None);
        assert_eq!(written(SourceType::Decimal { precision: 5, scale: 2 }, "1.2.3"), None);
        assert_eq!(written(SourceType::NVarChar { units: 9 }, "a\u{0}b"), None);
        assert_eq!(written(SourceType::NVarChar { units: 9 }, "\u{fffd}"), None);
        assert_eq!(written(SourceType::VarBinary { bytes: 4 }, "0x0'"), None);
        assert_eq!(written(SourceType::DateTime, "2020-02-29 23:59:59.9975"), None);
        assert_eq!(written(SourceType::Float, "1.5"), None);
    }
}
