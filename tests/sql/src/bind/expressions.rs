//! Expressions.

use std::{
    cell::Cell,
    sync::{Arc, OnceLock},
};

use sqlparser::ast::{self, BinaryOperator as Op, Expr as Ast, UnaryOperator};

use crate::{
    bind::{
        Binder, Level,
        operators::{Arithmetic, exact},
        types::common,
    },
    cast::{Cast, strings::unhex},
    decimal::Decimal,
    error::{SqlError, quote},
    exec::Plan,
    expr::{Comparison, Expr, Subquery, Typed},
    functions,
    keys::Order,
    types::{DataType, Dialect, Length},
    value::{Value, Variant},
};

impl Binder<'_> {
    /// Binds an expression among the names of `level`.
    pub(crate) fn expr(&self, ast: &Ast, level: &Level<'_>) -> Result<Typed, SqlError> {
        let _depth = self.enter()?;
        if let Some(groups) = &level.groups
            && let Some(at) = groups.keys.iter().position(|(key, ..)| same_ast(key, ast))
        {
            let (_, _, ty, nullable) = &groups.keys[at];
            return Ok(Typed::new(Expr::Column(at), ty.clone(), *nullable));
        }
        match ast {
            Ast::Identifier(ident) => self.name(&[self.ident(ident)], std::slice::from_ref(ident), level),
            Ast::CompoundIdentifier(idents) => {
                self.name(&idents.iter().map(|ident| self.ident(ident)).collect::<Vec<_>>(), idents, level)
            }
            Ast::Nested(inner) => self.expr(inner, level),
            Ast::Value(value) => self.literal(&value.value, level),
            Ast::Prefixed { prefix, value } if prefix.value.eq_ignore_ascii_case("n") => {
                self.expr(value, level)
            }
            Ast::TypedString(typed) => {
                let value = self.literal(&typed.value.value, level)?;
                let ty = self.data_type(&typed.data_type)?;
                self.cast(value, &ty)
            }
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right, level),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr, level),
            Ast::IsNull(inner) => self.is_null(inner, false, level),
            Ast::IsNotNull(inner) => self.is_null(inner, true, level),
            Ast::IsTrue(inner) => self.is_truth(inner, true, false, level),
            Ast::IsNotTrue(inner) => self.is_truth(inner, true, true, level),
            Ast::IsFalse(inner) => self.is_truth(inner, false, false, level),
            Ast::IsNotFalse(inner) => self.is_truth(inner, false, true, level),
            Ast::IsDistinctFrom(a, b) => self.distinct_from(a, b, false, level),
            Ast::IsNotDistinctFrom(a, b) => self.distinct_from(a, b, true, level),
            Ast::Between { expr, negated, low, high } => {
                let low =
                    self.compare(Comparison::GreaterEqual, self.expr(expr, level)?, self.expr(low, level)?)?;
                let high =
                    self.compare(Comparison::LessEqual, self.expr(expr, level)?, self.expr(high, level)?)?;
                let nullable = low.nullable || high.nullable;
                let both = Expr::And(vec![low.expr, high.expr]);
                Ok(Typed::new(
                    if *negated { Expr::Not(Box::new(both)) } else { both },
                    self.boolean(),
                    nullable,
                ))
            }
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated, level),
            Ast::InSubquery { expr, subquery, negated } => self.in_subquery(expr, subquery, *negated, level),
            Ast::Exists { subquery, negated } => {
                let (subquery, _) = self.subquery(subquery, level)?;
                Ok(Typed::new(Expr::Exists(subquery, *negated), self.boolean(), false))
            }
            Ast::Subquery(query) => {
                let (subquery, ty) = self.subquery(query, level)?;
                Ok(Typed::new(Expr::Scalar(subquery), ty, true))
            }
            Ast::AnyOp { left, compare_op, right, .. } => {
                self.quantified(left, compare_op, right, false, level)
            }
            Ast::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, true, level),
            Ast::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), *negated, false, level)
            }
            Ast::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), *negated, true, level)
            }
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), level)
            }
            Ast::Cast { kind, expr, data_type, .. } => {
                let value = self.expr(expr, level)?;
                let ty = self.kept_collation(&value.ty, self.cast_type(data_type)?);
                let try_it = matches!(kind, ast::CastKind::TryCast | ast::CastKind::SafeCast);
                self.try_cast(value, &ty, 0, try_it)
            }
            Ast::Convert { is_try, expr, data_type: Some(data_type), styles, .. } => {
                let value = self.expr(expr, level)?;
                let ty = self.kept_collation(&value.ty, self.cast_type(data_type)?);
                let style = match styles.first() {
                    Some(style) => match self.expr(style, level)?.known() {
                        Some(Value::Int(style)) => *style as i32,
                        _ => 0,
                    },
                    None => 0,
                };
                self.try_cast(value, &ty, style, *is_try)
            }
            Ast::Collate { expr, collation } => {
                let name = collation.to_string().replace(['[', ']', '"', '\''], "");
                self.collate(self.expr(expr, level)?, &name)
            }
            Ast::JsonAccess { value, path } => self.json_access(value, path, level),
            Ast::CompoundFieldAccess { root, access_chain } => self.field_access(root, access_chain, level),
            Ast::Function(function) => self.function(function, level),
            Ast::Extract { field, expr, .. } => {
                let part = field.to_string();
                functions::times::date_part(self, &part, self.expr(expr, level)?)
            }
            Ast::Ceil { expr, .. } => functions::call(self, "CEIL", vec![self.expr(expr, level)?]),
            Ast::Floor { expr, .. } => functions::call(self, "FLOOR", vec![self.expr(expr, level)?]),
            Ast::Position { expr, r#in } => {
                functions::call(self, "POSITION", vec![self.expr(expr, level)?, self.expr(r#in, level)?])
            }
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.expr(expr, level)?];
                for part in [substring_from, substring_for].into_iter().flatten() {
                    arguments.push(self.expr(part, level)?);
                }
                functions::call(self, "SUBSTRING", arguments)
            }
            Ast::Trim { expr, trim_where, trim_what, trim_characters } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "LTRIM",
                    Some(ast::TrimWhereField::Trailing) => "RTRIM",
                    _ => "TRIM",
                };
                let mut arguments = vec![self.expr(expr, level)?];
                for part in trim_what.iter().map(AsRef::as_ref).chain(trim_characters.iter().flatten()) {
                    arguments.push(self.expr(part, level)?);
                }
                functions::call(self, name, arguments)
            }
            Ast::AtTimeZone { timestamp, time_zone } => functions::times::at_time_zone(
                self,
                self.expr(timestamp, level)?,
                self.expr(time_zone, level)?,
            ),
            other => Err(self.unsupported(other)),
        }
    }

    /// A predicate, ready to filter.
    pub(crate) fn predicate(&self, ast: &Ast, level: &Level<'_>) -> Result<Expr, SqlError> {
        let typed = self.expr(ast, level)?;
        if self.is_snowflake() && (typed.ty.is_text() || typed.ty.is_semi_structured()) {
            return Ok(self.cast(typed, &DataType::Boolean)?.expr);
        }
        Ok(typed.expr)
    }

    fn cast_type(&self, ty: &ast::DataType) -> Result<DataType, SqlError> {
        let text = ty.to_string().to_uppercase();
        // Without a length, a cast means 30, a declaration 1.
        let length = Length::Fixed(30);
        Ok(match (self.dialect(), self.data_type(ty)?) {
            (Dialect::SqlServer, DataType::VarChar { collation, .. }) if !text.contains('(') => {
                DataType::VarChar { length, collation }
            }
            (Dialect::SqlServer, DataType::NVarChar { collation, .. })
                if !text.contains('(') && text != "SYSNAME" =>
            {
                DataType::NVarChar { length, collation }
            }
            (Dialect::SqlServer, DataType::Char { collation, .. }) if !text.contains('(') => {
                DataType::Char { length: 30, collation }
            }
            (Dialect::SqlServer, DataType::NChar { collation, .. }) if !text.contains('(') => {
                DataType::NChar { length: 30, collation }
            }
            (Dialect::SqlServer, DataType::VarBinary { .. }) if !text.contains('(') => {
                DataType::VarBinary { length }
            }
            (Dialect::SqlServer, DataType::Binary { .. }) if !text.contains('(') => {
                DataType::Binary { length: 30 }
            }
            (_, ty) => ty,
        })
    }

    /// A text that is cast to text keeps its collation, and with it its code page (SQL Server).
    fn kept_collation(&self, from: &DataType, to: DataType) -> DataType {
        match from.collation() {
            Some(collation) if to.is_text() && !self.is_snowflake() => with_collation(&to, collation),
            _ => to,
        }
    }

    pub(crate) fn try_cast(
        &self,
        value: Typed,
        ty: &DataType,
        style: i32,
        quiet: bool,
    ) -> Result<Typed, SqlError> {
        let cast = Cast { style, ..Cast::explicit(self.dialect()) };
        let mut typed = self.cast_with(value, ty, cast)?;
        if quiet {
            typed = Typed::new(Expr::Try(Box::new(typed.expr)), typed.ty, true);
        }
        Ok(typed)
    }

    fn collate(&self, typed: Typed, name: &str) -> Result<Typed, SqlError> {
        if self.is_snowflake() {
            return Err(self.unsupported(format!("COLLATE {name}")));
        }
        let collation = if name.eq_ignore_ascii_case("database_default") {
            self.env.db.settings().collation
        } else {
            crate::collation::Collation::parse(name)
                .ok_or_else(|| SqlError::mssql(448, format!("Invalid collation '{name}'.")))?
        };
        let ty = with_collation(&typed.ty, collation);
        let Typed { expr, nullable, ty: old } = typed;
        if ty.has_code_page()
            && old.collation().map(crate::collation::Collation::code_page) != Some(collation.code_page())
        {
            let typed = self.cast(Typed { expr, ty: old, nullable }, &ty)?;
            return Ok(typed);
        }
        // A bare column keeps its value; what changes is how it compares.
        let expr = Expr::Strict(Arc::new(|values: &[Value]| Ok(values[0].clone())), vec![expr]);
        Ok(Typed { expr, ty, nullable })
    }

    /// Resolves a column, a variable, or a function that is called without parentheses.
    fn name(&self, parts: &[String], idents: &[ast::Ident], level: &Level<'_>) -> Result<Typed, SqlError> {
        if let [one] = parts
            && one.starts_with('@')
            && !self.is_snowflake()
        {
            return self.variable(one);
        }
        if let Some(typed) = self.column(parts, level)? {
            return Ok(typed);
        }
        if let [one] = parts
            && let Some((_, ast)) = level.aliases.iter().find(|(alias, _)| self.same(alias, one))
        {
            let ast = ast.clone();
            return self.expr(&ast, level);
        }
        if let [ident] = idents
            && ident.quote_style.is_none()
            && let Some(typed) = functions::bare(self, &ident.value)?
        {
            return Ok(typed);
        }
        // Snowflake: `col.path` and `tab.col.path` of a VARIANT are written with a colon; anything else is a mistake.
        Err(self.unknown_column(parts, idents))
    }

    pub(crate) fn unknown_column(&self, parts: &[String], idents: &[ast::Ident]) -> SqlError {
        match self.dialect() {
            Dialect::SqlServer if parts.len() > 1 => SqlError::mssql(
                4104,
                format!("The multi-part identifier \"{}\" could not be bound.", parts.join(".")),
            ),
            Dialect::SqlServer => SqlError::mssql(207, format!("Invalid column name '{}'.", parts.join("."))),
            Dialect::Snowflake => {
                let line = idents.first().map_or(1, |ident| ident.span.start.line);
                let column = idents.first().map_or(0, |ident| ident.span.start.column.saturating_sub(1));
                let shown: Vec<String> = idents
                    .iter()
                    .map(|ident| {
                        if ident.quote_style.is_some() {
                            ident.to_string()
                        } else {
                            ident.value.to_uppercase()
                        }
                    })
                    .collect();
                SqlError::snowflake(
                    904,
                    "42000",
                    format!(
                        "SQL compilation error: error line {line} at position {column}\ninvalid identifier '{}'",
                        shown.join(".")
                    ),
                )
            }
        }
    }

    fn column(&self, parts: &[String], level: &Level<'_>) -> Result<Option<Typed>, SqlError> {
        let mut current = Some(level);
        let mut distance = 0;
        let mut passed: Vec<&Cell<bool>> = Vec::new();
        while let Some(here) = current {
            let columns = here.groups.as_ref().map_or(here.columns, |groups| groups.input.columns);
            if let Some(at) = self.find_column(parts, columns)? {
                let column = &columns[at];
                let (index, ty, nullable) = match &here.groups {
                    None => (at, column.ty.clone(), column.nullable),
                    Some(groups) => match groups.keys.iter().position(|(_, bare, ..)| *bare == Some(at)) {
                        Some(key) => (key, groups.keys[key].2.clone(), groups.keys[key].3),
                        None => {
                            let table = match (column.schema.is_empty(), self.dialect()) {
                                (false, Dialect::SqlServer) => {
                                    format!("{}.{}", column.schema, column.qualifier)
                                }
                                _ => column.qualifier.clone(),
                            };
                            return Err(self.not_grouped(&table, &column.name));
                        }
                    },
                };
                if distance == 0 {
                    return Ok(Some(Typed::new(Expr::Column(index), ty, nullable)));
                }
                for flag in passed {
                    flag.set(true);
                }
                return Ok(Some(Typed::new(Expr::Outer { level: distance - 1, index }, ty, nullable)));
            }
            passed.push(here.correlated);
            current = here.parent;
            distance += 1;
        }
        Ok(None)
    }

    fn not_grouped(&self, qualifier: &str, name: &str) -> SqlError {
        match self.dialect() {
            Dialect::SqlServer => SqlError::mssql(
                8120,
                format!(
                    "Column '{qualifier}.{name}' is invalid in the select list because it is not contained in either an aggregate function or the GROUP BY clause."
                ),
            ),
            Dialect::Snowflake => SqlError::snowflake(
                979,
                "42601",
                format!("SQL compilation error:\n'{qualifier}.{name}' is not a valid group by expression"),
            ),
        }
    }

    pub(crate) fn find_column(
        &self,
        parts: &[String],
        columns: &[super::ScopeColumn],
    ) -> Result<Option<usize>, SqlError> {
        let Some((name, qualifiers)) = parts.split_last() else { return Ok(None) };
        let matches = |column: &super::ScopeColumn| {
            self.same(&column.name, name)
                && match qualifiers {
                    [] => true,
                    [table] => self.same(&column.qualifier, table),
                    [.., schema, table] => {
                        self.same(&column.qualifier, table)
                            && (column.schema.is_empty() || self.same(&column.schema, schema))
                    }
                }
        };
        let mut found = columns.iter().enumerate().filter(|(_, column)| matches(column));
        let first = found.next().map(|(at, _)| at);
        if found.next().is_some() {
            return Err(match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(209, format!("Ambiguous column name '{name}'.")),
                Dialect::Snowflake => SqlError::snowflake(
                    1_006,
                    "42601",
                    format!("SQL compilation error:\nambiguous column name '{name}'"),
                ),
            });
        }
        Ok(first)
    }

    fn variable(&self, name: &str) -> Result<Typed, SqlError> {
        if name.starts_with("@@") {
            return functions::system::at_at(self, name);
        }
        match self.env.variables.get(&name.to_lowercase()) {
            Some((ty, value)) => Ok(Typed { nullable: true, ..Typed::constant(value.clone(), ty.clone()) }),
            None => Err(SqlError::mssql(137, format!("Must declare the scalar variable \"{name}\"."))
                .with_class(15)
                .with_state(2)),
        }
    }

    fn literal(&self, value: &ast::Value, level: &Level<'_>) -> Result<Typed, SqlError> {
        Ok(match value {
            ast::Value::Null => Typed::constant(Value::Null, DataType::Null),
            ast::Value::Boolean(value) => Typed::constant(Value::Bool(*value), self.boolean()),
            ast::Value::Number(digits, _) => self.number(digits)?,
            ast::Value::SingleQuotedString(text)
            | ast::Value::DollarQuotedString(ast::DollarQuotedString { value: text, .. }) => {
                self.text_literal(text)
            }
            ast::Value::NationalStringLiteral(text) => {
                let units = text.encode_utf16().count();
                let length = if units > 4000 { Length::Max } else { Length::Fixed(units.max(1) as u16) };
                Typed::constant(
                    Value::text(text),
                    DataType::NVarChar { length, collation: self.env.db.settings().collation },
                )
            }
            ast::Value::HexStringLiteral(digits) => {
                let digits =
                    if digits.len().is_multiple_of(2) { digits.clone() } else { format!("0{digits}") };
                let bytes = unhex(&digits).ok_or_else(|| self.unsupported(value))?;
                let ty = match self.dialect() {
                    Dialect::Snowflake => DataType::Bytes { length: bytes.len().max(1) as u32 },
                    Dialect::SqlServer if bytes.len() > 8000 => DataType::VarBinary { length: Length::Max },
                    Dialect::SqlServer => {
                        DataType::VarBinary { length: Length::Fixed(bytes.len().max(1) as u16) }
                    }
                };
                Typed::constant(Value::bytes(bytes), ty)
            }
            ast::Value::Placeholder(name) => return self.placeholder(name, level),
            other => return Err(self.unsupported(other)),
        })
    }

    pub(crate) fn text_literal(&self, text: &str) -> Typed {
        if self.is_snowflake() {
            let length = text.chars().count().max(1) as u32;
            return Typed::constant(Value::text(text), DataType::String { length });
        }
        let collation = self.env.db.settings().collation;
        let text = crate::text::Text::new(text);
        let bytes = collation.encode(&text);
        let length = if bytes.len() > 8000 { Length::Max } else { Length::Fixed(bytes.len().max(1) as u16) };
        let value =
            if text.as_str().is_some_and(str::is_ascii) { text.clone() } else { collation.decode(&bytes) };
        Typed::constant(Value::Text(value), DataType::VarChar { length, collation })
    }

    fn number(&self, digits: &str) -> Result<Typed, SqlError> {
        let float =
            |digits: &str| digits.parse::<f64>().map(Value::Float).map_err(|_| self.unsupported(digits));
        let snowflake = self.is_snowflake();
        if digits.contains(['e', 'E']) {
            let ty = if snowflake { DataType::Double } else { DataType::Float };
            return Ok(Typed::constant(float(digits)?, ty));
        }
        if !snowflake
            && !digits.contains('.')
            && let Ok(value) = digits.parse::<i64>()
            && i32::try_from(value).is_ok()
        {
            return Ok(Typed::constant(Value::Int(value), DataType::Int));
        }
        let Some(decimal) = Decimal::parse(digits) else {
            if snowflake {
                return Ok(Typed::constant(float(digits)?, DataType::Double));
            }
            return Err(SqlError::mssql(
                1007,
                format!(
                    "The number '{}' is out of the range for numeric representation (maximum precision 38).",
                    quote(digits)
                ),
            )
            .with_class(15));
        };
        let precision = (decimal.unscaled.unsigned_abs().to_string().len() as u8).max(decimal.scale).max(1);
        let scale = decimal.scale;
        let ty = if snowflake {
            DataType::Number { precision, scale }
        } else {
            DataType::Decimal { precision, scale }
        };
        Ok(Typed::constant(Value::Decimal(decimal), ty))
    }

    fn placeholder(&self, name: &str, level: &Level<'_>) -> Result<Typed, SqlError> {
        if let Some(number) = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) {
            // `$1` is the first column of the relation: of a staged file its record.
            let columns = level.columns;
            let at = number.checked_sub(1).filter(|at| *at < columns.len());
            return match at {
                Some(at) => Ok(Typed::new(Expr::Column(at), columns[at].ty.clone(), true)),
                None => Err(self.unknown_column(&[name.to_owned()], &[])),
            };
        }
        let at = match name.strip_prefix(':').or_else(|| name.strip_prefix('?')).unwrap_or("") {
            "" => name.len().checked_sub(1),
            number => number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
        };
        match at.and_then(|at| self.env.positional.get(at)) {
            Some((ty, value)) => Ok(Typed { nullable: true, ..Typed::constant(value.clone(), ty.clone()) }),
            None => Err(match self.dialect() {
                Dialect::Snowflake => SqlError::snowflake(
                    2_049,
                    "42601",
                    format!("SQL compilation error:\nBind variable {name} not set."),
                ),
                Dialect::SqlServer => {
                    SqlError::mssql(102, format!("Incorrect syntax near '{name}'.")).with_class(15)
                }
            }),
        }
    }

    fn binary(&self, left: &Ast, op: &Op, right: &Ast, level: &Level<'_>) -> Result<Typed, SqlError> {
        if matches!(op, Op::And | Op::Or) {
            // Long chains lean to the left: walk them in a loop, not by recursion.
            let mut parts = vec![right];
            let mut rest = left;
            while let Ast::BinaryOp { left, op: same, right } = rest
                && same == op
            {
                parts.push(right);
                rest = left;
            }
            parts.push(rest);
            let bound = parts
                .into_iter()
                .rev()
                .map(|part| self.predicate(part, level))
                .collect::<Result<Vec<_>, _>>()?;
            let expr = if *op == Op::And { Expr::And(bound) } else { Expr::Or(bound) };
            return Ok(Typed::new(expr, self.boolean(), true));
        }
        let (a, b) = (self.expr(left, level)?, self.expr(right, level)?);
        if let Some(comparison) = comparison_of(op) {
            return self.compare(comparison, a, b);
        }
        match op {
            Op::Plus => self.arithmetic(Arithmetic::Add, a, b),
            Op::Minus => self.arithmetic(Arithmetic::Subtract, a, b),
            Op::Multiply => self.arithmetic(Arithmetic::Multiply, a, b),
            Op::Divide => self.arithmetic(Arithmetic::Divide, a, b),
            Op::Modulo => self.arithmetic(Arithmetic::Modulo, a, b),
            Op::StringConcat => self.concat(a, b),
            Op::BitwiseAnd => self.bitwise(a, b, |a, b| a & b),
            Op::BitwiseOr => self.bitwise(a, b, |a, b| a | b),
            Op::BitwiseXor => self.bitwise(a, b, |a, b| a ^ b),
            other => Err(self.unsupported(other)),
        }
    }

    pub(crate) fn bitwise(
        &self,
        a: Typed,
        b: Typed,
        combine: fn(i64, i64) -> i64,
    ) -> Result<Typed, SqlError> {
        let ty = common(self.dialect(), &a.ty, &b.ty);
        Ok(self.strict(vec![a, b], ty, move |values| {
            let whole = |value: &Value| exact(value).trunc() as i64;
            let result = combine(whole(&values[0]), whole(&values[1]));
            Ok(match &values[0] {
                Value::Decimal(_) => Value::number(i128::from(result)),
                Value::Bool(_) => Value::Bool(result != 0),
                _ => Value::Int(result),
            })
        }))
    }

    fn unary(&self, op: UnaryOperator, inner: &Ast, level: &Level<'_>) -> Result<Typed, SqlError> {
        match op {
            UnaryOperator::Not => {
                let inner = self.predicate(inner, level)?;
                Ok(Typed::new(Expr::Not(Box::new(inner)), self.boolean(), true))
            }
            UnaryOperator::Plus => self.expr(inner, level),
            UnaryOperator::Minus => {
                if let Ast::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. }) = inner
                    && !digits.starts_with('-')
                {
                    return self.number(&format!("-{digits}"));
                }
                let value = self.expr(inner, level)?;
                if value.ty.is_text() || value.ty == DataType::Null || value.ty.is_semi_structured() {
                    let zero = self.number("0")?;
                    return self.arithmetic(Arithmetic::Subtract, zero, value);
                }
                let ty = value.ty.clone();
                Ok(self.strict(vec![value], ty, |values| {
                    Ok(match &values[0] {
                        Value::Int(value) => Value::Int(value.wrapping_neg()),
                        Value::Decimal(value) => Value::Decimal(Decimal::new(-value.unscaled, value.scale)),
                        Value::Real(value) => Value::Real(-value),
                        Value::Float(value) => Value::Float(-value),
                        other => other.clone(),
                    })
                }))
            }
            UnaryOperator::BitwiseNot => {
                let value = self.expr(inner, level)?;
                let ty = value.ty.clone();
                Ok(self.strict(vec![value], ty, |values| {
                    Ok(match &values[0] {
                        Value::Int(value) => Value::Int(!value),
                        Value::Bool(value) => Value::Bool(!value),
                        other => other.clone(),
                    })
                }))
            }
            other => Err(self.unsupported(format!("{other}{inner}"))),
        }
    }

    fn is_null(&self, inner: &Ast, negated: bool, level: &Level<'_>) -> Result<Typed, SqlError> {
        let inner = self.expr(inner, level)?;
        Ok(Typed::new(Expr::IsNull(Box::new(inner.expr), negated), self.boolean(), false))
    }

    fn is_truth(
        &self,
        inner: &Ast,
        wanted: bool,
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let inner = self.predicate(inner, level)?;
        let expr = Expr::Call(
            Arc::new(move |values: &[Value]| {
                Ok(Value::Bool(match &values[0] {
                    Value::Bool(value) => (*value == wanted) != negated,
                    _ => negated,
                }))
            }),
            vec![inner],
        );
        Ok(Typed::new(expr, self.boolean(), false))
    }

    fn distinct_from(&self, a: &Ast, b: &Ast, negated: bool, level: &Level<'_>) -> Result<Typed, SqlError> {
        let (a, b, order) = self.comparable(self.expr(a, level)?, self.expr(b, level)?)?;
        let expr = Expr::Call(
            Arc::new(move |values: &[Value]| {
                let equal = match (values[0].is_null(), values[1].is_null()) {
                    (true, true) => true,
                    (false, false) => crate::keys::compare(&values[0], &values[1], order).is_eq(),
                    _ => false,
                };
                Ok(Value::Bool(equal == negated))
            }),
            vec![a.expr, b.expr],
        );
        Ok(Typed::new(expr, self.boolean(), false))
    }

    fn in_list(&self, expr: &Ast, list: &[Ast], negated: bool, level: &Level<'_>) -> Result<Typed, SqlError> {
        let mut operand = self.expr(expr, level)?;
        let mut order = Order::of(self.dialect(), &operand.ty);
        let mut bound = Vec::with_capacity(list.len());
        for item in list {
            let (left, right, common_order) = self.comparable(operand, self.expr(item, level)?)?;
            operand = left;
            order = common_order;
            bound.push(right.expr);
        }
        let expr = Expr::InList {
            operand: Box::new(operand.expr),
            list: bound,
            order,
            negated,
            keys: OnceLock::new(),
        };
        Ok(Typed::new(expr, self.boolean(), true))
    }

    fn in_subquery(
        &self,
        expr: &Ast,
        query: &ast::Query,
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let operand = self.expr(expr, level)?;
        let (mut subquery, ty) = self.subquery(query, level)?;
        let inner = Typed::new(Expr::Column(0), ty, true);
        let (operand, inner, order) = self.comparable(operand, inner)?;
        subquery.plan = Arc::new(Plan::Project { input: subquery.plan, exprs: vec![inner.expr] });
        let expr = Expr::InSubquery { operand: Box::new(operand.expr), subquery, order, negated };
        Ok(Typed::new(expr, self.boolean(), true))
    }

    fn quantified(
        &self,
        left: &Ast,
        op: &Op,
        right: &Ast,
        all: bool,
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let (Some(comparison), Ast::Subquery(query)) = (comparison_of(op), right) else {
            return Err(self.unsupported(format!("{op} {} {right}", if all { "ALL" } else { "ANY" })));
        };
        let operand = self.expr(left, level)?;
        let (mut subquery, ty) = self.subquery(query, level)?;
        let (operand, inner, order) = self.comparable(operand, Typed::new(Expr::Column(0), ty, true))?;
        subquery.plan = Arc::new(Plan::Project { input: subquery.plan, exprs: vec![inner.expr] });
        let operand = Box::new(operand.expr);
        let expr = Expr::Quantified { operand, subquery, comparison, order, all };
        Ok(Typed::new(expr, self.boolean(), true))
    }

    fn subquery(&self, query: &ast::Query, level: &Level<'_>) -> Result<(Subquery, DataType), SqlError> {
        let correlated = Cell::new(false);
        let (plan, columns) = self.query_in(query, Some((level, &correlated)))?;
        let many = match self.dialect() {
            Dialect::SqlServer => SqlError::mssql(
                512,
                "Subquery returned more than 1 value. This is not permitted when the subquery follows =, !=, <, <= , >, >= or when the subquery is used as an expression.",
            ),
            Dialect::Snowflake => {
                SqlError::snowflake(90_150, "22000", "Single-row subquery returns more than one row.")
            }
        };
        let ty = columns.first().map_or(DataType::Null, |column| column.ty.clone());
        Ok((Subquery { plan, correlated: correlated.get(), many, cache: OnceLock::new() }, ty))
    }

    fn case(
        &self,
        operand: Option<&Ast>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Ast>,
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for when in conditions {
            tests.push(match operand {
                None => self.predicate(&when.condition, level)?,
                Some(operand) => {
                    self.compare(
                        Comparison::Equal,
                        self.expr(operand, level)?,
                        self.expr(&when.condition, level)?,
                    )?
                    .expr
                }
            });
            results.push(self.expr(&when.result, level)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expr(otherwise, level)?,
            None => Typed::constant(Value::Null, DataType::Null),
        });
        let (mut results, ty, nullable) = self.unify(results)?;
        let otherwise = Box::new(results.pop().unwrap_or(Expr::Const(Value::Null)));
        let branches = tests.into_iter().zip(results).collect();
        Ok(Typed::new(Expr::Case { branches, otherwise }, ty, nullable))
    }

    /// Brings expressions to their common type.
    pub(crate) fn unify(&self, parts: Vec<Typed>) -> Result<(Vec<Expr>, DataType, bool), SqlError> {
        let ty = parts.iter().fold(DataType::Null, |ty, part| common(self.dialect(), &ty, &part.ty));
        let nullable = parts.iter().any(|part| part.nullable);
        let exprs =
            parts.into_iter().map(|part| Ok(self.cast(part, &ty)?.expr)).collect::<Result<_, SqlError>>()?;
        Ok((exprs, ty, nullable))
    }

    fn like(
        &self,
        expr: &Ast,
        pattern: &Ast,
        escape: Option<&Ast>,
        negated: bool,
        fold: bool,
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let text = self.wide_text();
        let value = self.expr(expr, level)?;
        let value = if value.ty.is_text() { value } else { self.cast(value, &text)? };
        let pattern = self.expr(pattern, level)?;
        let pattern = if pattern.ty.is_text() { pattern } else { self.cast(pattern, &text)? };
        let mut arguments = vec![value, pattern];
        if let Some(escape) = escape {
            arguments.push(self.expr(escape, level)?);
        }
        let collation = (!self.is_snowflake()).then(|| arguments[0].ty.collation().unwrap_or_default());
        let ty = self.boolean();
        Ok(self.strict(arguments, ty, move |values| {
            let text = |at: usize| match values.get(at) {
                Some(Value::Text(text)) => text.lossy().into_owned(),
                _ => String::new(),
            };
            let escape = text(2).chars().next();
            let found = functions::text::like(&text(0), &text(1), escape, collation, fold);
            Ok(Value::Bool(found != negated))
        }))
    }

    fn json_access(&self, value: &Ast, path: &ast::JsonPath, level: &Level<'_>) -> Result<Typed, SqlError> {
        let mut typed = self.expr(value, level)?;
        for element in &path.path {
            typed = match element {
                ast::JsonPathElem::Dot { key, .. } => self.member(typed, key)?,
                ast::JsonPathElem::Bracket { key } | ast::JsonPathElem::ColonBracket { key } => {
                    let key = self.expr(key, level)?;
                    self.item(typed, key)?
                }
            };
        }
        Ok(typed)
    }

    fn field_access(
        &self,
        root: &Ast,
        chain: &[ast::AccessExpr],
        level: &Level<'_>,
    ) -> Result<Typed, SqlError> {
        let mut typed = self.expr(root, level)?;
        for access in chain {
            typed = match access {
                ast::AccessExpr::Dot(Ast::Identifier(ident)) => self.member(typed, &ident.value)?,
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let key = self.expr(index, level)?;
                    self.item(typed, key)?
                }
                other => return Err(self.unsupported(other)),
            };
        }
        Ok(typed)
    }

    fn member(&self, typed: Typed, key: &str) -> Result<Typed, SqlError> {
        let key = key.to_owned();
        if !typed.ty.is_semi_structured() {
            return Err(self.unsupported(format!("{}:{key}", typed.ty)));
        }
        let mut typed = self.strict(vec![typed], DataType::Variant, move |values| {
            Ok(match &values[0] {
                Value::Variant(variant) => functions::variant::member(variant, &key),
                _ => Value::Null,
            })
        });
        typed.nullable = true;
        Ok(typed)
    }

    pub(crate) fn item(&self, typed: Typed, key: Typed) -> Result<Typed, SqlError> {
        if !typed.ty.is_semi_structured() {
            return Err(self.unsupported(format!("{}[…]", typed.ty)));
        }
        let mut typed = self.strict(vec![typed, key], DataType::Variant, |values| {
            Ok(match (&values[0], &values[1]) {
                (Value::Variant(variant), Value::Text(key)) => {
                    functions::variant::member(variant, &key.lossy())
                }
                (Value::Variant(variant), index) => {
                    match (variant.as_ref(), usize::try_from(exact(index).trunc())) {
                        (Variant::Array(items), Ok(at)) => {
                            items.get(at).map_or(Value::Null, functions::variant::wrap)
                        }
                        _ => Value::Null,
                    }
                }
                _ => Value::Null,
            })
        });
        typed.nullable = true;
        Ok(typed)
    }

    /// An expression without columns: its value.
    pub(crate) fn constant(&self, ast: &Ast) -> Result<(Value, DataType), SqlError> {
        let flag = Cell::new(false);
        let level = Level::new(&[], None, &flag);
        let typed = self.expr(ast, &level)?;
        let value = typed.expr.eval(&[], &crate::expr::Frame::default())?;
        Ok((value, typed.ty))
    }
}

fn comparison_of(op: &Op) -> Option<Comparison> {
    Some(match op {
        Op::Eq => Comparison::Equal,
        Op::NotEq => Comparison::NotEqual,
        Op::Lt => Comparison::Less,
        Op::LtEq => Comparison::LessEqual,
        Op::Gt => Comparison::Greater,
        Op::GtEq => Comparison::GreaterEqual,
        _ => return None,
    })
}

pub(crate) fn with_collation(ty: &DataType, collation: crate::collation::Collation) -> DataType {
    match ty {
        DataType::Char { length, .. } => DataType::Char { length: *length, collation },
        DataType::VarChar { length, .. } => DataType::VarChar { length: *length, collation },
        DataType::NChar { length, .. } => DataType::NChar { length: *length, collation },
        DataType::NVarChar { length, .. } => DataType::NVarChar { length: *length, collation },
        DataType::Text { .. } => DataType::Text { collation },
        DataType::NText { .. } => DataType::NText { collation },
        other => other.clone(),
    }
}

/// Whether two expressions are written alike; bare columns are compared after they are resolved.
fn same_ast(a: &Ast, b: &Ast) -> bool {
    !matches!(a, Ast::Identifier(_) | Ast::CompoundIdentifier(_) | Ast::Value(_)) && a == b
}
