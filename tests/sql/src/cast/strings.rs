//! Conversions to text and bytes, and their declared lengths.

use std::sync::Arc;

use crate::{
    calendar,
    cast::{Cast, Mode},
    decimal::Rounding,
    error::{SqlError, quote},
    text::Text,
    types::{DataType, Dialect, Length},
    value::Value,
};

/// The text that a value is shown as by a cast.
pub(crate) fn to_text(cast: &Cast, value: &Value, from: &DataType, to: &DataType) -> Result<Text, SqlError> {
    let snowflake = cast.dialect == Dialect::Snowflake;
    Ok(Text::from(match value {
        Value::Text(text) => return Ok(text.clone()),
        Value::Null => String::new(),
        Value::Bool(value) if snowflake => value.to_string(),
        Value::Bool(value) => u8::from(*value).to_string(),
        Value::Int(value) => value.to_string(),
        Value::Decimal(value)
            if matches!(from, DataType::Money | DataType::SmallMoney) && cast.style != 2 =>
        {
            value.rescale(2, Rounding::HalfUp).unwrap_or(*value).to_string()
        }
        Value::Decimal(value) => value.to_string(),
        Value::Real(value) if snowflake => float_text(f64::from(*value)),
        Value::Float(value) if snowflake => float_text(*value),
        Value::Real(value) => mssql_float(f64::from(*value), cast.style, 8),
        Value::Float(value) => mssql_float(*value, cast.style, 16),
        Value::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).hyphenated().to_string().to_uppercase(),
        Value::Bytes(bytes) if snowflake => hex(bytes),
        Value::Bytes(bytes) => match cast.style {
            1 => format!("0x{}", hex(bytes)),
            2 => hex(bytes),
            _ => {
                return Ok(if let Some(collation) = to.collation().filter(|_| to.has_code_page()) {
                    collation.decode(bytes)
                } else {
                    let units =
                        bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
                    Text::from_utf16(&units.collect::<Vec<_>>())
                });
            }
        },
        Value::Date(days) if snowflake || matches!(cast.style, 0 | 23 | 121 | 126 | 120) => {
            calendar::date_text(*days)
        }
        Value::Date(days) => styled(*days, 0, 0, cast.style)?,
        Value::Time(ns) => calendar::time_text(*ns, from.fraction().unwrap_or(7)),
        Value::DateTime { days, ns } => {
            let fraction = from.fraction().unwrap_or(7);
            let old = matches!(from, DataType::DateTime | DataType::SmallDateTime);
            if snowflake || (!old && cast.style == 0) {
                format!("{} {}", calendar::date_text(*days), calendar::time_text(*ns, fraction))
            } else {
                styled(*days, *ns, fraction, cast.style)?
            }
        }
        Value::DateTimeOffset { days, ns, minutes } => {
            let (days, ns) = calendar::local(*days, *ns, *minutes);
            let clock = calendar::time_text(ns, from.fraction().unwrap_or(7));
            let sign = if *minutes < 0 { '-' } else { '+' };
            let (hour, minute) = (minutes.abs() / 60, minutes.abs() % 60);
            let date = calendar::date_text(days);
            if snowflake {
                format!("{date} {clock} {sign}{hour:02}{minute:02}")
            } else {
                format!("{date} {clock} {sign}{hour:02}:{minute:02}")
            }
        }
        Value::Variant(variant) => crate::json::text_of(variant),
        Value::Typed(typed) => return to_text(cast, &typed.1, &typed.0, to),
    }))
}

/// A date and time in one of CONVERT's styles.
fn styled(days: i32, ns: u64, fraction: u8, style: i32) -> Result<String, SqlError> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = calendar::ymd(days);
    let clock = calendar::time_text(ns, 0);
    let precise = calendar::time_text(ns, fraction);
    let name = MONTHS[(month - 1) as usize % 12];
    Ok(match style {
        0 | 100 => {
            let hour = ns / 3_600_000_000_000;
            let minute = ns / 60_000_000_000 % 60;
            let half = if hour < 12 { "AM" } else { "PM" };
            format!("{name} {day:>2} {year} {:>2}:{minute:02}{half}", (hour + 11) % 12 + 1)
        }
        101 => format!("{month:02}/{day:02}/{year:04}"),
        102 => format!("{year:04}.{month:02}.{day:02}"),
        103 => format!("{day:02}/{month:02}/{year:04}"),
        104 => format!("{day:02}.{month:02}.{year:04}"),
        105 => format!("{day:02}-{month:02}-{year:04}"),
        108 => clock,
        110 => format!("{month:02}-{day:02}-{year:04}"),
        111 => format!("{year:04}/{month:02}/{day:02}"),
        112 => format!("{year:04}{month:02}{day:02}"),
        114 => precise.replace('.', ":"),
        20 | 120 => format!("{year:04}-{month:02}-{day:02} {clock}"),
        21 | 25 | 121 => format!("{year:04}-{month:02}-{day:02} {precise}"),
        23 => format!("{year:04}-{month:02}-{day:02}"),
        126 | 127 => {
            let precise = if precise.contains('.') && precise.trim_end_matches('0').ends_with('.') {
                clock
            } else {
                precise
            };
            format!("{year:04}-{month:02}-{day:02}T{precise}")
        }
        other => {
            return Err(SqlError::mssql(
                281,
                format!(
                    "{other} is not a valid style number when converting from datetime to a character string."
                ),
            ));
        }
    })
}

/// Upper-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Bytes of hexadecimal digits; None if there is anything else.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()).collect()
}

/// SQL Server's text of a float: six significant digits, or as many as style 3 needs.
fn mssql_float(value: f64, style: i32, exact_digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = match style {
        1 => 8,
        2 => 16,
        3 => exact_digits + 1,
        _ => 6,
    };
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if style == 0 && (-5..digits as i32).contains(&exponent) {
        let places = (digits as i32 - 1 - exponent).max(0) as usize;
        let text = format!("{value:.places$}");
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    let mantissa = if style == 0 { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:03}", exponent.abs())
}

/// Snowflake's text of a FLOAT.
pub(crate) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let magnitude = value.abs();
    if value == 0.0 || (1e-5..1e15).contains(&magnitude) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Cuts, pads or refuses text by its declared length, and passes it through its code page.
pub(super) fn fit_text(cast: &Cast, text: Text, to: &DataType) -> Result<Value, SqlError> {
    let too_long = || match cast.dialect {
        Dialect::Snowflake => SqlError::snowflake(
            100_078,
            "22000",
            format!("String '{}' is too long and would be truncated", quote(text.lossy())),
        ),
        Dialect::SqlServer => {
            SqlError::mssql(8152, "String or binary data would be truncated.").with_state(10)
        }
    };
    match to {
        DataType::String { length } => {
            let limit = *length as usize;
            let Some(plain) = text.as_str() else { return Ok(Value::Text(text)) };
            if plain.len() <= limit || plain.chars().count() <= limit {
                return Ok(Value::Text(text));
            }
            if cast.mode == Mode::Assign {
                return Err(too_long());
            }
            Ok(Value::text(plain.chars().take(limit).collect::<String>()))
        }
        DataType::Char { .. } | DataType::VarChar { .. } | DataType::Text { .. } => {
            let collation = to.collation().unwrap_or_default();
            let (limit, pad) = match to {
                DataType::Char { length, .. } => (usize::from(*length), true),
                DataType::VarChar { length: Length::Fixed(length), .. } => (usize::from(*length), false),
                _ => (usize::MAX, false),
            };
            if let Some(plain) = text.as_str()
                && plain.is_ascii()
                && plain.len() <= limit
                && !(pad && plain.len() < limit)
            {
                return Ok(Value::Text(text));
            }
            let mut bytes = collation.encode(&text).into_owned();
            if bytes.len() > limit {
                let rest_is_blank = bytes[limit..].iter().all(|byte| *byte == b' ');
                if cast.mode == Mode::Assign && !rest_is_blank {
                    return Err(too_long());
                }
                bytes.truncate(limit);
                // A character of several bytes is not cut in two.
                let mut decoded = collation.decode(&bytes);
                if decoded.lossy().ends_with('\u{FFFD}') {
                    let shorter = decoded.lossy().trim_end_matches('\u{FFFD}').to_owned();
                    decoded = Text::from(shorter);
                }
                bytes = collation.encode(&decoded).into_owned();
            }
            if pad {
                bytes.resize(limit, b' ');
            }
            Ok(Value::Text(collation.decode(&bytes)))
        }
        DataType::NChar { .. } | DataType::NVarChar { .. } => {
            let (limit, pad) = match to {
                DataType::NChar { length, .. } => (usize::from(*length), true),
                DataType::NVarChar { length: Length::Fixed(length), .. } => (usize::from(*length), false),
                _ => (usize::MAX, false),
            };
            let units = text.utf16_len();
            if units <= limit && !(pad && units < limit) {
                return Ok(Value::Text(text));
            }
            let mut units = text.utf16();
            if units.len() > limit {
                if cast.mode == Mode::Assign && units[limit..].iter().any(|unit| *unit != 0x20) {
                    return Err(too_long());
                }
                units.truncate(limit);
            }
            if pad {
                units.resize(limit, 0x20);
            }
            Ok(Value::Text(Text::from_utf16(&units)))
        }
        _ => Ok(Value::Text(text)),
    }
}

/// The bytes of a value, before its declared length is applied.
pub(super) fn to_bytes(
    cast: &Cast,
    value: &Value,
    from: &DataType,
    to: &DataType,
) -> Result<Vec<u8>, SqlError> {
    if cast.dialect == Dialect::Snowflake {
        return match value {
            Value::Bytes(bytes) => Ok(bytes.to_vec()),
            Value::Text(text) => unhex(&text.lossy()).ok_or_else(|| {
                SqlError::snowflake(
                    100_115,
                    "22000",
                    format!(
                        "The following string is not a legal hex-encoded value: '{}'",
                        quote(text.lossy())
                    ),
                )
            }),
            _ => Err(cast.refused(from, to)),
        };
    }
    Ok(match value {
        Value::Bytes(bytes) => bytes.to_vec(),
        Value::Text(text) if cast.style == 1 || cast.style == 2 => {
            let text = text.lossy();
            let digits = if cast.style == 1 { text.strip_prefix("0x").unwrap_or(&text) } else { &text };
            unhex(digits).ok_or_else(|| {
                SqlError::mssql(8114, format!("Error converting data type {} to {}.", from.name(), to.name()))
            })?
        }
        Value::Text(text) => match from.collation().filter(|_| from.has_code_page()) {
            Some(collation) => collation.encode(text).into_owned(),
            None => text.utf16le(),
        },
        Value::Bool(value) => vec![u8::from(*value)],
        Value::Int(value) => match from {
            DataType::TinyInt => vec![*value as u8],
            DataType::SmallInt => (*value as i16).to_be_bytes().to_vec(),
            DataType::BigInt => value.to_be_bytes().to_vec(),
            _ => (*value as i32).to_be_bytes().to_vec(),
        },
        Value::Decimal(value) if *from == DataType::Money => (value.unscaled as i64).to_be_bytes().to_vec(),
        Value::Decimal(value) if *from == DataType::SmallMoney => {
            (value.unscaled as i32).to_be_bytes().to_vec()
        }
        Value::Decimal(value) => {
            let (precision, scale) = from.precision_scale().unwrap_or((38, value.scale));
            let width = match precision {
                0..=9 => 4,
                10..=19 => 8,
                20..=28 => 12,
                _ => 16,
            };
            let mut bytes = vec![precision, scale, 0, u8::from(value.unscaled >= 0)];
            bytes.extend_from_slice(&value.unscaled.unsigned_abs().to_le_bytes()[..width]);
            bytes
        }
        Value::Real(value) => value.to_bits().to_be_bytes().to_vec(),
        Value::Float(value) => value.to_bits().to_be_bytes().to_vec(),
        Value::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).to_bytes_le().to_vec(),
        Value::Date(days) => days.to_le_bytes()[..3].to_vec(),
        Value::DateTime { days, ns } if *from == DataType::DateTime => {
            let mut bytes = (days - calendar::DAY_1900).to_be_bytes().to_vec();
            bytes.extend_from_slice(&(calendar::ticks_300(*ns) as u32).to_be_bytes());
            bytes
        }
        Value::DateTime { days, ns } if *from == DataType::SmallDateTime => {
            let mut bytes = ((days - calendar::DAY_1900) as u16).to_be_bytes().to_vec();
            bytes.extend_from_slice(&((ns / 60_000_000_000) as u16).to_be_bytes());
            bytes
        }
        Value::Time(ns) => time_bytes(*ns, from),
        Value::DateTime { days, ns } => {
            let mut bytes = time_bytes(*ns, from);
            bytes.extend_from_slice(&days.to_le_bytes()[..3]);
            bytes
        }
        Value::DateTimeOffset { days, ns, minutes } => {
            let mut bytes = time_bytes(*ns, from);
            bytes.extend_from_slice(&days.to_le_bytes()[..3]);
            bytes.extend_from_slice(&minutes.to_le_bytes());
            bytes
        }
        _ => return Err(cast.refused(from, to)),
    })
}

fn time_bytes(ns: u64, from: &DataType) -> Vec<u8> {
    let scale = from.fraction().unwrap_or(7).min(7);
    let width = match scale {
        0..=2 => 3,
        3 | 4 => 4,
        _ => 5,
    };
    let units = ns / 10_u64.pow(u32::from(9 - scale));
    let mut bytes = vec![scale];
    bytes.extend_from_slice(&units.to_le_bytes()[..width]);
    bytes
}

/// Cuts, pads or refuses bytes by their declared length.
pub(super) fn fit_bytes(
    cast: &Cast,
    mut bytes: Vec<u8>,
    from: &DataType,
    to: &DataType,
) -> Result<Value, SqlError> {
    let (limit, pad) = match to {
        DataType::Binary { length } => (usize::from(*length), true),
        DataType::VarBinary { length: Length::Fixed(length) } => (usize::from(*length), false),
        DataType::RowVersion => (8, true),
        DataType::Bytes { length } => (*length as usize, false),
        _ => (usize::MAX, false),
    };
    // Numbers and datetime keep their right-most bytes, text and binary their left-most.
    let right =
        from.is_number() || matches!(from, DataType::Bit | DataType::DateTime | DataType::SmallDateTime);
    if bytes.len() > limit {
        if cast.mode == Mode::Assign {
            return Err(match cast.dialect {
                Dialect::SqlServer => {
                    SqlError::mssql(8152, "String or binary data would be truncated.").with_state(10)
                }
                Dialect::Snowflake => SqlError::snowflake(
                    100_145,
                    "22000",
                    format!("Binary value '{}' is too long and would be truncated", quote(hex(&bytes))),
                ),
            });
        }
        if right {
            bytes.drain(..bytes.len() - limit);
        } else {
            bytes.truncate(limit);
        }
    } else if pad && bytes.len() < limit {
        if right {
            let mut padded = vec![0; limit - bytes.len()];
            padded.append(&mut bytes);
            bytes = padded;
        } else {
            bytes.resize(limit, 0);
        }
    }
    Ok(Value::Bytes(Arc::from(bytes)))
}
