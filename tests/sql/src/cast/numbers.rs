//! Conversions to numbers.

use crate::{
    cast::{Cast, Mode, conversion_failed, overflow},
    decimal::{Decimal, Rounding},
    error::{SqlError, quote},
    types::{DataType, Dialect},
    value::Value,
};

pub(crate) fn int_range(ty: &DataType) -> (i64, i64) {
    match ty {
        DataType::TinyInt => (0, 255),
        DataType::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

pub(super) fn to_int(cast: &Cast, value: &Value, from: &DataType, to: &DataType) -> Result<Value, SqlError> {
    let (low, high) = int_range(to);
    let number: i128 = match value {
        Value::Int(value) => i128::from(*value),
        Value::Bool(value) => i128::from(*value),
        // money rounds, decimal is cut.
        Value::Decimal(value) if matches!(from, DataType::Money | DataType::SmallMoney) => {
            value.rescale(0, Rounding::HalfUp).map_or(i128::MAX, |value| value.unscaled)
        }
        Value::Decimal(value) => value.trunc(),
        Value::Real(value) => f64::from(*value).trunc() as i128,
        Value::Float(value) => value.trunc() as i128,
        Value::Text(text) => {
            let trimmed = text.lossy();
            let trimmed = trimmed.trim();
            if trimmed.is_empty() {
                0
            } else {
                let number = trimmed.parse::<i128>().map_err(|_| conversion_failed(text, from, to))?;
                if number < i128::from(low) || number > i128::from(high) {
                    return Err(match to {
                        DataType::Int => SqlError::mssql(
                            248,
                            format!(
                                "The conversion of the {} value '{trimmed}' overflowed an int column.",
                                from.name()
                            ),
                        ),
                        DataType::BigInt => SqlError::mssql(
                            8115,
                            "Arithmetic overflow error converting expression to data type bigint.",
                        ),
                        _ => SqlError::mssql(
                            244,
                            format!(
                                "The conversion of the {} value '{trimmed}' overflowed an {} column. Use a larger integer column.",
                                from.name(),
                                if *to == DataType::TinyInt { "INT1" } else { "INT2" }
                            ),
                        ),
                    });
                }
                number
            }
        }
        Value::Bytes(bytes) => {
            let width = match to {
                DataType::TinyInt => 1,
                DataType::SmallInt => 2,
                DataType::Int => 4,
                _ => 8,
            };
            let tail = &bytes[bytes.len().saturating_sub(width)..];
            let bits = tail.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            i128::from(match to {
                DataType::TinyInt => bits as i64,
                DataType::SmallInt => i64::from(bits as u16 as i16),
                DataType::Int => i64::from(bits as u32 as i32),
                _ => bits as i64,
            })
        }
        Value::DateTime { days, ns } if matches!(from, DataType::DateTime | DataType::SmallDateTime) => {
            i128::from(*days - crate::calendar::DAY_1900) + i128::from(*ns >= crate::value::DAY_NS / 2)
        }
        _ => return Err(cast.refused(from, to)),
    };
    if number < i128::from(low) || number > i128::from(high) {
        return Err(match (to, value) {
            (DataType::TinyInt | DataType::SmallInt, Value::Int(value)) => SqlError::mssql(
                220,
                format!("Arithmetic overflow error for data type {}, value = {value}.", to.name()),
            )
            .with_state(if *to == DataType::TinyInt { 2 } else { 1 }),
            _ => overflow(cast, "", to),
        });
    }
    Ok(Value::Int(number as i64))
}

pub(super) fn to_decimal(
    cast: &Cast,
    value: &Value,
    from: &DataType,
    to: &DataType,
) -> Result<Value, SqlError> {
    let (precision, scale) = to.precision_scale().unwrap_or((38, 0));
    let not_a_number = |text: &crate::text::Text| match cast.dialect {
        Dialect::SqlServer if matches!(to, DataType::Money | DataType::SmallMoney) => {
            SqlError::mssql(235, "Cannot convert a char value to money. The char value has incorrect syntax.")
        }
        Dialect::SqlServer => {
            SqlError::mssql(8114, format!("Error converting data type {} to numeric.", from.name()))
                .with_state(5)
        }
        Dialect::Snowflake => SqlError::snowflake(
            100_038,
            "22018",
            format!("Numeric value '{}' is not recognized", quote(text.lossy())),
        ),
    };
    let too_large = |shown: String| match (cast.dialect, to, value) {
        (Dialect::SqlServer, DataType::Money | DataType::SmallMoney, _) => overflow(cast, "", to),
        (Dialect::SqlServer, _, Value::Decimal(_) | Value::Text(_)) => SqlError::mssql(
            8115,
            format!(
                "Arithmetic overflow error converting {} to data type numeric.",
                if matches!(value, Value::Text(_)) { from.name() } else { "numeric" }
            ),
        )
        .with_state(8),
        (Dialect::Snowflake, _, Value::Decimal(_) | Value::Int(_)) if cast.mode == Mode::Explicit => {
            SqlError::snowflake(
                100_046,
                "22003",
                format!("Number out of representable range: type FIXED({precision},{scale}), value {shown}"),
            )
        }
        _ => overflow(cast, &shown, to),
    };
    let decimal = match value {
        Value::Int(value) => Decimal::new(i128::from(*value), 0),
        Value::Bool(value) => Decimal::new(i128::from(*value), 0),
        Value::Decimal(value) => *value,
        Value::Real(value) => {
            // The shortest decimal that is this float32.
            let wide = value.to_string().parse().unwrap_or(f64::from(*value));
            return from_float(cast, wide, to, precision, scale);
        }
        Value::Float(value) => return from_float(cast, *value, to, precision, scale),
        Value::Text(text) => {
            let shown = text.lossy();
            let mut digits = shown.trim().to_owned();
            if matches!(to, DataType::Money | DataType::SmallMoney) {
                digits = digits.replace(',', "").trim_start_matches(['$', '€', '£']).to_owned();
                if digits.is_empty() {
                    digits.push('0');
                }
            } else if cast.dialect == Dialect::SqlServer && digits.contains(['e', 'E']) {
                return Err(not_a_number(text));
            }
            match Decimal::parse(&digits) {
                Some(decimal) => decimal,
                None if digits.len() > 30
                    && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-') =>
                {
                    // More digits than 38 in all may still round to the wanted scale.
                    long_decimal(&digits, scale).ok_or_else(|| too_large(digits.clone()))?
                }
                None => return Err(not_a_number(text)),
            }
        }
        Value::Bytes(bytes)
            if cast.dialect == Dialect::SqlServer && matches!(to, DataType::Money | DataType::SmallMoney) =>
        {
            let tail = &bytes[bytes.len().saturating_sub(8)..];
            Decimal::new(
                i128::from(tail.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) as i64),
                4,
            )
        }
        _ => return Err(cast.refused(from, to)),
    };
    let rounded = decimal.rescale(scale, Rounding::HalfUp).filter(|value| value.fits(precision));
    let rounded = rounded.filter(|value| match to {
        DataType::Money => i64::try_from(value.unscaled).is_ok(),
        DataType::SmallMoney => i32::try_from(value.unscaled).is_ok(),
        _ => true,
    });
    rounded.map(Value::Decimal).ok_or_else(|| too_large(decimal.to_string()))
}

fn long_decimal(digits: &str, scale: u8) -> Option<Decimal> {
    let (whole, fraction) = digits.split_once('.')?;
    let kept = &fraction[..fraction.len().min(usize::from(scale) + 1)];
    Decimal::parse(&format!("{whole}.{kept}"))
}

fn from_float(cast: &Cast, value: f64, to: &DataType, precision: u8, scale: u8) -> Result<Value, SqlError> {
    let exact = match cast.dialect {
        // SQL Server goes by the float's 17 significant digits.
        Dialect::SqlServer => {
            Decimal::parse(&format!("{value:.16e}")).and_then(|exact| exact.rescale(scale, Rounding::HalfUp))
        }
        Dialect::Snowflake => Decimal::from_f64(value, scale),
    };
    exact
        .or_else(|| Decimal::from_f64(value, scale))
        .filter(|value| value.fits(precision))
        .map(Value::Decimal)
        .ok_or_else(|| overflow(cast, &value.to_string(), to))
}

pub(super) fn to_float(
    cast: &Cast,
    value: &Value,
    from: &DataType,
    to: &DataType,
) -> Result<Value, SqlError> {
    let number = match value {
        Value::Int(value) => *value as f64,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Decimal(value) => value.to_f64(),
        Value::Real(value) => f64::from(*value),
        Value::Float(value) => *value,
        Value::Text(text) => {
            let shown = text.lossy();
            let word = shown.trim();
            let special = cast.dialect == Dialect::Snowflake;
            match word.to_ascii_lowercase().as_str() {
                "nan" if special => f64::NAN,
                "inf" | "infinity" if special => f64::INFINITY,
                "-inf" | "-infinity" if special => f64::NEG_INFINITY,
                "" if !special => 0.0,
                digits => digits
                    .parse::<f64>()
                    .ok()
                    .filter(|_| digits.bytes().all(|byte| b"0123456789.+-e".contains(&byte)))
                    .ok_or_else(|| match cast.dialect {
                        Dialect::SqlServer => SqlError::mssql(
                            8114,
                            format!("Error converting data type {} to {}.", from.name(), to.name()),
                        )
                        .with_state(5),
                        Dialect::Snowflake => SqlError::snowflake(
                            100_038,
                            "22018",
                            format!("Numeric value '{}' is not recognized", quote(word)),
                        ),
                    })?,
            }
        }
        _ => return Err(cast.refused(from, to)),
    };
    if cast.dialect == Dialect::SqlServer && !number.is_finite() {
        return Err(overflow(cast, "", to));
    }
    if *to == DataType::Real {
        let narrow = number as f32;
        if narrow.is_infinite() {
            return Err(overflow(cast, "", to));
        }
        return Ok(Value::Real(narrow));
    }
    Ok(Value::Float(number))
}
