//! INSERT, UPDATE, DELETE, TRUNCATE and bulk appends.

use std::{collections::HashSet, sync::Arc};

use sqlparser::ast;

use crate::{
    bind::{Binder, Cte, Level, ScopeColumn, relations::push_down},
    error::SqlError,
    exec::{self, Plan},
    expr::{Expr, Frame},
    outcome::{Outcome, Verb},
    session::{
        Session,
        changes::{Changes, RowMaker, store},
    },
    state::{Object, State, TableDef},
    types::DataType,
    value::{Row, Value},
};

/// The name under which a change's target stands in its FROM clause.
const TARGET: &str = "\u{0}target";

impl Session {
    fn authorize(&self, state: &State, table: &Arc<TableDef>, privilege: &str) -> Result<(), SqlError> {
        let object = Object::Table(Arc::clone(table));
        crate::access::authorize(&self.db, &self.identity, state, &object, &[privilege])
    }

    /// A counter for rowversion columns.
    pub(super) fn row_version(&self) -> u64 {
        self.db.next_id()
    }

    pub(super) async fn insert(&mut self, insert: &ast::Insert) -> Result<Outcome, SqlError> {
        if insert.returning.is_some() || insert.on.is_some() || insert.multi_table_insert_type.is_some() {
            return Err(crate::bind::unsupported(self.dialect(), insert));
        }
        let name = match &insert.table {
            ast::TableObject::TableName(name) => name,
            other => return Err(crate::bind::unsupported(self.dialect(), other)),
        };
        let parts = crate::bind::parts(self.dialect(), name)?;
        let table = self.table(&self.db.state(), &parts)?;
        let names = insert
            .columns
            .iter()
            .map(|name| Ok(crate::bind::parts(self.dialect(), name)?.pop().unwrap_or_default()))
            .collect::<Result<Vec<_>, SqlError>>()?;
        let columns = self.column_places(
            &table,
            &names,
            &insert.columns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )?;
        let overwrite = insert.overwrite;
        let (source, overwrites) = (insert.source.clone(), overwrite && self.is_snowflake());
        let rows = self
            .change(&table, overwrites, |session, state| {
                session.authorize(state, &table, "INSERT")?;
                if overwrites {
                    session.authorize(state, &table, "DELETE")?;
                }
                let mut changes = session.insert_changes(
                    state,
                    &table,
                    &columns,
                    source.as_deref(),
                    overwrites,
                    names.is_empty(),
                )?;
                changes.output = session.output_of(state, &table, insert.output.as_ref(), &changes)?;
                Ok(changes)
            })
            .await?;
        let verb = if overwrite { Verb::InsertOverwrite } else { Verb::Insert };
        self.changed(verb, rows).await
    }

    fn insert_changes(
        &mut self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        columns: &[usize],
        source: Option<&ast::Query>,
        clear: bool,
        all: bool,
    ) -> Result<Changes, SqlError> {
        let deltas = self.deltas();
        let env = self.env(Arc::clone(state), &deltas);
        let binder = Binder::new(&env);
        let identity_insert = self.options.identity_insert == Some(table.id);
        let mut inserted = Vec::new();
        let last_identity;
        match source {
            None => {
                // DEFAULT VALUES.
                let mut maker = RowMaker::new(&binder, table, &[], &[], identity_insert)?;
                inserted.push(maker.make(&[], || self.row_version())?);
                last_identity = maker.last_identity;
            }
            Some(query) => {
                let (rows, given): (exec::RowIter, Vec<ScopeColumn>) =
                    if let Some(bound) = self.plain_values(&binder, query)? {
                        bound
                    } else {
                        let (plan, given) = binder.query(query)?;
                        (exec::open(&plan, &Frame::default())?, given)
                    };
                let wanted = columns.len();
                if given.len() != wanted {
                    if all && !self.is_snowflake() {
                        return Err(SqlError::mssql(
                            213,
                            "Column name or number of supplied values does not match table definition.",
                        ));
                    }
                    return Err(wrong_count(
                        self,
                        given.len(),
                        wanted,
                        matches!(query.body.as_ref(), ast::SetExpr::Values(_)),
                    ));
                }
                let sources: Vec<DataType> = given.into_iter().map(|column| column.ty).collect();
                let mut maker = RowMaker::new(&binder, table, columns, &sources, identity_insert)?;
                for row in rows {
                    inserted.push(maker.make(&row?, || self.row_version())?);
                }
                last_identity = maker.last_identity;
            }
        }
        if last_identity.is_some() {
            self.last_identity = last_identity;
        }
        let touched = inserted.len() as u64;
        Ok(Changes { inserted, clear, touched, ..Changes::default() })
    }

    /// VALUES rows keep their own types for SQL Server's conversions, and may say DEFAULT.
    fn plain_values(
        &self,
        binder: &Binder<'_>,
        query: &ast::Query,
    ) -> Result<Option<(exec::RowIter, Vec<ScopeColumn>)>, SqlError> {
        let ast::SetExpr::Values(values) = query.body.as_ref() else { return Ok(None) };
        let rows: Vec<&Vec<ast::Expr>> = values.rows.iter().map(|row| &row.content).collect();
        let (plan, columns) = binder.values(&rows, None)?;
        Ok(Some((exec::open(&plan, &Frame::default())?, columns)))
    }

    /// The places of named columns; none named means all that can be given.
    fn column_places(
        &self,
        table: &TableDef,
        names: &[String],
        shown: &[String],
    ) -> Result<Vec<usize>, SqlError> {
        let fold = |name: &str| crate::state::fold(self.dialect(), name);
        if names.is_empty() {
            let snowflake = self.is_snowflake();
            let identity_insert = self.options.identity_insert == Some(table.id);
            return Ok((0..table.columns.len())
                .filter(|at| {
                    let def = &table.columns[*at];
                    let given_by_us = (def.identity.is_some() && !snowflake && !identity_insert)
                        || def.computed.is_some()
                        || def.column.ty == DataType::RowVersion;
                    !given_by_us
                })
                .collect());
        }
        names
            .iter()
            .zip(shown)
            .map(|(name, shown)| {
                table.columns.iter().position(|def| fold(&def.column.name) == fold(name)).ok_or_else(|| {
                    if self.is_snowflake() {
                        let shown = if shown.starts_with('"') { shown.clone() } else { shown.to_uppercase() };
                        SqlError::snowflake(904, "42000", format!("SQL compilation error: error line 1 at position 0\ninvalid identifier '{shown}'"))
                    } else {
                        SqlError::mssql(207, format!("Invalid column name '{name}'."))
                    }
                })
            })
            .collect()
    }

    pub(super) async fn append_rows(
        &mut self,
        parts: &[String],
        names: &[String],
        rows: impl Iterator<Item = Result<Row, SqlError>> + Send,
    ) -> Result<u64, SqlError> {
        let result = self.append_inner(parts, names, rows).await;
        self.end_statement(result)
    }

    pub(super) async fn append_inner(
        &mut self,
        parts: &[String],
        names: &[String],
        rows: impl Iterator<Item = Result<Row, SqlError>> + Send,
    ) -> Result<u64, SqlError> {
        let state = self.db.state();
        let table = self.table(&state, parts)?;
        self.authorize(&state, &table, "INSERT")?;
        let given = self.options.identity_insert.replace(table.id);
        let columns = self.column_places(&table, names, names);
        self.options.identity_insert = given;
        let columns = columns?;
        let deltas = self.deltas();
        let mut made = Vec::new();
        {
            let env = self.env(Arc::clone(&state), &deltas);
            let binder = Binder::new(&env);
            let mut maker: Option<RowMaker<'_>> = None;
            for (at, row) in rows.enumerate() {
                let number = at as u64 + 1;
                let row = row.map_err(|error| error.at_row(number))?;
                // Values say their own kind: the column's own type where they fit, their natural one where not.
                let sources: Vec<DataType> = columns
                    .iter()
                    .zip(row.iter())
                    .map(|(column, value)| {
                        natural(&table.columns[*column].column.ty, value, self.is_snowflake())
                    })
                    .collect();
                let current = match &mut maker {
                    Some(current) => current,
                    None => maker.insert(RowMaker::new(&binder, &table, &columns, &sources, true)?),
                };
                current.set_sources(sources);
                made.push(current.make(&row, || self.row_version()).map_err(|error| error.at_row(number))?);
            }
        }
        let touched = made.len() as u64;
        let mut made = Some(made);
        self.change(&table, false, |_, _| {
            Ok(Changes { inserted: made.take().unwrap_or_default(), touched, ..Changes::default() })
        })
        .await
    }

    pub(super) async fn update(&mut self, update: &ast::Update) -> Result<Outcome, SqlError> {
        if update.returning.is_some() || !update.order_by.is_empty() {
            return Err(crate::bind::unsupported(self.dialect(), update));
        }
        let mut from = match &update.from {
            None => Vec::new(),
            Some(ast::UpdateTableFromKind::BeforeSet(from) | ast::UpdateTableFromKind::AfterSet(from)) => {
                from.clone()
            }
        };
        let table = self.target(&update.table, &mut from)?;
        let exclusive = self.is_snowflake();
        let rows = self
            .change(&table, exclusive, |session, state| {
                session.authorize(state, &table, "UPDATE")?;
                let mut changes = session.update_changes(state, &table, &from, update)?;
                changes.output = session.output_of(state, &table, update.output.as_ref(), &changes)?;
                Ok(changes)
            })
            .await?;
        self.changed(Verb::Update, rows).await
    }

    /// Finds the table that a change names, and puts it into the change's FROM clause under a name of its own.
    fn target(
        &self,
        named: &ast::TableWithJoins,
        from: &mut Vec<ast::TableWithJoins>,
    ) -> Result<Arc<TableDef>, SqlError> {
        let ast::TableFactor::Table { name, .. } = &named.relation else {
            return Err(crate::bind::unsupported(self.dialect(), named));
        };
        let wanted = crate::bind::parts(self.dialect(), name)?;
        let dialect = self.dialect();
        let mut found: Option<ast::ObjectName> = None;
        let last = wanted.last().cloned().unwrap_or_default();
        let mut visit = |factor: &mut ast::TableFactor| {
            if let ast::TableFactor::Table { name, alias, args: None, .. } = factor
                && found.is_none()
            {
                let parts = crate::bind::parts(dialect, name).unwrap_or_default();
                let shown = match alias {
                    Some(alias) => crate::bind::canonical(dialect, &alias.name),
                    None => parts.last().cloned().unwrap_or_default(),
                };
                if crate::state::fold(dialect, &shown) == crate::state::fold(dialect, &last) {
                    found = Some(std::mem::replace(name, target_name()));
                }
            }
        };
        for tables in from.iter_mut() {
            visit(&mut tables.relation);
            for join in &mut tables.joins {
                visit(&mut join.relation);
            }
        }
        let state = self.db.state();
        if let Some(name) = found {
            return self.table(&state, &crate::bind::parts(dialect, &name)?);
        }
        let table = self.table(&state, &wanted)?;
        let mut own = named.clone();
        if let ast::TableFactor::Table { name, .. } = &mut own.relation {
            *name = target_name();
        }
        from.insert(0, own);
        Ok(table)
    }

    fn update_changes(
        &mut self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        from: &[ast::TableWithJoins],
        update: &ast::Update,
    ) -> Result<Changes, SqlError> {
        let deltas = self.deltas();
        let env = self.env(Arc::clone(state), &deltas);
        let binder = Binder::new(&env);
        let (plan, columns, id) = changed_rows(&binder, table, from, update.selection.as_ref())?;
        let flag = std::cell::Cell::new(false);
        let level = Level::new(&columns, None, &flag);
        let mut exprs = vec![Expr::Column(id)];
        let mut sets = Vec::new();
        for assignment in &update.assignments {
            let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
                return Err(binder.unsupported(assignment));
            };
            let name = binder.parts(name)?.pop().unwrap_or_default();
            let at = table
                .columns
                .iter()
                .position(|def| binder.same(&def.column.name, &name))
                .ok_or_else(|| binder.unknown_column(&[name], &[]))?;
            refuse_generated(table, at, self.is_snowflake())?;
            let typed = binder.expr(&assignment.value, &level)?;
            sets.push((at, typed.ty));
            exprs.push(typed.expr);
        }
        let plan = Arc::new(Plan::Project { input: plan, exprs });
        let view = binder.view(table.id);
        let maker = RowMaker::new(&binder, table, &[], &[], true)?;
        let mut changed = Vec::new();
        let mut seen = HashSet::new();
        for row in exec::open(&plan, &Frame::default())? {
            let row = row?;
            let Some(Value::Int(id)) = row.first() else { continue };
            let id = *id as u64;
            if !seen.insert(id) {
                continue;
            }
            let Some(old) = view.get(id) else { continue };
            let mut values = old.to_vec();
            for ((at, from), value) in sets.iter().zip(row.iter().skip(1)) {
                values[*at] = store(binder.dialect(), table, &table.columns[*at], value.clone(), from)?;
            }
            changed.push((id, Some(maker.remake(values, || self.row_version())?)));
        }
        let touched = changed.len() as u64;
        Ok(Changes { changed, touched, ..Changes::default() })
    }

    pub(super) async fn delete(&mut self, delete: &ast::Delete) -> Result<Outcome, SqlError> {
        if delete.returning.is_some() || !delete.order_by.is_empty() || delete.limit.is_some() {
            return Err(crate::bind::unsupported(self.dialect(), delete));
        }
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        let mut from = from.clone();
        from.extend(delete.using.iter().flatten().cloned());
        let named = match delete.tables.first() {
            // DELETE alias FROM …
            Some(name) => ast::TableWithJoins { relation: table_factor(name.clone()), joins: Vec::new() },
            None => match from.first() {
                Some(first) => {
                    let mut named = first.clone();
                    named.joins.clear();
                    if let ast::TableFactor::Table { name, alias: Some(alias), .. } = &mut named.relation {
                        *name = ast::ObjectName(vec![ast::ObjectNamePart::Identifier(alias.name.clone())]);
                    }
                    named
                }
                None => return Err(crate::bind::unsupported(self.dialect(), delete)),
            },
        };
        let table = self.target(&named, &mut from)?;
        let exclusive = self.is_snowflake();
        let rows = self
            .change(&table, exclusive, |session, state| {
                session.authorize(state, &table, "DELETE")?;
                let deltas = session.deltas();
                let env = session.env(Arc::clone(state), &deltas);
                let binder = Binder::new(&env);
                let (plan, _, id) = changed_rows(&binder, &table, &from, delete.selection.as_ref())?;
                let mut seen = HashSet::new();
                for row in exec::open(&plan, &Frame::default())? {
                    if let Some(Value::Int(id)) = row?.get(id) {
                        seen.insert(*id as u64);
                    }
                }
                let touched = seen.len() as u64;
                let mut changed: Vec<_> = seen.into_iter().map(|id| (id, None)).collect();
                changed.sort_by_key(|(id, _)| *id);
                let mut changes = Changes { changed, touched, ..Changes::default() };
                changes.output = session.output_of(state, &table, delete.output.as_ref(), &changes)?;
                Ok(changes)
            })
            .await?;
        self.changed(Verb::Delete, rows).await
    }

    /// What an OUTPUT clause gives for these changes.
    pub(super) fn output_of(
        &self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        clause: Option<&ast::OutputClause>,
        changes: &Changes,
    ) -> Result<Option<super::output::Output>, SqlError> {
        if clause.is_none() {
            return Ok(None);
        }
        let deltas = self.deltas();
        let env = self.env(Arc::clone(state), &deltas);
        let binder = Binder::new(&env);
        let outputs = super::output::Outputs::new(&binder, table, clause)?;
        outputs.map(|outputs| outputs.of(&binder.view(table.id), table, changes)).transpose()
    }

    pub(super) async fn truncate(&mut self, truncate: &ast::Truncate) -> Result<Outcome, SqlError> {
        for target in &truncate.table_names {
            let parts = crate::bind::parts(self.dialect(), &target.name)?;
            let table = match self.table(&self.db.state(), &parts) {
                Err(_) if truncate.if_exists => continue,
                other => other?,
            };
            self.authorize(&self.db.state(), &table, "TRUNCATE")?;
            self.change(&table, true, |_, _| Ok(Changes { clear: true, ..Changes::default() })).await?;
            let seed = table.columns.iter().find_map(|def| def.identity).map_or(1, |(seed, _)| seed);
            table.next_identity.store(seed, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(super::steps::done(
            Verb::Truncate,
            if self.is_snowflake() { "Statement executed successfully." } else { "" },
        ))
    }
}

/// The FROM clause of a change, filtered, with the place of the target's row id.
pub(super) fn changed_rows(
    binder: &Binder<'_>,
    table: &TableDef,
    from: &[ast::TableWithJoins],
    selection: Option<&ast::Expr>,
) -> Result<(Arc<Plan>, Vec<ScopeColumn>, usize), SqlError> {
    let (plan, columns) = binder.table(table, true);
    binder.ctes.borrow_mut().push(Cte { name: TARGET.to_owned(), columns, plan });
    let mut conjuncts = Vec::new();
    if let Some(selection) = selection {
        crate::bind::query::split_and(selection, &mut conjuncts);
    }
    let bound = binder.from(from, (&conjuncts, Vec::new()), None);
    binder.ctes.borrow_mut().pop();
    let (plan, columns) = bound?;
    let id = columns.iter().position(|column| column.name == "\u{0}row").unwrap_or(0);
    Ok((push_down(plan, Vec::new()), columns, id))
}

fn target_name() -> ast::ObjectName {
    ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ast::Ident::with_quote('"', TARGET))])
}

pub(super) fn table_factor(name: ast::ObjectName) -> ast::TableFactor {
    ast::TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

pub(super) fn refuse_generated(table: &TableDef, at: usize, snowflake: bool) -> Result<(), SqlError> {
    let def = &table.columns[at];
    if def.identity.is_some() && !snowflake {
        return Err(SqlError::mssql(8102, format!("Cannot update identity column '{}'.", def.column.name)));
    }
    if def.column.ty == DataType::RowVersion {
        return Err(SqlError::mssql(272, "Cannot update a timestamp column."));
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
    Ok(())
}

fn wrong_count(session: &Session, given: usize, wanted: usize, values: bool) -> SqlError {
    if session.is_snowflake() {
        return SqlError::snowflake(
            2_020,
            "21S01",
            format!(
                "SQL compilation error:\nInsert value list does not match column list expecting {wanted} but got {given}"
            ),
        );
    }
    let (number, message) = match (values, given < wanted) {
        (true, true) => (
            109,
            "There are more columns in the INSERT statement than values specified in the VALUES clause. The number of values in the VALUES clause must match the number of columns specified in the INSERT statement.",
        ),
        (true, false) => (
            110,
            "There are fewer columns in the INSERT statement than values specified in the VALUES clause. The number of values in the VALUES clause must match the number of columns specified in the INSERT statement.",
        ),
        (false, true) => (
            120,
            "The select list for the INSERT statement contains fewer items than the insert list. The number of SELECT values must match the number of INSERT columns.",
        ),
        (false, false) => (
            121,
            "The select list for the INSERT statement contains more items than the insert list. The number of SELECT values must match the number of INSERT columns.",
        ),
    };
    SqlError::mssql(number, message).with_class(15)
}

/// The type that an appended value has, so that it is cast as an INSERT of it would be.
fn natural(column: &DataType, value: &Value, snowflake: bool) -> DataType {
    let collation = crate::collation::Collation::default();
    match value {
        Value::Text(_) if column.is_text() && !snowflake => match column {
            DataType::Char { collation, .. } | DataType::VarChar { collation, .. } => {
                DataType::VarChar { length: crate::types::Length::Max, collation: *collation }
            }
            _ => DataType::NVarChar { length: crate::types::Length::Max, collation },
        },
        Value::Text(_) if !snowflake => DataType::NVarChar { length: crate::types::Length::Max, collation },
        Value::Int(_) if !snowflake => DataType::BigInt,
        Value::Decimal(value) if !snowflake => DataType::Decimal { precision: 38, scale: value.scale },
        Value::Bool(_) if !snowflake => DataType::Bit,
        Value::Real(_) if !snowflake => DataType::Real,
        Value::Float(_) if !snowflake => DataType::Float,
        Value::Bytes(_) if !snowflake => DataType::VarBinary { length: crate::types::Length::Max },
        Value::Uuid(_) => DataType::UniqueIdentifier,
        Value::DateTime { .. } if !snowflake => DataType::DateTime2 { scale: 7 },
        Value::DateTimeOffset { .. } if !snowflake => DataType::DateTimeOffset { scale: 7 },
        Value::Time(_) if !snowflake => DataType::Time { scale: 7 },
        other => crate::cast::scalar_type(other),
    }
}
