//! The four shapes that are measured. Each begins with a bigint key of its own, so that a block of rows can be sent again
//! and again under new keys.

use keyferry_e2e::{
    sample::{Cell, tpch},
    world,
};
use keyferry_sql::{Row, Value};

/// TPC-H's scale factor for one block of LINEITEM: about 150,000 rows.
const BLOCK_SCALE: f64 = 0.025;

/// A table as SQL Server declares it, and the block of rows that repeats in it.
pub struct Shape {
    /// Its name in schema `dbo`.
    pub name: &'static str,
    /// What the table of results calls it.
    pub title: &'static str,
    /// CREATE TABLE.
    pub ddl: String,
    /// The columns' names; the key is the first.
    pub columns: Vec<String>,
    /// One block of rows. Their keys are replaced as they are sent.
    pub rows: Vec<Row>,
    /// Of how many rows one is measured, relative to LINEITEM: wide rows take longer.
    pub share: f64,
    /// The longest text and the longest binary value, in bytes: ODBC's clients reserve so much for each.
    pub longest: usize,
}

/// All four.
pub fn shapes() -> Vec<Shape> {
    vec![lineitem(), nulls(), wide(), documents()]
}

/// TPC-H's LINEITEM with its own types; the order key is the row's number, so that it alone is the key.
pub fn lineitem() -> Shape {
    let table = tpch::lineitem(BLOCK_SCALE);
    let ddl = table.ddl.replace("([l_orderkey], [l_linenumber])", "([l_orderkey])");
    Shape {
        name: "lineitem",
        title: "LINEITEM of TPC-H: 16 columns, numbers, dates and short text",
        ddl,
        columns: table.columns,
        rows: table.rows.iter().map(|row| row.iter().map(world::value).collect()).collect(),
        share: 1.0,
        longest: 44,
    }
}

fn shape(
    name: &'static str,
    title: &'static str,
    columns: &[(&str, &str)],
    rows: &[Vec<Cell>],
    share: f64,
    longest: usize,
) -> Shape {
    let list: Vec<String> = columns.iter().map(|(name, ty)| format!("[{name}] {ty}")).collect();
    Shape {
        name,
        title,
        ddl: format!(
            "CREATE TABLE dbo.[{name}] ({}, CONSTRAINT [PK_{name}] PRIMARY KEY CLUSTERED ([id]))",
            list.join(", ")
        ),
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: rows.iter().map(|row| row.iter().map(world::value).collect::<Vec<Value>>().into()).collect(),
        share,
        longest,
    }
}

/// Twenty nullable columns of ten types; four values of five are NULL.
fn nulls() -> Shape {
    let types = [
        ("i", "int NULL"),
        ("b", "bigint NULL"),
        ("d", "decimal(18,4) NULL"),
        ("day", "date NULL"),
        ("at", "datetime2(3) NULL"),
        ("f", "float NULL"),
        ("yes", "bit NULL"),
        ("s", "smallint NULL"),
        ("name", "varchar(40) NULL"),
        ("label", "nvarchar(40) NULL"),
    ];
    let mut columns = vec![("id".to_owned(), "bigint NOT NULL".to_owned())];
    for copy in 1..=2 {
        columns.extend(types.map(|(name, ty)| (format!("{name}{copy}"), ty.to_owned())));
    }
    let mut random = fastrand::Rng::with_seed(20);
    let mut cell = |column: usize| {
        if random.u8(0..5) != 0 {
            return Cell::Null;
        }
        match column % 10 {
            0 => Cell::Int(random.i64(-1_000_000..1_000_000)),
            1 => Cell::Int(random.i64(..)),
            2 => Cell::Decimal(i128::from(random.i64(-10_i64.pow(15)..10_i64.pow(15))), 4),
            3 => Cell::Date(random.i32(700_000..740_000)),
            4 => Cell::DateTime(random.i32(700_000..740_000), random.u64(0..86_400_000) * 1_000_000),
            5 => Cell::Float(random.f64() * 1000.0),
            6 => Cell::Bool(random.bool()),
            7 => Cell::Int(random.i64(-30_000..30_000)),
            8 => Cell::Text(words(&mut random, 20, false)),
            _ => Cell::Text(words(&mut random, 20, true)),
        }
    };
    let rows: Vec<Vec<Cell>> = (0..60_000)
        .map(|id| std::iter::once(Cell::Int(id)).chain((0..20).map(&mut cell)).collect())
        .collect();
    let columns: Vec<(&str, &str)> = columns.iter().map(|(name, ty)| (name.as_str(), ty.as_str())).collect();
    shape("nulls", "NULL-heavy: 20 nullable columns of ten types, 80% NULL", &columns, &rows, 1.0, 80)
}

/// Eight columns of text of some hundred characters, half of them Unicode beyond ASCII.
fn wide() -> Shape {
    let columns = [
        ("id", "bigint NOT NULL"),
        ("a", "varchar(1000) NOT NULL"),
        ("b", "varchar(1000) NULL"),
        ("c", "nvarchar(500) NOT NULL"),
        ("d", "nvarchar(500) NULL"),
        ("e", "nvarchar(500) NULL"),
        ("f", "char(100) NOT NULL"),
        ("g", "nvarchar(500) NULL"),
    ];
    let mut random = fastrand::Rng::with_seed(21);
    let rows: Vec<Vec<Cell>> = (0..10_000)
        .map(|id| {
            let mut text = |most: usize, beyond| {
                let length = random.usize(most / 4..most);
                Cell::Text(words(&mut random, length, beyond))
            };
            vec![
                Cell::Int(id),
                text(400, false),
                text(400, false),
                text(250, false),
                text(250, true),
                text(250, true),
                Cell::padded(id, 100),
                text(250, true),
            ]
        })
        .collect();
    shape(
        "wide",
        "wide text: 7 columns of about 200 characters, three beyond ASCII",
        &columns,
        &rows,
        0.2,
        2000,
    )
}

/// Documents of 2 to 128 KiB in (max) columns.
fn documents() -> Shape {
    let columns = [
        ("id", "bigint NOT NULL"),
        ("body", "varchar(max) NOT NULL"),
        ("note", "nvarchar(max) NULL"),
        ("picture", "varbinary(max) NULL"),
    ];
    let mut random = fastrand::Rng::with_seed(22);
    let rows: Vec<Vec<Cell>> = (0..200)
        .map(|id| {
            let (body, note) = (random.usize(2_000..32_000), random.usize(1_000..16_000));
            let mut picture = vec![0; random.usize(8_000..128_000)];
            random.fill(&mut picture);
            vec![
                Cell::Int(id),
                Cell::Text(words(&mut random, body, false)),
                if id % 4 == 0 { Cell::Null } else { Cell::Text(words(&mut random, note, true)) },
                if id % 3 == 0 { Cell::Null } else { Cell::Bytes(picture) },
            ]
        })
        .collect();
    shape("documents", "LOB: (max) columns, 2 to 128 KiB a value", &columns, &rows, 0.005, 131_072)
}

/// Text of about so many characters.
fn words(random: &mut fastrand::Rng, length: usize, beyond: bool) -> String {
    const PLAIN: [&str; 12] = [
        "carefully",
        "regular",
        "deposits",
        "packages",
        "above",
        "the",
        "furiously",
        "final",
        "accounts",
        "sleep",
        "quickly",
        "ideas",
    ];
    const BEYOND: [&str; 8] = ["żółć", "Größe", "Привет", "日本語", "façade", "naïve", "Ωmega", "ěščř"];
    let mut text = String::with_capacity(length + 12);
    let mut characters = 0;
    while characters < length {
        let word = if beyond && random.u8(0..3) == 0 {
            BEYOND[random.usize(0..8)]
        } else {
            PLAIN[random.usize(0..12)]
        };
        text.push_str(word);
        text.push(' ');
        characters += word.chars().count() + 1;
    }
    text.chars().take(length).collect()
}

/// The rows of a key range, in the shape of the loader's own statements.
pub fn select(shape: &Shape, rows: u64) -> String {
    let columns: Vec<String> = shape.columns.iter().map(|name| format!("[{name}]")).collect();
    format!(
        "SELECT {} FROM [dbo].[{}] WHERE [{}] < CAST({} AS bigint)",
        columns.join(", "),
        shape.name,
        shape.columns[0],
        rows + 1
    )
}
