//! Values that go onto the wire as they are, without SQL in between, read by tiberius.

use std::borrow::Cow;
use std::time::Duration;

use keyferry_sql::{
    Collation, Column, DataType, Database, Decimal, Dialect, Length, Outcome, ResultSet, Row, Rows, Text,
    Value,
};
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};
use tiberius::{AuthMethod, Client, ColumnData, EncryptionLevel, Uuid};
use tokio::net::TcpListener;
use tokio_util::compat::TokioAsyncWriteCompatExt;

use super::*;
use crate::answer::{Answer, Ended};
use crate::config::{Config, Encrypt, SqlLogin};
use crate::server::Counters;
use crate::tokens::DoneKind;

type Cell = ColumnData<'static>;

/// What tiberius reads when a server answers its query with these columns and rows.
async fn read_back(columns: Vec<Column>, rows: Vec<Vec<Value>>, packet_size: u16) -> Vec<Vec<Cell>> {
    let database = Database::new(Dialect::SqlServer, "sales");
    let mut config = Config::new("127.0.0.1:0".parse().unwrap(), database);
    config.encrypt = Encrypt::NotSupported;
    config.logins.push(SqlLogin::new("reader", "pass"));
    config.max_packet_size = packet_size;
    let shared = Arc::new(Shared { config, tls: None, acceptor: None, stats: Counters::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut transport, _) = enter(tcp, &shared).await.unwrap().unwrap();
        read_message(&mut transport, MAX_REQUEST).await.unwrap().unwrap();
        let rows = rows.into_iter().map(Row::from).collect();
        let answers = vec![Ok(Outcome::Rows(ResultSet { columns, rows: Rows::from_vec(rows) }))];
        let mut out = Outgoing::new(transport, crate::Faults::default());
        out.set_packet_size(usize::from(packet_size));
        let (_messages, mut received) = mpsc::channel(1);
        let mut session =
            keyferry_sql::Session::new(&shared.config.database, keyferry_sql::Identity::default());
        let mut answer = Answer::new(&mut out, &mut received, &shared, "", DoneKind::Done);
        assert_eq!(answer.outcomes(answers, &mut session).await.unwrap(), Ended::Complete);
        let done = answer.take_held().unwrap();
        done.put(out.tokens());
        out.end().await.unwrap();
    };
    let reading = async {
        let mut config = tiberius::Config::new();
        config.host("localhost");
        config.encryption(EncryptionLevel::NotSupported);
        config.authentication(AuthMethod::sql_server("reader", "pass"));
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut client = Box::pin(Client::connect(config, tcp.compat_write())).await.unwrap();
        client.simple_query("any").await.unwrap().into_first_result().await.unwrap()
    };
    let both = async { tokio::join!(serving, reading) };
    let ((), read) = tokio::time::timeout(Duration::from_secs(30), Box::pin(both)).await.unwrap();
    read.iter().map(|row| row.cells().map(|(_, cell)| cell.clone()).collect()).collect()
}

/// Every value in a column that may be NULL, beside one that may not, with a NULL in the first row.
async fn check(ty: DataType, cases: Vec<(Value, Cell)>) {
    let columns = vec![
        Column::new("nullable", ty.clone(), true),
        Column::new("not_nullable", ty.clone(), false),
        Column::new("after", DataType::Int, false),
    ];
    let mut rows = vec![vec![Value::Null, cases[0].0.clone(), Value::Int(-1)]];
    for (index, (value, _)) in cases.iter().enumerate() {
        rows.push(vec![value.clone(), value.clone(), Value::Int(index as i64)]);
    }
    for packet_size in [512, 32_767] {
        let read = read_back(columns.clone(), rows.clone(), packet_size).await;
        assert_eq!(read.len(), cases.len() + 1, "{ty}");
        assert!(format!("{:?}", read[0][0]).ends_with("(None)"), "{ty}: {:?}", read[0][0]);
        for (index, (_, expected)) in cases.iter().enumerate() {
            assert_eq!(&read[index + 1][0], expected, "{ty}, nullable");
            assert_eq!(&read[index + 1][1], expected, "{ty}, not nullable");
            assert_eq!(read[index + 1][2], ColumnData::I32(Some(index as i32)), "{ty}, the next column");
        }
    }
}

fn text(text: &str) -> Cell {
    ColumnData::String(Some(Cow::Owned(text.to_owned())))
}

fn binary(bytes: &[u8]) -> Cell {
    ColumnData::Binary(Some(Cow::Owned(bytes.to_vec())))
}

fn decimal(unscaled: i128, scale: u8) -> Value {
    Value::Decimal(Decimal::new(unscaled, scale))
}

#[tokio::test]
async fn integers_arrive_at_both_ends_of_their_ranges() {
    let bits = [
        (Value::Bool(false), ColumnData::Bit(Some(false))),
        (Value::Bool(true), ColumnData::Bit(Some(true))),
    ];
    check(DataType::Bit, bits.into()).await;
    let case = |number: u8| (Value::Int(i64::from(number)), ColumnData::U8(Some(number)));
    check(DataType::TinyInt, vec![case(0), case(255)]).await;
    let case = |number: i16| (Value::Int(i64::from(number)), ColumnData::I16(Some(number)));
    check(DataType::SmallInt, vec![case(i16::MIN), case(-1), case(i16::MAX)]).await;
    let case = |number: i32| (Value::Int(i64::from(number)), ColumnData::I32(Some(number)));
    check(DataType::Int, vec![case(i32::MIN), case(0), case(i32::MAX)]).await;
    let case = |number: i64| (Value::Int(number), ColumnData::I64(Some(number)));
    check(DataType::BigInt, vec![case(i64::MIN), case(0), case(i64::MAX)]).await;
}

#[tokio::test]
async fn exact_and_inexact_numbers_arrive() {
    for (precision, scale) in [(9, 2), (19, 4), (28, 10), (38, 37)] {
        let nines = 10_i128.pow(u32::from(precision)) - 1;
        let case = |number| {
            (decimal(number, scale), ColumnData::Numeric(Some(Numeric::new_with_scale(number, scale))))
        };
        check(DataType::Decimal { precision, scale }, vec![case(nines), case(-nines), case(0), case(-1)])
            .await;
    }
    let case = |units: i64| (decimal(units.into(), 4), ColumnData::F64(Some(units as f64 / 1e4)));
    check(DataType::Money, vec![case(i64::MIN), case(i64::MAX), case(-1), case(1 << 32)]).await;
    check(DataType::SmallMoney, vec![case(i32::MIN.into()), case(i32::MAX.into()), case(-1)]).await;
    let case = |number: f32| (Value::Real(number), ColumnData::F32(Some(number)));
    check(DataType::Real, vec![case(f32::MIN), case(f32::MIN_POSITIVE), case(-0.0)]).await;
    let case = |number: f64| (Value::Float(number), ColumnData::F64(Some(number)));
    check(DataType::Float, vec![case(f64::MAX), case(-f64::MIN_POSITIVE), case(0.1)]).await;
}

#[tokio::test]
async fn dates_and_times_arrive_from_the_first_to_the_last() {
    const LAST: i32 = 3_652_058;
    const NOON: u64 = 43_200_000_000_000;
    let case = |days: i32| (Value::Date(days), ColumnData::Date(Some(Date::new(days as u32))));
    check(DataType::Date, vec![case(0), case(LAST), case(738_944)]).await;
    let at = |days, ns| Value::DateTime { days, ns };
    let small = |days, minutes| ColumnData::SmallDateTime(Some(SmallDateTime::new(days, minutes)));
    let cases = vec![(at(693_595, 0), small(0, 0)), (at(759_130, 86_340_000_000_000), small(65_535, 1439))];
    check(DataType::SmallDateTime, cases).await;
    let datetime = |days, ticks| ColumnData::DateTime(Some(DateTime::new(days, ticks)));
    let cases = vec![
        (at(639_905, 0), datetime(-53_690, 0)),
        (at(LAST, 86_399_997_000_000), datetime(2_958_463, 25_919_999)),
        (at(693_595, NOON + 3_000_000), datetime(0, 12_960_001)),
    ];
    check(DataType::DateTime, cases).await;
    for (scale, last) in [(0_u8, 86_399_u64), (3, 86_399_999), (4, 863_999_999), (7, 863_999_999_999)] {
        let unit = 10_u64.pow(9 - u32::from(scale));
        let time = |increments| Time::new(increments, scale);
        let case = |n| (Value::Time(n * unit), ColumnData::Time(Some(time(n))));
        check(DataType::Time { scale }, vec![case(0), case(1), case(last)]).await;
        let case = |days: i32, n| {
            let there = DateTime2::new(Date::new(days as u32), time(n));
            (at(days, n * unit), ColumnData::DateTime2(Some(there)))
        };
        check(DataType::DateTime2 { scale }, vec![case(0, 0), case(LAST, last), case(719_161, 1)]).await;
        let case = |days: i32, n, minutes| {
            let there = DateTimeOffset::new(DateTime2::new(Date::new(days as u32), time(n)), minutes);
            let value = Value::DateTimeOffset { days, ns: n * unit, minutes };
            (value, ColumnData::DateTimeOffset(Some(there)))
        };
        let cases = vec![case(1, 0, 840), case(LAST - 1, last, -840), case(719_162, 1, 0)];
        check(DataType::DateTimeOffset { scale }, cases).await;
    }
}

#[tokio::test]
async fn texts_arrive_in_every_code_page() {
    // Not UTF-8: tiberius does not know that flag of a collation. FreeTDS does, and reads it in another test.
    for (name, sample) in [
        ("SQL_Latin1_General_CP1_CI_AS", "naïve €"),
        ("Polish_CI_AS", "Łódź"),
        ("Cyrillic_General_CI_AS", "Привет"),
        ("Greek_CI_AS", "Γειά"),
        ("Turkish_CI_AS", "ığüş"),
        ("Hebrew_CI_AS", "שלום"),
        ("Arabic_CI_AS", "سلام"),
        ("Lithuanian_CI_AS", "ačiū"),
        ("Vietnamese_CI_AS", "đồng"),
        ("Thai_CI_AS", "สวัสดี"),
        ("Japanese_CI_AS", "日本語ｱ"),
        ("Chinese_PRC_CI_AS", "中文"),
        ("Korean_Wansung_CI_AS", "한국어"),
        ("Chinese_Taiwan_Stroke_CI_AS", "繁體"),
    ] {
        let collation = Collation::parse(name).unwrap();
        let length = Length::Fixed(60);
        let case = |sample: &str| (Value::text(sample), text(sample));
        // Composed vowels that the code page lacks are sent as question marks, as the real server does.
        let expected = collation.decode(&collation.encode(&Text::new(sample)));
        let awkward = (Value::text(sample), text(&expected.lossy()));
        check(DataType::VarChar { length, collation }, vec![awkward.clone(), case(""), case("a\0b")]).await;
        check(DataType::VarChar { length: Length::Max, collation }, vec![awkward, case("")]).await;
    }
}

#[tokio::test]
async fn unicode_texts_and_padding_arrive() {
    let collation = Collation::default();
    let case = |sample: &str| (Value::text(sample), text(sample));
    let samples =
        || vec![case("a😀b"), case(""), case("e\u{301} "), case("\u{0}"), case("\u{FFFD}\u{10FFFF}")];
    check(DataType::NVarChar { length: Length::Fixed(40), collation }, samples()).await;
    check(DataType::NVarChar { length: Length::Max, collation }, samples()).await;
    let long = "line of text; é ".repeat(5_000);
    check(DataType::NVarChar { length: Length::Max, collation }, vec![case(&long)]).await;
    check(DataType::Char { length: 4, collation }, vec![(Value::text("ab"), text("ab  "))]).await;
    check(DataType::NChar { length: 4, collation }, vec![(Value::text("日本"), text("日本  "))]).await;
    check(DataType::NText { collation }, vec![case("old 😀"), case("")]).await;
    check(DataType::Text { collation }, vec![case("old text"), case("")]).await;
}

#[tokio::test]
async fn bytes_and_uniqueidentifiers_arrive() {
    let case = |bytes: &[u8]| (Value::bytes(bytes), binary(bytes));
    check(DataType::VarBinary { length: Length::Fixed(8) }, vec![case(&[]), case(&[0, 255, 0])]).await;
    let long: Vec<u8> = (0..100_000_u32).map(|index| index as u8).collect();
    check(DataType::VarBinary { length: Length::Max }, vec![case(&[]), case(&long)]).await;
    check(DataType::Binary { length: 4 }, vec![(Value::bytes([1]), binary(&[1, 0, 0, 0]))]).await;
    check(DataType::Image, vec![case(&[7, 0, 7])]).await;
    let uuid = Uuid::parse_str("6F9619FF-8B86-D011-B42D-00C04FC964FF").unwrap();
    let cases = vec![(Value::Uuid(*uuid.as_bytes()), ColumnData::Guid(Some(uuid)))];
    check(DataType::UniqueIdentifier, cases).await;
}

#[tokio::test]
async fn rows_with_many_nulls_mix_both_kinds_of_row() {
    for count in [1_usize, 8, 9, 1024] {
        let columns: Vec<Column> = (0..count)
            .map(|index| {
                let ty = if index.is_multiple_of(2) {
                    DataType::Int
                } else {
                    DataType::VarBinary { length: Length::Max }
                };
                Column::new(format!("c{index}"), ty, true)
            })
            .collect();
        let value = |row: usize, index: usize| match (index + row) % 3 {
            0 => Value::Null,
            _ if index.is_multiple_of(2) => Value::Int(index as i64),
            _ => Value::bytes([index as u8]),
        };
        let row = |row: usize| (0..count).map(|index| value(row, index)).collect::<Vec<_>>();
        let rows = vec![vec![Value::Null; count], row(0), row(1), row(2)];
        let read = read_back(columns, rows.clone(), 512).await;
        for (sent, read) in rows.iter().zip(&read) {
            for (index, (sent, read)) in sent.iter().zip(read).enumerate() {
                let expected = match sent {
                    Value::Int(number) => ColumnData::I32(Some(*number as i32)),
                    Value::Bytes(bytes) => binary(bytes),
                    _ if index.is_multiple_of(2) => ColumnData::I32(None),
                    _ => ColumnData::Binary(None),
                };
                assert_eq!(*read, expected, "column {index} of {count}");
            }
        }
    }
}

#[tokio::test]
async fn a_variant_arrives_as_its_base_type() {
    let collation = Collation::default();
    let length = Length::Fixed(20);
    let uuid = Uuid::from_u128(7);
    let cases = [
        (DataType::Int, Value::Int(-5), ColumnData::I32(Some(-5))),
        (DataType::Bit, Value::Bool(true), ColumnData::Bit(Some(true))),
        (DataType::Float, Value::Float(0.5), ColumnData::F64(Some(0.5))),
        (DataType::NVarChar { length, collation }, Value::text("日本"), text("日本")),
        (DataType::VarChar { length, collation }, Value::text("é"), text("é")),
        (DataType::VarBinary { length }, Value::bytes([0, 1]), binary(&[0, 1])),
        (DataType::UniqueIdentifier, Value::Uuid(*uuid.as_bytes()), ColumnData::Guid(Some(uuid))),
        (
            DataType::Decimal { precision: 38, scale: 3 },
            decimal(-1, 3),
            ColumnData::Numeric(Some(Numeric::new_with_scale(-1, 3))),
        ),
    ];
    let rows = cases.iter().map(|(ty, value, _)| vec![Value::Typed(Arc::new((ty.clone(), value.clone())))]);
    let read = read_back(vec![Column::new("v", DataType::SqlVariant, true)], rows.collect(), 4096).await;
    for ((ty, _, expected), read) in cases.iter().zip(&read) {
        assert_eq!(&read[0], expected, "{ty}");
    }
}
