//! GROUP BY and the aggregate functions.

use std::{collections::HashMap, collections::HashSet};

use crate::{
    decimal::{Decimal, Rounding},
    error::SqlError,
    exec::{RowIter, SortKey, compare_keys},
    expr::{Expr, Frame},
    keys::{self, KeyBytes, Order},
    text::Text,
    value::{Row, Value, Variant},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// COUNT(*).
    Rows,
    Count,
    Sum,
    Average,
    Min,
    Max,
    /// `STRING_AGG`, LISTAGG.
    Join,
    /// MAX(x) of booleans: `BOOLOR_AGG`; MIN: `BOOLAND_AGG`.
    AnyValue,
    ArrayAgg,
    /// The middle value, or the mean of the two in the middle.
    Median,
    /// STDDEV, VARIANCE by Welford: sample or population.
    Deviation {
        population: bool,
        root: bool,
    },
}

/// The form of a SUM or AVG result, with the error for what does not fit.
#[derive(Debug, Clone)]
pub(crate) enum Sum {
    /// SQL Server's integers, by the range of the result.
    Int {
        low: i64,
        high: i64,
    },
    /// Exact numbers: result scale, and how an average rounds.
    Decimal {
        scale: u8,
        rounding: Rounding,
        precision: u8,
    },
    Float,
}

pub(crate) struct Aggregate {
    pub kind: Kind,
    pub argument: Option<Expr>,
    pub separator: Option<Expr>,
    pub within: Vec<SortKey>,
    pub filter: Option<Expr>,
    pub distinct: bool,
    pub order: Order,
    pub sum: Sum,
    pub overflow: SqlError,
    /// COUNT's results are integers of SQL Server or numbers of Snowflake.
    pub count_is_decimal: bool,
    /// COUNT (not `COUNT_BIG`) overflows beyond int.
    pub count_limit: i64,
}

/// The running value of one aggregate.
pub(crate) struct Accumulator {
    count: i64,
    exact: i128,
    scale: u8,
    float: f64,
    mean: f64,
    value: Value,
    pieces: Vec<(Vec<Value>, Value, Text)>,
    seen: HashSet<KeyBytes>,
    overflowed: bool,
}

impl Accumulator {
    pub(crate) fn new() -> Self {
        Self {
            count: 0,
            exact: 0,
            scale: 0,
            float: 0.0,
            mean: 0.0,
            value: Value::Null,
            pieces: Vec::new(),
            seen: HashSet::new(),
            overflowed: false,
        }
    }

    pub(crate) fn add(&mut self, of: &Aggregate, row: &[Value], frame: &Frame) -> Result<(), SqlError> {
        if let Some(filter) = &of.filter
            && filter.test(row, frame)? != Some(true)
        {
            return Ok(());
        }
        let Some(argument) = &of.argument else {
            self.count += 1;
            return Ok(());
        };
        if of.kind == Kind::Count && !of.distinct {
            let null = argument.with(row, frame, Value::is_null)?;
            self.count += i64::from(!null);
            return Ok(());
        }
        let value = argument.eval(row, frame)?;
        if value.is_null() {
            return Ok(());
        }
        if of.distinct {
            let mut key = KeyBytes::new();
            keys::push_key(&mut key, &value, of.order);
            if !self.seen.insert(key) {
                return Ok(());
            }
        }
        self.count += 1;
        match of.kind {
            Kind::Rows | Kind::Count => {}
            Kind::Sum | Kind::Average => self.sum(&value),
            Kind::Min | Kind::Max => {
                let better = self.value.is_null() || {
                    let order = keys::compare(&value, &self.value, of.order);
                    if of.kind == Kind::Min { order.is_lt() } else { order.is_gt() }
                };
                if better {
                    self.value = value;
                }
            }
            Kind::AnyValue => {
                if self.value.is_null() {
                    self.value = value;
                }
            }
            Kind::Deviation { .. } => {
                let x = number(&value);
                let delta = x - self.mean;
                self.mean += delta / self.count as f64;
                self.float += delta * (x - self.mean);
            }
            Kind::Median => self.pieces.push((Vec::new(), value, Text::new(""))),
            Kind::Join | Kind::ArrayAgg => {
                let separator = match &of.separator {
                    Some(separator) => match separator.eval(row, frame)? {
                        Value::Text(text) => text,
                        _ => Text::new(""),
                    },
                    None => Text::new(""),
                };
                let keys = of.within.iter().map(|key| key.expr.eval(row, frame)).collect::<Result<_, _>>()?;
                self.pieces.push((keys, value, separator));
            }
        }
        Ok(())
    }

    fn sum(&mut self, value: &Value) {
        match value {
            Value::Int(value) => self.add_exact(i128::from(*value), 0),
            Value::Bool(value) => self.add_exact(i128::from(*value), 0),
            Value::Decimal(value) => self.add_exact(value.unscaled, value.scale),
            other => self.float += number(other),
        }
    }

    fn add_exact(&mut self, unscaled: i128, scale: u8) {
        let sum = if scale == self.scale {
            self.exact.checked_add(unscaled)
        } else {
            let common = scale.max(self.scale);
            let sum = Decimal::new(self.exact, self.scale).add(Decimal::new(unscaled, scale), common);
            self.scale = common;
            sum.map(|sum| sum.unscaled)
        };
        match sum {
            Some(sum) => self.exact = sum,
            None => self.overflowed = true,
        }
    }

    pub(crate) fn finish(&self, of: &Aggregate) -> Result<Value, SqlError> {
        match of.kind {
            Kind::Rows | Kind::Count => {
                if self.count > of.count_limit {
                    return Err(of.overflow.clone());
                }
                Ok(if of.count_is_decimal {
                    Value::number(i128::from(self.count))
                } else {
                    Value::Int(self.count)
                })
            }
            _ if self.count == 0 && of.kind != Kind::ArrayAgg => Ok(match of.kind {
                // LISTAGG of nothing is an empty string in Snowflake; STRING_AGG is NULL.
                Kind::Join if of.count_is_decimal => Value::text(""),
                _ => Value::Null,
            }),
            Kind::Sum => self.total(of),
            Kind::Average => self.average(of),
            Kind::Min | Kind::Max | Kind::AnyValue => Ok(self.value.clone()),
            Kind::Deviation { population, root } => {
                let divisor = if population { self.count } else { self.count - 1 };
                if divisor == 0 {
                    return Ok(Value::Null);
                }
                let variance = self.float / divisor as f64;
                Ok(Value::Float(if root { variance.sqrt() } else { variance }))
            }
            Kind::Median => Ok(self.median(of)),
            Kind::Join | Kind::ArrayAgg => {
                let mut pieces: Vec<_> = self.pieces.iter().collect();
                pieces.sort_by(|a, b| compare_keys(&a.0, &b.0, &of.within));
                if of.kind == Kind::ArrayAgg {
                    let items = pieces.into_iter().map(|(_, value, _)| match value {
                        Value::Variant(variant) => variant.as_ref().clone(),
                        value => Variant::Scalar(value.clone()),
                    });
                    return Ok(Value::Variant(std::sync::Arc::new(Variant::Array(items.collect()))));
                }
                let mut units: Vec<u16> = Vec::new();
                for (at, (_, value, separator)) in pieces.into_iter().enumerate() {
                    if at > 0 {
                        units.extend(separator.utf16());
                    }
                    if let Value::Text(text) = value {
                        units.extend(text.utf16());
                    }
                }
                Ok(Value::Text(Text::from_utf16(&units)))
            }
        }
    }

    fn median(&self, of: &Aggregate) -> Value {
        let mut values: Vec<&Value> = self.pieces.iter().map(|(_, value, _)| value).collect();
        values.sort_by(|a, b| keys::compare(a, b, of.order));
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        match (of.sum.clone(), low, high) {
            (Sum::Decimal { scale, rounding, .. }, Value::Decimal(low), Value::Decimal(high)) => low
                .add(*high, low.scale.max(high.scale))
                .and_then(|sum| sum.div(Decimal::new(2, 0), scale, rounding))
                .map_or(Value::Null, Value::Decimal),
            _ => Value::Float(f64::midpoint(number(low), number(high))),
        }
    }

    fn total(&self, of: &Aggregate) -> Result<Value, SqlError> {
        if self.overflowed {
            return Err(of.overflow.clone());
        }
        match of.sum {
            Sum::Float => Ok(Value::Float(self.float + Decimal::new(self.exact, self.scale).to_f64())),
            Sum::Int { low, high } => i64::try_from(self.exact)
                .ok()
                .filter(|sum| (low..=high).contains(sum))
                .map(Value::Int)
                .ok_or_else(|| of.overflow.clone()),
            Sum::Decimal { scale, precision, .. } => Decimal::new(self.exact, self.scale)
                .rescale(scale, Rounding::HalfUp)
                .filter(|sum| sum.fits(precision))
                .map(Value::Decimal)
                .ok_or_else(|| of.overflow.clone()),
        }
    }

    fn average(&self, of: &Aggregate) -> Result<Value, SqlError> {
        if self.overflowed {
            return Err(of.overflow.clone());
        }
        match of.sum {
            Sum::Float => {
                let sum = self.float + Decimal::new(self.exact, self.scale).to_f64();
                Ok(Value::Float(sum / self.count as f64))
            }
            Sum::Int { .. } => Ok(Value::Int((self.exact / i128::from(self.count)) as i64)),
            Sum::Decimal { scale, rounding, precision } => Decimal::new(self.exact, self.scale)
                .div(Decimal::new(i128::from(self.count), 0), scale, rounding)
                .filter(|mean| mean.fits(precision))
                .map(Value::Decimal)
                .ok_or_else(|| of.overflow.clone()),
        }
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Real(value) => f64::from(*value),
        Value::Float(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Decimal(value) => value.to_f64(),
        Value::Bool(value) => f64::from(u8::from(*value)),
        _ => 0.0,
    }
}

/// Groups rows and computes the aggregates: each result row is the keys, then the aggregates.
/// Groups rows by each set of keys in turn.
pub(crate) fn run_sets(
    rows: RowIter,
    keys: &[(Expr, Order)],
    sets: &[Vec<bool>],
    aggregates: &[Aggregate],
    frame: &Frame,
) -> Result<RowIter, SqlError> {
    // The keys are computed once, behind each row's own columns.
    let mut extended: Vec<Row> = Vec::new();
    let mut width = 0;
    for row in rows {
        let row = row?;
        width = row.len();
        let values = keys.iter().map(|(expr, _)| expr.eval(&row, frame)).collect::<Result<Vec<_>, _>>()?;
        extended.push(row.iter().cloned().chain(values).collect());
    }
    let mut out = Vec::new();
    for set in sets {
        let kept: Vec<(Expr, Order)> = keys
            .iter()
            .zip(set)
            .enumerate()
            .filter(|(_, (_, kept))| **kept)
            .map(|(at, ((_, order), _))| (Expr::Column(width + at), *order))
            .collect();
        let all = extended.clone();
        for row in run(Box::new(all.into_iter().map(Ok)), &kept, aggregates, !kept.is_empty(), frame)? {
            let row = row?;
            let mut values = row.iter();
            let mut whole: Vec<Value> = set
                .iter()
                .map(|kept| if *kept { values.next().cloned().unwrap_or(Value::Null) } else { Value::Null })
                .collect();
            whole.extend(set.iter().map(|kept| Value::Int(i64::from(!*kept))));
            whole.extend(values.cloned());
            out.push(Ok(Row::from(whole)));
        }
    }
    Ok(Box::new(out.into_iter()))
}

pub(crate) fn run(
    rows: RowIter,
    keys: &[(Expr, Order)],
    aggregates: &[Aggregate],
    grouped: bool,
    frame: &Frame,
) -> Result<RowIter, SqlError> {
    let new = || aggregates.iter().map(|_| Accumulator::new()).collect::<Vec<_>>();
    let mut groups: Vec<(Vec<Value>, Vec<Accumulator>)> = Vec::new();
    let mut places: HashMap<KeyBytes, usize> = HashMap::new();
    if !grouped {
        groups.push((Vec::new(), new()));
    }
    for row in rows {
        let row = row?;
        let at = if grouped {
            let values =
                keys.iter().map(|(expr, _)| expr.eval(&row, frame)).collect::<Result<Vec<_>, SqlError>>()?;
            let mut key = KeyBytes::new();
            for (value, (_, order)) in values.iter().zip(keys) {
                keys::push_key(&mut key, value, *order);
            }
            *places.entry(key).or_insert_with(|| {
                groups.push((values, new()));
                groups.len() - 1
            })
        } else {
            0
        };
        for (accumulator, aggregate) in groups[at].1.iter_mut().zip(aggregates) {
            accumulator.add(aggregate, &row, frame)?;
        }
    }
    let rows = groups
        .into_iter()
        .map(|(mut values, accumulators)| {
            for (accumulator, aggregate) in accumulators.iter().zip(aggregates) {
                values.push(accumulator.finish(aggregate)?);
            }
            Ok(Row::from(values))
        })
        .collect::<Vec<_>>();
    Ok(Box::new(rows.into_iter()))
}
