//! Window functions.

use std::{cmp::Ordering, collections::HashMap};

use crate::{
    error::SqlError,
    exec::{
        SortKey,
        aggregate::{Accumulator, Aggregate},
        compare_keys,
    },
    expr::{Expr, Frame},
    keys::{self, KeyBytes, Order},
    value::{Row, Value},
};

pub(crate) enum Kind {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile(Expr),
    /// LAG is a negative distance.
    Shift {
        value: Expr,
        distance: Expr,
        default: Option<Expr>,
        back: bool,
    },
    First(Expr),
    Last(Expr),
    Aggregate(Box<Aggregate>),
}

/// Which rows of the partition an aggregate or `FIRST_VALUE` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of them.
    Partition,
    /// From the start to the last peer of the current row (RANGE, the default with ORDER BY).
    ToPeers,
    /// ROWS from .. to, as distances from the current row; None is unbounded.
    Rows(Option<i64>, Option<i64>),
}

pub(crate) struct Window {
    pub kind: Kind,
    pub partition: Vec<(Expr, Order)>,
    pub order: Vec<SortKey>,
    pub extent: Extent,
    /// Ranks are numbers of Snowflake or bigints of SQL Server.
    pub decimal: bool,
}

/// Appends one column per window to every row.
pub(crate) fn run(rows: &mut [Row], windows: &[Window], frame: &Frame) -> Result<(), SqlError> {
    let mut columns = Vec::with_capacity(windows.len());
    for window in windows {
        columns.push(window.column(rows, frame)?);
    }
    for (at, row) in rows.iter_mut().enumerate() {
        *row = row.iter().cloned().chain(columns.iter().map(|column| column[at].clone())).collect();
    }
    Ok(())
}

impl Window {
    fn column(&self, rows: &[Row], frame: &Frame) -> Result<Vec<Value>, SqlError> {
        let mut partitions: HashMap<KeyBytes, Vec<usize>> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            let mut key = KeyBytes::new();
            for (expr, order) in &self.partition {
                expr.with(row, frame, |value| keys::push_key(&mut key, value, *order))?;
            }
            partitions.entry(key).or_default().push(at);
        }
        let mut column = vec![Value::Null; rows.len()];
        for members in partitions.into_values() {
            let mut ordered = members
                .into_iter()
                .map(|at| {
                    let keys = self.order.iter().map(|key| key.expr.eval(&rows[at], frame));
                    Ok((keys.collect::<Result<Vec<_>, _>>()?, at))
                })
                .collect::<Result<Vec<_>, SqlError>>()?;
            ordered.sort_by(|a, b| compare_keys(&a.0, &b.0, &self.order));
            self.partition_column(rows, &ordered, frame, &mut column)?;
        }
        Ok(column)
    }

    fn integer(&self, value: usize) -> Value {
        if self.decimal { Value::number(value as i128) } else { Value::Int(value as i64) }
    }

    fn partition_column(
        &self,
        rows: &[Row],
        ordered: &[(Vec<Value>, usize)],
        frame: &Frame,
        column: &mut [Value],
    ) -> Result<(), SqlError> {
        let peers =
            |a: usize, b: usize| compare_keys(&ordered[a].0, &ordered[b].0, &self.order) == Ordering::Equal;
        let total = ordered.len();
        let (mut first_peer, mut dense) = (0, 0);
        if let Kind::Aggregate(aggregate) = &self.kind {
            return self.running(aggregate, rows, ordered, frame, column);
        }
        for at in 0..total {
            let row = &rows[ordered[at].1];
            if at == 0 || !peers(at - 1, at) {
                first_peer = at;
                dense += 1;
            }
            column[ordered[at].1] = match &self.kind {
                Kind::RowNumber => self.integer(at + 1),
                Kind::Rank => self.integer(first_peer + 1),
                Kind::DenseRank => self.integer(dense),
                Kind::PercentRank => {
                    Value::Float(if total > 1 { first_peer as f64 / (total - 1) as f64 } else { 0.0 })
                }
                Kind::CumeDist => {
                    let last = (at..total).take_while(|next| peers(at, *next)).last().unwrap_or(at);
                    Value::Float((last + 1) as f64 / total as f64)
                }
                Kind::Ntile(buckets) => {
                    let buckets = whole(&buckets.eval(row, frame)?).max(1) as usize;
                    let (size, extra) = (total / buckets, total % buckets);
                    let large = extra * (size + 1);
                    let tile = if at < large { at / (size + 1) } else { extra + (at - large) / size.max(1) };
                    self.integer(tile + 1)
                }
                Kind::Shift { value, distance, default, back } => {
                    let distance = whole(&distance.eval(row, frame)?);
                    let target = at as i64 + if *back { -distance } else { distance };
                    match usize::try_from(target).ok().filter(|target| *target < total) {
                        Some(target) => value.eval(&rows[ordered[target].1], frame)?,
                        None => match default {
                            Some(default) => default.eval(row, frame)?,
                            None => Value::Null,
                        },
                    }
                }
                Kind::First(value) | Kind::Last(value) => {
                    let (from, to) = self.bounds(at, total, &peers);
                    let wanted =
                        if matches!(self.kind, Kind::First(_)) { from } else { to.saturating_sub(1) };
                    if from < to { value.eval(&rows[ordered[wanted].1], frame)? } else { Value::Null }
                }
                Kind::Aggregate(_) => Value::Null,
            };
        }
        Ok(())
    }

    fn bounds(&self, at: usize, total: usize, peers: &impl Fn(usize, usize) -> bool) -> (usize, usize) {
        match self.extent {
            Extent::Partition => (0, total),
            Extent::ToPeers => {
                let mut end = at + 1;
                while end < total && peers(at, end) {
                    end += 1;
                }
                (0, end)
            }
            Extent::Rows(from, to) => {
                let place = |distance: i64| (at as i64 + distance).clamp(0, total as i64) as usize;
                (from.map_or(0, place), to.map_or(total, |to| place(to + 1)))
            }
        }
    }

    fn running(
        &self,
        aggregate: &Aggregate,
        rows: &[Row],
        ordered: &[(Vec<Value>, usize)],
        frame: &Frame,
        column: &mut [Value],
    ) -> Result<(), SqlError> {
        let peers =
            |a: usize, b: usize| compare_keys(&ordered[a].0, &ordered[b].0, &self.order) == Ordering::Equal;
        let mut accumulator = Accumulator::new();
        let (mut start, mut end, mut value) = (0, 0, None);
        for at in 0..ordered.len() {
            let (from, to) = self.bounds(at, ordered.len(), &peers);
            if from != start || to < end {
                // The extent slides: start over. Growing extents, the usual ones, only add.
                accumulator = Accumulator::new();
                (start, end, value) = (from, from, None);
            }
            if to > end || value.is_none() {
                for (_, row) in &ordered[end.min(to)..to] {
                    accumulator.add(aggregate, &rows[*row], frame)?;
                }
                end = to;
                value = Some(accumulator.finish(aggregate)?);
            }
            column[ordered[at].1] = value.clone().unwrap_or(Value::Null);
        }
        Ok(())
    }
}

fn whole(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        Value::Decimal(value) => value.trunc() as i64,
        _ => 0,
    }
}
