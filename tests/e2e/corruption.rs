//! Corruption on purpose: each kind is put in once, found by the level that sees it, and named by table, chunk and key
//! range; the target is left as it was.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Ended, Process},
    sample::{Cell, Table, every_type, text, tpch},
    world::PipelineSetup,
};
use keyferry_sql::{Database, Identity, Session};
use keyferry_stand_in_snowflake::{Effect, Fault, Trigger};
use libtest_mimic::Trial;

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, target, test},
    table,
};

const TABLE: &str = "corruption";
const ROWS: i64 = 2000;

/// What is put in by the loader itself, at which level it is found, and by which words.
struct Kind {
    name: &'static str,
    injected: &'static str,
    level: &'static str,
    test: &'static str,
    /// Words of the message beside table and chunk.
    found: &'static [&'static str],
    /// Whether the message must name the very row.
    to_the_row: bool,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "decode",
        injected: "a number decoded wrongly",
        level: "sums",
        test: "a_wrongly_decoded_number_is_found_at_sums_by_the_source",
        found: &["column amount", "SQL Server has", "not committed"],
        to_the_row: false,
    },
    Kind {
        name: "encode",
        injected: "a number changed between decoding and encoding",
        level: "sums",
        test: "a_number_changed_on_the_way_is_found_at_sums_down_to_its_key",
        found: &["column AMOUNT", "Snowflake has", "Staged files of the chunk", "DELETE FROM"],
        to_the_row: true,
    },
    Kind {
        name: "shift-time",
        injected: "the timestamps of a batch shifted by an hour",
        level: "sums",
        test: "shifted_timestamps_are_found_at_sums_in_their_chunk",
        found: &["column AT", "sum of 100 ns ticks", "The first of several places"],
        to_the_row: true,
    },
    Kind {
        name: "drop-row",
        injected: "a row dropped between decoding and encoding",
        level: "counts",
        test: "a_dropped_row_is_found_at_counts_before_the_commit",
        found: &["250 rows were decoded and 249 encoded"],
        to_the_row: false,
    },
    Kind {
        name: "code-page",
        injected: "a column decoded by another code page",
        level: "hashes",
        test: "a_wrong_code_page_is_found_at_hashes_by_the_source",
        found: &["column name", "sum of SHA-256 digests", "not committed"],
        to_the_row: false,
    },
    Kind {
        name: "text",
        injected: "a letter changed between decoding and encoding",
        level: "hashes",
        test: "a_changed_letter_is_found_at_hashes_down_to_its_key",
        found: &["column NOTE", "sum of MD5 digests", "The smallest place"],
        to_the_row: true,
    },
];

const UNSEEN: [(&str, &str, &str); 3] = [
    ("encode", "counts", "at_counts_a_changed_number_is_not_seen"),
    ("text", "sums", "at_sums_a_changed_letter_is_not_seen"),
    ("code-page", "sums", "at_sums_a_wrong_code_page_is_not_seen"),
];
const DOUBLED: &str = "the_rows_of_a_file_loaded_twice_are_found_at_counts_by_file";
const DAMAGED: &str = "a_byte_changed_in_a_staged_file_is_refused_before_it_is_loaded";
const OTHER_KEY: &str = "a_key_that_both_sides_order_differently_is_narrowed_to_chunk_and_files";
const FLOAT: &str = "verify_sees_a_float_that_differs_in_its_last_bit";
const VERIFY: &str = "verify_names_the_key_of_a_row_that_changed_at_the_target";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("at_level_hashes_every_type_and_script_agrees_on_both_sides", hashes_agree));
    trials.push(test("a_run_begun_at_sums_is_not_called_verified_at_hashes", lower_level));
    for kind in KINDS {
        table::promise(TABLE, kind.test);
        trials.push(test(kind.test, || found(kind)));
    }
    for (kind, level, name) in UNSEEN {
        table::promise(TABLE, name);
        trials.push(test(name, move || unseen(kind, level, name)));
    }
    for (name, body) in [
        (DOUBLED, doubled as fn() -> Body),
        (DAMAGED, damaged),
        (OTHER_KEY, other_key),
        (VERIFY, verify),
        (FLOAT, float),
    ] {
        table::promise(TABLE, name);
        trials.push(test(name, body));
    }
}

type Body = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// 2,000 rows with a number, texts in a code page and in Unicode, and a time; eight chunks.
fn orders(key: &str) -> Table {
    let columns = [
        ("id", key),
        ("amount", "decimal(15,2) NOT NULL"),
        ("name", "varchar(40) COLLATE Cyrillic_General_CI_AS NULL"),
        ("note", "nvarchar(40) NOT NULL"),
        ("at", "datetime2(3) NOT NULL"),
    ];
    let row = |id: i64| {
        let key = if key.starts_with("int") {
            Cell::Int(id)
        } else {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).to_be_bytes());
            Cell::Uuid(bytes)
        };
        let name = if id % 9 == 0 { Cell::Null } else { Cell::text(format!("Живаго {id}")) };
        let at = Cell::DateTime(738_000 + (id / 100) as i32, (id as u64 % 86_400) * 1_000_000_000);
        vec![key, Cell::Decimal(i128::from(id) * 101, 2), name, Cell::text(format!("note {id}")), at]
    };
    let list: Vec<String> = columns.iter().map(|(name, ty)| format!("[{name}] {ty}")).collect();
    Table {
        name: "orders2",
        ddl: format!(
            "CREATE TABLE dbo.[orders2] ({}, CONSTRAINT [PK_orders2] PRIMARY KEY CLUSTERED ([id]))",
            list.join(", ")
        ),
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: (0..ROWS).map(row).collect(),
    }
}

fn setup() -> PipelineSetup {
    PipelineSetup {
        limits: "connections: 2, committers: 2, chunk_rows: 250".to_owned(),
        ..PipelineSetup::of(&["orders2"])
    }
}

async fn execute(database: &std::sync::Arc<Database>, sql: &str) -> Result<()> {
    let identity = Identity { user: "sa".to_owned(), ..Identity::default() };
    let mut session = Session::new(database, identity);
    for outcome in session.execute(sql).await {
        outcome.map_err(|error| anyhow::anyhow!("{sql}: {error}"))?;
    }
    Ok(())
}

/// A published target, and a source that has changed since.
async fn published(key: &str) -> Result<(Stage, Process, Table)> {
    let stage = Stage::new().await?;
    let tables = [orders(key)];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    expect(&at_level(&stage, "run", &setup(), "hashes", &[]).await?, 0, &[])?;
    let [table] = tables;
    stage.expect_exact(std::slice::from_ref(&table)).await?;
    execute(&stage.world.source, "UPDATE SalesDB.dbo.orders2 SET amount = amount + 1").await?;
    Ok((stage, broker, table))
}

/// The source after the change.
fn changed(mut table: Table) -> Table {
    for row in &mut table.rows {
        if let Cell::Decimal(amount, _) = &mut row[1] {
            *amount += 100;
        }
    }
    table
}

/// The row that the loader says it corrupted.
fn corrupted_row(ended: &Ended) -> Result<String> {
    let said = ended.output();
    let (_, after) =
        said.split_once("put in on purpose").with_context(|| format!("nothing was put in:\n{said}"))?;
    let row = after.split_once('<').and_then(|(_, rest)| rest.split_once('>')).context("a row")?;
    Ok(row.0.to_owned())
}

/// The line that a user reads first.
fn first_line(ended: &Ended) -> String {
    const SHOWN: usize = 240;
    let said = ended.output();
    let line = said.lines().find(|line| line.starts_with("error[")).unwrap_or_default();
    let next = said.lines().skip_while(|line| !line.starts_with("error[")).nth(1).unwrap_or_default();
    let whole = format!("{} {}", line, next.trim());
    whole.chars().take(SHOWN).collect()
}

fn note(injected: &str, level: &str, found: &str, test: &str) {
    table::row(TABLE, &[("injected", injected), ("level", level), ("found", found), ("test", test)]);
}

/// The target has what it had, and the ledger's run waits.
async fn untouched(stage: &Stage, before: &Table) -> Result<()> {
    stage.expect_exact(std::slice::from_ref(before)).await?;
    let open = stage
        .ask("SELECT COUNT(*) FROM RAW_ZONE.SALES.KEYFERRY_LEDGER WHERE CHUNK >= 0 AND STATE NOT IN ('published', 'verified')")
        .await?;
    ensure!(open[0][0] != "0", "no run is open");
    Ok(())
}

async fn found(kind: &'static Kind) -> Result<()> {
    let (stage, broker, before) = published("int NOT NULL").await?;
    let environment = [("KEYFERRY_CORRUPT", kind.name.to_owned())];
    let ended = at_level(&stage, "run", &setup(), kind.level, &environment).await?;
    let row = corrupted_row(&ended)?;
    expect(&ended, 65, &["chunk ", "id"])?;
    expect(&ended, 65, kind.found)?;
    ensure!(ended.output().to_lowercase().contains("orders2"), "the table is not named:\n{}", ended.output());
    if kind.to_the_row {
        expect(&ended, 65, &[&format!("id = {row} (1 rows at the source)")])?;
    }
    note(kind.injected, kind.level, &first_line(&ended), kind.test);
    untouched(&stage, &before).await?;
    let status = stage.loader("status", &setup()).await?;
    expect(&status, 0, &[if kind.to_the_row { "loaded" } else { "claimed" }])?;
    // What the message says to do, done.
    if kind.to_the_row {
        let ledger = "RAW_ZONE.SALES.KEYFERRY_LEDGER";
        let open = format!("SELECT DISTINCT RUN_ID FROM {ledger} WHERE CHUNK >= 0 AND STATE <> 'published'");
        let run = stage.ask(&open).await?.concat().concat().replace('"', "'");
        expect(&ended, 65, &[&format!("WHERE RUN_ID = {run}")])?;
        execute(&stage.world.target, &format!("DELETE FROM {ledger} WHERE RUN_ID = {run}")).await?;
    }
    expect(&at_level(&stage, "run", &setup(), kind.level, &[]).await?, 0, &[])?;
    stage.expect_exact(&[changed(before)]).await?;
    stage.end(Some(broker)).await
}

/// Why there are levels: the same corruption goes through one level below.
async fn unseen(kind: &'static str, level: &'static str, name: &'static str) -> Result<()> {
    let (stage, broker, before) = published("int NOT NULL").await?;
    let ended = at_level(&stage, "run", &setup(), level, &[("KEYFERRY_CORRUPT", kind.to_owned())]).await?;
    corrupted_row(&ended)?;
    expect(&ended, 0, &[])?;
    let mut auditor = keyferry_e2e::proof::oracle::Auditor::login(&stage.world.auditor()).await?;
    let found = auditor.compare(&changed(before), &target("orders2")).await?;
    ensure!(found.lost > 0 && found.lost == found.surplus, "{found:?}");
    let injected = KINDS.iter().find(|k| k.name == kind).map_or(kind, |k| k.injected);
    note(injected, level, &format!("not found: {} rows are wrong at the target", found.lost), name);
    stage.end(Some(broker)).await
}

fn doubled() -> Body {
    Box::pin(async {
        let (stage, broker, before) = published("int NOT NULL").await?;
        let point = [("KEYFERRY_FAILPOINT", "all_loaded".to_owned())];
        let killed = at_level(&stage, "run", &setup(), "counts", &point).await?;
        ensure!(killed.code().is_none(), "the point never fired:\n{}", killed.output());
        let staging = stage
            .ask("SELECT TABLE_NAME FROM RAW_ZONE.INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE 'ORDERS2__KEYFERRY_%'")
            .await?;
        let staging = format!("RAW_ZONE.SALES.{}", staging[0][0].trim_matches('"'));
        execute(
            &stage.world.target,
            &format!("INSERT INTO {staging} SELECT * FROM {staging} WHERE KEYFERRY_FILE LIKE '%/c00003/%'"),
        )
        .await?;
        let ended = at_level(&stage, "run", &setup(), "counts", &[]).await?;
        let words = [
            "dbo.orders2",
            "chunk 3",
            "250 passed through the loader, Snowflake has 500",
            "/c00003/",
            "(500 rows)",
        ];
        expect(&ended, 65, &words)?;
        note("the rows of one file a second time", "counts", &first_line(&ended), DOUBLED);
        untouched(&stage, &before).await?;
        stage.end(Some(broker)).await
    })
}

fn damaged() -> Body {
    Box::pin(async {
        let (stage, broker, before) = published("int NOT NULL").await?;
        let snowflake = &stage.world.snowflake;
        let on = Trigger::Statement("COPY INTO".to_owned());
        snowflake.faults.arm(Fault { on, effect: Effect::Delay(Duration::from_secs(3)), skip: 0, times: 1 });
        let path = setup().write(&stage.world, "pipeline")?.display().to_string();
        let loader = stage.world.spawn_loader("damaged", &["run", &path, "--level", "counts"], &[])?;
        let deadline = Instant::now() + PATIENCE;
        while snowflake.staged_objects().is_empty() {
            ensure!(Instant::now() < deadline, "nothing was staged:\n{}", loader.stderr());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let key = snowflake.staged_objects().remove(0);
        ensure!(snowflake.damage_staged_object(&key), "{key} is gone");
        let ended = loader.wait(PATIENCE).await?;
        expect(&ended, 65, &["chunk ", "ORDERS2", "id", "parquet"])?;
        note("a byte of a staged file", "any: COPY refuses it", &first_line(&ended), DAMAGED);
        untouched(&stage, &before).await?;
        stage.end(Some(broker)).await
    })
}

fn other_key() -> Body {
    Box::pin(async {
        let (stage, broker, before) = published("uniqueidentifier NOT NULL").await?;
        let environment = [("KEYFERRY_CORRUPT", "encode".to_owned())];
        let ended = at_level(&stage, "run", &setup(), "sums", &environment).await?;
        corrupted_row(&ended)?;
        expect(
            &ended,
            65,
            &[
                "dbo.orders2",
                "chunk ",
                "orders a uniqueidentifier by its last bytes",
                "Staged files of the chunk",
            ],
        )?;
        note("a number, under a uniqueidentifier key", "sums", &first_line(&ended), OTHER_KEY);
        untouched(&stage, &before).await?;
        stage.end(Some(broker)).await
    })
}

fn verify() -> Body {
    Box::pin(async {
        let stage = Stage::new().await?;
        stage.world.fill(&[orders("int NOT NULL")]).await?;
        let broker = stage.world.start_broker(&ordinary()).await?;
        expect(&at_level(&stage, "run", &setup(), "sums", &[]).await?, 0, &[])?;
        execute(&stage.world.target, "UPDATE RAW_ZONE.SALES.ORDERS2 SET NOTE = 'nota 1234' WHERE ID = 1234")
            .await?;
        expect(&at_level(&stage, "verify", &setup(), "sums", &[]).await?, 0, &["agree"])?;
        let ended = at_level(&stage, "verify", &setup(), "hashes", &[]).await?;
        expect(&ended, 65, &["dbo.orders2", "column NOTE", "id = 1234 (1 rows at the source)"])?;
        note("a letter of a published row", "hashes", &first_line(&ended), VERIFY);
        stage.end(Some(broker)).await
    })
}

fn float() -> Body {
    Box::pin(async {
        let stage = Stage::new().await?;
        stage.world.fill(&[every_type::table()]).await?;
        let broker = stage.world.start_broker(&ordinary()).await?;
        let setup = PipelineSetup::of(&["every_type"]);
        expect(&at_level(&stage, "run", &setup, "sums", &[]).await?, 0, &[])?;
        let smallest = "SELECT MIN(C_FLOAT) FROM RAW_ZONE.SALES.EVERY_TYPE";
        let before = stage.ask(smallest).await?;
        let one_bit = "UPDATE RAW_ZONE.SALES.EVERY_TYPE SET C_FLOAT = '-1.7976931348623155e308'::FLOAT WHERE C_FLOAT < -1e300";
        execute(&stage.world.target, one_bit).await?;
        ensure!(stage.ask(smallest).await? != before, "the float was not changed");
        let ended = at_level(&stage, "verify", &setup, "sums", &[]).await?;
        expect(&ended, 65, &["dbo.every_type", "column C_FLOAT", "smallest"])?;
        note("the last bit of a published float", "sums", &first_line(&ended), FLOAT);
        stage.end(Some(broker)).await
    })
}

/// Runs the loader at a level.
async fn at_level(
    stage: &Stage,
    verb: &str,
    setup: &PipelineSetup,
    level: &str,
    environment: &[(&str, String)],
) -> Result<Ended> {
    let path = setup.write(&stage.world, "pipeline")?.display().to_string();
    let name = format!("loader-{}", uuid::Uuid::new_v4().simple());
    let loader = stage.world.spawn_loader(&name, &[verb, &path, "--level", level], environment)?;
    loader.wait(PATIENCE).await
}

async fn hashes_agree() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![every_type::table(), text::table()];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = PipelineSetup::of(&tables.iter().map(|table| table.name).collect::<Vec<_>>());
    let plan = at_level(&stage, "plan", &setup, "hashes", &[]).await?;
    expect(
        &plan,
        0,
        &["sum of SHA-256 digests", "smallest and the largest value are compared: c_real, c_float"],
    )?;
    let plan = at_level(&stage, "plan", &setup, "sums", &[]).await?;
    expect(&plan, 0, &["only the length of values is compared", "c_varchar", "c_uniqueidentifier"])?;
    expect(&at_level(&stage, "run", &setup, "hashes", &[]).await?, 0, &["hashes"])?;
    stage.expect_exact(&tables).await?;
    expect(&at_level(&stage, "verify", &setup, "hashes", &[]).await?, 0, &["agree"])?;
    stage.end(Some(broker)).await
}

async fn lower_level() -> Result<()> {
    let stage = Stage::new().await?;
    let tables = vec![tpch::tables(0.002).pop().expect("lineitem")];
    stage.world.fill(&tables).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let setup = PipelineSetup {
        limits: "connections: 2, committers: 2, chunk_rows: 4000".to_owned(),
        ..PipelineSetup::of(&["lineitem"])
    };
    let killed =
        at_level(&stage, "run", &setup, "sums", &[("KEYFERRY_FAILPOINT", "before_publish".to_owned())])
            .await?;
    ensure!(killed.code().is_none(), "the point never fired:\n{}", killed.output());
    let refused = at_level(&stage, "run", &setup, "hashes", &[]).await?;
    expect(&refused, 78, &["dbo.lineitem", "lower level", "--level sums", "nothing was changed"])?;
    expect(&at_level(&stage, "run", &setup, "sums", &[]).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}
