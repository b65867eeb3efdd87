//! tiberius, row by row into Arrow builders.

use std::sync::Arc;

use anyhow::{Result, bail};
use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int16Builder,
        Int32Builder, Int64Builder, LargeBinaryBuilder, LargeStringBuilder, StringBuilder,
        TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures_util::TryStreamExt as _;
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, FromSql as _, QueryItem};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncWriteCompatExt as _;

use super::{BATCH_BYTES, BATCH_ROWS, LOGIN, PASSWORD, Reading, Sink};
use crate::{
    tables,
    usage::{Measured, Meter},
};

/// Days from 0001-01-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_162;

pub(super) async fn read(reading: &Reading) -> Result<Measured> {
    let schema = tables::arrow_schema(&reading.ddl)?;
    let mut config = Config::new();
    config.host("localhost");
    config.port(reading.port);
    config.database(&reading.database);
    config.authentication(AuthMethod::sql_server(LOGIN, PASSWORD));
    config.encryption(EncryptionLevel::NotSupported);
    let socket = TcpStream::connect(config.get_addr()).await?;
    socket.set_nodelay(true)?;
    let mut client = Client::connect(config, socket.compat_write()).await?;

    let meter = Meter::start()?;
    let mut sink = Sink::open(&schema, reading.out.as_ref())?;
    let mut columns = Columns::new(&schema)?;
    let mut count = 0;
    let mut items = client.simple_query(reading.sql.as_str()).await?;
    while let Some(item) = items.try_next().await? {
        let QueryItem::Row(row) = item else { continue };
        for (column, data) in columns.0.iter_mut().zip(row.into_iter()) {
            column.push(data)?;
        }
        columns.1 += 1;
        count += 1;
        if columns.1 == BATCH_ROWS || columns.bytes() >= BATCH_BYTES {
            sink.write(&columns.finish(&schema)?)?;
        }
    }
    drop(items);
    if columns.1 > 0 {
        sink.write(&columns.finish(&schema)?)?;
    }
    let mut file = Measured::default();
    sink.close(&mut file)?;
    let measured = meter.stop(count)?;
    Ok(Measured {
        file_bytes: file.file_bytes,
        nulls: file.nulls,
        versions: crate::machine::locked("tiberius"),
        ..measured
    })
}

/// One builder for each type that the tables have.
enum Column {
    Bool(BooleanBuilder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    LongText(LargeStringBuilder),
    Binary(BinaryBuilder),
    LongBinary(LargeBinaryBuilder),
}

/// The builders, and the rows in them.
struct Columns(Vec<Column>, usize);

impl Columns {
    fn new(schema: &Schema) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| Column::new(field)).collect::<Result<_>>()?;
        Ok(Self(columns, 0))
    }

    /// Bytes of the values of variable length.
    fn bytes(&self) -> usize {
        let column = |column: &Column| match column {
            Column::LongText(builder) => builder.values_slice().len(),
            Column::LongBinary(builder) => builder.values_slice().len(),
            Column::Text(builder) => builder.values_slice().len(),
            Column::Binary(builder) => builder.values_slice().len(),
            _ => 0,
        };
        self.0.iter().map(column).sum()
    }

    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        self.1 = 0;
        let arrays = self.0.iter_mut().map(Column::finish).collect();
        Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
    }
}

impl Column {
    fn new(field: &Field) -> Result<Self> {
        Ok(match field.data_type() {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int16 => Self::I16(Int16Builder::new()),
            DataType::Int32 => Self::I32(Int32Builder::new()),
            DataType::Int64 => Self::I64(Int64Builder::new()),
            DataType::Float64 => Self::F64(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => {
                Self::Decimal(Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Self::Micros(TimestampMicrosecondBuilder::new())
            }
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::LargeUtf8 => Self::LongText(LargeStringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::LargeBinary => Self::LongBinary(LargeBinaryBuilder::new()),
            other => bail!("{}: no builder for {other}", field.name()),
        })
    }

    fn push(&mut self, data: ColumnData<'static>) -> Result<()> {
        match (self, data) {
            (Self::Bool(builder), ColumnData::Bit(value)) => builder.append_option(value),
            (Self::I16(builder), ColumnData::U8(value)) => builder.append_option(value.map(i16::from)),
            (Self::I16(builder), ColumnData::I16(value)) => builder.append_option(value),
            (Self::I32(builder), ColumnData::I32(value)) => builder.append_option(value),
            (Self::I64(builder), ColumnData::I64(value)) => builder.append_option(value),
            (Self::F64(builder), ColumnData::F64(value)) => builder.append_option(value),
            (Self::Decimal(builder), ColumnData::Numeric(value)) => {
                builder.append_option(value.map(|value| value.value()));
            }
            (Self::Date(builder), ColumnData::Date(value)) => {
                builder.append_option(value.map(|date| (i64::from(date.days()) - DAYS_TO_1970) as i32));
            }
            (Self::Micros(builder), ColumnData::DateTime2(value)) => {
                builder.append_option(value.map(|value| {
                    let time = value.time();
                    let micros = time.increments() as i64 * 10_i64.pow(6 - u32::from(time.scale()).min(6));
                    (i64::from(value.date().days()) - DAYS_TO_1970) * 86_400_000_000 + micros
                }));
            }
            (Self::Text(builder), data @ ColumnData::String(_)) => {
                builder.append_option(<&str>::from_sql(&data)?)
            }
            (Self::LongText(builder), data @ ColumnData::String(_)) => {
                builder.append_option(<&str>::from_sql(&data)?);
            }
            (Self::Binary(builder), data @ ColumnData::Binary(_)) => {
                builder.append_option(<&[u8]>::from_sql(&data)?)
            }
            (Self::LongBinary(builder), data @ ColumnData::Binary(_)) => {
                builder.append_option(<&[u8]>::from_sql(&data)?);
            }
            (_, other) => bail!("a value came in another type than its column's: {other:?}"),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::I16(builder) => Arc::new(builder.finish()),
            Self::I32(builder) => Arc::new(builder.finish()),
            Self::I64(builder) => Arc::new(builder.finish()),
            Self::F64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Micros(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::LongText(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::LongBinary(builder) => Arc::new(builder.finish()),
        }
    }
}
