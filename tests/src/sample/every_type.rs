//! One table with every type that the loader carries: NULL, both extremes, and awkward values.

use super::{Cell, Table};

/// Days from 0001-01-01 to 9999-12-31.
const LAST_DAY: i32 = 3_652_058;
/// Days from 0001-01-01 to 1753-01-01, datetime's first.
const DATETIME_FIRST: i32 = 639_905;
/// Days from 0001-01-01 to 1900-01-01.
const YEAR_1900: i32 = 693_595;
/// Days from 0001-01-01 to 2079-06-06, smalldatetime's last.
const SMALL_LAST: i32 = YEAR_1900 + 65_535;
/// Days from 0001-01-01 to 1582-10-15, where other calendars jump.
const GREGORIAN: i32 = 577_735;
const LAST_TICK: u64 = 86_399_999_999_900;
const MAX_38: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

const COLUMNS: &[(&str, &str)] = &[
    ("id", "int NOT NULL"),
    ("c_bit", "bit NULL"),
    ("c_tinyint", "tinyint NULL"),
    ("c_smallint", "smallint NULL"),
    ("c_int", "int NULL"),
    ("c_bigint", "bigint NULL"),
    ("c_decimal_9_0", "decimal(9,0) NULL"),
    ("c_decimal_19_4", "decimal(19,4) NULL"),
    ("c_decimal_28_10", "decimal(28,10) NULL"),
    ("c_decimal_38_0", "decimal(38,0) NULL"),
    ("c_numeric_38_37", "numeric(38,37) NULL"),
    ("c_money", "money NULL"),
    ("c_smallmoney", "smallmoney NULL"),
    ("c_real", "real NULL"),
    ("c_float", "float NULL"),
    ("c_date", "date NULL"),
    ("c_smalldatetime", "smalldatetime NULL"),
    ("c_datetime", "datetime NULL"),
    ("c_datetime2_0", "datetime2(0) NULL"),
    ("c_datetime2_3", "datetime2(3) NULL"),
    ("c_datetime2_6", "datetime2(6) NULL"),
    ("c_datetime2_7", "datetime2(7) NULL"),
    ("c_char", "char(8) NULL"),
    ("c_varchar", "varchar(40) NULL"),
    ("c_nchar", "nchar(8) NULL"),
    ("c_nvarchar", "nvarchar(40) NULL"),
    ("c_binary", "binary(4) NULL"),
    ("c_varbinary", "varbinary(40) NULL"),
    ("c_uniqueidentifier", "uniqueidentifier NULL"),
    ("c_varchar_max", "varchar(max) NULL"),
    ("c_nvarchar_max", "nvarchar(max) NULL"),
    ("c_varbinary_max", "varbinary(max) NULL"),
];

/// Rows: typical, smallest, largest, NULL, and the awkward ones.
pub fn table() -> Table {
    let mut rows = vec![typical(), smallest(), largest(), awkward(), empty()];
    let mut nulls = vec![Cell::Null; COLUMNS.len() - 1];
    rows.push(nulls.clone());
    // Rows of NULLs with one value each: both row formats of the wire, mixed in one result.
    for at in 0..nulls.len() {
        nulls.clone_from_slice(&vec![Cell::Null; COLUMNS.len() - 1]);
        nulls[at] = typical()[at].clone();
        rows.push(nulls.clone());
    }
    let rows = rows
        .into_iter()
        .enumerate()
        .map(|(id, cells)| [vec![Cell::Int(id as i64 - 2)], cells].concat())
        .collect();
    Table::new("every_type", COLUMNS, "[id]", rows)
}

fn typical() -> Vec<Cell> {
    vec![
        Cell::Bool(true),
        Cell::Int(42),
        Cell::Int(-1234),
        Cell::Int(123_456_789),
        Cell::Int(-9_007_199_254_740_993),
        Cell::Decimal(123_456_789, 0),
        Cell::Decimal(-1_234_567_890_123_456, 4),
        Cell::Decimal(1_234_567_890_123_456_789_012_345_678, 10),
        Cell::Decimal(MAX_38 / 7, 0),
        Cell::Decimal(31_415_926_535_897_932_384_626_433_832_795_028_841, 37),
        Cell::Decimal(1_999_999, 4),
        Cell::Decimal(-1, 4),
        Cell::Real(1.1),
        Cell::Float(0.1),
        Cell::Date(738_885),
        Cell::DateTime(738_885, 12 * 3_600_000_000_000 + 34 * 60_000_000_000),
        Cell::DateTime(738_885, 12 * 3_600_000_000_000 + 123_000_000),
        Cell::DateTime(738_885, 86_399_000_000_000),
        Cell::DateTime(738_885, 45_296_789_000_000),
        Cell::DateTime(738_885, 45_296_789_012_000),
        Cell::DateTime(738_885, 45_296_789_012_300),
        Cell::padded("abc", 8),
        Cell::text("plain"),
        Cell::padded("Ωmega", 8),
        Cell::text("日本語 and 𝄞"),
        Cell::Bytes(vec![1, 2, 3, 4]),
        Cell::Bytes((0..=39).collect()),
        Cell::Uuid(*b"\x6F\x96\x19\xFF\x8B\x86\xD0\x11\xB4\x2D\x00\xC0\x4F\xC9\x64\xFF"),
        Cell::text("any length"),
        Cell::text("日本語 and 𝄞, of any length"),
        Cell::Bytes((0..=255).collect()),
    ]
}

fn smallest() -> Vec<Cell> {
    vec![
        Cell::Bool(false),
        Cell::Int(0),
        Cell::Int(i64::from(i16::MIN)),
        Cell::Int(i64::from(i32::MIN)),
        Cell::Int(i64::MIN),
        Cell::Decimal(-999_999_999, 0),
        Cell::Decimal(-9_999_999_999_999_999_999, 4),
        Cell::Decimal(-9_999_999_999_999_999_999_999_999_999, 10),
        Cell::Decimal(-MAX_38, 0),
        Cell::Decimal(-MAX_38, 37),
        Cell::Decimal(i128::from(i64::MIN), 4),
        Cell::Decimal(i128::from(i32::MIN), 4),
        Cell::Real(f32::MIN),
        Cell::Float(f64::MIN),
        Cell::Date(0),
        Cell::DateTime(YEAR_1900, 0),
        Cell::DateTime(DATETIME_FIRST, 0),
        Cell::DateTime(0, 0),
        Cell::DateTime(0, 0),
        Cell::DateTime(0, 0),
        Cell::DateTime(0, 100),
        Cell::padded("", 8),
        Cell::text(" "),
        Cell::padded("", 8),
        Cell::text("\u{1}"),
        Cell::Bytes(vec![0; 4]),
        Cell::Bytes(vec![0]),
        Cell::Uuid([0; 16]),
        Cell::text(" "),
        Cell::text("\u{1}"),
        Cell::Bytes(vec![0]),
    ]
}

fn largest() -> Vec<Cell> {
    vec![
        Cell::Bool(true),
        Cell::Int(255),
        Cell::Int(i64::from(i16::MAX)),
        Cell::Int(i64::from(i32::MAX)),
        Cell::Int(i64::MAX),
        Cell::Decimal(999_999_999, 0),
        Cell::Decimal(9_999_999_999_999_999_999, 4),
        Cell::Decimal(9_999_999_999_999_999_999_999_999_999, 10),
        Cell::Decimal(MAX_38, 0),
        Cell::Decimal(MAX_38, 37),
        Cell::Decimal(i128::from(i64::MAX), 4),
        Cell::Decimal(i128::from(i32::MAX), 4),
        Cell::Real(f32::MAX),
        Cell::Float(f64::MAX),
        Cell::Date(LAST_DAY),
        Cell::DateTime(SMALL_LAST, 86_340_000_000_000),
        Cell::DateTime(LAST_DAY, 86_399_997_000_000),
        Cell::DateTime(LAST_DAY, 86_399_000_000_000),
        Cell::DateTime(LAST_DAY, 86_399_999_000_000),
        Cell::DateTime(LAST_DAY, 86_399_999_999_000),
        Cell::DateTime(LAST_DAY, LAST_TICK),
        Cell::text("ÿÿÿÿÿÿÿÿ"),
        Cell::text("ÿ".repeat(40)),
        Cell::text("\u{FFFD}".repeat(8)),
        Cell::text("𐀀".repeat(20)),
        Cell::Bytes(vec![255; 4]),
        Cell::Bytes(vec![255; 40]),
        Cell::Uuid([255; 16]),
        // Longer than any packet; the pieces of the wire cut surrogate pairs.
        Cell::text("ÿ".repeat(100_001)),
        Cell::text(format!("a{}", "𐀀".repeat(50_001))),
        Cell::Bytes((0..=255).cycle().take(300_001).collect()),
    ]
}

fn awkward() -> Vec<Cell> {
    vec![
        Cell::Bool(false),
        Cell::Int(128),
        Cell::Int(-1),
        Cell::Int(-1),
        Cell::Int(-1),
        Cell::Decimal(0, 0),
        Cell::Decimal(-1, 4),
        Cell::Decimal(1, 10),
        Cell::Decimal(-1, 0),
        Cell::Decimal(1, 37),
        // One ten-thousandth beyond 32 bits: the words of money in the wrong order would show.
        Cell::Decimal(0x1_0000_0001, 4),
        Cell::Decimal(99_999, 4),
        Cell::Real(f32::from_bits(1)),
        Cell::Float(f64::from_bits(1)),
        Cell::Date(GREGORIAN - 1),
        Cell::DateTime(YEAR_1900 + 59, 60_000_000_000),
        // Counted in 1/300 s: .003, shown with three digits.
        Cell::DateTime(YEAR_1900 - 1, 3_000_000),
        Cell::DateTime(GREGORIAN - 1, 1_000_000_000),
        Cell::DateTime(GREGORIAN - 1, 1_000_000),
        // Outside what nanoseconds in 64 bits reach.
        Cell::DateTime(612_000, 1_000),
        Cell::DateTime(838_300, 100),
        Cell::text("it's \"q\""),
        Cell::text("tab\tnewline\ncomma, quote\" back\\"),
        Cell::text("\u{202E}abc\u{202C}   "),
        Cell::text("nul\0inside e\u{301} 👩\u{200D}👩\u{200D}👧"),
        Cell::Bytes(b"\\x00".to_vec()),
        Cell::Bytes(vec![0xC3, 0x28, 0, 0xFF]),
        Cell::Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        Cell::text("nul\0inside\ttab, quote\" back\\"),
        Cell::text("nul\0inside e\u{301} 👩\u{200D}👩\u{200D}👧 \u{FFFD}"),
        Cell::Bytes(vec![0xC3, 0x28, 0, 0xFF]),
    ]
}

fn empty() -> Vec<Cell> {
    let mut cells = smallest();
    for cell in &mut cells {
        match cell {
            Cell::Text(text) if text.trim().len() < 8 && text.len() < 8 => *cell = Cell::text(""),
            Cell::Bytes(bytes) if bytes.len() == 1 => *cell = Cell::Bytes(Vec::new()),
            // The negative zero of a float is a value of its own.
            Cell::Float(_) => *cell = Cell::Float(-0.0),
            Cell::Real(_) => *cell = Cell::Real(-0.0),
            _ => {}
        }
    }
    cells
}
