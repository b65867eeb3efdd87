//! Every type: NULL, smallest, largest, typical and awkward values, read by tiberius.

use std::borrow::Cow;

use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};
use tiberius::{ColumnData, Uuid};

use crate::support::{rows, run, start_plain};

type Cell = ColumnData<'static>;

fn text(text: &str) -> Cell {
    ColumnData::String(Some(Cow::Owned(text.to_owned())))
}

fn binary(bytes: &[u8]) -> Cell {
    ColumnData::Binary(Some(Cow::Owned(bytes.to_vec())))
}

fn numeric(value: i128, scale: u8) -> Cell {
    ColumnData::Numeric(Some(Numeric::new_with_scale(value, scale)))
}

fn datetime2(days: u32, increments: u64, scale: u8) -> Cell {
    ColumnData::DateTime2(Some(DateTime2::new(Date::new(days), Time::new(increments, scale))))
}

/// Stores each literal in a nullable column and, but for NULL, in one that is not nullable, and reads both back.
async fn check(ty: &str, cases: Vec<(&str, Cell)>) {
    let local = start_plain().await;
    let mut client = local.client().await;
    let create = format!("CREATE TABLE dbo.t (id int NOT NULL PRIMARY KEY, a {ty} NULL, b {ty} NOT NULL)");
    run(&mut client, &create).await;
    for (index, (literal, _)) in cases.iter().enumerate() {
        run(&mut client, &format!("INSERT INTO dbo.t (id, a, b) VALUES ({index}, {literal}, {literal})"))
            .await;
    }
    run(&mut client, "INSERT INTO dbo.t (id, a, b) SELECT -1, NULL, b FROM dbo.t WHERE id = 0").await;
    let read = rows(&mut client, "SELECT id, a, b FROM dbo.t ORDER BY id").await;
    assert_eq!(read.len(), cases.len() + 1);
    let null = format!("{:?}", read[0][1]);
    assert!(null.ends_with("(None)"), "{ty}: NULL was read as {null}");
    assert_eq!(read[0][2], cases[0].1, "{ty} beside a NULL");
    for ((literal, expected), row) in cases.iter().zip(&read[1..]) {
        assert_eq!(&row[1], expected, "{ty}, nullable, {literal}");
        assert_eq!(&row[2], expected, "{ty}, not nullable, {literal}");
    }
    local.server.stop().await;
}

#[tokio::test]
async fn bit_and_integers() {
    let bit = |bit| ColumnData::Bit(Some(bit));
    check("bit", vec![("0", bit(false)), ("1", bit(true)), ("7", bit(true))]).await;
    let tiny = |n| ColumnData::U8(Some(n));
    check("tinyint", vec![("0", tiny(0)), ("255", tiny(255)), ("128", tiny(128))]).await;
    let small = |n| ColumnData::I16(Some(n));
    check("smallint", vec![("-32768", small(i16::MIN)), ("32767", small(i16::MAX)), ("-1", small(-1))]).await;
    let int = |n| ColumnData::I32(Some(n));
    check("int", vec![("-2147483648", int(i32::MIN)), ("2147483647", int(i32::MAX)), ("0", int(0))]).await;
    let big = |n| ColumnData::I64(Some(n));
    let cases = vec![("-9223372036854775808", big(i64::MIN)), ("9223372036854775807", big(i64::MAX))];
    check("bigint", cases).await;
}

#[tokio::test]
async fn decimals_of_every_size() {
    check("decimal(9,2)", vec![("-9999999.99", numeric(-999_999_999, 2)), ("0.01", numeric(1, 2))]).await;
    check("decimal(19,4)", vec![("999999999999999.9999", numeric(9_999_999_999_999_999_999, 4))]).await;
    check("numeric(28,10)", vec![("-0.0000000001", numeric(-1, 10)), ("0", numeric(0, 10))]).await;
    let nines = 10_i128.pow(38) - 1;
    let cases = vec![
        ("99999999999999999999999999999999999999", numeric(nines, 0)),
        ("-99999999999999999999999999999999999999", numeric(-nines, 0)),
    ];
    check("decimal(38,0)", cases).await;
    // tiberius has no numbers of scale 38, but one digit less is read.
    check("decimal(38,37)", vec![("-1.5", numeric(-15 * 10_i128.pow(36), 37))]).await;
}

#[tokio::test]
async fn money_and_floats() {
    let float = |n: f64| ColumnData::F64(Some(n));
    let cases = vec![
        ("-922337203685477.5808", float(i64::MIN as f64 / 1e4)),
        ("922337203685477.5807", float(i64::MAX as f64 / 1e4)),
        ("-0.0001", float(-0.0001)),
        ("429496.7296", float(429_496.729_6)),
    ];
    check("money", cases).await;
    check("smallmoney", vec![("-214748.3648", float(-214_748.364_8)), ("214748.3647", float(214_748.364_7))])
        .await;
    let real = |n: f32| ColumnData::F32(Some(n));
    check("real", vec![("-3.4028235E38", real(f32::MIN)), ("1.17549435E-38", real(f32::MIN_POSITIVE))]).await;
    let cases = vec![
        ("1.7976931348623157E308", float(f64::MAX)),
        ("0.1", float(0.1)),
        ("-2.5E-308", float(-2.5e-308)),
    ];
    check("float", cases).await;
}

#[tokio::test]
async fn dates_and_times() {
    let date = |days| ColumnData::Date(Some(Date::new(days)));
    let cases =
        vec![("'0001-01-01'", date(0)), ("'9999-12-31'", date(3_652_058)), ("'2024-02-29'", date(738_944))];
    check("date", cases).await;
    let small = |days, minutes| ColumnData::SmallDateTime(Some(SmallDateTime::new(days, minutes)));
    let cases = vec![("'1900-01-01 00:00'", small(0, 0)), ("'2079-06-06 23:59'", small(65_535, 1439))];
    check("smalldatetime", cases).await;
    let datetime = |days, ticks| ColumnData::DateTime(Some(DateTime::new(days, ticks)));
    let cases = vec![
        ("'1753-01-01 00:00:00.000'", datetime(-53_690, 0)),
        ("'9999-12-31 23:59:59.997'", datetime(2_958_463, 25_919_999)),
        ("'2000-02-29 12:00:00.003'", datetime(36_583, 12_960_001)),
        ("'1899-12-31 23:59:59.990'", datetime(-1, 25_919_997)),
    ];
    check("datetime", cases).await;
    let time = |increments, scale| ColumnData::Time(Some(Time::new(increments, scale)));
    check("time(0)", vec![("'23:59:59'", time(86_399, 0)), ("'00:00:00'", time(0, 0))]).await;
    check(
        "time(7)",
        vec![("'23:59:59.9999999'", time(863_999_999_999, 7)), ("'00:00:00.0000001'", time(1, 7))],
    )
    .await;
    let cases = vec![
        ("'0001-01-01 00:00:00.0000000'", datetime2(0, 0, 7)),
        ("'9999-12-31 23:59:59.9999999'", datetime2(3_652_058, 863_999_999_999, 7)),
        ("'1969-12-31 23:59:59.1234567'", datetime2(719_161, 863_991_234_567, 7)),
    ];
    check("datetime2(7)", cases).await;
    check("datetime2(0)", vec![("'2024-01-02 03:04:05'", datetime2(738_886, 11_045, 0))]).await;
    check("datetime2(3)", vec![("'2024-01-02 00:00:00.123'", datetime2(738_886, 123, 3))]).await;
    let offset = |days, increments, minutes| {
        let utc = DateTime2::new(Date::new(days), Time::new(increments, 7));
        ColumnData::DateTimeOffset(Some(DateTimeOffset::new(utc, minutes)))
    };
    let cases = vec![
        ("'2024-01-02 00:30:00 +14:00'", offset(738_885, 378_000_000_000, 840)),
        ("'2024-01-02 00:00:00.0000001 -14:00'", offset(738_886, 504_000_000_001, -840)),
    ];
    check("datetimeoffset(7)", cases).await;
}

#[tokio::test]
async fn texts_of_every_kind() {
    check("char(5)", vec![("'ab'", text("ab   ")), ("''", text("     "))]).await;
    check("varchar(20)", vec![("'it''s'", text("it's")), ("''", text("")), ("'café €'", text("café €"))])
        .await;
    check("varchar(20) COLLATE Cyrillic_General_CI_AS", vec![("N'Привет'", text("Привет"))]).await;
    check("varchar(20) COLLATE Greek_CI_AS", vec![("N'Γειά'", text("Γειά"))]).await;
    check("varchar(20) COLLATE Japanese_CI_AS", vec![("N'日本語ｱ'", text("日本語ｱ"))]).await;
    check("nchar(4)", vec![("N'日本'", text("日本  "))]).await;
    check(
        "nvarchar(20)",
        vec![("N'a😀b'", text("a😀b")), ("N''", text("")), ("N'e\u{301} '", text("e\u{301} "))],
    )
    .await;
    let long = "line of text; ".repeat(3000);
    let literal = format!("N'{long}'");
    check("nvarchar(max)", vec![(&literal, text(&long)), ("N''", text(""))]).await;
    check("varchar(max)", vec![("''", text("")), ("'x'", text("x")), (&literal, text(&long))]).await;
}

#[tokio::test]
async fn binaries_and_uniqueidentifiers() {
    check("binary(4)", vec![("0x01", binary(&[1, 0, 0, 0])), ("0xFFFFFFFF", binary(&[255; 4]))]).await;
    check("varbinary(8)", vec![("0x", binary(&[])), ("0x00FF00", binary(&[0, 255, 0]))]).await;
    let long = vec![0xA5_u8; 20_000];
    let literal = format!("0x{}", "A5".repeat(20_000));
    check("varbinary(max)", vec![(&literal, binary(&long)), ("0x", binary(&[]))]).await;
    let uuid = |text| ColumnData::Guid(Some(Uuid::parse_str(text).unwrap()));
    let cases = vec![
        ("'6F9619FF-8B86-D011-B42D-00C04FC964FF'", uuid("6F9619FF-8B86-D011-B42D-00C04FC964FF")),
        ("'00000000-0000-0000-0000-000000000000'", uuid("00000000-0000-0000-0000-000000000000")),
    ];
    check("uniqueidentifier", cases).await;
}
