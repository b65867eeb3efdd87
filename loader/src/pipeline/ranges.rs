//! Ranges of a key's column inside a range of the plan, as both servers understand them.

use super::Failure;
use crate::{
    model::{self, KeyColumn, KeyPart, KeyRange, TablePlan, bracketed, quoted},
    plan::{literal::literal, sql},
    tds::Connection,
    verify::{target_literal, unordered},
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

/// The columns by which a place can be searched, those first that the range was cut by; or why there is none.
pub(super) fn searchable<'a>(plan: &'a TablePlan, range: &KeyRange) -> Result<Vec<&'a KeyColumn>, String> {
    let bound = range.lower.as_ref().or(range.upper.as_ref());
    let cut_by =
        |key: &KeyColumn| bound.is_none_or(|bound| bound.0.iter().any(|part| part.column == key.name));
    let mut keys: Vec<&KeyColumn> = plan.keys.iter().filter(|key| cut_by(key)).collect();
    keys.extend(plan.keys.iter().filter(|key| !cut_by(key)));
    let Some(first) = keys.first().copied() else {
        return Err("The table has no key, so the place inside is not known.".into());
    };
    let crosses = |key: &KeyColumn| plan.columns.iter().any(|column| column.source_name == key.name);
    keys.retain(|key| unordered(key.source).is_none() && crosses(key));
    if !keys.is_empty() {
        return Ok(keys);
    }
    let why = unordered(first.source).unwrap_or("it does not cross");
    Err(format!("The key {} is {}, and {why}: it is not searched by ranges.", first.name, first.source))
}

/// One column of a key, and the rows among which it is searched.
#[derive(Clone, Debug)]
pub(super) struct Ranges<'a> {
    plan: &'a TablePlan,
    key: &'a KeyColumn,
    /// The key's name at the target.
    target_key: String,
    /// ` WHERE …` of the rows at the source.
    outer: String,
    /// The rows at the target: those of one chunk's files, or all.
    scope: Option<String>,
    /// The columns before this one, each with its only value.
    before: Vec<KeyPart>,
    /// The range of the plan.
    range: KeyRange,
}

impl<'a> Ranges<'a> {
    /// The rows of a range by one of the [`searchable`] columns.
    pub(super) fn new(
        plan: &'a TablePlan,
        key: &'a KeyColumn,
        range: &KeyRange,
        scope: Option<String>,
    ) -> Self {
        let outer = sql::where_clause(plan, range);
        let this = Self {
            plan,
            key,
            target_key: String::new(),
            outer,
            scope,
            before: Vec::new(),
            range: range.clone(),
        };
        this.by(key)
    }

    fn by(self, key: &'a KeyColumn) -> Self {
        let column = self.plan.columns.iter().find(|column| column.source_name == key.name);
        let target_key = quoted(column.map_or(&key.name, |column| &column.target_name));
        Self { key, target_key, ..self }
    }

    /// The rows of a part that has one value of this column, by another column.
    pub(super) fn inside(&self, part: &Part, value: String, key: &'a KeyColumn) -> Self {
        let mut before = self.before.clone();
        before.push(KeyPart { column: self.key.name.clone(), value });
        let (outer, scope) = (self.source_condition(part), self.target_condition(part));
        Self { outer, scope, before, ..self.clone() }.by(key)
    }

    /// ` WHERE …` at the source.
    fn source_condition(&self, part: &Part) -> String {
        match part.condition(&bracketed(&self.key.name), self.key.nullable, |bound| &bound.source) {
            None => self.outer.clone(),
            Some(inner) if self.outer.is_empty() => format!(" WHERE {inner}"),
            Some(inner) => format!("{} AND {inner}", self.outer),
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
        let keys = connection.fetch_text(&quantiles).await?;
        let smallest = value(&keys, 0, 0);
        let mut bounds: Vec<Bound> = Vec::new();
        for row in 0..keys.len() {
            let text = value(&keys, row, 0).filter(|text| Some(*text) != smallest);
            let Some(bound) = text.and_then(|text| self.bound(text)) else { continue };
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
        let bound = |bound: &Option<Bound>, outer: &Option<model::Bound>| match bound {
            Some(bound) => {
                let mut parts = self.before.clone();
                parts.push(KeyPart { column: self.key.name.clone(), value: bound.source.clone() });
                Some(model::Bound(parts))
            }
            None => outer.clone(),
        };
        KeyRange {
            lower: bound(&part.lower, &self.range.lower),
            upper: bound(&part.upper, &self.range.upper),
        }
    }

    /// A part in words, and the literal of its only key, if it has one and more rows than one.
    pub(super) async fn describe(
        &self,
        connection: &mut Connection,
        part: &Part,
    ) -> Result<(String, Option<String>), Failure> {
        let key = bracketed(&self.key.name);
        let question = format!(
            "SELECT COUNT_BIG(*), MIN({key}), MAX({key}) FROM {}{}",
            self.plan.source.sql(),
            self.source_condition(part)
        );
        let answer = connection.fetch_text(&question).await?;
        let rows = value(&answer, 0, 0).unwrap_or("0");
        let before: String =
            self.before.iter().flat_map(|part| [&part.column, " = ", &part.value, ", "]).collect();
        let name = &self.key.name;
        Ok(match (value(&answer, 0, 1), value(&answer, 0, 2)) {
            (Some(low), Some(high)) if low == high => {
                let only = if rows == "1" { None } else { literal(self.key.source, None, low) };
                (format!("{before}{name} = {low} ({rows} rows at the source)"), only)
            }
            (Some(low), Some(high)) => {
                (format!("{before}{name} from {low} to {high} ({rows} rows at the source)"), None)
            }
            _ => (format!("{} ({rows} rows at the source)", self.range(part)), None),
        })
    }
}

fn value(rows: &[Vec<Option<String>>], row: usize, column: usize) -> Option<&str> {
    rows.get(row)?.get(column)?.as_deref()
}
