//! The loader's own witness: while rows pass it keeps, for each chunk and column, aggregates in the source's
//! terms and in the target's terms. Each side recomputes its own, and no canonical text of a value is needed.
//!
//! Sums are exact: 256 bits hold 38 digits times more rows than there are.

mod add;
mod compare;
pub(crate) mod hash;
mod level;
mod measure;
mod stored;

use arrow_buffer::i256;
pub use compare::{Difference, Limbs, Observed, ObservedColumn, Side, compare};
pub use level::Level;
pub use measure::{Measure, source_digest, source_measure, target_digest, target_measure};

use crate::{extract::Decoded, model::ColumnPlan};

/// Why a witness could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A batch is not what the plan says.
    #[error(
        "column {column} came as {found}, the plan says {planned}; this is a fault in the loader, please report it"
    )]
    Shape {
        /// The source column.
        column: String,
        /// The Arrow type that came.
        found: String,
        /// The source type that was planned.
        planned: String,
    },
    /// A stored witness or a server's sum is not a number.
    #[error("cannot read {what}: `{text}` is no number of the expected form")]
    Number {
        /// Where it came from.
        what: String,
        /// The text, shortened.
        text: String,
    },
    /// A stored witness belongs to other columns.
    #[error("the ledger's witness does not fit the plan: {0}; the chunk must be loaded again")]
    Stored(String),
}

/// What one column adds up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnWitness {
    /// Values that are not NULL.
    pub count: u64,
    /// The sums of [`source_measure`], in its order; at the level `hashes` those of [`source_digest`] follow.
    pub source: Vec<i256>,
    /// The sums of [`target_measure`], in its order; at the level `hashes` those of [`target_digest`] follow.
    pub target: Vec<i256>,
    /// Smallest and largest of a float column.
    pub extremes: Option<(f64, f64)>,
}

/// What one chunk, or several merged, add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Witness {
    /// Rows.
    pub rows: u64,
    /// What it was kept for; sums are kept at `counts` too.
    pub level: Level,
    /// One for each planned column.
    pub columns: Vec<ColumnWitness>,
}

impl Witness {
    /// A witness of no rows.
    pub fn new(columns: &[ColumnPlan], level: Level) -> Self {
        let empty = |column: &ColumnPlan| ColumnWitness {
            source: vec![i256::ZERO; Side::Source.measures(column, level).len()],
            target: vec![i256::ZERO; Side::Target.measures(column, level).len()],
            ..ColumnWitness::default()
        };
        Self { rows: 0, level, columns: columns.iter().map(empty).collect() }
    }

    /// Adds a batch.
    pub fn add(&mut self, columns: &[ColumnPlan], decoded: &Decoded) -> Result<(), WitnessError> {
        self.rows += decoded.batch.num_rows() as u64;
        for (index, (witness, column)) in self.columns.iter_mut().zip(columns).enumerate() {
            let bytes = decoded.source_bytes.get(index).copied().unwrap_or(0);
            add::column(witness, column, self.level, decoded.batch.column(index).as_ref(), bytes)?;
        }
        Ok(())
    }

    /// Adds another witness of the same columns. The sum is of the lower level of both.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.level = self.level.min(other.level);
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            mine.count += theirs.count;
            mine.source.truncate(theirs.source.len());
            mine.target.truncate(theirs.target.len());
            add_all(&mut mine.source, &theirs.source);
            add_all(&mut mine.target, &theirs.target);
            mine.extremes = match (mine.extremes, theirs.extremes) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            };
        }
    }

    /// The text that the ledger keeps.
    pub fn to_json(&self) -> String {
        stored::to_json(self)
    }

    /// Reads the ledger's text back; it must fit the plan's columns.
    pub fn from_json(columns: &[ColumnPlan], text: &str) -> Result<Self, WitnessError> {
        stored::from_json(columns, text)
    }
}

fn add_all(into: &mut [i256], from: &[i256]) {
    for (sum, other) in into.iter_mut().zip(from) {
        *sum = sum.wrapping_add(*other);
    }
}

#[cfg(test)]
mod tests;
