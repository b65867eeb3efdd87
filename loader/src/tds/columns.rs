//! One column: from the wire's bytes of a value into the buffers of one Arrow array.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray,
    types::{
        ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
        Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    },
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use super::{
    TdsError,
    collation::{TextDecoder, append_utf16},
    cursor::{Cursor, Parsed, Stop},
    numbers,
    streamed::{Read, Streamed, no_decoder},
    temporal,
    types::{Layout, TypeInfo},
};
use crate::{
    fail::corrupt,
    model::{ColumnPlan, SourceType},
};

/// The most rows that room is made for in advance.
const RESERVED_ROWS: usize = 8192;

#[derive(Debug)]
pub(super) struct Column {
    name: Box<str>,
    nullable: bool,
    layout: Layout,
    size: usize,
    data: Data,
    nulls: NullBufferBuilder,
    source_bytes: u64,
    last_bytes: u64,
}

/// The values; what they hold for a NULL is never looked at.
#[derive(Debug)]
enum Data {
    Bit(BooleanBufferBuilder),
    TinyInt(Vec<i16>),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8, limit: u128 },
    DecimalText { text: Text, scale: u8, limit: u128 },
    Money(Vec<i128>),
    SmallMoney(Vec<i128>),
    Real(Vec<f32>),
    Float(Vec<f64>),
    Date(Vec<i32>),
    SmallDateTime(Vec<i64>),
    DateTime(Vec<i64>),
    DateTime2 { values: Vec<i64>, scale: u8 },
    DateTime2Text(Text),
    Encoded { text: Text, decoder: TextDecoder, code_page: u16 },
    Utf16(Text),
    Binary(Text),
    UniqueIdentifier(Text),
    Streamed(Streamed),
}

/// Values of variable length.
#[derive(Debug)]
struct Text {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Text {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, bytes: Vec::with_capacity(rows * 8) }
    }

    /// Ends a value where the bytes end now. A batch closes long before 31 bits are full.
    #[inline]
    fn close(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().copied().unwrap_or(0);
        self.bytes.truncate(end as usize);
    }

    fn parts(self) -> (OffsetBuffer<i32>, Buffer) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), Buffer::from_vec(self.bytes))
    }

    fn strings(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (offsets, bytes) = self.parts();
        Ok(Arc::new(StringArray::try_new(offsets, bytes, nulls)?))
    }
}

/// Runs one expression over the vector of whichever variant holds one.
macro_rules! each {
    ($data:expr, $values:ident => $fixed:expr, $bits:ident => $boolean:expr, $text:ident => $variable:expr,
     $stream:ident => $streamed:expr) => {
        match $data {
            Data::Streamed($stream) => $streamed,
            Data::Bit($bits) => $boolean,
            Data::TinyInt($values) | Data::SmallInt($values) => $fixed,
            Data::Int($values) | Data::Date($values) => $fixed,
            Data::BigInt($values) | Data::SmallDateTime($values) | Data::DateTime($values) => $fixed,
            Data::DateTime2 { values: $values, .. } => $fixed,
            Data::Decimal { values: $values, .. } | Data::Money($values) | Data::SmallMoney($values) => {
                $fixed
            }
            Data::Real($values) => $fixed,
            Data::Float($values) => $fixed,
            Data::DecimalText { text: $text, .. }
            | Data::DateTime2Text($text)
            | Data::Encoded { text: $text, .. }
            | Data::Utf16($text)
            | Data::Binary($text)
            | Data::UniqueIdentifier($text) => $variable,
        }
    };
}

impl Column {
    /// An empty column; `info` is what the wire announced and agrees with the plan.
    /// No value of a (max) type may have more than `largest_value` bytes.
    pub(super) fn new(
        info: &TypeInfo,
        plan: &ColumnPlan,
        max_rows: usize,
        largest_value: usize,
    ) -> Result<Self, TdsError> {
        let rows = max_rows.min(RESERVED_ROWS);
        let data = match Streamed::of(plan, rows, largest_value)? {
            Some(streamed) => Data::Streamed(streamed),
            None => Data::new(plan, rows)?,
        };
        Ok(Self {
            name: plan.source_name.as_str().into(),
            nullable: plan.nullable,
            layout: info.layout,
            size: info.size as usize,
            data,
            nulls: NullBufferBuilder::new(rows),
            source_bytes: 0,
            last_bytes: 0,
        })
    }

    /// Reads one value as ROW has it.
    #[inline]
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Parsed<()> {
        let bytes = match self.layout {
            Layout::Fixed(size) => cursor.take(usize::from(size))?,
            Layout::Byte => match cursor.u8()? {
                0 => return self.push_null(),
                length => cursor.take(usize::from(length))?,
            },
            Layout::Short => match cursor.u16()? {
                0xFFFF => return self.push_null(),
                length if usize::from(length) <= self.size => cursor.take(usize::from(length))?,
                length => {
                    return self.bad(format!("a value of {length} bytes came in a type of {}", self.size));
                }
            },
            Layout::Pointer | Layout::Variant | Layout::Chunks => {
                return self.bad("its values come in pieces, which this column does not take".into());
            }
        };
        match self.data.push(bytes, &mut self.last_bytes) {
            Ok(()) => {
                self.source_bytes += self.last_bytes;
                self.nulls.append_non_null();
                Ok(())
            }
            Err(trouble) => self.bad(trouble.describe(bytes)),
        }
    }

    /// Whether values come in pieces.
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self.data, Data::Streamed(_))
    }

    /// Reads one value, or of a (max) type as much as there is and `room` bytes hold: false when the room is full.
    /// What was read of it before the bytes ended stays.
    pub(super) fn read_on(&mut self, cursor: &mut Cursor<'_>, room: usize) -> Parsed<bool> {
        let Data::Streamed(streamed) = &mut self.data else {
            // Of a short value nothing counts as read before it is whole.
            let mut ahead = cursor.clone();
            self.read(&mut ahead)?;
            *cursor = ahead;
            return Ok(true);
        };
        match streamed.read(cursor, room)? {
            Ok(Read::Full) => return Ok(false),
            Ok(Read::Whole(bytes)) => {
                self.source_bytes += bytes;
                self.nulls.append_non_null();
            }
            Ok(Read::Null) if self.nullable => self.nulls.append_null(),
            Ok(Read::Null) => return self.unplanned_null().map(|()| true),
            Err(trouble) => return self.bad(trouble.describe(&[])).map(|()| true),
        }
        Ok(true)
    }

    /// Fails at a value for which there is no memory.
    #[cold]
    pub(super) fn no_room(&self, message: String) -> Parsed<()> {
        self.bad(message)
    }

    #[cold]
    fn unplanned_null(&self) -> Parsed<()> {
        self.bad("a NULL came, and the plan says NOT NULL: the column has changed, so plan again".into())
    }

    /// Takes a NULL.
    #[inline]
    pub(super) fn push_null(&mut self) -> Parsed<()> {
        if !self.nullable {
            return self.unplanned_null();
        }
        each!(&mut self.data, values => values.push(Default::default()), bits => bits.append(false),
            text => text.close(), streamed => streamed.push_null());
        self.nulls.append_null();
        self.last_bytes = 0;
        Ok(())
    }

    /// Forgets the row after the first `rows`, if it had come this far.
    pub(super) fn truncate(&mut self, rows: usize) {
        if self.nulls.len() > rows {
            self.source_bytes -= self.last_bytes;
            self.nulls.truncate(rows);
        }
        // A table with columns in pieces is never cut back.
        each!(&mut self.data, values => values.truncate(rows), bits => bits.truncate(rows),
            text => text.truncate(rows), _streamed => ());
    }

    /// Bytes that every row takes.
    pub(super) fn fixed_bytes(&self) -> usize {
        each!(&self.data, values => size_of_val_of(values), _bits => 1, _text => size_of::<i32>(),
            _streamed => size_of::<i64>())
    }

    /// Bytes that the values of variable length take now, if it has such.
    #[inline]
    pub(super) fn variable_bytes(&self) -> Option<usize> {
        each!(&self.data, _values => None, _bits => None, text => Some(text.bytes.len()),
            streamed => Some(streamed.len()))
    }

    /// Bytes that text and binary values had on the wire.
    pub(super) fn source_bytes(&self) -> u64 {
        self.source_bytes
    }

    /// The Arrow array.
    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.build();
        Ok(match self.data {
            Data::Bit(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Data::TinyInt(values) | Data::SmallInt(values) => primitive::<Int16Type>(values, nulls)?,
            Data::Int(values) => primitive::<Int32Type>(values, nulls)?,
            Data::BigInt(values) => primitive::<Int64Type>(values, nulls)?,
            Data::Decimal { values, precision, scale, .. } => decimal(values, nulls, precision, scale)?,
            Data::Money(values) => decimal(values, nulls, 19, 4)?,
            Data::SmallMoney(values) => decimal(values, nulls, 10, 4)?,
            Data::Real(values) => primitive::<Float32Type>(values, nulls)?,
            Data::Float(values) => primitive::<Float64Type>(values, nulls)?,
            Data::Date(values) => primitive::<Date32Type>(values, nulls)?,
            Data::SmallDateTime(values) | Data::DateTime(values) => {
                primitive::<TimestampMillisecondType>(values, nulls)?
            }
            Data::DateTime2 { values, .. } => primitive::<TimestampMicrosecondType>(values, nulls)?,
            Data::DecimalText { text, .. }
            | Data::DateTime2Text(text)
            | Data::Encoded { text, .. }
            | Data::Utf16(text)
            | Data::UniqueIdentifier(text) => text.strings(nulls)?,
            Data::Streamed(streamed) => streamed.finish(nulls)?,
            Data::Binary(text) => {
                let (offsets, bytes) = text.parts();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
            }
        })
    }

    #[cold]
    fn bad(&self, message: String) -> Parsed<()> {
        Err(Stop::Fail(Box::new(TdsError::Value { column: self.name.to_string(), row: 0, message })))
    }
}

fn size_of_val_of<T>(_: &[T]) -> usize {
    size_of::<T>()
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?))
}

fn decimal(
    values: Vec<i128>,
    nulls: Option<NullBuffer>,
    precision: u8,
    scale: u8,
) -> Result<ArrayRef, ArrowError> {
    let values = ScalarBuffer::<<Decimal128Type as ArrowPrimitiveType>::Native>::from(values);
    Ok(Arc::new(Decimal128Array::try_new(values, nulls)?.with_precision_and_scale(precision, scale as i8)?))
}

/// What is wrong with a value.
#[derive(Debug)]
pub(super) enum Trouble {
    TooLarge { announced: Option<u64>, limit: usize, is_text: bool },
    Length,
    Range,
    CodePage(u16),
    Utf16,
}

impl Trouble {
    fn describe(&self, bytes: &[u8]) -> String {
        match self {
            Self::TooLarge { announced, limit, is_text } => {
                let size =
                    announced.map_or("of no announced size".to_owned(), |bytes| format!("of {bytes} bytes"));
                let limit =
                    if *is_text { format!("{limit} bytes of UTF-8") } else { format!("{limit} bytes") };
                format!(
                    "a value {size} does not fit into the {limit} that a value may have (Snowflake's limit, or a lower \
                     `limits.value_mib`); shorten it at the source, raise `limits.value_mib` if it is set, or exclude the column"
                )
            }
            Self::Length => format!("{} bytes came, which this type does not have", bytes.len()),
            Self::Range => "the value is outside of what its type can hold".into(),
            Self::CodePage(65001) => "the bytes are not UTF-8; repair the value at the source".into(),
            Self::CodePage(page) => format!(
                "a byte has no meaning in code page {page}; repair the value at the source, or exclude the column"
            ),
            Self::Utf16 => "the text has a surrogate without its other half, which no UTF-8 can hold; \
                            repair the value at the source, or exclude the column"
                .into(),
        }
    }
}

impl Data {
    fn new(plan: &ColumnPlan, rows: usize) -> Result<Self, TdsError> {
        Ok(match plan.source {
            SourceType::Bit => Self::Bit(BooleanBufferBuilder::new(rows)),
            SourceType::TinyInt => Self::TinyInt(Vec::with_capacity(rows)),
            SourceType::SmallInt => Self::SmallInt(Vec::with_capacity(rows)),
            SourceType::Int => Self::Int(Vec::with_capacity(rows)),
            SourceType::BigInt => Self::BigInt(Vec::with_capacity(rows)),
            SourceType::Decimal { precision, scale: scale @ 38 } => {
                Self::DecimalText { text: Text::new(rows), scale, limit: numbers::limit(precision) }
            }
            SourceType::Decimal { precision, scale } => Self::Decimal {
                values: Vec::with_capacity(rows),
                precision,
                scale,
                limit: numbers::limit(precision),
            },
            SourceType::Money => Self::Money(Vec::with_capacity(rows)),
            SourceType::SmallMoney => Self::SmallMoney(Vec::with_capacity(rows)),
            SourceType::Real => Self::Real(Vec::with_capacity(rows)),
            SourceType::Float => Self::Float(Vec::with_capacity(rows)),
            SourceType::Date => Self::Date(Vec::with_capacity(rows)),
            SourceType::SmallDateTime => Self::SmallDateTime(Vec::with_capacity(rows)),
            SourceType::DateTime => Self::DateTime(Vec::with_capacity(rows)),
            SourceType::DateTime2 { scale } if scale <= 6 => {
                Self::DateTime2 { values: Vec::with_capacity(rows), scale }
            }
            SourceType::DateTime2 { .. } => Self::DateTime2Text(Text::new(rows)),
            SourceType::Char { code_page, .. } | SourceType::VarChar { code_page, .. } => {
                let decoder = TextDecoder::of(corrupt::code_page(code_page.0))
                    .ok_or_else(|| no_decoder(plan, code_page.0))?;
                Self::Encoded { text: Text::new(rows), decoder, code_page: code_page.0 }
            }
            SourceType::NChar { .. } | SourceType::NVarChar { .. } => Self::Utf16(Text::new(rows)),
            SourceType::Binary { .. } | SourceType::VarBinary { .. } => Self::Binary(Text::new(rows)),
            SourceType::UniqueIdentifier => Self::UniqueIdentifier(Text::new(rows)),
            SourceType::VarCharMax { .. } | SourceType::NVarCharMax | SourceType::VarBinaryMax => {
                return Err(TdsError::protocol(format!("column {} needs pieces", plan.source_name)));
            }
        })
    }

    /// Takes one value that is not NULL.
    #[inline]
    fn push(&mut self, bytes: &[u8], source_bytes: &mut u64) -> Result<(), Trouble> {
        match self {
            Self::Bit(bits) => bits.append(exactly::<1>(bytes)? != [0]),
            Self::TinyInt(values) => values.push(i16::from(exactly::<1>(bytes)?[0])),
            Self::SmallInt(values) => values.push(i16::from_le_bytes(exactly(bytes)?)),
            Self::Int(values) => values.push(i32::from_le_bytes(exactly(bytes)?)),
            Self::BigInt(values) => values.push(i64::from_le_bytes(exactly(bytes)?)),
            Self::Decimal { values, limit, .. } => values.push(decimal_within(bytes, *limit)?),
            Self::DecimalText { text, scale, limit } => {
                numbers::push_decimal(&mut text.bytes, decimal_within(bytes, *limit)?, *scale);
                text.close();
            }
            Self::Money(values) => values.push(i128::from(numbers::money(exactly(bytes)?))),
            Self::SmallMoney(values) => values.push(i128::from(i32::from_le_bytes(exactly(bytes)?))),
            Self::Real(values) => values.push(f32::from_le_bytes(exactly(bytes)?)),
            Self::Float(values) => values.push(f64::from_le_bytes(exactly(bytes)?)),
            Self::Date(values) => {
                let [a, b, c] = exactly(bytes)?;
                values.push(temporal::date_days(u32::from_le_bytes([a, b, c, 0])).ok_or(Trouble::Range)?);
            }
            Self::SmallDateTime(values) => {
                values.push(temporal::smalldatetime_millis(exactly(bytes)?).ok_or(Trouble::Range)?);
            }
            Self::DateTime(values) => {
                values.push(temporal::datetime_millis(exactly(bytes)?).ok_or(Trouble::Range)?);
            }
            Self::DateTime2 { values, scale } => {
                values.push(temporal::datetime2_micros(bytes, *scale).ok_or(Trouble::Range)?);
            }
            Self::DateTime2Text(text) => {
                let (day, ticks) = temporal::datetime2_parts(bytes, 7).ok_or(Trouble::Range)?;
                temporal::push_datetime2_7(&mut text.bytes, day, ticks);
                text.close();
            }
            Self::Encoded { text, decoder, code_page } => {
                if !decoder.append(bytes, &mut text.bytes) {
                    return Err(Trouble::CodePage(*code_page));
                }
                text.close();
                *source_bytes = bytes.len() as u64;
            }
            Self::Utf16(text) => {
                if !append_utf16(bytes, &mut text.bytes) {
                    return Err(if bytes.len().is_multiple_of(2) { Trouble::Utf16 } else { Trouble::Length });
                }
                text.close();
                *source_bytes = bytes.len() as u64;
            }
            Self::Binary(text) => {
                text.bytes.extend_from_slice(bytes);
                text.close();
                *source_bytes = bytes.len() as u64;
            }
            Self::UniqueIdentifier(text) => {
                numbers::push_guid(&mut text.bytes, &exactly(bytes)?);
                text.close();
            }
            Self::Streamed(_) => return Err(Trouble::Length),
        }
        Ok(())
    }
}

#[inline]
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Trouble> {
    bytes.try_into().map_err(|_| Trouble::Length)
}

#[inline]
fn decimal_within(bytes: &[u8], limit: u128) -> Result<i128, Trouble> {
    let value = numbers::decimal(bytes).ok_or(Trouble::Length)?;
    if value.unsigned_abs() < limit { Ok(value) } else { Err(Trouble::Range) }
}
