//! ROW and NBCROW straight into Arrow's buffers.
//!
//! [`Rows::absorb`] decodes from whatever bytes are at hand. When they end in the middle of a row, the columns
//! are cut back to the row before and the caller comes again with more: a split at any byte costs one row's
//! work, and the loop over complete rows needs no state of its own.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Schema;

use super::{
    TdsError,
    columns::Column,
    cursor::{Cursor, Parsed, Stop},
    token::{self, Token},
    types::ColumnMeta,
};
use crate::model::{ColumnPlan, arrow_schema};

const ROW: u8 = 0xD1;
const NBCROW: u8 = 0xD2;
/// Offsets of Arrow's strings have 31 bits; this leaves room for one more row.
const MOST_BYTES: usize = 1 << 30;

/// The batch that is being filled.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: Vec<Column>,
    variable: Vec<usize>,
    fixed_bytes: usize,
    schema: Arc<Schema>,
    complete: usize,
    row_limit: usize,
    byte_limit: usize,
}

/// Why [`Rows::absorb`] returned.
#[derive(Debug)]
pub(super) enum Progress {
    /// The batch is full.
    Full,
    /// The bytes end within a row or token: this many, counted from the first unread one, are needed.
    Short(usize),
    /// Something else than a row came.
    Token(Token),
}

impl Rows {
    /// An empty batch of these columns, after a check that the result is the one that was planned.
    pub(crate) fn new(
        found: &[ColumnMeta],
        planned: &[ColumnPlan],
        row_limit: usize,
        byte_limit: usize,
    ) -> Result<Self, TdsError> {
        agree(found, planned)?;
        let row_limit = row_limit.max(1);
        let columns = found
            .iter()
            .zip(planned)
            .map(|(found, planned)| Column::new(&found.info, planned, row_limit))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            variable: (0..columns.len()).filter(|&i| columns[i].variable_bytes().is_some()).collect(),
            fixed_bytes: columns.iter().map(Column::fixed_bytes).sum(),
            schema: Arc::new(arrow_schema(planned)),
            complete: 0,
            row_limit,
            byte_limit: byte_limit.clamp(1, MOST_BYTES),
            columns,
        })
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.complete
    }

    /// Decodes rows from the front of `bytes`; returns how many bytes were used up, and why it stopped.
    /// `before` is how many rows of this result went into earlier batches.
    pub(super) fn absorb(&mut self, bytes: &[u8], before: u64) -> Result<(usize, Progress), TdsError> {
        let mut cursor = Cursor::new(bytes);
        loop {
            let start = cursor.position();
            let outcome = match cursor.peek() {
                Some(ROW | NBCROW) if self.is_full() => return Ok((start, Progress::Full)),
                Some(ROW) => self.row(&mut cursor),
                Some(NBCROW) => self.null_bitmap_row(&mut cursor),
                Some(_) => match token::next(&mut cursor) {
                    Ok(token) => return Ok((cursor.position(), Progress::Token(token))),
                    Err(stop) => Err(stop),
                },
                None => Err(Stop::Short(start + 1)),
            };
            match outcome {
                Ok(()) => self.complete += 1,
                Err(Stop::Short(wanted)) => {
                    self.cut_back();
                    return Ok((start, Progress::Short(wanted - start)));
                }
                Err(Stop::Fail(error)) => return Err(self.locate(*error, before)),
            }
        }
    }

    /// The batch as Arrow has it, and the bytes of text and binary values per column.
    pub(crate) fn finish(self) -> Result<(RecordBatch, Vec<u64>), TdsError> {
        let source_bytes = self.columns.iter().map(Column::source_bytes).collect();
        let arrays = self.columns.into_iter().map(Column::finish).collect::<Result<Vec<ArrayRef>, _>>();
        let batch = arrays.and_then(|arrays| RecordBatch::try_new(self.schema, arrays));
        // Everything was checked value by value; this is a second pair of eyes, not a way to fail.
        let batch = batch
            .map_err(|e| TdsError::protocol(format!("the decoded columns do not make a batch ({e})")))?;
        Ok((batch, source_bytes))
    }

    fn is_full(&self) -> bool {
        self.complete >= self.row_limit || (self.complete > 0 && self.bytes() >= self.byte_limit)
    }

    fn bytes(&self) -> usize {
        let variable = self.variable.iter().filter_map(|&i| self.columns[i].variable_bytes()).sum::<usize>();
        self.complete * self.fixed_bytes + variable
    }

    #[inline]
    fn row(&mut self, cursor: &mut Cursor<'_>) -> Parsed<()> {
        cursor.u8()?;
        for column in &mut self.columns {
            column.read(cursor)?;
        }
        Ok(())
    }

    #[inline]
    fn null_bitmap_row(&mut self, cursor: &mut Cursor<'_>) -> Parsed<()> {
        cursor.u8()?;
        let nulls = cursor.take(self.columns.len().div_ceil(8))?;
        for (i, column) in self.columns.iter_mut().enumerate() {
            if nulls[i / 8] & (1 << (i % 8)) == 0 {
                column.read(cursor)?;
            } else {
                column.push_null()?;
            }
        }
        Ok(())
    }

    #[cold]
    fn cut_back(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.complete);
        }
    }

    fn locate(&self, mut error: TdsError, before: u64) -> TdsError {
        if let TdsError::Value { row, .. } = &mut error {
            *row = before + self.complete as u64 + 1;
        }
        error
    }
}

/// The result must have the planned columns, with the planned types.
fn agree(found: &[ColumnMeta], planned: &[ColumnPlan]) -> Result<(), TdsError> {
    if found.len() != planned.len() {
        return Err(TdsError::Changed(format!("it has {} columns, the plan {}", found.len(), planned.len())));
    }
    for (found, planned) in found.iter().zip(planned) {
        if found.name != planned.source_name && found.name != planned.target_name {
            return Err(TdsError::Changed(format!(
                "column {:?} came where {:?} was planned",
                found.name, planned.source_name
            )));
        }
        if found.source_type() != Some(planned.source) {
            return Err(TdsError::Changed(format!(
                "column {} is {} and was planned as {}",
                planned.source_name,
                found.type_name(),
                planned.source
            )));
        }
    }
    Ok(())
}
