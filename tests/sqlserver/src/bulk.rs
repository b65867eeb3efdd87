//! Bulk load (MS-TDS 2.2.6.1): `INSERT BULK` names a table, the next message brings its rows as tokens.

use keyferry_sql::{Collation, Row, Value};

use crate::packet::{Reader, WireError};
use crate::parameters::read_type;

const COLMETADATA: u8 = 0x81;
const ROW: u8 = 0xD1;
const NBCROW: u8 = 0xD2;
/// A row cannot have more columns.
const MAX_COLUMNS: u16 = 1_024;

/// Where the rows of the next message go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The table as the statement names it.
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
}

impl Target {
    /// Reads `INSERT BULK table (column type, …) [WITH (…)]`; None for any other batch.
    pub(crate) fn parse(sql: &str) -> Option<Self> {
        let rest = after_word(after_word(sql, "insert")?, "bulk")?.trim();
        let open = outside_quotes(rest).find(|(_, c)| *c == '(')?.0;
        let table = rest[..open].trim().to_owned();
        let (mut depth, mut start) = (0_u32, open + 1);
        let mut columns = Vec::new();
        for (at, character) in outside_quotes(rest).skip_while(|(at, _)| *at < open) {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 1 => {
                    columns.push(first_name(&rest[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
            if depth == 0 {
                columns.push(first_name(&rest[start..at]));
                break;
            }
        }
        Some(Self { table, columns })
    }
}

fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let found = text.get(..word.len())?;
    let rest = &text[word.len()..];
    (found.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// The characters that are not inside `[…]` or `"…"`.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut end = None;
    text.char_indices().filter(move |(_, character)| match (end, character) {
        (None, '[') => {
            end = Some(']');
            false
        }
        (None, '"') => {
            end = Some('"');
            false
        }
        (None, _) => true,
        (Some(close), found) => {
            if close == *found {
                end = None;
            }
            false
        }
    })
}

/// The name at the start of a column's definition.
fn first_name(text: &str) -> String {
    let text = text.trim();
    for (open, close) in [('[', ']'), ('"', '"')] {
        if let Some(rest) = text.strip_prefix(open) {
            let mut name = String::new();
            let mut characters = rest.chars().peekable();
            while let Some(character) = characters.next() {
                if character == close && characters.next_if_eq(&close).is_none() {
                    break;
                }
                name.push(character);
            }
            return name;
        }
    }
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Reads the rows of a bulk load message.
pub(crate) fn rows(body: &[u8], collation: Collation) -> Result<Vec<Row>, WireError> {
    let mut reader = Reader::new(body, "bulk load");
    let bad = |found: String| WireError::malformed("bulk load", found);
    let first = reader.u8()?;
    if first != COLMETADATA {
        return Err(bad(format!("token 0x{first:02X} where the columns are due")));
    }
    let count = reader.u16()?;
    if count > MAX_COLUMNS {
        return Err(bad(format!("{count} columns")));
    }
    let mut columns = Vec::new();
    for _ in 0..count {
        reader.u32()?; // user type
        reader.u16()?; // flags
        let kind = reader.u8()?;
        let cell = read_type(kind, &mut reader, collation)?;
        if cell.has_pointer() {
            let units = usize::from(reader.u16()?);
            reader.utf16(units)?; // the table's name
        }
        let units = usize::from(reader.u8()?);
        reader.utf16(units)?; // the column's name
        columns.push(cell);
    }
    let mut rows = Vec::new();
    loop {
        let token = if reader.is_empty() { break } else { reader.u8()? };
        match token {
            ROW => {
                let values = columns.iter().map(|cell| cell.read(&mut reader));
                rows.push(Row::from(values.collect::<Result<Vec<_>, _>>()?));
            }
            NBCROW => {
                let bits = reader.take(columns.len().div_ceil(8))?.to_vec();
                let mut values = Vec::with_capacity(columns.len());
                for (at, cell) in columns.iter().enumerate() {
                    let null = bits[at / 8] >> (at % 8) & 1 == 1;
                    values.push(if null { Value::Null } else { cell.read(&mut reader)? });
                }
                rows.push(Row::from(values));
            }
            0xFD..=0xFF => break,
            other => return Err(bad(format!("token 0x{other:02X} where a row is due"))),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_columns_of_a_bulk_insert_are_found() {
        let target = Target::parse(
            "insert bulk [dbo].[a (b]([id] int, [x, y] decimal(9, 2), z nvarchar(5) COLLATE Latin1_General_CI_AS) with (TABLOCK)",
        );
        let columns = ["id", "x, y", "z"].map(str::to_owned).to_vec();
        assert_eq!(target, Some(Target { table: "[dbo].[a (b]".to_owned(), columns }));
        assert_eq!(Target::parse("insert into bulk (a) values (1)"), None);
        assert_eq!(Target::parse("insert"), None);
    }

    #[test]
    fn rows_of_both_kinds_are_read_and_every_cut_is_refused_or_shorter() {
        let mut body = vec![COLMETADATA, 2, 0];
        body.extend([0, 0, 0, 0, 1, 0, 0x26, 4, 1, b'a', 0]);
        body.extend([0, 0, 0, 0, 1, 0, 0xA5, 4, 0, 1, b'b', 0]);
        body.extend([ROW, 4, 7, 0, 0, 0, 2, 0, 0xCA, 0xFE]);
        body.extend([NBCROW, 0b10, 4, 8, 0, 0, 0]);
        body.extend([0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let found = rows(&body, Collation::default()).unwrap();
        assert_eq!(found[0].to_vec(), [Value::Int(7), Value::bytes([0xCA, 0xFE])]);
        assert_eq!(found[1].to_vec(), [Value::Int(8), Value::Null]);
        for cut in 0..body.len() {
            if let Ok(rows) = rows(&body[..cut], Collation::default()) {
                assert!(rows.len() <= 2);
            }
        }
    }
}
