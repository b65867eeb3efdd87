//! SQL Server → Arrow, and → Parquet: every client on every table.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::world::BrokerSetup;
use keyferry_stand_in_sqlserver::Encrypt;

use super::{
    Wishes,
    clients::{Client, read},
    stage,
};
use crate::{
    stats::{grouped, ratio},
    table::Table,
    tables::shapes,
    usage::Measured,
};

/// What one client did with one table.
struct Row {
    client: Client,
    arrow: Option<Measured>,
    parquet: Option<Measured>,
}

pub(super) async fn measure(dir: &Path, wishes: &Wishes) -> Result<String> {
    let wanted = |name: &str| wishes.tables.is_empty() || wishes.tables.iter().any(|table| table == name);
    let shapes: Vec<_> = shapes().into_iter().filter(|shape| wanted(shape.name)).collect();
    let rows = |share: f64| ((wishes.rows() as f64 * share) as u64).max(200);
    let world = stage(dir, &shapes, |shape| rows(shape.share), Encrypt::Off).await?;
    let broker = world.start_broker(&BrokerSetup::default()).await?;
    let out = world.users.loader.folder(&world.dir.join("out"), 0o777)?;
    let mut text = String::new();
    for shape in &shapes {
        let mut all = Vec::new();
        for client in Client::ALL.into_iter().filter(|client| client.is_there(wishes)) {
            if client == Client::Reference {
                continue;
            }
            let count = rows(shape.share * client.share());
            eprintln!("bench: {} of {} rows by {}", shape.name, count, client.name());
            let arrow = match client {
                Client::Reference => None,
                _ => Some(read(&world, wishes, client, shape, count, None, &[]).await?),
            };
            let file = out.join(format!("{}-{}.parquet", shape.name, client.name()));
            let parquet = match client {
                Client::Drain => None,
                _ => Some(read(&world, wishes, client, shape, count, Some(&file), &[]).await?),
            };
            all.push(Row { client, arrow, parquet });
        }
        let _ = writeln!(text, "### {}\n\n{}", shape.title, table(&all)?.markdown());
    }
    broker.stop(std::time::Duration::from_secs(20)).await?;
    world.stop().await;
    Ok(text)
}

fn micros(measured: &Measured) -> f64 {
    measured.cpu_seconds * 1e6 / measured.rows as f64
}

fn table(rows: &[Row]) -> Result<Table> {
    let ours = rows.iter().find(|row| row.client == Client::Keyferry).context("Keyferry's own row")?;
    let of = |measured: &Option<Measured>| measured.as_ref().map_or(f64::NAN, micros);
    let mut table = Table::new(&[
        "client",
        "rows",
        "Arrow: µs CPU/row",
        "of ours",
        "rows/s",
        "Parquet: µs CPU/row",
        "of ours",
        "rows/s",
        "peak MiB",
        "file MB",
    ]);
    let speed = |measured: &Measured| grouped(measured.rows as f64 / measured.seconds);
    for row in rows {
        let mut cells = vec![row.client.title().to_owned()];
        let any = row.arrow.as_ref().or(row.parquet.as_ref()).context("a measurement")?;
        cells.push(grouped(any.rows as f64));
        match &row.arrow {
            Some(arrow) => cells.extend([
                format!("{:.3}", micros(arrow)),
                ratio(micros(arrow), of(&ours.arrow)),
                speed(arrow),
            ]),
            None => cells.extend(["".to_owned(), "".to_owned(), "".to_owned()]),
        }
        if let Some(parquet) = &row.parquet {
            cells.extend([
                format!("{:.3}", micros(parquet)),
                ratio(micros(parquet), of(&ours.parquet)),
                speed(parquet),
                format!("{:.0}", parquet.peak_kib as f64 / 1024.0),
                format!("{:.1}", parquet.file_bytes as f64 / 1e6),
            ]);
        }
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
