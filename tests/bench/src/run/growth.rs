//! The whole loader over tables of growing size: its time and its memory.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::world::{BrokerSetup, PipelineSetup, World};
use keyferry_stand_in_sqlserver::Encrypt;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use super::{Aim, Part, Wishes, stage};
use crate::{
    stats::{grouped, ratio},
    table::Table,
    tables,
    usage::peak_kib,
};

const BUDGET_MIB: u64 = 256;
/// Times the rows that are asked for.
const SIZES: [u64; 4] = [1, 2, 4, 8];
const PATIENCE: Duration = Duration::from_mins(30);

struct Run {
    rows: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_kib: u64,
}

pub(super) async fn measure(dir: &Path, wishes: &Wishes) -> Result<Part> {
    let mut table = Table::new(&[
        "rows",
        "seconds",
        "rows/s",
        "time for a row, of the first's",
        "µs CPU/row",
        "peak MiB",
        "budget MiB",
    ]);
    let (mut first, mut peak, mut growth) = (None, 0, f64::NAN);
    for size in SIZES {
        let rows = wishes.rows() * size;
        eprintln!("bench: the whole loader, {rows} rows");
        let run = run(&dir.join(size.to_string()), rows).await?;
        let each = run.seconds / run.rows as f64;
        let base = *first.get_or_insert(each);
        (peak, growth) = (peak.max(run.peak_kib), each / base);
        table.row(vec![
            grouped(run.rows as f64),
            format!("{:.2}", run.seconds),
            grouped(1.0 / each),
            ratio(each, base),
            format!("{:.2}", run.cpu_seconds * 1e6 / run.rows as f64),
            format!("{:.0}", run.peak_kib as f64 / 1024.0),
            BUDGET_MIB.to_string(),
        ]);
    }
    let peak = peak as f64 / 1024.0;
    let aims = vec![
        Aim {
            what: "the whole loader: peak memory, whatever the row count".to_owned(),
            bound: format!("under {BUDGET_MIB} MiB"),
            found: format!("{peak:.0} MiB"),
            met: peak < BUDGET_MIB as f64,
        },
        Aim {
            what: format!("the whole loader: time for a row at {} times the rows", SIZES[SIZES.len() - 1]),
            bound: "1.25 of the first's (linear)".to_owned(),
            found: format!("{growth:.2}"),
            met: growth <= 1.25,
        },
    ];
    let text = format!("### The whole loader against the number of rows\n\n{}", table.markdown());
    Ok(Part { text, aims })
}

/// A world of its own for each size: nothing is left over from the one before.
async fn run(dir: &Path, rows: u64) -> Result<Run> {
    let shapes = [tables::lineitem()];
    let (world, _) = stage(dir, &shapes, |_| rows, Encrypt::Required).await?;
    world.snowflake.counting().watch("LINEITEM");
    let broker = world.start_broker(&BrokerSetup::default()).await?;
    let outcome = load(&world, rows).await;
    broker.stop(Duration::from_secs(20)).await?;
    world.stop().await;
    drop(std::fs::remove_dir_all(dir));
    outcome
}

async fn load(world: &World, rows: u64) -> Result<Run> {
    let limits = format!(
        "connections: 2, committers: 2, memory_mib: {BUDGET_MIB}, chunk_rows: {}",
        (rows / 8).clamp(10_000, 500_000)
    );
    let pipeline = PipelineSetup { limits, ..PipelineSetup::of(&["lineitem"]) }.write(world, "pipeline")?;
    let before = children()?;
    let started = Instant::now();
    let mut loader = world.spawn_loader("loader", &["run", &pipeline.display().to_string()], &[])?;
    let pid = loader.id().to_string();
    let mut peak = 0;
    // The peak only grows, so the last look is the peak of the work.
    while loader.runs() {
        peak = peak.max(peak_kib(&pid).unwrap_or(0));
        ensure!(started.elapsed() < PATIENCE, "the loader does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let ended = loader.wait(Duration::from_secs(5)).await?;
    ensure!(ended.status.success(), "the loader failed:\n{}", ended.output());
    let counted = world.snowflake.counting().counted("LINEITEM");
    ensure!(counted.rows == rows, "{} rows arrived of {rows}", counted.rows);
    Ok(Run { rows, seconds, cpu_seconds: children()? - before, peak_kib: peak })
}

/// CPU time of the children that have ended: between two looks only the loader does.
fn children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}
