//! CHECK and FOREIGN KEY constraints of SQL Server; Snowflake only declares them.

use std::{cell::Cell, collections::HashSet, sync::Arc};

use sqlparser::ast;

use crate::{
    bind::{Binder, Level, canonical},
    error::SqlError,
    expr::Frame,
    keys::{self, KeyBytes, Order},
    session::{Session, changes::Changes},
    state::{CheckDef, Constraints, ForeignDef, Object, State, TableDef},
    types::Dialect,
    value::{Row, Value},
};

impl Session {
    /// The CHECK and FOREIGN KEY constraints of a new table or of ALTER TABLE ADD.
    pub(super) fn constraints(
        &self,
        table: &str,
        columns: &[crate::state::ColumnDef],
        definitions: &[ast::ColumnDef],
        listed: &[ast::TableConstraint],
    ) -> Result<Constraints, SqlError> {
        let mut out = Constraints::default();
        if self.is_snowflake() {
            return Ok(out);
        }
        let named = |kind: &str, name: Option<&ast::Ident>| {
            name.map_or_else(
                || format!("{kind}__{}__{:08X}", table.trim_start_matches(['#', '@']), self.db.next_id()),
                |name| canonical(Dialect::SqlServer, name),
            )
        };
        for column in definitions {
            let own = canonical(Dialect::SqlServer, &column.name);
            for option in &column.options {
                match &option.option {
                    ast::ColumnOption::Check(check) => out.checks.push(CheckDef {
                        name: named("CK", option.name.as_ref().or(check.name.as_ref())),
                        sql: check.expr.to_string(),
                        column: Some(own.clone()),
                    }),
                    ast::ColumnOption::ForeignKey(key) => {
                        let name = named("FK", option.name.as_ref().or(key.name.as_ref()));
                        let at = columns.iter().position(|def| def.column.name.eq_ignore_ascii_case(&own));
                        out.foreign.push(self.foreign(
                            name,
                            at.into_iter().collect(),
                            &key.foreign_table,
                            &key.referred_columns,
                        )?);
                    }
                    ast::ColumnOption::Default(_) => {
                        out.defaults.push((named("DF", option.name.as_ref()), own.clone()));
                    }
                    _ => {}
                }
            }
        }
        for constraint in listed {
            match constraint {
                ast::TableConstraint::Check(check) => {
                    out.checks.push(CheckDef {
                        name: named("CK", check.name.as_ref()),
                        sql: check.expr.to_string(),
                        column: None,
                    });
                }
                ast::TableConstraint::ForeignKey(key) => {
                    let name = named("FK", key.name.as_ref());
                    let places = key
                        .columns
                        .iter()
                        .map(|column| self.place(columns, &ast::Expr::Identifier(column.clone())))
                        .collect::<Result<Vec<_>, _>>()?;
                    let foreign = self.foreign(name, places, &key.foreign_table, &key.referred_columns)?;
                    out.foreign.push(foreign);
                }
                _ => {}
            }
        }
        Ok(out)
    }

    fn foreign(
        &self,
        name: String,
        columns: Vec<usize>,
        parent: &ast::ObjectName,
        referred: &[ast::Ident],
    ) -> Result<ForeignDef, SqlError> {
        let parts = crate::bind::parts(Dialect::SqlServer, parent)?;
        let state = self.db.state();
        let parent = self.table(&state, &parts).map_err(|_| {
            SqlError::mssql(1767, format!("Foreign key '{name}' references invalid table '{parent}'."))
                .with_state(0)
        })?;
        let places = if referred.is_empty() {
            parent.keys.iter().find(|key| key.primary).map(|key| key.columns.clone()).unwrap_or_default()
        } else {
            referred
                .iter()
                .map(|ident| self.place(&parent.columns, &ast::Expr::Identifier(ident.clone())))
                .collect::<Result<Vec<_>, _>>()?
        };
        let unique = parent.keys.iter().any(|key| {
            key.unique
                && key.columns.len() == places.len()
                && key.columns.iter().all(|at| places.contains(at))
        });
        if !unique || places.len() != columns.len() {
            return Err(SqlError::mssql(
                1776,
                format!(
                    "There are no primary or candidate keys in the referenced table '{}.{}' that match the referencing column list in the foreign key '{name}'.",
                    parent.name.schema, parent.name.name
                ),
            )
            .with_state(0));
        }
        Ok(ForeignDef { name, columns, parent: parent.id, parent_columns: places })
    }

    /// Refuses changes that break a constraint (547).
    pub(super) fn check_constraints(
        &self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        changes: &Changes,
    ) -> Result<(), SqlError> {
        if self.is_snowflake() {
            return Ok(());
        }
        self.check_rows(state, table, changes, |verb| format!("The {verb} statement"))?;
        self.check_children(state, table, changes)
    }

    /// CHECK, and the parents of the new rows.
    pub(super) fn check_rows(
        &self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        changes: &Changes,
        subject: impl Fn(&str) -> String,
    ) -> Result<(), SqlError> {
        if table.constraints.checks.is_empty() && table.constraints.foreign.is_empty() {
            return Ok(());
        }
        let updated = changes.changed.iter().filter_map(|(_, row)| row.as_ref());
        let new: Vec<(&str, &Row)> = changes
            .inserted
            .iter()
            .map(|row| ("INSERT", row))
            .chain(updated.map(|row| ("UPDATE", row)))
            .collect();
        let deltas = self.deltas();
        let env = self.env(Arc::clone(state), &deltas);
        let binder = Binder::new(&env);
        let conflict = |verb: &str, kind: &str, name: &str, of: &TableDef, column: Option<&str>| {
            let column = column.map(|column| format!(", column '{column}'")).unwrap_or_default();
            SqlError::mssql(
                547,
                format!(
                    "{} conflicted with the {kind} constraint \"{name}\". The conflict occurred in database \"{}\", table \"{}.{}\"{column}.",
                    subject(verb), of.name.database, of.name.schema, of.name.name
                ),
            )
            .with_state(0)
        };
        let (_, scope) = binder.table(table, false);
        let flag = Cell::new(false);
        let level = Level::new(&scope, None, &flag);
        for check in &table.constraints.checks {
            let ast = crate::script::parse_expr(Dialect::SqlServer, &check.sql)?;
            let predicate = binder.predicate(&ast, &level)?;
            for (verb, row) in &new {
                if predicate.test(row, &Frame::default())? == Some(false) {
                    return Err(conflict(verb, "CHECK", &check.name, table, check.column.as_deref()));
                }
            }
        }
        for foreign in &table.constraints.foreign {
            let Some(parent) = table_of(state, foreign.parent) else { continue };
            let orders = orders(&parent, &foreign.parent_columns);
            let mut known: HashSet<KeyBytes> = HashSet::new();
            for (_, row) in binder.view(parent.id).scan() {
                known.extend(key_of(&row, &foreign.parent_columns, &orders));
            }
            if parent.id == table.id {
                known.extend(new.iter().filter_map(|(_, row)| key_of(row, &foreign.parent_columns, &orders)));
            }
            for (verb, row) in &new {
                if key_of(row, &foreign.columns, &orders).is_some_and(|key| !known.contains(&key)) {
                    let column = match foreign.parent_columns.as_slice() {
                        [one] => Some(parent.columns[*one].column.name.as_str()),
                        _ => None,
                    };
                    let kind = if parent.id == table.id { "FOREIGN KEY SAME TABLE" } else { "FOREIGN KEY" };
                    return Err(conflict(verb, kind, &foreign.name, &parent, column));
                }
            }
        }
        Ok(())
    }

    /// Rows of other tables that need what goes away.
    fn check_children(
        &self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        changes: &Changes,
    ) -> Result<(), SqlError> {
        if changes.changed.is_empty() {
            return Ok(());
        }
        let deltas = self.deltas();
        let env = self.env(Arc::clone(state), &deltas);
        let binder = Binder::new(&env);
        for object in state.objects.values() {
            let Object::Table(child) = object else { continue };
            for foreign in child.constraints.foreign.iter().filter(|foreign| foreign.parent == table.id) {
                let orders = orders(table, &foreign.parent_columns);
                let view = binder.view(table.id);
                let mut gone: Vec<(KeyBytes, bool)> = Vec::new();
                for (id, new) in &changes.changed {
                    let Some(old) = view.get(*id) else { continue };
                    let Some(key) = key_of(&old, &foreign.parent_columns, &orders) else { continue };
                    let kept = new.as_ref().and_then(|row| key_of(row, &foreign.parent_columns, &orders));
                    if kept.as_ref() != Some(&key) {
                        gone.push((key, new.is_some()));
                    }
                }
                if gone.is_empty() {
                    continue;
                }
                let removed: HashSet<u64> = if child.id == table.id {
                    changes.changed.iter().filter(|(_, row)| row.is_none()).map(|(id, _)| *id).collect()
                } else {
                    HashSet::new()
                };
                for (id, row) in binder.view(child.id).scan() {
                    let Some(key) = key_of(&row, &foreign.columns, &orders) else { continue };
                    let Some((_, updated)) = gone.iter().find(|(one, _)| *one == key) else { continue };
                    if removed.contains(&id) {
                        continue;
                    }
                    let verb = if *updated { "UPDATE" } else { "DELETE" };
                    let column = match foreign.columns.as_slice() {
                        [one] => format!(", column '{}'", child.columns[*one].column.name),
                        _ => String::new(),
                    };
                    return Err(SqlError::mssql(
                        547,
                        format!(
                            "The {verb} statement conflicted with the REFERENCE constraint \"{}\". The conflict occurred in database \"{}\", table \"{}.{}\"{column}.",
                            foreign.name, child.name.database, child.name.schema, child.name.name
                        ),
                    )
                    .with_state(0));
                }
            }
        }
        Ok(())
    }

    /// A table that others refer to cannot be dropped (3726).
    pub(super) fn check_referenced(
        &self,
        state: &State,
        table: &TableDef,
        shown: &str,
    ) -> Result<(), SqlError> {
        let referenced = state.objects.values().any(|object| match object {
            Object::Table(other) => {
                other.id != table.id
                    && other.constraints.foreign.iter().any(|foreign| foreign.parent == table.id)
            }
            Object::View(_) => false,
        });
        if referenced {
            return Err(SqlError::mssql(
                3726,
                format!(
                    "Could not drop object '{shown}' because it is referenced by a FOREIGN KEY constraint."
                ),
            ));
        }
        Ok(())
    }
}

fn table_of(state: &State, id: u64) -> Option<Arc<TableDef>> {
    state.objects.values().find_map(|object| match object {
        Object::Table(table) if table.id == id => Some(Arc::clone(table)),
        _ => None,
    })
}

fn orders(table: &TableDef, columns: &[usize]) -> Vec<Order> {
    columns.iter().map(|at| Order::of(Dialect::SqlServer, &table.columns[*at].column.ty)).collect()
}

/// The key that a row has in these columns; None with a NULL among them.
fn key_of(row: &[Value], columns: &[usize], orders: &[Order]) -> Option<KeyBytes> {
    let mut key = KeyBytes::new();
    for (at, order) in columns.iter().zip(orders) {
        let value = row.get(*at)?;
        if value.is_null() {
            return None;
        }
        keys::push_key(&mut key, value, *order);
    }
    Some(key)
}
