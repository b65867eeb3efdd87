//! How tables are cut and who moves the chunks: odd keys cross exactly, and one slow connection holds nobody up.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    sample::{Cell, Table},
    world::PipelineSetup,
};
use keyferry_stand_in_sqlserver::{Fault, When};
use libtest_mimic::Trial;

use crate::harness::{PATIENCE, Stage, expect, ordinary, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("tables_under_odd_keys_cross_exactly_in_even_chunks", odd_keys));
    trials.push(test("while_one_connection_stalls_the_others_finish_all_other_chunks", stalled));
}

const ROWS: i64 = 2_400;
const CHUNK_ROWS: u64 = 200;

/// A table with a clustered index of its own words.
fn indexed(name: &'static str, columns: &[(&str, &str)], index: &str, rows: Vec<Vec<Cell>>) -> Table {
    let list: Vec<String> = columns.iter().map(|(name, ty)| format!("[{name}] {ty}")).collect();
    Table {
        name,
        ddl: format!("CREATE TABLE dbo.[{name}] ({}); {index}", list.join(", ")),
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows,
    }
}

fn rows(make: impl Fn(i64) -> Vec<Cell>) -> Vec<Vec<Cell>> {
    (0..ROWS).map(make).collect()
}

fn uuid(n: i64) -> [u8; 16] {
    // Spread over all sixteen bytes: SQL Server orders the last six first, and text order means nothing to it.
    let mixed = (n as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    mixed.to_be_bytes()
}

/// Tables whose keys are hard to cut by, each with whether its chunks can be even.
fn tables() -> Vec<(Table, bool)> {
    let text = |n: i64| {
        let stem = ["ant", "Bee", "bee", "CAT", "o'neil"][(n % 5) as usize];
        Cell::Text(format!("{stem}{}{}", n / 50, if n % 3 == 0 { "  " } else { "" }))
    };
    let mut all = vec![
        (
            // One value of the leading column has nine tenths of the rows; the next one has gaps of 10^9.
            indexed(
                "skewed",
                &[("region", "int NOT NULL"), ("id", "bigint NOT NULL"), ("v", "int NULL")],
                "CREATE UNIQUE CLUSTERED INDEX ix ON dbo.skewed (region, id DESC)",
                rows(|n| {
                    let region = if n % 10 == 0 { n % 7 } else { 3 };
                    vec![Cell::Int(region), Cell::Int((n - 1_000) * 1_000_000_007), Cell::Int(n)]
                }),
            ),
            true,
        ),
        (
            Table::new(
                "guids",
                &[("id", "uniqueidentifier NOT NULL"), ("n", "int NOT NULL")],
                "[id]",
                rows(|n| vec![Cell::Uuid(uuid(n)), Cell::Int(n)]),
            ),
            true,
        ),
        (
            // Not unique, case-insensitive, with trailing blanks: 'Bee1' and 'bee1  ' are one key.
            indexed(
                "texts",
                &[("name", "varchar(20) COLLATE Latin1_General_CI_AS NULL"), ("n", "int NOT NULL")],
                "CREATE CLUSTERED INDEX ix ON dbo.texts (name)",
                rows(|n| vec![if n % 40 == 0 { Cell::Null } else { text(n) }, Cell::Int(n)]),
            ),
            true,
        ),
        (
            // NULLs in every column of the key.
            indexed(
                "nulls",
                &[("a", "int NULL"), ("b", "decimal(9,2) NULL"), ("n", "int NULL")],
                "CREATE UNIQUE CLUSTERED INDEX ix ON dbo.nulls (a, b, n)",
                rows(|n| {
                    let a = if n % 2 == 0 { Cell::Null } else { Cell::Int(-(n % 4)) };
                    let b = if n % 3 == 0 { Cell::Null } else { Cell::Decimal(i128::from(n % 5) - 2, 2) };
                    vec![a, b, if n == 0 { Cell::Null } else { Cell::Int(n) }]
                }),
            ),
            true,
        ),
        (
            // No key at all, and rows that are there twice.
            indexed("heap", &[("a", "int NULL"), ("b", "nvarchar(9) NULL")], "", {
                rows(|n| vec![Cell::Int(n / 2), Cell::Text("x".repeat((n / 2 % 9) as usize))])
            }),
            false,
        ),
    ];
    let one = vec![vec![Cell::Int(7), Cell::Null]];
    let columns = [("id", "int NOT NULL"), ("v", "int NULL")];
    all.push((Table::new("empty", &columns, "[id]", Vec::new()), false));
    all.push((Table::new("single", &columns, "[id]", one), false));
    all
}

async fn odd_keys() -> Result<()> {
    let stage = Stage::new().await?;
    let (tables, even): (Vec<_>, Vec<_>) = tables().into_iter().unzip();
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = PipelineSetup {
        limits: format!("connections: 3, committers: 2, chunk_rows: {CHUNK_ROWS}"),
        ..PipelineSetup::of(&tables.iter().map(|table| table.name).collect::<Vec<_>>())
    };
    let plan = stage.loader("plan", &setup).await?;
    expect(
        &plan,
        0,
        &[
            "at counted quantiles of region int, id bigint",
            "one chunk: it has neither a clustered nor a unique index",
        ],
    )?;
    expect(&stage.loader("run", &setup).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    let sizes = stage
        .ask("SELECT TABLE_NAME, COUNT(*), MAX(ROW_COUNT), SUM(ROW_COUNT) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK >= 0 GROUP BY TABLE_NAME")
        .await?;
    for (table, even) in tables.iter().zip(even) {
        let name = format!("{:?}", table.name.to_uppercase());
        let row = sizes.iter().find(|row| row[0] == name).with_context(|| format!("{name} in {sizes:?}"))?;
        let numbers = row[1..].iter().map(|cell| cell.parse()).collect::<Result<Vec<u64>, _>>()?;
        let [chunks, largest, all] = numbers[..] else { anyhow::bail!("{row:?}") };
        ensure!(all == table.rows.len() as u64, "{name}: {row:?}");
        let bounds = if even { (ROWS as u64 / CHUNK_ROWS / 2, CHUNK_ROWS * 2) } else { (1, ROWS as u64) };
        ensure!(chunks >= bounds.0 && largest <= bounds.1, "{name}: {row:?}");
        ensure!(even || chunks == 1, "{name}: {row:?}");
    }
    stage.end(Some(broker)).await
}

async fn stalled() -> Result<()> {
    let stage = Stage::new().await?;
    let columns = [("id", "int NOT NULL"), ("v", "int NOT NULL")];
    let table =
        |name| Table::new(name, &columns, "[id]", rows(|n| vec![Cell::Int(n), Cell::Int(n * n % 97)]));
    let tables = [table("first"), table("second")];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    // The first chunk of the first table begins and then says nothing for a long time.
    let when = When {
        after_rows: 10,
        statement_contains: Some(format!("SELECT [id], [v] FROM [dbo].[first] WHERE [id] < {CHUNK_ROWS}")),
        times: 1,
    };
    let stall = Duration::from_secs(20);
    let armed = stage.world.sqlserver.faults().arm(when, Fault::Stall(stall));
    let setup = PipelineSetup {
        limits: format!("connections: 2, committers: 2, chunk_rows: {CHUNK_ROWS}"),
        ..PipelineSetup::of(&["first", "second"])
    };
    let path = setup.write(&stage.world, "pipeline")?.display().to_string();
    let loader = stage.world.spawn_loader("loader-stalled", &["run", &path], &[])?;
    let all = 2 * ROWS as u64 / CHUNK_ROWS;
    let deadline = Instant::now() + PATIENCE;
    let states = "SELECT STATE, COUNT(*) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK >= 0 GROUP BY STATE ORDER BY STATE";
    loop {
        // Before the loader's first statement there is no ledger.
        let found = stage.ask(states).await.unwrap_or_default();
        let count = |state: &str| {
            let row = found.iter().find(|row| row[0] == format!("{state:?}"));
            row.and_then(|row| row[1].parse::<u64>().ok()).unwrap_or(0)
        };
        if count("loaded") == all - 1 {
            ensure!(
                armed.fired() == 1 && count("claimed") == 1,
                "the stalled chunk is not the one left: {found:?}"
            );
            break;
        }
        ensure!(count("published") == 0, "all chunks were finished, stalled or not: {found:?}");
        ensure!(Instant::now() < deadline, "the others did not finish: {found:?}\n{}", loader.stderr());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    expect(&loader.wait(PATIENCE).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}
