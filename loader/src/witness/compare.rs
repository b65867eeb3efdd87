//! A server's own aggregates, and how they differ from the loader's.

use std::fmt;

use arrow_buffer::i256;

use super::{
    ColumnWitness, Level, Measure, Witness, WitnessError, source_digest, source_measure, stored::unscaled,
    target_digest, target_measure,
};
use crate::model::ColumnPlan;

/// Which server was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// SQL Server.
    Source,
    /// Snowflake.
    Target,
}

impl Side {
    /// The sums that this side has of a column.
    pub fn measures(self, column: &ColumnPlan, level: Level) -> Vec<Measure> {
        let (sums, digests) = match self {
            Self::Source => (source_measure(column.source), source_digest(column.source)),
            Self::Target => (target_measure(column.source), target_digest(column.source)),
        };
        let digests = if level == Level::Hashes { digests } else { &[] };
        [sums, digests].concat()
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "SQL Server",
            Self::Target => "Snowflake",
        })
    }
}

/// What a server says about one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedColumn {
    /// Values that are not NULL.
    pub count: u64,
    /// In the order of [`Side::measures`].
    pub sums: Vec<i256>,
    /// Smallest and largest of a float column, from the target only.
    pub extremes: Option<(f64, f64)>,
}

/// What a server says about a range of rows. At the level `counts` it has no columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Rows.
    pub rows: u64,
    /// One for each planned column, or none.
    pub columns: Vec<ObservedColumn>,
}

impl Observed {
    /// What a server says of no rows.
    pub fn of_nothing(columns: &[ColumnPlan], level: Level) -> Self {
        let column = |column: &ColumnPlan| ObservedColumn {
            sums: vec![i256::ZERO; Side::Target.measures(column, level).len()],
            ..ObservedColumn::default()
        };
        let columns = if level == Level::Counts { &[] } else { columns };
        Self { rows: 0, columns: columns.iter().map(column).collect() }
    }
}

/// One thing that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Who was asked.
    pub side: Side,
    /// The column, by its name on that side; none for the count of rows.
    pub column: Option<String>,
    /// What was compared.
    pub measure: &'static str,
    /// What passed through the loader.
    pub loader: String,
    /// What the server says.
    pub server: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, measure, loader, server, .. } = self;
        if let Some(column) = &self.column {
            write!(f, "column {column}: ")?;
        }
        write!(f, "{measure}: {loader} passed through the loader, {side} has {server}")
    }
}

/// Everything on which the loader and a server disagree; empty when they agree.
pub fn compare(side: Side, columns: &[ColumnPlan], loader: &Witness, server: &Observed) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |column: Option<&ColumnPlan>, measure, loader: String, server: String| {
        let column = column.map(|c| match side {
            Side::Source => c.source_name.clone(),
            Side::Target => c.target_name.clone(),
        });
        found.push(Difference { side, column, measure, loader, server });
    };
    if loader.rows != server.rows {
        differ(None, "rows", loader.rows.to_string(), server.rows.to_string());
    }
    for ((plan, mine), theirs) in columns.iter().zip(&loader.columns).zip(&server.columns) {
        if mine.count != theirs.count {
            differ(Some(plan), "values that are not NULL", mine.count.to_string(), theirs.count.to_string());
        }
        let sums = match side {
            Side::Source => &mine.source,
            Side::Target => &mine.target,
        };
        for ((measure, mine), theirs) in side.measures(plan, loader.level).iter().zip(sums).zip(&theirs.sums)
        {
            if mine != theirs {
                differ(Some(plan), measure.name(), print(*measure, *mine), print(*measure, *theirs));
            }
        }
        if side == Side::Target && !same_extremes(mine, theirs.extremes) {
            let print =
                |e: Option<(f64, f64)>| e.map_or("none".into(), |(low, high)| format!("{low:e} to {high:e}"));
            differ(Some(plan), "smallest and largest", print(mine.extremes), print(theirs.extremes));
        }
    }
    found
}

/// Snowflake prints a float with as few as 15 digits: a first look, before Snowflake itself compares all of them.
fn same_extremes(mine: &ColumnWitness, theirs: Option<(f64, f64)>) -> bool {
    let near = |a: f64, b: f64| a.total_cmp(&b).is_eq() || (a - b).abs() <= a.abs().max(b.abs()) * 1e-14;
    match (mine.extremes, theirs) {
        (Some(a), Some(b)) => near(a.0, b.0) && near(a.1, b.1),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn print(measure: Measure, sum: i256) -> String {
    let Measure::Number { scale: scale @ 1.., .. } = measure else { return sum.to_string() };
    let text = sum.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let padded = format!("{digits:0>width$}", width = usize::from(scale) + 1);
    let (whole, fraction) = padded.split_at(padded.len() - usize::from(scale));
    format!("{sign}{whole}.{fraction}")
}

impl Measure {
    /// The limbs that one sum is made of: their scales, from high to low. Where 38 digits could overflow the
    /// value is cut at 10^(19 - scale), so that both limbs have at most 19 digits.
    pub fn limbs(self) -> Limbs {
        match self {
            // Twelve digits are left for the number of rows.
            Self::Number { digits, scale } if digits > 26 => {
                Limbs::Two { high: scale.saturating_sub(19), low: scale }
            }
            Self::Number { scale, .. } => Limbs::One(scale),
            _ => Limbs::One(0),
        }
    }

    /// Reads one sum from a server's answer; SQL's sum of nothing is NULL and means 0.
    pub(crate) fn read<'a>(self, mut next: impl FnMut() -> Option<&'a str>) -> Result<i256, WitnessError> {
        let mut limb = |scale: u8| {
            let text = next().unwrap_or("0");
            unscaled(text, scale.into()).ok_or_else(|| WitnessError::Number {
                what: format!("a server's {}", self.name()),
                text: text.chars().take(48).collect(),
            })
        };
        match self.limbs() {
            Limbs::One(scale) => limb(scale),
            Limbs::Two { high, low } => {
                let split = i256::from_i128(10_i128.pow(19));
                Ok(limb(high)?.wrapping_mul(split).wrapping_add(limb(low)?))
            }
        }
    }
}

/// How a sum is written in SQL: as one number or as two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limbs {
    /// One number of this scale.
    One(u8),
    /// Two numbers of these scales.
    Two {
        /// The scale of the part above the cut.
        high: u8,
        /// The scale of the part below it, which is the column's.
        low: u8,
    },
}
