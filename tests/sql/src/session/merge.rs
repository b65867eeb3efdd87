//! MERGE.

use std::{collections::HashSet, sync::Arc};

use sqlparser::ast;

use crate::{
    bind::{Binder, Cte, Level, ScopeColumn},
    error::SqlError,
    exec,
    expr::{Expr, Frame},
    outcome::{Outcome, Verb},
    session::{
        Session,
        changes::{Changes, RowMaker, store},
        dml::{refuse_generated, table_factor},
    },
    state::{State, TableDef},
    types::{DataType, Dialect},
    value::Value,
};

/// What one WHEN clause does, bound over the source's and the target's columns.
struct Clause<'t> {
    kind: ast::MergeClauseKind,
    predicate: Option<Expr>,
    action: Action<'t>,
}

enum Action<'t> {
    Insert { values: Vec<Expr>, maker: RowMaker<'t> },
    Update(Vec<(usize, DataType, Expr)>),
    Delete,
    Nothing,
}

impl Session {
    pub(super) async fn merge(&mut self, merge: &ast::Merge) -> Result<Outcome, SqlError> {
        let ast::TableFactor::Table { name, .. } = &merge.table else {
            return Err(crate::bind::unsupported(self.dialect(), &merge.table));
        };
        let table = self.table(&self.db.state(), &crate::bind::parts(self.dialect(), name)?)?;
        let exclusive = self.is_snowflake();
        let rows = self
            .change(&table, exclusive, |session, state| {
                let mut changes = session.merge_changes(state, &table, merge)?;
                changes.output = session.output_of(state, &table, merge.output.as_ref(), &changes)?;
                Ok(changes)
            })
            .await?;
        self.changed(Verb::Merge, rows).await
    }

    fn merge_changes(
        &mut self,
        state: &Arc<State>,
        table: &Arc<TableDef>,
        merge: &ast::Merge,
    ) -> Result<Changes, SqlError> {
        let deltas = self.deltas();
        let env = self.env(Arc::clone(state), &deltas);
        let binder = Binder::new(&env);
        let object = crate::state::Object::Table(Arc::clone(table));
        binder.authorize(&object, &["INSERT", "UPDATE"])?;
        let by_source =
            merge.clauses.iter().any(|clause| clause.clause_kind == ast::MergeClauseKind::NotMatchedBySource);
        let (plan, columns) = self.merge_join(&binder, table, merge, by_source)?;
        let id = columns.iter().position(|column| column.name == "\u{0}row").unwrap_or(0);
        let marker = columns.iter().position(|column| column.name == "\u{0}source").unwrap_or(0);
        let mut clauses = self.merge_clauses(&binder, table, merge, &columns)?;
        let view = binder.view(table.id);
        let remaker = RowMaker::new(&binder, table, &[], &[], true)?;
        let frame = Frame::default();
        let mut changes = Changes::default();
        let mut seen = HashSet::new();
        for row in exec::open(&plan, &frame)? {
            let row = row?;
            let target = match row.get(id) {
                Some(Value::Int(id)) => Some(*id as u64),
                _ => None,
            };
            let has_source = row.get(marker).is_some_and(|value| !value.is_null());
            for clause in &mut clauses {
                use ast::MergeClauseKind as K;
                let applies = match clause.kind {
                    K::Matched => target.is_some() && has_source,
                    K::NotMatched | K::NotMatchedByTarget => target.is_none(),
                    K::NotMatchedBySource => target.is_some() && !has_source,
                };
                let holds = match &clause.predicate {
                    Some(predicate) if applies => predicate.test(&row, &frame)? == Some(true),
                    _ => applies,
                };
                if !holds {
                    continue;
                }
                if let Some(id) = target
                    && !matches!(clause.action, Action::Nothing)
                    && !seen.insert(id)
                {
                    return Err(twice(self.dialect()));
                }
                match (&mut clause.action, target) {
                    (Action::Insert { values, maker }, _) => {
                        let given = values
                            .iter()
                            .map(|expr| expr.eval(&row, &frame))
                            .collect::<Result<Vec<_>, _>>()?;
                        changes.inserted.push(maker.make(&given, || self.row_version())?);
                        changes.touched += 1;
                    }
                    (Action::Update(sets), Some(id)) => {
                        let Some(old) = view.get(id) else { break };
                        let mut values = old.to_vec();
                        for (at, from, expr) in sets {
                            let value = expr.eval(&row, &frame)?;
                            values[*at] = store(binder.dialect(), table, &table.columns[*at], value, from)?;
                        }
                        changes.changed.push((id, Some(remaker.remake(values, || self.row_version())?)));
                        changes.touched += 1;
                    }
                    (Action::Delete, Some(id)) => {
                        changes.changed.push((id, None));
                        changes.touched += 1;
                    }
                    _ => {}
                }
                break;
            }
        }
        Ok(changes)
    }

    /// The source joined with the target; a column of the source's side says whether there was one.
    fn merge_join(
        &self,
        binder: &Binder<'_>,
        table: &TableDef,
        merge: &ast::Merge,
        by_source: bool,
    ) -> Result<(Arc<exec::Plan>, Vec<ScopeColumn>), SqlError> {
        let source = ast::TableWithJoins { relation: merge.source.clone(), joins: Vec::new() };
        let (source, mut source_columns) = binder.joined(&source, None)?;
        let width = source_columns.len();
        let mut exprs: Vec<Expr> = (0..width).map(Expr::Column).collect();
        exprs.push(Expr::Const(Value::Int(1)));
        let source = Arc::new(exec::Plan::Project { input: source, exprs });
        source_columns
            .push(ScopeColumn { hidden: true, ..ScopeColumn::new("", "\u{0}source", DataType::Int, true) });
        // The source's columns keep their qualifiers behind a name of its own.
        let (target, target_columns) = binder.table(table, true);
        binder.ctes.borrow_mut().push(Cte {
            name: "\u{0}left".to_owned(),
            columns: source_columns,
            plan: source,
        });
        binder.ctes.borrow_mut().push(Cte {
            name: "\u{0}right".to_owned(),
            columns: target_columns,
            plan: target,
        });
        let named = |name: &str| {
            table_factor(ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ast::Ident::with_quote(
                '"', name,
            ))]))
        };
        let mut right = named("\u{0}right");
        if let (ast::TableFactor::Table { alias, .. }, ast::TableFactor::Table { alias: given, .. }) =
            (&mut right, &merge.table)
        {
            alias.clone_from(given);
        }
        let on = ast::JoinConstraint::On(merge.on.as_ref().clone());
        let operator =
            if by_source { ast::JoinOperator::FullOuter(on) } else { ast::JoinOperator::LeftOuter(on) };
        let joined = ast::TableWithJoins {
            relation: named("\u{0}left"),
            joins: vec![ast::Join { relation: right, global: false, join_operator: operator }],
        };
        let bound = binder.joined(&joined, None);
        binder.ctes.borrow_mut().clear();
        bound
    }

    fn merge_clauses<'t>(
        &self,
        binder: &Binder<'_>,
        table: &'t TableDef,
        merge: &ast::Merge,
        columns: &[ScopeColumn],
    ) -> Result<Vec<Clause<'t>>, SqlError> {
        let flag = std::cell::Cell::new(false);
        let level = Level::new(columns, None, &flag);
        let place = |name: &ast::ObjectName| -> Result<usize, SqlError> {
            let name = binder.parts(name)?.pop().unwrap_or_default();
            table
                .columns
                .iter()
                .position(|def| binder.same(&def.column.name, &name))
                .ok_or_else(|| binder.unknown_column(&[name], &[]))
        };
        merge
            .clauses
            .iter()
            .map(|clause| {
                let predicate =
                    clause.predicate.as_ref().map(|ast| binder.predicate(ast, &level)).transpose()?;
                let action = match &clause.action {
                    ast::MergeAction::Delete { .. } => Action::Delete,
                    ast::MergeAction::DoNothing { .. } => Action::Nothing,
                    ast::MergeAction::Update(ast::MergeUpdateExpr {
                        kind: ast::MergeUpdateKind::Set(assignments),
                        ..
                    }) => {
                        let mut sets = Vec::new();
                        for assignment in assignments {
                            let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
                                return Err(binder.unsupported(assignment));
                            };
                            let at = place(name)?;
                            refuse_generated(table, at, self.is_snowflake())?;
                            let typed = binder.expr(&assignment.value, &level)?;
                            sets.push((at, typed.ty, typed.expr));
                        }
                        Action::Update(sets)
                    }
                    ast::MergeAction::Update(other) => return Err(binder.unsupported(other)),
                    ast::MergeAction::Insert(insert) => {
                        let ast::MergeInsertKind::Values(values) = &insert.kind else {
                            return Err(binder.unsupported(insert));
                        };
                        let Some(row) = values.rows.first() else { return Err(binder.unsupported(insert)) };
                        let places = if insert.columns.is_empty() {
                            (0..table.columns.len()).collect()
                        } else {
                            insert.columns.iter().map(place).collect::<Result<Vec<_>, _>>()?
                        };
                        let mut exprs = Vec::new();
                        let mut sources = Vec::new();
                        for ast in &row.content {
                            let typed = binder.expr(ast, &level)?;
                            sources.push(typed.ty);
                            exprs.push(typed.expr);
                        }
                        if places.len() != exprs.len() {
                            return Err(binder.unsupported(insert));
                        }
                        let allowed = self.options.identity_insert == Some(table.id);
                        Action::Insert {
                            maker: RowMaker::new(binder, table, &places, &sources, allowed)?,
                            values: exprs,
                        }
                    }
                };
                Ok(Clause { kind: clause.clause_kind, predicate, action })
            })
            .collect()
    }
}

fn twice(dialect: Dialect) -> SqlError {
    match dialect {
        Dialect::SqlServer => SqlError::mssql(
            8672,
            "The MERGE statement attempted to UPDATE or DELETE the same row more than once. This happens when a target row matches more than one source row.",
        ),
        Dialect::Snowflake => {
            SqlError::snowflake(100_090, "42P18", "Duplicate row detected during DML action")
        }
    }
}
