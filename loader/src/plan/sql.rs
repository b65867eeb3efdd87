//! The T-SQL that reads a table and a chunk.

use crate::{
    config::Consistency,
    model::{Bound, KeyPart, KeyRange, TableName, TablePlan, bracketed},
};

/// Opens a chunk's own snapshot; the first data access pins it.
pub const BEGIN_SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION";
/// Opens a chunk's transaction where the source allows no snapshot.
pub const BEGIN_READ_COMMITTED: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN TRANSACTION";
/// Opens the transaction that holds the lock barrier, with a time-out for each lock.
pub const BEGIN_BARRIER: &str =
    "SET LOCK_TIMEOUT 20000; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN TRANSACTION";
/// Opens a chunk's transaction. A database snapshot does not change: there is nothing to be isolated from.
pub fn begin(consistency: Consistency) -> &'static str {
    if consistency.needs_snapshot_isolation() { BEGIN_SNAPSHOT } else { BEGIN_READ_COMMITTED }
}

/// Ends it; nothing was written.
pub const COMMIT: &str = "COMMIT TRANSACTION";

/// Holds a table still: waits for its open writers, and lets no new one begin, until the transaction ends. Needs only SELECT.
pub fn hold(table: &TableName) -> String {
    format!("SELECT TOP (1) 1 FROM {} WITH (TABLOCK, HOLDLOCK)", table.sql())
}

/// A SNAPSHOT transaction's first access, which fixes what it sees.
pub fn touch(table: &TableName) -> String {
    format!("SELECT TOP (1) 1 FROM {}", table.sql())
}

/// The rows of a chunk, the planned columns in their order.
pub fn select(table: &TablePlan, range: &KeyRange) -> String {
    let columns: Vec<_> = table.columns.iter().map(|c| bracketed(&c.source_name)).collect();
    format!("SELECT {} FROM {}{}", columns.join(", "), table.source.sql(), where_clause(table, range))
}

/// ` WHERE …`, or nothing for a whole table. Of two ranges that share a bound, each row is in exactly one.
pub fn where_clause(table: &TablePlan, range: &KeyRange) -> String {
    let lower = range.lower.as_ref().map(at_or_above);
    let upper = range.upper.as_ref().map(|bound| below(table, bound));
    match (lower, upper) {
        (None, None) => String::new(),
        (Some(one), None) | (None, Some(one)) => format!(" WHERE {one}"),
        (Some(lower), Some(upper)) => format!(" WHERE {lower} AND {upper}"),
    }
}

/// Keys from `bound` on. Of several columns the first is compared once more on its own: that is what an index seeks by.
fn at_or_above(Bound(parts): &Bound) -> String {
    fn after(parts: &[KeyPart]) -> String {
        let Some((first, rest)) = parts.split_first() else { return "1 = 1".into() };
        let column = bracketed(&first.column);
        match (first.value.as_str(), rest.is_empty()) {
            (NULL, true) => "1 = 1".into(),
            (NULL, false) => format!("({column} IS NOT NULL OR {})", after(rest)),
            (value, true) => format!("{column} >= {value}"),
            (value, false) => format!("({column} > {value} OR ({column} = {value} AND {}))", after(rest)),
        }
    }
    let sought = parts.first().filter(|first| parts.len() > 1 && first.value != NULL);
    let sought = sought.map(|first| format!("{} >= {} AND ", bracketed(&first.column), first.value));
    sought.unwrap_or_default() + &after(parts)
}

/// Keys before `bound`. NULL comes before every value.
fn below(table: &TablePlan, Bound(parts): &Bound) -> String {
    fn before(table: &TablePlan, parts: &[KeyPart]) -> String {
        let Some((first, rest)) = parts.split_first() else { return "1 = 0".into() };
        let column = bracketed(&first.column);
        let or_null = |less: String| {
            if nullable(table, &first.column) { format!("{less} OR {column} IS NULL") } else { less }
        };
        match (first.value.as_str(), rest.is_empty()) {
            (NULL, true) => "1 = 0".into(),
            (NULL, false) => format!("({column} IS NULL AND {})", before(table, rest)),
            (value, true) if nullable(table, &first.column) => {
                format!("({})", or_null(format!("{column} < {value}")))
            }
            (value, true) => format!("{column} < {value}"),
            (value, false) => {
                let less = or_null(format!("{column} < {value}"));
                format!("({less} OR ({column} = {value} AND {}))", before(table, rest))
            }
        }
    }
    let sought = parts
        .first()
        .filter(|first| parts.len() > 1 && first.value != NULL && !nullable(table, &first.column));
    let sought = sought.map(|first| format!("{} <= {} AND ", bracketed(&first.column), first.value));
    sought.unwrap_or_default() + &before(table, parts)
}

/// How a [`KeyPart`] writes that there is no value.
pub(super) const NULL: &str = "NULL";

/// A column that the plan does not know may hold anything.
fn nullable(table: &TablePlan, column: &str) -> bool {
    table.keys.iter().find(|key| key.name == column).is_none_or(|key| key.nullable)
}

/// 10^exponent as a plain literal: `1000` or `0.001`.
pub fn power_of_ten(exponent: i32) -> String {
    let zeros = |count: i32| "0".repeat(count.max(0) as usize);
    if exponent >= 0 { format!("1{}", zeros(exponent)) } else { format!("0.{}1", zeros(-exponent - 1)) }
}

/// Every `step`-th key in the server's own order, by which a table is cut; and for each number of leading columns how
/// many rows come before the first row with the same values there, plus one.
pub fn quantiles(table: &TableName, key: &[String], step: u64) -> String {
    let columns: Vec<_> = key.iter().map(|name| bracketed(name)).collect();
    let each = |item: &dyn Fn(usize) -> String| (0..columns.len()).map(item).collect::<Vec<_>>().join(", ");
    let chosen = each(&|at| format!("q.k{at}"));
    let ranks = each(&|at| format!("q.r{at}"));
    let keys = each(&|at| format!("{} AS k{at}", columns[at]));
    let ranked = each(&|at| format!("RANK() OVER (ORDER BY {}) AS r{at}", columns[..=at].join(", ")));
    format!(
        "SELECT {chosen}, {ranks} FROM (SELECT {keys}, {ranked}, ROW_NUMBER() OVER (ORDER BY {}) AS n FROM {}) AS q \
         WHERE (q.n - 1) % {step} = 0 ORDER BY q.n",
        columns.join(", "),
        table.sql()
    )
}

/// A Unicode string literal.
pub(super) fn string(text: &str) -> String {
    format!("N'{}'", text.replace('\'', "''"))
}
