//! Functions of text and bytes.

use crate::{
    bind::{
        Binder,
        operators::{exact, join_texts},
    },
    collation::Collation,
    error::SqlError,
    expr::{Expr, Function, Typed},
    functions::{Arguments, take},
    text::Text,
    types::{DataType, Length},
    value::Value,
};

pub(crate) fn call(
    binder: &Binder<'_>,
    name: &str,
    arguments: &mut Arguments,
) -> Result<Option<Typed>, SqlError> {
    let snowflake = binder.is_snowflake();
    let number = if snowflake { DataType::Number { precision: 18, scale: 0 } } else { DataType::Int };
    let integer =
        move |value: usize| if snowflake { Value::number(value as i128) } else { Value::Int(value as i64) };
    let first_type = arguments.as_ref().and_then(|list| list.first()).map(|one| one.ty.clone());
    let Some(first_type) = first_type else { return Ok(None) };
    let mut take_text = |counts| -> Result<Option<Vec<Typed>>, SqlError> {
        let Some(list) = take(arguments, counts) else { return Ok(None) };
        list.into_iter()
            .map(|one| {
                let keep = one.ty.is_text() || one.ty.is_binary() || one.ty.is_number();
                if keep { Ok(one) } else { binder.cast(one, &binder.wide_text()) }
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    };
    // What functions that return a part of their text return.
    let same = |ty: &DataType| match ty {
        ty if ty.is_binary() && snowflake => DataType::Bytes { length: DataType::SNOWFLAKE_DEFAULT_BYTES },
        DataType::Binary { length } => DataType::VarBinary { length: Length::Fixed(*length) },
        DataType::Char { length, collation } => {
            DataType::VarChar { length: Length::Fixed(*length), collation: *collation }
        }
        DataType::NChar { length, collation } => {
            DataType::NVarChar { length: Length::Fixed(*length), collation: *collation }
        }
        ty if ty.is_text() || ty.is_binary() => ty.clone(),
        _ => binder.wide_text(),
    };
    let unbound = |ty: &DataType| match same(ty) {
        DataType::VarChar { length: Length::Fixed(_), collation } => {
            DataType::VarChar { length: Length::Fixed(8000), collation }
        }
        DataType::NVarChar { length: Length::Fixed(_), collation } => {
            DataType::NVarChar { length: Length::Fixed(4000), collation }
        }
        DataType::String { .. } => DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT },
        other => other,
    };
    let code_page = first_type.collation().filter(|_| first_type.has_code_page());
    let typed = match name {
        "DATALENGTH" if !snowflake => take(arguments, 1..=1).map(|list| {
            let max = matches!(
                first_type,
                DataType::VarChar { length: Length::Max, .. }
                    | DataType::NVarChar { length: Length::Max, .. }
                    | DataType::VarBinary { length: Length::Max }
                    | DataType::Text { .. }
                    | DataType::NText { .. }
                    | DataType::Image
            );
            let ty = if max { DataType::BigInt } else { DataType::Int };
            let of = first_type.clone();
            let nullable = list[0].nullable;
            let mut typed = binder.strict(list, ty, move |values| {
                Ok(Value::Int(data_length(&values[0], &of, code_page) as i64))
            });
            typed.nullable = nullable;
            typed
        }),
        "OCTET_LENGTH" if snowflake => take_text(1..=1)?.map(|list| {
            binder.strict(list, number, |values| {
                Ok(Value::number(match &values[0] {
                    Value::Text(text) => text.lossy().len() as i128,
                    Value::Bytes(bytes) => bytes.len() as i128,
                    other => shown(other).len() as i128,
                }))
            })
        }),
        "LEN" | "LENGTH" | "CHAR_LENGTH" => take_text(1..=1)?.map(|list| {
            binder.strict(list, number, move |values| {
                Ok(integer(match &values[0] {
                    Value::Bytes(bytes) => bytes.len(),
                    Value::Text(text) if snowflake => text.lossy().chars().count(),
                    Value::Text(text) => Text::new(text.lossy().trim_end_matches(' ')).utf16_len(),
                    other => shown(other).len(),
                }))
            })
        }),
        "UPPER" | "LOWER" => take_text(1..=1)?.map(|list| {
            let upper = name == "UPPER";
            let ty = same(&list[0].ty);
            binder.strict(list, ty, move |values| {
                let text = shown(&values[0]);
                Ok(Value::text(if upper { text.to_uppercase() } else { text.to_lowercase() }))
            })
        }),
        "TRIM" | "LTRIM" | "RTRIM" => take_text(1..=2)?.map(|list| {
            let name = name.to_owned();
            let ty = same(&list[0].ty);
            binder.strict(list, ty, move |values| {
                let text = shown(&values[0]);
                let set: Vec<char> =
                    values.get(1).map_or_else(|| vec![' '], |set| shown(set).chars().collect());
                let set = set.as_slice();
                Ok(Value::text(match name.as_str() {
                    "LTRIM" => text.trim_start_matches(set),
                    "RTRIM" => text.trim_end_matches(set),
                    _ => text.trim_matches(set),
                }))
            })
        }),
        "SUBSTRING" | "SUBSTR" | "LEFT" | "RIGHT" => take_text(2..=3)?.map(|list| {
            let name = name.to_owned();
            let ty = same(&list[0].ty);
            let length_error =
                SqlError::mssql(537, format!("Invalid length parameter passed to the {name} function."));
            binder.strict(list, ty, move |values| part(&name, values, snowflake, &length_error))
        }),
        "REPLACE" => take_text(2..=3)?.map(|list| {
            let ty = unbound(&list[0].ty);
            let collation = first_type.collation().filter(|collation| !collation.is_binary());
            binder.strict(list, ty, move |values| {
                let (text, from) = (shown(&values[0]), shown(&values[1]));
                let to = values.get(2).map(shown).unwrap_or_default();
                if from.is_empty() {
                    return Ok(values[0].clone());
                }
                Ok(Value::text(match collation {
                    Some(_) if text.is_ascii() && from.is_ascii() => replace_ignoring_case(&text, &from, &to),
                    _ => text.replace(&from, &to),
                }))
            })
        }),
        "TRANSLATE" => take_text(3..=3)?.map(|list| {
            let ty = unbound(&list[0].ty);
            binder.strict(list, ty, |values| {
                let (from, to) = (shown(&values[1]), shown(&values[2]));
                let to: Vec<char> = to.chars().collect();
                let text = shown(&values[0]);
                let changed =
                    text.chars().filter_map(|letter| match from.chars().position(|known| known == letter) {
                        Some(at) => to.get(at).copied(),
                        None => Some(letter),
                    });
                Ok(Value::text(changed.collect::<String>()))
            })
        }),
        "REPLICATE" | "REPEAT" => take_text(2..=2)?.map(|list| {
            let ty = unbound(&list[0].ty);
            binder.strict(list, ty, |values| {
                let times = exact(&values[1]).trunc();
                let text = shown(&values[0]);
                // Bounded: 64 MiB is more than either dialect's statements need here.
                let times = usize::try_from(times).unwrap_or(0).min((64 << 20) / text.len().max(1));
                Ok(if times == 0 && exact(&values[1]).unscaled < 0 {
                    Value::Null
                } else {
                    Value::text(text.repeat(times))
                })
            })
        }),
        "SPACE" => take(arguments, 1..=1).map(|list| {
            binder.strict(list, binder.wide_text(), |values| {
                Ok(Value::text(" ".repeat(exact(&values[0]).trunc().clamp(0, 8000) as usize)))
            })
        }),
        "REVERSE" => take_text(1..=1)?.map(|list| {
            let ty = same(&list[0].ty);
            binder.strict(list, ty, |values| {
                Ok(Value::text(shown(&values[0]).chars().rev().collect::<String>()))
            })
        }),
        "CHARINDEX" | "POSITION" => take_text(2..=3)?.map(|list| {
            let insensitive = list[1].ty.collation().is_some_and(|collation| !collation.is_binary());
            binder.strict(list, number, move |values| {
                let (mut needle, mut text) = (shown(&values[0]), shown(&values[1]));
                if insensitive {
                    (needle, text) = (needle.to_lowercase(), text.to_lowercase());
                }
                let skip = values.get(2).map_or(0, |start| (exact(start).trunc() - 1).max(0) as usize);
                let start = text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at);
                if needle.is_empty() {
                    return Ok(integer(usize::from(snowflake)));
                }
                Ok(integer(
                    text[start..].find(&needle).map_or(0, |at| text[..start + at].chars().count() + 1),
                ))
            })
        }),
        "CONTAINS" | "STARTSWITH" | "ENDSWITH" if snowflake => take_text(2..=2)?.map(|list| {
            let name = name.to_owned();
            binder.strict(list, DataType::Boolean, move |values| {
                let (text, wanted) = (shown(&values[0]), shown(&values[1]));
                Ok(Value::Bool(match name.as_str() {
                    "CONTAINS" => text.contains(&wanted),
                    "STARTSWITH" => text.starts_with(&wanted),
                    _ => text.ends_with(&wanted),
                }))
            })
        }),
        "SPLIT_PART" if snowflake => take_text(3..=3)?.map(|list| {
            binder.strict(list, binder.wide_text(), |values| {
                let (text, by) = (shown(&values[0]), shown(&values[1]));
                let parts: Vec<&str> = if by.is_empty() { vec![&text] } else { text.split(&by).collect() };
                let at = exact(&values[2]).trunc();
                let at = if at < 0 { parts.len() as i128 + at } else { (at - 1).max(0) };
                Ok(Value::text(usize::try_from(at).ok().and_then(|at| parts.get(at)).copied().unwrap_or("")))
            })
        }),
        "LPAD" | "RPAD" if snowflake => take_text(2..=3)?.map(|list| {
            let left = name == "LPAD";
            binder.strict(list, binder.wide_text(), move |values| {
                let text: Vec<char> = shown(&values[0]).chars().collect();
                let width = exact(&values[1]).trunc().clamp(0, 1 << 24) as usize;
                let pad: Vec<char> =
                    values.get(2).map_or_else(|| vec![' '], |pad| shown(pad).chars().collect());
                let missing = width.saturating_sub(text.len());
                let padding: Vec<char> = if pad.is_empty() {
                    Vec::new()
                } else {
                    pad.iter().copied().cycle().take(missing).collect()
                };
                let kept = text.into_iter().take(width);
                Ok(Value::text(if left {
                    padding.into_iter().chain(kept).collect::<String>()
                } else {
                    kept.chain(padding).collect()
                }))
            })
        }),
        "ASCII" | "UNICODE" => take_text(1..=1)?.map(|list| {
            let unicode = name == "UNICODE" || snowflake;
            binder.strict(list, number, move |values| {
                let Value::Text(text) = &values[0] else { return Ok(Value::Null) };
                let code = if unicode {
                    text.lossy().chars().next().map(|first| first as usize)
                } else {
                    code_page.unwrap_or_default().encode(text).first().map(|byte| usize::from(*byte))
                };
                Ok(code.map_or(Value::Null, integer))
            })
        }),
        "CHAR" | "CHR" | "NCHAR" => take(arguments, 1..=1).map(|list| {
            let collation = binder.env.db.settings().collation;
            let ty = match name {
                _ if snowflake => DataType::String { length: 1 },
                "NCHAR" => DataType::NChar { length: 1, collation },
                _ => DataType::Char { length: 1, collation },
            };
            let national = name == "NCHAR";
            binder.strict(list, ty, move |values| {
                let code = exact(&values[0]).trunc();
                if snowflake {
                    return Ok(u32::try_from(code)
                        .ok()
                        .and_then(char::from_u32)
                        .map_or(Value::Null, |c| Value::text(c.to_string())));
                }
                if national {
                    return Ok(u16::try_from(code)
                        .map_or(Value::Null, |unit| Value::Text(Text::from_utf16(&[unit]))));
                }
                Ok(u8::try_from(code).map_or(Value::Null, |byte| Value::Text(collation.decode(&[byte]))))
            })
        }),
        "CONCAT" | "CONCAT_WS" => take(arguments, 1..=254)
            .map(|list| -> Result<Typed, SqlError> {
                let text = binder.wide_text();
                let mut ty = DataType::Null;
                let mut exprs = Vec::new();
                for one in list {
                    let one = if one.ty.is_text() { one } else { binder.cast(one, &text)? };
                    ty = binder.common(&ty, &one.ty);
                    exprs.push(one.expr);
                }
                let with_separator = name == "CONCAT_WS";
                let function: Function = std::sync::Arc::new(move |values: &[Value]| {
                    // SQL Server reads NULL as an empty string, Snowflake's result is NULL.
                    if snowflake && values.iter().any(Value::is_null) {
                        return Ok(Value::Null);
                    }
                    let mut out = Text::new("");
                    let (separator, rest) = match values.split_first() {
                        Some((Value::Text(separator), rest)) if with_separator => (separator.clone(), rest),
                        _ => (Text::new(""), values),
                    };
                    let mut first = true;
                    for value in rest {
                        let Value::Text(text) = value else { continue };
                        if !first && with_separator {
                            out = join_texts(&out, &separator);
                        }
                        out = join_texts(&out, text);
                        first = false;
                    }
                    Ok(Value::Text(out))
                });
                Ok(Typed::new(Expr::Call(function, exprs), unbound(&ty), snowflake))
            })
            .transpose()?,
        "QUOTENAME" if !snowflake => take_text(1..=2)?.map(|list| {
            let ty = DataType::NVarChar {
                length: Length::Fixed(258),
                collation: binder.env.db.settings().collation,
            };
            binder.strict(list, ty, |values| {
                let text = shown(&values[0]);
                Ok(match values.get(1).map(shown).as_deref() {
                    None | Some("[" | "]") => Value::text(format!("[{}]", text.replace(']', "]]"))),
                    Some(quote @ ("'" | "\"")) => {
                        Value::text(format!("{quote}{}{quote}", text.replace(quote, &quote.repeat(2))))
                    }
                    _ => Value::Null,
                })
            })
        }),
        "STR" if !snowflake => take(arguments, 1..=3)
            .map(|list| -> Result<Typed, SqlError> {
                let mut list = list.into_iter();
                let first = list.next().ok_or_else(|| binder.unsupported("STR"))?;
                let mut all = vec![binder.cast(first, &DataType::Float)?];
                all.extend(list);
                let ty = DataType::VarChar {
                    length: Length::Fixed(8000),
                    collation: binder.env.db.settings().collation,
                };
                Ok(binder.strict(all, ty, |values| {
                    let Value::Float(number) = values[0] else { return Ok(Value::Null) };
                    let width =
                        values.get(1).map_or(10, |width| exact(width).trunc()).clamp(0, 8000) as usize;
                    let places =
                        values.get(2).map_or(0, |places| exact(places).trunc()).clamp(0, 16) as usize;
                    let text = format!("{number:>width$.places$}");
                    Ok(Value::text(if text.len() > width { "*".repeat(width) } else { text }))
                }))
            })
            .transpose()?,
        _ => None,
    };
    Ok(typed)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.lossy().into_owned(),
        Value::Int(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Bytes(bytes) => crate::cast::strings::hex(bytes),
        _ => String::new(),
    }
}

/// DATALENGTH: the bytes that the value takes in storage and on the wire.
fn data_length(value: &Value, ty: &DataType, code_page: Option<Collation>) -> usize {
    match value {
        Value::Null => 0,
        Value::Text(text) => match code_page {
            Some(collation) => collation.encode(text).len(),
            None => text.utf16_len() * 2,
        },
        Value::Bytes(bytes) => bytes.len(),
        Value::Uuid(_) => 16,
        Value::Typed(typed) => {
            data_length(&typed.1, &typed.0, typed.0.collation().filter(|_| typed.0.has_code_page()))
        }
        _ => match ty {
            DataType::Bit | DataType::TinyInt => 1,
            DataType::SmallInt => 2,
            DataType::Int | DataType::Real | DataType::SmallMoney | DataType::SmallDateTime => 4,
            DataType::Date => 3,
            DataType::Decimal { precision, .. } => match precision {
                0..=9 => 5,
                10..=19 => 9,
                20..=28 => 13,
                _ => 17,
            },
            DataType::Time { scale } => 3 + usize::from(*scale > 2) + usize::from(*scale > 4),
            DataType::DateTime2 { scale } => 6 + usize::from(*scale > 2) + usize::from(*scale > 4),
            DataType::DateTimeOffset { scale } => 8 + usize::from(*scale > 2) + usize::from(*scale > 4),
            _ => 8,
        },
    }
}

/// SUBSTRING, LEFT and RIGHT by UTF-16 units (SQL Server), characters (Snowflake) or bytes.
fn part(name: &str, values: &[Value], snowflake: bool, bad_length: &SqlError) -> Result<Value, SqlError> {
    let argument =
        |at: usize| values.get(at).map(|value| exact(value).trunc().clamp(-(1 << 40), 1 << 40) as i64);
    let total = |units: usize| units as i64;
    let bounds = |units: usize| -> Result<std::ops::Range<usize>, SqlError> {
        let (start, length) = match name {
            "LEFT" => (1, argument(1).unwrap_or(0)),
            "RIGHT" => {
                let length = argument(1).unwrap_or(0);
                (total(units) - length.clamp(0, total(units)) + 1, length)
            }
            _ => {
                let mut start = argument(1).unwrap_or(1);
                if snowflake && start < 0 {
                    start += total(units) + 1;
                } else if snowflake && start == 0 {
                    start = 1;
                }
                (start, argument(2).unwrap_or(1 << 40))
            }
        };
        if length < 0 && !snowflake {
            return Err(bad_length.clone());
        }
        let end = (start + length.max(0)).clamp(1, total(units) + 1);
        let start = start.clamp(1, end);
        Ok((start - 1) as usize..(end - 1) as usize)
    };
    Ok(match &values[0] {
        Value::Bytes(bytes) => Value::bytes(&bytes[bounds(bytes.len())?]),
        Value::Text(text) => match text.as_str() {
            Some(plain) if plain.is_ascii() => Value::text(&plain[bounds(plain.len())?]),
            Some(plain) if snowflake => {
                let characters: Vec<char> = plain.chars().collect();
                let range = bounds(characters.len())?;
                Value::text(characters[range].iter().collect::<String>())
            }
            _ => {
                let units = text.utf16();
                let range = bounds(units.len())?;
                Value::Text(Text::from_utf16(&units[range]))
            }
        },
        other => {
            let plain = shown(other);
            Value::text(&plain[bounds(plain.len())?])
        }
    })
}

fn replace_ignoring_case(text: &str, from: &str, to: &str) -> String {
    let (lower, wanted) = (text.to_ascii_lowercase(), from.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(&wanted) {
        out.push_str(&text[at..at + found]);
        out.push_str(to);
        at += found + from.len();
    }
    out.push_str(&text[at..]);
    out
}

/// LIKE: `%` and `_`; SQL Server's `[a-f]` and `[^x]` too. Linear in text times pattern.
pub(crate) fn like(
    text: &str,
    pattern: &str,
    escape: Option<char>,
    collation: Option<Collation>,
    fold: bool,
) -> bool {
    let insensitive = fold || collation.is_some_and(|collation| collation.fold("A") == "a");
    let fold_case = |text: &str| if insensitive { text.to_lowercase() } else { text.to_owned() };
    let text: Vec<char> = fold_case(text).chars().collect();
    let items = pattern_items(&fold_case(pattern), escape, collation.is_some());
    // Greedy matching with one point to come back to: the last `%`.
    let (mut t, mut p) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match items.get(p) {
            Some(Item::Any) => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            Some(item) if item.matches(text[t]) => {
                (t, p) = (t + 1, p + 1);
                continue;
            }
            _ => {}
        }
        match back {
            Some((at, from)) => {
                (t, p) = (from + 1, at + 1);
                back = Some((at, from + 1));
            }
            // SQL Server: trailing blanks of the text do not count.
            None => return false,
        }
    }
    items[p..].iter().all(|item| matches!(item, Item::Any))
}

enum Item {
    Any,
    One,
    Literal(char),
    Set(Vec<(char, char)>, bool),
}

impl Item {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Literal(literal) => *literal == character,
            Self::Set(ranges, negated) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

fn pattern_items(pattern: &str, escape: Option<char>, sets: bool) -> Vec<Item> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut items = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let character = characters[at];
        at += 1;
        items.push(match character {
            c if Some(c) == escape && at < characters.len() => {
                at += 1;
                Item::Literal(characters[at - 1])
            }
            '%' => Item::Any,
            '_' => Item::One,
            '[' if sets => {
                let Some(end) = characters[at..].iter().position(|c| *c == ']').map(|end| at + end) else {
                    items.push(Item::Literal('['));
                    continue;
                };
                let negated = characters.get(at) == Some(&'^');
                let inner = &characters[at + usize::from(negated)..end];
                let mut ranges = Vec::new();
                let mut i = 0;
                while i < inner.len() {
                    if i + 2 < inner.len() && inner[i + 1] == '-' {
                        ranges.push((inner[i], inner[i + 2]));
                        i += 3;
                    } else {
                        ranges.push((inner[i], inner[i]));
                        i += 1;
                    }
                }
                at = end + 1;
                Item::Set(ranges, negated)
            }
            c => Item::Literal(c),
        });
    }
    items
}
