//! Microsoft's mssql-tds: each row goes through its `RowWriter` straight into Arrow builders.
#![allow(clippy::print_stdout)] // one line of JSON is what it is for

use std::{borrow::Cow, collections::HashMap, fs::File, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, bail};
use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int16Builder, Int32Builder,
        Int64Builder, LargeBinaryBuilder, LargeStringBuilder, StringBuilder, TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use mssql_tds::{
    connection::client_context::ClientContext,
    connection_provider::tds_connection_provider::TdsConnectionProvider,
    core::EncryptionSetting,
    datatypes::{
        column_values::{
            SqlDate, SqlDateTime, SqlDateTime2, SqlDateTimeOffset, SqlMoney, SqlSmallDateTime, SqlSmallMoney, SqlTime,
            SqlXml,
        },
        decoder::DecimalParts,
        row_writer::RowWriter,
        sql_json::SqlJson,
        sql_string::EncodingType,
        sql_vector::SqlVector,
    },
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

const BATCH_ROWS: usize = 65_536;
const BATCH_BYTES: usize = 32 << 20;
const DAYS_TO_1970: i64 = 719_162;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(read())
}

fn arguments() -> HashMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    words.chunks_exact(2).map(|pair| (pair[0].trim_start_matches('-').to_owned(), pair[1].clone())).collect()
}

async fn read() -> Result<()> {
    let arguments = arguments();
    let wanted = |name: &str| arguments.get(name).cloned().with_context(|| format!("--{name} is missing"));
    let schema = schema(&wanted("ddl")?)?;
    let address = format!("tcp:127.0.0.1,{}", wanted("port")?);
    let mut context = ClientContext::with_data_source(&address);
    context.database = wanted("database")?;
    context.user_name = "judge".to_owned();
    context.password = "Judge-the-server-1".to_owned();
    context.encryption_options.mode = EncryptionSetting::PreferOff;
    context.encryption_options.trust_server_certificate = true;
    context.packet_size = 32_767;
    let mut client = TdsConnectionProvider {}.create_client(context, &address, None).await?;

    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut sink = Sink::open(&schema, arguments.get("out"))?;
    let mut rows = Builders::new(&schema)?;
    client.execute(wanted("sql")?, ()).await?;
    while client.next_row_into(&mut rows).await? {
        if rows.rows == BATCH_ROWS || rows.bytes >= BATCH_BYTES {
            sink.write(&rows.finish(&schema)?)?;
        }
    }
    if rows.rows > 0 {
        sink.write(&rows.finish(&schema)?)?;
    }
    let (size, nulls) = sink.close()?;
    let measured = serde_json::json!({
        "rows": rows.total,
        "seconds": started.elapsed().as_secs_f64(),
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_kib": peak_kib()?,
        "file_bytes": size,
        "nulls": nulls,
        "versions": "mssql-tds 0.3.0",
    });
    println!("{measured}");
    Ok(())
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
fn schema(ddl: &str) -> Result<SchemaRef> {
    let (_, list) = ddl.split_once('(').context("a list of columns")?;
    let (list, _) = list.split_once(", CONSTRAINT").context("a primary key")?;
    let field = |column: &str| {
        let (name, ty) = column.trim_start_matches('[').split_once("] ").context("a column's name and type")?;
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
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(256 * 1024);
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        properties = match field.data_type() {
            DataType::Utf8 => properties.set_column_dictionary_enabled(path, true),
            DataType::LargeUtf8 | DataType::LargeBinary => {
                properties.set_column_statistics_enabled(path, EnabledStatistics::None)
            }
            _ => properties,
        };
    }
    properties.build()
}

struct Sink(Option<(ArrowWriter<File>, String)>);

impl Sink {
    fn open(schema: &SchemaRef, out: Option<&String>) -> Result<Self> {
        let Some(path) = out else { return Ok(Self(None)) };
        let options = ArrowWriterOptions::new().with_properties(properties(schema)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(File::create(path)?, Arc::clone(schema), options)?;
        Ok(Self(Some((writer, path.clone()))))
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some((writer, _)) = &mut self.0 {
            writer.write(batch)?;
            writer.flush()?;
        }
        Ok(())
    }

    fn close(self) -> Result<(u64, Vec<u64>)> {
        let Some((writer, path)) = self.0 else { return Ok((0, Vec::new())) };
        let footer = writer.close()?;
        let mut nulls = vec![0; footer.file_metadata().schema_descr().num_columns()];
        for group in footer.row_groups() {
            for (count, column) in nulls.iter_mut().zip(group.columns()) {
                *count += column.statistics().and_then(|found| found.null_count_opt()).unwrap_or(0);
            }
        }
        Ok((std::fs::metadata(path)?.len(), nulls))
    }
}

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

struct Builders {
    columns: Vec<Column>,
    rows: usize,
    total: u64,
    /// Bytes of the values of variable length.
    bytes: usize,
}

impl Builders {
    fn new(schema: &Schema) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| Column::new(field)).collect::<Result<_>>()?;
        Ok(Self { columns, rows: 0, total: 0, bytes: 0 })
    }

    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
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
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Micros(TimestampMicrosecondBuilder::new()),
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

/// A value that no table here has ends the program: a comparison with half the values would be worth nothing.
fn unexpected(col: usize) -> ! {
    eprintln!("column {col}: a value came in another type than its column's");
    std::process::exit(1)
}

impl RowWriter for Builders {
    #[inline]
    fn write_null(&mut self, col: usize) {
        match &mut self.columns[col] {
            Column::Bool(builder) => builder.append_null(),
            Column::I16(builder) => builder.append_null(),
            Column::I32(builder) => builder.append_null(),
            Column::I64(builder) => builder.append_null(),
            Column::F64(builder) => builder.append_null(),
            Column::Decimal(builder) => builder.append_null(),
            Column::Date(builder) => builder.append_null(),
            Column::Micros(builder) => builder.append_null(),
            Column::Text(builder) => builder.append_null(),
            Column::LongText(builder) => builder.append_null(),
            Column::Binary(builder) => builder.append_null(),
            Column::LongBinary(builder) => builder.append_null(),
        }
    }

    fn write_bool(&mut self, col: usize, val: bool) {
        match &mut self.columns[col] {
            Column::Bool(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    fn write_u8(&mut self, col: usize, val: u8) {
        self.write_i16(col, i16::from(val));
    }

    fn write_i16(&mut self, col: usize, val: i16) {
        match &mut self.columns[col] {
            Column::I16(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_i32(&mut self, col: usize, val: i32) {
        match &mut self.columns[col] {
            Column::I32(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_i64(&mut self, col: usize, val: i64) {
        match &mut self.columns[col] {
            Column::I64(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    fn write_f32(&mut self, col: usize, _: f32) {
        unexpected(col)
    }

    fn write_f64(&mut self, col: usize, val: f64) {
        match &mut self.columns[col] {
            Column::F64(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_string(&mut self, col: usize, bytes: Cow<'_, [u8]>, encoding_type: EncodingType) {
        let Some(encoding) = encoding_type.resolved_encoding() else { unexpected(col) };
        let (text, wrong) = encoding.decode_without_bom_handling(&bytes);
        if wrong {
            unexpected(col);
        }
        self.bytes += text.len();
        match &mut self.columns[col] {
            Column::Text(builder) => builder.append_value(&text),
            Column::LongText(builder) => builder.append_value(&text),
            _ => unexpected(col),
        }
    }

    fn write_bytes(&mut self, col: usize, bytes: Cow<'_, [u8]>) {
        self.bytes += bytes.len();
        match &mut self.columns[col] {
            Column::Binary(builder) => builder.append_value(&bytes),
            Column::LongBinary(builder) => builder.append_value(&bytes),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_decimal(&mut self, col: usize, val: DecimalParts) {
        let magnitude = val.magnitude() as i128;
        match &mut self.columns[col] {
            Column::Decimal(builder) => builder.append_value(if val.is_positive { magnitude } else { -magnitude }),
            _ => unexpected(col),
        }
    }

    fn write_numeric(&mut self, col: usize, val: DecimalParts) {
        self.write_decimal(col, val);
    }

    #[inline]
    fn write_date(&mut self, col: usize, val: SqlDate) {
        match &mut self.columns[col] {
            Column::Date(builder) => builder.append_value((i64::from(val.get_days()) - DAYS_TO_1970) as i32),
            _ => unexpected(col),
        }
    }

    fn write_datetime2(&mut self, col: usize, val: SqlDateTime2) {
        let micros = (val.time.time_nanoseconds / 1000) as i64;
        match &mut self.columns[col] {
            Column::Micros(builder) => {
                builder.append_value((i64::from(val.days) - DAYS_TO_1970) * 86_400_000_000 + micros);
            }
            _ => unexpected(col),
        }
    }

    fn write_time(&mut self, col: usize, _: SqlTime) {
        unexpected(col)
    }

    fn write_datetime(&mut self, col: usize, _: SqlDateTime) {
        unexpected(col)
    }

    fn write_smalldatetime(&mut self, col: usize, _: SqlSmallDateTime) {
        unexpected(col)
    }

    fn write_datetimeoffset(&mut self, col: usize, _: SqlDateTimeOffset) {
        unexpected(col)
    }

    fn write_money(&mut self, col: usize, _: SqlMoney) {
        unexpected(col)
    }

    fn write_smallmoney(&mut self, col: usize, _: SqlSmallMoney) {
        unexpected(col)
    }

    fn write_uuid(&mut self, col: usize, _: uuid::Uuid) {
        unexpected(col)
    }

    fn write_xml(&mut self, col: usize, _: SqlXml) {
        unexpected(col)
    }

    fn write_json(&mut self, col: usize, _: SqlJson) {
        unexpected(col)
    }

    fn write_vector(&mut self, col: usize, _: SqlVector) {
        unexpected(col)
    }

    #[inline]
    fn end_row(&mut self) {
        self.rows += 1;
        self.total += 1;
    }
}
