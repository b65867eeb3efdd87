//! The service's Arrow result format: IPC streams whose fields say in their metadata what Snowflake's type is.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType as Arrow, Field, Fields, Schema};
use keyferry_sql::{Column, DataType, Row, Value};

use super::{EPOCH_DAYS, logical_name, shape, since_epoch, write_text};
use crate::reply::Refusal;

/// Timestamps of at most this scale are one integer; finer ones need seconds and nanoseconds apart.
const MOST_SCALE_OF_ONE_INTEGER: u8 = 7;
/// The same for timestamps that carry an offset.
const MOST_SCALE_WITH_OFFSET: u8 = 3;
/// Times of day of at most this scale fit 32 bits.
const MOST_SCALE_OF_SHORT_TIME: u8 = 4;

/// How the values of one column are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A scaled integer of so many bytes: 1, 2, 4, 8 or 16.
    Fixed(u8),
    Real,
    Boolean,
    Date,
    /// A scaled integer of four or eight bytes.
    Time(u8),
    /// One scaled integer.
    Instant,
    /// Seconds and nanoseconds.
    InstantInTwo,
    /// A scaled integer and the offset.
    Zoned,
    /// Seconds, nanoseconds and the offset.
    ZonedInThree,
    Text,
    Binary,
}

/// The layout of a whole result, by which each of its parts is written.
pub(crate) struct Encoder {
    columns: Vec<(DataType, Layout)>,
    schema: Arc<Schema>,
}

impl Encoder {
    /// Chooses layouts: numbers get the width that the result's own values need, as the service does it.
    pub(crate) fn new(columns: &[Column], rows: &[Row]) -> Self {
        let layouts: Vec<(DataType, Layout)> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| (column.ty.clone(), layout(&column.ty, rows, at)))
            .collect();
        let fields: Vec<Field> =
            columns.iter().zip(&layouts).map(|(column, (_, layout))| field(column, *layout)).collect();
        Self { columns: layouts, schema: Arc::new(Schema::new(fields)) }
    }

    /// One IPC stream with these rows.
    pub(crate) fn stream(&self, rows: &[Row]) -> Result<Vec<u8>, Refusal> {
        self.write(rows).map_err(|error| {
            Refusal::new("300002", "XX000", format!("The result cannot be laid out as Arrow: {error}"))
        })
    }

    fn write(&self, rows: &[Row]) -> Result<Vec<u8>, ArrowError> {
        let arrays = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (ty, layout))| array(rows, at, ty, *layout))
            .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        writer.write(&batch)?;
        writer.finish()?;
        writer.into_inner()
    }
}

fn layout(ty: &DataType, rows: &[Row], at: usize) -> Layout {
    match ty {
        DataType::Double | DataType::Real | DataType::Float => Layout::Real,
        DataType::Boolean | DataType::Bit => Layout::Boolean,
        DataType::Date => Layout::Date,
        DataType::Time { scale } => Layout::Time(if *scale <= MOST_SCALE_OF_SHORT_TIME { 4 } else { 8 }),
        DataType::TimestampNtz { scale } | DataType::TimestampLtz { scale } => {
            if *scale <= MOST_SCALE_OF_ONE_INTEGER { Layout::Instant } else { Layout::InstantInTwo }
        }
        DataType::TimestampTz { scale } => {
            if *scale <= MOST_SCALE_WITH_OFFSET {
                Layout::Zoned
            } else {
                Layout::ZonedInThree
            }
        }
        DataType::Bytes { .. } => Layout::Binary,
        other => match other.precision_scale() {
            Some((_, scale)) => Layout::Fixed(width(rows.iter().filter_map(|row| fixed(&row[at], scale)))),
            None => Layout::Text,
        },
    }
}

/// The least width that holds all of these.
fn width(values: impl Iterator<Item = i128>) -> u8 {
    values.fold(1, |bytes, value| {
        let needed = match value {
            -0x80..=0x7f => 1,
            -0x8000..=0x7fff => 2,
            -0x8000_0000..=0x7fff_ffff => 4,
            -0x8000_0000_0000_0000..=0x7fff_ffff_ffff_ffff => 8,
            _ => 16,
        };
        bytes.max(needed)
    })
}

fn field(column: &Column, layout: Layout) -> Field {
    let (_, precision, scale, length, bytes) = shape(&column.ty);
    let ty = match layout {
        Layout::Fixed(1) => Arrow::Int8,
        Layout::Fixed(2) => Arrow::Int16,
        Layout::Fixed(4) | Layout::Time(4) => Arrow::Int32,
        Layout::Fixed(8) | Layout::Time(_) | Layout::Instant => Arrow::Int64,
        Layout::Fixed(_) => Arrow::Decimal128(38, scale.unwrap_or(0) as i8),
        Layout::Real => Arrow::Float64,
        Layout::Boolean => Arrow::Boolean,
        Layout::Date => Arrow::Date32,
        Layout::InstantInTwo => Arrow::Struct(parts(&["epoch", "fraction"])),
        Layout::Zoned => Arrow::Struct(parts(&["epoch", "timezone"])),
        Layout::ZonedInThree => Arrow::Struct(parts(&["epoch", "fraction", "timezone"])),
        Layout::Text => Arrow::Utf8,
        Layout::Binary => Arrow::Binary,
    };
    let metadata = HashMap::from([
        ("logicalType".to_owned(), logical_name(&column.ty).to_uppercase()),
        ("precision".to_owned(), precision.unwrap_or(38).to_string()),
        ("scale".to_owned(), scale.unwrap_or(0).to_string()),
        ("charLength".to_owned(), length.unwrap_or(0).to_string()),
        ("byteLength".to_owned(), physical_length(layout).or(bytes).unwrap_or(0).to_string()),
        ("finalType".to_owned(), "T".to_owned()),
    ]);
    Field::new(&column.name, ty, column.nullable).with_metadata(metadata)
}

/// The bytes of one value, by which drivers tell the layouts of a type apart; `None`: they vary.
fn physical_length(layout: Layout) -> Option<u32> {
    Some(match layout {
        Layout::Fixed(width) | Layout::Time(width) => u32::from(width),
        Layout::Boolean => 1,
        Layout::Date => 4,
        Layout::Real | Layout::Instant | Layout::Zoned => 8,
        Layout::InstantInTwo | Layout::ZonedInThree => 16,
        Layout::Text | Layout::Binary => return None,
    })
}

/// Members of a timestamp: only the seconds (or scaled units) are 64 bits wide.
fn parts(names: &[&str]) -> Fields {
    let width = |name: &str| if name == "epoch" { Arrow::Int64 } else { Arrow::Int32 };
    names.iter().map(|name| Field::new(*name, width(name), true)).collect()
}

/// A number in units of its column's scale.
fn fixed(value: &Value, scale: u8) -> Option<i128> {
    match value {
        Value::Int(value) => i128::from(*value).checked_mul(10_i128.checked_pow(u32::from(scale))?),
        Value::Decimal(value) => {
            if value.scale == scale {
                Some(value.unscaled)
            } else {
                value.rescale(scale, keyferry_sql::Rounding::HalfUp).map(|value| value.unscaled)
            }
        }
        _ => None,
    }
}

/// Nanoseconds since 1970, and the offset in minutes.
fn instant(value: &Value) -> Option<(i128, i16)> {
    match value {
        Value::DateTime { days, ns } => Some((since_epoch(*days, *ns), 0)),
        Value::DateTimeOffset { days, ns, minutes } => Some((since_epoch(*days, *ns), *minutes)),
        _ => None,
    }
}

fn array(rows: &[Row], at: usize, ty: &DataType, layout: Layout) -> Result<ArrayRef, ArrowError> {
    let values = || rows.iter().map(|row| &row[at]);
    let scale = ty.fraction().unwrap_or(9).min(9);
    let unit = 10_i128.pow(u32::from(9 - scale));
    let digits = ty.precision_scale().map_or(0, |(_, scale)| scale);
    let numbers = || values().map(|value| fixed(value, digits));
    let of_instant = |part: fn(i128, i16, i128) -> i128| {
        values().map(move |value| instant(value).map(|(ns, minutes)| part(ns, minutes, unit)))
    };
    let units = |ns: i128, _: i16, unit: i128| ns.div_euclid(unit);
    let seconds = |ns: i128, _: i16, _: i128| ns.div_euclid(1_000_000_000);
    let fraction = |ns: i128, _: i16, _: i128| ns.rem_euclid(1_000_000_000);
    let offset = |_: i128, minutes: i16, _: i128| i128::from(minutes) + 1440;
    let wide = |part: fn(i128, i16, i128) -> i128| -> ArrayRef {
        Arc::new(of_instant(part).map(|item| item.map(|item| item as i64)).collect::<Int64Array>())
    };
    let narrow = |part: fn(i128, i16, i128) -> i128| -> ArrayRef {
        Arc::new(of_instant(part).map(|item| item.map(|item| item as i32)).collect::<Int32Array>())
    };
    let joined = |names: &[&str], arrays: Vec<ArrayRef>| -> Result<ArrayRef, ArrowError> {
        let nulls: NullBuffer = values().map(|value| instant(value).is_some()).collect();
        Ok(Arc::new(StructArray::try_new(parts(names), arrays, Some(nulls))?))
    };
    Ok(match layout {
        Layout::Fixed(1) => {
            Arc::new(numbers().map(|item| item.map(|item| item as i8)).collect::<Int8Array>())
        }
        Layout::Fixed(2) => {
            Arc::new(numbers().map(|item| item.map(|item| item as i16)).collect::<Int16Array>())
        }
        Layout::Fixed(4) => {
            Arc::new(numbers().map(|item| item.map(|item| item as i32)).collect::<Int32Array>())
        }
        Layout::Fixed(8) => {
            Arc::new(numbers().map(|item| item.map(|item| item as i64)).collect::<Int64Array>())
        }
        Layout::Fixed(_) => {
            Arc::new(numbers().collect::<Decimal128Array>().with_precision_and_scale(38, digits as i8)?)
        }
        Layout::Real => Arc::new(
            values()
                .map(|value| match value {
                    Value::Float(value) => Some(*value),
                    Value::Real(value) => Some(f64::from(*value)),
                    _ => None,
                })
                .collect::<Float64Array>(),
        ),
        Layout::Boolean => Arc::new(
            values()
                .map(|value| match value {
                    Value::Bool(value) => Some(*value),
                    Value::Int(value) => Some(*value != 0),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        Layout::Date => Arc::new(
            values()
                .map(|value| match value {
                    Value::Date(days) => Some((i64::from(*days) - EPOCH_DAYS) as i32),
                    _ => None,
                })
                .collect::<Date32Array>(),
        ),
        Layout::Time(width) => {
            let units = values().map(|value| match value {
                Value::Time(ns) => Some(i128::from(*ns) / unit),
                _ => None,
            });
            if width == 4 {
                Arc::new(units.map(|item| item.map(|item| item as i32)).collect::<Int32Array>())
            } else {
                Arc::new(units.map(|item| item.map(|item| item as i64)).collect::<Int64Array>())
            }
        }
        Layout::Instant => wide(units),
        Layout::InstantInTwo => joined(&["epoch", "fraction"], vec![wide(seconds), narrow(fraction)])?,
        Layout::Zoned => joined(&["epoch", "timezone"], vec![wide(units), narrow(offset)])?,
        Layout::ZonedInThree => {
            joined(&["epoch", "fraction", "timezone"], vec![wide(seconds), narrow(fraction), narrow(offset)])?
        }
        Layout::Text => Arc::new(
            values()
                .map(|value| {
                    (!value.is_null()).then(|| {
                        let mut text = String::new();
                        write_text(&mut text, value, ty);
                        text
                    })
                })
                .collect::<StringArray>(),
        ),
        Layout::Binary => Arc::new(
            values()
                .map(|value| match value {
                    Value::Bytes(bytes) => Some(bytes.as_ref()),
                    _ => None,
                })
                .collect::<BinaryArray>(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(ty: DataType, values: Vec<Value>) -> RecordBatch {
        let columns = [Column::new("C", ty, true)];
        let rows: Vec<Row> = values.into_iter().map(|value| Row::from([value])).collect();
        let bytes = Encoder::new(&columns, &rows).stream(&rows).unwrap();
        let mut reader = arrow_ipc::reader::StreamReader::try_new(&bytes[..], None).unwrap();
        reader.next().unwrap().unwrap()
    }

    #[test]
    fn numbers_are_as_wide_as_the_widest_value() {
        let ty = DataType::Number { precision: 38, scale: 0 };
        let batch = round_trip(ty.clone(), vec![Value::number(1), Value::Null, Value::number(-128)]);
        assert_eq!(batch.schema().field(0).data_type(), &Arrow::Int8);
        assert_eq!(batch.schema().field(0).metadata()["logicalType"], "FIXED");
        let batch = round_trip(ty.clone(), vec![Value::number(1), Value::number(40_000)]);
        assert_eq!(batch.schema().field(0).data_type(), &Arrow::Int32);
        let batch = round_trip(ty, vec![Value::number(i128::from(i64::MAX) + 1)]);
        assert_eq!(batch.schema().field(0).data_type(), &Arrow::Decimal128(38, 0));
    }

    #[test]
    fn timestamps_before_1970_have_a_fraction_that_counts_forward() {
        let before = Value::DateTime { days: 719_161, ns: 86_399_500_000_000 };
        let batch = round_trip(DataType::TimestampNtz { scale: 9 }, vec![before, Value::Null]);
        let array = batch.column(0).as_any().downcast_ref::<StructArray>().unwrap();
        let epoch = array.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        let fraction = array.column(1).as_any().downcast_ref::<Int32Array>().unwrap();
        assert_eq!((epoch.value(0), fraction.value(0)), (-1, 500_000_000));
        assert!(arrow_array::Array::is_null(array, 1));
    }
}
