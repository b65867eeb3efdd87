//! A statement's text and bindings, before it is executed: one statement only, `IDENTIFIER(…)` resolved, `?` bound.

use std::{collections::BTreeMap, fmt::Write as _};

use keyferry_sql::{DataType, Decimal, Parameter, Value};
use serde::Deserialize;

use crate::{
    lexer::{Kind, Token, quote_text, tokens},
    reply::Refusal,
    results::EPOCH_DAYS,
};

/// One binding as drivers send it.
#[derive(Debug, Deserialize)]
pub(crate) struct Binding {
    #[serde(rename = "type")]
    kind: String,
    value: serde_json::Value,
}

/// Bindings by position, counted from "1".
pub(crate) type Bindings = BTreeMap<String, Binding>;

/// A statement ready to run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) text: String,
    pub(crate) parameters: Vec<Parameter>,
}

/// Checks that there is one statement, replaces `IDENTIFIER('x')` by the name, and binds.
///
/// With `literals` every `?` becomes a literal in the text: for statements that the evaluator never sees.
pub(crate) fn prepare(sql: &str, bindings: &Bindings, literals: bool) -> Result<Prepared, Refusal> {
    let all = tokens(sql);
    if all.is_empty() {
        return Err(Refusal::new("000900", "42601", "SQL compilation error:\nEmpty SQL statement."));
    }
    let statements = all.split(|token| token.is(";")).filter(|part| !part.is_empty()).count();
    if statements != 1 {
        return Err(Refusal::new(
            "000008",
            "0A000",
            format!("Actual statement count {statements} did not match the desired statement count 1."),
        ));
    }
    let end = all.iter().position(|token| token.is(";")).map_or(sql.len(), |at| all[at].start);
    let mut text = String::with_capacity(end);
    let mut parameters = Vec::new();
    let (mut copied, mut position, mut at) = (0, 0, 0);
    while at < all.len() && all[at].start < end {
        let token = all[at];
        if let Some(argument) = identifier_argument(&all[at..]) {
            let name = if argument.kind == Kind::Parameter {
                position += 1;
                text_of(binding(bindings, position)?)
            } else {
                argument.value()
            };
            text.push_str(&sql[copied..token.start]);
            text.push_str(&name);
            copied = all[at + 3].end();
            at += 4;
            continue;
        }
        if token.kind == Kind::Parameter {
            position += 1;
            let bound = binding(bindings, position)?;
            text.push_str(&sql[copied..token.start]);
            copied = token.end();
            if literals {
                text.push_str(&quote_text(&text_of(bound)));
            } else {
                parameters.push(parameter(bound)?);
                let _ = write!(text, ":{}", parameters.len());
            }
        }
        at += 1;
    }
    text.push_str(&sql[copied..end]);
    Ok(Prepared { text, parameters })
}

/// The argument of `IDENTIFIER ( 'x' )` or `IDENTIFIER ( ? )` at the front of these tokens.
fn identifier_argument<'a>(rest: &[Token<'a>]) -> Option<Token<'a>> {
    let [word, open, argument, close, ..] = rest else { return None };
    let fits = word.is("IDENTIFIER") && open.is("(") && close.is(")");
    (fits && matches!(argument.kind, Kind::Text | Kind::Parameter)).then_some(*argument)
}

fn binding(bindings: &Bindings, position: usize) -> Result<&Binding, Refusal> {
    bindings
        .get(&position.to_string())
        .ok_or_else(|| Refusal::new("002049", "42601", "SQL compilation error:\nBind variable ? not set."))
}

fn text_of(binding: &Binding) -> String {
    match &binding.value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn parameter(binding: &Binding) -> Result<Parameter, Refusal> {
    let unreadable = || {
        Refusal::new(
            "100037",
            "22018",
            format!("A binding of type {} has a value that cannot be read.", binding.kind),
        )
    };
    if binding.value.is_array() {
        return Err(Refusal::new(
            "002099",
            "0A000",
            "Array bindings are not carried; bind one row at a time.",
        ));
    }
    let ty = type_of(&binding.kind).ok_or_else(unreadable)?;
    let value = if binding.value.is_null() {
        Value::Null
    } else {
        value_of(&ty, &text_of(binding)).ok_or_else(unreadable)?
    };
    Ok(Parameter { name: String::new(), ty: type_with_scale(ty, &value), value })
}

fn type_of(kind: &str) -> Option<DataType> {
    Some(match kind.to_uppercase().as_str() {
        "FIXED" => DataType::Number { precision: 38, scale: 0 },
        "REAL" => DataType::Double,
        "BOOLEAN" => DataType::Boolean,
        "DATE" => DataType::Date,
        "TIME" => DataType::Time { scale: 9 },
        "TIMESTAMP_NTZ" | "TIMESTAMP" => DataType::TimestampNtz { scale: 9 },
        "TIMESTAMP_LTZ" => DataType::TimestampLtz { scale: 9 },
        "TIMESTAMP_TZ" => DataType::TimestampTz { scale: 9 },
        "BINARY" => DataType::Bytes { length: DataType::SNOWFLAKE_DEFAULT_BYTES },
        "TEXT" | "ANY" | "VARIANT" => DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT },
        _ => return None,
    })
}

fn type_with_scale(ty: DataType, value: &Value) -> DataType {
    match value {
        Value::Decimal(decimal) => DataType::Number { precision: 38, scale: decimal.scale },
        _ => ty,
    }
}

fn value_of(ty: &DataType, text: &str) -> Option<Value> {
    Some(match ty {
        DataType::Number { .. } => Value::Decimal(Decimal::parse(text)?),
        DataType::Double => Value::Float(text.parse().ok()?),
        DataType::Boolean => Value::Bool(match text.to_lowercase().as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return None,
        }),
        DataType::Date => {
            // Milliseconds; a value too small for that is days.
            let number: i64 = text.parse().ok()?;
            let days = if number.abs() < 100_000 { number } else { number.div_euclid(86_400_000) };
            Value::Date(i32::try_from(days + EPOCH_DAYS).ok()?)
        }
        DataType::Time { .. } => Value::Time(text.parse().ok()?),
        DataType::TimestampNtz { .. } => {
            let (days, ns) = day_and_ns(text.parse().ok()?)?;
            Value::DateTime { days, ns }
        }
        DataType::TimestampLtz { .. } => {
            let (days, ns) = day_and_ns(text.parse().ok()?)?;
            Value::DateTimeOffset { days, ns, minutes: 0 }
        }
        DataType::TimestampTz { .. } => {
            let (instant, offset) = text.split_once(' ')?;
            let (days, ns) = day_and_ns(instant.parse().ok()?)?;
            let minutes = offset.trim().parse::<i16>().ok()?.checked_sub(1440)?;
            Value::DateTimeOffset { days, ns, minutes }
        }
        DataType::Bytes { .. } => Value::bytes(hex::decode(text).ok()?),
        _ => Value::text(text),
    })
}

fn day_and_ns(since_epoch: i128) -> Option<(i32, u64)> {
    const DAY: i128 = 86_400_000_000_000;
    let days = i32::try_from(since_epoch.div_euclid(DAY) + i128::from(EPOCH_DAYS)).ok()?;
    Some((days, u64::try_from(since_epoch.rem_euclid(DAY)).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(kind: &str, value: &str) -> Bindings {
        BTreeMap::from([("1".to_owned(), Binding { kind: kind.to_owned(), value: value.into() })])
    }

    #[test]
    fn identifiers_are_names_and_question_marks_in_strings_stay() {
        let prepared = prepare("DROP STAGE identifier(?) /* ? */", &bound("TEXT", "\"A\".b"), false).unwrap();
        assert_eq!(prepared.text, "DROP STAGE \"A\".b /* ? */");
        let prepared = prepare("SELECT '?', ? ;", &bound("FIXED", "12.50"), false).unwrap();
        assert_eq!(prepared.text.trim(), "SELECT '?', :1");
        assert_eq!(prepared.parameters[0].ty, DataType::Number { precision: 38, scale: 2 });
    }

    #[test]
    fn two_statements_in_one_request_are_refused() {
        assert_eq!(prepare("SELECT 1; SELECT 2", &BTreeMap::new(), false).unwrap_err().code, "000008");
        assert_eq!(prepare("SELECT ?", &BTreeMap::new(), false).unwrap_err().code, "002049");
    }

    #[test]
    fn a_literal_cannot_end_its_string() {
        let prepared = prepare("LIST ?", &bound("TEXT", "a' \\ b"), true).unwrap();
        assert_eq!(prepared.text, "LIST 'a'' \\\\ b'");
    }
}
