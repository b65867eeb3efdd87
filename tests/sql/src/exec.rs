//! Plans and their lazy execution.

use std::{cmp::Ordering, collections::HashMap, collections::HashSet, sync::Arc};

use crate::{
    error::SqlError,
    exec::{aggregate::Aggregate, window::Window},
    expr::{Comparison, Expr, Frame},
    keys::{self, KeyBytes, Order},
    stage::{StageReader, StageRequest},
    storage::TableView,
    value::{Row, Value},
};

pub(crate) mod aggregate;
pub(crate) mod join;
pub(crate) mod window;

pub(crate) type RowIter = Box<dyn Iterator<Item = Result<Row, SqlError>> + Send>;

/// One key of an ORDER BY.
pub(crate) struct SortKey {
    pub expr: Expr,
    pub order: Order,
    pub descending: bool,
    pub nulls_first: bool,
}

/// A range of a column's values that a scan may use to skip rows; the filter above it still decides.
pub(crate) struct Range {
    pub column: usize,
    pub order: Order,
    pub bounds: Vec<(Comparison, Value)>,
}

/// What a UNION and its kin do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOp {
    Union,
    Except,
    Intersect,
}

pub(crate) enum Plan {
    /// Rows that are known.
    Rows(Arc<Vec<Row>>),
    /// One row without columns.
    One,
    /// Rows of expressions.
    Values(Vec<Vec<Expr>>),
    /// A table; `with_id` appends the row's id as a last column.
    Scan {
        view: TableView,
        range: Option<Range>,
        with_id: bool,
    },
    Stage {
        reader: Arc<dyn StageReader>,
        request: StageRequest,
    },
    Filter {
        input: Arc<Plan>,
        predicate: Expr,
    },
    Project {
        input: Arc<Plan>,
        exprs: Vec<Expr>,
    },
    /// Keeps the first so many columns.
    Cut {
        input: Arc<Plan>,
        width: usize,
    },
    Join(join::Join),
    Aggregate {
        input: Arc<Plan>,
        keys: Vec<(Expr, Order)>,
        aggregates: Vec<Aggregate>,
        grouped: bool,
    },
    /// The groups of several sets of keys, one set after the other. A row has the keys (NULL where its set lacks
    /// one), for each key whether its set lacks it, and the aggregates.
    GroupingSets {
        input: Arc<Plan>,
        keys: Vec<(Expr, Order)>,
        sets: Vec<Vec<bool>>,
        aggregates: Vec<Aggregate>,
    },
    Window {
        input: Arc<Plan>,
        windows: Vec<Window>,
    },
    Sort {
        input: Arc<Plan>,
        keys: Vec<SortKey>,
    },
    Distinct {
        input: Arc<Plan>,
        orders: Vec<Order>,
    },
    Limit {
        input: Arc<Plan>,
        offset: Expr,
        fetch: Option<Expr>,
        ties: Vec<SortKey>,
        percent: bool,
    },
    SetOp {
        left: Arc<Plan>,
        right: Arc<Plan>,
        op: SetOp,
        all: bool,
        orders: Vec<Order>,
    },
    Recursive {
        base: Arc<Plan>,
        step: Arc<Plan>,
        slot: Arc<std::sync::Mutex<Arc<Vec<Row>>>>,
        limit: SqlError,
        /// Rounds that may give rows.
        rounds: u64,
    },
    /// What a recursive CTE's step reads.
    Slot(Arc<std::sync::Mutex<Arc<Vec<Row>>>>),
}

/// Starts a plan. Scans, filters and projections are lazy; sorts, joins' right sides and groups are computed here.
pub(crate) fn open(plan: &Arc<Plan>, frame: &Frame) -> Result<RowIter, SqlError> {
    match plan.as_ref() {
        Plan::Rows(rows) => {
            let rows = Arc::clone(rows);
            Ok(Box::new((0..rows.len()).map(move |at| Ok(rows[at].clone()))))
        }
        Plan::One => Ok(Box::new(std::iter::once(Ok(Row::from([]))))),
        Plan::Values(rows) => {
            let rows = rows
                .iter()
                .map(|row| row.iter().map(|expr| expr.eval(&[], frame)).collect::<Result<Row, _>>())
                .collect::<Vec<_>>();
            Ok(Box::new(rows.into_iter()))
        }
        Plan::Scan { view, range, with_id } => Ok(scan(view, range.as_ref(), *with_id)),
        Plan::Stage { reader, request } => {
            let rows = reader.open(request)?;
            Ok(Box::new(rows.map(|row| {
                row.map(|row| {
                    Row::from([
                        Value::Variant(Arc::new(row.record)),
                        Value::text(&row.file_name),
                        Value::number(i128::from(row.row_number)),
                    ])
                })
            })))
        }
        Plan::Filter { input, .. } => {
            let (mut rows, plan, frame) = (open(input, frame)?, Arc::clone(plan), frame.clone());
            Ok(Box::new(std::iter::from_fn(move || {
                let Plan::Filter { predicate, .. } = plan.as_ref() else { return None };
                loop {
                    let row = match rows.next()? {
                        Ok(row) => row,
                        Err(error) => return Some(Err(error)),
                    };
                    match predicate.test(&row, &frame) {
                        Ok(Some(true)) => return Some(Ok(row)),
                        Ok(_) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
            })))
        }
        Plan::Project { input, .. } => {
            let (rows, plan, frame) = (open(input, frame)?, Arc::clone(plan), frame.clone());
            let mut number = 0;
            Ok(Box::new(rows.map(move |row| {
                number += 1;
                let (row, Plan::Project { exprs, .. }) = (row?, plan.as_ref()) else {
                    return Ok(Row::from([]));
                };
                let values = exprs.iter().map(|expr| expr.eval(&row, &frame)).collect::<Result<Vec<_>, _>>();
                values.map(Row::from).map_err(|error| error.at_row(number))
            })))
        }
        Plan::Cut { input, width } => {
            let width = *width;
            Ok(Box::new(
                open(input, frame)?.map(move |row| row.map(|row| Row::from(&row[..width.min(row.len())]))),
            ))
        }
        Plan::Join(join) => join.open(plan, frame),
        Plan::Aggregate { input, keys, aggregates, grouped } => {
            aggregate::run(open(input, frame)?, keys, aggregates, *grouped, frame)
        }
        Plan::GroupingSets { input, keys, sets, aggregates } => {
            aggregate::run_sets(open(input, frame)?, keys, sets, aggregates, frame)
        }
        Plan::Window { input, windows } => {
            let mut rows = open(input, frame)?.collect::<Result<Vec<_>, _>>()?;
            window::run(&mut rows, windows, frame)?;
            Ok(Box::new(rows.into_iter().map(Ok)))
        }
        Plan::Sort { input, keys } => {
            let rows = open(input, frame)?.collect::<Result<Vec<_>, _>>()?;
            Ok(Box::new(sorted(rows, keys, frame)?.into_iter().map(Ok)))
        }
        Plan::Distinct { input, orders } => {
            let (rows, orders) = (open(input, frame)?, orders.clone());
            let mut seen = HashSet::new();
            Ok(Box::new(rows.filter(move |row| match row {
                Ok(row) => seen.insert(row_key(row, &orders)),
                Err(_) => true,
            })))
        }
        Plan::Limit { input, offset, fetch, ties, percent } => {
            limit(open(input, frame)?, offset, fetch.as_ref(), ties, *percent, frame)
        }
        Plan::SetOp { left, right, op, all, orders } => set_operation(left, right, *op, *all, orders, frame),
        Plan::Recursive { base, step, slot, limit, rounds: allowed } => {
            let mut all: Vec<Row> = open(base, frame)?.collect::<Result<_, _>>()?;
            let mut newest = all.clone();
            let mut rounds = 0;
            while !newest.is_empty() {
                rounds += 1;
                *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(newest);
                newest = open(step, frame)?.collect::<Result<_, _>>()?;
                if rounds > *allowed && !newest.is_empty() {
                    return Err(limit.clone());
                }
                all.extend(newest.iter().cloned());
            }
            Ok(Box::new(all.into_iter().map(Ok)))
        }
        Plan::Slot(slot) => {
            let rows = Arc::clone(&slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            open(&Arc::new(Plan::Rows(rows)), frame)
        }
    }
}

fn scan(view: &TableView, range: Option<&Range>, with_id: bool) -> RowIter {
    let finish = move |(id, row): (u64, Row)| {
        Ok(if with_id { row.iter().cloned().chain([Value::Int(id as i64)]).collect() } else { row })
    };
    if let Some(range) = range.filter(|range| !range.bounds.is_empty()) {
        let column = |row: &Row| row.get(range.column).cloned().unwrap_or(Value::Null);
        let positions = view.version.sorted_by(range.column, |a, b| {
            keys::sort_order(&a[range.column], &b[range.column], range.order, false, true)
        });
        if let Some(positions) = positions {
            let below = |at: &(u32, u32), wanted: &Value, inclusive: bool| {
                let value = column(view.version.at(*at));
                match keys::sort_order(&value, wanted, range.order, false, true) {
                    Ordering::Less => true,
                    Ordering::Equal => inclusive,
                    Ordering::Greater => false,
                }
            };
            let (mut start, mut end) = (0, positions.len());
            for (comparison, value) in &range.bounds {
                let first = || positions.partition_point(|at| below(at, value, false));
                let after = || positions.partition_point(|at| below(at, value, true));
                match comparison {
                    Comparison::GreaterEqual => start = start.max(first()),
                    Comparison::Greater => start = start.max(after()),
                    Comparison::LessEqual => end = end.min(after()),
                    Comparison::Less => end = end.min(first()),
                    Comparison::Equal => {
                        start = start.max(first());
                        end = end.min(after());
                    }
                    Comparison::NotEqual => {}
                }
            }
            return Box::new(view.clone().scan_at(positions, start..end.max(start)).map(finish));
        }
    }
    Box::new(view.clone().scan().map(finish))
}

/// The key of a whole row.
pub(crate) fn row_key(row: &[Value], orders: &[Order]) -> KeyBytes {
    let mut key = KeyBytes::new();
    for (value, order) in row.iter().zip(orders) {
        keys::push_key(&mut key, value, *order);
    }
    key
}

/// Sorts stably.
pub(crate) fn sorted(rows: Vec<Row>, keys: &[SortKey], frame: &Frame) -> Result<Vec<Row>, SqlError> {
    let mut decorated = rows
        .into_iter()
        .map(|row| {
            Ok((keys.iter().map(|key| key.expr.eval(&row, frame)).collect::<Result<Vec<_>, _>>()?, row))
        })
        .collect::<Result<Vec<(Vec<Value>, Row)>, SqlError>>()?;
    decorated.sort_by(|(a, _), (b, _)| compare_keys(a, b, keys));
    Ok(decorated.into_iter().map(|(_, row)| row).collect())
}

pub(crate) fn compare_keys(a: &[Value], b: &[Value], keys: &[SortKey]) -> Ordering {
    for ((a, b), key) in a.iter().zip(b).zip(keys) {
        let order = keys::sort_order(a, b, key.order, key.descending, key.nulls_first);
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn count(value: &Value) -> u64 {
    match value {
        Value::Int(value) => (*value).max(0) as u64,
        Value::Decimal(value) => value.trunc().clamp(0, i128::from(u64::MAX)) as u64,
        Value::Float(value) => value.max(0.0) as u64,
        _ => 0,
    }
}

fn limit(
    rows: RowIter,
    offset: &Expr,
    fetch: Option<&Expr>,
    ties: &[SortKey],
    percent: bool,
    frame: &Frame,
) -> Result<RowIter, SqlError> {
    let offset = count(&offset.eval(&[], frame)?) as usize;
    let Some(fetch) = fetch else { return Ok(Box::new(rows.skip(offset))) };
    let fetch = fetch.eval(&[], frame)?;
    if fetch.is_null() {
        return Ok(Box::new(rows.skip(offset)));
    }
    if !percent && ties.is_empty() {
        return Ok(Box::new(rows.skip(offset).take(count(&fetch) as usize)));
    }
    let mut rows = rows.skip(offset).collect::<Result<Vec<_>, _>>()?;
    let mut keep = if percent {
        let share = match fetch {
            Value::Float(value) => value,
            other => count(&other) as f64,
        };
        (rows.len() as f64 * share / 100.0).ceil() as usize
    } else {
        count(&fetch) as usize
    };
    if !ties.is_empty() && keep > 0 && keep < rows.len() {
        let key = |row: &Row| ties.iter().map(|key| key.expr.eval(row, frame)).collect::<Result<Vec<_>, _>>();
        let last = key(&rows[keep - 1])?;
        while keep < rows.len() && compare_keys(&last, &key(&rows[keep])?, ties) == Ordering::Equal {
            keep += 1;
        }
    }
    rows.truncate(keep);
    Ok(Box::new(rows.into_iter().map(Ok)))
}

fn set_operation(
    left: &Arc<Plan>,
    right: &Arc<Plan>,
    op: SetOp,
    all: bool,
    orders: &[Order],
    frame: &Frame,
) -> Result<RowIter, SqlError> {
    let (left, orders) = (open(left, frame)?, orders.to_vec());
    if op == SetOp::Union {
        let both = left.chain(open(right, frame)?);
        if all {
            return Ok(Box::new(both));
        }
        let mut seen = HashSet::new();
        return Ok(Box::new(both.filter(move |row| match row {
            Ok(row) => seen.insert(row_key(row, &orders)),
            Err(_) => true,
        })));
    }
    let mut counts: HashMap<KeyBytes, u64> = HashMap::new();
    for row in open(right, frame)? {
        *counts.entry(row_key(&row?, &orders)).or_default() += 1;
    }
    let mut seen = HashSet::new();
    Ok(Box::new(left.filter(move |row| {
        let Ok(row) = row else { return true };
        let key = row_key(row, &orders);
        let there = match counts.get_mut(&key) {
            Some(count) if *count > 0 => {
                *count -= u64::from(all);
                true
            }
            _ => false,
        };
        (there == (op == SetOp::Intersect)) && (all || seen.insert(key))
    })))
}
