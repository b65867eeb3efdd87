//! Functions of dates and times.

use std::sync::Arc;

use crate::{
    bind::{Binder, operators::exact},
    calendar::{self, DAY_1900, DAY_1970, MAX_DAY},
    cast::Cast,
    error::SqlError,
    expr::{Expr, Function, Typed},
    functions::{Arguments, take, unknown},
    types::{DataType, Dialect, Length},
    value::{DAY_NS, Value},
};

/// Functions whose first argument is a date part and not a value.
pub(crate) fn takes_part(name: &str) -> bool {
    matches!(
        name,
        "DATEDIFF"
            | "DATEDIFF_BIG"
            | "DATEADD"
            | "DATEPART"
            | "DATE_PART"
            | "DATENAME"
            | "DATE_TRUNC"
            | "DATETRUNC"
            | "TIMESTAMPDIFF"
            | "TIMESTAMPADD"
            | "TIMEDIFF"
            | "TIMEADD"
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Year,
    Quarter,
    Month,
    DayOfYear,
    Day,
    Week,
    IsoWeek,
    IsoYear,
    Weekday,
    IsoWeekday,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Zone,
    ZoneHour,
    ZoneMinute,
    EpochSecond,
    EpochMillisecond,
    EpochMicrosecond,
    EpochNanosecond,
}

fn part(dialect: Dialect, name: &str) -> Option<Part> {
    let lower = name.trim_matches(['\'', '"', '[', ']']).to_lowercase();
    Some(match (lower.as_str(), dialect) {
        ("year" | "yy" | "yyyy" | "y" | "years" | "yr" | "yrs", Dialect::Snowflake)
        | ("year" | "yy" | "yyyy", _) => Part::Year,
        ("quarter" | "qq" | "q" | "qtr" | "qtrs" | "quarters", _) => Part::Quarter,
        ("month" | "mm" | "m" | "mon" | "mons" | "months", _) => Part::Month,
        ("dayofyear" | "dy" | "doy" | "yearday", _) => Part::DayOfYear,
        ("y", Dialect::SqlServer) => Part::DayOfYear,
        ("day" | "dd" | "d" | "days" | "dayofmonth", _) => Part::Day,
        ("week" | "wk" | "ww" | "w" | "weekofyear" | "woy", _) => Part::Week,
        ("iso_week" | "isowk" | "isoww" | "week_iso" | "weekiso" | "weekofyeariso", _) => Part::IsoWeek,
        ("yearofweekiso", _) => Part::IsoYear,
        ("weekday" | "dw" | "dayofweek" | "dow", _) => Part::Weekday,
        ("dayofweek_iso" | "dayofweekiso" | "weekday_iso" | "dow_iso" | "dw_iso", _) => Part::IsoWeekday,
        ("hour" | "hh" | "h" | "hr" | "hours" | "hrs", _) => Part::Hour,
        ("minute" | "mi" | "n" | "min" | "minutes" | "mins", _) => Part::Minute,
        ("second" | "ss" | "s" | "sec" | "seconds" | "secs", _) => Part::Second,
        ("millisecond" | "ms" | "msec" | "milliseconds", _) => Part::Millisecond,
        ("microsecond" | "mcs" | "us" | "usec" | "microseconds", _) => Part::Microsecond,
        ("nanosecond" | "ns" | "nsec" | "nanosec" | "nanoseconds" | "nsecond", _) => Part::Nanosecond,
        ("tzoffset" | "tz", Dialect::SqlServer) => Part::Zone,
        ("timezone_hour" | "tzh", _) => Part::ZoneHour,
        ("timezone_minute" | "tzm", _) => Part::ZoneMinute,
        ("epoch_second" | "epoch" | "epoch_seconds", _) => Part::EpochSecond,
        ("epoch_millisecond" | "epoch_milliseconds", _) => Part::EpochMillisecond,
        ("epoch_microsecond" | "epoch_microseconds", _) => Part::EpochMicrosecond,
        ("epoch_nanosecond" | "epoch_nanoseconds", _) => Part::EpochNanosecond,
        _ => return None,
    })
}

fn bad_part(binder: &Binder<'_>, name: &str, shown: &str) -> SqlError {
    match binder.dialect() {
        Dialect::SqlServer => {
            SqlError::mssql(155, format!("'{shown}' is not a recognized {} option.", name.to_lowercase()))
                .with_class(15)
        }
        Dialect::Snowflake => SqlError::snowflake(
            1_065,
            "22023",
            format!(
                "SQL compilation error:\n'{shown}' is not a valid date/time component for function {name}"
            ),
        ),
    }
}

/// Local day, nanoseconds and offset.
fn fields(value: &Value) -> Option<(i32, u64, i16)> {
    Some(match value {
        Value::Date(days) => (*days, 0, 0),
        Value::Time(ns) => (DAY_1900, *ns, 0),
        Value::DateTime { days, ns } => (*days, *ns, 0),
        Value::DateTimeOffset { days, ns, minutes } => {
            let (days, ns) = calendar::local(*days, *ns, *minutes);
            (days, ns, *minutes)
        }
        _ => return None,
    })
}

/// A text or number argument becomes a point in time.
fn temporal(binder: &Binder<'_>, typed: Typed) -> Result<Typed, SqlError> {
    if typed.ty.is_temporal() {
        return Ok(typed);
    }
    let ty = match binder.dialect() {
        Dialect::SqlServer if typed.ty.is_number() => DataType::DateTime,
        Dialect::SqlServer => DataType::DateTimeOffset { scale: 7 },
        Dialect::Snowflake => DataType::TimestampNtz { scale: 9 },
    };
    binder.cast(typed, &ty)
}

fn integer(binder: &Binder<'_>, big: bool) -> DataType {
    match binder.dialect() {
        Dialect::SqlServer if big => DataType::BigInt,
        Dialect::SqlServer => DataType::Int,
        Dialect::Snowflake => DataType::Number { precision: 9 + if big { 29 } else { 0 }, scale: 0 },
    }
}

fn whole(snowflake: bool, value: i128) -> Value {
    if snowflake { Value::number(value) } else { Value::Int(value as i64) }
}

pub(crate) fn with_part(
    binder: &Binder<'_>,
    name: &str,
    shown: &str,
    mut rest: Vec<Typed>,
) -> Result<Typed, SqlError> {
    let wanted = part(binder.dialect(), shown).ok_or_else(|| bad_part(binder, name, shown))?;
    match (name, rest.len()) {
        ("DATEDIFF" | "DATEDIFF_BIG" | "TIMESTAMPDIFF" | "TIMEDIFF", 2) => {
            date_diff(binder, name, wanted, rest)
        }
        ("DATEADD" | "TIMESTAMPADD" | "TIMEADD", 2) => date_add(binder, wanted, rest),
        ("DATEPART" | "DATE_PART", 1) => match rest.pop() {
            Some(value) => take_part(binder, wanted, value),
            None => Err(unknown(binder, name, &[])),
        },
        ("DATENAME", 1) => {
            let Some(value) = rest.pop() else { return Err(unknown(binder, name, &[])) };
            let value = temporal(binder, value)?;
            let ty = DataType::NVarChar {
                length: Length::Fixed(30),
                collation: binder.env.db.settings().collation,
            };
            Ok(binder.strict(vec![value], ty, move |values| {
                let Some((days, ns, minutes)) = fields(&values[0]) else { return Ok(Value::Null) };
                Ok(Value::text(match wanted {
                    Part::Month => calendar::MONTHS[(calendar::ymd(days).1 - 1) as usize % 12].to_owned(),
                    Part::Weekday => {
                        calendar::DAYS[(calendar::iso_weekday(days) - 1) as usize % 7].to_owned()
                    }
                    other => field(Dialect::SqlServer, other, days, ns, minutes).to_string(),
                }))
            }))
        }
        ("DATE_TRUNC" | "DATETRUNC", 1) => match rest.pop() {
            Some(value) => truncate(binder, wanted, value),
            None => Err(unknown(binder, name, &[])),
        },
        _ => Err(unknown(binder, name, &rest)),
    }
}

/// EXTRACT and the like.
pub(crate) fn date_part(binder: &Binder<'_>, shown: &str, value: Typed) -> Result<Typed, SqlError> {
    let wanted = part(binder.dialect(), shown).ok_or_else(|| bad_part(binder, "EXTRACT", shown))?;
    take_part(binder, wanted, value)
}

fn take_part(binder: &Binder<'_>, wanted: Part, value: Typed) -> Result<Typed, SqlError> {
    let value = temporal(binder, value)?;
    let (dialect, snowflake) = (binder.dialect(), binder.is_snowflake());
    let big = matches!(
        wanted,
        Part::EpochSecond | Part::EpochMillisecond | Part::EpochMicrosecond | Part::EpochNanosecond
    );
    Ok(binder.strict(vec![value], integer(binder, big), move |values| {
        let Some((days, ns, minutes)) = fields(&values[0]) else { return Ok(Value::Null) };
        Ok(whole(snowflake, field(dialect, wanted, days, ns, minutes)))
    }))
}

fn field(dialect: Dialect, wanted: Part, days: i32, ns: u64, minutes: i16) -> i128 {
    let (year, month, day) = calendar::ymd(days);
    let day_of_year = i64::from(days - calendar::day_of(year, 1, 1).unwrap_or(days)) + 1;
    let nanosecond = i128::from(ns % 1_000_000_000);
    let epoch = || {
        i128::from(days - DAY_1970) * i128::from(DAY_NS) + i128::from(ns)
            - i128::from(minutes) * 60_000_000_000
    };
    i128::from(match wanted {
        Part::Year => year,
        Part::Quarter => (month + 2) / 3,
        Part::Month => month,
        Part::DayOfYear => day_of_year,
        Part::Day => day,
        Part::Week if dialect == Dialect::SqlServer => {
            // Weeks begin on Sunday (DATEFIRST 7); the first holds 1 January.
            let first = calendar::iso_weekday(days - (day_of_year as i32 - 1)) % 7;
            (day_of_year + first - 1) / 7 + 1
        }
        Part::Week | Part::IsoWeek => calendar::iso_week(days).1,
        Part::IsoYear => calendar::iso_week(days).0,
        Part::Weekday if dialect == Dialect::SqlServer => calendar::iso_weekday(days) % 7 + 1,
        Part::Weekday => calendar::iso_weekday(days) % 7,
        Part::IsoWeekday => calendar::iso_weekday(days),
        Part::Hour => (ns / 3_600_000_000_000) as i64,
        Part::Minute => (ns / 60_000_000_000 % 60) as i64,
        Part::Second => (ns / 1_000_000_000 % 60) as i64,
        Part::Millisecond => (nanosecond / 1_000_000) as i64,
        Part::Microsecond => (nanosecond / 1_000) as i64,
        Part::Nanosecond => nanosecond as i64,
        Part::Zone => i64::from(minutes),
        Part::ZoneHour => i64::from(minutes / 60),
        Part::ZoneMinute => i64::from(minutes % 60),
        Part::EpochSecond => return epoch().div_euclid(1_000_000_000),
        Part::EpochMillisecond => return epoch().div_euclid(1_000_000),
        Part::EpochMicrosecond => return epoch().div_euclid(1_000),
        Part::EpochNanosecond => return epoch(),
    })
}

/// How many boundaries of a part lie before a point in time.
fn boundaries(dialect: Dialect, wanted: Part, days: i32, ns: u64) -> Option<i128> {
    let (year, month, _) = calendar::ymd(days);
    let nanoseconds = i128::from(days) * i128::from(DAY_NS) + i128::from(ns);
    Some(match wanted {
        Part::Year | Part::IsoYear => i128::from(year),
        Part::Quarter => i128::from(year * 4 + (month - 1) / 3),
        Part::Month => i128::from(year * 12 + month),
        Part::Day | Part::DayOfYear | Part::Weekday | Part::IsoWeekday => i128::from(days),
        // SQL Server's weeks always begin on Sunday here, Snowflake's on Monday.
        Part::Week if dialect == Dialect::SqlServer => i128::from((days + 1).div_euclid(7)),
        Part::Week | Part::IsoWeek => i128::from(days.div_euclid(7)),
        Part::Hour => nanoseconds.div_euclid(3_600_000_000_000),
        Part::Minute => nanoseconds.div_euclid(60_000_000_000),
        Part::Second => nanoseconds.div_euclid(1_000_000_000),
        Part::Millisecond => nanoseconds.div_euclid(1_000_000),
        Part::Microsecond => nanoseconds.div_euclid(1_000),
        Part::Nanosecond => nanoseconds,
        _ => return None,
    })
}

fn date_diff(binder: &Binder<'_>, name: &str, wanted: Part, rest: Vec<Typed>) -> Result<Typed, SqlError> {
    let dialect = binder.dialect();
    let snowflake = binder.is_snowflake();
    let rest = rest.into_iter().map(|one| temporal(binder, one)).collect::<Result<Vec<_>, _>>()?;
    let big = name == "DATEDIFF_BIG";
    let overflow = SqlError::mssql(
        535,
        "The datediff function resulted in an overflow. The number of dateparts separating two date/time instances is too large. Try to use datediff with a less precise datepart.",
    );
    let ty = if snowflake { DataType::Number { precision: 18, scale: 0 } } else { integer(binder, big) };
    Ok(binder.strict(rest, ty, move |values| {
        // SQL Server takes offsets into account: it counts boundaries in UTC.
        let at = |value: &Value| match value {
            Value::DateTimeOffset { days, ns, .. } if dialect == Dialect::SqlServer => Some((*days, *ns, 0)),
            other => fields(other),
        };
        let (Some((d1, n1, _)), Some((d2, n2, _))) = (at(&values[0]), at(&values[1])) else {
            return Ok(Value::Null);
        };
        let difference = match (boundaries(dialect, wanted, d2, n2), boundaries(dialect, wanted, d1, n1)) {
            (Some(b), Some(a)) => b - a,
            _ => return Ok(Value::Null),
        };
        if dialect == Dialect::SqlServer && !big && i32::try_from(difference).is_err() {
            return Err(overflow.clone());
        }
        Ok(whole(snowflake, difference))
    }))
}

fn date_add(binder: &Binder<'_>, wanted: Part, rest: Vec<Typed>) -> Result<Typed, SqlError> {
    let mut rest = rest.into_iter();
    let (Some(amount), Some(moment)) = (rest.next(), rest.next()) else {
        return Err(unknown(binder, "DATEADD", &[]));
    };
    let snowflake = binder.is_snowflake();
    let moment = match (&moment.ty, snowflake) {
        (ty, false) if ty.is_text() || ty.is_number() => binder.cast(moment, &DataType::DateTime)?,
        _ => temporal(binder, moment)?,
    };
    let small = matches!(
        wanted,
        Part::Hour | Part::Minute | Part::Second | Part::Millisecond | Part::Microsecond | Part::Nanosecond
    );
    // Snowflake: hours added to a DATE make a TIMESTAMP_NTZ.
    let ty = if snowflake && small && moment.ty == DataType::Date {
        DataType::TimestampNtz { scale: 9 }
    } else {
        moment.ty.clone()
    };
    let error = match binder.dialect() {
        Dialect::SqlServer => {
            SqlError::mssql(517, format!("Adding a value to a '{}' column caused an overflow.", ty.name()))
        }
        Dialect::Snowflake => SqlError::snowflake(100_040, "22007", "Date or timestamp is out of range"),
    };
    let (from, to, cast) = (moment.ty.clone(), ty.clone(), Cast::explicit(binder.dialect()));
    Ok(binder.strict(vec![amount, moment], ty, move |values| {
        let amount = match &values[0] {
            Value::Float(value) => value.trunc() as i128,
            other => exact(other).trunc(),
        };
        let Some((days, ns, minutes)) = fields(&values[1]) else { return Ok(Value::Null) };
        let months = match wanted {
            Part::Year => Some(amount * 12),
            Part::Quarter => Some(amount * 3),
            Part::Month => Some(amount),
            _ => None,
        };
        let moved = if let Some(months) = months {
            let (year, month, day) = calendar::ymd(days);
            let total = i128::from(year) * 12 + i128::from(month) - 1 + months;
            let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as i64 + 1);
            i64::try_from(year)
                .ok()
                .and_then(|year| calendar::day_of(year, month, day.min(calendar::month_days(year, month))))
                .map(|days| (days, ns))
        } else {
            let unit: i128 = match wanted {
                Part::Week | Part::IsoWeek => 7 * i128::from(DAY_NS),
                Part::Hour => 3_600_000_000_000,
                Part::Minute => 60_000_000_000,
                Part::Second => 1_000_000_000,
                Part::Millisecond => 1_000_000,
                Part::Microsecond => 1_000,
                Part::Nanosecond => 1,
                _ => i128::from(DAY_NS),
            };
            let total = amount
                .checked_mul(unit)
                .map(|shift| i128::from(days) * i128::from(DAY_NS) + i128::from(ns) + shift);
            total.and_then(|total| {
                let days = i32::try_from(total.div_euclid(i128::from(DAY_NS))).ok()?;
                Some((days, total.rem_euclid(i128::from(DAY_NS)) as u64))
            })
        };
        let (days, ns) =
            moved.filter(|(days, _)| (0..=MAX_DAY).contains(days)).ok_or_else(|| error.clone())?;
        let moved = match &values[1] {
            Value::DateTimeOffset { .. } => {
                let (days, ns) = calendar::local(days, ns, -minutes);
                Value::DateTimeOffset { days, ns, minutes }
            }
            Value::Time(_) => Value::Time(ns),
            Value::Date(_) if to == DataType::Date => Value::Date(days),
            _ => Value::DateTime { days, ns },
        };
        let shape = if from == to { &from } else { &to };
        cast.apply(moved, shape, &to)
    }))
}

fn truncate(binder: &Binder<'_>, wanted: Part, value: Typed) -> Result<Typed, SqlError> {
    let value = temporal(binder, value)?;
    let ty = value.ty.clone();
    Ok(binder.strict(vec![value], ty, move |values| {
        let Some((days, ns, minutes)) = fields(&values[0]) else { return Ok(Value::Null) };
        let (year, month, _) = calendar::ymd(days);
        let unit = |unit: u64| (days, ns / unit * unit);
        let (days, ns) = match wanted {
            Part::Year => (calendar::day_of(year, 1, 1).unwrap_or(days), 0),
            Part::Quarter => (calendar::day_of(year, (month - 1) / 3 * 3 + 1, 1).unwrap_or(days), 0),
            Part::Month => (calendar::day_of(year, month, 1).unwrap_or(days), 0),
            Part::Week | Part::IsoWeek => (days - (calendar::iso_weekday(days) as i32 - 1), 0),
            Part::Hour => unit(3_600_000_000_000),
            Part::Minute => unit(60_000_000_000),
            Part::Second => unit(1_000_000_000),
            Part::Millisecond => unit(1_000_000),
            Part::Microsecond => unit(1_000),
            Part::Nanosecond => (days, ns),
            _ => (days, 0),
        };
        Ok(match &values[0] {
            Value::Date(_) => Value::Date(days),
            Value::Time(_) => Value::Time(ns),
            Value::DateTimeOffset { .. } => {
                let (days, ns) = calendar::local(days, ns, -minutes);
                Value::DateTimeOffset { days, ns, minutes }
            }
            _ => Value::DateTime { days, ns },
        })
    }))
}

/// AT TIME ZONE with a fixed offset or UTC.
pub(crate) fn at_time_zone(binder: &Binder<'_>, value: Typed, zone: Typed) -> Result<Typed, SqlError> {
    let Some(Value::Text(name)) = zone.known() else { return Err(binder.unsupported("AT TIME ZONE")) };
    if !name.lossy().eq_ignore_ascii_case("utc") {
        return Err(binder.unsupported(format!("AT TIME ZONE '{}'", name.lossy())));
    }
    let scale = value.ty.fraction().unwrap_or(7);
    Ok(binder.strict(vec![value], DataType::DateTimeOffset { scale }, |values| {
        Ok(match &values[0] {
            Value::DateTimeOffset { days, ns, .. } => {
                Value::DateTimeOffset { days: *days, ns: *ns, minutes: 0 }
            }
            other => fields(other).map_or(Value::Null, |(days, ns, _)| Value::DateTimeOffset {
                days,
                ns,
                minutes: 0,
            }),
        })
    }))
}

pub(crate) fn call(
    binder: &Binder<'_>,
    name: &str,
    arguments: &mut Arguments,
) -> Result<Option<Typed>, SqlError> {
    let (days, ns) = binder.env.now;
    let snowflake = binder.is_snowflake();
    let zero = |arguments: &mut Arguments| take(arguments, 0..=1).is_some();
    let now = |binder: &Binder<'_>, ty: DataType| -> Result<Typed, SqlError> {
        let value = Value::DateTimeOffset { days, ns, minutes: 0 };
        binder.cast(Typed::constant(value, DataType::DateTimeOffset { scale: 7 }), &ty)
    };
    if let Some(wanted) = match name {
        "YEAR" | "MONTH" | "DAY" => Some(name),
        "HOUR" | "MINUTE" | "SECOND" | "DAYOFWEEK" | "DAYOFYEAR" | "QUARTER" | "WEEK" | "DAYOFMONTH"
        | "DAYOFWEEKISO" | "WEEKISO" | "WEEKOFYEAR"
            if snowflake =>
        {
            Some(name)
        }
        _ => None,
    } {
        let Some(mut list) = take(arguments, 1..=1) else { return Ok(None) };
        return match list.pop() {
            Some(value) => date_part(binder, wanted, value).map(Some),
            None => Ok(None),
        };
    }
    let ty = match (name, snowflake) {
        ("GETDATE" | "CURRENT_TIMESTAMP" | "GETUTCDATE", false) => DataType::DateTime,
        ("SYSDATETIME" | "SYSUTCDATETIME", false) => DataType::DateTime2 { scale: 7 },
        ("SYSDATETIMEOFFSET", false) => DataType::DateTimeOffset { scale: 7 },
        ("CURRENT_TIMESTAMP" | "GETDATE" | "LOCALTIMESTAMP" | "SYSTIMESTAMP", true) => {
            DataType::TimestampLtz { scale: 9 }
        }
        ("SYSDATE", true) => DataType::TimestampNtz { scale: 9 },
        ("CURRENT_DATE", true) => DataType::Date,
        ("CURRENT_TIME" | "LOCALTIME", true) => DataType::Time { scale: 9 },
        ("LAST_DAY" | "EOMONTH", _) => {
            let Some(list) = take(arguments, 1..=2) else { return Ok(None) };
            let mut list = list.into_iter();
            let Some(value) = list.next() else { return Ok(None) };
            let mut all = vec![temporal(binder, value)?];
            if !snowflake {
                all.extend(list);
            }
            return Ok(Some(binder.strict(all, DataType::Date, |values| {
                let Some((days, ..)) = fields(&values[0]) else { return Ok(Value::Null) };
                let (year, month, _) = calendar::ymd(days);
                let total =
                    year * 12 + month - 1 + values.get(1).map_or(0, |months| exact(months).trunc() as i64);
                let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
                Ok(calendar::day_of(year, month, calendar::month_days(year, month))
                    .map_or(Value::Null, Value::Date))
            })));
        }
        ("DATEFROMPARTS" | "DATE_FROM_PARTS", _) => {
            let Some(list) = take(arguments, 3..=3) else { return Ok(None) };
            let error = SqlError::mssql(
                289,
                "Cannot construct data type date, some of the arguments have values which are not valid.",
            );
            return Ok(Some(binder.strict(list, DataType::Date, move |values| {
                let part = |at: usize| exact(&values[at]).trunc() as i64;
                calendar::day_of(part(0), part(1), part(2)).map(Value::Date).ok_or_else(|| error.clone())
            })));
        }
        ("SWITCHOFFSET", false) => {
            let Some(list) = take(arguments, 2..=2) else { return Ok(None) };
            let mut list = list.into_iter();
            let (Some(value), Some(zone)) = (list.next(), list.next()) else { return Ok(None) };
            let value = binder.cast(value, &DataType::DateTimeOffset { scale: 7 })?;
            let ty = value.ty.clone();
            return Ok(Some(binder.strict(vec![value, zone], ty, |values| {
                let Value::DateTimeOffset { days, ns, .. } = values[0] else { return Ok(Value::Null) };
                let minutes = match &values[1] {
                    Value::Text(zone) => {
                        calendar::parse(&format!("00:00{}", zone.lossy())).and_then(|parsed| parsed.minutes)
                    }
                    other => Some(exact(other).trunc() as i16),
                };
                Ok(minutes.map_or(Value::Null, |minutes| Value::DateTimeOffset { days, ns, minutes }))
            })));
        }
        ("MONTHNAME" | "DAYNAME", true) => {
            let Some(mut list) = take(arguments, 1..=1) else { return Ok(None) };
            let Some(value) = list.pop() else { return Ok(None) };
            let value = temporal(binder, value)?;
            let month = name == "MONTHNAME";
            return Ok(Some(binder.strict(vec![value], DataType::String { length: 3 }, move |values| {
                let Some((days, ..)) = fields(&values[0]) else { return Ok(Value::Null) };
                let full = if month {
                    calendar::MONTHS[(calendar::ymd(days).1 - 1) as usize % 12]
                } else {
                    calendar::DAYS[(calendar::iso_weekday(days) - 1) as usize % 7]
                };
                Ok(Value::text(&full[..3]))
            })));
        }
        ("TRUNC", true)
            if arguments
                .as_ref()
                .is_some_and(|list| list.first().is_some_and(|one| one.ty.is_temporal())) =>
        {
            let Some(list) = take(arguments, 2..=2) else { return Ok(None) };
            let mut list = list.into_iter();
            let (Some(value), Some(unit)) = (list.next(), list.next()) else { return Ok(None) };
            let Some(Value::Text(unit)) = unit.known().cloned() else { return Ok(None) };
            let wanted = part(binder.dialect(), &unit.lossy())
                .ok_or_else(|| bad_part(binder, "TRUNC", &unit.lossy()))?;
            return truncate(binder, wanted, value).map(Some);
        }
        ("CONVERT_TIMEZONE", true) => {
            let Some(mut list) = take(arguments, 2..=3) else { return Ok(None) };
            let Some(value) = list.pop() else { return Ok(None) };
            let utc = list.iter().all(|zone| matches!(zone.known(), Some(Value::Text(text)) if text.lossy().eq_ignore_ascii_case("utc")));
            if !utc {
                return Err(binder.unsupported("CONVERT_TIMEZONE to another zone than UTC"));
            }
            let ty = if list.len() == 1 {
                DataType::TimestampTz { scale: 9 }
            } else {
                DataType::TimestampNtz { scale: 9 }
            };
            let function: Function = Arc::new(|values: &[Value]| {
                Ok(match &values[0] {
                    Value::DateTimeOffset { days, ns, .. } => {
                        Value::DateTimeOffset { days: *days, ns: *ns, minutes: 0 }
                    }
                    other => other.clone(),
                })
            });
            let utc = Typed::new(Expr::Strict(function, vec![value.expr]), value.ty, value.nullable);
            return binder.cast(utc, &ty).map(Some);
        }
        _ => return Ok(None),
    };
    if zero(arguments) { now(binder, ty).map(Some) } else { Ok(None) }
}
