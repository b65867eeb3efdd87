//! Parquet files as records: an object per row, whose members keep the kind that the file gave them.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{
        Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
        Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, UInt8Type, UInt16Type,
        UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType as Arrow, TimeUnit};
use bytes::Bytes;
use keyferry_sql::{Decimal, SqlError, Value, Variant};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::format::ParquetFormat;
use crate::results::EPOCH_DAYS;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 4096;
const DAY_NS: i128 = 86_400_000_000_000;

/// A file's records, one batch in memory at a time.
pub(super) struct Records {
    reader: ParquetRecordBatchReader,
    names: Vec<Arc<str>>,
    file: String,
    format: ParquetFormat,
    columns: Vec<std::vec::IntoIter<Option<Variant>>>,
    left: usize,
}

impl Records {
    pub(super) fn open(data: Bytes, format: ParquetFormat, file: &str) -> Result<Self, SqlError> {
        // The types are the Parquet file's own, whatever schema its writer added for other readers.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(data, options)
            .map_err(|error| unreadable(file, &error))?;
        let names = builder.schema().fields().iter().map(|field| Arc::from(field.name().as_str())).collect();
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| unreadable(file, &error))?;
        Ok(Self { reader, names, file: file.to_owned(), format, columns: Vec::new(), left: 0 })
    }

    /// Name, type and nullability of a file's columns, as INFER_SCHEMA tells them.
    pub(super) fn columns(data: Bytes, file: &str) -> Result<Vec<(String, String, bool)>, SqlError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(data, options)
            .map_err(|error| unreadable(file, &error))?;
        let told = |field: &Arc<arrow_schema::Field>| {
            (field.name().clone(), type_name(field.data_type()), field.is_nullable())
        };
        Ok(builder.schema().fields().iter().map(told).collect())
    }

    /// The names of the file's columns.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    fn advance(&mut self) -> Option<Result<(), SqlError>> {
        loop {
            let batch = match self.reader.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(unreadable(&self.file, &error))),
            };
            if batch.num_rows() > 0 {
                return Some(self.take(&batch));
            }
        }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        let format = self.format;
        self.columns = batch
            .columns()
            .iter()
            .zip(&self.names)
            .map(|(array, name)| column(array, format, name).map(Vec::into_iter))
            .collect::<Result<_, _>>()?;
        self.left = batch.num_rows();
        Ok(())
    }
}

impl Iterator for Records {
    type Item = Result<Variant, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0
            && let Err(error) = self.advance()?
        {
            return Some(Err(error));
        }
        self.left -= 1;
        let mut members = Vec::with_capacity(self.names.len());
        for (name, values) in self.names.iter().zip(&mut self.columns) {
            // A NULL is a member that is not there.
            if let Some(Some(value)) = values.next() {
                members.push((Arc::clone(name), value));
            }
        }
        Some(Ok(Variant::Object(members)))
    }
}

fn unreadable(file: &str, error: &impl std::fmt::Display) -> SqlError {
    SqlError::snowflake(100_132, "22000", format!("Error parsing the parquet file '{file}': {error}"))
}

/// The Snowflake type that holds values of this kind.
fn type_name(ty: &Arrow) -> String {
    match ty {
        Arrow::Boolean => "BOOLEAN".to_owned(),
        Arrow::Float16 | Arrow::Float32 | Arrow::Float64 => "REAL".to_owned(),
        Arrow::Decimal32(precision, scale)
        | Arrow::Decimal64(precision, scale)
        | Arrow::Decimal128(precision, scale) => format!("NUMBER({precision}, {scale})"),
        ty if ty.is_integer() => "NUMBER(38, 0)".to_owned(),
        Arrow::Date32 | Arrow::Date64 => "DATE".to_owned(),
        Arrow::Time32(_) | Arrow::Time64(_) => "TIME".to_owned(),
        Arrow::Timestamp(_, None) => "TIMESTAMP_NTZ".to_owned(),
        Arrow::Timestamp(_, Some(_)) => "TIMESTAMP_LTZ".to_owned(),
        Arrow::Binary | Arrow::LargeBinary | Arrow::FixedSizeBinary(_) => "BINARY".to_owned(),
        Arrow::List(_) | Arrow::LargeList(_) | Arrow::Struct(_) | Arrow::Map(..) => "VARIANT".to_owned(),
        _ => "TEXT".to_owned(),
    }
}

/// One column's values; `None` is NULL.
fn column(array: &ArrayRef, format: ParquetFormat, name: &str) -> Result<Vec<Option<Variant>>, SqlError> {
    macro_rules! each {
        ($kind:ty, $value:expr) => {{
            let make = $value;
            array.as_primitive::<$kind>().iter().map(|item| item.map(|item| scalar(make(item)))).collect()
        }};
    }
    let nested = || {
        SqlError::snowflake(
            2099,
            "0A000",
            format!("Column '{name}' has the Parquet type {}, which is not carried.", array.data_type()),
        )
    };
    Ok(match array.data_type() {
        Arrow::Null => vec![None; array.len()],
        Arrow::Boolean => {
            array.as_boolean().iter().map(|item| item.map(|item| scalar(Value::Bool(item)))).collect()
        }
        Arrow::Int8 => each!(Int8Type, |item| Value::Int(i64::from(item))),
        Arrow::Int16 => each!(Int16Type, |item| Value::Int(i64::from(item))),
        Arrow::Int32 => each!(Int32Type, |item| Value::Int(i64::from(item))),
        Arrow::Int64 => each!(Int64Type, Value::Int),
        Arrow::UInt8 => each!(UInt8Type, |item| Value::Int(i64::from(item))),
        Arrow::UInt16 => each!(UInt16Type, |item| Value::Int(i64::from(item))),
        Arrow::UInt32 => each!(UInt32Type, |item| Value::Int(i64::from(item))),
        Arrow::UInt64 => each!(UInt64Type, |item| Value::number(i128::from(item))),
        Arrow::Float32 => each!(Float32Type, |item| Value::Float(f64::from(item))),
        Arrow::Float64 => each!(Float64Type, Value::Float),
        Arrow::Decimal32(_, scale) => {
            let scale = digits(*scale).ok_or_else(nested)?;
            each!(Decimal32Type, |item| Value::Decimal(Decimal::new(i128::from(item), scale)))
        }
        Arrow::Decimal64(_, scale) => {
            let scale = digits(*scale).ok_or_else(nested)?;
            each!(Decimal64Type, |item| Value::Decimal(Decimal::new(i128::from(item), scale)))
        }
        Arrow::Decimal128(_, scale) => {
            let scale = digits(*scale).ok_or_else(nested)?;
            each!(Decimal128Type, |item| Value::Decimal(Decimal::new(item, scale)))
        }
        Arrow::Date32 => each!(Date32Type, |item: i32| Value::Date(item.saturating_add(EPOCH_DAYS as i32))),
        Arrow::Time32(TimeUnit::Millisecond) => {
            each!(Time32MillisecondType, |item| Value::Time(item as u64 * 1_000_000))
        }
        Arrow::Time64(TimeUnit::Microsecond) => {
            each!(Time64MicrosecondType, |item| Value::Time((item as u64).saturating_mul(1000)))
        }
        Arrow::Time64(TimeUnit::Nanosecond) => each!(Time64NanosecondType, |item| Value::Time(item as u64)),
        Arrow::Timestamp(TimeUnit::Nanosecond, _) if !format.logical => {
            each!(TimestampNanosecondType, Value::Int)
        }
        Arrow::Timestamp(unit, zone) => {
            let utc = zone.is_some() && format.logical;
            match unit {
                TimeUnit::Millisecond => {
                    each!(TimestampMillisecondType, |item| instant(item, 1_000_000, utc))
                }
                TimeUnit::Microsecond => each!(TimestampMicrosecondType, |item| instant(item, 1000, utc)),
                TimeUnit::Nanosecond => each!(TimestampNanosecondType, |item| instant(item, 1, utc)),
                TimeUnit::Second => return Err(nested()),
            }
        }
        Arrow::Utf8 => {
            array.as_string::<i32>().iter().map(|item| item.map(|item| scalar(Value::text(item)))).collect()
        }
        Arrow::LargeUtf8 => {
            array.as_string::<i64>().iter().map(|item| item.map(|item| scalar(Value::text(item)))).collect()
        }
        Arrow::Binary => binary(array.as_binary::<i32>().iter(), format, name)?,
        Arrow::LargeBinary => binary(array.as_binary::<i64>().iter(), format, name)?,
        Arrow::FixedSizeBinary(_) => binary(array.as_fixed_size_binary().iter(), format, name)?,
        _ => return Err(nested()),
    })
}

fn binary<'a>(
    items: impl Iterator<Item = Option<&'a [u8]>>,
    format: ParquetFormat,
    name: &str,
) -> Result<Vec<Option<Variant>>, SqlError> {
    items
        .map(|item| {
            let Some(bytes) = item else { return Ok(None) };
            if !format.binary_as_text {
                return Ok(Some(scalar(Value::bytes(bytes))));
            }
            if format.replace_invalid {
                return Ok(Some(scalar(Value::text(String::from_utf8_lossy(bytes)))));
            }
            let text = std::str::from_utf8(bytes).map_err(|_| {
                SqlError::snowflake(
                    100_144,
                    "22000",
                    format!("Invalid UTF8 detected in string in column '{name}' (BINARY_AS_TEXT is TRUE)."),
                )
            })?;
            Ok(Some(scalar(Value::text(text))))
        })
        .collect()
}

fn scalar(value: Value) -> Variant {
    Variant::Scalar(value)
}

fn digits(scale: i8) -> Option<u8> {
    u8::try_from(scale).ok()
}

/// An instant in units of `unit` nanoseconds since 1970.
fn instant(units: i64, unit: i128, utc: bool) -> Value {
    let since = i128::from(units) * unit;
    let days = (since.div_euclid(DAY_NS) + i128::from(EPOCH_DAYS)) as i32;
    let ns = since.rem_euclid(DAY_NS) as u64;
    if utc { Value::DateTimeOffset { days, ns, minutes: 0 } } else { Value::DateTime { days, ns } }
}
