//! Memory: the loader's own peak against its budget, with more rows than fit and with the largest values there are; and
//! a spool that is too small.

mod narrow;
mod spool;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Ended, Process, User},
    sample::{Cell, Table},
    world::PipelineSetup,
};
use keyferry_loader::allocator::THRESHOLD;
use libtest_mimic::Trial;

use self::narrow::Narrow;
use crate::{
    harness::{Stage, expect, ordinary, root_test, test},
    table,
};

const BUDGET_MIB: u64 = 256;
const LONG: Duration = Duration::from_hours(4);
/// How many rows `make memory` moves.
const ROWS: &str = "KEYFERRY_MEMORY_ROWS";
const NARROW: &str = "narrow_rows_by_the_million_cross_within_the_budget";
const LARGE: &str = "values_of_64_mib_cross_within_the_budget";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test(NARROW, || narrow_rows(2_000_000, NARROW)));
    trials.push(test(LARGE, || large_values(2, 0, LARGE)));
    let rows = std::env::var(ROWS).ok().and_then(|text| text.parse().ok()).unwrap_or(200_000_000);
    let full = [
        test("memory_full_narrow_rows", move || narrow_rows(rows, "make memory")),
        test("memory_full_large_values", || large_values(12, 500, "make memory")),
    ];
    trials.extend(full.map(|trial| trial.with_ignored_flag(true)));
    trials.push(test("a_value_beyond_the_configured_size_stops_with_its_place", too_large));
    trials.push(test("a_budget_below_the_floor_is_refused_by_the_plan", below_the_floor));
    trials.push(root_test("a_full_spool_waits_for_uploads_and_the_run_completes", spool::back_pressure));
    trials.push(root_test("a_spool_too_small_for_one_file_says_so_and_leaves_nothing", spool::too_small));
    for test in [NARROW, LARGE] {
        table::promise("memory", test);
    }
}

/// Waits for the loader's end and watches its peak: `VmHWM` only grows, so the last look is the peak of the work.
async fn watched(mut loader: Process, patience: Duration) -> Result<(Ended, u64)> {
    let deadline = std::time::Instant::now() + patience;
    let file = |name: &str| format!("/proc/{}/{name}", loader.id());
    let (status, environment) = (file("status"), file("environ"));
    let (mut peak, mut settled) = (0, false);
    while loader.runs() && std::time::Instant::now() < deadline {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        // Its environment is root's to read: the loader cannot be looked into.
        let text = std::fs::read_to_string(&environment);
        settled |= User::current().uid != 0 || text.is_ok_and(|text| text.contains(THRESHOLD));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(settled, "the loader's allocator was left to learn from large values");
    Ok((loader.wait(Duration::from_secs(5)).await?, peak.div_ceil(1024)))
}

async fn run(stage: &Stage, setup: &PipelineSetup, patience: Duration) -> Result<(Ended, u64)> {
    let path = setup.write(&stage.world, "pipeline")?;
    let loader = stage.world.spawn_loader("loader-watched", &["run", &path.display().to_string()], &[])?;
    watched(loader, patience).await
}

fn within_budget(peak: u64) -> Result<()> {
    ensure!(peak > 0, "the peak was never seen");
    ensure!(peak <= BUDGET_MIB, "the peak is {peak} MiB, the budget {BUDGET_MIB} MiB");
    Ok(())
}

fn tell(what: &str, peak: u64, proof: &str, test: &str) {
    let budget = format!("{BUDGET_MIB} MiB");
    let peak = format!("{peak} MiB");
    table::row(
        "memory",
        &[("what", what), ("budget", &budget), ("peak", &peak), ("proof", proof), ("test", test)],
    );
    println!("memory: {what}: peak {peak} within {budget}; {proof}");
}

/// Rows that exist nowhere: computed at the source as they are sent, added up at the target.
async fn narrow_rows(rows: u64, test: &str) -> Result<()> {
    let stage = Stage::new().await?;
    let source = Arc::new(Narrow::new(rows));
    stage.world.fill(&[narrow::empty_table()]).await?;
    stage.world.sqlserver.computed().set(source.clone());
    stage.world.snowflake.counting().watch("NARROW");
    let broker = stage.world.start_broker(&ordinary()).await?;
    let mut setup = PipelineSetup::of(&[narrow::NAME]);
    let chunk = (rows / 40).max(1);
    setup.limits = format!("connections: 4, committers: 2, memory_mib: {BUDGET_MIB}, chunk_rows: {chunk}");
    let (ended, peak) = run(&stage, &setup, LONG).await?;
    expect(&ended, 0, &["NARROW"])?;
    let counted = stage.world.snowflake.counting().counted("NARROW");
    ensure!(counted.rows == rows, "{} rows arrived of {rows}", counted.rows);
    ensure!(source.sent() == rows, "{} rows were sent of {rows}", source.sent());
    for (column, found) in &counted.columns {
        let expected = source.expected(column).with_context(|| format!("column {column}"))?;
        ensure!(*found == expected, "{column}: values and sum are {found:?}, generated were {expected:?}");
    }
    ensure!(counted.columns.len() == 3, "{counted:?}");
    within_budget(peak)?;
    let proof = format!("{rows} rows and 3 sums agree, {} row groups", counted.row_groups);
    tell(&format!("{rows} narrow rows"), peak, &proof, test);
    stage.end(Some(broker)).await
}

fn documents(sizes: &[usize]) -> Table {
    let mut random = fastrand::Rng::with_seed(64);
    // Noise: what cannot be compressed takes the most memory.
    let mut bytes = |size: usize| {
        let mut bytes = vec![0; size];
        random.fill(&mut bytes);
        Cell::Bytes(bytes)
    };
    let rows = sizes.iter().enumerate().map(|(id, size)| vec![Cell::Int(id as i64), bytes(*size)]).collect();
    Table {
        name: "documents",
        ddl: "CREATE TABLE dbo.[documents] ([id] int NOT NULL, [body] varbinary(max) NULL, CONSTRAINT [PK_documents] PRIMARY KEY CLUSTERED ([id]))"
            .to_owned(),
        columns: vec!["id".to_owned(), "body".to_owned()],
        rows,
    }
}

async fn large_values(large: usize, small: usize, test: &str) -> Result<()> {
    const LARGEST: usize = 64 << 20;
    let stage = Stage::new().await?;
    let mut sizes = vec![100, 3 << 20, 0, 50_000, 8 << 20];
    sizes.extend(vec![200_000; small]);
    for at in 0..large {
        sizes.insert(sizes.len().min(at * 2 + 1), LARGEST);
    }
    let table = documents(&sizes);
    stage.world.fill(std::slice::from_ref(&table)).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let mut setup = PipelineSetup::of(&["documents"]);
    setup.limits = format!("connections: 4, committers: 2, memory_mib: {BUDGET_MIB}, chunk_rows: 2");
    let (ended, peak) = run(&stage, &setup, LONG).await?;
    expect(&ended, 0, &["DOCUMENTS"])?;
    // The length and a digest of each value, as Snowflake has it now.
    let found = stage
        .ask("SELECT ID, OCTET_LENGTH(BODY), SHA2_HEX(BODY, 256) FROM RAW_ZONE.SALES.DOCUMENTS ORDER BY ID")
        .await?;
    ensure!(found.len() == table.rows.len(), "{} rows arrived of {}", found.len(), table.rows.len());
    for (row, found) in table.rows.iter().zip(&found) {
        let [Cell::Int(id), Cell::Bytes(bytes)] = row.as_slice() else { unreachable!() };
        let expected = [id.to_string(), bytes.len().to_string(), format!("{:?}", hex::encode(sha256(bytes)))];
        ensure!(found.as_slice() == expected, "{found:?} arrived, {expected:?} was generated");
    }
    within_budget(peak)?;
    let count = sizes.iter().filter(|size| **size == LARGEST).count();
    tell(
        &format!("{count} values of 64 MiB among {} rows", sizes.len()),
        peak,
        "every length and SHA-256 agrees",
        test,
    );
    stage.end(Some(broker)).await
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec()
}

async fn too_large() -> Result<()> {
    let stage = Stage::new().await?;
    let table = documents(&[10, 1 << 20, (1 << 20) + 1, 10]);
    stage.world.fill(&[table]).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let mut setup = PipelineSetup::of(&["documents"]);
    setup.limits = "connections: 2, committers: 1, value_mib: 1, chunk_rows: 2".to_owned();
    let ended = stage.loader("run", &setup).await?;
    expect(&ended, 65, &["dbo.documents", "id >= 2", "body", "1048577 bytes", "value_mib"])?;
    let published = stage.ask("SELECT COUNT(*) FROM RAW_ZONE.SALES.DOCUMENTS").await?;
    ensure!(published[0][0] == "0", "something was published: {published:?}");
    stage.end(Some(broker)).await
}

async fn below_the_floor() -> Result<()> {
    let stage = Stage::new().await?;
    stage.world.fill(&[documents(&[10])]).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let mut setup = PipelineSetup::of(&["documents"]);
    setup.limits = "connections: 4, committers: 1, memory_mib: 252".to_owned();
    let ended = stage.loader("plan", &setup).await?;
    expect(&ended, 78, &["252.0 MiB", "253.0 MiB", "body (varbinary(max))", "limits.value_mib"])?;
    setup.limits = "connections: 4, committers: 1, memory_mib: 253".to_owned();
    expect(&stage.loader("plan", &setup).await?, 0, &["for 1 chunk"])?;
    stage.end(Some(broker)).await
}
