//! Queries: SELECT with all its clauses, set operations, CTEs.

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex},
};

use sqlparser::ast::{self, Expr as Ast};

use crate::{
    bind::{Binder, Cte, Groups, Level, ScopeColumn, aggregates::has_aggregate, types::common},
    error::SqlError,
    exec::{Plan, SetOp, SortKey},
    expr::{Expr, Typed},
    keys::Order,
    types::{DataType, Dialect},
    value::Value,
};

/// The query around a subquery, and the flag that says whether the subquery looks at it.
pub(crate) type Outer<'p> = Option<(&'p Level<'p>, &'p Cell<bool>)>;

pub(crate) type Bound = (Arc<Plan>, Vec<ScopeColumn>);

/// What a SELECT shows: expressions with names.
struct Shown {
    typed: Typed,
    name: String,
    identity: bool,
    computed: bool,
}

impl Binder<'_> {
    /// Binds a query that stands by itself.
    pub(crate) fn query(&self, query: &ast::Query) -> Result<Bound, SqlError> {
        self.query_in(query, None)
    }

    /// Binds a query, perhaps inside another.
    pub(crate) fn query_in(&self, query: &ast::Query, outer: Outer<'_>) -> Result<Bound, SqlError> {
        let _depth = self.enter()?;
        let mark = self.ctes.borrow().len();
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                self.cte(cte, outer)?;
            }
        }
        let bound = self.body(query, outer);
        self.ctes.borrow_mut().truncate(mark);
        bound
    }

    fn body(&self, query: &ast::Query, outer: Outer<'_>) -> Result<Bound, SqlError> {
        let order_by: &[ast::OrderByExpr] = match &query.order_by {
            None => &[],
            Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(keys), .. }) => keys,
            Some(other) => return Err(self.unsupported(other)),
        };
        let (mut limit, mut offset) = (None, None);
        match &query.limit_clause {
            None => {}
            Some(ast::LimitClause::LimitOffset { limit: rows, offset: skip, .. }) => {
                limit.clone_from(rows);
                offset = skip.as_ref().map(|skip| skip.value.clone());
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset: skip, limit: rows }) => {
                limit = Some(rows.clone());
                offset = Some(skip.clone());
            }
        }
        if let Some(fetch) = &query.fetch {
            limit.clone_from(&fetch.quantity);
        }
        let limited = |binder: &Self, plan: Arc<Plan>| -> Result<Arc<Plan>, SqlError> {
            if limit.is_none() && offset.is_none() {
                return Ok(plan);
            }
            let flag = Cell::new(false);
            let level = Level::new(&[], None, &flag);
            let offset = match &offset {
                Some(offset) => binder.expr(offset, &level)?.expr,
                None => Expr::Const(Value::Int(0)),
            };
            let fetch = match &limit {
                Some(limit) => Some(binder.expr(limit, &level)?.expr),
                None => None,
            };
            Ok(Arc::new(Plan::Limit { input: plan, offset, fetch, ties: Vec::new(), percent: false }))
        };
        if let ast::SetExpr::Select(select) = query.body.as_ref() {
            let (plan, columns) = self.select(select, order_by, outer)?;
            return Ok((limited(self, plan)?, columns));
        }
        let (mut plan, columns) = self.set_expr(&query.body, outer)?;
        if !order_by.is_empty() {
            let flag = Cell::new(false);
            let level = Level::new(&columns, None, &flag);
            let keys = order_by
                .iter()
                .map(|key| {
                    let typed = match ordinal(&key.expr) {
                        Some(at) => self.by_ordinal(at, &columns)?,
                        None => self.expr(&key.expr, &level)?,
                    };
                    Ok(self.sort_key(typed, &key.options))
                })
                .collect::<Result<Vec<_>, SqlError>>()?;
            plan = Arc::new(Plan::Sort { input: plan, keys });
        }
        Ok((limited(self, plan)?, columns))
    }

    fn by_ordinal(&self, at: usize, columns: &[ScopeColumn]) -> Result<Typed, SqlError> {
        match at.checked_sub(1).and_then(|at| columns.get(at)) {
            Some(column) => Ok(Typed::new(Expr::Column(at - 1), column.ty.clone(), column.nullable)),
            None => Err(self.bad_ordinal(at, columns.len())),
        }
    }

    fn bad_ordinal(&self, at: usize, width: usize) -> SqlError {
        match self.dialect() {
            Dialect::SqlServer => SqlError::mssql(
                108,
                format!("The ORDER BY position number {at} is out of range of the number of items in the select list."),
            )
            .with_class(15),
            Dialect::Snowflake => SqlError::snowflake(
                1_008,
                "42601",
                format!("SQL compilation error:\nordinal {at} is out of range: the select list has {width} items"),
            ),
        }
    }

    fn cte(&self, cte: &ast::Cte, outer: Outer<'_>) -> Result<(), SqlError> {
        let name = self.ident(&cte.alias.name);
        let names: Vec<String> = cte.alias.columns.iter().map(|column| self.ident(&column.name)).collect();
        let rename = |mut columns: Vec<ScopeColumn>| {
            for (at, column) in columns.iter_mut().enumerate() {
                column.qualifier.clone_from(&name);
                column.schema.clear();
                if let Some(name) = names.get(at) {
                    column.name.clone_from(name);
                }
            }
            columns
        };
        // A recursive one is `base UNION ALL step`, where the step names the CTE.
        if let ast::SetExpr::SetOperation { left, op: ast::SetOperator::Union, right, .. } =
            cte.query.body.as_ref()
            && mentions(right, &cte.alias.name.value)
        {
            let (base, columns) = self.set_expr(left, outer)?;
            let columns = rename(columns);
            let slot = Arc::new(Mutex::new(Arc::new(Vec::new())));
            self.ctes.borrow_mut().push(Cte {
                name: name.clone(),
                columns: columns.clone(),
                plan: Arc::new(Plan::Slot(Arc::clone(&slot))),
            });
            let step = self.set_expr(right, outer);
            self.ctes.borrow_mut().pop();
            let (step, step_columns) = step?;
            let step = self.project_to(step, &step_columns, &columns)?;
            let rounds = if self.is_snowflake() { 10_000 } else { self.env.facts.recursion };
            let limit = match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    530,
                    format!(
                        "The statement terminated. The maximum recursion {rounds} has been exhausted before statement completion."
                    ),
                ),
                Dialect::Snowflake => {
                    SqlError::snowflake(100_189, "22000", "Recursion exceeded max iteration count")
                }
            };
            let plan = Arc::new(Plan::Recursive { base, step, slot, limit, rounds });
            self.ctes.borrow_mut().push(Cte { name, columns, plan });
            return Ok(());
        }
        let (plan, columns) = self.query_in(&cte.query, outer)?;
        self.ctes.borrow_mut().push(Cte { columns: rename(columns), name, plan });
        Ok(())
    }

    /// Brings a plan's columns to the types of others.
    fn project_to(
        &self,
        plan: Arc<Plan>,
        from: &[ScopeColumn],
        to: &[ScopeColumn],
    ) -> Result<Arc<Plan>, SqlError> {
        if from.iter().zip(to).all(|(a, b)| a.ty == b.ty) {
            return Ok(plan);
        }
        let exprs = from
            .iter()
            .zip(to)
            .enumerate()
            .map(|(at, (a, b))| {
                Ok(self.cast(Typed::new(Expr::Column(at), a.ty.clone(), a.nullable), &b.ty)?.expr)
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        Ok(Arc::new(Plan::Project { input: plan, exprs }))
    }

    fn set_expr(&self, body: &ast::SetExpr, outer: Outer<'_>) -> Result<Bound, SqlError> {
        let _depth = self.enter()?;
        match body {
            ast::SetExpr::Select(select) => self.select(select, &[], outer),
            ast::SetExpr::Query(query) => self.query_in(query, outer),
            ast::SetExpr::Values(values) => {
                let rows: Vec<&Vec<Ast>> = values.rows.iter().map(|row| &row.content).collect();
                self.values(&rows, outer)
            }
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let untyped = (bare_nulls(left), bare_nulls(right));
                let (left, left_columns) = self.set_expr(left, outer)?;
                let (right, right_columns) = self.set_expr(right, outer)?;
                if left_columns.len() != right_columns.len() {
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            205,
                            "All queries combined using a UNION, INTERSECT or EXCEPT operator must have an equal number of expressions in their target lists.",
                        ),
                        Dialect::Snowflake => SqlError::snowflake(
                            1_789,
                            "42601",
                            format!(
                                "SQL compilation error:\ninvalid number of result columns for set operator input branches, expected {}, got {} in branch 2",
                                left_columns.len(),
                                right_columns.len()
                            ),
                        ),
                    });
                }
                let mut columns = left_columns.clone();
                for (at, (column, other)) in columns.iter_mut().zip(&right_columns).enumerate() {
                    // A NULL that is written as such takes the other side's type.
                    column.ty = match (untyped.0.contains(&at), untyped.1.contains(&at)) {
                        (true, false) => other.ty.clone(),
                        (false, true) => column.ty.clone(),
                        _ => common(self.dialect(), &column.ty, &other.ty),
                    };
                    column.nullable |= other.nullable;
                    (column.identity, column.computed) = (false, true);
                    column.qualifier.clear();
                }
                let left = self.project_to(left, &left_columns, &columns)?;
                let right = self.project_to(right, &right_columns, &columns)?;
                let orders = columns.iter().map(|column| Order::of(self.dialect(), &column.ty)).collect();
                let op = match op {
                    ast::SetOperator::Union => SetOp::Union,
                    ast::SetOperator::Except | ast::SetOperator::Minus => SetOp::Except,
                    ast::SetOperator::Intersect => SetOp::Intersect,
                };
                let all = matches!(set_quantifier, ast::SetQuantifier::All);
                Ok((Arc::new(Plan::SetOp { left, right, op, all, orders }), columns))
            }
            other => Err(self.unsupported(other)),
        }
    }

    /// Rows of VALUES; columns are named COLUMN1 and so on.
    pub(crate) fn values(&self, rows: &[&Vec<Ast>], outer: Outer<'_>) -> Result<Bound, SqlError> {
        let flag = Cell::new(false);
        let level = Level::new(&[], outer.map(|(level, _)| level), outer.map_or(&flag, |(_, flag)| flag));
        let width = rows.first().map_or(0, |row| row.len());
        let mut columns: Vec<Vec<Typed>> = (0..width).map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            if row.len() != width {
                return Err(match self.dialect() {
                    Dialect::SqlServer => SqlError::mssql(
                        10_709,
                        "The number of columns for each row in a table value constructor must be the same.",
                    )
                    .with_class(15),
                    Dialect::Snowflake => SqlError::snowflake(
                        2_057,
                        "42601",
                        "SQL compilation error:\nInvalid number of columns in VALUES rows",
                    ),
                });
            }
            for (column, ast) in columns.iter_mut().zip(row.iter()) {
                column.push(self.expr(ast, &level)?);
            }
        }
        let mut scope = Vec::with_capacity(width);
        let mut out: Vec<Vec<Expr>> = (0..rows.len()).map(|_| Vec::with_capacity(width)).collect();
        for (at, column) in columns.into_iter().enumerate() {
            let (exprs, ty, nullable) = self.unify(column)?;
            scope.push(ScopeColumn::new("", &format!("COLUMN{}", at + 1), ty, nullable));
            for (row, expr) in out.iter_mut().zip(exprs) {
                row.push(expr);
            }
        }
        Ok((Arc::new(Plan::Values(out)), scope))
    }

    fn select(
        &self,
        select: &ast::Select,
        order_by: &[ast::OrderByExpr],
        outer: Outer<'_>,
    ) -> Result<Bound, SqlError> {
        if let Some(first) = select.lateral_views.first() {
            return Err(self.unsupported(first));
        }
        let own = Cell::new(false);
        let (parent, flag) = match outer {
            Some((level, flag)) => (Some(level), flag),
            None => (None, &own),
        };
        let mut conjuncts_ast = Vec::new();
        if let Some(selection) = &select.selection {
            split_and(selection, &mut conjuncts_ast);
        }
        // Snowflake's WHERE knows the aliases of the select list, where no column has the name.
        let early = if self.is_snowflake() { self.aliases(&select.projection) } else { Vec::new() };
        let (plan, columns) = self.from(&select.from, (&conjuncts_ast, early), outer)?;
        let mut input = Level::new(&columns, parent, flag);
        input.windows = Some(RefCell::new(Vec::new()));
        let projection = self.expand(&select.projection, &columns)?;
        let aliases: Vec<(String, Ast)> = projection
            .iter()
            .filter_map(|(ast, alias, _)| Some((alias.as_ref()?.clone(), ast.as_ref()?.clone())))
            .collect();
        let sets = if self.is_snowflake() { None } else { grouping_sets(&select.group_by) };
        let group_asts: Vec<Ast> = match &select.group_by {
            _ if sets.is_some() => sets.as_ref().map(|(keys, _)| keys.clone()).unwrap_or_default(),
            ast::GroupByExpr::Expressions(keys, modifiers) if modifiers.is_empty() => keys
                .iter()
                .map(|key| self.group_key(key, &projection, &aliases, &columns))
                .collect::<Result<_, _>>()?,
            ast::GroupByExpr::All(modifiers) if modifiers.is_empty() => projection
                .iter()
                .filter_map(|(ast, ..)| ast.clone())
                .filter(|ast| !has_aggregate(self.dialect(), ast))
                .collect(),
            other => return Err(self.unsupported(other)),
        };
        let aggregated = !group_asts.is_empty()
            || select.having.is_some()
            || projection
                .iter()
                .any(|(ast, ..)| ast.as_ref().is_some_and(|ast| has_aggregate(self.dialect(), ast)))
            || order_by.iter().any(|key| has_aggregate(self.dialect(), &key.expr));
        if self.is_snowflake() {
            input.aliases =
                aliases.iter().filter(|(alias, ast)| !self.refers_to_itself(alias, ast)).cloned().collect();
        }
        let mut plan = plan;
        if aggregated {
            let mut keys = Vec::new();
            let mut described = Vec::new();
            let plain = Level { aliases: input.aliases.clone(), ..Level::new(&columns, parent, flag) };
            for ast in group_asts {
                let typed = self.expr(&ast, &plain)?;
                let bare = if let Expr::Column(at) = &typed.expr { Some(*at) } else { None };
                described.push((ast, bare, typed.ty.clone(), typed.nullable));
                keys.push((typed.expr, Order::of(self.dialect(), &typed.ty)));
            }
            let grouped = !keys.is_empty();
            if sets.is_some() {
                // GROUPING(key) is a key too: whether the row's set lacks that one.
                for at in 0..keys.len() {
                    let (ast, bare, ty, _) = described[at].clone();
                    described[at] = (ast.clone(), bare, ty, true);
                    described.push((grouping_of(ast), None, DataType::TinyInt, false));
                }
            }
            let mut level = Level::new(&columns, parent, flag);
            level.groups =
                Some(Groups { input: &plain, keys: described, aggregates: RefCell::new(Vec::new()) });
            level.windows = Some(RefCell::new(Vec::new()));
            level.aliases.clone_from(&input.aliases);
            let shown = self.show(&projection, &level)?;
            let having = match &select.having {
                Some(having) => Some(self.predicate(having, &level)?),
                None => None,
            };
            return self.finish(select, order_by, shown, &level, having, |aggregates| {
                let plan = match sets {
                    Some((_, sets)) => Plan::GroupingSets { input: plan, keys, sets, aggregates },
                    None => Plan::Aggregate { input: plan, keys, aggregates, grouped },
                };
                (Arc::new(plan), described_width(&level))
            });
        }
        let shown = self.show(&projection, &input)?;
        if let Plan::Project { .. } = plan.as_ref() {
            plan = Arc::clone(&plan);
        }
        let width = columns.len();
        self.finish(select, order_by, shown, &input, None, |_| (plan, width))
    }

    /// Everything after grouping: windows, QUALIFY, the shown columns, DISTINCT, ORDER BY, TOP.
    fn finish(
        &self,
        select: &ast::Select,
        order_by: &[ast::OrderByExpr],
        shown: Vec<Shown>,
        level: &Level<'_>,
        having: Option<Expr>,
        source: impl FnOnce(Vec<crate::exec::aggregate::Aggregate>) -> (Arc<Plan>, usize),
    ) -> Result<Bound, SqlError> {
        let columns: Vec<ScopeColumn> = shown
            .iter()
            .map(|shown| ScopeColumn {
                identity: shown.identity,
                computed: shown.computed,
                ..ScopeColumn::new("", &shown.name, shown.typed.ty.clone(), shown.typed.nullable)
            })
            .collect();
        let width = shown.len();
        let mut exprs: Vec<Expr> = shown.into_iter().map(|shown| shown.typed.expr).collect();
        let distinct = matches!(select.distinct, Some(ast::Distinct::Distinct));
        if let Some(ast::Distinct::On(_)) = &select.distinct {
            return Err(self.unsupported("DISTINCT ON"));
        }
        let mut keys: Vec<SortKey> = Vec::new();
        for key in order_by {
            let place = match (ordinal(&key.expr), &key.expr) {
                (Some(at), _) => Some(
                    at.checked_sub(1).filter(|at| *at < width).ok_or_else(|| self.bad_ordinal(at, width))?,
                ),
                (None, Ast::Identifier(ident)) => {
                    let name = self.ident(ident);
                    columns.iter().position(|column| self.same(&column.name, &name))
                }
                _ => None,
            };
            let typed = if let Some(at) = place {
                Typed::new(Expr::Column(at), columns[at].ty.clone(), columns[at].nullable)
            } else {
                let typed = self.expr(&key.expr, level)?;
                // The same bare column may be shown already.
                let known = exprs.iter().position(|shown| {
                    matches!((shown, &typed.expr), (Expr::Column(a), Expr::Column(b)) if a == b)
                        || matches!((shown, &typed.expr), (Expr::Pending(a), Expr::Pending(b)) if a == b)
                });
                if known.is_none() && distinct {
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            145,
                            "ORDER BY items must appear in the select list if SELECT DISTINCT is specified.",
                        )
                        .with_class(15),
                        Dialect::Snowflake => SqlError::snowflake(
                            1_791,
                            "42601",
                            "SQL compilation error:\nORDER BY items must appear in the select list if SELECT DISTINCT is specified.",
                        ),
                    });
                }
                let at = known.unwrap_or_else(|| {
                    exprs.push(typed.expr);
                    exprs.len() - 1
                });
                Typed::new(Expr::Column(at), typed.ty, typed.nullable)
            };
            keys.push(self.sort_key(typed, &key.options));
        }
        let qualify = match &select.qualify {
            Some(qualify) => Some(self.predicate(qualify, level)?),
            None => None,
        };
        let aggregates = level.groups.as_ref().map_or_else(Vec::new, |groups| groups.aggregates.take());
        let (mut plan, mut base) = source(aggregates);
        if level.groups.is_some() {
            base = plan_width(&plan).unwrap_or(base);
        }
        if let Some(predicate) = having {
            plan = Arc::new(Plan::Filter { input: plan, predicate });
        }
        let windows = level.windows.as_ref().map_or_else(Vec::new, RefCell::take);
        let mut qualify = qualify;
        if !windows.is_empty() {
            let mut place = |expr: &mut Expr| {
                if let Expr::Pending(at) = expr {
                    *expr = Expr::Column(base + *at);
                }
            };
            exprs.iter_mut().chain(&mut qualify).for_each(|expr| expr.walk_mut(&mut place));
            plan = Arc::new(Plan::Window { input: plan, windows });
        }
        if let Some(predicate) = qualify {
            plan = Arc::new(Plan::Filter { input: plan, predicate });
        }
        let hidden = exprs.len() > width;
        plan = Arc::new(Plan::Project { input: plan, exprs });
        if distinct {
            let orders = columns.iter().map(|column| Order::of(self.dialect(), &column.ty)).collect();
            plan = Arc::new(Plan::Distinct { input: plan, orders });
        }
        let tie_keys = |keys: &[SortKey]| -> Vec<SortKey> {
            keys.iter()
                .filter_map(|key| match &key.expr {
                    Expr::Column(at) => Some(SortKey { expr: Expr::Column(*at), ..*key }),
                    _ => None,
                })
                .collect()
        };
        let ties = tie_keys(&keys);
        if !keys.is_empty() {
            plan = Arc::new(Plan::Sort { input: plan, keys });
        }
        if let Some(top) = &select.top {
            let fetch = match &top.quantity {
                Some(ast::TopQuantity::Constant(rows)) => Some(Expr::Const(Value::Int(*rows as i64))),
                Some(ast::TopQuantity::Expr(ast)) => {
                    Some(self.expr(ast, &Level::new(&[], None, &Cell::new(false)))?.expr)
                }
                None => None,
            };
            plan = Arc::new(Plan::Limit {
                input: plan,
                offset: Expr::Const(Value::Int(0)),
                fetch,
                ties: if top.with_ties { ties } else { Vec::new() },
                percent: top.percent,
            });
        }
        if hidden {
            plan = Arc::new(Plan::Cut { input: plan, width });
        }
        Ok((plan, columns))
    }

    /// A GROUP BY item: an ordinal or alias of Snowflake stands for what it names.
    fn group_key(
        &self,
        key: &Ast,
        projection: &[(Option<Ast>, Option<String>, usize)],
        aliases: &[(String, Ast)],
        columns: &[ScopeColumn],
    ) -> Result<Ast, SqlError> {
        if !self.is_snowflake() {
            return Ok(key.clone());
        }
        if let Some(at) = ordinal(key) {
            return match at.checked_sub(1).and_then(|at| projection.get(at)) {
                Some((Some(ast), ..)) => Ok(ast.clone()),
                Some((None, _, column)) => {
                    let column = &columns[*column];
                    Ok(Ast::Identifier(ast::Ident::with_quote('"', column.name.clone())))
                }
                None => Err(self.bad_ordinal(at, projection.len())),
            };
        }
        if let Ast::Identifier(ident) = key {
            let name = self.ident(ident);
            if self.find_column(std::slice::from_ref(&name), columns)?.is_none()
                && let Some((_, ast)) = aliases.iter().find(|(alias, _)| *alias == name)
            {
                return Ok(ast.clone());
            }
        }
        Ok(key.clone())
    }

    /// The select list with every `*` spelt out: an expression, or a column by position.
    fn expand(
        &self,
        items: &[ast::SelectItem],
        columns: &[ScopeColumn],
    ) -> Result<Vec<(Option<Ast>, Option<String>, usize)>, SqlError> {
        let mut out = Vec::new();
        for item in items {
            match item {
                ast::SelectItem::UnnamedExpr(Ast::BinaryOp { left, op: ast::BinaryOperator::Eq, right })
                    if !self.is_snowflake() =>
                {
                    // T-SQL: `SELECT name = expression`.
                    let Ast::Identifier(ident) = left.as_ref() else { return Err(self.unsupported(item)) };
                    out.push((Some(right.as_ref().clone()), Some(ident.value.clone()), 0));
                }
                ast::SelectItem::UnnamedExpr(ast) => out.push((Some(ast.clone()), None, 0)),
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    out.push((Some(expr.clone()), Some(self.ident(alias)), 0));
                }
                ast::SelectItem::Wildcard(options) => {
                    if columns.is_empty() {
                        return Err(match self.dialect() {
                            Dialect::SqlServer => {
                                SqlError::mssql(263, "Must specify table to select from.").with_class(16)
                            }
                            Dialect::Snowflake => SqlError::snowflake(
                                2_269,
                                "42601",
                                "SQL compilation error:\nSELECT with no columns",
                            ),
                        });
                    }
                    let excluded = self.excluded(options)?;
                    out.extend(
                        columns
                            .iter()
                            .enumerate()
                            .filter(|(_, column)| {
                                !column.hidden && !excluded.iter().any(|name| self.same(name, &column.name))
                            })
                            .map(|(at, _)| (None, None, at)),
                    );
                }
                ast::SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    let parts = self.parts(name)?;
                    let wanted = parts.last().cloned().unwrap_or_default();
                    let excluded = self.excluded(options)?;
                    let before = out.len();
                    out.extend(
                        columns
                            .iter()
                            .enumerate()
                            .filter(|(_, column)| {
                                self.same(&column.qualifier, &wanted)
                                    && !column.hidden
                                    && !excluded.iter().any(|name| self.same(name, &column.name))
                            })
                            .map(|(at, _)| (None, None, at)),
                    );
                    if out.len() == before {
                        return Err(match self.dialect() {
                            Dialect::SqlServer => SqlError::mssql(
                                107,
                                format!("The column prefix '{wanted}' does not match with a table name or alias name used in the query."),
                            )
                            .with_class(15),
                            Dialect::Snowflake => self.unknown_column(&[wanted], &[]),
                        });
                    }
                }
                other => return Err(self.unsupported(other)),
            }
        }
        Ok(out)
    }

    fn excluded(&self, options: &ast::WildcardAdditionalOptions) -> Result<Vec<String>, SqlError> {
        if options.opt_replace.is_some() || options.opt_rename.is_some() || options.opt_ilike.is_some() {
            return Err(self.unsupported(options));
        }
        Ok(match &options.opt_exclude {
            None => Vec::new(),
            Some(exclude) => {
                let text = exclude.to_string();
                let inner = text.trim_start_matches("EXCLUDE").trim().trim_matches(['(', ')']);
                inner
                    .split(',')
                    .map(str::trim)
                    .map(|name| match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                        Some(exact) => exact.to_owned(),
                        None => name.to_uppercase(),
                    })
                    .collect()
            }
        })
    }

    fn show(
        &self,
        projection: &[(Option<Ast>, Option<String>, usize)],
        level: &Level<'_>,
    ) -> Result<Vec<Shown>, SqlError> {
        projection
            .iter()
            .map(|(ast, alias, at)| {
                let columns = level.columns;
                let Some(ast) = ast else {
                    let column = &columns[*at];
                    let typed = if level.groups.is_some() {
                        // `*` beside GROUP BY: each column must be a key.
                        let quoted = |part: &str| ast::Ident::with_quote('"', part);
                        let full =
                            Ast::CompoundIdentifier(vec![quoted(&column.qualifier), quoted(&column.name)]);
                        self.expr(&full, level)?
                    } else {
                        Typed::new(Expr::Column(*at), column.ty.clone(), column.nullable)
                    };
                    return Ok(Shown {
                        typed,
                        name: column.name.clone(),
                        identity: column.identity,
                        computed: column.computed,
                    });
                };
                let mut typed = self.expr(ast, level)?;
                if typed.ty == DataType::Null && !self.is_snowflake() {
                    typed = self.cast(typed, &DataType::Int)?;
                }
                let bare = match (&typed.expr, &level.groups) {
                    (Expr::Column(at), None) => columns.get(*at),
                    _ => None,
                };
                let name = match (alias, ast) {
                    (Some(alias), _) => alias.clone(),
                    (None, Ast::Identifier(ident)) if !ident.value.starts_with('@') => self.ident(ident),
                    (None, Ast::CompoundIdentifier(idents)) => {
                        idents.last().map(|ident| self.ident(ident)).unwrap_or_default()
                    }
                    (None, _) if self.is_snowflake() => ast.to_string().to_uppercase(),
                    _ => String::new(),
                };
                let name = match (bare, alias, self.dialect()) {
                    (Some(column), None, Dialect::SqlServer) if !name.is_empty() => column.name.clone(),
                    _ => name,
                };
                Ok(Shown {
                    identity: bare.is_some_and(|column| column.identity),
                    computed: bare.is_none_or(|column| column.computed),
                    typed,
                    name,
                })
            })
            .collect()
    }
}

/// `GROUPING(key)`.
fn grouping_of(key: Ast) -> Ast {
    let name = ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ast::Ident::new("GROUPING"))]);
    let argument = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(key));
    Ast::Function(ast::Function {
        name,
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The keys and the sets of them that ROLLUP, CUBE and GROUPING SETS ask for; None for a plain GROUP BY.
fn grouping_sets(group_by: &ast::GroupByExpr) -> Option<(Vec<Ast>, Vec<Vec<bool>>)> {
    let ast::GroupByExpr::Expressions(items, modifiers) = group_by else { return None };
    if !modifiers.is_empty() {
        return None;
    }
    let mut keys: Vec<Ast> = Vec::new();
    // Each item multiplies the sets that were there.
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    let mut special = false;
    for item in items {
        let mut place = |ast: &Ast| {
            keys.iter().position(|key| key == ast).unwrap_or_else(|| {
                keys.push(ast.clone());
                keys.len() - 1
            })
        };
        let members = |ast: &Ast| -> Vec<usize> {
            match ast {
                Ast::Tuple(list) => list.iter().map(&mut place).collect(),
                Ast::Nested(inner) => vec![place(inner)],
                Ast::Value(value) if value.value == ast::Value::Null => Vec::new(),
                other => vec![place(other)],
            }
        };
        let call = match item {
            Ast::Function(function) if function.over.is_none() => match &function.args {
                ast::FunctionArguments::List(list) => {
                    let arguments: Vec<&Ast> = list
                        .args
                        .iter()
                        .filter_map(|argument| match argument {
                            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast)) => Some(ast),
                            _ => None,
                        })
                        .collect();
                    Some((function.name.to_string().to_uppercase(), arguments))
                }
                _ => None,
            },
            _ => None,
        };
        let own: Vec<Vec<usize>> = match call {
            Some((name, arguments)) if name == "ROLLUP" => {
                special = true;
                let parts: Vec<Vec<usize>> = arguments.into_iter().map(members).collect();
                (0..=parts.len()).rev().map(|upto| parts[..upto].concat()).collect()
            }
            Some((name, arguments)) if name == "CUBE" => {
                special = true;
                let parts: Vec<Vec<usize>> = arguments.into_iter().take(12).map(members).collect();
                (0..1_usize << parts.len())
                    .rev()
                    .map(|mask| {
                        let chosen = parts.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
                        chosen.flat_map(|(_, part)| part.clone()).collect()
                    })
                    .collect()
            }
            Some((name, arguments)) if name == "GROUPING_SETS" => {
                special = true;
                arguments.into_iter().map(members).collect()
            }
            _ => vec![vec![place(item)]],
        };
        sets = sets
            .iter()
            .flat_map(|set| own.iter().map(move |more| [set.as_slice(), more.as_slice()].concat()))
            .collect();
    }
    let sets = sets.iter().map(|set| (0..keys.len()).map(|at| set.contains(&at)).collect()).collect();
    special.then_some((keys, sets))
}

fn described_width(level: &Level<'_>) -> usize {
    level.groups.as_ref().map_or(0, |groups| groups.keys.len())
}

fn plan_width(plan: &Plan) -> Option<usize> {
    match plan {
        Plan::Aggregate { keys, aggregates, .. } => Some(keys.len() + aggregates.len()),
        Plan::GroupingSets { keys, aggregates, .. } => Some(2 * keys.len() + aggregates.len()),
        _ => None,
    }
}

/// An integer literal where an ordinal may stand.
fn ordinal(ast: &Ast) -> Option<usize> {
    match ast {
        Ast::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. }) => digits.parse().ok(),
        _ => None,
    }
}

/// Splits a condition at its ANDs.
pub(crate) fn split_and<'e>(ast: &'e Ast, out: &mut Vec<&'e Ast>) {
    let mut stack = vec![ast];
    while let Some(ast) = stack.pop() {
        match ast {
            Ast::BinaryOp { left, op: ast::BinaryOperator::And, right } => {
                stack.push(right);
                stack.push(left);
            }
            Ast::Nested(inner)
                if matches!(inner.as_ref(), Ast::BinaryOp { op: ast::BinaryOperator::And, .. }) =>
            {
                stack.push(inner);
            }
            other => out.push(other),
        }
    }
}

fn mentions(body: &ast::SetExpr, name: &str) -> bool {
    use std::ops::ControlFlow;

    use ast::Visit;
    struct Search<'n>(&'n str);
    impl ast::Visitor for Search<'_> {
        type Break = ();
        fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<()> {
            match relation.0.as_slice() {
                [ast::ObjectNamePart::Identifier(ident)] if ident.value.eq_ignore_ascii_case(self.0) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    body.visit(&mut Search(name)).is_break()
}

impl Binder<'_> {
    /// The select list's aliases, but for those that hide the very name that they are made of.
    fn aliases(&self, projection: &[ast::SelectItem]) -> Vec<(String, Ast)> {
        let named = projection.iter().filter_map(|item| match item {
            ast::SelectItem::ExprWithAlias { expr, alias } => Some((self.ident(alias), expr.clone())),
            _ => None,
        });
        named.filter(|(alias, ast)| !self.refers_to_itself(alias, ast)).collect()
    }

    fn refers_to_itself(&self, alias: &str, ast: &Ast) -> bool {
        use std::ops::ControlFlow;

        use ast::Visit;
        struct Search<'n>(&'n dyn Fn(&ast::Ident) -> bool);
        impl ast::Visitor for Search<'_> {
            type Break = ();
            fn pre_visit_expr(&mut self, ast: &Ast) -> ControlFlow<()> {
                match ast {
                    Ast::Identifier(ident) if (self.0)(ident) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            }
        }
        ast.visit(&mut Search(&|ident| self.ident(ident) == alias)).is_break()
    }
}

/// The places in a SELECT's list where NULL itself is written.
fn bare_nulls(body: &ast::SetExpr) -> Vec<usize> {
    match body {
        ast::SetExpr::Select(select) => {
            let plain = |item: &ast::SelectItem| match item {
                ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
                    Some(matches!(expr, Ast::Value(value) if matches!(value.value, ast::Value::Null)))
                }
                _ => None,
            };
            // Behind a wildcard the places are not known.
            let known = select.projection.iter().map_while(plain).enumerate();
            known.filter_map(|(at, null)| null.then_some(at)).collect()
        }
        ast::SetExpr::Query(query) => bare_nulls(&query.body),
        ast::SetExpr::SetOperation { left, right, .. } => {
            let right = bare_nulls(right);
            bare_nulls(left).into_iter().filter(|at| right.contains(at)).collect()
        }
        _ => Vec::new(),
    }
}
