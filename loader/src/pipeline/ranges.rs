//! Ranges of a key inside a range of the plan, as both servers understand them.

use super::Failure;
use crate::{
    model::{KeyColumn, KeyRange, TablePlan, bracketed, quoted},
    plan::{literal::literal, sql},
    tds::Connection,
    verify::target_literal,
};

/// One key value, in the words of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    source: String,
    target: String,
}

/// From `lower` (inside) to `upper` (outside); open where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) lower: Option<Bound>,
    pub(super) upper: Option<Bound>,
}

impl Part {
    /// The parts between these bounds, which lie inside and ascend.
    pub(super) fn cut(&self, bounds: Vec<Bound>) -> Vec<Self> {
        let mut lower = self.lower.clone();
        let mut parts = Vec::with_capacity(bounds.len() + 1);
        for bound in bounds {
            parts.push(Self { lower: lower.replace(bound.clone()), upper: Some(bound) });
        }
        parts.push(Self { lower, upper: self.upper.clone() });
        parts
    }

    /// NULL keys belong to what is open below.
    fn condition(&self, column: &str, nullable: bool, side: impl Fn(&Bound) -> &str) -> Option<String> {
        let (lower, upper) = (self.lower.as_ref().map(&side), self.upper.as_ref().map(&side));
        match (lower, upper) {
            (None, None) => None,
            (Some(lower), None) => Some(format!("{column} >= {lower}")),
            (None, Some(upper)) if nullable => Some(format!("({column} < {upper} OR {column} IS NULL)")),
            (None, Some(upper)) => Some(format!("{column} < {upper}")),
            (Some(lower), Some(upper)) => Some(format!("{column} >= {lower} AND {column} < {upper}")),
        }
    }
}

/// The key of a table, and the rows that are searched.
#[derive(Debug)]
pub(super) struct Ranges<'a> {
    plan: &'a TablePlan,
    key: &'a KeyColumn,
    /// The key's name at the target.
    target_key: String,
    /// The rows at the source.
    range: &'a KeyRange,
    /// The rows at the target: those of one chunk's files, or all.
    scope: Option<String>,
}

impl<'a> Ranges<'a> {
    /// None when the key's column does not cross.
    pub(super) fn new(plan: &'a TablePlan, range: &'a KeyRange, scope: Option<String>) -> Option<Self> {
        let key = plan.key.as_ref()?;
        let target_key = quoted(&plan.columns.iter().find(|c| c.source_name == key.name)?.target_name);
        Some(Self { plan, key, target_key, range, scope })
    }

    /// ` WHERE …` at the source.
    fn source_condition(&self, part: &Part) -> String {
        let column = bracketed(&self.key.name);
        let outer = sql::where_clause(self.plan, self.range);
        match part.condition(&column, self.key.nullable, |bound| &bound.source) {
            None => outer,
            Some(inner) if outer.is_empty() => format!(" WHERE {inner}"),
            Some(inner) => format!("{outer} AND {inner}"),
        }
    }

    /// The condition at the target. What lies outside the chunk's own range, yet came with its files, is in the first
    /// or the last part.
    pub(super) fn target_condition(&self, part: &Part) -> Option<String> {
        let inner = part.condition(&self.target_key, self.key.nullable, |bound| &bound.target);
        match (&self.scope, inner) {
            (Some(scope), Some(inner)) => Some(format!("{scope} AND {inner}")),
            (scope, inner) => scope.clone().or(inner),
        }
    }

    /// The planned columns of a part's rows.
    pub(super) fn select(&self, part: &Part) -> String {
        let columns: Vec<_> = self.plan.columns.iter().map(|c| bracketed(&c.source_name)).collect();
        let (table, condition) = (self.plan.source.sql(), self.source_condition(part));
        format!("SELECT {} FROM {table}{condition}", columns.join(", "))
    }

    /// Keys inside a part that cut it into at most `parts` of as many rows each.
    pub(super) async fn bounds(
        &self,
        connection: &mut Connection,
        part: &Part,
        parts: u64,
    ) -> Result<Vec<Bound>, Failure> {
        let (table, condition) = (self.plan.source.sql(), self.source_condition(part));
        let counted = connection.fetch_text(&format!("SELECT COUNT_BIG(*) FROM {table}{condition}")).await?;
        let rows = value(&counted, 0, 0).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let step = rows.div_ceil(parts).max(1);
        let key = bracketed(&self.key.name);
        let quantiles = format!(
            "SELECT q.k FROM (SELECT {key} AS k, ROW_NUMBER() OVER (ORDER BY {key}) AS n FROM {table}{condition}) AS q \
             WHERE (q.n - 1) % {step} = 0 ORDER BY q.k"
        );
        let mut bounds: Vec<Bound> = Vec::new();
        let keys = connection.fetch_text(&quantiles).await?;
        let smallest = value(&keys, 0, 0).map(str::to_owned);
        for row in 0..keys.len() {
            let Some(bound) = value(&keys, row, 0).filter(|text| Some(*text) != smallest.as_deref()) else {
                continue;
            };
            let Some(bound) = self.bound(bound) else { continue };
            if bounds.last() != Some(&bound) && part.lower.as_ref() != Some(&bound) {
                bounds.push(bound);
            }
        }
        Ok(bounds)
    }

    fn bound(&self, text: &str) -> Option<Bound> {
        let source = literal(self.key.source, None, text)?;
        Some(Bound { source, target: target_literal(self.key.source, text)? })
    }

    /// A part as the plan writes ranges.
    pub(super) fn range(&self, part: &Part) -> KeyRange {
        let bound = |bound: &Option<Bound>, outer: &Option<String>| {
            bound.as_ref().map(|b| b.source.clone()).or_else(|| outer.clone())
        };
        KeyRange {
            column: Some(self.key.name.clone()),
            lower: bound(&part.lower, &self.range.lower),
            upper: bound(&part.upper, &self.range.upper),
        }
    }

    /// A part in words, with the one key that it has, if it has one.
    pub(super) async fn describe(&self, connection: &mut Connection, part: &Part) -> Result<String, Failure> {
        let key = bracketed(&self.key.name);
        let question = format!(
            "SELECT COUNT_BIG(*), MIN({key}), MAX({key}) FROM {}{}",
            self.plan.source.sql(),
            self.source_condition(part)
        );
        let answer = connection.fetch_text(&question).await?;
        let rows = value(&answer, 0, 0).unwrap_or("0");
        Ok(match (value(&answer, 0, 1), value(&answer, 0, 2)) {
            (Some(low), Some(high)) if low == high => {
                format!("{} = {low} ({rows} rows at the source)", self.key.name)
            }
            (Some(low), Some(high)) => {
                format!("{} from {low} to {high} ({rows} rows at the source)", self.key.name)
            }
            _ => format!("{} ({rows} rows at the source)", self.range(part)),
        })
    }
}

fn value(rows: &[Vec<Option<String>>], row: usize, column: usize) -> Option<&str> {
    rows.get(row)?.get(column)?.as_deref()
}
