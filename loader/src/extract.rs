//! One chunk's SELECT becomes Arrow batches.

use arrow_array::RecordBatch;

use crate::{
    model::ColumnPlan,
    tds::{RowStream, TdsError},
};

/// One batch of rows, and what of it the source can be asked about.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The rows, one array for each planned column.
    pub batch: RecordBatch,
    /// For each column, the bytes that its text or binary values had on the wire, which is `SUM(DATALENGTH(..))`;
    /// 0 for other types.
    pub source_bytes: Vec<u64>,
}

impl RowStream<'_> {
    /// The next rows, at most `max_rows` and about `max_bytes` of Arrow memory; `None` after the last.
    pub async fn next_batch(
        &mut self,
        columns: &[ColumnPlan],
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Option<Decoded>, TdsError> {
        let _ = (columns, max_rows, max_bytes);
        Err(TdsError::Poisoned)
    }
}
