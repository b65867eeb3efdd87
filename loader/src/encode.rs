//! Batches in, one encrypted Parquet file out. Nothing but the open row group is held in memory.
//!
//! zstd at level 1. A dictionary for text columns only: codes, names and flags repeat, and text that does not outgrows
//! the dictionary page early and falls back; numbers, times and binary values rarely repeat enough to pay for it.
//! Timestamps carry no zone (`isAdjustedToUTC` is false), so that Snowflake reads `TIMESTAMP_NTZ`.

use std::{error::Error as _, io, path::PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
    schema::types::ColumnPath,
};

pub use crate::stage::spool::SpooledFile;
use crate::stage::{StageTarget, encrypt::MasterKey, spool::Spool};

/// Text whose distinct values outgrow this falls back to plain pages.
const DICTIONARY_BYTES: usize = 256 * 1024;

/// Where files are spooled and how much of one is held in memory.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    /// The open row group is closed when it holds this many bytes.
    pub row_group_bytes: usize,
    /// A directory with room for the files that wait for their upload.
    pub spool_dir: PathBuf,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The spool directory is full.
    #[error(
        "the spool directory {} is full; free space there, or let `limits.spool_dir` name a larger one \
         (it needs about `file_mib` for each connection and each upload)",
        dir.display()
    )]
    DiskFull {
        /// The directory.
        dir: PathBuf,
    },
    /// The spool directory cannot be used.
    #[error("cannot write to the spool directory {}: {source}; let `limits.spool_dir` name a writable one", dir.display())]
    Spool {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The batch and the file do not fit.
    #[error("cannot encode Parquet: {0}")]
    Parquet(ParquetError),
}

/// Writes one file. Its methods compute and write to disk: call them where blocking is allowed.
pub struct FileWriter {
    writer: ArrowWriter<Spool>,
    options: EncodeOptions,
    rows: u64,
}

impl FileWriter {
    /// Opens a spool file under a fresh key of the stage.
    pub fn create(
        schema: SchemaRef,
        target: &StageTarget,
        options: &EncodeOptions,
    ) -> Result<Self, EncodeError> {
        Self::under(schema, target.master(), options)
    }

    fn under(schema: SchemaRef, master: &MasterKey, options: &EncodeOptions) -> Result<Self, EncodeError> {
        let spool = Spool::create(&options.spool_dir, master).map_err(|e| spool_error(options, e))?;
        // The Arrow schema would only repeat what the Parquet schema says.
        let writer_options =
            ArrowWriterOptions::new().with_properties(properties(&schema)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(spool, schema, writer_options)
            .map_err(|e| encode_error(options, e))?;
        Ok(Self { writer, options: options.clone(), rows: 0 })
    }

    /// Adds a batch; closes the row group when it is large enough.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        self.writer.write(batch).map_err(|e| encode_error(&self.options, e))?;
        self.rows += batch.num_rows() as u64;
        if self.writer.in_progress_size() >= self.options.row_group_bytes {
            self.writer.flush().map_err(|e| encode_error(&self.options, e))?;
        }
        Ok(())
    }

    /// Memory that the open row group holds.
    pub fn in_progress_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// The file's size if it were finished now, roughly.
    pub fn file_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the footer and hands the encrypted file over.
    pub fn finish(self) -> Result<SpooledFile, EncodeError> {
        let Self { writer, options, rows } = self;
        let spool = writer.into_inner().map_err(|e| encode_error(&options, e))?;
        spool.finish(rows).map_err(|e| spool_error(&options, e))
    }
}

fn properties(schema: &SchemaRef) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_created_by("keyferry".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(None)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES);
    for field in schema.fields() {
        if field.data_type() == &DataType::Utf8 {
            let path = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(path, true);
        }
    }
    properties.build()
}

fn spool_error(options: &EncodeOptions, source: io::Error) -> EncodeError {
    let dir = options.spool_dir.clone();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EncodeError::DiskFull { dir },
        _ => EncodeError::Spool { dir, source },
    }
}

fn encode_error(options: &EncodeOptions, error: ParquetError) -> EncodeError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return spool_error(options, io::Error::new(io.kind(), io.to_string()));
        }
        cause = inner.source();
    }
    EncodeError::Parquet(error)
}

#[cfg(test)]
mod tests;
