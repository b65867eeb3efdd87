//! CSV files as rows of text, with the options that small loads use.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use keyferry_sql::{Row, SqlError, Value};

use super::options::{Options, Setting};
use crate::reply::Refusal;

/// A decompressed file is not read beyond this.
const MOST_BYTES: u64 = 4 << 30;

/// `FILE_FORMAT = (TYPE = CSV …)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CsvFormat {
    delimiter: char,
    quote: Option<char>,
    skip: usize,
    nulls: Vec<String>,
    empty_is_null: bool,
    count_must_match: bool,
    /// Outside of quotes the next letter stands for itself, or for a line's end or a tab.
    escape: Option<char>,
    trim: bool,
}

impl CsvFormat {
    pub(super) fn read(options: &Options) -> Result<Self, Refusal> {
        options.only(&[
            "TYPE",
            "COMPRESSION",
            "FIELD_DELIMITER",
            "FIELD_OPTIONALLY_ENCLOSED_BY",
            "SKIP_HEADER",
            "NULL_IF",
            "EMPTY_FIELD_AS_NULL",
            "ERROR_ON_COLUMN_COUNT_MISMATCH",
            "ENCODING",
            "ESCAPE_UNENCLOSED_FIELD",
            "TRIM_SPACE",
        ])?;
        let letter = |name: &str| -> Result<Option<char>, Refusal> {
            match options.plain(name) {
                None => Ok(None),
                Some(text) if text.eq_ignore_ascii_case("NONE") => Ok(None),
                Some(text) if text.chars().count() == 1 => Ok(text.chars().next()),
                Some(text) => Err(Refusal::syntax(format!("invalid value [{text}] for parameter '{name}'"))),
            }
        };
        let skip = options.plain("SKIP_HEADER").unwrap_or("0");
        Ok(Self {
            delimiter: letter("FIELD_DELIMITER")?.unwrap_or(','),
            quote: letter("FIELD_OPTIONALLY_ENCLOSED_BY")?,
            skip: skip.parse().map_err(|_| {
                Refusal::syntax(format!("invalid value [{skip}] for parameter 'SKIP_HEADER'"))
            })?,
            nulls: match options.get("NULL_IF") {
                Some(Setting::List(values)) => values.clone(),
                Some(Setting::Plain(value)) => vec![value.clone()],
                _ => vec!["\\N".to_owned()],
            },
            empty_is_null: options.flag("EMPTY_FIELD_AS_NULL")?.unwrap_or(true),
            escape: match options.get("ESCAPE_UNENCLOSED_FIELD") {
                None => Some('\\'),
                Some(_) => letter("ESCAPE_UNENCLOSED_FIELD")?,
            },
            trim: options.flag("TRIM_SPACE")?.unwrap_or(false),
            count_must_match: options.flag("ERROR_ON_COLUMN_COUNT_MISMATCH")?.unwrap_or(true),
        })
    }

    /// All rows of a file, each as wide as the table's column list.
    pub(super) fn rows(&self, data: &Bytes, width: usize) -> Result<Vec<Result<Row, SqlError>>, SqlError> {
        let text = text(data)?;
        let records = self.records(&text);
        Ok(records.into_iter().skip(self.skip).map(|fields| self.row(fields, width)).collect())
    }

    /// All rows of a file as text; `None` is NULL.
    pub(super) fn texts(&self, data: &Bytes) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let text = text(data)?;
        let value = |(field, quoted): (String, bool)| {
            let field = self.trimmed(field, quoted);
            (!self.is_null(&field, quoted)).then_some(field)
        };
        let records = self.records(&text).into_iter().skip(self.skip);
        Ok(records.map(|fields| fields.into_iter().map(value).collect()).collect())
    }

    fn trimmed(&self, field: String, quoted: bool) -> String {
        if self.trim && !quoted { field.trim_matches(' ').to_owned() } else { field }
    }

    fn is_null(&self, field: &str, quoted: bool) -> bool {
        self.nulls.iter().any(|null| null == field) || (field.is_empty() && !quoted && self.empty_is_null)
    }

    fn row(&self, fields: Vec<(String, bool)>, width: usize) -> Result<Row, SqlError> {
        if self.count_must_match && fields.len() != width {
            return Err(SqlError::snowflake(
                100_080,
                "22000",
                format!(
                    "Number of columns in file ({}) does not match that of the corresponding table ({width}), use \
                     file format option error_on_column_count_mismatch=false to ignore this error",
                    fields.len()
                ),
            ));
        }
        let mut values: Vec<Value> = fields
            .into_iter()
            .map(|(field, quoted)| {
                let field = self.trimmed(field, quoted);
                if self.is_null(&field, quoted) { Value::Null } else { Value::text(field) }
            })
            .collect();
        values.resize(width, Value::Null);
        Ok(values.into())
    }

    fn records(&self, text: &str) -> Vec<Vec<(String, bool)>> {
        let mut records = Vec::new();
        let mut record = Vec::new();
        let (mut field, mut quoted, mut inside) = (String::new(), false, false);
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            if inside {
                if Some(letter) != self.quote {
                    field.push(letter);
                } else if letters.peek() == Some(&letter) {
                    letters.next();
                    field.push(letter);
                } else {
                    inside = false;
                }
            } else if Some(letter) == self.quote && field.is_empty() && !quoted {
                (inside, quoted) = (true, true);
            } else if Some(letter) == self.escape {
                match letters.next() {
                    Some('n') => field.push('\n'),
                    Some('r') => field.push('\r'),
                    Some('t') => field.push('\t'),
                    // What stands for NULL is told by NULL_IF.
                    Some('N') => field.push_str("\\N"),
                    Some(other) => field.push(other),
                    None => field.push(letter),
                }
            } else if letter == self.delimiter {
                record.push((std::mem::take(&mut field), std::mem::take(&mut quoted)));
            } else if letter == '\n' {
                record.push((std::mem::take(&mut field), std::mem::take(&mut quoted)));
                records.push(std::mem::take(&mut record));
            } else if letter != '\r' {
                field.push(letter);
            }
        }
        if !field.is_empty() || quoted || !record.is_empty() {
            record.push((field, quoted));
            records.push(record);
        }
        records
    }
}

/// The file's text; gzip is recognised by its first bytes, as COMPRESSION = AUTO does.
fn text(data: &Bytes) -> Result<String, SqlError> {
    let broken = |what: &str| SqlError::snowflake(100_069, "22000", format!("The file is not {what}."));
    let plain = if data.starts_with(&[0x1f, 0x8b]) {
        let mut out = Vec::new();
        let read = MultiGzDecoder::new(&data[..]).take(MOST_BYTES).read_to_end(&mut out);
        read.map_err(|_| broken("whole gzip data"))?;
        out
    } else {
        data.to_vec()
    };
    String::from_utf8(plain).map_err(|_| broken("valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_delimiters_and_nulls_are_told_apart() {
        let options = super::super::options::parse(
            "TYPE = CSV FIELD_OPTIONALLY_ENCLOSED_BY = '\"' SKIP_HEADER = 1 NULL_IF = ('N')",
        )
        .unwrap();
        let format = CsvFormat::read(&options).unwrap();
        let data = Bytes::from_static(b"a,b\n\"x,\"\"y\"\"\",N\r\n,\"\"\n");
        let rows: Vec<Row> = format.rows(&data, 2).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(rows[0][..], [Value::text("x,\"y\""), Value::Null]);
        assert_eq!(rows[1][..], [Value::Null, Value::text("")]);
        assert!(format.rows(&Bytes::from_static(b"h\n1\n"), 2).unwrap()[0].is_err());
    }

    #[test]
    fn a_backslash_escapes_outside_of_quotes_unless_it_is_told_not_to() {
        let rows = |options: &str| {
            let format = CsvFormat::read(&super::super::options::parse(options).unwrap()).unwrap();
            format.texts(&Bytes::from_static(b"a\\,b,\\N, c \n")).unwrap().remove(0)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(rows("TYPE = CSV"), [text("a,b"), None, text(" c ")]);
        let plain = rows("TYPE = CSV ESCAPE_UNENCLOSED_FIELD = NONE TRIM_SPACE = TRUE");
        assert_eq!(plain, [text("a\\"), text("b"), None, text("c")]);
    }
}
