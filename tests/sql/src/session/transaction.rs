//! Transactions: their changes, what they see, and the locks that they wait for.

use std::{collections::HashMap, sync::Arc};

use sqlparser::ast;

use crate::{
    database::Database,
    error::{Effect, SqlError},
    locks::{Mode, Refused, Resource},
    session::{Isolation, Session},
    state::{Key, Object, ProcedureDef, State, TableId},
    storage::{Delta, TableVersion},
};

/// An open transaction.
pub(crate) struct Transaction {
    pub id: u64,
    /// Belongs to one statement only (autocommit).
    pub implicit: bool,
    /// What SNAPSHOT isolation reads, from the first access on.
    pub pinned: Option<Arc<State>>,
    pub deltas: HashMap<TableId, Arc<Delta>>,
    pub savepoints: Vec<(String, HashMap<TableId, Arc<Delta>>)>,
    /// How to undo the DDL of a SQL Server transaction, latest last.
    pub undo: Vec<Undo>,
    /// What BEGIN TRANSACTION called it.
    pub name: Option<String>,
    /// It can only be rolled back: an error inside TRY ended it.
    pub doomed: bool,
}

/// Takes back one DDL statement.
pub(crate) enum Undo {
    Created(TableId),
    Replaced(Object, Option<Arc<TableVersion>>),
    Procedure(Key, Option<Arc<ProcedureDef>>),
}

impl Transaction {
    /// Takes everything back and frees the locks.
    pub(crate) fn undo(self, db: &Database) {
        if !self.undo.is_empty() {
            let dialect = db.dialect();
            db.change(|state| {
                for undo in self.undo.into_iter().rev() {
                    match undo {
                        Undo::Created(id) => {
                            state.objects.retain(|_, object| object.id() != id);
                            state.tables.remove(&id);
                        }
                        Undo::Procedure(key, before) => {
                            state.procedures.remove(&key);
                            if let Some(before) = before {
                                state.procedures.insert(key, before);
                            }
                        }
                        Undo::Replaced(object, version) => {
                            let id = object.id();
                            state.objects.retain(|_, other| other.id() != id);
                            state.objects.insert(object.name().key(dialect), object);
                            if let Some(version) = version {
                                state.tables.insert(id, version);
                            }
                        }
                    }
                }
            });
        }
        db.end(self.id);
    }
}

impl Session {
    /// The open transaction, or one for this statement.
    pub(super) fn ensure_transaction(&mut self) -> &mut Transaction {
        if self.transaction.is_none() {
            let explicit = if self.is_snowflake() {
                !self.options.autocommit
            } else {
                self.options.implicit_transactions
            };
            self.open_transaction(!explicit);
            if explicit {
                self.nesting = 1;
            }
        }
        let (db, id, user) = (&self.db, self.id, &self.identity.user);
        self.transaction.get_or_insert_with(|| new_transaction(db.begin(id, user), true))
    }

    pub(super) fn open_transaction(&mut self, implicit: bool) {
        let id = self.db.begin(self.id, &self.identity.user);
        self.transaction = Some(new_transaction(id, implicit));
    }

    /// Commits the open transaction, whatever its nesting.
    pub(super) fn commit_now(&mut self) -> Result<(), SqlError> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        self.nesting = 0;
        let done = self.db.commit(transaction.id, &transaction.deltas);
        if done {
            self.db.end(transaction.id);
            return Ok(());
        }
        transaction.undo(&self.db);
        Err(self.aborted())
    }

    fn aborted(&self) -> SqlError {
        if self.is_snowflake() {
            return SqlError::snowflake(
                609,
                "57014",
                "Transaction was aborted by another session or by the system.",
            );
        }
        SqlError::mssql(3_902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
            .with_class(16)
    }

    /// Ends a statement: an implicit transaction is committed, or undone with the statement's error.
    pub(super) fn end_statement<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        match result {
            Ok(value) => {
                if self.transaction.as_ref().is_some_and(|transaction| transaction.implicit) {
                    self.commit_now()?;
                }
                Ok(value)
            }
            Err(error) => {
                if self.transaction.as_ref().is_some_and(|transaction| transaction.implicit) {
                    self.rollback();
                }
                Err(self.settle(error))
            }
        }
    }

    /// The state that the statement reads. Under SNAPSHOT the first access of a transaction pins it.
    pub(super) fn pin(&mut self) -> Result<Arc<State>, SqlError> {
        if self.transaction.as_ref().is_some_and(|transaction| self.db.is_aborted(transaction.id)) {
            self.rollback();
            return Err(self.aborted());
        }
        if self.options.isolation == Isolation::Snapshot
            && let Some(transaction) = &mut self.transaction
            && transaction.pinned.is_none()
        {
            let state = self.db.state();
            let name = self.identity.database.clone().unwrap_or_default();
            let key = crate::state::fold(self.db.dialect(), &name);
            if state.databases.get(&key).is_some_and(|info| !info.allow_snapshot) {
                self.rollback();
                return Err(SqlError::mssql(
                    3952,
                    format!(
                        "Snapshot isolation transaction failed accessing database '{name}' because snapshot isolation is not allowed in this database. Use ALTER DATABASE to allow snapshot isolation."
                    ),
                )
                .ending(Effect::Transaction));
            }
            transaction.pinned = Some(state);
        }
        self.read_state(true)
    }

    /// Waits for a lock. True: it had to wait.
    pub(super) async fn lock(&mut self, resource: Resource, mode: Mode) -> Result<bool, SqlError> {
        let timeout = self.options.lock_timeout;
        let max = if self.is_snowflake() { self.db.settings().max_waiters } else { usize::MAX };
        let transaction = self.ensure_transaction().id;
        let waited = self.db.locks.acquire(transaction, resource.clone(), mode, timeout, max).await;
        let refused = match waited {
            Ok(waited) => {
                if self.db.is_aborted(transaction) {
                    self.rollback();
                    return Err(self.aborted());
                }
                return Ok(waited);
            }
            Err(refused) => refused,
        };
        if self.is_snowflake() {
            let table = match &resource {
                Resource::Table(id) | Resource::Row(id, _) | Resource::Key(id, ..) => *id,
            };
            let name = self
                .db
                .state()
                .objects
                .values()
                .find(|object| object.id() == table)
                .map(|object| object.name().to_string());
            let name = name.unwrap_or_default();
            let message = match refused {
                Refused::TimedOut => format!(
                    "A statement has locked table '{name}' in another transaction and this lock has not yet been released.\nYour statement was aborted because it waited longer than LOCK_TIMEOUT for the lock."
                ),
                Refused::TooManyWaiters => format!(
                    "A statement has locked table '{name}' in another transaction and this lock has not yet been released.\nYour statement was aborted because the number of waiters for this lock exceeds the {} statements limit.",
                    self.db.settings().max_waiters
                ),
                Refused::Deadlock => format!("Statement aborted because of a deadlock on table '{name}'."),
            };
            let error = SqlError::snowflake(625, "57014", message);
            let abort = self
                .options
                .parameters
                .get("TRANSACTION_ABORT_ON_ERROR")
                .is_some_and(|on| on.eq_ignore_ascii_case("true"));
            return Err(if abort { error.ending(Effect::Transaction) } else { error });
        }
        Err(match refused {
            Refused::TimedOut | Refused::TooManyWaiters => {
                SqlError::mssql(1222, "Lock request time out period exceeded.").with_state(51)
            }
            Refused::Deadlock => SqlError::mssql(
                1205,
                format!(
                    "Transaction (Process ID {}) was deadlocked on lock resources with another process and has been chosen as the deadlock victim. Rerun the transaction.",
                    self.id
                ),
            )
            .with_class(13)
            .with_state(51)
            .ending(Effect::Transaction),
        })
    }

    /// Shared locks that a query's hints or the isolation level ask for (SQL Server).
    pub(super) async fn lock_for_reading(&mut self, query: &ast::Query) -> Result<(), SqlError> {
        if self.is_snowflake() {
            return Ok(());
        }
        let everything = self.options.isolation == Isolation::Serializable;
        let mut wanted = Vec::new();
        hinted(query, everything, &mut wanted);
        // A plan that returns nothing touches no table, and takes no lock.
        let nothing = |top: &ast::Top| matches!(top.to_string().as_str(), "TOP 0" | "TOP (0)");
        let empty = matches!(query.body.as_ref(), ast::SetExpr::Select(select) if select.top.as_ref().is_some_and(nothing));
        if wanted.is_empty() || empty {
            return Ok(());
        }
        let state = self.db.state();
        for (name, mode) in wanted {
            let parts = crate::bind::parts(self.dialect(), &name)?;
            let Ok(table) = self.table(&state, &parts) else { continue };
            self.lock(Resource::Table(table.id), mode).await?;
        }
        Ok(())
    }
}

fn new_transaction(id: u64, implicit: bool) -> Transaction {
    Transaction {
        id,
        implicit,
        pinned: None,
        deltas: HashMap::new(),
        savepoints: Vec::new(),
        undo: Vec::new(),
        name: None,
        doomed: false,
    }
}

/// The tables that a query wants locked.
fn hinted(query: &ast::Query, everything: bool, out: &mut Vec<(ast::ObjectName, Mode)>) {
    use std::ops::ControlFlow;

    use ast::Visit;
    struct Search<'o>(bool, &'o mut Vec<(ast::ObjectName, Mode)>);
    impl ast::Visitor for Search<'_> {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
            if let ast::TableFactor::Table { name, with_hints, args: None, .. } = factor {
                let hints: Vec<String> =
                    with_hints.iter().map(|hint| hint.to_string().to_uppercase()).collect();
                let has = |wanted: &[&str]| hints.iter().any(|hint| wanted.contains(&hint.as_str()));
                if has(&["TABLOCKX", "XLOCK"]) {
                    self.1.push((name.clone(), Mode::Exclusive));
                } else if has(&["HOLDLOCK", "SERIALIZABLE", "REPEATABLEREAD"])
                    || (self.0 && !has(&["NOLOCK", "READUNCOMMITTED"]))
                {
                    self.1.push((name.clone(), Mode::Shared));
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _ = query.visit(&mut Search(everything, out));
}
