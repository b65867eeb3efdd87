//! Tables of any number of rows, sent from memory: one block of rows is encoded once and sent again and again, each row
//! under a key of its own. What the loader asks about such a table is answered from sums over the block.

use std::{ops::Range, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use keyferry_sql::{Column, DataType, Outcome, ResultSet, Row, Rows, Session, SqlError, Value};
use keyferry_stand_in_sqlserver::{Answers, Encoded, encode};

use crate::tables::Shape;

/// Appended at once: as much as the server gathers before it sends.
const PIECE: usize = 64 * 1024;

/// A table of `rows` rows with the keys 1 to `rows`.
pub struct Repeated {
    name: String,
    columns: Vec<Column>,
    rows: u64,
    tokens: Vec<u8>,
    /// Where each row begins, and the end.
    starts: Vec<usize>,
    /// Where each row's key lies, from its start.
    keys: Vec<u8>,
    /// By column: values and their sums in the terms of the source's witness, of the first rows of a block.
    sums: Vec<Vec<(u64, i128)>>,
}

/// All tables of a server.
pub struct Source(Vec<Arc<Repeated>>);

impl Source {
    /// Answers about these tables.
    pub fn new(tables: Vec<Arc<Repeated>>) -> Self {
        Self(tables)
    }

    fn table(&self, sql: &str) -> Option<&Arc<Repeated>> {
        self.0.iter().find(|table| sql.contains(&format!("FROM [dbo].[{}]", table.name)))
    }
}

impl Repeated {
    /// Encodes the block. The table must be in the session's database, empty: its columns are read from there.
    pub async fn new(shape: &Shape, rows: u64, session: &mut Session) -> Result<Self> {
        let outcomes = session.execute(&format!("SELECT * FROM dbo.[{}]", shape.name)).await;
        let columns = outcomes.into_iter().find_map(|outcome| match outcome {
            Ok(Outcome::Rows(result)) => Some(result.columns),
            _ => None,
        });
        let columns = columns.with_context(|| format!("the columns of {}", shape.name))?;
        let encoded = |block: &[Row]| encode(&columns, block).map_err(|error| anyhow::anyhow!("{error}"));
        let (tokens, mut starts) = encoded(&shape.rows)?;
        starts.push(tokens.len());
        let keys = starts.windows(2).map(|row| key_offset(&tokens[row[0]..row[1]], columns.len())).collect();
        let sums =
            (0..columns.len()).map(|at| prefix_sums(&columns[at], at, &shape.rows)).collect::<Result<_>>()?;
        let repeated = Self { name: shape.name.to_owned(), columns, rows, tokens, starts, keys, sums };
        ensure!(repeated.block() > 0, "{} has no rows", shape.name);
        Ok(repeated)
    }

    fn block(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Bytes of one row on the wire, on average.
    pub fn row_bytes(&self) -> f64 {
        self.tokens.len() as f64 / self.block() as f64
    }

    fn stream(self: &Arc<Self>, range: Range<u64>) -> Encoded {
        let table = Arc::clone(self);
        let mut next = range.start;
        let more = move |into: &mut Vec<u8>| {
            let from = ((next - 1) % table.block()) as usize;
            let left = (range.end - next).min(table.block() - from as u64) as usize;
            if left == 0 {
                return 0;
            }
            let limit = table.starts[from] + PIECE;
            let rows = table.starts[from..from + left].partition_point(|start| *start < limit).max(1);
            let base = into.len();
            into.extend_from_slice(&table.tokens[table.starts[from]..table.starts[from + rows]]);
            for row in from..from + rows {
                let at = base + table.starts[row] - table.starts[from] + usize::from(table.keys[row]);
                into[at..at + 8].copy_from_slice(&next.to_le_bytes());
                next += 1;
            }
            rows as u64
        };
        Encoded { columns: self.columns.clone(), more: Box::new(more) }
    }

    /// Values and their sum over a range of keys.
    fn sums(&self, column: usize, range: &Range<u64>) -> (u64, i128) {
        let (upto, from) = (self.below(column, range.end), self.below(column, range.start));
        (upto.0 - from.0, upto.1 - from.1)
    }

    /// The same over the keys below `end`.
    fn below(&self, column: usize, end: u64) -> (u64, i128) {
        let rows = end - 1;
        if column == 0 {
            return (rows, i128::from(rows) * i128::from(rows + 1) / 2);
        }
        let of = |rows: u64| self.sums[column][rows as usize];
        let (whole, rest) = (rows / self.block(), rows % self.block());
        let (block, part) = (of(self.block()), of(rest));
        (block.0 * whole + part.0, block.1 * i128::from(whole) + part.1)
    }

    fn quantiles(&self, step: u64) -> ResultSet {
        let columns = ["k0", "r0"].map(|name| Column::new(name, DataType::BigInt, false)).to_vec();
        let row = |key: u64| -> Result<Row, SqlError> {
            Ok([Value::Int(key as i64), Value::Int(key as i64)].into())
        };
        let keys: Vec<_> = (1..=self.rows).step_by(step.max(1) as usize).map(row).collect();
        ResultSet { columns, rows: Rows::new(keys.into_iter()) }
    }

    /// Counts and sums; the only sum of a column that is asked for is its witness.
    fn aggregates(&self, list: &str, range: &Range<u64>) -> Option<ResultSet> {
        let (mut columns, mut row) = (Vec::new(), Vec::new());
        for item in items(list) {
            let (ty, value) = if item == "COUNT_BIG(*)" {
                (DataType::BigInt, Value::Int((range.end - range.start) as i64))
            } else {
                let at =
                    self.columns.iter().position(|column| item.contains(&format!("[{}]", column.name)))?;
                let (count, sum) = self.sums(at, range);
                let scale = self.columns[at].ty.precision_scale().map_or(0, |(_, scale)| scale);
                if item.starts_with("COUNT_BIG(") {
                    (DataType::BigInt, Value::Int(count as i64))
                } else if count == 0 {
                    (DataType::BigInt, Value::Null)
                } else {
                    let sum = keyferry_sql::Decimal::new(sum, scale);
                    (DataType::Decimal { precision: 38, scale }, Value::Decimal(sum))
                }
            };
            columns.push(Column::new("", ty, true));
            row.push(value);
        }
        Some(ResultSet { columns, rows: Rows::from_vec(vec![row.into()]) })
    }

    fn range(&self, tail: &str) -> Range<u64> {
        let key = &self.columns[0].name;
        let from = number_after(tail, &format!("[{key}] >= CAST(")).unwrap_or(1);
        let to = number_after(tail, &format!("[{key}] < CAST(")).unwrap_or(self.rows + 1);
        from.max(1)..to.min(self.rows + 1).max(from)
    }
}

impl Answers for Source {
    fn answer(&self, sql: &str) -> Option<ResultSet> {
        let table = self.table(sql)?;
        let (head, tail) = sql.split_once(&format!("FROM [dbo].[{}]", table.name))?;
        if head.contains("ROW_NUMBER()") {
            return Some(table.quantiles(number_after(tail, "% ")?));
        }
        let list = head.strip_prefix("SELECT ")?.trim_end();
        list.starts_with("COUNT_BIG(*)").then(|| table.aggregates(list, &table.range(tail)))?
    }

    fn encoded(&self, sql: &str) -> Option<Encoded> {
        let table = self.table(sql)?;
        let (head, tail) = sql.split_once(&format!("FROM [dbo].[{}]", table.name))?;
        let names: Vec<String> = table.columns.iter().map(|column| format!("[{}]", column.name)).collect();
        let rows = head.trim_end() == format!("SELECT {}", names.join(", "));
        rows.then(|| table.stream(table.range(tail)))
    }
}

/// The key is the first column, eight bytes without a length: behind the token's first byte and, in an NBCROW, the bitmap.
fn key_offset(row: &[u8], columns: usize) -> u8 {
    const NBCROW: u8 = 0xD2;
    if row[0] == NBCROW { 1 + columns.div_ceil(8) as u8 } else { 1 }
}

fn prefix_sums(column: &Column, at: usize, rows: &[Row]) -> Result<Vec<(u64, i128)>> {
    let mut sums = Vec::with_capacity(rows.len() + 1);
    let mut total = (0, 0);
    sums.push(total);
    let unit = if matches!(column.ty, DataType::NVarChar { .. } | DataType::NChar { .. }) { 2 } else { 1 };
    let scale = column.ty.precision_scale().map_or(0, |(_, scale)| scale);
    for row in rows {
        let value = match &row[at] {
            Value::Null => None,
            Value::Int(value) => Some(i128::from(*value)),
            Value::Bool(value) => Some(i128::from(*value)),
            Value::Decimal(value) => {
                ensure!(value.scale == scale, "{} has values of another scale", column.name);
                Some(value.unscaled)
            }
            Value::Date(days) => Some(i128::from(*days)),
            Value::Text(text) => {
                Some(text.as_str().map_or(0, |text| text.encode_utf16().count() as i128 * unit))
            }
            Value::Bytes(bytes) => Some(bytes.len() as i128),
            // No whole run is made of tables with such columns.
            _ => Some(0),
        };
        if let Some(value) = value {
            total = (total.0 + 1, total.1 + value);
        }
        sums.push(total);
    }
    Ok(sums)
}

/// A select list cut at its own commas.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0_i32, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                all.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(list[start..].trim());
    all
}

fn number_after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
