//! What the clients in Rust share: the measurement, the Parquet file, Arrow builders for the types that the tables have.

use std::{collections::HashMap, fs::File, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, bail};
use arrow_array::{
    Array as _, ArrayRef, RecordBatch,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int16Builder,
        Int32Builder, Int64Builder, LargeBinaryBuilder, LargeStringBuilder, StringBuilder,
        TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

pub const BATCH_ROWS: usize = 65_536;
pub const BATCH_BYTES: usize = 32 << 20;
pub const DAYS_TO_1970: i64 = 719_162;

/// `--name value` pairs.
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    pub fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let pair = |pair: &[String]| (pair[0].trim_start_matches('-').to_owned(), pair[1].clone());
        Self(words.chunks_exact(2).map(pair).collect())
    }

    pub fn wanted(&self, name: &str) -> Result<String> {
        self.0.get(name).cloned().with_context(|| format!("--{name} is missing"))
    }

    pub fn out(&self) -> Option<&String> {
        self.0.get("out")
    }
}

/// A running measurement.
pub struct Meter {
    started: Instant,
    cpu: f64,
}

impl Meter {
    pub fn start() -> Self {
        Self { started: Instant::now(), cpu: cpu_seconds() }
    }

    /// Prints one line of JSON.
    #[allow(clippy::print_stdout)]
    pub fn stop(&self, rows: u64, (file_bytes, nulls): (u64, Vec<u64>), versions: &str) -> Result<()> {
        let measured = serde_json::json!({
            "rows": rows,
            "seconds": self.started.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds() - self.cpu,
            "peak_kib": peak_kib()?,
            "file_bytes": file_bytes,
            "nulls": nulls,
            "versions": versions,
        });
        println!("{measured}");
        Ok(())
    }
}

#[allow(unsafe_code)]
fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole rusage, which zeroes are a value of.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn peak_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The types that the loader gives these columns.
pub fn schema(ddl: &str) -> Result<SchemaRef> {
    let (_, list) = ddl.split_once('(').context("a list of columns")?;
    let (list, _) = list.split_once(", CONSTRAINT").context("a primary key")?;
    let field = |column: &str| {
        let (name, ty) =
            column.trim_start_matches('[').split_once("] ").context("a column's name and type")?;
        Ok(Field::new(name, arrow_type(ty)?, !ty.ends_with("NOT NULL")))
    };
    Ok(Arc::new(Schema::new(list.split(", [").map(field).collect::<Result<Vec<_>>>()?)))
}

fn arrow_type(ty: &str) -> Result<DataType> {
    let (name, arguments) = ty.split_once('(').unwrap_or((ty.split(' ').next().unwrap_or(ty), ""));
    let (arguments, _) = arguments.split_once(')').unwrap_or(("", ""));
    let numbers: Vec<i8> = arguments.split(',').filter_map(|number| number.parse().ok()).collect();
    Ok(match (name, arguments, numbers.as_slice()) {
        ("bit", ..) => DataType::Boolean,
        ("tinyint" | "smallint", ..) => DataType::Int16,
        ("int", ..) => DataType::Int32,
        ("bigint", ..) => DataType::Int64,
        ("float", ..) => DataType::Float64,
        ("date", ..) => DataType::Date32,
        ("datetime2", ..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        ("varchar" | "nvarchar", "max", _) => DataType::LargeUtf8,
        ("varbinary", "max", _) => DataType::LargeBinary,
        ("char" | "varchar" | "nchar" | "nvarchar", ..) => DataType::Utf8,
        ("decimal", _, [precision, scale]) => DataType::Decimal128(*precision as u8, *scale),
        _ => bail!("no table has the type {ty}"),
    })
}

/// The same settings as the loader's `encode::properties`.
fn properties(schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(256 * 1024);
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        properties = match field.data_type() {
            DataType::Utf8 => properties.set_column_dictionary_enabled(path, true),
            _ => properties,
        };
    }
    properties.build()
}

pub struct Sink(Option<(ArrowWriter<File>, String)>, Vec<u64>);

impl Sink {
    pub fn open(schema: &SchemaRef, out: Option<&String>) -> Result<Self> {
        let Some(path) = out else { return Ok(Self(None, Vec::new())) };
        let options =
            ArrowWriterOptions::new().with_properties(properties(schema)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(File::create(path)?, Arc::clone(schema), options)?;
        Ok(Self(Some((writer, path.clone())), vec![0; schema.fields().len()]))
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some((writer, _)) = &mut self.0 {
            for (count, column) in self.1.iter_mut().zip(batch.columns()) {
                *count += column.null_count() as u64;
            }
            writer.write(batch)?;
            writer.flush()?;
        }
        Ok(())
    }

    pub fn close(self) -> Result<(u64, Vec<u64>)> {
        let Some((writer, path)) = self.0 else { return Ok((0, Vec::new())) };
        writer.close()?;
        Ok((std::fs::metadata(path)?.len(), self.1))
    }
}

pub enum Column {
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

pub struct Builders {
    pub columns: Vec<Column>,
    pub rows: usize,
    pub total: u64,
    /// Bytes of the values of variable length.
    pub bytes: usize,
}

impl Builders {
    pub fn new(schema: &Schema) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| Column::new(field)).collect::<Result<_>>()?;
        Ok(Self { columns, rows: 0, total: 0, bytes: 0 })
    }

    pub fn is_full(&self) -> bool {
        self.rows == BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
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
