//! The clients in Rust that are measured in a process of their own: what they read becomes Arrow, and Parquet if asked.

mod drain;
mod ours;

use std::{fs::File, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::SchemaRef;
use clap::Args;
use parquet::arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions};

use crate::usage::Measured;

/// Rows of one batch, which is one row group of the file.
pub const BATCH_ROWS: usize = 65_536;
/// A batch is closed at so many bytes even with fewer rows.
pub const BATCH_BYTES: usize = 32 << 20;

/// What a client is to read, and how it gets there.
#[derive(Args, Clone, Debug)]
pub struct Reading {
    /// keyferry or drain
    pub client: String,
    /// The statement
    #[arg(long)]
    pub sql: String,
    /// The table's CREATE TABLE statement, for clients that must be told the types
    #[arg(long)]
    pub ddl: Option<String>,
    /// SQL Server's port on loopback
    #[arg(long)]
    pub port: u16,
    /// The database
    #[arg(long)]
    pub database: String,
    /// The pipeline file, for Keyferry's own reader
    #[arg(long)]
    pub pipeline: Option<PathBuf>,
    /// Where the Parquet file goes; without it rows become Arrow and are dropped
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// The login of those who cannot have a relayed ticket.
pub const LOGIN: &str = "judge";
/// Its password.
pub const PASSWORD: &str = "Judge-the-server-1";

/// Reads, and prints one line of JSON.
#[allow(clippy::print_stdout)] // it is what the driver reads
pub async fn read(reading: &Reading) -> Result<()> {
    let measured = match reading.client.as_str() {
        "keyferry" => ours::read(reading).await?,
        "drain" => drain::read(reading)?,
        other => bail!("no client {other}"),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Where batches go: into a file, or nowhere.
pub struct Sink(Option<(ArrowWriter<File>, PathBuf)>, Vec<u64>);

impl Sink {
    /// Opens the file if there is to be one.
    pub fn open(schema: &SchemaRef, out: Option<&PathBuf>) -> Result<Self> {
        let Some(path) = out else { return Ok(Self(None, Vec::new())) };
        let options = ArrowWriterOptions::new()
            .with_properties(keyferry_loader::encode::properties(schema))
            .with_skip_arrow_metadata(true);
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let writer = ArrowWriter::try_new_with_options(file, Arc::clone(schema), options)?;
        Ok(Self(Some((writer, path.clone())), vec![0; schema.fields().len()]))
    }

    /// Takes a batch; it becomes a row group.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some((writer, _)) = &mut self.0 {
            for (count, column) in self.1.iter_mut().zip(batch.columns()) {
                *count += column.null_count() as u64;
            }
            writer.write(batch)?;
            writer.flush()?;
        }
        Ok(())
    }

    /// Writes the footer; the file's size and the NULLs by column.
    pub fn close(self, measured: &mut Measured) -> Result<()> {
        let Some((writer, path)) = self.0 else { return Ok(()) };
        writer.close()?;
        measured.file_bytes = std::fs::metadata(path)?.len();
        measured.nulls = self.1;
        Ok(())
    }
}
