//! Joins: by hash where equalities were found, else row by row; and APPLY.

use std::{collections::HashMap, collections::HashSet, sync::Arc};

use crate::{
    error::SqlError,
    exec::{Plan, RowIter, open},
    expr::{Expr, Frame},
    keys::{self, KeyBytes, Order},
    value::{Row, Value},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Inner,
    Left,
    Right,
    Full,
}

pub(crate) struct Join {
    pub left: Arc<Plan>,
    pub right: Arc<Plan>,
    pub kind: Kind,
    pub left_width: usize,
    pub right_width: usize,
    /// Pairs that must be equal: an expression over the left row, one over the right row.
    pub equalities: Vec<(Expr, Expr, Order)>,
    /// The rest of the condition, over the joined row.
    pub residual: Option<Expr>,
    /// The right side is run anew for each left row, which it sees as its outer row.
    pub apply: bool,
}

fn joined(left: &[Value], right: &[Value]) -> Row {
    left.iter().chain(right).cloned().collect()
}

impl Join {
    /// Streams the left side against the right side, which is held.
    pub(crate) fn open(&self, plan: &Arc<Plan>, frame: &Frame) -> Result<RowIter, SqlError> {
        let left = open(&self.left, frame)?;
        if self.apply {
            return Ok(self.apply(plan, left, frame));
        }
        let held: Arc<Vec<Row>> = Arc::new(open(&self.right, frame)?.collect::<Result<_, _>>()?);
        let mut table: HashMap<KeyBytes, Vec<usize>> = HashMap::new();
        if !self.equalities.is_empty() {
            for (at, row) in held.iter().enumerate() {
                if let Some(key) = self.key(row, frame, false)? {
                    table.entry(key).or_default().push(at);
                }
            }
        }
        let (plan, frame) = (Arc::clone(plan), frame.clone());
        let all: Arc<Vec<usize>> = Arc::new((0..held.len()).collect());
        let mut matched: HashSet<usize> = HashSet::new();
        let mut left = Some(left);
        let mut ready: std::collections::VecDeque<Row> = std::collections::VecDeque::new();
        Ok(Box::new(std::iter::from_fn(move || {
            let Plan::Join(join) = plan.as_ref() else { return None };
            loop {
                if let Some(row) = ready.pop_front() {
                    return Some(Ok(row));
                }
                let source = left.as_mut()?;
                let Some(row) = source.next() else {
                    left = None;
                    if matches!(join.kind, Kind::Right | Kind::Full) {
                        let nulls = vec![Value::Null; join.left_width];
                        ready.extend(
                            held.iter()
                                .enumerate()
                                .filter(|(at, _)| !matched.contains(at))
                                .map(|(_, row)| joined(&nulls, row)),
                        );
                        left = Some(Box::new(std::iter::empty()));
                        matched.extend(0..held.len());
                        if !ready.is_empty() {
                            continue;
                        }
                    }
                    return None;
                };
                let step = row.and_then(|row| {
                    join.match_row(&row, &held, &table, &all, &frame, &mut matched, &mut ready)
                });
                if let Err(error) = step {
                    left = None;
                    return Some(Err(error));
                }
            }
        })))
    }

    #[allow(clippy::too_many_arguments)]
    fn match_row(
        &self,
        row: &Row,
        held: &[Row],
        table: &HashMap<KeyBytes, Vec<usize>>,
        all: &[usize],
        frame: &Frame,
        matched: &mut HashSet<usize>,
        ready: &mut std::collections::VecDeque<Row>,
    ) -> Result<(), SqlError> {
        let found: &[usize] = if self.equalities.is_empty() {
            all
        } else {
            self.key(row, frame, true)?.and_then(|key| table.get(&key)).map_or(&[], Vec::as_slice)
        };
        let mut any = false;
        for at in found {
            let both = joined(row, &held[*at]);
            let holds = match &self.residual {
                None => true,
                Some(residual) => residual.test(&both, frame)? == Some(true),
            };
            if holds {
                any = true;
                if matches!(self.kind, Kind::Right | Kind::Full) {
                    matched.insert(*at);
                }
                ready.push_back(both);
            }
        }
        if !any && matches!(self.kind, Kind::Left | Kind::Full) {
            ready.push_back(joined(row, &vec![Value::Null; self.right_width]));
        }
        Ok(())
    }

    fn key(&self, row: &[Value], frame: &Frame, left: bool) -> Result<Option<KeyBytes>, SqlError> {
        let mut key = KeyBytes::new();
        for (a, b, order) in &self.equalities {
            let value = if left { a } else { b }.eval(row, frame)?;
            if value.is_null() {
                return Ok(None);
            }
            keys::push_key(&mut key, &value, *order);
        }
        Ok(Some(key))
    }

    fn apply(&self, plan: &Arc<Plan>, left: RowIter, frame: &Frame) -> RowIter {
        let (plan, frame) = (Arc::clone(plan), frame.clone());
        Box::new(left.flat_map(move |row| -> RowIter {
            let Plan::Join(join) = plan.as_ref() else { return Box::new(std::iter::empty()) };
            let run = || -> Result<Vec<Row>, SqlError> {
                let row = row?;
                let mut out = Vec::new();
                for right in open(&join.right, &frame.push(row.clone()))? {
                    let both = joined(&row, &right?);
                    let holds = match &join.residual {
                        None => true,
                        Some(residual) => residual.test(&both, &frame)? == Some(true),
                    };
                    if holds {
                        out.push(both);
                    }
                }
                if out.is_empty() && join.kind == Kind::Left {
                    out.push(joined(&row, &vec![Value::Null; join.right_width]));
                }
                Ok(out)
            };
            match run() {
                Ok(rows) => Box::new(rows.into_iter().map(Ok)),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        }))
    }
}
