//! Tables whose rows are counted instead of stored: a COPY into one reads every value of its files and adds it up, and
//! questions about sums are answered from that. For tests that load more rows than memory holds; nothing is undone by
//! ROLLBACK, so they break nothing on purpose.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type},
};
use arrow_schema::DataType;
use bytes::Bytes;
use keyferry_sql::{Column, DataType as SqlType, Decimal, ResultSet, Row, Rows, SqlError, Value};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::lexer::tokens;

const BATCH_ROWS: usize = 16_384;
/// Days from 0001-01-01 to 1970-01-01.
const DAYS_TO_1970: i128 = 719_162;

/// What the rows of a table add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows.
    pub rows: u64,
    /// Row groups of the files.
    pub row_groups: u64,
    /// By column: values that are not NULL, and their sum; of text and bytes, the sum of their lengths; of dates, of
    /// their days since 0001-01-01; of decimals, in units of their last digit.
    pub columns: BTreeMap<String, (u64, i128)>,
    /// Of decimal columns, the digits after the point.
    pub scales: BTreeMap<String, u8>,
}

/// The tables that are counted, by the beginning of their names.
#[derive(Debug, Default)]
pub struct Counting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    prefixes: Vec<String>,
    tables: BTreeMap<String, Counted>,
}

impl Counting {
    /// Counts the rows of every table whose name begins so, from now on.
    pub fn watch(&self, prefix: &str) {
        self.state(|state| state.prefixes.push(prefix.to_owned()));
    }

    /// What was copied into the tables whose names begin so, all together.
    pub fn counted(&self, prefix: &str) -> Counted {
        self.state(|state| {
            let mut all = Counted::default();
            for counted in state.tables.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, c)| c) {
                all.add(counted);
            }
            all
        })
    }

    /// Whether `table`, as SQL writes it, is counted.
    pub(crate) fn counts(&self, table: &str) -> bool {
        let name = last_name(table);
        self.state(|state| state.prefixes.iter().any(|prefix| name.starts_with(prefix)))
    }

    /// Adds a file's rows; how many there were.
    pub(crate) fn add(&self, table: &str, file: &str, data: Bytes) -> Result<u64, SqlError> {
        let counted = read(data).map_err(|error| {
            SqlError::snowflake(100_132, "22000", format!("Error parsing the parquet file '{file}': {error}"))
        })?;
        let rows = counted.rows;
        self.state(|state| state.tables.entry(last_name(table)).or_default().add(&counted));
        Ok(rows)
    }

    /// Answers a SELECT of counts and sums over a counted table, or what an INSERT from it inserts.
    pub(crate) fn answer(&self, sql: &str) -> Option<Answered> {
        let all = tokens(sql);
        let from = all.iter().rposition(|token| token.is("FROM"))?;
        let table = &sql[all.get(from + 1)?.start..];
        if !self.counts(table) {
            return None;
        }
        let counted = self.state(|state| state.tables.get(&last_name(table)).cloned()).unwrap_or_default();
        if all.first()?.is("INSERT") {
            return Some(Answered::Inserted(counted.rows));
        }
        if !all.first()?.is("SELECT") {
            return None;
        }
        let items = items(&sql[all.get(1)?.start..all.get(from)?.start]);
        let found: Vec<(Value, u8)> = items.iter().map(|item| counted.item(item)).collect::<Option<_>>()?;
        let columns = items
            .iter()
            .zip(&found)
            .map(|(item, (_, scale))| {
                Column::new(item, SqlType::Number { precision: 38, scale: *scale }, true)
            })
            .collect();
        let row: Row = found.into_iter().map(|(value, _)| value).collect();
        Some(Answered::Rows(ResultSet { columns, rows: Rows::from_vec(vec![row]) }))
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An answer that the evaluator was not asked for.
pub(crate) enum Answered {
    /// Of a SELECT.
    Rows(ResultSet),
    /// Of an INSERT.
    Inserted(u64),
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.row_groups += other.row_groups;
        for (name, (values, sum)) in &other.columns {
            let mine = self.columns.entry(name.clone()).or_default();
            mine.0 += values;
            mine.1 += sum;
        }
        self.scales.extend(other.scales.iter().map(|(name, scale)| (name.clone(), *scale)));
    }

    /// `COUNT(*)`, `COUNT("C")`, `SUM("C")`, `SUM(OCTET_LENGTH("C"))` and the sum of days; nothing else is known.
    fn item(&self, item: &str) -> Option<(Value, u8)> {
        let number = |value: i128| Some((Value::number(value), 0));
        if item == "COUNT(*)" {
            return number(self.rows.into());
        }
        let inside = |head: &str, tail: &str| {
            let name = item.strip_prefix(head)?.strip_suffix(tail)?;
            let plain = !name.contains(['(', ' ', '"']);
            plain.then(|| self.columns.get(name).copied().unwrap_or_default())
        };
        if let Some((values, _)) = inside("COUNT(\"", "\")") {
            return number(values.into());
        }
        if let Some((_, sum)) = inside("SUM(\"", "\")") {
            let name = item.trim_start_matches("SUM(\"").trim_end_matches("\")");
            let scale = self.scales.get(name).copied().unwrap_or(0);
            return Some((Value::Decimal(Decimal::new(sum, scale)), scale));
        }
        let (_, sum) = inside("SUM(OCTET_LENGTH(\"", "\"))")
            .or_else(|| inside("SUM(DATEDIFF('day', '0001-01-01'::DATE, \"", "\"))"))?;
        number(sum)
    }
}

/// The last part of a dotted, quoted name at the front of `sql`.
fn last_name(sql: &str) -> String {
    let name: String = {
        let mut quoted = false;
        sql.chars()
            .take_while(|c| {
                quoted ^= *c == '"';
                quoted || *c == '"' || *c == '.' || c.is_alphanumeric() || *c == '_'
            })
            .collect()
    };
    name.trim_end_matches('"').rsplit(['"', '.']).next().unwrap_or_default().to_owned()
}

/// A select list cut at its own commas.
fn items(list: &str) -> Vec<String> {
    let mut depth = 0_i32;
    let mut all = vec![String::new()];
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(item) = all.last_mut() {
            item.push(c);
        }
    }
    all.into_iter().map(|item| item.trim().to_owned()).collect()
}

fn read(data: Bytes) -> Result<Counted, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(data, options).map_err(|error| text(&error))?;
    let promised: i64 =
        builder.metadata().row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).sum();
    let mut counted =
        Counted { row_groups: builder.metadata().num_row_groups() as u64, ..Counted::default() };
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| text(&error))?;
    for batch in reader {
        let batch = batch.map_err(|error| text(&error))?;
        add_batch(&mut counted, &batch)?;
    }
    if u64::try_from(promised) != Ok(counted.rows) {
        return Err(format!("its footer promises {promised} rows, and it has {}", counted.rows));
    }
    Ok(counted)
}

fn add_batch(counted: &mut Counted, batch: &RecordBatch) -> Result<(), String> {
    counted.rows += batch.num_rows() as u64;
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let sum: i128 = match array.data_type() {
            DataType::Int16 => array.as_primitive::<Int16Type>().iter().flatten().map(i128::from).sum(),
            DataType::Int32 => array.as_primitive::<Int32Type>().iter().flatten().map(i128::from).sum(),
            DataType::Int64 => array.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum(),
            DataType::Utf8 => array.as_string::<i32>().iter().flatten().map(|text| text.len() as i128).sum(),
            DataType::Binary => {
                array.as_binary::<i32>().iter().flatten().map(|bytes| bytes.len() as i128).sum()
            }
            DataType::Date32 => array
                .as_primitive::<Date32Type>()
                .iter()
                .flatten()
                .map(|day| i128::from(day) + DAYS_TO_1970)
                .sum(),
            DataType::Decimal128(_, scale) => {
                counted.scales.insert(field.name().clone(), u8::try_from(*scale).unwrap_or(0));
                array.as_primitive::<Decimal128Type>().iter().flatten().sum()
            }
            other => {
                return Err(format!("column {} has the type {other}, which is not counted", field.name()));
            }
        };
        let mine = counted.columns.entry(field.name().clone()).or_default();
        mine.0 += (array.len() - array.null_count()) as u64;
        mine.1 += sum;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_last_part_and_prefixes_choose() {
        let counting = Counting::default();
        counting.watch("NARROW");
        assert!(counting.counts("\"DB\".\"S\".\"NARROW__KEYFERRY_1\" WHERE"));
        assert!(counting.counts("DB.S.NARROW") && !counting.counts("DB.NARROW.OTHER"));
    }

    #[test]
    fn only_known_questions_are_answered() {
        let counting = Counting::default();
        counting.watch("T");
        let answered = |sql: &str| counting.answer(sql).is_some();
        assert!(answered(
            "SELECT COUNT(*), COUNT(\"ID\"), SUM(\"ID\"), SUM(OCTET_LENGTH(\"D\")) FROM D.S.\"T\""
        ));
        assert!(answered("SELECT SUM(DATEDIFF('day', '0001-01-01'::DATE, \"DAY\")) FROM D.S.T"));
        assert!(!answered("SELECT MAX(\"ID\") FROM D.S.\"T\""));
        assert!(!answered("SELECT COUNT(*) FROM D.S.\"OTHER\""));
    }
}
