//! One connection's state, and the statements that it runs.

use std::sync::Arc;

use crate::{
    database::Database,
    error::SqlError,
    outcome::{Outcome, ResultSet},
    stage::StageReader,
    types::{Column, DataType},
    value::{Row, Value},
};

/// Who a session belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The login (SQL Server) or user (Snowflake) name.
    pub user: String,
    /// The role (Snowflake): statements are refused unless it was granted what they need. None: no check.
    pub role: Option<String>,
    /// The warehouse (Snowflake).
    pub warehouse: Option<String>,
    /// The current database; None: the server's first.
    pub database: Option<String>,
    /// The current schema; None: `dbo` or `PUBLIC`.
    pub schema: Option<String>,
    /// What APP_NAME() answers.
    pub application: String,
    /// What HOST_NAME() answers.
    pub host: String,
}

/// A parameter or binding of a statement.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// `@name` (SQL Server), or empty for a positional `?` (Snowflake).
    pub name: String,
    /// Its declared type.
    pub ty: DataType,
    /// Its value.
    pub value: Value,
}

/// One connection's session. Statements of one session run one after the other.
///
/// Dropping it rolls back an open transaction and frees its locks: a wire crate that imitates a lost connection,
/// whose transaction lives on, keeps the session for as long as the real server would.
pub struct Session {
    db: Arc<Database>,
    identity: Identity,
    stage: Option<Arc<dyn StageReader>>,
}

impl Session {
    /// A session of this server.
    pub fn new(db: &Arc<Database>, identity: Identity) -> Self {
        Self { db: Arc::clone(db), identity, stage: None }
    }

    /// The session's number: @@SPID, CURRENT_SESSION().
    pub fn id(&self) -> u64 {
        51
    }

    /// The server that it belongs to.
    pub fn database(&self) -> &Arc<Database> {
        &self.db
    }

    /// Who it belongs to; role, warehouse, database and schema follow USE.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives the session the hook that opens staged files (Snowflake).
    pub fn set_stage_reader(&mut self, reader: Arc<dyn StageReader>) {
        self.stage = Some(reader);
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        false
    }

    /// The open transaction's number, as CURRENT_TRANSACTION() shows it; also the TDS transaction descriptor.
    pub fn transaction_id(&self) -> Option<u64> {
        None
    }

    /// Runs a batch: one answer per statement, in order, ending where the dialect would end it.
    /// SQL Server goes on after an error whose effect is the statement; Snowflake takes one statement.
    ///
    /// The rows of the batch's last SELECT are lazy; those of earlier ones are already computed.
    /// The future may be dropped while it waits for a lock: the statement then did nothing.
    pub async fn execute(&mut self, sql: &str) -> Vec<Result<Outcome, SqlError>> {
        self.execute_with(sql, &[]).await
    }

    /// The same with parameters: `@name` (sp_executesql) or `?` and `:1` in order (Snowflake's bindings).
    pub async fn execute_with(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
    ) -> Vec<Result<Outcome, SqlError>> {
        let _ = parameters;
        vec![Err(SqlError::mssql(102, format!("Incorrect syntax near '{}'.", crate::error::quote(sql))))]
    }

    /// Runs one SELECT (or anything that answers rows) inside the open transaction.
    pub async fn query(&mut self, sql: &str) -> Result<ResultSet, SqlError> {
        Err(SqlError::mssql(102, format!("Incorrect syntax near '{}'.", crate::error::quote(sql))))
    }

    /// The columns of the first result set that a batch would return; empty if it returns none.
    pub async fn describe(&mut self, sql: &str) -> Result<Vec<Column>, SqlError> {
        Err(SqlError::mssql(102, format!("Incorrect syntax near '{}'.", crate::error::quote(sql))))
    }

    /// Appends rows to a table inside the open transaction, or in one of its own: bulk insert and COPY.
    ///
    /// `table` is a name as SQL writes it (`"DB"."S"."T"`, `dbo.T`). `columns` names the columns that each row
    /// gives, in order; empty means all of them. Every value is cast to its column as INSERT would; columns not
    /// named get their default. The first error (its `row` counted from 1), of the cast or of the iterator, undoes the whole call.
    pub async fn append(
        &mut self,
        table: &str,
        columns: &[String],
        rows: impl Iterator<Item = Result<Row, SqlError>> + Send,
    ) -> Result<u64, SqlError> {
        let _ = (columns, rows);
        Err(SqlError::mssql(208, format!("Invalid object name '{table}'.")))
    }

    /// The columns of a table or view.
    pub fn table_columns(&self, table: &str) -> Result<Vec<Column>, SqlError> {
        Err(SqlError::mssql(208, format!("Invalid object name '{table}'.")))
    }

    /// Rolls back the open transaction, if there is one, and frees its locks.
    pub fn rollback(&mut self) {}
}
