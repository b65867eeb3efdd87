//! Cuts a table into chunks at counted quantiles of a key: so many leading columns of it as the chunks need to be even.

use super::{PlanError, literal, sql};
use crate::{
    catalog::{self, Catalog},
    config::Limits,
    model::{Bound, ChunkPlan, ColumnPlan, KeyColumn, KeyPart, KeyRange, TableName},
};

/// More than this and the plan itself becomes a burden: its chunks are too small.
const MOST_CHUNKS: u64 = 50_000;
/// Of longer keys the first columns are enough.
const MOST_COLUMNS: usize = 6;
/// Quantiles of at most so many indexes are counted: each costs a pass over it.
const MOST_INDEXES: usize = 3;

/// A table cut into chunks.
pub(super) struct Cut {
    /// In the order of their keys. The first has no lower and the last no upper bound, so that rows which come later
    /// belong to one of them.
    pub chunks: Vec<ChunkPlan>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// The statements that were needed.
    pub asked: Vec<String>,
}

/// An index that a table can be cut by.
pub(super) struct Key {
    index: String,
    unique: bool,
    columns: Vec<KeyColumn>,
}

/// The keys to cut by, the best first; or why there is none, in words.
pub(super) fn keys_of(table: &catalog::Table) -> Result<Vec<Key>, String> {
    let Some(first) = table.indexes.first() else {
        return Err("it has neither a clustered nor a unique index over all rows".into());
    };
    let mut keys = Vec::new();
    let mut reason = None;
    for index in &table.indexes {
        let columns = index.columns.iter().take(MOST_COLUMNS).map(|name| key_column(table, name));
        let (columns, problem) = leading(columns);
        reason = reason.or(problem);
        if !columns.is_empty() {
            let unique = index.unique && columns.len() == index.columns.len();
            keys.push(Key { index: index.name.clone(), unique, columns });
        }
    }
    keys.truncate(MOST_INDEXES);
    let unusable = || reason.unwrap_or_else(|| format!("its index {} has no column to cut by", first.name));
    if keys.is_empty() { Err(unusable()) } else { Ok(keys) }
}

/// The columns up to the first that cannot be used, and why it cannot.
fn leading(columns: impl Iterator<Item = Result<KeyColumn, String>>) -> (Vec<KeyColumn>, Option<String>) {
    let mut good = Vec::new();
    for column in columns {
        match column {
            Ok(column) => good.push(column),
            Err(reason) => return (good, Some(reason)),
        }
    }
    (good, None)
}

fn key_column(table: &catalog::Table, name: &str) -> Result<KeyColumn, String> {
    let Some(column) = table.columns.iter().find(|c| c.name == name) else {
        return Err(format!("its key column {name} is not visible"));
    };
    let source = match &column.source {
        Ok(source) => *source,
        Err(uncarried) => return Err(format!("its key column {name} is {}", uncarried.declared)),
    };
    if column.encrypted {
        return Err(format!("its key column {name} is under Always Encrypted"));
    }
    match literal::uncuttable(source) {
        Some(reason) => Err(format!("its key column {name} is {source}: {reason}")),
        None => Ok(KeyColumn { name: name.to_owned(), source, nullable: column.nullable }),
    }
}

/// Every column of these keys once.
pub(super) fn columns_of(keys: &[Key]) -> Vec<KeyColumn> {
    let mut all: Vec<KeyColumn> = Vec::new();
    for column in keys.iter().flat_map(|key| &key.columns) {
        if !all.contains(column) {
            all.push(column.clone());
        }
    }
    all
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

/// Rows per chunk.
pub(super) fn step(row_bytes: u64, limits: &Limits) -> u64 {
    let by_bytes = limits.chunk.bytes() / row_bytes.max(1);
    limits.chunk_rows.unwrap_or(u64::MAX).min(by_bytes).max(2)
}

/// Asks for the quantiles of one key after the other until the chunks are even, and takes the most even.
pub(super) async fn cut(
    catalog: &mut impl Catalog,
    name: &TableName,
    table: &catalog::Table,
    keys: &[Key],
    row_bytes: u64,
    limits: &Limits,
) -> Result<Cut, PlanError> {
    let step = step(row_bytes, limits);
    let mut cut = Cut { chunks: Vec::new(), notes: Vec::new(), asked: Vec::new() };
    if table.rows > step && table.rows / step > MOST_CHUNKS && !keys.is_empty() {
        return Err(PlanError::TooManyChunks {
            table: name.clone(),
            chunks: table.rows / step,
            most: MOST_CHUNKS,
        });
    }
    let mut best: Option<(Pieces, &Key)> = None;
    for key in keys.iter().filter(|_| table.rows > step) {
        // An index that is not unique comes first only because the rows lie in its order.
        if best.is_some() && !key.unique {
            continue;
        }
        let columns: Vec<_> = key.columns.iter().map(|c| c.name.clone()).collect();
        let question = sql::quantiles(name, &columns, step);
        let rows = catalog
            .ask(&question)
            .await
            .map_err(|source| catalog::CatalogError::Tds { about: name.to_string(), source })?;
        cut.asked.push(question);
        let pieces = Pieces::of(table, key, &rows, step);
        if best.as_ref().is_none_or(|(known, _)| pieces.largest < known.largest) {
            best = Some((pieces, key));
        }
        if best.as_ref().is_some_and(|(pieces, _)| pieces.even(step)) {
            break;
        }
    }
    let pieces = match best {
        Some((pieces, key)) => {
            if cut.asked.len() > 1 {
                let count = cut.asked.len() - 1;
                let others = if count == 1 { "that of one other index" } else { "those of other indexes" };
                cut.notes.push(format!(
                    "cut by the key of index {}: {others} would have given less even chunks",
                    key.index
                ));
            }
            if !pieces.even(step) {
                cut.notes.push(format!(
                    "uneven: one chunk holds about {} rows, where {step} were asked for, because they share one key; it is \
                     read in one stream into several files",
                    pieces.largest
                ));
            }
            pieces
        }
        None => Pieces { bounds: Vec::new(), rows: vec![table.rows], largest: table.rows },
    };
    cut.chunks = pieces.chunks(row_bytes);
    Ok(cut)
}

/// Where a table is cut, and the rows of each piece.
struct Pieces {
    bounds: Vec<Bound>,
    rows: Vec<u64>,
    largest: u64,
}

impl Pieces {
    /// As many leading columns of the key as even chunks need.
    fn of(table: &catalog::Table, key: &Key, quantiles: &[Vec<Option<String>>], step: u64) -> Self {
        let mut best = Self::by(table, key, quantiles, 1);
        for width in 2..=key.columns.len() {
            if best.even(step) {
                break;
            }
            let finer = Self::by(table, key, quantiles, width);
            if finer.largest < best.largest {
                best = finer;
            }
        }
        best
    }

    /// By the key's first `width` columns. Two quantiles of one rank are equal to the server, however they are written.
    fn by(table: &catalog::Table, key: &Key, quantiles: &[Vec<Option<String>>], width: usize) -> Self {
        let columns = &key.columns[..width];
        let mut bounds = Vec::with_capacity(quantiles.len());
        let mut starts = vec![1];
        for row in quantiles {
            let rank = row.get(key.columns.len() + width - 1).and_then(Option::as_deref);
            let rank = rank.and_then(|text| text.parse::<u64>().ok());
            let later = rank.filter(|rank| starts.last().is_some_and(|last| rank > last));
            // A value that no literal can name leaves a larger chunk and loses nothing.
            if let (Some(rank), Some(bound)) = (later, bound(table, columns, row)) {
                bounds.push(bound);
                starts.push(rank);
            }
        }
        // The statistics may be behind what was counted.
        let end = starts.last().copied().unwrap_or(1).max(table.rows) + 1;
        let ends = starts.iter().skip(1).chain([&end]);
        let rows: Vec<u64> = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
        let largest = rows.iter().copied().max().unwrap_or(0);
        Self { bounds, rows, largest }
    }

    fn even(&self, step: u64) -> bool {
        self.largest <= step * 2
    }

    fn chunks(self, row_bytes: u64) -> Vec<ChunkPlan> {
        let uppers = self.bounds.iter().cloned().map(Some).chain([None]);
        let lowers = [None].into_iter().chain(self.bounds.iter().cloned().map(Some));
        let ranges = lowers.zip(uppers).map(|(lower, upper)| KeyRange { lower, upper });
        let chunk = |(index, (range, rows)): (usize, (KeyRange, u64))| ChunkPlan {
            number: index as u32 + 1,
            range,
            estimated_rows: rows,
            estimated_bytes: rows * row_bytes,
        };
        ranges.zip(self.rows).enumerate().map(chunk).collect()
    }
}

/// The quantile as a bound; `None` when it has no literal. NULLs at its end say nothing, as they come first.
fn bound(table: &catalog::Table, columns: &[KeyColumn], row: &[Option<String>]) -> Option<Bound> {
    let part = |(column, value): (&KeyColumn, &Option<String>)| {
        let collation =
            table.columns.iter().find(|c| c.name == column.name).and_then(|c| c.collation.as_deref());
        let value = match value {
            None => sql::NULL.to_owned(),
            Some(text) => literal::literal(column.source, collation, text)?,
        };
        Some(KeyPart { column: column.name.clone(), value })
    };
    let mut parts = columns.iter().zip(row).map(part).collect::<Option<Vec<_>>>()?;
    while parts.last().is_some_and(|part| part.value == sql::NULL) {
        parts.pop();
    }
    (!parts.is_empty()).then_some(Bound(parts))
}

#[cfg(test)]
mod tests;
