//! FORMAT: .NET's format strings for numbers, dates and times, in the invariant English of `en-US`.

use std::fmt::Write as _;

use super::tsql::rounded;
use crate::{calendar, decimal::Decimal, value::Value};

/// The text; None where the format does not fit the value.
pub(super) fn format(value: &Value, format: &str) -> Option<String> {
    match value {
        Value::Date(days) => Some(moment(*days, 0, format)),
        Value::DateTime { days, ns } => Some(moment(*days, *ns, format)),
        Value::DateTimeOffset { days, ns, minutes } => {
            let (days, ns) = calendar::local(*days, *ns, *minutes);
            Some(moment(days, ns, format))
        }
        Value::Time(ns) => Some(moment(0, *ns, format)),
        Value::Int(value) => number(Decimal::new(i128::from(*value), 0), true, format),
        Value::Decimal(value) => number(*value, false, format),
        Value::Float(value) => number(Decimal::from_f64(*value, 10)?, false, format),
        Value::Real(value) => number(Decimal::from_f64(f64::from(*value), 6)?, false, format),
        _ => None,
    }
}

fn number(value: Decimal, whole: bool, format: &str) -> Option<String> {
    let mut characters = format.chars();
    let kind = characters.next();
    let digits = characters.as_str();
    if let Some(kind) = kind.filter(char::is_ascii_alphabetic)
        && digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        let wanted: Option<u8> = digits.parse().ok();
        let scale = wanted.unwrap_or(2).min(30);
        return match kind.to_ascii_uppercase() {
            'N' => Some(fixed(rounded(value, scale), true)),
            'F' => Some(fixed(rounded(value, scale), false)),
            'C' if value.unscaled < 0 => Some(format!(
                "(${})",
                fixed(rounded(Decimal::new(-value.unscaled, value.scale), scale), true)
            )),
            'C' => Some(format!("${}", fixed(rounded(value, scale), true))),
            'P' => {
                let hundredfold = Decimal::new(value.unscaled.checked_mul(100)?, value.scale);
                Some(format!("{} %", fixed(rounded(hundredfold, scale), true)))
            }
            'D' if whole => {
                let width = usize::from(wanted.unwrap_or(1));
                let sign = if value.unscaled < 0 { "-" } else { "" };
                Some(format!("{sign}{:0>width$}", value.unscaled.unsigned_abs()))
            }
            'X' if whole => {
                let width = usize::from(wanted.unwrap_or(1));
                let bits = value.unscaled as i64;
                Some(if kind == 'X' { format!("{bits:0>width$X}") } else { format!("{bits:0>width$x}") })
            }
            'G' | 'R' => Some(value.normalize().to_string()),
            _ => None,
        };
    }
    custom(value, format)
}

fn fixed(value: Decimal, grouped: bool) -> String {
    let text = Decimal::new(value.unscaled.abs(), value.scale).to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = if grouped { thousands(whole) } else { whole.to_owned() };
    let sign = if value.unscaled < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn thousands(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `#,##0.00`, `00000`, `0.##%` and the like, with literal text around them.
fn custom(value: Decimal, format: &str) -> Option<String> {
    let section = format.split(';').collect::<Vec<_>>();
    let negative = value.unscaled < 0;
    let (section, signed) = match (negative, section.get(1)) {
        (true, Some(second)) if !second.is_empty() => (*second, false),
        _ => (section[0], true),
    };
    let is_digit = |c: char| matches!(c, '0' | '#' | '.' | ',');
    let start = section.find(is_digit)?;
    let end = section.rfind(is_digit)? + 1;
    let (before, pattern, after) = (&section[..start], &section[start..end], &section[end..]);
    let (whole, fraction) = pattern.split_once('.').unwrap_or((pattern, ""));
    let mut magnitude = Decimal::new(value.unscaled.abs(), value.scale);
    if section.contains('%') {
        magnitude = Decimal::new(magnitude.unscaled.checked_mul(100)?, magnitude.scale);
    }
    let places = fraction.chars().filter(|c| matches!(c, '0' | '#')).count().min(30);
    let needed = fraction.rfind('0').map_or(0, |at| fraction[..=at].chars().filter(|c| *c != ',').count());
    let text = rounded(magnitude, places as u8).to_string();
    let (digits, rest) = text.split_once('.').unwrap_or((&text, ""));
    let width = whole.find('0').map_or(0, |at| whole[at..].chars().filter(|c| *c != ',').count());
    let digits = if digits == "0" { "" } else { digits };
    let padded = format!("{digits:0>width$}");
    let shown = if whole.contains(',') { thousands(&padded) } else { padded };
    let mut rest = rest.to_owned();
    while rest.len() > needed && rest.ends_with('0') {
        rest.pop();
    }
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if negative && signed { "-" } else { "" };
    let plain = |text: &str| text.replace(['\'', '"', '\\'], "");
    Some(format!("{sign}{}{shown}{point}{rest}{}", plain(before), plain(after)))
}

fn moment(days: i32, ns: u64, format: &str) -> String {
    let format = match format {
        "d" => "M/d/yyyy",
        "D" => "dddd, MMMM d, yyyy",
        "t" => "h:mm tt",
        "T" => "h:mm:ss tt",
        "g" => "M/d/yyyy h:mm tt",
        "G" => "M/d/yyyy h:mm:ss tt",
        "f" => "dddd, MMMM d, yyyy h:mm tt",
        "F" => "dddd, MMMM d, yyyy h:mm:ss tt",
        "s" => "yyyy-MM-ddTHH:mm:ss",
        "o" | "O" => "yyyy-MM-ddTHH:mm:ss.fffffff",
        "m" | "M" => "MMMM d",
        "y" | "Y" => "MMMM yyyy",
        other => other,
    };
    let (year, month, day) = calendar::ymd(days);
    let seconds = ns / 1_000_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
    let month_name = calendar::MONTHS.get((month - 1) as usize).copied().unwrap_or_default();
    let day_name =
        calendar::DAYS.get((calendar::iso_weekday(days) - 1) as usize).copied().unwrap_or_default();
    let fraction = format!("{:09}", ns % 1_000_000_000);
    let mut out = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        let run = rest.chars().take_while(|c| *c == first).count();
        let (taken, next) = rest.split_at(run * first.len_utf8());
        match (first, run) {
            ('y', 1 | 2) => drop(write!(out, "{:0run$}", year % 100)),
            ('y', _) => drop(write!(out, "{year:0run$}")),
            ('M', 1 | 2) => drop(write!(out, "{month:0run$}")),
            ('M', 3) => out.extend(month_name.chars().take(3)),
            ('M', _) => out.push_str(month_name),
            ('d', 1 | 2) => drop(write!(out, "{day:0run$}")),
            ('d', 3) => out.extend(day_name.chars().take(3)),
            ('d', _) => out.push_str(day_name),
            ('H', _) => drop(write!(out, "{hour:0run$}")),
            ('h', _) => drop(write!(out, "{twelve:0run$}")),
            ('m', _) => drop(write!(out, "{minute:0run$}")),
            ('s', _) => drop(write!(out, "{second:0run$}")),
            ('f', 1..=7) => out.push_str(&fraction[..run]),
            ('t', 1) => out.push(if hour < 12 { 'A' } else { 'P' }),
            ('t', _) => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            ('\\', _) => {
                let mut after = rest.chars();
                after.next();
                out.extend(after.next());
                rest = after.as_str();
                continue;
            }
            ('\'' | '"', _) => {
                let inner = &rest[1..];
                let end = inner.find(first).unwrap_or(inner.len());
                out.push_str(&inner[..end]);
                rest = inner.get(end + 1..).unwrap_or("");
                continue;
            }
            _ => out.push_str(taken),
        }
        rest = next;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_standard_and_custom_formats() {
        let value = Value::Decimal(Decimal::new(1_234_567_891, 3));
        let shown = |format_text: &str| format(&value, format_text).unwrap();
        assert_eq!([shown("N2"), shown("F1"), shown("C0")], ["1,234,567.89", "1234567.9", "$1,234,568"]);
        assert_eq!([shown("#,##0.0"), shown("0.####")], ["1,234,567.9", "1234567.891"]);
        assert_eq!(format(&Value::Int(42), "00000").unwrap(), "00042");
        assert_eq!(format(&Value::Int(-255), "D5").unwrap(), "-00255");
    }

    #[test]
    fn dates_take_net_patterns() {
        let days = calendar::day_of(2024, 2, 29).unwrap();
        let value = Value::DateTime { days, ns: 49_559_123_000_000 };
        let shown = |format_text: &str| format(&value, format_text).unwrap();
        assert_eq!(shown("yyyy-MM-dd HH:mm:ss.fff"), "2024-02-29 13:45:59.123");
        assert_eq!(shown("dddd, d MMM yy 'at' h:mm tt"), "Thursday, 29 Feb 24 at 1:45 PM");
    }
}
