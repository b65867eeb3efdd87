//! Keyferry's own reader: the loader's library, with a ticket that the broker relays.

use anyhow::{Context as _, Result};
use keyferry_loader::{config::Pipeline, model::arrow_schema, pipeline, source::SqlServer, verify::Level};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::{BATCH_BYTES, BATCH_ROWS, Reading, Sink};
use crate::usage::{Measured, Meter};

pub(super) async fn read(reading: &Reading) -> Result<Measured> {
    let file = reading.pipeline.as_ref().context("Keyferry's reader needs --pipeline")?;
    let pipeline = Pipeline::read(file)?;
    let plan = pipeline::plan(&pipeline, Level::Counts, &CancellationToken::new()).await?;
    let columns = &plan.tables.first().context("a table")?.plan.columns;
    let broker = pipeline::broker(&pipeline).await?;
    let mut connection = SqlServer::resolve(&broker, &pipeline.source).await?.connect().await?;

    let meter = Meter::start()?;
    let mut sink = Sink::open(&Arc::new(arrow_schema(columns)), reading.out.as_ref())?;
    let mut rows = connection.stream(&reading.sql).await?;
    let mut count = 0;
    while let Some(decoded) = rows.next_batch(columns, BATCH_ROWS, BATCH_BYTES).await? {
        count += decoded.batch.num_rows() as u64;
        sink.write(&decoded.batch)?;
    }
    let mut file = Measured::default();
    sink.close(&mut file)?;
    let measured = meter.stop(count)?;
    Ok(Measured {
        file_bytes: file.file_bytes,
        nulls: file.nulls,
        versions: format!("keyferry {}", env!("CARGO_PKG_VERSION")),
        ..measured
    })
}
