//! What a statement answers.

use crate::{error::SqlError, types::Column, value::Row};

/// The answer to one statement.
#[derive(Debug)]
pub enum Outcome {
    /// A result set.
    Rows(ResultSet),
    /// A statement that changed rows, or stopped counting them.
    Count {
        /// What was done.
        verb: Verb,
        /// Rows touched; for MERGE and friends the sum.
        rows: u64,
    },
    /// A statement without rows.
    Done {
        /// What was done.
        verb: Verb,
        /// A sentence as Snowflake returns it (`Table T successfully created.`); empty for SQL Server.
        message: String,
    },
    /// An informational message: PRINT, RAISERROR below class 11, a context change.
    Info {
        /// Message number; 0 for PRINT.
        number: i32,
        /// Severity, at most 10.
        class: u8,
        /// State.
        state: u8,
        /// The text.
        message: String,
    },
    /// A procedure's statements begin (SQL Server).
    Entered,
    /// A procedure has returned.
    Left {
        /// RETURN's code.
        status: i32,
    },
    /// The session's context changed (USE …): the wire has its own message for it.
    Changed {
        /// Which part.
        what: Context,
        /// The former name.
        old: String,
        /// The new name.
        new: String,
    },
}

/// What USE changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The current database.
    Database,
    /// The current schema.
    Schema,
    /// The current role.
    Role,
    /// The current warehouse.
    Warehouse,
}

/// What kind of statement ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Select,
    Insert,
    InsertOverwrite,
    Update,
    Delete,
    Merge,
    Truncate,
    Create,
    Alter,
    Drop,
    Begin,
    Commit,
    Rollback,
    Set,
    Grant,
    Other,
}

/// Columns and rows. Rows are lazy: they are computed as they are read, from a snapshot that no writer touches.
#[derive(Debug)]
pub struct ResultSet {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Rows,
}

/// A lazy sequence of rows; an error ends it.
pub struct Rows(pub(crate) Box<dyn Iterator<Item = Result<Row, SqlError>> + Send>);

impl Rows {
    /// Rows from any iterator, for a wire crate's own result sets.
    pub fn new(rows: impl Iterator<Item = Result<Row, SqlError>> + Send + 'static) -> Self {
        Self(Box::new(rows))
    }

    /// Rows from a list.
    pub fn from_vec(rows: Vec<Row>) -> Self {
        Self::new(rows.into_iter().map(Ok))
    }

    /// All rows at once, or the first error.
    pub fn collect_all(self) -> Result<Vec<Row>, SqlError> {
        self.0.collect()
    }
}

impl Iterator for Rows {
    type Item = Result<Row, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}
