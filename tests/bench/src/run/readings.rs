//! SQL Server → Arrow, and → Parquet: every client on every table.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::world::{BrokerSetup, World};
use keyferry_stand_in_sqlserver::Encrypt;

use super::{
    Aim, Part, Wishes,
    clients::{Client, read, target},
    stage,
};
use crate::{
    callers::PIPELINE,
    stats::{grouped, ratio},
    table::Table,
    tables::{Shape, shapes},
    usage::Measured,
};

/// Each reading is done so often; the middle one counts.
const ROUNDS: usize = 3;

/// What one client did with one table.
struct Row {
    client: Client,
    arrow: Option<Measured>,
    parquet: Option<Measured>,
}

pub(super) async fn measure(dir: &Path, wishes: &Wishes) -> Result<Part> {
    let wanted = |name: &str| wishes.tables.is_empty() || wishes.tables.iter().any(|table| table == name);
    let shapes: Vec<_> = shapes().into_iter().filter(|shape| wanted(shape.name)).collect();
    let rows = |share: f64| ((wishes.rows() as f64 * share) as u64).max(200);
    let (world, rows_bytes) = stage(dir, &shapes, |shape| rows(shape.share), Encrypt::Off).await?;
    let uid = world.users.loader.uid;
    let policy =
        vec![format!("{{ caller: {{ uid: {uid} }}, pipeline: {PIPELINE}, allow: {{ analytics: token }} }}")];
    let broker = world.start_broker(&BrokerSetup { policy, ..BrokerSetup::default() }).await?;
    let out = world.users.loader.folder(&world.dir.join("out"), 0o777)?;
    let (mut text, mut aims, mut versions) = (String::new(), Vec::new(), Vec::new());
    for shape in &shapes {
        let mut all = Vec::new();
        for client in Client::ALL.into_iter().filter(|client| client.is_there(wishes)) {
            let count = rows(shape.share * client.share());
            eprintln!("bench: {} of {} rows by {}", shape.name, count, client.name());
            let rounds = if wishes.quick || client == Client::Reference { 1 } else { ROUNDS };
            let arrow = match client {
                Client::Reference => None,
                _ => Some(middle(&world, wishes, client, shape, count, None, &[], rounds).await?),
            };
            let file = out.join(format!("{}-{}.parquet", shape.name, client.name()));
            let environment = match client {
                Client::Reference => target(&world, shape).await?,
                _ => Vec::new(),
            };
            let parquet = match client {
                Client::Drain => None,
                _ => Some(
                    middle(&world, wishes, client, shape, count, Some(&file), &environment, rounds).await?,
                ),
            };
            all.push(Row { client, arrow, parquet });
        }
        versions
            .extend(all.iter().filter_map(|row| row.parquet.as_ref()).map(|found| found.versions.clone()));
        aims.extend(judge(shape.name, &all));
        let _ = writeln!(text, "### {}\n\n{}", shape.title, table(&all, rows_bytes[shape.name])?.markdown());
    }
    let versions: BTreeSet<String> =
        versions.iter().flat_map(|text| text.split(", ")).map(str::to_owned).collect();
    let _ = writeln!(text, "Versions: {}.", versions.into_iter().collect::<Vec<_>>().join(", "));
    broker.stop(std::time::Duration::from_secs(20)).await?;
    world.stop().await;
    Ok(Part { text, aims })
}

/// The reading whose CPU time is the middle one of several.
#[allow(clippy::too_many_arguments)]
async fn middle(
    world: &World,
    wishes: &Wishes,
    client: Client,
    shape: &Shape,
    rows: u64,
    out: Option<&Path>,
    environment: &[(&str, String)],
    rounds: usize,
) -> Result<Measured> {
    let mut all = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        all.push(read(world, wishes, client, shape, rows, out, environment).await?);
    }
    all.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
    Ok(all.swap_remove(rounds / 2))
}

fn micros(measured: &Measured) -> f64 {
    measured.cpu_seconds * 1e6 / measured.rows as f64
}

/// The aims that one table decides.
fn judge(name: &str, rows: &[Row]) -> Vec<Aim> {
    let of = |client: Client| rows.iter().find(|row| row.client == client);
    let parquet = |client| of(client).and_then(|row| row.parquet.as_ref()).map(micros);
    let arrow = |client| of(client).and_then(|row| row.arrow.as_ref()).map(micros);
    let aim = |what: &str, ours: Option<f64>, theirs: Option<f64>, bound: f64, shown: &str| {
        let share = ours? / theirs?;
        let found = if share < 0.1 { format!("1/{:.0}", 1.0 / share) } else { format!("{share:.2}") };
        Some(Aim { what: format!("{name}: {what}"), bound: shown.to_owned(), found, met: share <= bound })
    };
    let (read, written) = (arrow(Client::Keyferry), parquet(Client::Keyferry));
    [
        aim("reading and Parquet, CPU of arrow-odbc's", written, parquet(Client::ArrowOdbc), 0.6, "0.60"),
        aim(
            "reading and Parquet, CPU of the reference way's",
            written,
            parquet(Client::Reference),
            1.0 / 30.0,
            "1/30",
        ),
        aim("reading alone, CPU of tiberius's", read, arrow(Client::Tiberius), 0.2, "0.20"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `row_bytes` is what one row takes on the wire.
fn table(rows: &[Row], row_bytes: f64) -> Result<Table> {
    let ours = rows.iter().find(|row| row.client == Client::Keyferry).context("Keyferry's own row")?;
    let of = |measured: &Option<Measured>| measured.as_ref().map_or(f64::NAN, micros);
    let mut table = Table::new(&[
        "client",
        "rows",
        "to Arrow: µs CPU/row",
        "of ours",
        "rows/s",
        "MB/s",
        "to Parquet: µs CPU/row",
        "of ours",
        "rows/s",
        "MB/s",
        "peak MiB",
    ]);
    for row in rows {
        let any = row.arrow.as_ref().or(row.parquet.as_ref()).context("a measurement")?;
        let mut cells = vec![row.client.title().to_owned(), grouped(any.rows as f64)];
        for (measured, ours) in [(&row.arrow, of(&ours.arrow)), (&row.parquet, of(&ours.parquet))] {
            match measured {
                Some(measured) => {
                    let speed = measured.rows as f64 / measured.seconds;
                    cells.extend([
                        format!("{:.3}", micros(measured)),
                        ratio(micros(measured), ours),
                        grouped(speed),
                        grouped(speed * row_bytes / 1e6),
                    ]);
                }
                None => cells.extend([const { String::new() }; 4]),
            }
        }
        let peak = row.parquet.as_ref().unwrap_or(any).peak_kib;
        cells.push(format!("{:.0}", peak as f64 / 1024.0));
        if let (Some(parquet), Some(theirs)) = (&row.parquet, &ours.parquet)
            && parquet.rows == theirs.rows
            && !parquet.nulls.is_empty()
        {
            ensure!(
                parquet.nulls == theirs.nulls,
                "{} has other NULLs: {:?}, ours {:?}",
                row.client.name(),
                parquet.nulls,
                theirs.nulls
            );
        }
        table.row(cells);
    }
    Ok(table)
}
