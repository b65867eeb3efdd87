//! Values as statements.txt writes them.

use mssql_tds::datatypes::column_values::ColumnValues;

/// Whether a value is the expected text; floats are compared as floats.
pub fn agrees(value: &ColumnValues, expected: &str) -> bool {
    let float = match value {
        ColumnValues::Float(value) => Some(*value),
        ColumnValues::Real(value) => Some(f64::from(*value)),
        _ => None,
    };
    match float {
        Some(value) => expected.parse() == Ok(value),
        None => text(value) == expected,
    }
}

pub fn text(value: &ColumnValues) -> String {
    match value {
        ColumnValues::Null => "NULL".to_owned(),
        ColumnValues::Bit(value) => i32::from(*value).to_string(),
        ColumnValues::TinyInt(value) => value.to_string(),
        ColumnValues::SmallInt(value) => value.to_string(),
        ColumnValues::Int(value) => value.to_string(),
        ColumnValues::BigInt(value) => value.to_string(),
        ColumnValues::Real(value) => value.to_string(),
        ColumnValues::Float(value) => value.to_string(),
        ColumnValues::Decimal(value) | ColumnValues::Numeric(value) => value.to_string(),
        ColumnValues::String(value) => quoted(value.to_utf8_string()),
        ColumnValues::Xml(value) => quoted(value.as_string()),
        ColumnValues::Uuid(value) => value.to_string().to_uppercase(),
        ColumnValues::Bytes(bytes) => {
            bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02X}"))
        }
        ColumnValues::SmallMoney(value) => money(i64::from(value.int_val)),
        ColumnValues::Money(value) => {
            money(i64::from(value.msb_part) << 32 | i64::from(value.lsb_part) & 0xFFFF_FFFF)
        }
        ColumnValues::Date(value) => day(i64::from(value.get_days())),
        ColumnValues::Time(value) => clock(value.time_nanoseconds),
        ColumnValues::DateTime2(value) => moment(i64::from(value.days), value.time.time_nanoseconds),
        ColumnValues::DateTimeOffset(value) => {
            let minutes = i64::from(value.offset);
            let total = i64::from(value.datetime2.days) * 86_400
                + minutes * 60
                + (value.datetime2.time.time_nanoseconds / SECOND) as i64;
            let ticks =
                total.rem_euclid(86_400) as u64 * SECOND + value.datetime2.time.time_nanoseconds % SECOND;
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
            format!("{} {sign}{hours:02}:{rest:02}", moment(total.div_euclid(86_400), ticks))
        }
        ColumnValues::DateTime(value) => {
            // Ticks of a 300th of a second, shown to the millisecond.
            let milliseconds = (u64::from(value.time) * 10 + 1) / 3;
            moment(i64::from(value.days) + DAYS_TO_1900, milliseconds * (SECOND / 1000))
        }
        ColumnValues::SmallDateTime(value) => {
            moment(i64::from(value.days) + DAYS_TO_1900, u64::from(value.time) * 60 * SECOND)
        }
        other => format!("{other:?}"),
    }
}

/// Ticks of 100 ns, which is what `time_nanoseconds` counts.
const SECOND: u64 = 10_000_000;
const DAYS_TO_1900: i64 = 693_595;

fn quoted(text: String) -> String {
    if text.is_empty() { "''".to_owned() } else { text }
}

fn money(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}", units.unsigned_abs() / 10_000, units.unsigned_abs() % 10_000)
}

fn moment(days: i64, ticks: u64) -> String {
    format!("{} {}", day(days), clock(ticks))
}

/// Days since 0001-01-01 as a date.
fn day(days: i64) -> String {
    let shifted = days + 306;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn clock(ticks: u64) -> String {
    let seconds = ticks / SECOND;
    let fraction = format!(".{:07}", ticks % SECOND);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{:02}:{:02}:{:02}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
