//! Function calls: scalar, aggregate and window functions.

use std::cell::RefCell;

use sqlparser::ast::{self, Expr as Ast};

use crate::{
    bind::{Binder, Level, operators::decimal_result, types::common},
    cast::numbers::int_range,
    decimal::Rounding,
    error::SqlError,
    exec::{
        SortKey,
        aggregate::{Aggregate, Kind, Sum},
        window::{self, Extent, Window},
    },
    expr::{Expr, Typed},
    functions,
    keys::Order,
    types::{DataType, Dialect, Length},
    value::Value,
};

/// The aggregate functions of either dialect.
pub(crate) fn aggregate_kind(dialect: Dialect, name: &str) -> Option<Kind> {
    let snowflake = dialect == Dialect::Snowflake;
    Some(match name {
        "COUNT" => Kind::Count,
        "COUNT_BIG" if !snowflake => Kind::Count,
        "SUM" => Kind::Sum,
        "AVG" => Kind::Average,
        "MIN" => Kind::Min,
        "MAX" => Kind::Max,
        "STRING_AGG" if !snowflake => Kind::Join,
        "LISTAGG" if snowflake => Kind::Join,
        "ANY_VALUE" if snowflake => Kind::AnyValue,
        "BOOLOR_AGG" if snowflake => Kind::Max,
        "BOOLAND_AGG" if snowflake => Kind::Min,
        "ARRAY_AGG" if snowflake => Kind::ArrayAgg,
        "COUNT_IF" if snowflake => Kind::Count,
        "MEDIAN" if snowflake => Kind::Median,
        "STDEV" if !snowflake => Kind::Deviation { population: false, root: true },
        "STDEVP" if !snowflake => Kind::Deviation { population: true, root: true },
        "VAR" if !snowflake => Kind::Deviation { population: false, root: false },
        "VARP" if !snowflake => Kind::Deviation { population: true, root: false },
        "STDDEV" | "STDDEV_SAMP" if snowflake => Kind::Deviation { population: false, root: true },
        "STDDEV_POP" if snowflake => Kind::Deviation { population: true, root: true },
        "VARIANCE" | "VAR_SAMP" if snowflake => Kind::Deviation { population: false, root: false },
        "VAR_POP" | "VARIANCE_POP" if snowflake => Kind::Deviation { population: true, root: false },
        _ => return None,
    })
}

/// Whether the expression calls an aggregate of its own query.
pub(crate) fn has_aggregate(dialect: Dialect, ast: &Ast) -> bool {
    use std::ops::ControlFlow;
    struct Search(Dialect, u32);
    impl ast::Visitor for Search {
        type Break = ();
        fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
            self.1 += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
            self.1 -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, ast: &Ast) -> ControlFlow<()> {
            if let Ast::Function(function) = ast
                && self.1 == 0
                && function.over.is_none()
                && aggregate_kind(self.0, &function.name.to_string().to_uppercase()).is_some()
            {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    use ast::Visit;
    ast.visit(&mut Search(dialect, 0)).is_break()
}

fn argument_asts(
    function: &ast::Function,
) -> (Vec<&ast::FunctionArgExpr>, bool, &[ast::FunctionArgumentClause]) {
    match &function.args {
        ast::FunctionArguments::List(list) => {
            let arguments = list
                .args
                .iter()
                .map(|argument| match argument {
                    ast::FunctionArg::Named { arg, .. }
                    | ast::FunctionArg::ExprNamed { arg, .. }
                    | ast::FunctionArg::Unnamed(arg) => arg,
                })
                .collect();
            let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
            (arguments, distinct, &list.clauses)
        }
        _ => (Vec::new(), false, &[]),
    }
}

impl Binder<'_> {
    pub(crate) fn function(&self, function: &ast::Function, level: &Level<'_>) -> Result<Typed, SqlError> {
        let name = self.parts(&function.name)?.last().cloned().unwrap_or_default().to_uppercase();
        if let ast::FunctionArguments::Subquery(_) = &function.args {
            return Err(self.unsupported(function));
        }
        if let Some(over) = &function.over {
            return self.window_function(&name, function, over, level);
        }
        if let Some(kind) = aggregate_kind(self.dialect(), &name) {
            let Some(groups) = &level.groups else {
                return Err(match self.dialect() {
                    Dialect::SqlServer => SqlError::mssql(
                        147,
                        "An aggregate may not appear in the WHERE clause unless it is in a subquery contained in a HAVING clause or a select list, and the column being aggregated is an outer reference.",
                    )
                    .with_class(15),
                    Dialect::Snowflake => SqlError::snowflake(
                        2_035,
                        "42601",
                        format!("SQL compilation error:\nInvalid aggregate function in where clause [{function}]"),
                    ),
                });
            };
            let (aggregate, ty, nullable) = self.aggregate(kind, &name, function, groups.input)?;
            let at = groups.keys.len() + groups.aggregates.borrow().len();
            groups.aggregates.borrow_mut().push(aggregate);
            return Ok(Typed::new(Expr::Column(at), ty, nullable));
        }
        let (arguments, _, _) = argument_asts(function);
        let asts = arguments
            .iter()
            .map(|argument| match argument {
                ast::FunctionArgExpr::Expr(ast) => Ok(ast),
                other => Err(self.unsupported(format!("{name}({other})"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        functions::bind(self, &name, &asts, level)
    }

    fn aggregate(
        &self,
        kind: Kind,
        name: &str,
        function: &ast::Function,
        level: &Level<'_>,
    ) -> Result<(Aggregate, DataType, bool), SqlError> {
        let dialect = self.dialect();
        let snowflake = dialect == Dialect::Snowflake;
        let (arguments, distinct, clauses) = argument_asts(function);
        let argument = match arguments.first() {
            // Its argument says which rows count.
            Some(ast::FunctionArgExpr::Expr(_)) if name == "COUNT_IF" => None,
            None | Some(ast::FunctionArgExpr::Wildcard) => None,
            Some(ast::FunctionArgExpr::Expr(ast)) => Some(self.expr(ast, level)?),
            Some(other) => return Err(self.unsupported(format!("{name}({other})"))),
        };
        if argument.is_none() && kind != Kind::Count {
            return Err(self.unsupported(function));
        }
        let separator = match (kind, arguments.get(1)) {
            (Kind::Join, Some(ast::FunctionArgExpr::Expr(ast))) => Some(self.expr(ast, level)?.expr),
            _ => None,
        };
        let mut within = function.within_group.clone();
        for clause in clauses {
            match clause {
                ast::FunctionArgumentClause::OrderBy(keys) => within.extend(keys.iter().cloned()),
                other => return Err(self.unsupported(other)),
            }
        }
        let within = self.sort_keys(&within, level)?;
        let filter = match (&function.filter, arguments.first()) {
            (_, Some(ast::FunctionArgExpr::Expr(ast))) if name == "COUNT_IF" => {
                Some(self.predicate(ast, level)?)
            }
            (Some(filter), _) => Some(self.predicate(filter, level)?),
            (None, _) => None,
        };
        let input = argument.as_ref().map_or(DataType::Int, |argument| argument.ty.clone());
        let order = Order::of(dialect, &input);
        let counts = match (snowflake, name) {
            (true, _) => DataType::Number { precision: 18, scale: 0 },
            (false, "COUNT_BIG") => DataType::BigInt,
            (false, _) => DataType::Int,
        };
        let mut argument = argument;
        let (ty, sum) = match kind {
            Kind::Rows | Kind::Count => (counts, Sum::Float),
            Kind::Sum | Kind::Average => {
                if let Some(text) =
                    argument.take_if(|argument| argument.ty.is_text() || argument.ty.is_semi_structured())
                {
                    if !snowflake {
                        return Err(self.bad_operand(name, &text.ty));
                    }
                    argument = Some(self.cast(text, &DataType::Double)?);
                }
                self.sum_type(kind, name, argument.as_ref().map_or(&DataType::Int, |argument| &argument.ty))?
            }
            Kind::Min | Kind::Max | Kind::AnyValue => {
                if !snowflake
                    && matches!(
                        input,
                        DataType::Bit
                            | DataType::Text { .. }
                            | DataType::NText { .. }
                            | DataType::Image
                            | DataType::Xml
                    )
                {
                    return Err(self.bad_operand(name, &input));
                }
                (input, Sum::Float)
            }
            Kind::Join => {
                if let Some(other) = argument.take_if(|argument| !argument.ty.is_text()) {
                    argument = Some(self.cast(other, &self.wide_text())?);
                }
                let ty = match argument.as_ref().map(|argument| argument.ty.clone()) {
                    Some(
                        DataType::VarChar { length: Length::Fixed(_), collation }
                        | DataType::Char { collation, .. },
                    ) => DataType::VarChar { length: Length::Fixed(8000), collation },
                    Some(
                        DataType::NVarChar { length: Length::Fixed(_), collation }
                        | DataType::NChar { collation, .. },
                    ) => DataType::NVarChar { length: Length::Fixed(4000), collation },
                    _ => self.wide_text(),
                };
                (ty, Sum::Float)
            }
            Kind::ArrayAgg => (DataType::Array, Sum::Float),
            Kind::Median => match input {
                DataType::Number { precision, scale } => {
                    // Three more digits, as far as there are digits.
                    let more = 3.min(37 - scale.min(37));
                    let (precision, scale) = ((precision + 3).min(38), scale + more);
                    let sum = Sum::Decimal { scale, rounding: Rounding::HalfUp, precision: 38 };
                    (DataType::Number { precision, scale }, sum)
                }
                _ => (DataType::Double, Sum::Float),
            },
            Kind::Deviation { .. } => {
                (if snowflake { DataType::Double } else { DataType::Float }, Sum::Float)
            }
        };
        let overflow = match dialect {
            Dialect::SqlServer => {
                let name = if matches!(ty, DataType::Decimal { .. }) { "numeric" } else { ty.name() };
                SqlError::mssql(
                    8115,
                    format!("Arithmetic overflow error converting expression to data type {name}."),
                )
                .with_state(2)
            }
            Dialect::Snowflake => SqlError::snowflake(
                100_046,
                "22003",
                format!(
                    "Number out of representable range: type FIXED{}{{nullable}}",
                    ty.to_string().replace("NUMBER", "")
                ),
            ),
        };
        let nullable = kind != Kind::Count && !(snowflake && kind == Kind::Join);
        let aggregate = Aggregate {
            kind: if argument.is_none() { Kind::Rows } else { kind },
            argument: argument.map(|argument| argument.expr),
            separator,
            within,
            filter,
            distinct,
            order,
            sum,
            overflow,
            count_is_decimal: snowflake,
            count_limit: if !snowflake && name == "COUNT" { i64::from(i32::MAX) } else { i64::MAX },
        };
        Ok((aggregate, ty, nullable))
    }

    fn bad_operand(&self, name: &str, ty: &DataType) -> SqlError {
        SqlError::mssql(
            8117,
            format!("Operand data type {} is invalid for {} operator.", ty.name(), name.to_lowercase()),
        )
    }

    fn sum_type(&self, kind: Kind, name: &str, input: &DataType) -> Result<(DataType, Sum), SqlError> {
        let average = kind == Kind::Average;
        Ok(match input {
            DataType::Null if self.is_snowflake() => (DataType::Double, Sum::Float),
            DataType::TinyInt | DataType::SmallInt | DataType::Int | DataType::BigInt => {
                let ty = if *input == DataType::BigInt { DataType::BigInt } else { DataType::Int };
                let (low, high) = int_range(&ty);
                (ty, Sum::Int { low, high })
            }
            DataType::Decimal { scale, .. } => {
                let scale = if average { (*scale).max(6) } else { *scale };
                let sum = Sum::Decimal { scale, rounding: Rounding::Truncate, precision: 38 };
                (DataType::Decimal { precision: 38, scale }, sum)
            }
            DataType::Money | DataType::SmallMoney => {
                (DataType::Money, Sum::Decimal { scale: 4, rounding: Rounding::Truncate, precision: 19 })
            }
            DataType::Real | DataType::Float => (DataType::Float, Sum::Float),
            DataType::Double => (DataType::Double, Sum::Float),
            DataType::Number { scale, .. } => {
                let scale = if average {
                    decimal_result(
                        Dialect::Snowflake,
                        super::operators::Arithmetic::Divide,
                        (38, *scale),
                        (18, 0),
                    )
                    .1
                } else {
                    *scale
                };
                let sum = Sum::Decimal { scale, rounding: Rounding::HalfUp, precision: 38 };
                (DataType::Number { precision: 38, scale }, sum)
            }
            other if self.is_snowflake() => {
                return Err(SqlError::snowflake(
                    1_065,
                    "22023",
                    format!(
                        "SQL compilation error:\nInvalid argument types for function '{name}': ({other})"
                    ),
                ));
            }
            other => return Err(self.bad_operand(name, other)),
        })
    }

    /// The keys of an ORDER BY, bound where they stand.
    pub(crate) fn sort_keys(
        &self,
        keys: &[ast::OrderByExpr],
        level: &Level<'_>,
    ) -> Result<Vec<SortKey>, SqlError> {
        keys.iter()
            .map(|key| {
                let typed = self.expr(&key.expr, level)?;
                Ok(self.sort_key(typed, &key.options))
            })
            .collect()
    }

    pub(crate) fn sort_key(&self, typed: Typed, options: &ast::OrderByOptions) -> SortKey {
        let descending = options.sort == Some(ast::OrderBySort::Desc);
        // SQL Server sorts NULL below everything, Snowflake above.
        let nulls_first = options.nulls_first.unwrap_or(match self.dialect() {
            Dialect::SqlServer => !descending,
            Dialect::Snowflake => descending,
        });
        SortKey { order: Order::of(self.dialect(), &typed.ty), expr: typed.expr, descending, nulls_first }
    }

    fn window_function(
        &self,
        name: &str,
        function: &ast::Function,
        over: &ast::WindowType,
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let Some(windows) = &level.windows else {
            return Err(match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    4108,
                    "Windowed functions can only appear in the SELECT or ORDER BY clauses.",
                )
                .with_class(15),
                Dialect::Snowflake => SqlError::snowflake(
                    2_303,
                    "42601",
                    format!(
                        "SQL compilation error:\nWindow function [{function}] appears outside of SELECT, QUALIFY, and ORDER BY clauses."
                    ),
                ),
            });
        };
        let ast::WindowType::WindowSpec(spec) = over else { return Err(self.unsupported(function)) };
        let inner = Level {
            aliases: level.aliases.clone(),
            windows: None,
            ..Level::new(level.columns, level.parent, level.correlated)
        };
        // Arguments are bound as the row is when windows are computed: after grouping.
        let bind = |ast: &Ast| -> Result<Typed, SqlError> {
            if level.groups.is_some() { self.expr(ast, level) } else { self.expr(ast, &inner) }
        };
        let partition = spec
            .partition_by
            .iter()
            .map(|ast| bind(ast).map(|typed| (Order::of(self.dialect(), &typed.ty), typed.expr)))
            .map(|result| result.map(|(order, expr)| (expr, order)))
            .collect::<Result<Vec<_>, _>>()?;
        let order = spec
            .order_by
            .iter()
            .map(|key| bind(&key.expr).map(|typed| self.sort_key(typed, &key.options)))
            .collect::<Result<Vec<_>, _>>()?;
        let (arguments, _, _) = argument_asts(function);
        let argument = |at: usize| -> Result<Option<Typed>, SqlError> {
            match arguments.get(at) {
                Some(ast::FunctionArgExpr::Expr(ast)) => bind(ast).map(Some),
                _ => Ok(None),
            }
        };
        let one = || Typed::constant(Value::Int(1), DataType::Int);
        let needed = |typed: Option<Typed>| typed.ok_or_else(|| self.unsupported(function));
        let big =
            if self.is_snowflake() { DataType::Number { precision: 18, scale: 0 } } else { DataType::BigInt };
        let wide = if self.is_snowflake() { DataType::Double } else { DataType::Float };
        if order.is_empty()
            && !self.is_snowflake()
            && matches!(name, "ROW_NUMBER" | "RANK" | "DENSE_RANK" | "NTILE" | "LAG" | "LEAD")
        {
            return Err(SqlError::mssql(
                4112,
                format!("The function '{name}' must have an OVER clause with ORDER BY."),
            )
            .with_class(15));
        }
        let (kind, ty, nullable) = match name {
            "ROW_NUMBER" => (window::Kind::RowNumber, big, false),
            "RANK" => (window::Kind::Rank, big, false),
            "DENSE_RANK" => (window::Kind::DenseRank, big, false),
            "PERCENT_RANK" => (window::Kind::PercentRank, wide, false),
            "CUME_DIST" => (window::Kind::CumeDist, wide, false),
            "NTILE" => (window::Kind::Ntile(needed(argument(0)?)?.expr), big, false),
            "LAG" | "LEAD" => {
                let value = needed(argument(0)?)?;
                let distance = argument(1)?.unwrap_or_else(one).expr;
                let ty = value.ty.clone();
                let default = match argument(2)? {
                    Some(default) => Some(self.cast(default, &ty)?.expr),
                    None => None,
                };
                (window::Kind::Shift { value: value.expr, distance, default, back: name == "LAG" }, ty, true)
            }
            "FIRST_VALUE" | "LAST_VALUE" => {
                let value = needed(argument(0)?)?;
                let kind = if name == "FIRST_VALUE" {
                    window::Kind::First(value.expr)
                } else {
                    window::Kind::Last(value.expr)
                };
                (kind, value.ty, true)
            }
            _ => {
                let kind = aggregate_kind(self.dialect(), name)
                    .ok_or_else(|| functions::unknown(self, name, &[]))?;
                let (aggregate, ty, nullable) = if level.groups.is_some() {
                    self.aggregate(kind, name, function, level)?
                } else {
                    self.aggregate(kind, name, function, &inner)?
                };
                (window::Kind::Aggregate(Box::new(aggregate)), ty, nullable)
            }
        };
        let extent = self.extent(spec, !order.is_empty(), name)?;
        let window = Window { kind, partition, order, extent, decimal: self.is_snowflake() };
        let at = push(windows, window);
        Ok(Typed::new(Expr::Pending(at), ty, nullable))
    }

    fn extent(&self, spec: &ast::WindowSpec, ordered: bool, name: &str) -> Result<Extent, SqlError> {
        let Some(frame) = &spec.window_frame else {
            // Snowflake: FIRST_VALUE and LAST_VALUE see the whole partition.
            let whole = self.is_snowflake() && matches!(name, "FIRST_VALUE" | "LAST_VALUE");
            return Ok(if ordered && !whole { Extent::ToPeers } else { Extent::Partition });
        };
        use ast::WindowFrameBound as Bound;
        let distance = |ast: &Ast| -> Result<i64, SqlError> {
            Ok(super::operators::exact(&self.constant(ast)?.0).trunc() as i64)
        };
        let end = frame.end_bound.as_ref().unwrap_or(&Bound::CurrentRow);
        if frame.units == ast::WindowFrameUnits::Range {
            return match (&frame.start_bound, end) {
                (Bound::Preceding(None), Bound::Following(None)) => Ok(Extent::Partition),
                (Bound::Preceding(None), Bound::CurrentRow) => Ok(Extent::ToPeers),
                _ => Err(self.unsupported(spec)),
            };
        }
        let from = match &frame.start_bound {
            Bound::CurrentRow => Some(0),
            Bound::Preceding(None) => None,
            Bound::Preceding(Some(ast)) => Some(-distance(ast)?),
            Bound::Following(Some(ast)) => Some(distance(ast)?),
            Bound::Following(None) => return Err(self.unsupported(spec)),
        };
        let to = match end {
            Bound::CurrentRow => Some(0),
            Bound::Following(None) => None,
            Bound::Preceding(Some(ast)) => Some(-distance(ast)?),
            Bound::Following(Some(ast)) => Some(distance(ast)?),
            Bound::Preceding(None) => return Err(self.unsupported(spec)),
        };
        Ok(Extent::Rows(from, to))
    }

    /// The common type of two result columns.
    pub(crate) fn common(&self, a: &DataType, b: &DataType) -> DataType {
        common(self.dialect(), a, b)
    }
}

fn push(windows: &RefCell<Vec<Window>>, window: Window) -> usize {
    let mut windows = windows.borrow_mut();
    windows.push(window);
    windows.len() - 1
}
