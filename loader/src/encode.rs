//! Batches in, one encrypted Parquet file out. Nothing but the open row group is held in memory.
//!
//! zstd at level 1. A dictionary for text columns only: codes, names and flags repeat, and text that does not outgrows
//! the dictionary page early and falls back; numbers, times and binary values rarely repeat enough to pay for it.
//! Pages of (max) columns are cut at the row group's end only, when the batch that brought a large value is gone: the value
//! then exists as page and as compressed page, and no third and fourth time.
//! There are neither statistics nor page indexes: COPY reads whole files.
//! Timestamps carry no zone (`isAdjustedToUTC` is false), so that Snowflake reads `TIMESTAMP_NTZ`.

use std::{error::Error as _, io, path::PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

pub use crate::stage::spool::SpooledFile;
use crate::{
    config::ByteSize,
    stage::{
        StageTarget,
        encrypt::MasterKey,
        spool::{Place, Spool, SpoolDir, SpoolFull},
    },
};

/// Text whose distinct values outgrow this falls back to plain pages.
const DICTIONARY_BYTES: usize = 256 * 1024;
/// Beyond every row group: pages are then cut at its end.
const NEVER: usize = i32::MAX as usize;

/// Where files are spooled and how much of one is held in memory.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    /// The open row group is closed when it holds this many bytes.
    pub row_group_bytes: usize,
    /// A directory with room for the files that wait for their upload.
    pub spool: SpoolDir,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The spool directory is full, and no upload that is under way will free it.
    #[error(
        "the spool directory {} is full: {} are free, {} of this file were written, and a run with these limits needs up \
         to {} there (two files of `limits.file_mib` for each chunk on its way); free space, lower `limits.file_mib` or \
         `limits.connections`, or let `limits.spool_dir` name a larger directory",
        dir.display(), free, written, need
    )]
    DiskFull {
        /// The directory.
        dir: PathBuf,
        /// What is free.
        free: ByteSize,
        /// What the file had already.
        written: ByteSize,
        /// What the run may need.
        need: ByteSize,
        /// Whether nothing else of this run lies there, so that waiting cannot help.
        alone: bool,
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

impl EncodeError {
    /// Whether the same rows may find room later: other chunks' files still lie in the spool.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::DiskFull { alone: false, .. })
    }
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
        place: Place,
        options: &EncodeOptions,
    ) -> Result<Self, EncodeError> {
        Self::under(schema, target.master(), place, options)
    }

    fn under(
        schema: SchemaRef,
        master: &MasterKey,
        place: Place,
        options: &EncodeOptions,
    ) -> Result<Self, EncodeError> {
        let spool = Spool::create(place, master).map_err(|e| spool_error(options, e))?;
        // The Arrow schema would only repeat what the Parquet schema says.
        let writer_options =
            ArrowWriterOptions::new().with_properties(properties(&schema)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(spool, schema, writer_options)
            .map_err(|e| encode_error(options, e))?;
        Ok(Self { writer, options: options.clone(), rows: 0 })
    }

    /// Adds a batch; when that is gone, closes the row group if it is large enough.
    pub fn write(&mut self, batch: RecordBatch) -> Result<(), EncodeError> {
        self.writer.write(&batch).map_err(|e| encode_error(&self.options, e))?;
        self.rows += batch.num_rows() as u64;
        drop(batch);
        if self.in_progress_bytes() >= self.options.row_group_bytes {
            self.writer.flush().map_err(|e| encode_error(&self.options, e))?;
        }
        Ok(())
    }

    /// Memory that the open row group holds.
    pub fn in_progress_bytes(&self) -> usize {
        self.writer.memory_size().max(self.writer.in_progress_size())
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

/// How every file is written; the benchmark writes others' rows so too.
pub fn properties(schema: &SchemaRef) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_created_by("keyferry".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES);
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        properties = match field.data_type() {
            DataType::Utf8 => properties.set_column_dictionary_enabled(path, true),
            DataType::LargeUtf8 | DataType::LargeBinary => properties
                .set_column_data_page_row_count_limit(path.clone(), NEVER)
                .set_column_data_page_size_limit(path, NEVER),
            _ => properties,
        };
    }
    properties.build()
}

fn spool_error(options: &EncodeOptions, source: io::Error) -> EncodeError {
    let spool = &options.spool;
    let dir = spool.path().to_owned();
    // The file itself could not be made: another one may be gone soon.
    let unmade = SpoolFull { written: 0, alone: false };
    let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    match SpoolFull::of(&source).or(is_full.then_some(unmade)) {
        Some(full) => EncodeError::DiskFull {
            dir,
            free: ByteSize(spool.free()),
            written: ByteSize(full.written),
            need: ByteSize(spool.need()),
            alone: full.alone,
        },
        None => EncodeError::Spool { dir, source },
    }
}

fn encode_error(options: &EncodeOptions, error: ParquetError) -> EncodeError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return match SpoolFull::of(io) {
                Some(full) => spool_error(options, full.into_io()),
                None => spool_error(options, io::Error::new(io.kind(), io.to_string())),
            };
        }
        cause = inner.source();
    }
    EncodeError::Parquet(error)
}

#[cfg(test)]
mod tests;
