//! A witness as the ledger keeps it, and numbers as the two servers print them.

use arrow_buffer::i256;
use serde::{Deserialize, Serialize};

use super::{ColumnWitness, Level, Side, Witness, WitnessError};
use crate::model::ColumnPlan;

#[derive(Serialize, Deserialize)]
struct Stored {
    rows: u64,
    columns: Vec<StoredColumn>,
}

#[derive(Serialize, Deserialize)]
struct StoredColumn {
    n: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    s: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    t: Vec<String>,
    /// Smallest and largest float, by their bits: JSON's own numbers would round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<(u64, u64)>,
}

pub(super) fn to_json(witness: &Witness) -> String {
    let texts = |sums: &[i256]| sums.iter().map(ToString::to_string).collect();
    let column = |c: &ColumnWitness| StoredColumn {
        n: c.count,
        s: texts(&c.source),
        t: texts(&c.target),
        x: c.extremes.map(|(low, high)| (low.to_bits(), high.to_bits())),
    };
    let stored = Stored { rows: witness.rows, columns: witness.columns.iter().map(column).collect() };
    // Numbers, strings and lists only: this cannot fail.
    serde_json::to_string(&stored).unwrap_or_default()
}

pub(super) fn from_json(columns: &[ColumnPlan], text: &str) -> Result<Witness, WitnessError> {
    let stored: Stored = serde_json::from_str(text).map_err(|e| WitnessError::Stored(e.to_string()))?;
    if stored.columns.len() != columns.len() {
        let counts = format!("{} columns where the plan has {}", stored.columns.len(), columns.len());
        return Err(WitnessError::Stored(counts));
    }
    let level = level_of(columns, &stored);
    let read = |(column, plan): (StoredColumn, &ColumnPlan)| {
        let source = numbers(&column.s, Side::Source.measures(plan, level).len(), plan)?;
        let target = numbers(&column.t, Side::Target.measures(plan, level).len(), plan)?;
        let extremes = column.x.map(|(low, high)| (f64::from_bits(low), f64::from_bits(high)));
        Ok(ColumnWitness { count: column.n, source, target, extremes })
    };
    let columns = stored.columns.into_iter().zip(columns).map(read).collect::<Result<_, WitnessError>>()?;
    Ok(Witness { rows: stored.rows, level, columns })
}

/// A witness without a digest where one belongs was kept at a lower level.
fn level_of(columns: &[ColumnPlan], stored: &Stored) -> Level {
    let complete = |(plan, column): (&ColumnPlan, &StoredColumn)| {
        column.s.len() >= Side::Source.measures(plan, Level::Hashes).len()
            && column.t.len() >= Side::Target.measures(plan, Level::Hashes).len()
    };
    if columns.iter().zip(&stored.columns).all(complete) { Level::Hashes } else { Level::Sums }
}

fn numbers(texts: &[String], expected: usize, plan: &ColumnPlan) -> Result<Vec<i256>, WitnessError> {
    if texts.len() != expected {
        return Err(WitnessError::Stored(format!("column {} has other sums than planned", plan.source_name)));
    }
    let read = |text: &String| {
        unscaled(text, 0)
            .ok_or_else(|| WitnessError::Number { what: "the ledger's witness".into(), text: text.clone() })
    };
    texts.iter().map(read).collect()
}

/// Reads a plain decimal number in units of 10^-scale. Digits beyond the scale must be zeros.
pub(super) fn unscaled(text: &str, scale: usize) -> Option<i256> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 70 {
        return None;
    }
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    if beyond.bytes().any(|b| b != b'0') || !kept.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ten = i256::from_i128(10);
    let mut value = i256::ZERO;
    for byte in whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', scale - kept.len())) {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(ten)?.checked_add(i256::from_i128(i128::from(byte - b'0')))?;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}
