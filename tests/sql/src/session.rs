//! One connection's state, and the statements that it runs.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::{
    bind::{Binder, Env, Facts},
    cast::Cast,
    database::{Database, now},
    error::{Effect, SqlError},
    exec,
    expr::Frame,
    outcome::{Outcome, ResultSet, Rows},
    script::{self, Line},
    stage::StageReader,
    state::{Object, State, TableId},
    storage::Delta,
    types::{Column, DataType, Dialect},
    value::{Row, Value},
};

mod access;
mod changes;
mod constraints;
mod cursors;
mod ddl;
mod dml;
mod flow;
mod merge;
mod output;
mod procedures;
mod show;
mod steps;
mod transaction;

pub use procedures::{CallArgument, Called};
pub(crate) use transaction::Transaction;

type Answers = Vec<Result<Outcome, SqlError>>;

/// Rounds of a recursive query without MAXRECURSION.
const RECURSION: u64 = 100;

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
    /// What `APP_NAME()` answers.
    pub application: String,
    /// What `HOST_NAME()` answers.
    pub host: String,
}

/// Tells a statement whether its client, or its deadline, has stopped it.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

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

/// SQL Server's isolation levels; Snowflake has only READ COMMITTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadCommitted,
    Snapshot,
    /// REPEATABLE READ and SERIALIZABLE: readers hold a shared lock on the table.
    Serializable,
}

/// What SET and ALTER SESSION change.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub isolation: Isolation,
    pub lock_timeout: Option<Duration>,
    pub no_count: bool,
    /// FMTONLY: queries tell their columns and return no rows.
    pub metadata_only: bool,
    pub abort_on_error: bool,
    pub implicit_transactions: bool,
    pub autocommit: bool,
    pub identity_insert: Option<TableId>,
    pub row_limit: u64,
    pub parameters: HashMap<String, String>,
}

/// One connection's session. Statements of one session run one after the other.
///
/// Dropping it rolls back an open transaction and frees its locks: a wire crate that imitates a lost connection,
/// whose transaction lives on, keeps the session for as long as the real server would.
pub struct Session {
    db: Arc<Database>,
    id: u64,
    identity: Identity,
    stage: Option<Arc<dyn StageReader>>,
    stop: Option<Stop>,
    options: Options,
    variables: HashMap<String, (DataType, Value)>,
    positional: Vec<(DataType, Value)>,
    transaction: Option<Transaction>,
    nesting: i64,
    row_count: Arc<AtomicI64>,
    error: i64,
    last_identity: Option<i64>,
    /// How deep procedures and run text are nested.
    level: u32,
    /// The procedure that runs.
    procedure: Option<String>,
    /// The levels of the TRY blocks around the current statement.
    tries: Vec<u32>,
    /// An error on its way to a CATCH, and those whose CATCH blocks run.
    raised: Option<flow::Raised>,
    caught: Vec<SqlError>,
    cursors: HashMap<String, cursors::Cursor>,
    fetch_status: i64,
    cursor_rows: i64,
    locals: Vec<procedures::Local>,
    /// What the OUTPUT clause of the current change gives.
    output: Option<output::Output>,
    /// Rounds that a recursive query may take: MAXRECURSION of the current statement.
    recursion: u64,
}

impl Session {
    /// A session of this server.
    pub fn new(db: &Arc<Database>, mut identity: Identity) -> Self {
        let snowflake = db.dialect() == Dialect::Snowflake;
        let state = db.state();
        if identity.database.is_none() {
            let first = state.databases.values().max_by_key(|info| info.id);
            identity.database = first.map(|info| info.name.clone());
        }
        if identity.schema.is_none() {
            identity.schema = Some(if snowflake { "PUBLIC" } else { "dbo" }.to_owned());
        }
        Self {
            db: Arc::clone(db),
            id: db.next_session(),
            identity,
            stage: None,
            stop: None,
            options: Options {
                isolation: Isolation::ReadCommitted,
                lock_timeout: db.settings().lock_timeout,
                no_count: false,
                metadata_only: false,
                abort_on_error: false,
                implicit_transactions: false,
                autocommit: true,
                identity_insert: None,
                row_limit: 0,
                parameters: HashMap::new(),
            },
            variables: HashMap::new(),
            positional: Vec::new(),
            transaction: None,
            nesting: 0,
            row_count: Arc::new(AtomicI64::new(0)),
            error: 0,
            last_identity: None,
            level: 0,
            procedure: None,
            tries: Vec::new(),
            raised: None,
            caught: Vec::new(),
            cursors: HashMap::new(),
            fetch_status: 0,
            cursor_rows: 0,
            locals: Vec::new(),
            output: None,
            recursion: RECURSION,
        }
    }

    /// The session's number: @@SPID, `CURRENT_SESSION()`.
    pub fn id(&self) -> u64 {
        self.id
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

    /// What asks whether the statements from now on shall stop: between two rows, and while they wait on purpose.
    pub fn set_stop(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| !transaction.implicit)
    }

    /// The open transaction's number, as `CURRENT_TRANSACTION()` shows it; also the TDS transaction descriptor.
    pub fn transaction_id(&self) -> Option<u64> {
        self.transaction
            .as_ref()
            .filter(|transaction| !transaction.implicit)
            .map(|transaction| transaction.id)
    }

    /// A session parameter set by ALTER SESSION (Snowflake), its name in upper case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.options.parameters.get(name).map(String::as_str)
    }

    /// Whether SET NOCOUNT ON is in force (SQL Server): counts are then not sent.
    pub fn no_count(&self) -> bool {
        self.options.no_count
    }

    /// Runs a batch: one answer per statement, in order, ending where the dialect would end it.
    /// SQL Server goes on after an error whose effect is the statement; Snowflake takes one statement.
    ///
    /// The rows of the batch's last SELECT are lazy; those of earlier ones are already computed.
    /// The future may be dropped while it waits for a lock: the statement then did nothing.
    pub async fn execute(&mut self, sql: &str) -> Vec<Result<Outcome, SqlError>> {
        self.execute_with(sql, &[]).await
    }

    /// The same with parameters: `@name` (`sp_executesql`) or `?` and `:1` in order (Snowflake's bindings).
    pub async fn execute_with(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
    ) -> Vec<Result<Outcome, SqlError>> {
        self.begin_batch();
        self.bind_parameters(parameters);
        let parsed = script::parse(self.db.dialect(), sql).and_then(|lines| {
            if self.db.dialect() == Dialect::SqlServer {
                script::check_variables(&lines, self.variables.keys().cloned())?;
            }
            Ok(lines)
        });
        match parsed {
            Err(error) => vec![Err(error)],
            Ok(lines) if self.db.dialect() == Dialect::Snowflake && lines.len() > 1 => {
                vec![Err(SqlError::snowflake(
                    8,
                    "0A000",
                    format!(
                        "Actual statement count {} did not match the desired statement count 1.",
                        lines.len()
                    ),
                ))]
            }
            Ok(lines) => {
                let mut out = Vec::new();
                self.run_lines(&lines, &mut out, true).await;
                self.end_batch(&mut out);
                out
            }
        }
    }

    fn bind_parameters(&mut self, parameters: &[Parameter]) {
        self.variables.clear();
        self.positional.clear();
        for parameter in parameters {
            let pair = (parameter.ty.clone(), parameter.value.clone());
            if parameter.name.is_empty() {
                self.positional.push(pair);
            } else {
                self.variables.insert(parameter.name.to_lowercase(), pair);
            }
        }
    }

    /// Runs one SELECT (or anything that answers rows) inside the open transaction.
    pub async fn query(&mut self, sql: &str) -> Result<ResultSet, SqlError> {
        for outcome in self.execute(sql).await {
            if let Outcome::Rows(rows) = outcome? {
                return Ok(rows);
            }
        }
        Err(SqlError::mssql(208, format!("The statement returned no rows: {}", crate::error::quote(sql))))
    }

    /// The columns of the first result set that a batch would return; empty if it returns none.
    pub async fn describe(&mut self, sql: &str) -> Result<Vec<Column>, SqlError> {
        self.describe_with(sql, &[]).await
    }

    /// The same with parameters, of which only the types matter.
    #[allow(clippy::unused_async)]
    pub async fn describe_with(
        &mut self,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Vec<Column>, SqlError> {
        self.bind_parameters(parameters);
        for Line { step, .. } in script::parse(self.db.dialect(), sql)? {
            if let script::Step::Sql(statement) = step
                && let sqlparser::ast::Statement::Query(query) = *statement
            {
                let deltas = HashMap::new();
                let env = self.env(self.read_state(false)?, &deltas);
                let (_, columns) = Binder::new(&env).query(&query)?;
                return Ok(columns.into_iter().map(column_of).collect());
            }
        }
        Ok(Vec::new())
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
        self.drop_unfinished();
        let name = script::parse_name(self.db.dialect(), table)?;
        let parts = crate::bind::parts(self.db.dialect(), &name)?;
        self.append_rows(&parts, columns, rows).await
    }

    /// The columns of a table or view.
    pub fn table_columns(&self, table: &str) -> Result<Vec<Column>, SqlError> {
        let name = script::parse_name(self.db.dialect(), table)?;
        let deltas = HashMap::new();
        let env = self.env(self.db.state(), &deltas);
        let binder = Binder::new(&env);
        let (_, columns) = binder.relation(&binder.parts(&name)?)?;
        Ok(columns.into_iter().map(column_of).collect())
    }

    /// Rolls back the open transaction, if there is one, and frees its locks.
    pub fn rollback(&mut self) {
        self.nesting = 0;
        if let Some(transaction) = self.transaction.take() {
            transaction.undo(&self.db);
        }
    }

    /// A transaction that a cancelled statement left behind.
    fn drop_unfinished(&mut self) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.implicit) {
            self.rollback();
        }
    }

    fn dialect(&self) -> Dialect {
        self.db.dialect()
    }

    fn is_snowflake(&self) -> bool {
        self.db.dialect() == Dialect::Snowflake
    }

    /// What a statement reads: the latest commit, or the snapshot that its transaction pinned.
    fn read_state(&self, pin: bool) -> Result<Arc<State>, SqlError> {
        let _ = pin;
        if let Some(transaction) = &self.transaction
            && let Some(pinned) = &transaction.pinned
        {
            return Ok(Arc::clone(pinned));
        }
        Ok(self.db.state())
    }

    fn env<'a>(&'a self, state: Arc<State>, deltas: &'a HashMap<TableId, Arc<Delta>>) -> Env<'a> {
        Env {
            db: &self.db,
            state,
            deltas,
            identity: &self.identity,
            session_id: self.id,
            variables: &self.variables,
            positional: self.positional.clone(),
            now: now(),
            stage: self.stage.clone(),
            stop: self.stop.clone(),
            facts: Facts {
                transaction: self.transaction_id(),
                nesting: self.nesting,
                doomed: self.transaction.as_ref().is_some_and(|transaction| transaction.doomed),
                row_count: self.row_count.load(Ordering::Relaxed),
                error: self.error,
                identity: self.last_identity,
                lock_timeout: self.options.lock_timeout.map_or(-1, |timeout| timeout.as_millis() as i64),
                isolation: match self.options.isolation {
                    Isolation::ReadCommitted => 2,
                    Isolation::Serializable => 4,
                    Isolation::Snapshot => 5,
                },
                fetch_status: self.fetch_status,
                cursor_rows: self.cursor_rows,
                level: self.level,
                recursion: self.recursion,
                caught: self.caught.last().cloned(),
            },
        }
    }

    fn deltas(&self) -> HashMap<TableId, Arc<Delta>> {
        self.transaction.as_ref().map(|transaction| transaction.deltas.clone()).unwrap_or_default()
    }

    /// Binds and starts a query.
    async fn select(&mut self, query: &sqlparser::ast::Query) -> Result<ResultSet, SqlError> {
        self.lock_for_reading(query).await?;
        let state = self.pin()?;
        let deltas = self.deltas();
        let env = self.env(state, &deltas);
        let binder = Binder::new(&env);
        let (plan, columns) = binder.query(query)?;
        let rows = exec::open(&plan, &Frame::default())?;
        let counter = Arc::clone(&self.row_count);
        counter.store(0, Ordering::Relaxed);
        let limit = match self.options.row_limit {
            _ if self.options.metadata_only => 0,
            0 => usize::MAX,
            limit => limit as usize,
        };
        let counted = rows.take(limit).inspect(move |row| {
            if row.is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(ResultSet {
            columns: columns.into_iter().filter(|column| !column.hidden).map(column_of).collect(),
            rows: match self.stop.clone() {
                None => Rows(Box::new(counted)),
                Some(stop) => Rows(Box::new(
                    counted.map(move |row| if stop() { Err(SqlError::stopped()) } else { row }),
                )),
            },
        })
    }

    /// Evaluates an expression outside of a query.
    fn evaluate(&self, ast: &sqlparser::ast::Expr) -> Result<(Value, DataType), SqlError> {
        let deltas = self.deltas();
        let env = self.env(self.read_state(false)?, &deltas);
        Binder::new(&env).constant(ast)
    }

    fn cast(&self) -> Cast {
        Cast::explicit(self.db.dialect())
    }

    /// Finds a table to change.
    fn table(&self, state: &State, parts: &[String]) -> Result<Arc<crate::state::TableDef>, SqlError> {
        let name = crate::bind::complete(&self.db, &self.identity, self.id, state, parts)?;
        match state.objects.get(&name.key(self.dialect())) {
            Some(Object::Table(table)) => Ok(Arc::clone(table)),
            Some(Object::View(_)) => {
                Err(crate::bind::unsupported(self.dialect(), format!("a change of the view {name}")))
            }
            None => Err(crate::bind::relations::not_found(self.dialect(), state, &name, &parts.join("."))),
        }
    }

    /// Remembers an error for @@ERROR and decides what it ends. Inside TRY a transaction that cannot go on is left
    /// to CATCH, which can only roll it back.
    fn settle(&mut self, error: SqlError) -> SqlError {
        self.error = i64::from(error.number);
        let mssql = self.dialect() == Dialect::SqlServer;
        let error = if mssql {
            flow::weigh(error, self.options.abort_on_error && self.transaction.is_some())
        } else {
            error
        };
        if error.effect == Effect::Transaction {
            if self.tries.is_empty() {
                self.rollback();
            } else if let Some(transaction) = &mut self.transaction {
                transaction.doomed = true;
            }
        }
        error
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.rollback();
        let suffix = format!("#{}", self.id);
        let temporary = |key: &crate::state::Key| key.1.ends_with(&suffix);
        if self.db.state().objects.keys().any(temporary) {
            self.db.change(|state| {
                let gone: Vec<TableId> = state
                    .objects
                    .iter()
                    .filter(|(key, _)| temporary(key))
                    .map(|(_, object)| object.id())
                    .collect();
                state.objects.retain(|key, _| !temporary(key));
                for id in gone {
                    state.tables.remove(&id);
                }
            });
        }
    }
}

fn column_of(column: crate::bind::ScopeColumn) -> Column {
    Column {
        name: column.name,
        ty: column.ty,
        nullable: column.nullable,
        identity: column.identity,
        computed: column.computed,
    }
}
