//! One chunk's SELECT becomes Arrow batches.

use arrow_array::RecordBatch;

use crate::{
    model::ColumnPlan,
    tds::{RowStream, Rows, TdsError},
};

/// One batch of rows, and what of it the source can be asked about.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The rows, one array for each planned column, in the types of [`crate::model::arrow_schema`].
    pub batch: RecordBatch,
    /// For each column, the bytes that its text or binary values had on the wire, which is `SUM(DATALENGTH(..))`;
    /// 0 for other types.
    pub source_bytes: Vec<u64>,
}

impl RowStream<'_> {
    /// The next rows: at most `max_rows`, and at most one row beyond `max_bytes` of Arrow memory. `None` after
    /// the last; the connection is then free for the next statement.
    ///
    /// `columns` must name the result's columns in order, with their exact types: a table that was altered since
    /// the plan gives [`TdsError::Changed`]. A value that cannot be carried gives [`TdsError::Value`] with its
    /// column and row. After any error the connection is of no further use.
    pub async fn next_batch(
        &mut self,
        columns: &[ColumnPlan],
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Option<Decoded>, TdsError> {
        let mut rows = Rows::new(self.columns(), columns, max_rows, max_bytes)?;
        self.read_into(&mut rows).await?;
        if rows.len() == 0 {
            return Ok(None);
        }
        let (batch, source_bytes) = rows.finish()?;
        Ok(Some(Decoded { batch, source_bytes }))
    }
}
