//! Microsoft's mssql-tds: each row goes through its `RowWriter` straight into Arrow builders.
#![allow(clippy::print_stderr)]

use std::borrow::Cow;

use anyhow::Result;
use keyferry_bench_peers::{Arguments, Builders, Column, DAYS_TO_1970, Meter, Sink, schema};
use mssql_tds::{
    connection::client_context::ClientContext,
    connection_provider::tds_connection_provider::TdsConnectionProvider,
    core::EncryptionSetting,
    datatypes::{
        column_values::{
            SqlDate, SqlDateTime, SqlDateTime2, SqlDateTimeOffset, SqlMoney, SqlSmallDateTime, SqlSmallMoney,
            SqlTime, SqlXml,
        },
        decoder::DecimalParts,
        row_writer::RowWriter,
        sql_json::SqlJson,
        sql_string::EncodingType,
        sql_vector::SqlVector,
    },
};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(read())
}

async fn read() -> Result<()> {
    let arguments = Arguments::read();
    let schema = schema(&arguments.wanted("ddl")?)?;
    let address = format!("tcp:127.0.0.1,{}", arguments.wanted("port")?);
    let mut context = ClientContext::with_data_source(&address);
    context.database = arguments.wanted("database")?;
    context.user_name = "judge".to_owned();
    context.password = "Judge-the-server-1".to_owned();
    context.encryption_options.mode = EncryptionSetting::PreferOff;
    context.encryption_options.trust_server_certificate = true;
    context.packet_size = 32_767;
    let mut client = TdsConnectionProvider {}.create_client(context, &address, None).await?;

    let meter = Meter::start();
    let mut sink = Sink::open(&schema, arguments.out())?;
    let mut rows = Writer(Builders::new(&schema)?);
    client.execute(arguments.wanted("sql")?, ()).await?;
    while client.next_row_into(&mut rows).await? {
        if rows.0.is_full() {
            sink.write(&rows.0.finish(&schema)?)?;
        }
    }
    if rows.0.rows > 0 {
        sink.write(&rows.0.finish(&schema)?)?;
    }
    meter.stop(rows.0.total, sink.close()?, "mssql-tds 0.3.0")
}

/// Takes values as they are decoded.
struct Writer(Builders);

/// A value that no table here has ends the program: a comparison with half the values would be worth nothing.
fn unexpected(col: usize) -> ! {
    eprintln!("column {col}: a value came in another type than its column's");
    std::process::exit(1)
}

impl RowWriter for Writer {
    #[inline]
    fn write_null(&mut self, col: usize) {
        match &mut self.0.columns[col] {
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
        match &mut self.0.columns[col] {
            Column::Bool(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    fn write_u8(&mut self, col: usize, val: u8) {
        self.write_i16(col, i16::from(val));
    }

    fn write_i16(&mut self, col: usize, val: i16) {
        match &mut self.0.columns[col] {
            Column::I16(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_i32(&mut self, col: usize, val: i32) {
        match &mut self.0.columns[col] {
            Column::I32(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_i64(&mut self, col: usize, val: i64) {
        match &mut self.0.columns[col] {
            Column::I64(builder) => builder.append_value(val),
            _ => unexpected(col),
        }
    }

    fn write_f32(&mut self, col: usize, _: f32) {
        unexpected(col)
    }

    fn write_f64(&mut self, col: usize, val: f64) {
        match &mut self.0.columns[col] {
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
        self.0.bytes += text.len();
        match &mut self.0.columns[col] {
            Column::Text(builder) => builder.append_value(&text),
            Column::LongText(builder) => builder.append_value(&text),
            _ => unexpected(col),
        }
    }

    fn write_bytes(&mut self, col: usize, bytes: Cow<'_, [u8]>) {
        self.0.bytes += bytes.len();
        match &mut self.0.columns[col] {
            Column::Binary(builder) => builder.append_value(&bytes),
            Column::LongBinary(builder) => builder.append_value(&bytes),
            _ => unexpected(col),
        }
    }

    #[inline]
    fn write_decimal(&mut self, col: usize, val: DecimalParts) {
        let magnitude = val.magnitude() as i128;
        match &mut self.0.columns[col] {
            Column::Decimal(builder) => {
                builder.append_value(if val.is_positive { magnitude } else { -magnitude })
            }
            _ => unexpected(col),
        }
    }

    fn write_numeric(&mut self, col: usize, val: DecimalParts) {
        self.write_decimal(col, val);
    }

    #[inline]
    fn write_date(&mut self, col: usize, val: SqlDate) {
        match &mut self.0.columns[col] {
            Column::Date(builder) => builder.append_value((i64::from(val.get_days()) - DAYS_TO_1970) as i32),
            _ => unexpected(col),
        }
    }

    fn write_datetime2(&mut self, col: usize, val: SqlDateTime2) {
        // The field counts ticks of 100 ns.
        let micros = (val.time.time_nanoseconds / 10) as i64;
        match &mut self.0.columns[col] {
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
        self.0.rows += 1;
        self.0.total += 1;
    }
}
