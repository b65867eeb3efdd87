//! A column of a type with (max): values come in pieces of any size (MS-TDS 2.2.5.2.3) and go piece by piece
//! into the buffer of the Arrow array. No second copy of a value exists, whatever its size.

use std::sync::Arc;

use arrow_array::{ArrayRef, LargeBinaryArray, LargeStringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use super::{
    TdsError,
    collation::TextDecoder,
    columns::Trouble,
    cursor::{Cursor, Parsed, wrong},
    pieces::Pieces,
    types::{PLP_NULL, PLP_UNKNOWN},
};
use crate::model::{ColumnPlan, SourceType};

/// What is decoded at once; the room is asked for again after each.
const SLICE: usize = 16 * 1024;
/// One byte of a code page, or one of a UTF-16 unit, becomes at most three of UTF-8; and a little for the cut.
const SLICE_DECODED: usize = SLICE * 3 + 16;

/// The values, and where the one under way is.
#[derive(Debug)]
pub(super) struct Streamed {
    offsets: Vec<i64>,
    bytes: Vec<u8>,
    pieces: Pieces,
    is_text: bool,
    code_page: Option<u16>,
    /// The most bytes of one decoded value.
    limit: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Before the length of a value.
    Before,
    /// Inside: announced, seen, and left of the piece under way.
    Inside { announced: Option<u64>, seen: u64, left: usize },
}

/// How far a value was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// It is whole; so many bytes on the wire.
    Whole(u64),
    /// It is NULL.
    Null,
    /// There is no room for more of it.
    Full,
}

impl Streamed {
    /// An empty column of a type with (max); none for another type.
    pub(super) fn of(plan: &ColumnPlan, rows: usize, most: usize) -> Result<Option<Self>, TdsError> {
        let Some(largest) = plan.source.largest_value() else { return Ok(None) };
        let (pieces, code_page) = match plan.source {
            SourceType::VarCharMax { code_page } => {
                let decoder = TextDecoder::of(code_page.0).ok_or_else(|| no_decoder(plan, code_page.0))?;
                (Pieces::encoded(decoder), Some(code_page.0))
            }
            SourceType::NVarCharMax => (Pieces::utf16(), None),
            _ => (Pieces::binary(), None),
        };
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Ok(Some(Self {
            offsets,
            bytes: Vec::new(),
            pieces,
            is_text: plan.source != SourceType::VarBinaryMax,
            code_page,
            limit: largest.min(most),
            place: Place::Before,
        }))
    }

    /// Bytes of all values.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes a NULL.
    pub(super) fn push_null(&mut self) {
        self.offsets.push(self.bytes.len() as i64);
    }

    /// Reads as much of a value as is there and as `room` bytes take. The cursor stands behind all that was taken;
    /// when more bytes or more room are there, the next call goes on.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>, room: usize) -> Parsed<Result<Read, Trouble>> {
        let full = self.bytes.len().saturating_add(room);
        loop {
            match self.place {
                Place::Before => {
                    let announced = match cursor.u64()? {
                        PLP_NULL => {
                            self.push_null();
                            return Ok(Ok(Read::Null));
                        }
                        PLP_UNKNOWN => None,
                        length => Some(length),
                    };
                    // A unit of UTF-16 is at least one byte of UTF-8, so nothing longer than this can fit.
                    let fewest = announced.map(|wire| if self.is_utf16() { wire / 2 } else { wire });
                    if fewest.is_some_and(|fewest| fewest > self.limit as u64) {
                        return Ok(Err(self.too_large(announced)));
                    }
                    self.pieces.begin(&self.bytes);
                    self.place = Place::Inside { announced, seen: 0, left: 0 };
                }
                Place::Inside { announced, seen, left: 0 } => {
                    let left = cursor.u32()? as usize;
                    if left > 0 {
                        self.place = Place::Inside { announced, seen, left };
                        continue;
                    }
                    if announced.is_some_and(|announced| announced != seen) {
                        return wrong(format!(
                            "one value announced {} bytes and has {seen}",
                            announced.unwrap_or(0)
                        ));
                    }
                    if self.pieces.end(&mut self.bytes).is_err() {
                        return Ok(Err(self.meaningless()));
                    }
                    self.offsets.push(self.bytes.len() as i64);
                    self.place = Place::Before;
                    return Ok(Ok(Read::Whole(seen)));
                }
                Place::Inside { announced, seen, left } => {
                    if self.bytes.len() + SLICE_DECODED > full {
                        return Ok(Ok(Read::Full));
                    }
                    let piece = cursor.take_some(left.min(SLICE))?;
                    if self.pieces.add(piece, &mut self.bytes).is_err() {
                        return Ok(Err(self.meaningless()));
                    }
                    if self.pieces.held(&self.bytes) > self.limit {
                        return Ok(Err(self.too_large(announced)));
                    }
                    let seen = seen + piece.len() as u64;
                    if announced.is_some_and(|announced| announced < seen) {
                        return wrong(format!(
                            "one value announced {} bytes and has more",
                            announced.unwrap_or(0)
                        ));
                    }
                    self.place = Place::Inside { announced, seen, left: left - piece.len() };
                }
            }
        }
    }

    fn is_utf16(&self) -> bool {
        self.is_text && self.code_page.is_none()
    }

    fn meaningless(&self) -> Trouble {
        self.code_page.map_or(Trouble::Utf16, Trouble::CodePage)
    }

    fn too_large(&self, announced: Option<u64>) -> Trouble {
        Trouble::TooLarge { announced, limit: self.limit, is_text: self.is_text }
    }

    /// The Arrow array.
    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let bytes = Buffer::from_vec(self.bytes);
        Ok(if self.is_text {
            Arc::new(LargeStringArray::try_new(offsets, bytes, nulls)?)
        } else {
            Arc::new(LargeBinaryArray::try_new(offsets, bytes, nulls)?)
        })
    }
}

/// The refusal of a code page that no decoder knows.
pub(super) fn no_decoder(plan: &ColumnPlan, page: u16) -> TdsError {
    TdsError::Refused(format!(
        "column {} is in code page {page}, which is not carried; exclude it, or cast it to nvarchar in a view",
        plan.source_name
    ))
}
