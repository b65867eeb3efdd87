//! Functions of numbers.

use crate::{
    bind::{Binder, operators::exact},
    decimal::{Decimal, Rounding},
    error::SqlError,
    expr::Typed,
    functions::{Arguments, take},
    types::DataType,
    value::Value,
};

pub(crate) fn call(
    binder: &Binder<'_>,
    name: &str,
    arguments: &mut Arguments,
) -> Result<Option<Typed>, SqlError> {
    let snowflake = binder.is_snowflake();
    let wide = if snowflake { DataType::Double } else { DataType::Float };
    let float = |arguments: &mut Arguments, function: fn(f64) -> f64| -> Result<Option<Typed>, SqlError> {
        let Some(mut list) = take(arguments, 1..=1) else { return Ok(None) };
        let Some(one) = list.pop() else { return Ok(None) };
        let one = binder.cast(one, &wide)?;
        Ok(Some(binder.strict(vec![one], wide.clone(), move |values| match values[0] {
            Value::Float(value) => {
                let result = function(value);
                if result.is_nan() && !snowflake {
                    return Err(SqlError::mssql(3623, "An invalid floating point operation occurred."));
                }
                Ok(Value::Float(result))
            }
            _ => Ok(Value::Null),
        })))
    };
    match name {
        "ABS" | "SIGN" | "CEIL" | "CEILING" | "FLOOR" => {
            let Some(mut list) = take(arguments, 1..=1) else { return Ok(None) };
            let Some(mut one) = list.pop() else { return Ok(None) };
            if one.ty.is_text() || one.ty.is_semi_structured() || one.ty == DataType::Null {
                one = binder.cast(one, &wide)?;
            }
            let whole = matches!(name, "CEIL" | "CEILING" | "FLOOR");
            let ty = match &one.ty {
                DataType::Decimal { precision, .. } if whole => {
                    DataType::Decimal { precision: *precision, scale: 0 }
                }
                DataType::Number { precision, scale } if whole => {
                    DataType::Number { precision: (precision - scale + 1).min(38), scale: 0 }
                }
                DataType::Number { .. } if name == "SIGN" => DataType::Number { precision: 1, scale: 0 },
                DataType::Bit => DataType::Int,
                DataType::Real => DataType::Float,
                other => other.clone(),
            };
            let name = name.to_owned();
            let (_, scale) = ty.precision_scale().unwrap_or((38, 0));
            Ok(Some(binder.strict(vec![one], ty, move |values| Ok(whole_or_sign(&name, &values[0], scale)))))
        }
        "ROUND" | "TRUNC" | "TRUNCATE" => round(binder, name, arguments),
        "MOD" if snowflake => {
            let Some(mut list) = take(arguments, 2..=2) else { return Ok(None) };
            let (b, a) = (list.pop(), list.pop());
            match (a, b) {
                (Some(a), Some(b)) => {
                    binder.arithmetic(crate::bind::operators::Arithmetic::Modulo, a, b).map(Some)
                }
                _ => Ok(None),
            }
        }
        "DIV0" | "DIV0NULL" if snowflake => {
            let Some(mut list) = take(arguments, 2..=2) else { return Ok(None) };
            let (Some(b), Some(a)) = (list.pop(), list.pop()) else { return Ok(None) };
            let (b, a) = (binder.cast(b, &wide)?, binder.cast(a, &wide)?);
            Ok(Some(binder.strict(vec![a, b], wide, |values| {
                let (Value::Float(a), Value::Float(b)) = (&values[0], &values[1]) else {
                    return Ok(Value::Null);
                };
                Ok(Value::Float(if *b == 0.0 { 0.0 } else { a / b }))
            })))
        }
        "BITAND" | "BITOR" | "BITXOR" if snowflake => {
            let Some(mut list) = take(arguments, 2..=2) else { return Ok(None) };
            let (Some(b), Some(a)) = (list.pop(), list.pop()) else { return Ok(None) };
            let combine: fn(i64, i64) -> i64 = match name {
                "BITAND" => |a, b| a & b,
                "BITOR" => |a, b| a | b,
                _ => |a, b| a ^ b,
            };
            binder.bitwise(a, b, combine).map(Some)
        }
        "SQRT" => float(arguments, f64::sqrt),
        "EXP" => float(arguments, f64::exp),
        "LN" => float(arguments, f64::ln),
        "LOG10" => float(arguments, f64::log10),
        "SIN" => float(arguments, f64::sin),
        "COS" => float(arguments, f64::cos),
        "TAN" => float(arguments, f64::tan),
        "LOG" if !snowflake && arguments.as_ref().is_some_and(|list| list.len() == 1) => {
            float(arguments, f64::ln)
        }
        "SQUARE" => float(arguments, |value| value * value),
        "POWER" | "POW" | "ATAN2" | "ATN2" | "LOG" => {
            let Some(mut list) = take(arguments, 2..=2) else { return Ok(None) };
            let (Some(b), Some(a)) = (list.pop(), list.pop()) else { return Ok(None) };
            // SQL Server's POWER has its first argument's type.
            let result =
                if snowflake || name != "POWER" || a.ty.is_float() { wide.clone() } else { a.ty.clone() };
            let (a, b) = (binder.cast(a, &wide)?, binder.cast(b, &wide)?);
            let name = name.to_owned();
            let typed = binder.strict(vec![a, b], wide, move |values| {
                let (Value::Float(a), Value::Float(b)) = (&values[0], &values[1]) else {
                    return Ok(Value::Null);
                };
                Ok(Value::Float(match (name.as_str(), snowflake) {
                    ("POWER" | "POW", _) => a.powf(*b),
                    ("LOG", true) => b.log(*a),
                    ("LOG", false) => a.log(*b),
                    _ => a.atan2(*b),
                }))
            });
            binder.cast(typed, &result).map(Some)
        }
        "PI" => Ok(take(arguments, 0..=0).map(|_| Typed::constant(Value::Float(std::f64::consts::PI), wide))),
        "RAND" if !snowflake => {
            Ok(take(arguments, 0..=1).map(|_| Typed::constant(Value::Float(fastrand::f64()), wide)))
        }
        "RANDOM" if snowflake => Ok(take(arguments, 0..=1).map(|_| {
            let function: crate::expr::Function =
                std::sync::Arc::new(|_: &[Value]| Ok(Value::number(i128::from(fastrand::i64(..)))));
            Typed::new(
                crate::expr::Expr::Call(function, Vec::new()),
                DataType::Number { precision: 19, scale: 0 },
                false,
            )
        })),
        "GREATEST" | "LEAST" => {
            let Some(list) = take(arguments, 1..=100) else { return Ok(None) };
            let order = crate::keys::Order::of(binder.dialect(), &list[0].ty);
            let (exprs, ty, nullable) = binder.unify(list)?;
            let greatest = name == "GREATEST";
            let function: crate::expr::Function = std::sync::Arc::new(move |values: &[Value]| {
                // SQL Server skips NULLs, Snowflake does not.
                if snowflake && values.iter().any(Value::is_null) {
                    return Ok(Value::Null);
                }
                let some = values.iter().filter(|value| !value.is_null());
                let best = if greatest {
                    some.max_by(|a, b| crate::keys::compare(a, b, order))
                } else {
                    some.min_by(|a, b| crate::keys::compare(a, b, order))
                };
                Ok(best.cloned().unwrap_or(Value::Null))
            });
            Ok(Some(Typed::new(crate::expr::Expr::Call(function, exprs), ty, nullable)))
        }
        _ => Ok(None),
    }
}

fn whole_or_sign(name: &str, value: &Value, scale: u8) -> Value {
    match (name, value) {
        ("ABS", Value::Int(value)) => Value::Int(value.wrapping_abs()),
        ("ABS", Value::Decimal(value)) => Value::Decimal(Decimal::new(value.unscaled.abs(), value.scale)),
        ("ABS", Value::Float(value)) => Value::Float(value.abs()),
        ("ABS", Value::Real(value)) => Value::Float(f64::from(value.abs())),
        ("SIGN", Value::Int(value)) => Value::Int(value.signum()),
        ("SIGN", Value::Decimal(value)) => {
            Value::Decimal(Decimal::new(value.unscaled.signum() * crate::decimal::pow10(scale), scale))
        }
        ("SIGN", Value::Float(value)) => Value::Float(if *value == 0.0 { 0.0 } else { value.signum() }),
        (_, Value::Decimal(value)) => {
            let unit = crate::decimal::pow10(value.scale);
            let low = value.unscaled.div_euclid(unit);
            let up = i128::from(name != "FLOOR" && value.unscaled.rem_euclid(unit) != 0);
            let whole = Decimal::new(low + up, 0);
            Value::Decimal(whole.rescale(scale, Rounding::HalfUp).unwrap_or(whole))
        }
        ("FLOOR", Value::Float(value)) => Value::Float(value.floor()),
        (_, Value::Float(value)) => Value::Float(value.ceil()),
        ("FLOOR", Value::Real(value)) => Value::Float(f64::from(value.floor())),
        (_, Value::Real(value)) => Value::Float(f64::from(value.ceil())),
        (_, other) => other.clone(),
    }
}

fn round(binder: &Binder<'_>, name: &str, arguments: &mut Arguments) -> Result<Option<Typed>, SqlError> {
    let snowflake = binder.is_snowflake();
    let dated = arguments.as_ref().is_some_and(|list| list.first().is_some_and(|one| one.ty.is_temporal()));
    if dated || (name != "ROUND" && !snowflake) {
        return Ok(None);
    }
    let Some(mut list) = take(arguments, 1..=3) else { return Ok(None) };
    if list[0].ty.is_text() || list[0].ty.is_semi_structured() {
        let first = std::mem::replace(&mut list[0], Typed::constant(Value::Null, DataType::Null));
        list[0] = binder.cast(first, if snowflake { &DataType::Double } else { &DataType::Float })?;
    }
    let cut = name != "ROUND"
        || list.get(2).and_then(Typed::known).is_some_and(|mode| !snowflake && exact(mode).unscaled != 0);
    let places = list.get(1).and_then(Typed::known).map(|places| exact(places).trunc() as i32);
    let ty = match (&list[0].ty, places.or((list.len() == 1).then_some(0))) {
        (DataType::Number { precision, scale }, Some(places)) => {
            let scale_out = places.clamp(0, i32::from(*scale)) as u8;
            DataType::Number {
                precision: (precision - scale + scale_out + u8::from(!cut)).min(38),
                scale: scale_out,
            }
        }
        (ty, _) => ty.clone(),
    };
    let (_, scale) = ty.precision_scale().unwrap_or((38, 0));
    let float = ty.is_float();
    let rounding = if cut { Rounding::Truncate } else { Rounding::HalfUp };
    let overflow =
        SqlError::mssql(8115, "Arithmetic overflow error converting expression to data type numeric.");
    Ok(Some(binder.strict(list, ty, move |values| {
        let places = values.get(1).map_or(0, |places| exact(places).trunc() as i32).clamp(-38, 38);
        if float {
            let value = match values[0] {
                Value::Float(value) => value,
                Value::Real(value) => f64::from(value),
                _ => return Ok(Value::Null),
            };
            let unit = 10_f64.powi(places);
            let scaled = value * unit;
            return Ok(Value::Float(if cut { scaled.trunc() } else { scaled.round() } / unit));
        }
        let value = exact(&values[0]);
        let rounded = if places >= 0 {
            value.rescale((places as u8).min(value.scale), rounding)
        } else {
            let unit = crate::decimal::pow10((-places) as u8);
            value
                .div(Decimal::new(unit, 0), 0, rounding)
                .and_then(|value| value.unscaled.checked_mul(unit))
                .map(|unscaled| Decimal::new(unscaled, 0))
        };
        let rounded = rounded
            .and_then(|value| value.rescale(scale, Rounding::HalfUp))
            .ok_or_else(|| overflow.clone())?;
        Ok(match &values[0] {
            Value::Int(_) => Value::Int(rounded.trunc() as i64),
            _ => Value::Decimal(rounded),
        })
    })))
}
