//! Conversions to dates, times and instants.

use crate::{
    calendar::{self, DAY_1900, DAY_1970, MAX_DAY, Parsed},
    cast::Cast,
    decimal::Rounding,
    error::{SqlError, quote},
    types::{DataType, Dialect},
    value::{DAY_NS, Value},
};

/// Days from 0001-01-01 to 1753-01-01, where datetime begins.
const DAY_1753: i32 = 639_905;

pub(super) fn to_temporal(
    cast: &Cast,
    value: &Value,
    from: &DataType,
    to: &DataType,
) -> Result<Value, SqlError> {
    let parsed = match value {
        Value::Date(days) => Parsed { date: Some(*days), time: None, minutes: None },
        Value::Time(ns) => Parsed { date: None, time: Some(*ns), minutes: None },
        Value::DateTime { days, ns } => Parsed { date: Some(*days), time: Some(*ns), minutes: None },
        Value::DateTimeOffset { days, ns, minutes } => {
            let (days, ns) = calendar::local(*days, *ns, *minutes);
            Parsed { date: Some(days), time: Some(ns), minutes: Some(*minutes) }
        }
        Value::Text(text) => {
            let shown = text.lossy();
            let parsed = match cast.style {
                3 | 4 | 5 | 103 | 104 | 105 if cast.dialect == Dialect::SqlServer => day_first(&shown),
                _ => calendar::parse(&shown),
            };
            match parsed {
                Some(parsed) => parsed,
                None if shown.trim().is_empty() && cast.dialect == Dialect::SqlServer => {
                    Parsed { date: Some(DAY_1900), time: Some(0), minutes: None }
                }
                None => match shown.trim().parse::<i128>() {
                    Ok(epoch) if cast.dialect == Dialect::Snowflake => {
                        from_epoch(epoch, None).ok_or_else(|| unrecognized(cast, &shown, to))?
                    }
                    _ => return Err(unrecognized(cast, &shown, to)),
                },
            }
        }
        Value::Int(days) if matches!(to, DataType::DateTime | DataType::SmallDateTime) => {
            let days = i32::try_from(*days).ok().and_then(|days| days.checked_add(DAY_1900)).unwrap_or(-1);
            Parsed { date: Some(days), time: Some(0), minutes: None }
        }
        Value::Decimal(number)
            if cast.dialect == Dialect::Snowflake && !matches!(to, DataType::Time { .. }) =>
        {
            let ns = number.rescale(9, Rounding::HalfUp).map_or(i128::MAX, |number| number.unscaled);
            let scale = if number.scale == 0 { None } else { Some(ns) };
            from_epoch(number.trunc(), scale).ok_or_else(|| unrecognized(cast, &number.to_string(), to))?
        }
        Value::Bytes(bytes) if *to == DataType::DateTime => {
            let mut padded = [0; 8];
            let tail = &bytes[bytes.len().saturating_sub(8)..];
            padded[8 - tail.len()..].copy_from_slice(tail);
            let [a, b, c, d, e, f, g, h] = padded;
            let days = i32::from_be_bytes([a, b, c, d]).saturating_add(DAY_1900);
            let ticks = u64::from(u32::from_be_bytes([e, f, g, h])).min(300 * 86_400 - 1);
            Parsed { date: Some(days), time: Some(calendar::ns_of_ticks_300(ticks)), minutes: None }
        }
        _ => return Err(cast.refused(from, to)),
    };
    if parsed.date.is_none() && cast.dialect == Dialect::Snowflake && !matches!(to, DataType::Time { .. }) {
        return Err(unrecognized(cast, &super::strings::to_text(cast, value, from, to)?.lossy(), to));
    }
    shape(cast, parsed, value, from, to)
}

/// `dd/mm/yyyy`, `dd.mm.yyyy` or `dd-mm-yyyy`, perhaps with a time behind it.
fn day_first(text: &str) -> Option<Parsed> {
    let (date, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let parts: Vec<&str> = date.split(['/', '.', '-']).collect();
    let [day, month, year] = parts.as_slice() else { return None };
    calendar::parse(&format!("{year}-{month}-{day} {rest}"))
}

fn shape(
    cast: &Cast,
    parsed: Parsed,
    value: &Value,
    from: &DataType,
    to: &DataType,
) -> Result<Value, SqlError> {
    let (days, ns) = parsed.date_time();
    // SQL Server rounds to fewer digits, Snowflake cuts.
    let fraction = |ns: u64, scale: u8| match cast.dialect {
        Dialect::SqlServer => calendar::round_ns(ns, scale),
        Dialect::Snowflake => (0, calendar::cut_ns(ns, scale)),
    };
    let out_of_range = || {
        SqlError::mssql(
            242,
            format!(
                "The conversion of a {} data type to a {} data type resulted in an out-of-range value.",
                from.name(),
                to.name()
            ),
        )
        .with_state(3)
    };
    let checked = |days: i32, ns: u64| {
        (0..=MAX_DAY).contains(&days).then_some(Value::DateTime { days, ns }).ok_or_else(|| {
            match cast.dialect {
                Dialect::SqlServer => out_of_range(),
                Dialect::Snowflake => unrecognized(cast, &format!("{value:?}"), to),
            }
        })
    };
    match to {
        DataType::Date => Ok(Value::Date(days)),
        DataType::Time { scale } => Ok(Value::Time(fraction(ns, *scale).1)),
        DataType::DateTime2 { scale } | DataType::TimestampNtz { scale } => {
            let (carry, ns) = fraction(ns, *scale);
            if carry == 1 && days == MAX_DAY {
                return checked(days, calendar::cut_ns(parsed.date_time().1, *scale));
            }
            checked(days + carry, ns)
        }
        DataType::DateTime => {
            // Text with more than three fractional digits is no datetime.
            if let Value::Text(text) = value
                && text
                    .lossy()
                    .split_once('.')
                    .is_some_and(|(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count() > 3)
            {
                return Err(unrecognized(cast, &text.lossy(), to));
            }
            let ticks = calendar::ticks_300(ns);
            let (carry, ticks) = if ticks == 300 * 86_400 { (1, 0) } else { (0, ticks) };
            let days = days + carry;
            if days < DAY_1753 {
                return Err(out_of_range());
            }
            checked(days, calendar::ns_of_ticks_300(ticks))
        }
        DataType::SmallDateTime => {
            const MINUTE: u64 = 60_000_000_000;
            let up = u64::from(ns % MINUTE >= 29_999_000_000);
            let ns = (ns / MINUTE + up) * MINUTE;
            let (days, ns) = if ns == DAY_NS { (days + 1, 0) } else { (days, ns) };
            if !(DAY_1900..=DAY_1900 + 65_535).contains(&days) {
                return Err(out_of_range());
            }
            checked(days, ns)
        }
        DataType::DateTimeOffset { scale }
        | DataType::TimestampTz { scale }
        | DataType::TimestampLtz { scale } => {
            let (carry, ns) = fraction(ns, *scale);
            let local = Parsed { date: Some(days + carry), time: Some(ns), minutes: parsed.minutes };
            let mut instant = local.instant(0);
            if matches!(to, DataType::TimestampLtz { .. })
                && let Value::DateTimeOffset { minutes, .. } = &mut instant
            {
                *minutes = 0;
            }
            Ok(instant)
        }
        _ => Err(cast.refused(from, to)),
    }
}

/// Snowflake reads whole numbers as seconds, milliseconds, microseconds or nanoseconds by their size.
fn from_epoch(number: i128, exact_ns: Option<i128>) -> Option<Parsed> {
    let ns = exact_ns.or_else(|| {
        number.checked_mul(match number.unsigned_abs() {
            0..31_536_000_000 => 1_000_000_000,
            31_536_000_000..31_536_000_000_000 => 1_000_000,
            31_536_000_000_000..31_536_000_000_000_000 => 1_000,
            _ => 1,
        })
    })?;
    let day = i128::from(DAY_NS);
    let days = i32::try_from(ns.div_euclid(day)).ok()?.checked_add(DAY_1970)?;
    (0..=MAX_DAY).contains(&days).then_some(Parsed {
        date: Some(days),
        time: Some(ns.rem_euclid(day) as u64),
        minutes: None,
    })
}

fn unrecognized(cast: &Cast, text: &str, to: &DataType) -> SqlError {
    match (cast.dialect, to) {
        (Dialect::SqlServer, _) => {
            SqlError::mssql(241, "Conversion failed when converting date and/or time from character string.")
        }
        (Dialect::Snowflake, DataType::Date) => {
            SqlError::snowflake(100_040, "22007", format!("Date '{}' is not recognized", quote(text)))
        }
        (Dialect::Snowflake, DataType::Time { .. }) => {
            SqlError::snowflake(100_108, "22007", format!("Time '{}' is not recognized", quote(text)))
        }
        (Dialect::Snowflake, _) => {
            SqlError::snowflake(100_035, "22007", format!("Timestamp '{}' is not recognized", quote(text)))
        }
    }
}
