//! Values as bytes (MS-TDS 2.2.5.5), without the length that precedes them.

use keyferry_sql::{Collation, DataType, Decimal, Length, Rounding, Text, Value};

use crate::types::{decimal_size, time_size, token};

/// Days from 0001-01-01 to 1900-01-01, where datetime and smalldatetime begin.
const DAYS_TO_1900: i32 = 693_595;
/// Ticks of datetime in a day: 300 a second.
const DATETIME_TICKS: u64 = 300 * 86_400;
const MINUTE_NS: u64 = 60_000_000_000;

/// A value does not fit its column; the text names both kinds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value cannot be sent as {0}")]
pub(crate) struct Unfit(pub(crate) String);

/// Appends the bytes of a value that is not NULL.
pub(crate) fn put_value(ty: &DataType, value: &Value, into: &mut Vec<u8>) -> Result<(), Unfit> {
    let unfit = || Unfit(ty.to_string());
    match (ty, value) {
        (DataType::Bit, _) => into.push(u8::from(integer(value).ok_or_else(unfit)? != 0)),
        (DataType::TinyInt, _) => {
            into.push(integer(value).and_then(|n| u8::try_from(n).ok()).ok_or_else(unfit)?);
        }
        (DataType::SmallInt, _) => {
            let n = integer(value).and_then(|n| i16::try_from(n).ok()).ok_or_else(unfit)?;
            into.extend(n.to_le_bytes());
        }
        (DataType::Int, _) => {
            let n = integer(value).and_then(|n| i32::try_from(n).ok()).ok_or_else(unfit)?;
            into.extend(n.to_le_bytes());
        }
        (DataType::BigInt, _) => into.extend(integer(value).ok_or_else(unfit)?.to_le_bytes()),
        (DataType::Decimal { precision, scale }, _) => {
            let decimal = decimal(value, *scale).filter(|d| d.fits(*precision)).ok_or_else(unfit)?;
            put_decimal(decimal, *precision, into);
        }
        (DataType::Money, _) => {
            let units = decimal(value, 4).and_then(|d| i64::try_from(d.unscaled).ok()).ok_or_else(unfit)?;
            into.extend(((units >> 32) as i32).to_le_bytes()); // the high word comes first
            into.extend((units as u32).to_le_bytes());
        }
        (DataType::SmallMoney, _) => {
            let units = decimal(value, 4).and_then(|d| i32::try_from(d.unscaled).ok()).ok_or_else(unfit)?;
            into.extend(units.to_le_bytes());
        }
        (DataType::Real, Value::Real(number)) => into.extend(number.to_le_bytes()),
        (DataType::Real, Value::Float(number)) => into.extend((*number as f32).to_le_bytes()),
        (DataType::Float, Value::Real(number)) => into.extend(f64::from(*number).to_le_bytes()),
        (DataType::Float, Value::Float(number)) => into.extend(number.to_le_bytes()),
        (DataType::Date, Value::Date(days) | Value::DateTime { days, .. }) => put_days(*days, into),
        (DataType::Time { scale }, Value::Time(ns)) => put_time(*ns, *scale, into),
        (DataType::SmallDateTime, Value::DateTime { days, ns }) => {
            let days = u16::try_from(days - DAYS_TO_1900).map_err(|_| unfit())?;
            into.extend(days.to_le_bytes());
            into.extend(((ns / MINUTE_NS) as u16).to_le_bytes());
        }
        (DataType::DateTime, Value::DateTime { days, ns }) => {
            // The evaluator keeps milliseconds (.000, .003, .007): this finds the tick they stand for.
            let ticks = (ns * 3 + 5_000_000) / 10_000_000;
            let (days, ticks) = if ticks == DATETIME_TICKS { (days + 1, 0) } else { (*days, ticks) };
            into.extend((days - DAYS_TO_1900).to_le_bytes());
            into.extend((ticks as u32).to_le_bytes());
        }
        (DataType::DateTime2 { scale }, Value::DateTime { days, ns }) => {
            put_time(*ns, *scale, into);
            put_days(*days, into);
        }
        (DataType::DateTimeOffset { scale }, Value::DateTimeOffset { days, ns, minutes }) => {
            put_time(*ns, *scale, into);
            put_days(*days, into);
            into.extend(minutes.to_le_bytes());
        }
        (DataType::UniqueIdentifier, Value::Uuid(bytes)) => {
            let mut bytes = *bytes;
            swap_uuid(&mut bytes);
            into.extend(bytes);
        }
        (DataType::Char { length, collation }, Value::Text(text)) => {
            let start = into.len();
            into.extend_from_slice(&collation.encode(text));
            pad(into, start + usize::from(*length), b" ");
        }
        (DataType::VarChar { collation, .. } | DataType::Text { collation }, Value::Text(text)) => {
            into.extend_from_slice(&collation.encode(text));
        }
        (DataType::NChar { length, .. }, Value::Text(text)) => {
            let start = into.len();
            put_utf16(text, into);
            pad(into, start + usize::from(*length) * 2, &[b' ', 0]);
        }
        // XML has no byte order mark here: clients that hand one out add it (MS-TDS 4.15 shows none).
        (DataType::NVarChar { .. } | DataType::NText { .. } | DataType::Xml, Value::Text(text)) => {
            put_utf16(text, into);
        }
        (DataType::Binary { length }, Value::Bytes(bytes)) => {
            let start = into.len();
            into.extend_from_slice(bytes);
            pad(into, start + usize::from(*length), &[0]);
        }
        (
            DataType::VarBinary { .. } | DataType::Image | DataType::RowVersion | DataType::Clr(_),
            Value::Bytes(bytes),
        ) => into.extend_from_slice(bytes),
        (DataType::SqlVariant, Value::Typed(typed)) => put_variant(&typed.0, &typed.1, into)?,
        _ => return Err(unfit()),
    }
    Ok(())
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Bool(bit) => Some(i64::from(*bit)),
        Value::Decimal(decimal) if decimal.scale == 0 => i64::try_from(decimal.unscaled).ok(),
        _ => None,
    }
}

fn decimal(value: &Value, scale: u8) -> Option<Decimal> {
    let decimal = match value {
        Value::Decimal(decimal) => *decimal,
        _ => Decimal::new(i128::from(integer(value)?), 0),
    };
    if decimal.scale == scale { Some(decimal) } else { decimal.rescale(scale, Rounding::HalfUp) }
}

/// A sign byte (1 is plus) and the magnitude, little-endian.
fn put_decimal(decimal: Decimal, precision: u8, into: &mut Vec<u8>) {
    into.push(u8::from(decimal.unscaled >= 0));
    let magnitude = decimal.unscaled.unsigned_abs().to_le_bytes();
    into.extend_from_slice(&magnitude[..usize::from(decimal_size(precision)) - 1]);
}

fn put_days(days: i32, into: &mut Vec<u8>) {
    into.extend_from_slice(&days.to_le_bytes()[..3]);
}

fn put_time(ns: u64, scale: u8, into: &mut Vec<u8>) {
    let units = ns / 10_u64.pow(9 - u32::from(scale.min(7)));
    into.extend_from_slice(&units.to_le_bytes()[..usize::from(time_size(scale))]);
}

/// Between the order of the text and that of the wire: the first three groups are little-endian there.
pub(crate) fn swap_uuid(bytes: &mut [u8; 16]) {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
}

fn put_utf16(text: &Text, into: &mut Vec<u8>) {
    match text.as_str() {
        Some(text) => {
            into.reserve(text.len() * 2);
            for unit in text.encode_utf16() {
                into.extend_from_slice(&unit.to_le_bytes());
            }
        }
        None => into.extend(text.utf16le()),
    }
}

fn pad(into: &mut Vec<u8>, upto: usize, with: &[u8]) {
    while into.len() < upto {
        into.extend_from_slice(with);
    }
}

/// `sql_variant`: base type, its properties, the value.
fn put_variant(ty: &DataType, value: &Value, into: &mut Vec<u8>) -> Result<(), Unfit> {
    let text = |base: u8, bytes: u16, collation: &Collation, into: &mut Vec<u8>| {
        into.extend([base, 7]);
        into.extend(collation.tds());
        into.extend(bytes.to_le_bytes());
    };
    let length = |length: &Length, unit: u16| match length {
        Length::Fixed(count) => count.saturating_mul(unit),
        Length::Max => 8000,
    };
    match ty {
        DataType::Bit => into.extend([token::BIT, 0]),
        DataType::TinyInt => into.extend([token::INT1, 0]),
        DataType::SmallInt => into.extend([token::INT2, 0]),
        DataType::Int => into.extend([token::INT4, 0]),
        DataType::BigInt => into.extend([token::INT8, 0]),
        DataType::Real => into.extend([token::FLT4, 0]),
        DataType::Float => into.extend([token::FLT8, 0]),
        DataType::Money => into.extend([token::MONEY, 0]),
        DataType::SmallMoney => into.extend([token::MONEY4, 0]),
        DataType::DateTime => into.extend([token::DATETIME, 0]),
        DataType::SmallDateTime => into.extend([token::DATETIM4, 0]),
        DataType::UniqueIdentifier => into.extend([token::GUID, 0]),
        DataType::Date => into.extend([token::DATEN, 0]),
        DataType::Time { scale } => into.extend([token::TIMEN, 1, *scale]),
        DataType::DateTime2 { scale } => into.extend([token::DATETIME2N, 1, *scale]),
        DataType::DateTimeOffset { scale } => into.extend([token::DATETIMEOFFSETN, 1, *scale]),
        DataType::Decimal { precision, scale } => into.extend([token::DECIMALN, 2, *precision, *scale]),
        DataType::Char { length, collation } => text(token::BIGCHAR, *length, collation, into),
        DataType::NChar { length, collation } => text(token::NCHAR, *length * 2, collation, into),
        DataType::VarChar { length: n, collation } => text(token::BIGVARCHAR, length(n, 1), collation, into),
        DataType::NVarChar { length: n, collation } => text(token::NVARCHAR, length(n, 2), collation, into),
        DataType::Binary { length } => {
            into.extend([token::BIGBINARY, 2]);
            into.extend(length.to_le_bytes());
        }
        DataType::VarBinary { length: n } => {
            into.extend([token::BIGVARBIN, 2]);
            into.extend(length(n, 1).to_le_bytes());
        }
        other => return Err(Unfit(format!("sql_variant of {other}"))),
    }
    put_value(ty, value, into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(ty: &DataType, value: &Value) -> Vec<u8> {
        let mut into = Vec::new();
        put_value(ty, value, &mut into).unwrap();
        into
    }

    #[test]
    fn money_has_its_high_word_first() {
        let value = Value::Decimal(Decimal::new(i128::from(i64::MIN), 4));
        assert_eq!(bytes(&DataType::Money, &value), [0, 0, 0, 0x80, 0, 0, 0, 0]);
        let one = Value::Decimal(Decimal::new(-1, 4));
        assert_eq!(bytes(&DataType::Money, &one), [0xFF; 8]);
    }

    #[test]
    fn decimals_have_a_sign_and_a_magnitude_of_the_precisions_size() {
        let ty = DataType::Decimal { precision: 9, scale: 2 };
        assert_eq!(bytes(&ty, &Value::Decimal(Decimal::new(-258, 2))), [0, 2, 1, 0, 0]);
        let wide = DataType::Decimal { precision: 38, scale: 0 };
        assert_eq!(bytes(&wide, &Value::Decimal(Decimal::new(10_i128.pow(38) - 1, 0))).len(), 17);
    }

    #[test]
    fn datetime_milliseconds_become_ticks_of_a_300th() {
        let at = |ms: u64| Value::DateTime { days: DAYS_TO_1900, ns: ms * 1_000_000 };
        for (ms, tick) in [(0, 0), (3, 1), (7, 2), (10, 3), (86_399_997, 25_919_999_u32)] {
            let sent = bytes(&DataType::DateTime, &at(ms));
            assert_eq!(sent[4..], tick.to_le_bytes(), "{ms} ms");
        }
    }

    #[test]
    fn the_first_and_last_instants_of_datetime2_fit() {
        let ty = DataType::DateTime2 { scale: 7 };
        assert_eq!(bytes(&ty, &Value::DateTime { days: 0, ns: 0 }), [0; 8]);
        let last = Value::DateTime { days: 3_652_058, ns: 86_399_999_999_900 };
        assert_eq!(bytes(&ty, &last), [0xFF, 0xBF, 0x69, 0x2A, 0xC9, 0xDA, 0xB9, 0x37]);
    }

    #[test]
    fn a_uniqueidentifier_is_mixed_endian() {
        let text: [u8; 16] = std::array::from_fn(|index| index as u8);
        let sent = bytes(&DataType::UniqueIdentifier, &Value::Uuid(text));
        assert_eq!(sent, [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn text_is_sent_in_its_columns_code_page_and_char_is_padded() {
        let collation = Collation::parse("Cyrillic_General_CI_AS").unwrap();
        let ty = DataType::Char { length: 4, collation };
        assert_eq!(bytes(&ty, &Value::text("Яд")), [0xDF, 0xE4, b' ', b' ']);
    }

    #[test]
    fn a_lone_surrogate_survives() {
        let ty = DataType::NVarChar { length: Length::Max, collation: Collation::default() };
        let value = Value::Text(Text::from_utf16(&[0xD800, 0x41]));
        assert_eq!(bytes(&ty, &value), [0x00, 0xD8, 0x41, 0x00]);
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        assert!(put_value(&DataType::Int, &Value::text("1"), &mut Vec::new()).is_err());
        assert!(put_value(&DataType::TinyInt, &Value::Int(256), &mut Vec::new()).is_err());
    }
}
