//! A statement's text and bindings, before it is executed: cut from its request, `IDENTIFIER(…)` resolved, `?` bound.

use std::{collections::BTreeMap, fmt::Write as _};

use keyferry_sql::{DataType, Decimal, Parameter, Value};
use serde::Deserialize;

use crate::{
    lexer::{Kind, Token, quote_text, tokens},
    reply::Refusal,
    results::EPOCH_DAYS,
};

/// One binding as drivers send it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Binding {
    #[serde(rename = "type")]
    kind: String,
    value: serde_json::Value,
}

/// Bindings by position, counted from "1", or by name.
pub(crate) type Bindings = BTreeMap<String, Binding>;

/// A statement ready to run, once for each set of parameters.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) text: String,
    /// One set; several when arrays were bound.
    pub(crate) sets: Vec<Vec<Parameter>>,
    /// How many `?` the text has.
    pub(crate) binds: usize,
}

/// Cuts a request's text at its semicolons; empty statements are left out.
pub(crate) fn split(sql: &str) -> Vec<&str> {
    let all = tokens(sql);
    all.split(|token| token.is(";"))
        .filter_map(|part| Some(&sql[part.first()?.start..part.last()?.end()]))
        .collect()
}

/// Replaces `IDENTIFIER('x')` by the name, and binds from the position `first` on.
///
/// With `literals` every `?` becomes a literal in the text: for statements that the evaluator never sees.
pub(crate) fn prepare(
    sql: &str,
    bindings: &Bindings,
    first: usize,
    literals: bool,
) -> Result<Prepared, Refusal> {
    let all = tokens(sql);
    let mut text = String::with_capacity(sql.len());
    let mut bound: Vec<&Binding> = Vec::new();
    let (mut copied, mut position, mut at) = (0, first, 0);
    while at < all.len() {
        let token = all[at];
        if let Some(argument) = identifier_argument(&all[at..]) {
            let name = if argument.kind == Kind::Parameter {
                position += 1;
                text_of(&binding(bindings, &position.to_string())?.value)
            } else {
                argument.value()
            };
            text.push_str(&sql[copied..token.start]);
            text.push_str(&name);
            copied = all[at + 3].end();
            at += 4;
            continue;
        }
        if let Some((place, end)) = parameter_at(&all, at, bindings, &mut position) {
            let found = binding(bindings, &place)?;
            text.push_str(&sql[copied..token.start]);
            copied = all[end - 1].end();
            if literals {
                text.push_str(&quote_text(&text_of(&found.value)));
            } else {
                bound.push(found);
                let _ = write!(text, ":{}", bound.len());
            }
            at = end;
            continue;
        }
        at += 1;
    }
    text.push_str(&sql[copied..]);
    Ok(Prepared { text, sets: sets(&bound)?, binds: position - first })
}

/// How many `?` a text has.
pub(crate) fn count_binds(sql: &str) -> usize {
    tokens(sql).iter().filter(|token| token.kind == Kind::Parameter).count()
}

/// Bindings of unknown value for every `?`, as a statement has them that is only described.
pub(crate) fn unknown_bindings(sql: &str) -> Bindings {
    let unknown = || Binding { kind: "TEXT".to_owned(), value: serde_json::Value::Null };
    (1..=count_binds(sql)).map(|position| (position.to_string(), unknown())).collect()
}

/// Rows of a bind stage's file as bindings: one array for each column.
pub(crate) fn array_bindings(rows: Vec<Vec<Option<String>>>) -> Bindings {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut columns: Vec<Vec<serde_json::Value>> = vec![Vec::with_capacity(rows.len()); width];
    for row in rows {
        let mut fields = row.into_iter();
        for column in &mut columns {
            column.push(fields.next().flatten().map_or(serde_json::Value::Null, serde_json::Value::String));
        }
    }
    let binding = |values| Binding { kind: "TEXT".to_owned(), value: serde_json::Value::Array(values) };
    columns.into_iter().enumerate().map(|(at, values)| ((at + 1).to_string(), binding(values))).collect()
}

/// The name of the binding that stands at this token and where it ends: `?`, or `:n` and `:name` that are neither a cast
/// nor a path.
fn parameter_at(
    all: &[Token<'_>],
    at: usize,
    bindings: &Bindings,
    position: &mut usize,
) -> Option<(String, usize)> {
    let token = all[at];
    if token.kind == Kind::Parameter {
        *position += 1;
        return Some((position.to_string(), at + 1));
    }
    let name = all.get(at + 1).filter(|next| next.start == token.end())?;
    let named = match name.kind {
        Kind::Number => true,
        Kind::Word => bindings.contains_key(name.text),
        _ => false,
    };
    let apart = at == 0 || {
        let before = all[at - 1];
        before.end() < token.start || (before.kind == Kind::Punct && !matches!(before.text, ":" | ")" | "]"))
    };
    (named && token.is(":") && apart).then(|| (name.text.to_owned(), at + 2))
}

/// One set of parameters, or one for each element of the arrays that were bound.
fn sets(bound: &[&Binding]) -> Result<Vec<Vec<Parameter>>, Refusal> {
    let lengths: Vec<usize> =
        bound.iter().filter_map(|binding| binding.value.as_array().map(Vec::len)).collect();
    let Some(rows) = lengths.first().copied() else {
        return Ok(vec![
            bound.iter().map(|found| parameter(&found.kind, &found.value)).collect::<Result<_, _>>()?,
        ]);
    };
    if lengths.iter().any(|length| *length != rows) {
        return Err(Refusal::new(
            "002049",
            "42601",
            "SQL compilation error:\nArray bindings must all have the same length.",
        ));
    }
    (0..rows)
        .map(|row| {
            let value = |found: &Binding| match found.value.as_array() {
                Some(values) => parameter(&found.kind, &values[row]),
                None => parameter(&found.kind, &found.value),
            };
            bound.iter().map(|found| value(found)).collect()
        })
        .collect()
}

/// The argument of `IDENTIFIER ( 'x' )` or `IDENTIFIER ( ? )` at the front of these tokens.
fn identifier_argument<'a>(rest: &[Token<'a>]) -> Option<Token<'a>> {
    let [word, open, argument, close, ..] = rest else { return None };
    let fits = word.is("IDENTIFIER") && open.is("(") && close.is(")");
    (fits && matches!(argument.kind, Kind::Text | Kind::Parameter)).then_some(*argument)
}

fn binding<'b>(bindings: &'b Bindings, name: &str) -> Result<&'b Binding, Refusal> {
    let missing = || Refusal::new("002049", "42601", "SQL compilation error:\nBind variable ? not set.");
    bindings.get(name).ok_or_else(missing)
}

fn text_of(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn parameter(kind: &str, given: &serde_json::Value) -> Result<Parameter, Refusal> {
    let unreadable = || {
        Refusal::new("100037", "22018", format!("A binding of type {kind} has a value that cannot be read."))
    };
    let ty = type_of(kind).ok_or_else(unreadable)?;
    let value =
        if given.is_null() { Value::Null } else { value_of(&ty, &text_of(given)).ok_or_else(unreadable)? };
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
        let prepared =
            prepare("DROP STAGE identifier(?) /* ? */", &bound("TEXT", "\"A\".b"), 0, false).unwrap();
        assert_eq!(prepared.text, "DROP STAGE \"A\".b /* ? */");
        let prepared = prepare("SELECT '?', ?", &bound("FIXED", "12.50"), 0, false).unwrap();
        assert_eq!(prepared.text, "SELECT '?', :1");
        assert_eq!(prepared.sets[0][0].ty, DataType::Number { precision: 38, scale: 2 });
        assert_eq!(prepare("SELECT ?", &BTreeMap::new(), 0, false).unwrap_err().code, "002049");
    }

    #[test]
    fn numbered_bindings_are_told_from_casts_and_paths() {
        let prepared =
            prepare("SELECT :1, '1'::NUMBER, v:a, v[1]:b FROM t WHERE x=:1", &bound("TEXT", "x"), 0, false);
        let prepared = prepared.unwrap();
        assert_eq!(prepared.text, "SELECT :1, '1'::NUMBER, v:a, v[1]:b FROM t WHERE x=:2");
        assert_eq!(prepared.sets[0].len(), 2);
    }

    #[test]
    fn statements_are_cut_at_semicolons_outside_of_strings() {
        assert_eq!(split("SELECT ';'; ; SELECT 2 -- ;\n;"), ["SELECT ';'", "SELECT 2"]);
        let bindings = serde_json::from_value(serde_json::json!({
            "1": { "type": "FIXED", "value": "1" }, "2": { "type": "FIXED", "value": ["2", null] }
        }));
        let prepared = prepare("SELECT ?", &bindings.unwrap(), 1, false).unwrap();
        assert_eq!(prepared.sets.len(), 2);
        assert_eq!(prepared.sets[1][0].value, Value::Null);
    }

    #[test]
    fn a_literal_cannot_end_its_string() {
        let prepared = prepare("LIST ?", &bound("TEXT", "a' \\ b"), 0, true).unwrap();
        assert_eq!(prepared.text, "LIST 'a'' \\\\ b'");
    }
}
