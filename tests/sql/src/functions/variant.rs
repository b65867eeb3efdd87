//! Snowflake's conversions and semi-structured functions.

use std::sync::Arc;

use crate::{
    bind::{Binder, operators::exact},
    error::SqlError,
    expr::{Expr, Function, Typed},
    functions::{Arguments, take},
    json,
    types::DataType,
    value::{Value, Variant},
};

/// A variant as a value; a missing one is NULL.
pub(crate) fn wrap(variant: &Variant) -> Value {
    Value::Variant(Arc::new(variant.clone()))
}

/// A member of an object, by its exact name.
pub(crate) fn member(variant: &Variant, name: &str) -> Value {
    match variant {
        Variant::Object(members) => {
            members.iter().find(|(key, _)| key.as_ref() == name).map_or(Value::Null, |(_, value)| wrap(value))
        }
        _ => Value::Null,
    }
}

pub(crate) fn call(
    binder: &Binder<'_>,
    name: &str,
    arguments: &mut Arguments,
) -> Result<Option<Typed>, SqlError> {
    if !binder.is_snowflake() {
        return Ok(None);
    }
    let (quiet, bare) = match name.strip_prefix("TRY_TO_") {
        Some(bare) => (true, bare),
        None => (false, name.strip_prefix("TO_").unwrap_or("")),
    };
    let target = match bare {
        "VARCHAR" | "CHAR" => Some(DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT }),
        "NUMBER" | "DECIMAL" | "NUMERIC" => {
            let given = |at: usize| {
                arguments
                    .as_ref()
                    .and_then(|list| list.get(at))
                    .and_then(Typed::known)
                    .map(|value| exact(value).trunc() as u8)
            };
            let texts =
                arguments.as_ref().is_some_and(|list| list.get(1).is_some_and(|one| one.ty.is_text()));
            let first = if texts { 2 } else { 1 };
            Some(DataType::Number {
                precision: given(first).unwrap_or(38),
                scale: given(first + 1).unwrap_or(0),
            })
        }
        "DOUBLE" => Some(DataType::Double),
        "BOOLEAN" => Some(DataType::Boolean),
        "DATE" => Some(DataType::Date),
        "TIME" => Some(DataType::Time { scale: 9 }),
        "TIMESTAMP" | "TIMESTAMP_NTZ" => Some(DataType::TimestampNtz { scale: 9 }),
        "TIMESTAMP_LTZ" => Some(DataType::TimestampLtz { scale: 9 }),
        "TIMESTAMP_TZ" => Some(DataType::TimestampTz { scale: 9 }),
        "VARIANT" => Some(DataType::Variant),
        "ARRAY" => Some(DataType::Array),
        "OBJECT" => Some(DataType::Object),
        _ => match name {
            "DATE" => Some(DataType::Date),
            _ => None,
        },
    };
    if let Some(target) = target {
        let Some(list) = take(arguments, 1..=4) else { return Ok(None) };
        if list.get(1).is_some_and(|one| one.ty.is_text())
            && !matches!(list[1].known(), Some(Value::Text(text)) if text.lossy().eq_ignore_ascii_case("auto"))
        {
            if matches!(bare, "VARCHAR" | "CHAR") && list[0].ty.is_temporal() {
                return Ok(Some(binder.strict(list, target, |values| {
                    let Value::Text(format) = &values[1] else { return Ok(Value::Null) };
                    super::formats::write(&values[0], &format.lossy()).map(Value::text)
                })));
            }
            return Err(binder.unsupported(format!("{name} with a format")));
        }
        let Some(value) = list.into_iter().next() else { return Ok(None) };
        return binder.try_cast(value, &target, 0, quiet).map(Some);
    }
    let typed = match name {
        "PARSE_JSON" | "TRY_PARSE_JSON" => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            let quiet = name.starts_with("TRY");
            let mut typed = binder.strict(list, DataType::Variant, move |values| {
                let text = match &values[0] {
                    Value::Text(text) => text.lossy().into_owned(),
                    Value::Variant(_) => return Ok(values[0].clone()),
                    _ => return Ok(Value::Null),
                };
                if text.trim().is_empty() {
                    return Ok(Value::Null);
                }
                match json::parse(&text) {
                    Ok(variant) => Ok(wrap(&variant)),
                    Err(_) if quiet => Ok(Value::Null),
                    Err(error) => {
                        Err(SqlError::snowflake(100_069, "22P02", format!("Error parsing JSON: {error}")))
                    }
                }
            });
            typed.nullable = true;
            typed
        }
        "TO_JSON" => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            binder.strict(list, DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT }, |values| {
                Ok(match &values[0] {
                    Value::Variant(variant) => Value::text(json::text_of(variant)),
                    other => Value::text(json::text_of(&Variant::Scalar(other.clone()))),
                })
            })
        }
        "TYPEOF" => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            binder.strict(list, DataType::String { length: 30 }, |values| {
                let Value::Variant(variant) = &values[0] else { return Ok(Value::Null) };
                Ok(Value::text(match variant.as_ref() {
                    Variant::Array(_) => "ARRAY",
                    Variant::Object(_) => "OBJECT",
                    Variant::Scalar(value) => match value {
                        Value::Null => "NULL_VALUE",
                        Value::Bool(_) => "BOOLEAN",
                        Value::Decimal(value) if value.scale > 0 => "DECIMAL",
                        Value::Int(_) | Value::Decimal(_) => "INTEGER",
                        Value::Real(_) | Value::Float(_) => "DOUBLE",
                        Value::Date(_) => "DATE",
                        Value::Time(_) => "TIME",
                        Value::DateTime { .. } => "TIMESTAMP_NTZ",
                        Value::DateTimeOffset { .. } => "TIMESTAMP_TZ",
                        Value::Bytes(_) => "BINARY",
                        _ => "VARCHAR",
                    },
                }))
            })
        }
        "ARRAY_SIZE" => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            binder.strict(list, DataType::Number { precision: 9, scale: 0 }, |values| {
                Ok(match &values[0] {
                    Value::Variant(variant) => match variant.as_ref() {
                        Variant::Array(items) => Value::number(items.len() as i128),
                        _ => Value::Null,
                    },
                    _ => Value::Null,
                })
            })
        }
        "GET" => {
            let Some(mut list) = take(arguments, 2..=2) else { return Ok(None) };
            let (Some(key), Some(value)) = (list.pop(), list.pop()) else { return Ok(None) };
            return binder.item(value, key).map(Some);
        }
        "OBJECT_CONSTRUCT" | "OBJECT_CONSTRUCT_KEEP_NULL" | "ARRAY_CONSTRUCT" => {
            let Some(list) = take(arguments, 0..=1000) else { return Ok(None) };
            let (object, keep) = (name.starts_with("OBJECT"), name.ends_with("NULL"));
            let exprs = list.into_iter().map(|one| one.expr).collect();
            let function: Function = Arc::new(move |values: &[Value]| {
                let item = |value: &Value| match value {
                    Value::Variant(variant) => variant.as_ref().clone(),
                    other => Variant::Scalar(other.clone()),
                };
                if !object {
                    return Ok(Value::Variant(Arc::new(Variant::Array(values.iter().map(item).collect()))));
                }
                let mut members: Vec<(Arc<str>, Variant)> = values
                    .chunks_exact(2)
                    .filter_map(|pair| match &pair[0] {
                        Value::Text(key) if keep || !pair[1].is_null() => {
                            Some((Arc::from(key.lossy().as_ref()), item(&pair[1])))
                        }
                        _ => None,
                    })
                    .collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Value::Variant(Arc::new(Variant::Object(members))))
            });
            Typed::new(
                Expr::Call(function, exprs),
                if object { DataType::Object } else { DataType::Array },
                false,
            )
        }
        "IS_NULL_VALUE" => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            binder.strict(list, DataType::Boolean, |values| {
                Ok(Value::Bool(matches!(&values[0], Value::Variant(variant) if matches!(variant.as_ref(), Variant::Scalar(Value::Null)))))
            })
        }
        "UUID_STRING" => {
            let Some(_) = take(arguments, 0..=0) else { return Ok(None) };
            let function: Function =
                Arc::new(|_: &[Value]| Ok(Value::text(uuid::Uuid::new_v4().to_string())));
            Typed::new(Expr::Call(function, Vec::new()), DataType::String { length: 36 }, false)
        }
        _ => return Ok(None),
    };
    Ok(Some(typed))
}
