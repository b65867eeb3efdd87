//! Columns and values as the drivers read them: the service's JSON result format.

mod arrow;
mod layout;

use std::{fmt::Write as _, io::Write as _};

use keyferry_sql::{Column, DataType, Row, Value, Variant};
pub(crate) use layout::{Format, Laid, lay_out};
use serde_json::{Value as Json, json};

/// Days from 0001-01-01 to 1970-01-01.
pub(crate) const EPOCH_DAYS: i64 = 719_162;

/// The `rowtype` entry of a column.
pub(crate) fn row_type(column: &Column) -> Json {
    let (name, precision, scale, length, bytes) = shape(&column.ty);
    json!({
        "name": column.name, "database": "", "schema": "", "table": "", "nullable": column.nullable,
        "type": name, "precision": precision, "scale": scale, "length": length, "byteLength": bytes,
        "collation": null,
    })
}

type Shape = (&'static str, Option<u8>, Option<u8>, Option<u32>, Option<u32>);

fn shape(ty: &DataType) -> Shape {
    match ty {
        DataType::Double | DataType::Real | DataType::Float => ("real", None, None, None, None),
        DataType::Boolean | DataType::Bit => ("boolean", None, None, None, None),
        DataType::Date => ("date", None, None, None, None),
        DataType::Time { scale } => ("time", Some(0), Some(*scale), None, None),
        DataType::TimestampNtz { scale } => ("timestamp_ntz", Some(0), Some(*scale), None, None),
        DataType::TimestampLtz { scale } => ("timestamp_ltz", Some(0), Some(*scale), None, None),
        DataType::TimestampTz { scale } => ("timestamp_tz", Some(0), Some(*scale), None, None),
        DataType::Bytes { length } => ("binary", None, None, Some(*length), Some(*length)),
        DataType::Variant => ("variant", None, None, None, None),
        DataType::Object => ("object", None, None, None, None),
        DataType::Array => ("array", None, None, None, None),
        DataType::String { length } => {
            let most = (*length).max(DataType::SNOWFLAKE_DEFAULT_TEXT);
            ("text", None, None, Some(*length), Some(length.saturating_mul(4).min(most)))
        }
        other => match other.precision_scale() {
            Some((precision, scale)) => ("fixed", Some(precision), Some(scale), None, None),
            None => (
                "text",
                None,
                None,
                Some(DataType::SNOWFLAKE_DEFAULT_TEXT),
                Some(DataType::SNOWFLAKE_DEFAULT_TEXT),
            ),
        },
    }
}

/// Writes one row as a JSON array.
fn write_row(out: &mut Vec<u8>, columns: &[Column], row: &Row) {
    let mut text = String::new();
    out.push(b'[');
    for (position, (value, column)) in row.iter().zip(columns).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        if value.is_null() {
            out.extend_from_slice(b"null");
            continue;
        }
        if let Value::Text(value) = value {
            write_string(out, &value.lossy());
            continue;
        }
        text.clear();
        write_text(&mut text, value, &column.ty);
        write_string(out, &text);
    }
    out.push(b']');
}

/// The type's name in `rowtype`.
fn logical_name(ty: &DataType) -> &'static str {
    shape(ty).0
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *out, text);
}

/// The text of one value in the result format.
pub(crate) fn write_text(out: &mut String, value: &Value, ty: &DataType) {
    let scale = ty.fraction().unwrap_or(9);
    let _ = match value {
        Value::Null => Ok(()),
        Value::Bool(value) => write!(out, "{}", u8::from(*value)),
        Value::Int(value) => write!(out, "{value}"),
        Value::Decimal(value) => write!(out, "{value}"),
        Value::Real(value) => write!(out, "{}", float(f64::from(*value))),
        Value::Float(value) => write!(out, "{}", float(*value)),
        Value::Date(days) => write!(out, "{}", i64::from(*days) - EPOCH_DAYS),
        Value::Time(ns) => write!(out, "{}", seconds(i128::from(*ns), scale)),
        Value::DateTime { days, ns } => write!(out, "{}", seconds(since_epoch(*days, *ns), scale)),
        Value::DateTimeOffset { days, ns, minutes } => {
            let instant = seconds(since_epoch(*days, *ns), scale);
            match ty {
                DataType::TimestampTz { .. } => write!(out, "{instant} {}", i32::from(*minutes) + 1440),
                _ => write!(out, "{instant}"),
            }
        }
        Value::Text(value) => write!(out, "{}", value.lossy()),
        Value::Bytes(bytes) => write!(out, "{}", hex::encode_upper(bytes)),
        Value::Uuid(bytes) => write!(out, "{}", uuid::Uuid::from_bytes(*bytes)),
        Value::Variant(variant) => write!(out, "{:#}", json_of(variant)),
        Value::Typed(inner) => {
            write_text(out, &inner.1, &inner.0);
            Ok(())
        }
    };
}

/// The shortest decimal text that reads back as the same number.
fn float(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "inf" } else { "-inf" }).to_owned()
    } else if size == 0.0 || (1e-5..1e15).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

/// Nanoseconds since 1970 of days since 0001 and nanoseconds of the day.
fn since_epoch(days: i32, ns: u64) -> i128 {
    (i128::from(days) - i128::from(EPOCH_DAYS)) * 86_400_000_000_000 + i128::from(ns)
}

/// Nanoseconds as seconds with `scale` digits after the point.
fn seconds(ns: i128, scale: u8) -> String {
    let scale = scale.min(9);
    let units = ns / 10_i128.pow(u32::from(9 - scale));
    let per_second = 10_i128.pow(u32::from(scale));
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) = (units.abs() / per_second, units.abs() % per_second);
    if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction:0width$}", width = usize::from(scale))
    }
}

fn json_of(variant: &Variant) -> Json {
    match variant {
        Variant::Scalar(Value::Null) => Json::Null,
        Variant::Scalar(Value::Bool(value)) => Json::Bool(*value),
        Variant::Scalar(Value::Int(value)) => json!(value),
        Variant::Scalar(Value::Float(value)) => json!(value),
        Variant::Scalar(Value::Decimal(value)) => {
            let text = value.to_string();
            serde_json::from_str(&text).unwrap_or(Json::String(text))
        }
        Variant::Scalar(value) => {
            let mut text = String::new();
            write_text(&mut text, value, &DataType::Variant);
            Json::String(text)
        }
        Variant::Array(items) => Json::Array(items.iter().map(json_of).collect()),
        Variant::Object(members) => {
            Json::Object(members.iter().map(|(name, value)| (name.to_string(), json_of(value))).collect())
        }
    }
}

/// Puts a prepared `rowset` between the other members of `data`, without parsing it again.
pub(crate) fn with_rowset(data: &Json, rowset: Option<&[u8]>) -> Vec<u8> {
    let mut out = b"{\"data\":".to_vec();
    let text = data.to_string();
    out.extend_from_slice(text.strip_suffix('}').unwrap_or(&text).as_bytes());
    if let Some(rowset) = rowset {
        let _ = out.write_all(b",\"rowset\":");
        out.extend_from_slice(rowset);
    }
    out.extend_from_slice(b"},\"code\":null,\"message\":null,\"success\":true,\"headers\":null}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &Value, ty: &DataType) -> String {
        let mut out = String::new();
        write_text(&mut out, value, ty);
        out
    }

    #[test]
    fn times_are_decimal_seconds_also_before_1970() {
        let ntz = DataType::TimestampNtz { scale: 9 };
        assert_eq!(text(&Value::DateTime { days: 719_162, ns: 1 }, &ntz), "0.000000001");
        assert_eq!(text(&Value::DateTime { days: 719_161, ns: 86_399_500_000_000 }, &ntz), "-0.500000000");
        assert_eq!(
            text(&Value::DateTime { days: 0, ns: 0 }, &DataType::TimestampNtz { scale: 0 }),
            "-62135596800"
        );
        let tz = DataType::TimestampTz { scale: 3 };
        let value = Value::DateTimeOffset { days: 719_162, ns: 2_000_000, minutes: -90 };
        assert_eq!(text(&value, &tz), "0.002 1350");
        assert_eq!(text(&Value::Date(719_163), &DataType::Date), "1");
    }

    #[test]
    fn floats_read_back_as_the_same_number() {
        for value in [0.1, 1e300, 5e-324, f64::MAX, -0.0, 123_456.789] {
            assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
