//! Dates and times: the wire's counts to days, milliseconds, microseconds and text.

use std::io::Write as _;

/// Days from 0001-01-01 to 1970-01-01.
pub(super) const DAYS_TO_1970: i64 = 719_162;
/// Days from 1900-01-01 to 1970-01-01.
pub(super) const DAYS_1900_TO_1970: i64 = 25_567;
/// Days from 0001-01-01 to 9999-12-31.
pub(super) const LAST_DAY: i64 = 3_652_058;
const MILLIS_A_DAY: i64 = 86_400_000;
/// Units of 100 ns in a day.
const TICKS_A_DAY: u64 = 864_000_000_000;

/// `datetime`: days since 1900 and 1/300 s, as milliseconds since 1970. SQL Server prints, compares and casts
/// its thirds rounded to .000, .003 and .007; so do we.
#[inline]
pub(super) fn datetime_millis(bytes: [u8; 8]) -> Option<i64> {
    let both = u64::from_le_bytes(bytes);
    let (days, ticks) = (both as u32 as i32, (both >> 32) as u32);
    // 1753-01-01 to 9999-12-31
    if !(-53_690..=2_958_463).contains(&days) || ticks >= 25_920_000 {
        return None;
    }
    let millis = (i64::from(ticks) * 10 + 1) / 3;
    Some((i64::from(days) - DAYS_1900_TO_1970) * MILLIS_A_DAY + millis)
}

/// `smalldatetime`: days since 1900 and minutes, as milliseconds since 1970.
#[inline]
pub(super) fn smalldatetime_millis(bytes: [u8; 4]) -> Option<i64> {
    let both = u32::from_le_bytes(bytes);
    let (days, minutes) = (both as u16, (both >> 16) as u16);
    (minutes < 1440)
        .then(|| (i64::from(days) - DAYS_1900_TO_1970) * MILLIS_A_DAY + i64::from(minutes) * 60_000)
}

/// `date`: days since 0001-01-01 as days since 1970.
#[inline]
pub(super) fn date_days(days: u32) -> Option<i32> {
    (i64::from(days) <= LAST_DAY).then(|| (i64::from(days) - DAYS_TO_1970) as i32)
}

/// The bytes of a time with this scale.
#[inline]
pub(super) fn time_bytes(scale: u8) -> usize {
    match scale {
        0..=2 => 3,
        3..=4 => 4,
        _ => 5,
    }
}

/// A little-endian number of up to eight bytes.
#[inline]
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

/// A time of 10^-scale seconds since midnight, in units of 100 ns.
#[inline]
pub(super) fn ticks(value: u64, scale: u8) -> Option<u64> {
    let ticks = value.checked_mul(10u64.pow(u32::from(7 - scale.min(7))))?;
    (ticks < TICKS_A_DAY).then_some(ticks)
}

/// `datetime2(n)`, n up to 6, as microseconds since 1970.
#[inline]
pub(super) fn datetime2_micros(bytes: &[u8], scale: u8) -> Option<i64> {
    let (days, ticks) = datetime2_parts(bytes, scale)?;
    Some((days - DAYS_TO_1970) * 86_400_000_000 + (ticks / 10) as i64)
}

/// Days since 0001-01-01 and units of 100 ns of a `datetime2(n)`.
#[inline]
pub(super) fn datetime2_parts(bytes: &[u8], scale: u8) -> Option<(i64, u64)> {
    let (time, day) = bytes.split_at_checked(time_bytes(scale))?;
    let days = little_endian(day) as i64;
    (day.len() == 3 && days <= LAST_DAY).then_some(())?;
    Some((days, ticks(little_endian(time), scale)?))
}

/// Appends `YYYY-MM-DD`; the day counts from 0001-01-01.
pub(super) fn push_date(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = civil(day);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// Appends `HH:MM:SS` and `digits` digits of the second.
pub(super) fn push_time(out: &mut Vec<u8>, ticks: u64, digits: u8) {
    let seconds = ticks / 10_000_000;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if digits > 0 {
        let fraction = ticks % 10_000_000 / 10u64.pow(u32::from(7 - digits.min(7)));
        let _ = write!(out, ".{fraction:0width$}", width = usize::from(digits));
    }
}

/// Appends `YYYY-MM-DD HH:MM:SS.fffffff` without the formatting machinery: this is a column's hot path.
pub(super) fn push_datetime2_7(out: &mut Vec<u8>, day: i64, ticks: u64) {
    let (year, month, date) = civil(day);
    let seconds = ticks / 10_000_000;
    let mut text = *b"0000-00-00 00:00:00.0000000";
    digits(&mut text[0..4], year as u64);
    digits(&mut text[5..7], month as u64);
    digits(&mut text[8..10], date as u64);
    digits(&mut text[11..13], seconds / 3600);
    digits(&mut text[14..16], seconds / 60 % 60);
    digits(&mut text[17..19], seconds % 60);
    digits(&mut text[20..27], ticks % 10_000_000);
    out.extend_from_slice(&text);
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 0001-01-01, in the proleptic Gregorian calendar.
fn civil(day: i64) -> (i64, i64, i64) {
    // Years that begin in March put the leap day at their end.
    let shifted = day + 306;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(day: i64) -> String {
        let mut out = Vec::new();
        push_date(&mut out, day);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_calendar_holds_from_year_1_to_9999() {
        assert_eq!(date(0), "0001-01-01");
        assert_eq!(date(58), "0001-02-28");
        assert_eq!(date(59), "0001-03-01");
        assert_eq!(date(DAYS_TO_1970), "1970-01-01");
        assert_eq!(date(DAYS_TO_1970 - DAYS_1900_TO_1970), "1900-01-01");
        assert_eq!(date(730_178), "2000-02-29");
        assert_eq!(date(LAST_DAY), "9999-12-31");
        assert_eq!(date_days(0), Some(-719_162));
        assert_eq!(date_days(3_652_058), Some(2_932_896));
        assert_eq!(date_days(3_652_059), None);
    }

    #[test]
    fn a_third_of_a_hundredth_rounds_as_sql_server_prints_it() {
        let datetime = |days: i32, ticks: u32| {
            datetime_millis((u64::from(ticks) << 32 | u64::from(days as u32)).to_le_bytes())
        };
        let millis = |ticks| datetime(25_567, ticks).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 299, 300].map(millis), [0, 3, 7, 10, 13, 997, 1000]);
        assert_eq!(datetime(2_958_463, 25_919_999), Some(253_402_300_799_997));
        assert_eq!(datetime(-53_690, 0), Some(-6_847_804_800_000));
        assert_eq!(datetime(0, 25_920_000), None);
        let smalldatetime =
            |days: u32, minutes: u32| smalldatetime_millis((minutes << 16 | days).to_le_bytes());
        assert_eq!(smalldatetime(65_535, 1439), Some(3_453_321_540_000));
        assert_eq!(smalldatetime(0, 1440), None);
    }

    #[test]
    fn seven_digits_survive_as_text_and_six_as_microseconds() {
        let mut wire = 863_999_999_999u64.to_le_bytes()[..5].to_vec();
        wire.extend_from_slice(&(LAST_DAY as u32).to_le_bytes()[..3]);
        let (day, ticks) = datetime2_parts(&wire, 7).unwrap();
        let mut out = Vec::new();
        push_datetime2_7(&mut out, day, ticks);
        assert_eq!(out, b"9999-12-31 23:59:59.9999999");
        let mut out = Vec::new();
        push_datetime2_7(&mut out, 0, 0);
        assert_eq!(out, b"0001-01-01 00:00:00.0000000");

        let mut wire = 86_399_999_999u64.to_le_bytes()[..5].to_vec();
        wire.extend_from_slice(&(LAST_DAY as u32).to_le_bytes()[..3]);
        assert_eq!(datetime2_micros(&wire, 6), Some(253_402_300_799_999_999));
        assert_eq!(datetime2_micros(&[0, 0, 0, 0, 0, 0], 0), Some(-62_135_596_800_000_000));
        assert_eq!(datetime2_micros(&[0x80, 0x51, 0x01, 0, 0, 0], 0), None, "86,400 s is the next day");
    }
}
