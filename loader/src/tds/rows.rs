//! ROW and NBCROW straight into Arrow's buffers.
//!
//! [`Rows::absorb`] decodes from whatever bytes are at hand. When they end in the middle of a row, the columns
//! are cut back to the row before and the caller comes again with more: a split at any byte costs one row's
//! work, and the loop over complete rows needs no state of its own. A table with (max) columns is read on instead
//! of again: a row stays open between two calls, and within it a value.

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
/// Beyond the batch's own bytes: what a piece needs to be decoded at all.
const SLICE_ROOM: usize = 64 * 1024;

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
    /// Whether values come in pieces; the row is then read on.
    streamed: bool,
    open: Option<OpenRow>,
    /// What the pieces of one row may take beyond `byte_limit`, once that was granted.
    wide: Option<usize>,
}

/// A row of which some columns have been read.
#[derive(Debug)]
struct OpenRow {
    /// The bitmap of an NBCROW.
    nulls: Vec<u8>,
    next: usize,
}

/// Why [`Rows::absorb`] returned.
#[derive(Debug)]
pub(super) enum Progress {
    /// The batch is full.
    Full,
    /// The bytes end within a row or token: this many, counted from the first unread one, are needed.
    Short(usize),
    /// The row under way is wider than a batch: [`Rows::widen`] lets it go on.
    Wide,
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
        largest_value: usize,
    ) -> Result<Self, TdsError> {
        agree(found, planned)?;
        let row_limit = row_limit.max(1);
        let columns = found
            .iter()
            .zip(planned)
            .map(|(found, planned)| Column::new(&found.info, planned, row_limit, largest_value))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            variable: (0..columns.len()).filter(|&i| columns[i].variable_bytes().is_some()).collect(),
            fixed_bytes: columns.iter().map(Column::fixed_bytes).sum(),
            schema: Arc::new(arrow_schema(planned)),
            complete: 0,
            row_limit,
            byte_limit: byte_limit.clamp(1, MOST_BYTES),
            streamed: columns.iter().any(Column::is_streamed),
            open: None,
            wide: None,
            columns,
        })
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.complete
    }

    /// Lets the (max) values of the row under way take this many bytes beyond the batch's own.
    pub(super) fn widen(&mut self, bytes: usize) {
        self.wide = Some(bytes);
    }

    /// Decodes rows from the front of `bytes`; returns how many bytes were used up, and why it stopped.
    /// `before` is how many rows of this result went into earlier batches.
    pub(super) fn absorb(&mut self, bytes: &[u8], before: u64) -> Result<(usize, Progress), TdsError> {
        let mut cursor = Cursor::new(bytes);
        if self.streamed {
            return match self.absorb_pieces(&mut cursor) {
                Ok(progress) => Ok((cursor.position(), progress)),
                Err(Stop::Short(wanted)) => {
                    let used = cursor.position();
                    Ok((used, Progress::Short(wanted - used)))
                }
                Err(Stop::Fail(error)) => Err(self.locate(*error, before)),
            };
        }
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

    /// Reads rows on; whatever was read stays read, and the cursor stands behind it.
    fn absorb_pieces(&mut self, cursor: &mut Cursor<'_>) -> Parsed<Progress> {
        loop {
            let mut row = match (self.open.take(), cursor.peek()) {
                (Some(row), _) => row,
                (None, Some(ROW | NBCROW)) if self.is_full() => return Ok(Progress::Full),
                (None, Some(ROW)) => {
                    cursor.u8()?;
                    OpenRow { nulls: Vec::new(), next: 0 }
                }
                (None, Some(NBCROW)) => {
                    let head = cursor.take(1 + self.columns.len().div_ceil(8))?;
                    OpenRow { nulls: head[1..].to_vec(), next: 0 }
                }
                (None, Some(_)) => {
                    // Of a token that is not whole nothing counts as read.
                    let mut ahead = cursor.clone();
                    let token = token::next(&mut ahead)?;
                    *cursor = ahead;
                    return Ok(Progress::Token(token));
                }
                (None, None) => {
                    cursor.u8()?;
                    continue;
                }
            };
            match self.read_on(&mut row, cursor) {
                Ok(true) => self.complete += 1,
                Ok(false) => {
                    self.open = Some(row);
                    return Ok(Progress::Wide);
                }
                Err(stop) => {
                    self.open = Some(row);
                    return Err(stop);
                }
            }
        }
    }

    /// The rest of a row; false when it has no room.
    fn read_on(&mut self, row: &mut OpenRow, cursor: &mut Cursor<'_>) -> Parsed<bool> {
        while row.next < self.columns.len() {
            let at = row.next;
            let is_null = row.nulls.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0);
            // Only values in pieces ask for room; adding up is not for every cell.
            let room = if self.columns[at].is_streamed() {
                let most = self.byte_limit.saturating_add(self.wide.unwrap_or(0)).saturating_add(SLICE_ROOM);
                most.saturating_sub(self.bytes())
            } else {
                0
            };
            let column = &mut self.columns[at];
            if is_null {
                column.push_null()?;
            } else if !column.read_on(cursor, room)? {
                return match self.wide {
                    None => Ok(false),
                    Some(bytes) => column.no_room(format!(
                        "the (max) values of one row take more than the {bytes} bytes that the memory budget has for them; \
                         raise `limits.memory_mib` (three bytes for each), or exclude a column"
                    )).map(|()| true),
                };
            }
            row.next += 1;
        }
        Ok(true)
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
