//! Bound expressions: columns are positions, types are settled, constants are values.

use std::{
    cmp::Ordering,
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use crate::{
    error::SqlError,
    exec::{self, Plan},
    keys::{self, KeyBytes, Order},
    types::DataType,
    value::{Row, Value},
};

/// The rows around a correlated subquery, innermost first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame(Option<Arc<(Row, Frame)>>);

impl Frame {
    pub(crate) fn push(&self, row: Row) -> Self {
        Self(Some(Arc::new((row, self.clone()))))
    }

    fn value(&self, level: usize, index: usize) -> Option<&Value> {
        let (row, above) = self.0.as_deref()?;
        if level == 0 { row.get(index) } else { above.value(level - 1, index) }
    }
}

pub(crate) type Function = Arc<dyn Fn(&[Value]) -> Result<Value, SqlError> + Send + Sync>;

/// What a comparison accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::NotEqual => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterEqual => order != Ordering::Less,
        }
    }

    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }
}

/// A subquery inside an expression.
pub(crate) struct Subquery {
    pub plan: Arc<Plan>,
    pub correlated: bool,
    pub many: SqlError,
    /// What an uncorrelated one gave: rows of its first column.
    pub cache: OnceLock<Result<Answer, SqlError>>,
}

/// The first column of a subquery's rows.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    values: Vec<Value>,
    keys: HashSet<KeyBytes>,
    has_null: bool,
}

pub(crate) enum Expr {
    Const(Value),
    Column(usize),
    /// A column of an enclosing query.
    Outer {
        level: usize,
        index: usize,
    },
    /// A window function's column, whose place is known only when all are bound.
    Pending(usize),
    /// NULL if any argument is NULL, else the function's value.
    Strict(Function, Vec<Expr>),
    /// A function that looks at NULLs itself.
    Call(Function, Vec<Expr>),
    Compare(Comparison, Order, Box<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>, bool),
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
    },
    Coalesce(Vec<Expr>),
    InList {
        operand: Box<Expr>,
        list: Vec<Expr>,
        order: Order,
        negated: bool,
        keys: OnceLock<HashSet<KeyBytes>>,
    },
    InSubquery {
        operand: Box<Expr>,
        subquery: Subquery,
        order: Order,
        negated: bool,
    },
    /// `x > ALL (SELECT …)` and `x > ANY (SELECT …)`.
    Quantified {
        operand: Box<Expr>,
        subquery: Subquery,
        comparison: Comparison,
        order: Order,
        all: bool,
    },
    Scalar(Subquery),
    Exists(Subquery, bool),
    /// `TRY_CAST` and friends: NULL where the inner one fails to convert.
    Try(Box<Expr>),
}

/// An expression with its type.
pub(crate) struct Typed {
    pub expr: Expr,
    pub ty: DataType,
    pub nullable: bool,
}

impl Typed {
    pub(crate) fn new(expr: Expr, ty: DataType, nullable: bool) -> Self {
        Self { expr, ty, nullable }
    }

    pub(crate) fn constant(value: Value, ty: DataType) -> Self {
        let nullable = value.is_null();
        Self { expr: Expr::Const(value), ty, nullable }
    }

    /// The value, if it is already known.
    pub(crate) fn known(&self) -> Option<&Value> {
        match &self.expr {
            Expr::Const(value) => Some(value),
            _ => None,
        }
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Int(value) => Some(*value != 0),
        Value::Decimal(value) => Some(value.unscaled != 0),
        Value::Variant(variant) => match variant.as_ref() {
            crate::value::Variant::Scalar(value) => truth(value),
            _ => None,
        },
        _ => None,
    }
}

fn of_truth(value: Option<bool>) -> Value {
    value.map_or(Value::Null, Value::Bool)
}

impl Subquery {
    fn with<T>(
        &self,
        row: &[Value],
        frame: &Frame,
        order: Order,
        limit: usize,
        read: impl FnOnce(&Answer) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let run = || -> Result<Answer, SqlError> {
            let frame = if self.correlated { frame.push(Arc::from(row)) } else { Frame::default() };
            let mut answer = Answer { values: Vec::new(), keys: HashSet::new(), has_null: false };
            for row in exec::open(&self.plan, &frame)?.take(limit) {
                let value = row?.first().cloned().unwrap_or(Value::Null);
                answer.has_null |= value.is_null();
                if !value.is_null() && limit == usize::MAX {
                    let mut key = KeyBytes::new();
                    keys::push_key(&mut key, &value, order);
                    answer.keys.insert(key);
                }
                answer.values.push(value);
            }
            Ok(answer)
        };
        if self.correlated {
            return read(&run()?);
        }
        match self.cache.get_or_init(run) {
            Ok(answer) => read(answer),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Expr {
    /// The value as a reference where it lies somewhere already.
    pub(crate) fn with<T>(
        &self,
        row: &[Value],
        frame: &Frame,
        read: impl FnOnce(&Value) -> T,
    ) -> Result<T, SqlError> {
        match self {
            Self::Const(value) => Ok(read(value)),
            Self::Column(index) => Ok(read(row.get(*index).unwrap_or(&Value::Null))),
            other => other.eval(row, frame).map(|value| read(&value)),
        }
    }

    /// The predicate's truth; None is unknown.
    pub(crate) fn test(&self, row: &[Value], frame: &Frame) -> Result<Option<bool>, SqlError> {
        match self {
            Self::Compare(comparison, order, sides) => sides.0.with(row, frame, |a| {
                sides.1.with(row, frame, |b| {
                    (!a.is_null() && !b.is_null()).then(|| comparison.holds(keys::compare(a, b, *order)))
                })
            })?,
            Self::And(parts) => {
                let mut known = true;
                for part in parts {
                    match part.test(row, frame)? {
                        Some(false) => return Ok(Some(false)),
                        None => known = false,
                        Some(true) => {}
                    }
                }
                Ok(known.then_some(true))
            }
            Self::Or(parts) => {
                let mut known = true;
                for part in parts {
                    match part.test(row, frame)? {
                        Some(true) => return Ok(Some(true)),
                        None => known = false,
                        Some(false) => {}
                    }
                }
                Ok(known.then_some(false))
            }
            Self::Not(inner) => Ok(inner.test(row, frame)?.map(|value| !value)),
            Self::IsNull(inner, negated) => inner.with(row, frame, |value| Some(value.is_null() != *negated)),
            other => other.with(row, frame, truth),
        }
    }

    pub(crate) fn eval(&self, row: &[Value], frame: &Frame) -> Result<Value, SqlError> {
        match self {
            Self::Const(value) => Ok(value.clone()),
            Self::Column(index) => Ok(row.get(*index).cloned().unwrap_or(Value::Null)),
            Self::Outer { level, index } => Ok(frame.value(*level, *index).cloned().unwrap_or(Value::Null)),
            Self::Pending(_) => Ok(Value::Null),
            Self::Strict(function, arguments) => match arguments.as_slice() {
                [one] => {
                    let value = one.eval(row, frame)?;
                    if value.is_null() { Ok(Value::Null) } else { function(&[value]) }
                }
                [one, two] => {
                    let values = [one.eval(row, frame)?, two.eval(row, frame)?];
                    if values.iter().any(Value::is_null) { Ok(Value::Null) } else { function(&values) }
                }
                many => {
                    let values =
                        many.iter().map(|one| one.eval(row, frame)).collect::<Result<Vec<_>, _>>()?;
                    if values.iter().any(Value::is_null) { Ok(Value::Null) } else { function(&values) }
                }
            },
            Self::Call(function, arguments) => {
                let values =
                    arguments.iter().map(|one| one.eval(row, frame)).collect::<Result<Vec<_>, _>>()?;
                function(&values)
            }
            Self::Compare(..) | Self::And(_) | Self::Or(_) | Self::Not(_) | Self::IsNull(..) => {
                self.test(row, frame).map(of_truth)
            }
            Self::Case { branches, otherwise } => {
                for (condition, result) in branches {
                    if condition.test(row, frame)? == Some(true) {
                        return result.eval(row, frame);
                    }
                }
                otherwise.eval(row, frame)
            }
            Self::Coalesce(parts) => {
                for part in parts {
                    let value = part.eval(row, frame)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Value::Null)
            }
            Self::InList { operand, list, order, negated, keys: set } => {
                in_list(operand, list, *order, *negated, set, row, frame)
            }
            Self::InSubquery { operand, subquery, order, negated } => {
                let operand = operand.eval(row, frame)?;
                let found = subquery.with(row, frame, *order, usize::MAX, |answer| {
                    if answer.values.is_empty() {
                        return Ok(Some(false));
                    }
                    if operand.is_null() {
                        return Ok(None);
                    }
                    let mut key = KeyBytes::new();
                    keys::push_key(&mut key, &operand, *order);
                    Ok(if answer.keys.contains(&key) {
                        Some(true)
                    } else {
                        (!answer.has_null).then_some(false)
                    })
                })?;
                Ok(of_truth(found.map(|found| found != *negated)))
            }
            Self::Quantified { operand, subquery, comparison, order, all } => {
                let operand = operand.eval(row, frame)?;
                let found = subquery.with(row, frame, *order, usize::MAX, |answer| {
                    let mut known = true;
                    for value in &answer.values {
                        if value.is_null() || operand.is_null() {
                            known = false;
                        } else if comparison.holds(keys::compare(&operand, value, *order)) != *all {
                            return Ok(Some(!*all));
                        }
                    }
                    Ok(known.then_some(*all))
                })?;
                Ok(of_truth(found))
            }
            Self::Scalar(subquery) => {
                let order = Order::Bytes;
                subquery.with(row, frame, order, 2, |answer| match answer.values.as_slice() {
                    [] => Ok(Value::Null),
                    [one] => Ok(one.clone()),
                    _ => Err(subquery.many.clone()),
                })
            }
            Self::Exists(subquery, negated) => subquery.with(row, frame, Order::Bytes, 1, |answer| {
                Ok(Value::Bool(answer.values.is_empty() == *negated))
            }),
            Self::Try(inner) => Ok(inner.eval(row, frame).unwrap_or(Value::Null)),
        }
    }

    /// Visits the expression and everything below it, but not its subqueries.
    pub(crate) fn walk_mut(&mut self, visit: &mut impl FnMut(&mut Expr)) {
        visit(self);
        match self {
            Self::Const(_) | Self::Column(_) | Self::Outer { .. } | Self::Pending(_) => {}
            Self::Strict(_, parts) | Self::Call(_, parts) | Self::And(parts) | Self::Or(parts) => {
                parts.iter_mut().for_each(|part| part.walk_mut(visit));
            }
            Self::Coalesce(parts) => parts.iter_mut().for_each(|part| part.walk_mut(visit)),
            Self::Compare(_, _, sides) => {
                sides.0.walk_mut(visit);
                sides.1.walk_mut(visit);
            }
            Self::Not(inner) | Self::IsNull(inner, _) | Self::Try(inner) => inner.walk_mut(visit),
            Self::Case { branches, otherwise } => {
                for (condition, result) in branches {
                    condition.walk_mut(visit);
                    result.walk_mut(visit);
                }
                otherwise.walk_mut(visit);
            }
            Self::InList { operand, list, .. } => {
                operand.walk_mut(visit);
                list.iter_mut().for_each(|part| part.walk_mut(visit));
            }
            Self::InSubquery { operand, .. } | Self::Quantified { operand, .. } => operand.walk_mut(visit),
            Self::Scalar(_) | Self::Exists(..) => {}
        }
    }

    /// Whether every part is already known, so that it can be computed once.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self, Self::Const(_))
    }
}

fn in_list(
    operand: &Expr,
    list: &[Expr],
    order: Order,
    negated: bool,
    set: &OnceLock<HashSet<KeyBytes>>,
    row: &[Value],
    frame: &Frame,
) -> Result<Value, SqlError> {
    let operand = operand.eval(row, frame)?;
    if operand.is_null() {
        return Ok(Value::Null);
    }
    let key_of = |value: &Value| {
        let mut key = KeyBytes::new();
        keys::push_key(&mut key, value, order);
        key
    };
    if list.len() > 8 && list.iter().all(Expr::is_constant) {
        let keys = set.get_or_init(|| {
            list.iter()
                .filter_map(|item| if let Expr::Const(value) = item { Some(key_of(value)) } else { None })
                .collect()
        });
        if keys.contains(&key_of(&operand)) {
            return Ok(Value::Bool(!negated));
        }
        let unknown = keys.contains(&key_of(&Value::Null));
        return Ok(if unknown { Value::Null } else { Value::Bool(negated) });
    }
    let mut unknown = false;
    for item in list {
        let found = item.with(row, frame, |item| {
            (!item.is_null()).then(|| keys::compare(&operand, item, order) == Ordering::Equal)
        })?;
        match found {
            Some(true) => return Ok(Value::Bool(!negated)),
            Some(false) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { Value::Null } else { Value::Bool(negated) })
}
