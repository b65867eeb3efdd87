//! The T-SQL that reads a table and a chunk.

use crate::model::{KeyRange, TablePlan, bracketed};

/// Opens a chunk's own snapshot; the first data access pins it.
pub const BEGIN_SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION";
/// Opens a chunk's transaction where the source allows no snapshot.
pub const BEGIN_READ_COMMITTED: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN TRANSACTION";
/// Ends it; nothing was written.
pub const COMMIT: &str = "COMMIT TRANSACTION";

/// The rows of a chunk, the planned columns in their order.
pub fn select(table: &TablePlan, range: &KeyRange) -> String {
    let columns: Vec<_> = table.columns.iter().map(|c| bracketed(&c.source_name)).collect();
    format!("SELECT {} FROM {}{}", columns.join(", "), table.source.sql(), where_clause(table, range))
}

/// ` WHERE …`, or nothing for a whole table. NULL keys sort first and belong to the chunk without a lower bound.
pub fn where_clause(table: &TablePlan, range: &KeyRange) -> String {
    let Some(column) = range.column.as_deref().map(bracketed) else { return String::new() };
    let nullable = table.key.as_ref().is_some_and(|key| key.nullable);
    match (&range.lower, &range.upper) {
        (None, None) => String::new(),
        (Some(lower), None) => format!(" WHERE {column} >= {lower}"),
        (None, Some(upper)) if nullable => format!(" WHERE ({column} < {upper} OR {column} IS NULL)"),
        (None, Some(upper)) => format!(" WHERE {column} < {upper}"),
        (Some(lower), Some(upper)) => format!(" WHERE {column} >= {lower} AND {column} < {upper}"),
    }
}

/// 10^exponent as a plain literal: `1000` or `0.001`.
pub fn power_of_ten(exponent: i32) -> String {
    let zeros = |count: i32| "0".repeat(count.max(0) as usize);
    if exponent >= 0 { format!("1{}", zeros(exponent)) } else { format!("0.{}1", zeros(-exponent - 1)) }
}

/// Every `step`-th key in the server's own order: the counted quantiles by which a table is cut.
pub fn quantiles(table: &crate::model::TableName, key: &str, step: u64) -> String {
    let key = bracketed(key);
    format!(
        "SELECT q.{key} FROM (SELECT {key}, ROW_NUMBER() OVER (ORDER BY {key}) AS n FROM {}) AS q \
         WHERE (q.n - 1) % {step} = 0 ORDER BY q.{key}",
        table.sql()
    )
}

/// A Unicode string literal.
pub(super) fn string(text: &str) -> String {
    format!("N'{}'", text.replace('\'', "''"))
}
