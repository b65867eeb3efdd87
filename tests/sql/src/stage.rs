//! Staged files as relations: the hook by which `SELECT $1:"c"::T FROM @stage` reads them.

use std::sync::Arc;

use crate::{error::SqlError, value::Variant};

/// A relation of a Snowflake query that names a stage: `@db.schema.stage/path (FILE_FORMAT => …, PATTERN => …)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRequest {
    /// The location as written, from `@` on, without quotes around the whole.
    pub location: String,
    /// The options in parentheses, names in upper case, values without quotes.
    pub options: Vec<(String, String)>,
    /// Database of the session.
    pub database: String,
    /// Schema of the session.
    pub schema: String,
}

/// One record of a staged file.
#[derive(Debug, Clone)]
pub struct StageRow {
    /// `$1`: an object with one member per column for Parquet.
    pub record: Variant,
    /// `METADATA$FILENAME`.
    pub file_name: Arc<str>,
    /// `METADATA$FILE_ROW_NUMBER`, counted from 1.
    pub row_number: u64,
}

/// A lazy sequence of staged records.
pub type StageRows = Box<dyn Iterator<Item = Result<StageRow, SqlError>> + Send>;

/// A column of staged files, as INFER_SCHEMA tells it.
#[derive(Debug, Clone)]
pub struct StageColumn {
    /// Its name in the files.
    pub name: String,
    /// A type as CREATE TABLE writes it.
    pub ty: String,
    /// Whether NULLs may be in it.
    pub nullable: bool,
    /// The files that have it.
    pub files: Vec<String>,
}

/// Opens staged files. Implemented by the Snowflake stand-in, which decrypts and decodes them.
pub trait StageReader: Send + Sync {
    /// Opens the files that a location names, in the order of their names.
    fn open(&self, request: &StageRequest) -> Result<StageRows, SqlError>;

    /// The columns of the files that a location names.
    fn columns(&self, request: &StageRequest) -> Result<Vec<StageColumn>, SqlError> {
        let message = format!("INFER_SCHEMA cannot read {}", request.location);
        Err(SqlError::snowflake(2_099, "0A000", message))
    }
}
