//! Cuts a table into chunks at counted quantiles of its leading key.

use super::{PlanError, literal, sql};
use crate::{
    catalog::{self, Catalog},
    config::Limits,
    model::{ChunkPlan, ColumnPlan, KeyColumn, KeyRange, TableName},
};

/// More than this and the plan itself becomes a burden: its chunks are too small.
const MOST_CHUNKS: u64 = 50_000;

/// The key to cut by, or why there is none, in words.
pub(super) fn key_of(table: &catalog::Table) -> Result<KeyColumn, String> {
    let Some(name) = &table.leading_key else {
        return Err("it has neither a clustered index nor a primary key".into());
    };
    let Some(column) = table.columns.iter().find(|c| c.name == *name) else {
        return Err(format!("its key column {name} is not visible"));
    };
    let source = match &column.source {
        Ok(source) => *source,
        Err(uncarried) => return Err(format!("its key column {name} is {}", uncarried.declared)),
    };
    match literal::uncuttable(source) {
        Some(reason) => Err(format!("its key column {name} is {source}: {reason}")),
        None => Ok(KeyColumn { name: name.clone(), source, nullable: column.nullable }),
    }
}

/// Source bytes of one row: what the pages say, within what the types allow.
pub(super) fn row_bytes(table: &catalog::Table, columns: &[ColumnPlan]) -> u64 {
    let widest: u64 = columns.iter().map(|c| c.source.widest_bytes()).sum();
    let guess = match table.page_bytes {
        Some(bytes) if table.rows > 0 && bytes > 0 => bytes / table.rows,
        // Text is seldom as long as it may be.
        _ => columns.iter().map(|c| c.source.widest_bytes()).map(|w| if w > 40 { 40 } else { w }).sum(),
    };
    guess.clamp(1, widest.max(1))
}

/// The chunks, in the order of their keys. The first has no lower and the last no upper bound, so that rows which
/// come later belong to one of them.
pub(super) async fn cut(
    catalog: &mut impl Catalog,
    name: &TableName,
    table: &catalog::Table,
    key: Option<&KeyColumn>,
    row_bytes: u64,
    limits: &Limits,
) -> Result<Vec<ChunkPlan>, PlanError> {
    let step = step(row_bytes, limits);
    let whole = |key: Option<&KeyColumn>| {
        let range = KeyRange { column: key.map(|k| k.name.clone()), ..KeyRange::default() };
        vec![ChunkPlan {
            number: 1,
            range,
            estimated_rows: table.rows,
            estimated_bytes: table.rows * row_bytes,
        }]
    };
    let Some(key) = key.filter(|_| table.rows > step) else { return Ok(whole(key)) };
    if table.rows / step > MOST_CHUNKS {
        return Err(PlanError::TooManyChunks {
            table: name.clone(),
            chunks: table.rows / step,
            most: MOST_CHUNKS,
        });
    }
    let quantiles = sql::quantiles(name, &key.name, step);
    let rows = catalog
        .ask(&quantiles)
        .await
        .map_err(|source| catalog::CatalogError::Tds { about: name.to_string(), source })?;
    let collation = table.columns.iter().find(|c| c.name == key.name).and_then(|c| c.collation.as_deref());
    let mut bounds: Vec<(String, u64)> = Vec::with_capacity(rows.len());
    let mut before_first = 0;
    // The first quantile is the smallest key: the first chunk is open below instead.
    for (index, row) in rows.iter().enumerate() {
        let text = row.first().and_then(Option::as_deref);
        let bound = text.filter(|_| index > 0).and_then(|text| literal::literal(key.source, collation, text));
        match (bound, bounds.last_mut()) {
            (Some(bound), Some((last, rows))) if *last == bound => *rows += step,
            (Some(bound), _) => bounds.push((bound, step)),
            (None, Some((_, rows))) => *rows += step,
            (None, None) => before_first += step,
        }
    }
    let mut chunks = Vec::with_capacity(bounds.len() + 1);
    let mut lower = None;
    let mut rows_inside = before_first;
    for (bound, rows) in bounds {
        chunks.push((lower.replace(bound.clone()), Some(bound), rows_inside));
        rows_inside = rows;
    }
    chunks.push((lower, None, rows_inside));
    let mut left = table.rows;
    let chunk = |(index, (lower, upper, rows)): (usize, (Option<String>, Option<String>, u64))| {
        let rows = rows.min(left);
        left -= rows;
        ChunkPlan {
            number: index as u32 + 1,
            range: KeyRange { column: Some(key.name.clone()), lower, upper },
            estimated_rows: rows,
            estimated_bytes: rows * row_bytes,
        }
    };
    Ok(chunks.into_iter().enumerate().map(chunk).collect())
}

/// Rows per chunk.
pub(super) fn step(row_bytes: u64, limits: &Limits) -> u64 {
    let by_bytes = limits.chunk.bytes() / row_bytes.max(1);
    limits.chunk_rows.unwrap_or(u64::MAX).min(by_bytes).max(2)
}
