//! Snowflake's date and time formats, as TO_CHAR writes them.

use std::fmt::Write as _;

use crate::{calendar, error::SqlError, value::Value};

/// Elements, each before those that it begins with.
const ELEMENTS: [&str; 19] = [
    "YYYY", "YY", "MMMM", "MON", "MM", "DD", "DY", "HH24", "HH12", "HH", "AM", "PM", "MI", "SS", "FF",
    "TZHTZM", "TZH:TZM", "TZH", "TZM",
];

/// A date, time or timestamp in parts, as its own offset shows it.
struct Parts {
    days: Option<i32>,
    ns: u64,
    minutes: i16,
}

fn parts(value: &Value) -> Option<Parts> {
    Some(match value {
        Value::Date(days) => Parts { days: Some(*days), ns: 0, minutes: 0 },
        Value::Time(ns) => Parts { days: None, ns: *ns, minutes: 0 },
        Value::DateTime { days, ns } => Parts { days: Some(*days), ns: *ns, minutes: 0 },
        Value::DateTimeOffset { days, ns, minutes } => {
            let (days, ns) = calendar::local(*days, *ns, *minutes);
            Parts { days: Some(days), ns, minutes: *minutes }
        }
        _ => return None,
    })
}

/// Writes a value by a format; what is no element stands for itself, and so does text in double quotes.
pub(crate) fn write(value: &Value, format: &str) -> Result<String, SqlError> {
    let Some(parts) = parts(value) else { return Ok(String::new()) };
    let (year, month, day) = parts.days.map_or((1970, 1, 1), calendar::ymd);
    let seconds = parts.ns / 1_000_000_000;
    let hour = seconds / 3600;
    let mut out = String::new();
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        if letter == '"' {
            let quoted = &rest[1..];
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push_str(&quoted[..end]);
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        let upper: String = rest.chars().take(7).collect::<String>().to_uppercase();
        let Some(element) = ELEMENTS.iter().copied().find(|element| upper.starts_with(element)) else {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        };
        let mut length = element.len();
        let offset = parts.minutes.abs();
        let sign = if parts.minutes < 0 { '-' } else { '+' };
        // Writing to a string does not fail.
        let _ = match element {
            "YYYY" => write!(out, "{year:04}"),
            "YY" => write!(out, "{:02}", year % 100),
            "MMMM" => write!(out, "{}", calendar::MONTHS[month as usize - 1]),
            "MON" => write!(out, "{}", &calendar::MONTHS[month as usize - 1][..3]),
            "MM" => write!(out, "{month:02}"),
            "DD" => write!(out, "{day:02}"),
            "DY" => write!(
                out,
                "{}",
                &calendar::DAYS[calendar::iso_weekday(parts.days.unwrap_or(0)) as usize - 1][..3]
            ),
            "HH24" | "HH" => write!(out, "{hour:02}"),
            "HH12" => write!(out, "{:02}", (hour + 11) % 12 + 1),
            "AM" | "PM" => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            "MI" => write!(out, "{:02}", seconds / 60 % 60),
            "SS" => write!(out, "{:02}", seconds % 60),
            "FF" => {
                let given = rest.as_bytes().get(2).filter(|byte| byte.is_ascii_digit());
                length += usize::from(given.is_some());
                let digits = given.map_or(9, |byte| usize::from(byte - b'0'));
                let fraction = format!("{:09}", parts.ns % 1_000_000_000);
                write!(out, "{}", &fraction[..digits.min(9)])
            }
            "TZH" => write!(out, "{sign}{:02}", offset / 60),
            "TZM" => write!(out, "{:02}", offset % 60),
            "TZHTZM" => write!(out, "{sign}{:02}{:02}", offset / 60, offset % 60),
            "TZH:TZM" => write!(out, "{sign}{:02}:{:02}", offset / 60, offset % 60),
            other => write!(out, "{other}"),
        };
        rest = &rest[length..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_written_and_the_rest_stands_for_itself() {
        let days = calendar::day_of(2024, 2, 29).unwrap();
        let at = Value::DateTimeOffset { days, ns: 45_296_123_456_789_u64, minutes: 90 };
        let shown = |format: &str| write(&at, format).unwrap();
        assert_eq!(shown("YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM"), "2024-02-29 14:04:56.123 +0130");
        assert_eq!(shown("DY, DD MON YY \"at\" HH12 AM"), "Thu, 29 Feb 24 at 02 PM");
        assert_eq!(shown("MMMM/FF"), "February/123456789");
        assert_eq!(write(&Value::Date(days), "DD/MM/YYYY").unwrap(), "29/02/2024");
        assert_eq!(write(&Value::Date(days), "é\"").unwrap(), "é");
    }
}
