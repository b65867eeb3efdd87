//! The OUTPUT clause: what a change deleted and inserted, as a result or into a table.

use std::cell::Cell;

use sqlparser::ast::{self, Expr as Ast};

use crate::{
    bind::{Binder, Level, ScopeColumn},
    error::SqlError,
    expr::{Expr, Frame},
    outcome::{Outcome, ResultSet, Rows, Verb},
    session::{Session, changes::Changes},
    state::TableDef,
    storage::TableView,
    types::{Column, DataType, Length},
    value::{Row, Value},
};

/// What a change hands out.
pub(super) struct Output {
    columns: Vec<Column>,
    rows: Vec<Row>,
    into: Option<Vec<String>>,
}

/// An OUTPUT clause, bound over the deleted and the inserted row and the action.
pub(super) struct Outputs {
    exprs: Vec<Expr>,
    columns: Vec<Column>,
    into: Option<Vec<String>>,
}

impl Outputs {
    pub(super) fn new(
        binder: &Binder<'_>,
        table: &TableDef,
        clause: Option<&ast::OutputClause>,
    ) -> Result<Option<Self>, SqlError> {
        let Some(clause) = clause else { return Ok(None) };
        let ast::OutputClause::Output { select_items, into_table, .. } = clause else {
            return Err(binder.unsupported(clause));
        };
        let mut scope = Vec::new();
        for side in ["deleted", "inserted"] {
            scope.extend(
                table
                    .columns
                    .iter()
                    .map(|def| ScopeColumn::new(side, &def.column.name, def.column.ty.clone(), true)),
            );
        }
        let collation = binder.env.db.settings().collation;
        let action = DataType::NVarChar { length: Length::Fixed(10), collation };
        scope.push(ScopeColumn::new("", "$action", action, false));
        let width = table.columns.len();
        let flag = Cell::new(false);
        let level = Level::new(&scope, None, &flag);
        let (mut exprs, mut columns) = (Vec::new(), Vec::new());
        for item in select_items {
            let (ast, alias) = match item {
                ast::SelectItem::UnnamedExpr(ast) => (ast, None),
                ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(binder.ident(alias))),
                ast::SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let side = binder.parts(name)?.pop().unwrap_or_default();
                    let from = if binder.same(&side, "deleted") { 0 } else { width };
                    for (at, def) in table.columns.iter().enumerate() {
                        exprs.push(Expr::Column(from + at));
                        columns.push(Column::new(&def.column.name, def.column.ty.clone(), true));
                    }
                    continue;
                }
                other => return Err(binder.unsupported(other)),
            };
            if matches!(ast, Ast::Value(value) if value.to_string().eq_ignore_ascii_case("$action")) {
                exprs.push(Expr::Column(2 * width));
                columns.push(Column::new("$action", scope[2 * width].ty.clone(), false));
                continue;
            }
            let typed = binder.expr(ast, &level)?;
            let name = match (alias, ast) {
                (Some(alias), _) => alias,
                (None, Ast::Identifier(ident)) => ident.value.clone(),
                (None, Ast::CompoundIdentifier(idents)) => {
                    idents.last().map(|ident| ident.value.clone()).unwrap_or_default()
                }
                _ => String::new(),
            };
            columns.push(Column::new(name, typed.ty, true));
            exprs.push(typed.expr);
        }
        let into = match into_table.as_ref().and_then(|into| into.targets.first()) {
            Some(target) => {
                let name = crate::script::parse_name(binder.dialect(), &target.to_string())?;
                Some(binder.parts(&name)?)
            }
            None => None,
        };
        Ok(Some(Self { exprs, columns, into }))
    }

    /// The rows that a change hands out.
    pub(super) fn of(
        self,
        view: &TableView,
        table: &TableDef,
        changes: &Changes,
    ) -> Result<Output, SqlError> {
        let nothing = || vec![Value::Null; table.columns.len()];
        let mut rows = Vec::new();
        let mut put = |deleted: Vec<Value>, inserted: Vec<Value>, action: &str| {
            let whole: Vec<Value> =
                deleted.into_iter().chain(inserted).chain([Value::text(action)]).collect();
            let values = self.exprs.iter().map(|expr| expr.eval(&whole, &Frame::default()));
            rows.push(Row::from(values.collect::<Result<Vec<_>, _>>()?));
            Ok::<_, SqlError>(())
        };
        for (id, new) in &changes.changed {
            let Some(old) = view.get(*id) else { continue };
            match new {
                Some(new) => put(old.to_vec(), new.to_vec(), "UPDATE")?,
                None => put(old.to_vec(), nothing(), "DELETE")?,
            }
        }
        for row in &changes.inserted {
            put(nothing(), row.to_vec(), "INSERT")?;
        }
        Ok(Output { columns: self.columns, rows, into: self.into })
    }
}

impl Session {
    /// The answer of a change: its count, or what its OUTPUT clause gives.
    pub(super) async fn changed(&mut self, verb: Verb, rows: u64) -> Result<Outcome, SqlError> {
        let Some(output) = self.output.take() else { return Ok(Outcome::Count { verb, rows }) };
        let Some(into) = output.into else {
            self.row_count.store(rows as i64, std::sync::atomic::Ordering::Relaxed);
            return Ok(Outcome::Rows(ResultSet {
                columns: output.columns,
                rows: Rows::from_vec(output.rows),
            }));
        };
        let names: Vec<String> = {
            let target = self.table(&self.db.state(), &into)?;
            let given = target.columns.iter().filter(|def| def.identity.is_none() && def.computed.is_none());
            given.map(|def| def.column.name.clone()).collect()
        };
        Box::pin(self.append_inner(&into, &names, output.rows.into_iter().map(Ok))).await?;
        Ok(Outcome::Count { verb, rows })
    }
}
