//! Source against target: the SQL that each side recomputes its witness with, and the verdict.
//!
//! The source is asked inside the chunk's own transaction, the target over the staging table before it is
//! published.

mod gaps;
mod keys;
mod source_sql;
mod target_sql;

use std::fmt;

pub(crate) use gaps::words;
pub use gaps::{gaps, hashes_possible};
pub(crate) use keys::{target_literal, unordered};
pub use source_sql::source_sql;
pub use target_sql::target_sql;
pub(crate) use target_sql::{chunk_condition, chunks_sql, extremes_sql, files_sql, ranged_sql};

pub use crate::witness::Level;

use crate::{
    model::{ColumnPlan, KeyRange, TableName, TablePlan},
    witness::{Difference, Observed, ObservedColumn, Side, Witness, WitnessError, compare},
};

/// The rows that were compared do not agree. The target was left as it was.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{table} is not the same on both sides in {chunk} ({range}):{differences}{hint}{detail}")]
pub struct Mismatch {
    /// The source table.
    pub table: TableName,
    /// The chunk with its number, or all of them.
    pub chunk: String,
    /// Its key range.
    pub range: KeyRange,
    /// All that differs.
    pub differences: Differences,
    /// What else may explain it.
    pub hint: &'static str,
    /// More about the place, and what to do next.
    pub detail: String,
}

/// Differences, a line each; the first ten are shown.
#[derive(Clone, Debug)]
pub struct Differences(pub Vec<Difference>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        for difference in self.0.iter().take(SHOWN) {
            write!(f, "\n  {difference}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

const HIDDEN_ROWS: &str = "\nIf a row access or masking policy lies on the target, the loader's role may not see what it loaded: \
                           check POLICY_REFERENCES, and exempt the role.";

const NOT_COMMITTED: &str = "\nWhat was read is not what the source says it has in the same transaction. The chunk was \
                             not committed and the target was not touched; running again reads the chunk anew.";

/// Compares what passed through the loader with what the source says about the same range.
pub fn check_source(
    table: &TablePlan,
    chunk: u32,
    range: &KeyRange,
    loader: &Witness,
    server: &Observed,
) -> Result<(), Mismatch> {
    let differences = compare(Side::Source, &table.columns, loader, server);
    verdict(table, format!("chunk {chunk}"), range.clone(), differences, NOT_COMMITTED)
}

/// Compares the sum of all chunks with what the target says about a whole table.
pub fn check_target(table: &TablePlan, loader: &Witness, server: &Observed) -> Result<(), Mismatch> {
    let differences = compare(Side::Target, &table.columns, loader, server);
    let fewer = server.rows < loader.rows
        || server.columns.iter().zip(&loader.columns).any(|(theirs, mine)| theirs.count < mine.count);
    verdict(
        table,
        "all chunks together".into(),
        KeyRange::default(),
        differences,
        if fewer { HIDDEN_ROWS } else { "" },
    )
}

/// The smallest and largest floats that passed through the loader, by the column's place. Below 2.2e-308 Snowflake's
/// reading of a literal is not documented: such a column keeps the first look only.
pub(crate) fn extremes(loader: &Witness) -> Vec<(usize, (f64, f64))> {
    let columns = loader.columns.iter().enumerate();
    let named = |value: f64| value == 0.0 || value.is_normal();
    columns
        .filter_map(|(index, column)| column.extremes.map(|extremes| (index, extremes)))
        .filter(|(_, (low, high))| named(*low) && named(*high))
        .collect()
}

/// Reads the answer to [`extremes_sql`]: two verdicts for each column.
pub(crate) fn check_extremes(
    table: &TablePlan,
    extremes: &[(usize, (f64, f64))],
    answer: &[Option<String>],
) -> Result<(), Mismatch> {
    let agrees = |at: usize| matches!(answer.get(at).and_then(Option::as_deref), Some("1" | "true" | "TRUE"));
    let mut differences = Vec::new();
    for (at, (index, (low, high))) in extremes.iter().enumerate() {
        for (at, measure, value) in [(at * 2, "smallest", low), (at * 2 + 1, "largest", high)] {
            if !agrees(at) {
                differences.push(Difference {
                    side: Side::Target,
                    column: table.columns.get(*index).map(|column| column.target_name.clone()),
                    measure,
                    loader: format!("{value:e}"),
                    server: "another value, equal in its first 14 digits".into(),
                });
            }
        }
    }
    verdict(table, "all chunks together".into(), KeyRange::default(), differences, "")
}

fn verdict(
    table: &TablePlan,
    chunk: String,
    range: KeyRange,
    differences: Vec<Difference>,
    hint: &'static str,
) -> Result<(), Mismatch> {
    if differences.is_empty() {
        Ok(())
    } else {
        let differences = Differences(differences);
        Err(Mismatch { table: table.source.clone(), chunk, range, differences, hint, detail: String::new() })
    }
}

/// Reads a server's answer to [`source_sql`] or [`target_sql`].
pub fn observed(
    side: Side,
    level: Level,
    columns: &[ColumnPlan],
    rows: &[Vec<Option<String>>],
) -> Result<Observed, WitnessError> {
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let mut values = row.iter().map(Option::as_deref);
    let mut next = || values.next().flatten();
    let count = |text: Option<&str>| {
        let unreadable = || WitnessError::Number {
            what: format!("a count from {side}"),
            text: text.unwrap_or("nothing").chars().take(48).collect(),
        };
        text.and_then(|t| t.parse::<u64>().ok()).ok_or_else(unreadable)
    };
    let mut observed = Observed { rows: count(next())?, columns: Vec::new() };
    if level == Level::Counts {
        return Ok(observed);
    }
    for column in columns {
        let mut found = ObservedColumn { count: count(next())?, ..ObservedColumn::default() };
        for measure in side.measures(column, level) {
            found.sums.push(measure.read(&mut next)?);
        }
        if side == Side::Target && target_sql::has_extremes(column) {
            let (low, high) = (next(), next());
            found.extremes = float(low)?.zip(float(high)?);
        }
        observed.columns.push(found);
    }
    Ok(observed)
}

fn float(text: Option<&str>) -> Result<Option<f64>, WitnessError> {
    let Some(text) = text else { return Ok(None) };
    let number = text.parse().map_err(|_| WitnessError::Number {
        what: "a float from Snowflake".into(),
        text: text.chars().take(48).collect(),
    })?;
    Ok(Some(number))
}

#[cfg(test)]
mod tests;
