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

/// Memory for (max) values, beyond what every batch may take.
pub trait Room {
    /// The most bytes that one value may have after decoding.
    fn largest_value(&self) -> usize;

    /// A row is wider than its batch: waits until there is memory for it. How many bytes the row's (max) values
    /// may take together.
    fn widen(&mut self) -> impl Future<Output = usize> + Send;
}

/// As much as the types allow.
#[derive(Clone, Copy, Debug)]
pub struct AllRoom;

impl Room for AllRoom {
    fn largest_value(&self) -> usize {
        usize::MAX
    }

    async fn widen(&mut self) -> usize {
        usize::MAX
    }
}

impl RowStream<'_> {
    /// [`Self::next_batch_within`] with as much memory as the types of the columns ask for.
    pub async fn next_batch(
        &mut self,
        columns: &[ColumnPlan],
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Option<Decoded>, TdsError> {
        self.next_batch_within(columns, max_rows, max_bytes, &mut AllRoom).await
    }

    /// The next rows: at most `max_rows`, and at most one row beyond `max_bytes` of Arrow memory. `None` after
    /// the last; the connection is then free for the next statement. A row whose (max) values make it wider than
    /// `max_bytes` asks `room` first and is the last of its batch.
    ///
    /// `columns` must name the result's columns in order, with their exact types: a table that was altered since
    /// the plan gives [`TdsError::Changed`]. A value that cannot be carried gives [`TdsError::Value`] with its
    /// column and row. After any error the connection is of no further use.
    pub async fn next_batch_within(
        &mut self,
        columns: &[ColumnPlan],
        max_rows: usize,
        max_bytes: usize,
        room: &mut impl Room,
    ) -> Result<Option<Decoded>, TdsError> {
        let mut rows = Rows::new(self.columns(), columns, max_rows, max_bytes, room.largest_value())?;
        self.read_into(&mut rows, room).await?;
        if rows.len() == 0 {
            return Ok(None);
        }
        let (batch, source_bytes) = rows.finish()?;
        Ok(Some(Decoded { batch, source_bytes }))
    }
}
