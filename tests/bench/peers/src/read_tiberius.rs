//! tiberius, row by row into Arrow builders.

use anyhow::{Result, bail};
use futures_util::TryStreamExt as _;
use keyferry_bench_peers::{Arguments, Builders, Column, DAYS_TO_1970, Meter, Sink, schema};
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, QueryItem};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncWriteCompatExt as _;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(read())
}

async fn read() -> Result<()> {
    let arguments = Arguments::read();
    let schema = schema(&arguments.wanted("ddl")?)?;
    let mut config = Config::new();
    config.host("127.0.0.1");
    config.port(arguments.wanted("port")?.parse()?);
    config.database(arguments.wanted("database")?);
    config.authentication(AuthMethod::sql_server("judge", "Judge-the-server-1"));
    config.encryption(EncryptionLevel::NotSupported);
    let socket = TcpStream::connect(config.get_addr()).await?;
    socket.set_nodelay(true)?;
    let mut client = Client::connect(config, socket.compat_write()).await?;

    let meter = Meter::start();
    let mut sink = Sink::open(&schema, arguments.out())?;
    let mut rows = Builders::new(&schema)?;
    let mut items = client.simple_query(arguments.wanted("sql")?).await?;
    while let Some(item) = items.try_next().await? {
        let QueryItem::Row(row) = item else { continue };
        for (column, data) in rows.columns.iter_mut().zip(row.into_iter()) {
            push(column, data, &mut rows.bytes)?;
        }
        rows.rows += 1;
        rows.total += 1;
        if rows.is_full() {
            sink.write(&rows.finish(&schema)?)?;
        }
    }
    drop(items);
    if rows.rows > 0 {
        sink.write(&rows.finish(&schema)?)?;
    }
    meter.stop(rows.total, sink.close()?, "tiberius 0.13.0")
}

fn push(column: &mut Column, data: ColumnData<'static>, bytes: &mut usize) -> Result<()> {
    match (column, data) {
        (Column::Bool(builder), ColumnData::Bit(value)) => builder.append_option(value),
        (Column::I16(builder), ColumnData::U8(value)) => builder.append_option(value.map(i16::from)),
        (Column::I16(builder), ColumnData::I16(value)) => builder.append_option(value),
        (Column::I32(builder), ColumnData::I32(value)) => builder.append_option(value),
        (Column::I64(builder), ColumnData::I64(value)) => builder.append_option(value),
        (Column::F64(builder), ColumnData::F64(value)) => builder.append_option(value),
        (Column::Decimal(builder), ColumnData::Numeric(value)) => {
            builder.append_option(value.map(|value| value.value()));
        }
        (Column::Date(builder), ColumnData::Date(value)) => {
            builder.append_option(value.map(|date| (i64::from(date.days()) - DAYS_TO_1970) as i32));
        }
        (Column::Micros(builder), ColumnData::DateTime2(value)) => {
            builder.append_option(value.map(|value| {
                let time = value.time();
                let micros = time.increments() as i64 * 10_i64.pow(6 - u32::from(time.scale()).min(6));
                (i64::from(value.date().days()) - DAYS_TO_1970) * 86_400_000_000 + micros
            }))
        }
        (Column::Text(builder), ColumnData::String(value)) => {
            *bytes += value.as_ref().map_or(0, |text| text.len());
            builder.append_option(value);
        }
        (Column::LongText(builder), ColumnData::String(value)) => {
            *bytes += value.as_ref().map_or(0, |text| text.len());
            builder.append_option(value);
        }
        (Column::Binary(builder), ColumnData::Binary(value)) => {
            *bytes += value.as_ref().map_or(0, |value| value.len());
            builder.append_option(value);
        }
        (Column::LongBinary(builder), ColumnData::Binary(value)) => {
            *bytes += value.as_ref().map_or(0, |value| value.len());
            builder.append_option(value);
        }
        (_, other) => bail!("a value came in another type than its column's: {other:?}"),
    }
    Ok(())
}
