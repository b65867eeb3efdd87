//! FROM: tables, views, catalog views, derived tables, stages, and joins of them.

use std::{cell::Cell, sync::Arc};

use sqlparser::ast::{self, Expr as Ast};

use crate::{
    bind::{
        Binder, Level, ScopeColumn,
        query::{Bound, Outer, split_and},
    },
    catalog,
    error::SqlError,
    exec::{
        Plan, Range,
        join::{Join, Kind},
    },
    expr::{Comparison, Expr},
    keys::Order,
    stage::StageRequest,
    state::{Name, Object, TableDef, ViewDef},
    types::{DataType, Dialect},
    value::Value,
};

impl Binder<'_> {
    /// The FROM clause with the WHERE clause's conjuncts put where they help most; these may use the aliases.
    pub(crate) fn from(
        &self,
        from: &[ast::TableWithJoins],
        (conjuncts, aliases): (&[&Ast], Vec<(String, Ast)>),
        outer: Outer<'_>,
    ) -> Result<Bound, SqlError> {
        let mut bound: Option<Bound> = None;
        for tables in from {
            let next = self.joined(tables, outer)?;
            bound = Some(match bound {
                None => next,
                Some((left, left_columns)) => {
                    let mut columns = left_columns.clone();
                    columns.extend(next.1.iter().cloned());
                    // The condition comes below, when every relation is known.
                    let join = Join {
                        left,
                        right: next.0,
                        kind: Kind::Inner,
                        left_width: left_columns.len(),
                        right_width: next.1.len(),
                        equalities: Vec::new(),
                        residual: None,
                        apply: false,
                    };
                    (Arc::new(Plan::Join(join)), columns)
                }
            });
        }
        let (plan, columns) = bound.unwrap_or_else(|| (Arc::new(Plan::One), Vec::new()));
        if conjuncts.is_empty() {
            return Ok((plan, columns));
        }
        let own = Cell::new(false);
        let parent = outer.map(|(level, _)| level);
        let level = Level { aliases, ..Level::new(&columns, parent, outer.map_or(&own, |(_, flag)| flag)) };
        let bound = conjuncts.iter().map(|ast| self.predicate(ast, &level)).collect::<Result<Vec<_>, _>>()?;
        Ok((push_down(plan, bound), columns))
    }

    pub(crate) fn joined(&self, tables: &ast::TableWithJoins, outer: Outer<'_>) -> Result<Bound, SqlError> {
        let (mut plan, mut columns) = self.factor(&tables.relation, outer)?;
        for join in &tables.joins {
            let own = Cell::new(false);
            let lateral =
                matches!(join.join_operator, ast::JoinOperator::CrossApply | ast::JoinOperator::OuterApply)
                    || matches!(&join.relation, ast::TableFactor::Derived { lateral: true, .. });
            let (right, right_columns, apply) = if lateral {
                let correlated = Cell::new(false);
                let left_level =
                    Level::new(&columns, outer.map(|(level, _)| level), outer.map_or(&own, |(_, flag)| flag));
                let (right, right_columns) = self.factor(&join.relation, Some((&left_level, &correlated)))?;
                (right, right_columns, true)
            } else {
                let (right, right_columns) = self.factor(&join.relation, outer)?;
                (right, right_columns, false)
            };
            let (left_width, right_width) = (columns.len(), right_columns.len());
            let mut all = columns.clone();
            all.extend(right_columns);
            use ast::JoinOperator as J;
            let (kind, constraint) = match &join.join_operator {
                J::Join(c) | J::Inner(c) | J::CrossJoin(c) | J::StraightJoin(c) => (Kind::Inner, Some(c)),
                J::Left(c) | J::LeftOuter(c) => (Kind::Left, Some(c)),
                J::Right(c) | J::RightOuter(c) => (Kind::Right, Some(c)),
                J::FullOuter(c) => (Kind::Full, Some(c)),
                J::CrossApply => (Kind::Inner, None),
                J::OuterApply => (Kind::Left, None),
                _ => return Err(self.unsupported(join)),
            };
            let mut bound = Vec::new();
            let mut hide = Vec::new();
            match constraint {
                None | Some(ast::JoinConstraint::None) => {}
                Some(ast::JoinConstraint::On(condition)) => {
                    let level =
                        Level::new(&all, outer.map(|(level, _)| level), outer.map_or(&own, |(_, flag)| flag));
                    let mut parts = Vec::new();
                    split_and(condition, &mut parts);
                    for part in parts {
                        bound.push(self.predicate(part, &level)?);
                    }
                }
                Some(ast::JoinConstraint::Using(names)) => {
                    for name in names {
                        let name = self.parts(name)?;
                        let missing = || self.unknown_column(&name, &[]);
                        let a = self.find_column(&name, &all[..left_width])?.ok_or_else(missing)?;
                        let b =
                            left_width + self.find_column(&name, &all[left_width..])?.ok_or_else(missing)?;
                        hide.push(b);
                        let side = |at: usize| {
                            crate::expr::Typed::new(Expr::Column(at), all[at].ty.clone(), all[at].nullable)
                        };
                        bound.push(self.compare(Comparison::Equal, side(a), side(b))?.expr);
                    }
                }
                Some(ast::JoinConstraint::Natural) => return Err(self.unsupported("NATURAL JOIN")),
            }
            for at in hide {
                all[at].hidden = true;
                all[at].name = String::new();
            }
            for (at, column) in all.iter_mut().enumerate() {
                let outer_side = match kind {
                    Kind::Inner => false,
                    Kind::Left => at >= left_width,
                    Kind::Right => at < left_width,
                    Kind::Full => true,
                };
                column.nullable |= outer_side;
            }
            let (equalities, residual) = split_condition(bound, left_width);
            let (equalities, residual) = if apply {
                let joined = equalities.into_iter().map(|(a, mut b, order)| {
                    shift(&mut b, left_width as isize);
                    Expr::Compare(Comparison::Equal, order, Box::new((a, b)))
                });
                (Vec::new(), joined.chain(residual).collect())
            } else {
                (equalities, residual)
            };
            plan = Arc::new(Plan::Join(Join {
                left: plan,
                right,
                kind,
                left_width,
                right_width,
                equalities,
                residual: conjunction(residual),
                apply,
            }));
            columns = all;
        }
        Ok((plan, columns))
    }

    fn factor(&self, factor: &ast::TableFactor, outer: Outer<'_>) -> Result<Bound, SqlError> {
        let _depth = self.enter()?;
        match factor {
            ast::TableFactor::Table { name, alias, args, .. } => {
                let text = name.to_string();
                if self.is_snowflake() && text.starts_with('@') {
                    return self.stage(&text, args.as_ref(), alias.as_ref());
                }
                if let Some(arguments) = args {
                    let bound = catalog::table_function(self, name, arguments)?;
                    return Ok(self.renamed(
                        bound,
                        alias.as_ref(),
                        &self.parts(name)?.pop().unwrap_or_default(),
                    ));
                }
                let parts = self.parts(name)?;
                let bound = self.relation(&parts)?;
                Ok(match alias {
                    Some(_) => self.renamed(bound, alias.as_ref(), ""),
                    None => bound,
                })
            }
            ast::TableFactor::Derived { subquery, alias, .. } => {
                let bound = self.query_in(subquery, outer)?;
                Ok(self.renamed(bound, alias.as_ref(), ""))
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } => {
                let bound = self.joined(table_with_joins, outer)?;
                Ok(match alias {
                    Some(_) => self.renamed(bound, alias.as_ref(), ""),
                    None => bound,
                })
            }
            ast::TableFactor::TableFunction { expr: Ast::Function(function), alias } => {
                let ast::FunctionArguments::List(list) = &function.args else {
                    return Err(self.unsupported(factor));
                };
                let arguments = ast::TableFunctionArgs { args: list.args.clone(), settings: None };
                let bound = catalog::table_function(self, &function.name, &arguments)?;
                Ok(self.renamed(bound, alias.as_ref(), ""))
            }
            ast::TableFactor::Function { name, args, alias, .. } => {
                let arguments = ast::TableFunctionArgs { args: args.clone(), settings: None };
                let bound = catalog::table_function(self, name, &arguments)?;
                Ok(self.renamed(bound, alias.as_ref(), ""))
            }
            ast::TableFactor::Pivot {
                table, aggregate_functions, value_column, value_source, alias, ..
            } if !self.is_snowflake() => {
                let source = self.factor(table, outer)?;
                let bound = self.pivot(source, aggregate_functions, value_column, value_source, outer)?;
                Ok(self.renamed(bound, alias.as_ref(), ""))
            }
            ast::TableFactor::Unpivot { table, value, name, columns, alias, .. } if !self.is_snowflake() => {
                let source = self.factor(table, outer)?;
                let bound = self.unpivot(source, value, name, columns, outer)?;
                Ok(self.renamed(bound, alias.as_ref(), ""))
            }
            other => Err(self.unsupported(other)),
        }
    }

    fn renamed(&self, (plan, mut columns): Bound, alias: Option<&ast::TableAlias>, default: &str) -> Bound {
        let qualifier = alias.map_or_else(|| default.to_owned(), |alias| self.ident(&alias.name));
        for (at, column) in columns.iter_mut().enumerate() {
            column.qualifier.clone_from(&qualifier);
            column.schema.clear();
            if let Some(name) = alias.and_then(|alias| alias.columns.get(at)) {
                column.name = self.ident(&name.name);
            }
        }
        (plan, columns)
    }

    fn stage(
        &self,
        text: &str,
        args: Option<&ast::TableFunctionArgs>,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Bound, SqlError> {
        let Some(reader) = &self.env.stage else {
            return Err(SqlError::snowflake(
                2_003,
                "02000",
                format!("SQL compilation error:\nStage '{text}' does not exist or not authorized."),
            ));
        };
        let options = args.map_or_else(Vec::new, |args| {
            args.args
                .iter()
                .map(|argument| {
                    let shown = argument.to_string();
                    let (name, value) = shown.split_once("=>").unwrap_or((&shown, ""));
                    (name.trim().to_uppercase(), value.trim().trim_matches('\'').to_owned())
                })
                .collect()
        });
        let request = StageRequest {
            location: text.to_owned(),
            options,
            database: self.env.identity.database.clone().unwrap_or_default(),
            schema: self.env.identity.schema.clone().unwrap_or_default(),
        };
        let hidden =
            |name: &str, ty: DataType| ScopeColumn { hidden: true, ..ScopeColumn::new("", name, ty, true) };
        let columns = vec![
            ScopeColumn::new("", "$1", DataType::Variant, true),
            hidden("METADATA$FILENAME", DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT }),
            hidden("METADATA$FILE_ROW_NUMBER", DataType::Number { precision: 38, scale: 0 }),
        ];
        let plan = Arc::new(Plan::Stage { reader: Arc::clone(reader), request });
        let bound = (plan, columns);
        Ok(match alias {
            Some(_) => self.renamed(bound, alias, ""),
            None => bound,
        })
    }

    /// A CTE, a catalog view, a table or a view.
    pub(crate) fn relation(&self, parts: &[String]) -> Result<Bound, SqlError> {
        if let [name] = parts {
            let found = self.ctes.borrow().iter().rev().find(|cte| self.same(&cte.name, name)).cloned();
            if let Some(cte) = found {
                return Ok((cte.plan, cte.columns));
            }
        }
        if let Some(bound) = catalog::view(self, parts)? {
            return Ok(bound);
        }
        let name = self.complete(parts)?;
        let object = self.object(&name, parts)?;
        self.authorize(&object, &["SELECT"])?;
        match object {
            Object::Table(table) => Ok(self.table(&table, false)),
            Object::View(view) => self.defined_view(&view),
        }
    }

    /// A view's query with its columns.
    pub(crate) fn defined_view(&self, view: &ViewDef) -> Result<Bound, SqlError> {
        let query = crate::script::parse_query(self.dialect(), &view.sql)?;
        let hidden = self.ctes.take();
        let bound = self.query(&query);
        *self.ctes.borrow_mut() = hidden;
        let (plan, mut columns) = bound?;
        for (at, column) in columns.iter_mut().enumerate() {
            column.qualifier.clone_from(&view.name.name);
            column.schema.clone_from(&view.name.schema);
            if let Some(name) = view.columns.get(at) {
                column.name.clone_from(name);
            }
        }
        Ok((plan, columns))
    }

    /// Finds an object or says that there is none.
    pub(crate) fn object(&self, name: &Name, parts: &[String]) -> Result<Object, SqlError> {
        let state = &self.env.state;
        if let Some(object) = state.objects.get(&name.key(self.dialect())) {
            return Ok(object.clone());
        }
        Err(not_found(self.dialect(), state, name, &parts.join(".")))
    }

    /// A table's scan with its columns; `with_id` appends each row's id.
    pub(crate) fn table(&self, table: &TableDef, with_id: bool) -> Bound {
        let mut columns: Vec<ScopeColumn> = table
            .columns
            .iter()
            .map(|column| ScopeColumn {
                schema: table.name.schema.clone(),
                identity: column.column.identity,
                computed: column.column.computed,
                ..ScopeColumn::new(
                    &table.name.name,
                    &column.column.name,
                    column.column.ty.clone(),
                    column.column.nullable,
                )
            })
            .collect();
        if with_id {
            columns.push(ScopeColumn {
                hidden: true,
                ..ScopeColumn::new("", "\u{0}row", DataType::BigInt, false)
            });
        }
        let key = table.keys.iter().find(|key| key.primary || key.clustered).or_else(|| table.keys.first());
        let range = key.and_then(|key| key.columns.first()).map(|column| Range {
            column: *column,
            order: Order::of(self.dialect(), &table.columns[*column].column.ty),
            bounds: Vec::new(),
        });
        (Arc::new(Plan::Scan { view: self.view(table.id), range, with_id }), columns)
    }

    /// Refuses what the session's role or login may not do.
    pub(crate) fn authorize(&self, object: &Object, privileges: &[&str]) -> Result<(), SqlError> {
        crate::access::authorize(self.env.db, self.env.identity, &self.env.state, object, privileges)
    }
}

/// The error for a name that stands for nothing.
pub(crate) fn not_found(dialect: Dialect, state: &crate::state::State, name: &Name, shown: &str) -> SqlError {
    match dialect {
        Dialect::SqlServer => SqlError::mssql(208, format!("Invalid object name '{shown}'.")),
        Dialect::Snowflake => {
            let what = if !state.databases.contains_key(&name.database) {
                format!("Database '{}'", name.database)
            } else if !state.schemas.contains_key(&(name.database.clone(), name.schema.clone())) {
                format!("Schema '{}.{}'", name.database, name.schema)
            } else {
                format!("Object '{name}'")
            };
            SqlError::snowflake(
                2_003,
                "02000",
                format!("SQL compilation error:\n{what} does not exist or not authorized."),
            )
        }
    }
}

/// The highest and lowest column that an expression names; None if it names none or cannot be told.
fn reach(expr: &mut Expr) -> Option<(usize, usize)> {
    let (mut low, mut high, mut opaque) = (usize::MAX, 0, false);
    expr.walk_mut(&mut |part| match part {
        Expr::Column(at) => {
            low = low.min(*at);
            high = high.max(*at);
        }
        Expr::Scalar(subquery) | Expr::Exists(subquery, _) | Expr::InSubquery { subquery, .. } => {
            opaque |= subquery.correlated;
        }
        _ => {}
    });
    (!opaque && low != usize::MAX).then_some((low, high))
}

fn shift(expr: &mut Expr, by: isize) {
    expr.walk_mut(&mut |part| {
        if let Expr::Column(at) = part {
            *at = at.saturating_add_signed(by);
        }
    });
}

fn conjunction(mut parts: Vec<Expr>) -> Option<Expr> {
    if parts.len() > 1 { Some(Expr::And(parts)) } else { parts.pop() }
}

type Equality = (Expr, Expr, Order);

/// Finds the equalities between a left and a right side.
fn split_condition(parts: Vec<Expr>, left_width: usize) -> (Vec<Equality>, Vec<Expr>) {
    let (mut equalities, mut residual) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Expr::Compare(Comparison::Equal, order, sides) => {
                let (mut a, mut b) = *sides;
                let places = (reach(&mut a), reach(&mut b));
                match places {
                    (Some((_, high)), Some((low, _))) if high < left_width && low >= left_width => {
                        shift(&mut b, -(left_width as isize));
                        equalities.push((a, b, order));
                    }
                    (Some((low, _)), Some((_, high))) if high < left_width && low >= left_width => {
                        shift(&mut a, -(left_width as isize));
                        equalities.push((b, a, order));
                    }
                    _ => residual.push(Expr::Compare(Comparison::Equal, order, Box::new((a, b)))),
                }
            }
            other => residual.push(other),
        }
    }
    (equalities, residual)
}

/// Puts the parts of a WHERE clause as deep into the plan as their columns allow.
pub(crate) fn push_down(plan: Arc<Plan>, mut parts: Vec<Expr>) -> Arc<Plan> {
    if parts.is_empty() {
        return plan;
    }
    let plan = match Arc::try_unwrap(plan) {
        Ok(Plan::Join(mut join)) if join.kind == Kind::Inner && !join.apply => {
            let (mut left, mut right, mut here) = (Vec::new(), Vec::new(), Vec::new());
            for mut part in parts.drain(..) {
                match reach(&mut part) {
                    Some((_, high)) if high < join.left_width => left.push(part),
                    Some((low, _)) if low >= join.left_width => {
                        shift(&mut part, -(join.left_width as isize));
                        right.push(part);
                    }
                    _ => here.push(part),
                }
            }
            join.left = push_down(join.left, left);
            join.right = push_down(join.right, right);
            // Only what lies within both sides may become the join's own condition.
            let (inside, above): (Vec<_>, Vec<_>) = here
                .into_iter()
                .map(|mut part| (reach(&mut part).is_some(), part))
                .partition(|(inside, _)| *inside);
            let (equalities, residual) =
                split_condition(inside.into_iter().map(|(_, part)| part).collect(), join.left_width);
            join.equalities.extend(equalities);
            let old = join.residual.take();
            join.residual = conjunction(old.into_iter().chain(residual).collect());
            parts = above.into_iter().map(|(_, part)| part).collect();
            Arc::new(Plan::Join(join))
        }
        Ok(Plan::Scan { view, range, with_id }) => {
            let range = range.and_then(|mut range| {
                for part in &parts {
                    if let Expr::Compare(comparison, order, sides) = part
                        && *order == range.order
                        && *comparison != Comparison::NotEqual
                    {
                        match sides.as_ref() {
                            (Expr::Column(at), Expr::Const(value))
                                if *at == range.column && !value.is_null() =>
                            {
                                range.bounds.push((*comparison, value.clone()));
                            }
                            (Expr::Const(value), Expr::Column(at))
                                if *at == range.column && !value.is_null() =>
                            {
                                range.bounds.push((comparison.flipped(), value.clone()));
                            }
                            _ => {}
                        }
                    }
                }
                (!range.bounds.is_empty() && view.version.rows > 512).then_some(range)
            });
            Arc::new(Plan::Scan { view, range, with_id })
        }
        Ok(other) => Arc::new(other),
        Err(shared) => shared,
    };
    let Some(predicate) = conjunction(parts) else { return plan };
    if let Expr::Const(Value::Bool(true)) = predicate {
        return plan;
    }
    Arc::new(Plan::Filter { input: plan, predicate })
}
