//! tiberius reads every type from the SQL Server stand-in and agrees with our reader, value by value.
//!
//! Our reader needs a relayed ticket, and policy names the loader's user: it runs as a child under that
//! user, with the broker's help, and prints what it read in the oracle's canonical form.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use keyferry_e2e::{
    process::{Process, copy_program},
    sample::{Cell, Table, decimal_text, every_type, float_text, text},
    world::PipelineSetup,
};
use libtest_mimic::Trial;
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel};
use tokio_util::compat::TokioAsyncWriteCompatExt as _;

use crate::harness::{PATIENCE, Stage, ordinary, test};

/// Days from 0001-01-01 to 1970-01-01, to 1900-01-01.
const UNIX_EPOCH: i64 = 719_162;
const YEAR_1900: i64 = 693_595;
const DAY_NS: i64 = 86_400_000_000_000;

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("tiberius_and_our_reader_agree_on_every_type", || agree(every_type::table())));
    trials.push(test("tiberius_and_our_reader_agree_on_every_script", || agree(text::table())));
}

async fn agree(table: Table) -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(std::slice::from_ref(&table)).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ours = our_rows(&stage, table.name).await?;
    let theirs = their_rows(&stage, table.name).await?;
    let made: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(Cell::canonical).collect()).collect();
    ensure!(
        ours.len() == made.len() && theirs.len() == made.len(),
        "{} made, {} ours, {} theirs",
        made.len(),
        ours.len(),
        theirs.len()
    );
    for (row, expected) in made.iter().enumerate() {
        for (column, expected) in expected.iter().enumerate() {
            let (our, their) = (&ours[row][column], &theirs[row][column]);
            let name = &table.columns[column];
            ensure!(our == expected, "row {row}, {name}: made {expected}, our reader {our}");
            // tiberius does not look at a collation's UTF-8 flag and decodes such a column as Windows-1252.
            ensure!(
                name == "utf8" || same(their, expected),
                "row {row}, {name}: made {expected}, tiberius {their}"
            );
        }
    }
    stage.end(Some(broker)).await
}

/// tiberius reads money as a float: it is compared with what a float can tell.
pub(crate) fn same(theirs: &str, expected: &str) -> bool {
    let bits = theirs.strip_prefix("f64 ").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    match (bits, expected.parse::<f64>()) {
        (Some(bits), Ok(exact)) => (f64::from_bits(bits) - exact).abs() <= exact.abs() * f64::EPSILON,
        _ => theirs == expected,
    }
}

/// What our reader reads, in canonical form.
pub(crate) async fn our_rows(stage: &Stage, table: &str) -> Result<Vec<Vec<String>>> {
    let pipeline = PipelineSetup::of(&[table]).write(&stage.world, "pipeline")?;
    let program = stage.world.dir.join("e2e.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let arguments = ["--read-rows".to_owned(), pipeline.display().to_string()];
    let child = Process::start(
        "reader",
        &program,
        &arguments,
        &[],
        stage.world.users.loader,
        &stage.world.dir.join("logs"),
    )?;
    let ended = child.wait(PATIENCE).await?;
    ensure!(ended.status.success(), "our reader: {}", ended.output());
    let rows: Vec<Vec<String>> = serde_json::from_str(&ended.stdout)?;
    fs::remove_file(&program)?;
    Ok(rows)
}

/// The child's work: one table through the loader's own reader, printed as JSON.
pub(crate) fn read_rows(pipeline: &str) -> Result<()> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(read(pipeline))?;
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}

async fn read(pipeline: &str) -> Result<Vec<Vec<String>>> {
    use keyferry_loader::{config::Pipeline, pipeline as loader, source::SqlServer, verify::Level};
    let pipeline = Pipeline::read(Path::new(pipeline))?;
    let plan = loader::plan(&pipeline, Level::Counts, &tokio_util::sync::CancellationToken::new()).await?;
    let table = &plan.tables[0].plan;
    let broker = loader::broker(&pipeline).await?;
    let mut connection = SqlServer::resolve(&broker, &pipeline.source).await?.connect().await?;
    let names: Vec<String> = table.columns.iter().map(|column| format!("[{}]", column.source_name)).collect();
    let sql = format!("SELECT {} FROM [dbo].[{}] ORDER BY [id]", names.join(", "), table.source.name);
    let mut stream = connection.stream(&sql).await?;
    let mut rows = Vec::new();
    // Small batches, so that several are needed.
    while let Some(decoded) = stream.next_batch(&table.columns, 7, 1 << 20).await? {
        for row in 0..decoded.batch.num_rows() {
            let cells = decoded.batch.columns().iter().zip(&table.columns);
            rows.push(
                cells
                    .map(|(array, column)| arrow_text(array, row, &column.source.snowflake()))
                    .collect::<Result<_>>()?,
            );
        }
    }
    Ok(rows)
}

fn arrow_text(array: &ArrayRef, row: usize, target: &str) -> Result<String> {
    if array.is_null(row) {
        return Ok("∅".to_owned());
    }
    let any = array.as_any();
    Ok(if let Some(a) = any.downcast_ref::<BooleanArray>() {
        a.value(row).to_string()
    } else if let Some(a) = any.downcast_ref::<Int16Array>() {
        a.value(row).to_string()
    } else if let Some(a) = any.downcast_ref::<Int32Array>() {
        a.value(row).to_string()
    } else if let Some(a) = any.downcast_ref::<Int64Array>() {
        a.value(row).to_string()
    } else if let Some(a) = any.downcast_ref::<Decimal128Array>() {
        decimal_text(a.value(row), u8::try_from(a.scale())?)
    } else if let Some(a) = any.downcast_ref::<Float32Array>() {
        float_text(f64::from(a.value(row)))
    } else if let Some(a) = any.downcast_ref::<Float64Array>() {
        float_text(a.value(row))
    } else if let Some(a) = any.downcast_ref::<Date32Array>() {
        format!("day {}", i64::from(a.value(row)) + UNIX_EPOCH)
    } else if let Some(a) = any.downcast_ref::<TimestampMillisecondArray>() {
        moment(i128::from(a.value(row)) * 1_000_000)
    } else if let Some(a) = any.downcast_ref::<TimestampMicrosecondArray>() {
        moment(i128::from(a.value(row)) * 1_000)
    } else if let Some(a) = any.downcast_ref::<StringArray>() {
        if target.starts_with("TIMESTAMP") {
            exact_moment(a.value(row))?
        } else {
            format!("{:?}", a.value(row))
        }
    } else if let Some(a) = any.downcast_ref::<BinaryArray>() {
        format!("0x{}", hex::encode_upper(a.value(row)))
    } else if let Some(a) = any.downcast_ref::<LargeStringArray>() {
        format!("{:?}", a.value(row))
    } else if let Some(a) = any.downcast_ref::<LargeBinaryArray>() {
        format!("0x{}", hex::encode_upper(a.value(row)))
    } else {
        bail!("no canonical form for {:?}", array.data_type())
    })
}

fn moment(ns: i128) -> String {
    let day = i128::from(DAY_NS);
    format!("day {} + {} ns", ns.div_euclid(day) + i128::from(UNIX_EPOCH), ns.rem_euclid(day))
}

/// `YYYY-MM-DD HH:MM:SS.fffffff`, the exact form of datetime2(7).
fn exact_moment(text: &str) -> Result<String> {
    let numbers: Vec<i64> = text.split(['-', ' ', ':', '.']).map(str::parse).collect::<Result<_, _>>()?;
    let [year, month, day, hour, minute, second, ticks] = numbers[..] else {
        bail!("not a moment: {text:?}")
    };
    let month = time::Month::try_from(u8::try_from(month)?)?;
    let date = time::Date::from_calendar_date(i32::try_from(year)?, month, u8::try_from(day)?)?;
    let days = i64::from(date.to_julian_day()) - 1_721_426;
    Ok(format!("day {days} + {} ns", (hour * 3600 + minute * 60 + second) * 1_000_000_000 + ticks * 100))
}

/// A client that is logged in.
pub(crate) type Tiberius = Client<tokio_util::compat::Compat<tokio::net::TcpStream>>;

/// tiberius, logged in with a name and a password over TLS.
pub(crate) async fn client(stage: &Stage) -> Result<Tiberius> {
    let address = stage.world.sqlserver.addr();
    let mut config = Config::new();
    config.host("localhost");
    config.port(address.port());
    config.database(keyferry_e2e::world::SOURCE_DATABASE);
    config.authentication(AuthMethod::sql_server("judge", "Judge-the-server-1"));
    config.encryption(EncryptionLevel::Required);
    config.trust_cert_ca(stage.world.ca_file().display().to_string());
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let connecting = Client::connect(config, tcp.compat_write());
    Ok(tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .context("tiberius did not connect")??)
}

/// What tiberius reads.
pub(crate) async fn their_rows(stage: &Stage, table: &str) -> Result<Vec<Vec<String>>> {
    let mut client = client(stage).await?;
    let stream = client.simple_query(format!("SELECT * FROM dbo.[{table}] ORDER BY [id]")).await?;
    let rows = stream.into_first_result().await?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(|cell| their_text(&cell)).collect()).collect())
}

fn their_text(cell: &ColumnData<'_>) -> String {
    let null = || "∅".to_owned();
    match cell {
        ColumnData::U8(v) => v.map_or_else(null, |v| v.to_string()),
        ColumnData::I16(v) => v.map_or_else(null, |v| v.to_string()),
        ColumnData::I32(v) => v.map_or_else(null, |v| v.to_string()),
        ColumnData::I64(v) => v.map_or_else(null, |v| v.to_string()),
        ColumnData::F32(v) => v.map_or_else(null, |v| float_text(f64::from(v))),
        ColumnData::F64(v) => v.map_or_else(null, float_text),
        ColumnData::Bit(v) => v.map_or_else(null, |v| v.to_string()),
        ColumnData::String(v) => v.as_ref().map_or_else(null, |v| format!("{v:?}")),
        ColumnData::Guid(v) => {
            v.map_or_else(null, |v| format!("{:?}", v.hyphenated().to_string().to_uppercase()))
        }
        ColumnData::Binary(v) => v.as_ref().map_or_else(null, |v| format!("0x{}", hex::encode_upper(v))),
        ColumnData::Numeric(v) => v.as_ref().map_or_else(null, |v| decimal_text(v.value(), v.scale())),
        ColumnData::Date(v) => v.map_or_else(null, |v| format!("day {}", v.days())),
        ColumnData::SmallDateTime(v) => v.map_or_else(null, |v| {
            format!(
                "day {} + {} ns",
                i64::from(v.days()) + YEAR_1900,
                i64::from(v.seconds_fragments()) * 60_000_000_000
            )
        }),
        ColumnData::DateTime(v) => v.map_or_else(null, |v| {
            // 1/300 s, shown in milliseconds.
            let ms = (i64::from(v.seconds_fragments()) * 10 + 1) / 3;
            format!("day {} + {} ns", i64::from(v.days()) + YEAR_1900, ms * 1_000_000)
        }),
        ColumnData::DateTime2(v) => {
            v.map_or_else(null, |v| format!("day {} + {} ns", v.date().days(), nanoseconds(v.time())))
        }
        ColumnData::Time(v) => v.map_or_else(null, |v| format!("{} ns", nanoseconds(v))),
        ColumnData::DateTimeOffset(v) => v.map_or_else(null, |v| {
            let moment = v.datetime2();
            let ns = nanoseconds(moment.time());
            format!("day {} + {ns} ns, {} min", moment.date().days(), v.offset())
        }),
        ColumnData::Xml(v) => v.as_ref().map_or_else(null, |v| format!("{:?}", v.to_string())),
    }
}

/// A time of day.
pub(crate) fn nanoseconds(time: tiberius::time::Time) -> u64 {
    time.increments() * 10_u64.pow(9 - u32::from(time.scale()))
}
