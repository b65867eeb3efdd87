//! Equality and order of values: hash keys for grouping, joining and uniqueness, and comparison for sorting.

use std::cmp::Ordering;

use crate::{
    collation::Collation,
    types::{DataType, Dialect},
    value::{Value, Variant},
};

/// Bytes that are equal exactly for values that the dialect holds equal.
pub(crate) type KeyBytes = Vec<u8>;

/// How the text of one column or expression compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Snowflake: by UTF-8 bytes.
    Bytes,
    /// SQL Server: by a collation.
    Collated(Collation),
}

impl Order {
    pub(crate) fn of(dialect: Dialect, ty: &DataType) -> Self {
        match dialect {
            Dialect::Snowflake => Self::Bytes,
            Dialect::SqlServer => Self::Collated(ty.collation().unwrap_or_default()),
        }
    }
}

/// Appends a value's key. NULL has a key of its own: grouping holds NULLs equal.
pub(crate) fn push_key(key: &mut KeyBytes, value: &Value, order: Order) {
    let tag = |key: &mut KeyBytes, tag: u8, bytes: &[u8]| {
        key.push(tag);
        key.extend_from_slice(bytes);
    };
    match value {
        Value::Null => key.push(0),
        Value::Bool(value) => tag(key, 2, &i128::from(*value).to_be_bytes()),
        Value::Int(value) => {
            tag(key, 2, &i128::from(*value).to_be_bytes());
        }
        Value::Decimal(value) => {
            let value = value.normalize();
            if value.scale == 0 {
                tag(key, 2, &value.unscaled.to_be_bytes());
            } else {
                tag(key, 3, &value.unscaled.to_be_bytes());
                key.push(value.scale);
            }
        }
        Value::Real(value) => push_float(key, f64::from(*value)),
        Value::Float(value) => push_float(key, *value),
        Value::Date(days) => tag(key, 5, &days.to_be_bytes()),
        Value::Time(ns) => tag(key, 6, &ns.to_be_bytes()),
        Value::DateTime { days, ns } | Value::DateTimeOffset { days, ns, .. } => {
            tag(key, 7, &days.to_be_bytes());
            key.extend_from_slice(&ns.to_be_bytes());
        }
        Value::Text(text) => {
            key.push(8);
            let start = key.len();
            key.extend_from_slice(&[0; 4]);
            match (order, text.as_str()) {
                (Order::Bytes, Some(text)) => key.extend_from_slice(text.as_bytes()),
                (Order::Collated(collation), Some(text)) => {
                    key.extend_from_slice(collation.fold(text).as_bytes());
                }
                (_, None) => key.extend_from_slice(&text.utf16le()),
            }
            let length = (key.len() - start - 4) as u32;
            key[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        Value::Bytes(bytes) => {
            // SQL Server ignores trailing zero bytes when it compares binary.
            let bytes = match order {
                Order::Collated(_) => trim_zeros(bytes),
                Order::Bytes => bytes,
            };
            tag(key, 9, &(bytes.len() as u32).to_be_bytes());
            key.extend_from_slice(bytes);
        }
        Value::Uuid(bytes) => tag(key, 10, bytes),
        Value::Variant(variant) => match variant.as_ref() {
            Variant::Scalar(value) => push_key(key, value, order),
            other => {
                let text = format!("{other:?}");
                tag(key, 11, &(text.len() as u32).to_be_bytes());
                key.extend_from_slice(text.as_bytes());
            }
        },
        Value::Typed(typed) => push_key(key, &typed.1, order),
    }
}

fn push_float(key: &mut KeyBytes, value: f64) {
    // Whole floats share the keys of integers, so that a join of the two kinds finds them.
    if value.fract() == 0.0 && value.abs() < 1e38 {
        key.push(2);
        key.extend_from_slice(&(value as i128).to_be_bytes());
    } else {
        key.push(4);
        key.extend_from_slice(&value.to_bits().to_be_bytes());
    }
}

fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// Compares two values that are not NULL. The binder made their types comparable.
pub(crate) fn compare(a: &Value, b: &Value, order: Order) -> Ordering {
    use Value as V;
    match (a, b) {
        (V::Int(a), V::Int(b)) => a.cmp(b),
        (V::Text(a), V::Text(b)) => match (order, a.as_str(), b.as_str()) {
            (Order::Bytes, Some(a), Some(b)) => a.cmp(b),
            (Order::Collated(collation), Some(a), Some(b)) => collation.compare(a, b),
            _ => a.utf16().cmp(&b.utf16()),
        },
        (V::Decimal(a), V::Decimal(b)) => a.compare(b),
        (V::Bool(a), V::Bool(b)) => a.cmp(b),
        (V::Date(a), V::Date(b)) => a.cmp(b),
        (V::Time(a), V::Time(b)) => a.cmp(b),
        (
            V::DateTime { days: a, ns: an } | V::DateTimeOffset { days: a, ns: an, .. },
            V::DateTime { days: b, ns: bn } | V::DateTimeOffset { days: b, ns: bn, .. },
        ) => (a, an).cmp(&(b, bn)),
        (V::Date(a), V::DateTime { days, ns }) => (a, &0).cmp(&(days, ns)),
        (V::DateTime { days, ns }, V::Date(b)) => (days, ns).cmp(&(b, &0)),
        (V::Bytes(a), V::Bytes(b)) => match order {
            Order::Collated(_) => trim_zeros(a).cmp(trim_zeros(b)),
            Order::Bytes => a.cmp(b),
        },
        (V::Uuid(a), V::Uuid(b)) => uuid_order(a).cmp(&uuid_order(b)),
        (V::Variant(a), b) => match a.as_ref() {
            Variant::Scalar(a) => compare(a, b, order),
            a => format!("{a:?}").cmp(&format!("{b:?}")),
        },
        (a, V::Variant(b)) => match b.as_ref() {
            Variant::Scalar(b) => compare(a, b, order),
            b => format!("{a:?}").cmp(&format!("{b:?}")),
        },
        (V::Typed(a), b) => compare(&a.1, b, order),
        (a, V::Typed(b)) => compare(a, &b.1, order),
        (a, b) => match (exact(a), exact(b)) {
            (Some(a), Some(b)) => a.compare(&b),
            _ => float(a).total_cmp(&float(b)),
        },
    }
}

fn exact(value: &Value) -> Option<crate::decimal::Decimal> {
    Some(match value {
        Value::Bool(value) => crate::decimal::Decimal::new(i128::from(*value), 0),
        Value::Int(value) => crate::decimal::Decimal::new(i128::from(*value), 0),
        Value::Decimal(value) => *value,
        _ => return None,
    })
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Int(value) => *value as f64,
        Value::Decimal(value) => value.to_f64(),
        Value::Real(value) => f64::from(*value) + 0.0,
        Value::Float(value) => *value + 0.0,
        _ => f64::NAN,
    }
}

/// SQL Server compares uniqueidentifiers by their last six bytes first, then the other groups backwards.
fn uuid_order(bytes: &[u8; 16]) -> [u8; 16] {
    const PLACES: [usize; 16] = [10, 11, 12, 13, 14, 15, 8, 9, 6, 7, 4, 5, 0, 1, 2, 3];
    // The text's first three groups are little-endian in storage; storage order is what the rule counts.
    let storage = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|at| bytes[at]);
    PLACES.map(|at| storage[at])
}

/// A comparison of NULLs with values for sorting.
pub(crate) fn sort_order(
    a: &Value,
    b: &Value,
    order: Order,
    descending: bool,
    nulls_first: bool,
) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => {
            if nulls_first {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (false, true) => {
            if nulls_first {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (false, false) => {
            let order = compare(a, b, order);
            if descending { order.reverse() } else { order }
        }
    }
}
