//! Days, times of day and their text: proleptic Gregorian, years 1 to 9999.

use crate::value::{DAY_NS, Value};

/// Days from 0001-01-01 to 9999-12-31.
pub(crate) const MAX_DAY: i32 = 3_652_058;
/// Days from 0001-01-01 to 1900-01-01, where datetime counts from.
pub(crate) const DAY_1900: i32 = 693_595;
/// Days from 0001-01-01 to 1970-01-01.
pub(crate) const DAY_1970: i32 = 719_162;

const SECOND_NS: u64 = 1_000_000_000;

/// The months in English.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// The days in English, as [`iso_weekday`] counts them.
pub(crate) const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Days since 0001-01-01 of a date; None if there is no such day in the years 1 to 9999.
pub(crate) fn day_of(year: i64, month: i64, day: i64) -> Option<i32> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) {
        return None;
    }
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400;
    let months: i64 = (1..month).map(|month| month_days(year, month)).sum();
    Some((years + months + day - 1) as i32)
}

/// Year, month and day of a day number; works for the few days beyond both ends that offsets reach.
pub(crate) fn ymd(days: i32) -> (i64, i64, i64) {
    // Howard Hinnant's civil_from_days, moved from 1970-01-01 to 0001-01-01.
    let z = i64::from(days) + 306;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

pub(crate) fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Monday = 1 .. Sunday = 7. 0001-01-01 was a Monday.
pub(crate) fn iso_weekday(days: i32) -> i64 {
    i64::from(days.rem_euclid(7)) + 1
}

/// ISO 8601 week and its year.
pub(crate) fn iso_week(days: i32) -> (i64, i64) {
    let thursday = days - (iso_weekday(days) as i32 - 1) + 3;
    let (year, _, _) = ymd(thursday);
    let first = day_of(year, 1, 1).unwrap_or(0);
    (year, i64::from((thursday - first) / 7) + 1)
}

/// Rounds nanoseconds of a day to `scale` fractional digits, half up; the first part is 1 when it reached midnight.
pub(crate) fn round_ns(ns: u64, scale: u8) -> (i32, u64) {
    let unit = 10_u64.pow(u32::from(9 - scale.min(9)));
    let rounded = (ns + unit / 2) / unit * unit;
    if rounded >= DAY_NS { (1, rounded - DAY_NS) } else { (0, rounded) }
}

/// Cuts nanoseconds of a day to `scale` fractional digits.
pub(crate) fn cut_ns(ns: u64, scale: u8) -> u64 {
    let unit = 10_u64.pow(u32::from(9 - scale.min(9)));
    ns / unit * unit
}

/// The 1/300 s ticks nearest to a time of day, as datetime keeps it (may be one day's worth: carry).
pub(crate) fn ticks_300(ns: u64) -> u64 {
    (u128::from(ns) * 300 + 500_000_000).div_euclid(1_000_000_000) as u64
}

/// A datetime's time of day: 1/300 s ticks shown in milliseconds (.000, .003, .007).
pub(crate) fn ns_of_ticks_300(ticks: u64) -> u64 {
    (ticks * 10).div_ceil(3).min((ticks * 10 + 1) / 3) * 1_000_000
}

pub(crate) fn date_text(days: i32) -> String {
    let (year, month, day) = ymd(days);
    format!("{year:04}-{month:02}-{day:02}")
}

pub(crate) fn time_text(ns: u64, scale: u8) -> String {
    let seconds = ns / SECOND_NS;
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if scale > 0 {
        let digits = format!("{:09}", ns % SECOND_NS);
        text.push('.');
        text.push_str(&digits[..usize::from(scale.min(9))]);
    }
    text
}

/// The local day and time of an instant at an offset.
pub(crate) fn local(days: i32, ns: u64, minutes: i16) -> (i32, u64) {
    let total = ns as i64 + i64::from(minutes) * 60_000_000_000;
    let day = DAY_NS as i64;
    (days + total.div_euclid(day) as i32, total.rem_euclid(day) as u64)
}

/// What a text says about a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub date: Option<i32>,
    /// Nanoseconds, and whether a time was written at all.
    pub time: Option<u64>,
    /// Fractional digits beyond the ninth are dropped; beyond the seventh they matter to SQL Server.
    pub minutes: Option<i16>,
}

impl Parsed {
    /// As a date and time without zone; a missing date is 1900-01-01.
    pub(crate) fn date_time(self) -> (i32, u64) {
        (self.date.unwrap_or(DAY_1900), self.time.unwrap_or(0))
    }

    /// As an instant, with the offset `default` where none was written.
    pub(crate) fn instant(self, default: i16) -> Value {
        let (days, ns) = self.date_time();
        let minutes = self.minutes.unwrap_or(default);
        let (days, ns) = local(days, ns, -minutes);
        Value::DateTimeOffset { days, ns, minutes }
    }
}

/// Reads `YYYY-MM-DD`, `YYYYMMDD`, `YYYY/MM/DD`, `MM/DD/YYYY`, `hh:mm[:ss[.f…]] [AM|PM]`, both joined by a blank or `T`, and an
/// offset `Z`, `±hh:mm`, `±hhmm`. None for anything else.
pub(crate) fn parse(text: &str) -> Option<Parsed> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let (date, rest) = parse_date(text);
    let rest = if date.is_some() {
        match rest.as_bytes().first() {
            None => "",
            Some(b' ' | b'T' | b't') => rest[1..].trim_start(),
            Some(b'+' | b'-' | b'Z' | b'z') => rest,
            Some(_) => return None,
        }
    } else {
        rest
    };
    if rest.is_empty() {
        return date.map(|date| Parsed { date: Some(date), time: None, minutes: None });
    }
    let (clock, zone) = split_zone(rest);
    let time = if clock.is_empty() { None } else { Some(parse_clock(clock)?) };
    let minutes = match zone {
        None => None,
        Some(zone) => Some(parse_zone(zone)?),
    };
    (date.is_some() || time.is_some()).then_some(Parsed { date, time, minutes })
}

fn parse_date(text: &str) -> (Option<i32>, &str) {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '/' || c == '.')).unwrap_or(text.len());
    // A trailing `-05:00` belongs to the zone: a date has at most two separators.
    let mut separators = 0;
    let mut cut = end;
    for (index, byte) in text[..end].bytes().enumerate() {
        if !byte.is_ascii_digit() {
            separators += 1;
            if separators == 3 {
                cut = index;
                break;
            }
        }
    }
    let head = &text[..cut];
    let parts: Vec<&str> = head.split(['-', '/', '.']).collect();
    let number = |part: &str| part.parse::<i64>().ok();
    let date = match parts.as_slice() {
        [one] if one.len() == 8 => number(&one[..4])
            .zip(number(&one[4..6]))
            .zip(number(&one[6..]))
            .and_then(|((y, m), d)| day_of(y, m, d)),
        [y, m, d] if y.len() == 4 && (1..=2).contains(&m.len()) && (1..=2).contains(&d.len()) => {
            number(y).zip(number(m)).zip(number(d)).and_then(|((y, m), d)| day_of(y, m, d))
        }
        [m, d, y] if y.len() == 4 && !m.is_empty() && m.len() <= 2 => {
            number(y).zip(number(m)).zip(number(d)).and_then(|((y, m), d)| day_of(y, m, d))
        }
        _ => None,
    };
    match date {
        Some(date) => (Some(date), &text[cut..]),
        None => (None, text),
    }
}

fn split_zone(text: &str) -> (&str, Option<&str>) {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return (clock.trim_end(), Some("Z"));
    }
    match text.rfind(['+', '-']) {
        Some(at) => (text[..at].trim_end(), Some(&text[at..])),
        None => (text.trim_end(), None),
    }
}

fn parse_zone(zone: &str) -> Option<i16> {
    if zone == "Z" {
        return Some(0);
    }
    let negative = zone.starts_with('-');
    let digits = zone[1..].replace(':', "");
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.parse::<i16>().ok()?, 0),
        3 | 4 => {
            let at = digits.len() - 2;
            (digits[..at].parse().ok()?, digits[at..].parse::<i16>().ok()?)
        }
        _ => return None,
    };
    let total = hours * 60 + minutes;
    (hours <= 14 && minutes < 60 && total <= 840).then_some(if negative { -total } else { total })
}

fn parse_clock(text: &str) -> Option<u64> {
    let upper = text.trim().to_ascii_uppercase();
    let (clock, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(clock), _) => (clock.trim_end(), Some(0)),
        (_, Some(clock)) => (clock.trim_end(), Some(12)),
        _ => (upper.as_str(), None),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (*hour, *minute, "0"),
        [hour, minute, second] => (*hour, *minute, *second),
        [hour] if half.is_some() => (*hour, "0", "0"),
        _ => return None,
    };
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let small = |part: &str| part.parse::<u64>().ok().filter(|_| (1..=2).contains(&part.len()));
    let (mut hour, minute, second) = (small(hour)?, small(minute)?, small(second)?);
    if let Some(half) = half {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + half;
    }
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some((hour * 3600 + minute * 60 + second) * SECOND_NS + digits.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree_over_the_whole_range() {
        assert_eq!(day_of(1, 1, 1), Some(0));
        assert_eq!(day_of(1900, 1, 1), Some(DAY_1900));
        assert_eq!(day_of(1970, 1, 1), Some(DAY_1970));
        assert_eq!(day_of(9999, 12, 31), Some(MAX_DAY));
        assert_eq!(day_of(2023, 2, 29), None);
        for days in (0..=MAX_DAY).step_by(97) {
            let (year, month, day) = ymd(days);
            assert_eq!(day_of(year, month, day), Some(days));
        }
    }

    #[test]
    fn texts_of_points_in_time_are_read() {
        let at = |text: &str| parse(text).unwrap();
        assert_eq!(at("2024-02-29").date, day_of(2024, 2, 29));
        assert_eq!(at("20240229 13:14:15.1234567").time, Some(47_655_123_456_700));
        assert_eq!(at("2024-02-29T00:00:00.123456789+05:30").minutes, Some(330));
        assert_eq!(at("2024-02-29 10:00 -0800").minutes, Some(-480));
        assert_eq!(at("13:14").date, None);
        assert_eq!(at("01:14 PM").time, at("13:14").time);
        assert_eq!(parse("2024-13-01"), None);
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn datetime_ticks_show_as_0_3_and_7_milliseconds() {
        let shown = |ms: u64| ns_of_ticks_300(ticks_300(ms * 1_000_000)) / 1_000_000;
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(shown), [0, 0, 3, 3, 3, 7, 7, 7, 7, 10]);
        assert_eq!(shown(997), 997);
        assert_eq!(shown(998), 997);
        assert_eq!(shown(999), 1000);
    }
}
