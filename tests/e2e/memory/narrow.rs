//! A table of any number of rows that are computed when they are asked for, and what they add up to, in closed form.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use keyferry_e2e::sample::Table;
use keyferry_sql::{Column, DataType, ResultSet, Row, Rows, SqlError, Value};
use keyferry_stand_in_sqlserver::Answers;

pub(super) const NAME: &str = "narrow";
const FROM: &str = "FROM [dbo].[narrow]";
/// After so many rows every computed column repeats itself.
const PERIOD: u64 = 2000;
const PAGE_ROWS: u64 = 300;

/// The rows 1 to `rows`.
pub(super) struct Narrow {
    rows: u64,
    sent: Arc<AtomicU64>,
}

/// The same table as the catalog knows it.
pub(super) fn empty_table() -> Table {
    Table {
        name: NAME,
        ddl: "CREATE TABLE dbo.[narrow] ([id] bigint NOT NULL, [qty] int NOT NULL, [grp] smallint NULL, CONSTRAINT [PK_narrow] PRIMARY KEY CLUSTERED ([id]))"
            .to_owned(),
        columns: ["id", "qty", "grp"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
    }
}

fn qty(id: u64) -> i64 {
    (id * 7919 % 1000) as i64 - 250
}

fn grp(id: u64) -> Option<i64> {
    (!id.is_multiple_of(16)).then_some((id % 100) as i64)
}

impl Narrow {
    pub(super) fn new(rows: u64) -> Self {
        Self { rows, sent: Arc::default() }
    }

    /// Rows that went out.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Values and their sum, of all rows.
    pub(super) fn expected(&self, column: &str) -> Option<(u64, i128)> {
        sums(column, &(1..self.rows + 1))
    }

    fn stream(&self, range: Range<u64>) -> ResultSet {
        let sent = Arc::clone(&self.sent);
        let row = move |id: u64| -> Result<Row, SqlError> {
            sent.fetch_add(1, Ordering::Relaxed);
            Ok([Value::Int(id as i64), Value::Int(qty(id)), grp(id).map_or(Value::Null, Value::Int)].into())
        };
        let columns = vec![
            Column::new("id", DataType::BigInt, false),
            Column::new("qty", DataType::Int, false),
            Column::new("grp", DataType::SmallInt, true),
        ];
        ResultSet { columns, rows: Rows::new(range.map(row)) }
    }

    /// Every `step`-th key, and how many rows come before it, plus one: the same number.
    fn quantiles(&self, step: u64) -> ResultSet {
        let columns = ["k0", "r0"].map(|name| Column::new(name, DataType::BigInt, false)).to_vec();
        let row =
            |id: u64| -> Result<Row, SqlError> { Ok([Value::Int(id as i64), Value::Int(id as i64)].into()) };
        let keys = (1..=self.rows).step_by(step.max(1) as usize);
        ResultSet { columns, rows: Rows::new(keys.map(row)) }
    }

    /// Counts and sums, one for each item of the list; an item that is not known is not answered.
    fn aggregates(list: &str, range: &Range<u64>) -> Option<ResultSet> {
        let (mut columns, mut row) = (Vec::new(), Vec::new());
        for item in list.split(", ") {
            let name = |head: &str, tail: &str| Some(item.strip_prefix(head)?.strip_suffix(tail)?.to_owned());
            let (ty, value) = if item == "COUNT_BIG(*)" {
                (DataType::BigInt, Value::Int((range.end - range.start) as i64))
            } else if let Some(name) = name("COUNT_BIG([", "])") {
                (DataType::BigInt, Value::Int(sums(&name, range)?.0 as i64))
            } else {
                let name = name("SUM(CAST([", "] AS decimal(38,0)))")?;
                (DataType::Decimal { precision: 38, scale: 0 }, Value::number(sums(&name, range)?.1))
            };
            columns.push(Column::new("", ty, true));
            row.push(value);
        }
        Some(ResultSet { columns, rows: Rows::from_vec(vec![row.into()]) })
    }
}

impl Answers for Narrow {
    fn answer(&self, sql: &str) -> Option<ResultSet> {
        if sql.starts_with("SELECT SUM(row_count)") {
            let columns = ["", ""].map(|name| Column::new(name, DataType::BigInt, true)).to_vec();
            let row: Row =
                [Value::Int(self.rows as i64), Value::Int((self.rows / PAGE_ROWS + 1) as i64)].into();
            return Some(ResultSet { columns, rows: Rows::from_vec(vec![row]) });
        }
        let (head, tail) = sql.split_once(FROM)?;
        if head.contains("ROW_NUMBER()") {
            return Some(self.quantiles(number_after(tail, "% ")?));
        }
        let from = number_after(tail, "[id] >= CAST(").unwrap_or(1);
        let to = number_after(tail, "[id] < CAST(").unwrap_or(self.rows + 1);
        let list = head.strip_prefix("SELECT ")?.trim_end();
        if list == "[id], [qty], [grp]" {
            Some(self.stream(from..to))
        } else {
            Self::aggregates(list, &(from..to))
        }
    }
}

fn number_after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// Values and their sum over a range of ids, without visiting each.
fn sums(column: &str, range: &Range<u64>) -> Option<(u64, i128)> {
    let below = |end: u64| prefix(column, end);
    let ((a, b), (c, d)) = (below(range.end)?, below(range.start)?);
    Some((a - c, b - d))
}

/// The same from 0 to `end`: whole periods, and what is left.
fn prefix(column: &str, end: u64) -> Option<(u64, i128)> {
    let value: fn(u64) -> Option<i64> = match column.to_ascii_lowercase().as_str() {
        "id" => return Some((end, i128::from(end) * (i128::from(end) - 1) / 2)),
        "qty" => |id| Some(qty(id)),
        "grp" => grp,
        _ => return None,
    };
    let part = |ids: Range<u64>| {
        ids.filter_map(value)
            .fold((0_u64, 0_i128), |(count, sum), value| (count + 1, sum + i128::from(value)))
    };
    let (whole, rest) = (end / PERIOD, end % PERIOD);
    let ((count, sum), (more, rest)) = (part(0..PERIOD), part(0..rest));
    Some((count * whole + more, sum * i128::from(whole) + rest))
}
