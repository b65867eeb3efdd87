//! Turning computed changes into a transaction's delta: locks, constraints, conflicts.

use std::{collections::HashMap, collections::HashSet, sync::Arc};

use crate::{
    bind::{Binder, Level},
    cast::Cast,
    database::unique_key,
    error::{Effect, SqlError, quote},
    expr::{Frame, Typed},
    keys::KeyBytes,
    locks::{Mode, Resource},
    session::Session,
    state::{ColumnDef, State, TableDef},
    storage::{PROVISIONAL, RowId, TableVersion, TableView},
    types::{DataType, Dialect},
    value::{Row, Value},
};

/// Above so many rows a statement locks the whole table, as SQL Server escalates.
const ESCALATION: usize = 5_000;

/// What a statement wants to do to one table.
#[derive(Default)]
pub(super) struct Changes {
    /// Rows to replace or delete.
    pub changed: Vec<(RowId, Option<Row>)>,
    pub inserted: Vec<Row>,
    /// Everything that the statement saw goes first.
    pub clear: bool,
    /// What the statement reports.
    pub touched: u64,
    /// What its OUTPUT clause gives.
    pub output: Option<super::output::Output>,
}

/// How a table's rows are made from given values.
pub(super) struct RowMaker<'t> {
    table: &'t TableDef,
    dialect: Dialect,
    /// For each column the place of its value in the given row.
    places: Vec<Option<usize>>,
    sources: Vec<DataType>,
    defaults: Vec<Option<Typed>>,
    computed: Vec<Option<Typed>>,
    pub last_identity: Option<i64>,
}

impl<'t> RowMaker<'t> {
    /// `columns` are the places of the given values' columns; `sources` their types.
    pub(super) fn new(
        binder: &Binder<'_>,
        table: &'t TableDef,
        columns: &[usize],
        sources: &[DataType],
        identity_insert: bool,
    ) -> Result<Self, SqlError> {
        let mut places = vec![None; table.columns.len()];
        for (at, column) in columns.iter().enumerate() {
            let def = &table.columns[*column];
            if def.identity.is_some() && binder.dialect() == Dialect::SqlServer && !identity_insert {
                return Err(SqlError::mssql(
                    544,
                    format!(
                        "Cannot insert explicit value for identity column in table '{}' when IDENTITY_INSERT is set to OFF.",
                        table.name.name
                    ),
                ));
            }
            if def.computed.is_some() {
                return Err(SqlError::mssql(
                    271,
                    format!(
                        "The column \"{}\" cannot be modified because it is either a computed column or is the result of a UNION operator.",
                        def.column.name
                    ),
                ));
            }
            if def.column.ty == DataType::RowVersion {
                return Err(SqlError::mssql(
                    273,
                    "Cannot insert an explicit value into a timestamp column. Use INSERT with a column list to exclude the timestamp column, or insert a DEFAULT into the timestamp column.",
                ));
            }
            places[*column] = Some(at);
        }
        let flag = std::cell::Cell::new(false);
        let empty = Level::new(&[], None, &flag);
        let bind =
            |sql: &Option<String>, level: &Level<'_>, ty: &DataType| -> Result<Option<Typed>, SqlError> {
                match sql {
                    None => Ok(None),
                    Some(sql) => {
                        let ast = crate::script::parse_expr(binder.dialect(), sql)?;
                        let typed = binder.expr(&ast, level)?;
                        binder.cast(typed, ty).map(Some)
                    }
                }
            };
        let (_, scope) = binder.table(table, false);
        let whole = Level::new(&scope, None, &flag);
        Ok(Self {
            defaults: table
                .columns
                .iter()
                .map(|def| bind(&def.default, &empty, &def.column.ty))
                .collect::<Result<_, _>>()?,
            computed: table
                .columns
                .iter()
                .map(|def| bind(&def.computed, &whole, &def.column.ty))
                .collect::<Result<_, _>>()?,
            table,
            dialect: binder.dialect(),
            places,
            sources: sources.to_vec(),
            last_identity: None,
        })
    }

    /// Makes one row.
    pub(super) fn make(&mut self, given: &[Value], row_version: impl Fn() -> u64) -> Result<Row, SqlError> {
        let mut values = Vec::with_capacity(self.table.columns.len());
        for (at, def) in self.table.columns.iter().enumerate() {
            let value = match self.places[at] {
                Some(place) => {
                    let value = given.get(place).cloned().unwrap_or(Value::Null);
                    store(self.dialect, self.table, def, value, &self.sources[place])?
                }
                None if def.column.ty == DataType::RowVersion => Value::bytes(row_version().to_be_bytes()),
                None => match (&def.identity, &self.defaults[at]) {
                    (Some((_, step)), _) => {
                        let next =
                            self.table.next_identity.fetch_add(*step, std::sync::atomic::Ordering::Relaxed);
                        self.last_identity = Some(next);
                        let from = if self.dialect == Dialect::Snowflake {
                            DataType::Number { precision: 38, scale: 0 }
                        } else {
                            DataType::BigInt
                        };
                        let value = if self.dialect == Dialect::Snowflake {
                            Value::number(i128::from(next))
                        } else {
                            Value::Int(next)
                        };
                        store(self.dialect, self.table, def, value, &from)?
                    }
                    (None, Some(default)) => default.expr.eval(&[], &Frame::default())?,
                    (None, None) => Value::Null,
                },
            };
            values.push(value);
        }
        self.complete(&mut values)?;
        Ok(Row::from(values))
    }

    /// The types of the next row's values.
    pub(super) fn set_sources(&mut self, sources: Vec<DataType>) {
        self.sources = sources;
    }

    /// Computes computed columns and checks NULLs.
    fn complete(&self, values: &mut [Value]) -> Result<(), SqlError> {
        for (at, computed) in self.computed.iter().enumerate() {
            if let Some(computed) = computed {
                values[at] = computed.expr.eval(values, &Frame::default())?;
            }
        }
        check_nulls(self.dialect, self.table, values, "INSERT")
    }

    /// A changed row: computed columns and row versions anew.
    pub(super) fn remake(
        &self,
        mut values: Vec<Value>,
        row_version: impl Fn() -> u64,
    ) -> Result<Row, SqlError> {
        for (at, def) in self.table.columns.iter().enumerate() {
            if def.column.ty == DataType::RowVersion {
                values[at] = Value::bytes(row_version().to_be_bytes());
            }
            if let Some(computed) = &self.computed[at] {
                values[at] = computed.expr.eval(&values, &Frame::default())?;
            }
        }
        check_nulls(self.dialect, self.table, &values, "UPDATE")?;
        Ok(Row::from(values))
    }
}

fn check_nulls(dialect: Dialect, table: &TableDef, values: &[Value], verb: &str) -> Result<(), SqlError> {
    for (def, value) in table.columns.iter().zip(values) {
        if value.is_null() && !def.column.nullable && def.computed.is_none() {
            return Err(match dialect {
                Dialect::SqlServer => SqlError::mssql(
                    515,
                    format!(
                        "Cannot insert the value NULL into column '{}', table '{}'; column does not allow nulls. {verb} fails.",
                        def.column.name, table.name
                    ),
                )
                .with_state(2),
                Dialect::Snowflake => {
                    SqlError::snowflake(100_072, "22000", format!("NULL result in a non-nullable column\n  Column {}", quote(&def.column.name)))
                }
            });
        }
    }
    Ok(())
}

/// Brings a value into a column's type; text that is too long is refused by name.
pub(super) fn store(
    dialect: Dialect,
    table: &TableDef,
    def: &ColumnDef,
    value: Value,
    from: &DataType,
) -> Result<Value, SqlError> {
    let shown = || {
        let text = Cast::explicit(dialect);
        crate::cast::strings::to_text(&text, &value, from, &def.column.ty)
            .map(|text| {
                // As much as the column takes.
                let room = match &def.column.ty {
                    DataType::Char { length, .. } | DataType::NChar { length, .. } => usize::from(*length),
                    DataType::VarChar { length: crate::types::Length::Fixed(length), .. }
                    | DataType::NVarChar { length: crate::types::Length::Fixed(length), .. } => {
                        usize::from(*length)
                    }
                    _ => 120,
                };
                quote(text.lossy().chars().take(room).collect::<String>())
            })
            .unwrap_or_default()
    };
    let too_long = |shown: String| {
        SqlError::mssql(
            2628,
            format!(
                "String or binary data would be truncated in table '{}', column '{}'. Truncated value: '{shown}'.",
                table.name, def.column.name
            ),
        )
    };
    let error = match Cast::assign(dialect).apply(value.clone(), from, &def.column.ty) {
        Ok(stored) => return Ok(stored),
        Err(error) => error,
    };
    Err(match error.number {
        8152 => too_long(shown()),
        _ => error,
    })
}

impl Session {
    /// Runs a change until its locks are held over what it read, then puts it into the transaction.
    pub(super) async fn change(
        &mut self,
        table: &Arc<TableDef>,
        exclusive: bool,
        mut compute: impl FnMut(&mut Self, &Arc<State>) -> Result<Changes, SqlError>,
    ) -> Result<u64, SqlError> {
        self.writable(&table.name.database)?;
        if self.transaction.as_ref().is_some_and(|transaction| transaction.doomed) {
            return Err(doomed());
        }
        self.ensure_transaction();
        let snowflake = self.is_snowflake();
        let sees_commits = self.db.settings().waiters_see_commits;
        let mut early = None;
        if exclusive {
            if !sees_commits {
                early = Some(self.pin()?);
            }
            self.lock(Resource::Table(table.id), Mode::Exclusive).await?;
        } else if !snowflake {
            self.lock(Resource::Table(table.id), Mode::IntentExclusive).await?;
        }
        for _ in 0..1_000 {
            let state = match early.take() {
                Some(state) => state,
                None => self.pin()?,
            };
            let changes = compute(self, &state)?;
            if !exclusive && !snowflake && self.lock_rows(table, &state, &changes).await? {
                continue;
            }
            self.check_conflicts(table, &state, &changes)?;
            self.check_unique(table, &changes)?;
            self.check_constraints(&state, table, &changes)?;
            self.output = changes.output;
            let touched = changes.touched;
            let below = state.tables.get(&table.id).map_or(0, |version| version.next_id);
            let transaction = self.ensure_transaction();
            let delta = Arc::make_mut(transaction.deltas.entry(table.id).or_default());
            if changes.clear {
                delta.clear(below);
            }
            delta.change(changes.changed);
            for row in changes.inserted {
                delta.insert(row);
            }
            return Ok(touched);
        }
        Err(SqlError::mssql(1222, "Lock request time out period exceeded.").with_state(51))
    }

    /// A database snapshot cannot be changed.
    pub(super) fn writable(&self, database: &str) -> Result<(), SqlError> {
        let state = self.db.state();
        let info = state.databases.get(&crate::state::fold(self.dialect(), database));
        match info.filter(|info| info.snapshot_of.is_some()) {
            None => Ok(()),
            Some(info) => Err(SqlError::mssql(
                3906,
                format!("Failed to update database \"{}\" because the database is read-only.", info.name),
            )),
        }
    }

    /// Locks what a SQL Server statement touches. True: something was not as it was read, compute again.
    async fn lock_rows(
        &mut self,
        table: &Arc<TableDef>,
        state: &Arc<State>,
        changes: &Changes,
    ) -> Result<bool, SqlError> {
        let dialect = self.dialect();
        let mut waited = false;
        if changes.clear || changes.changed.len() + changes.inserted.len() > ESCALATION {
            waited |= self.lock(Resource::Table(table.id), Mode::Exclusive).await?;
        } else {
            for (id, _) in changes.changed.iter().filter(|(id, _)| *id < PROVISIONAL) {
                waited |= self.lock(Resource::Row(table.id, *id), Mode::Exclusive).await?;
            }
            let new =
                changes.inserted.iter().chain(changes.changed.iter().filter_map(|(_, row)| row.as_ref()));
            for row in new {
                for (number, _) in table.keys.iter().enumerate().filter(|(_, key)| key.unique) {
                    if let Some(key) = unique_key(dialect, table, number, row) {
                        waited |= self.lock(Resource::Key(table.id, number, key), Mode::Exclusive).await?;
                    }
                }
            }
        }
        if self.transaction.as_ref().is_some_and(|transaction| transaction.pinned.is_some()) {
            return Ok(false);
        }
        let same = |a: Option<&Arc<TableVersion>>, b: Option<&Arc<TableVersion>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let changed = !same(state.tables.get(&table.id), self.db.state().tables.get(&table.id));
        // Pure inserts do not depend on what was read, unless they came from a query that may have.
        Ok((waited || changed) && !changes.changed.is_empty())
    }

    /// Under SNAPSHOT a row that another transaction changed since cannot be changed.
    fn check_conflicts(
        &mut self,
        table: &TableDef,
        state: &Arc<State>,
        changes: &Changes,
    ) -> Result<(), SqlError> {
        let pinned = self.transaction.as_ref().is_some_and(|transaction| transaction.pinned.is_some());
        if !pinned {
            return Ok(());
        }
        let latest = self.db.state();
        let (Some(old), Some(new)) = (state.tables.get(&table.id), latest.tables.get(&table.id)) else {
            return Ok(());
        };
        let conflict = changes.changed.iter().filter(|(id, _)| *id < PROVISIONAL).any(|(id, _)| {
            match (old.get(*id), new.get(*id)) {
                (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
                _ => true,
            }
        });
        if conflict {
            return Err(SqlError::mssql(
                3960,
                format!(
                    "Snapshot isolation transaction aborted due to update conflict. You cannot use snapshot isolation to access table '{}.{}' directly or indirectly in database '{}' to update, delete, or insert the row that has been modified or deleted by another transaction. Retry the transaction or change the isolation level for the update/delete statement.",
                    table.name.schema, table.name.name, table.name.database
                ),
            )
            .with_state(2)
            .ending(Effect::Transaction));
        }
        Ok(())
    }

    /// Enforces PRIMARY KEY and UNIQUE (SQL Server; Snowflake only declares them).
    fn check_unique(&self, table: &TableDef, changes: &Changes) -> Result<(), SqlError> {
        if self.is_snowflake() || !table.keys.iter().any(|key| key.unique) {
            return Ok(());
        }
        let dialect = self.dialect();
        let delta =
            self.transaction.as_ref().and_then(|transaction| transaction.deltas.get(&table.id)).cloned();
        let version = self.db.state().tables.get(&table.id).cloned().unwrap_or_default();
        let view = TableView { version: Arc::clone(&version), delta: delta.clone() };
        let gone: HashMap<RowId, &Option<Row>> = changes.changed.iter().map(|(id, row)| (*id, row)).collect();
        for (number, unique) in table.keys.iter().enumerate().filter(|(_, key)| key.unique) {
            let key_of = |row: &Row| unique_key(dialect, table, number, row);
            let own: HashSet<KeyBytes> = match &delta {
                Some(delta) if !changes.clear => delta
                    .inserted
                    .iter()
                    .chain(
                        delta
                            .changed
                            .iter()
                            .filter_map(|(id, row)| row.as_ref().map(|row| (id, row)))
                            .map(|(id, row)| (*id, row.clone()))
                            .collect::<Vec<_>>()
                            .iter(),
                    )
                    .filter(|(id, _)| !gone.contains_key(id))
                    .filter_map(|(_, row)| key_of(row))
                    .collect(),
                _ => HashSet::new(),
            };
            let mut seen: HashSet<KeyBytes> = HashSet::new();
            let new =
                changes.inserted.iter().chain(changes.changed.iter().filter_map(|(_, row)| row.as_ref()));
            for row in new {
                let Some(key) = key_of(row) else { continue };
                let committed = || {
                    !changes.clear
                        && version.candidates(number, &key, key_of).into_iter().any(|id| {
                            !gone.contains_key(&id)
                                && view.get(id).is_some_and(|row| key_of(&row).as_ref() == Some(&key))
                        })
                };
                if own.contains(&key) || committed() || !seen.insert(key.clone()) {
                    return Err(duplicate(table, unique, row));
                }
            }
        }
        Ok(())
    }
}

/// A transaction that can only be rolled back was asked for more.
pub(super) fn doomed() -> SqlError {
    SqlError::mssql(
        3930,
        "The current transaction cannot be committed and cannot support operations that write to the log file. Roll back the transaction.",
    )
    .ending(Effect::Batch)
}

fn duplicate(table: &TableDef, unique: &crate::state::Unique, row: &Row) -> SqlError {
    let wide = DataType::NVarChar {
        length: crate::types::Length::Max,
        collation: crate::collation::Collation::default(),
    };
    let values: Vec<String> = unique
        .columns
        .iter()
        .map(|at| {
            let ty = &table.columns[*at].column.ty;
            if row[*at].is_null() {
                return "<NULL>".to_owned();
            }
            crate::cast::strings::to_text(&Cast::explicit(Dialect::SqlServer), &row[*at], ty, &wide)
                .map(|text| text.lossy().into_owned())
                .unwrap_or_default()
        })
        .collect();
    if !unique.constraint {
        return SqlError::mssql(
            2601,
            format!(
                "Cannot insert duplicate key row in object '{}.{}' with unique index '{}'. The duplicate key value is ({}).",
                table.name.schema,
                table.name.name,
                unique.name,
                values.join(", ")
            ),
        )
        .with_class(14);
    }
    let kind = if unique.primary { "PRIMARY KEY" } else { "UNIQUE KEY" };
    SqlError::mssql(
        2627,
        format!(
            "Violation of {kind} constraint '{}'. Cannot insert duplicate key in object '{}.{}'. The duplicate key value is ({}).",
            unique.name,
            table.name.schema,
            table.name.name,
            values.join(", ")
        ),
    )
    .with_class(14)
}
