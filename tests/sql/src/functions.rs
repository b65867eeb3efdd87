//! Scalar functions of both dialects.

use sqlparser::ast::Expr as Ast;

use crate::{
    bind::{Binder, Level},
    error::SqlError,
    expr::{Comparison, Expr, Typed},
    types::{DataType, Dialect},
    value::Value,
};

pub(crate) mod digest;
mod dotnet;
pub(crate) mod formats;
pub(crate) mod numbers;
pub(crate) mod system;
pub(crate) mod text;
pub(crate) mod times;
mod tsql;
pub(crate) mod variant;

/// Binds a call: functions whose arguments are not plain values first, then the others.
pub(crate) fn bind(
    binder: &Binder<'_>,
    name: &str,
    asts: &[&Ast],
    level: &Level<'_>,
) -> Result<Typed, SqlError> {
    let expr = |at: usize| match asts.get(at) {
        Some(ast) => binder.expr(ast, level),
        None => Err(unknown(binder, name, &[])),
    };
    if times::takes_part(name) && asts.len() >= 2 {
        let part = match asts[0] {
            Ast::Identifier(ident) => ident.value.clone(),
            Ast::Value(value) => value.value.clone().into_string().unwrap_or_default(),
            other => other.to_string(),
        };
        let rest = asts[1..].iter().map(|ast| binder.expr(ast, level)).collect::<Result<Vec<_>, _>>()?;
        return times::with_part(binder, name, &part, rest);
    }
    match name {
        "COALESCE" | "NVL" | "IFNULL" => {
            let parts = asts.iter().map(|ast| binder.expr(ast, level)).collect::<Result<Vec<_>, _>>()?;
            let nullable = parts.iter().all(|part| part.nullable);
            let (exprs, ty, _) = binder.unify(parts)?;
            Ok(Typed::new(Expr::Coalesce(exprs), ty, nullable))
        }
        "ISNULL" => {
            // SQL Server: the first argument's type, unlike COALESCE.
            let first = expr(0)?;
            let second = expr(1)?;
            let ty = if first.ty == DataType::Null { second.ty.clone() } else { first.ty.clone() };
            let nullable = first.nullable && second.nullable;
            let (first, second) = (binder.cast(first, &ty)?, binder.cast(second, &ty)?);
            Ok(Typed::new(Expr::Coalesce(vec![first.expr, second.expr]), ty, nullable))
        }
        "IIF" | "IFF" => {
            let condition = asts.first().map(|ast| binder.predicate(ast, level)).transpose()?;
            let (mut results, ty, nullable) = binder.unify(vec![expr(1)?, expr(2)?])?;
            let otherwise = Box::new(results.pop().unwrap_or(Expr::Const(Value::Null)));
            let branches = condition.into_iter().zip(results).collect();
            Ok(Typed::new(Expr::Case { branches, otherwise }, ty, nullable))
        }
        "CHOOSE" if !binder.is_snowflake() && asts.len() >= 2 => {
            let mut branches = Vec::new();
            for at in 1..asts.len() {
                let place = Typed::constant(Value::Int(at as i64), DataType::Int);
                branches.push(binder.compare(Comparison::Equal, expr(0)?, place)?.expr);
            }
            let results =
                asts[1..].iter().map(|ast| binder.expr(ast, level)).collect::<Result<Vec<_>, _>>()?;
            let (results, ty, _) = binder.unify(results)?;
            let branches = branches.into_iter().zip(results).collect();
            Ok(Typed::new(Expr::Case { branches, otherwise: Box::new(Expr::Const(Value::Null)) }, ty, true))
        }
        "NVL2" => {
            let test = Expr::IsNull(Box::new(expr(0)?.expr), true);
            let (mut results, ty, nullable) = binder.unify(vec![expr(1)?, expr(2)?])?;
            let otherwise = Box::new(results.pop().unwrap_or(Expr::Const(Value::Null)));
            Ok(Typed::new(
                Expr::Case { branches: std::iter::once(test).zip(results).collect(), otherwise },
                ty,
                nullable,
            ))
        }
        "NULLIF" => {
            let equal = binder.compare(Comparison::Equal, expr(0)?, expr(1)?)?.expr;
            let value = expr(0)?;
            let branches = vec![(equal, Expr::Const(Value::Null))];
            Ok(Typed::new(Expr::Case { branches, otherwise: Box::new(value.expr) }, value.ty, true))
        }
        "ZEROIFNULL" => {
            let value = expr(0)?;
            let (exprs, ty, _) = binder.unify(vec![
                value,
                binder.expr(&Ast::value(sqlparser::ast::Value::Number("0".to_owned(), false)), level)?,
            ])?;
            Ok(Typed::new(Expr::Coalesce(exprs), ty, false))
        }
        "DECODE" if binder.is_snowflake() && asts.len() >= 3 => {
            let mut branches = Vec::new();
            let mut results = Vec::new();
            for pair in asts[1..].chunks_exact(2) {
                branches
                    .push(binder.compare(Comparison::Equal, expr(0)?, binder.expr(pair[0], level)?)?.expr);
                results.push(binder.expr(pair[1], level)?);
            }
            results.push(if asts.len().is_multiple_of(2) {
                expr(asts.len() - 1)?
            } else {
                Typed::constant(Value::Null, DataType::Null)
            });
            let (mut results, ty, nullable) = binder.unify(results)?;
            let otherwise = Box::new(results.pop().unwrap_or(Expr::Const(Value::Null)));
            Ok(Typed::new(
                Expr::Case { branches: branches.into_iter().zip(results).collect(), otherwise },
                ty,
                nullable,
            ))
        }
        _ => {
            let arguments = asts.iter().map(|ast| binder.expr(ast, level)).collect::<Result<Vec<_>, _>>()?;
            call(binder, name, arguments)
        }
    }
}

/// Binds a call of plain values.
pub(crate) fn call(binder: &Binder<'_>, name: &str, arguments: Vec<Typed>) -> Result<Typed, SqlError> {
    let mut arguments = Some(arguments);
    for family in
        [tsql::call, numbers::call, text::call, times::call, digest::call, variant::call, system::call]
    {
        if let Some(typed) = family(binder, name, &mut arguments)? {
            return Ok(typed);
        }
    }
    let arguments = arguments.unwrap_or_default();
    if is_known(binder, name) {
        Err(unknown(binder, name, &arguments))
    } else {
        Err(unknown(binder, name, &[]))
    }
}

/// Whether some number of arguments makes this the name of a function.
fn is_known(binder: &Binder<'_>, name: &str) -> bool {
    const MOST_ARGUMENTS: usize = 4;
    (0..=MOST_ARGUMENTS).any(|count| {
        [numbers::call, text::call, times::call, digest::call, variant::call, system::call].iter().any(
            |family| {
                let nothing = (0..count).map(|_| Typed::constant(Value::Null, DataType::Null));
                let mut arguments = Some(nothing.collect());
                !matches!(family(binder, name, &mut arguments), Ok(None))
            },
        )
    })
}

/// A function's arguments, until one of the families takes them.
pub(crate) type Arguments = Option<Vec<Typed>>;

/// Functions that may be called without parentheses.
pub(crate) fn bare(binder: &Binder<'_>, name: &str) -> Result<Option<Typed>, SqlError> {
    let upper = name.to_uppercase();
    let known = match binder.dialect() {
        Dialect::SqlServer => matches!(
            upper.as_str(),
            "CURRENT_TIMESTAMP" | "CURRENT_USER" | "SESSION_USER" | "SYSTEM_USER" | "USER"
        ),
        Dialect::Snowflake => {
            matches!(
                upper.as_str(),
                "CURRENT_TIMESTAMP"
                    | "CURRENT_DATE"
                    | "CURRENT_TIME"
                    | "CURRENT_USER"
                    | "LOCALTIMESTAMP"
                    | "LOCALTIME"
                    | "SYSDATE"
            )
        }
    };
    if known { call(binder, &upper, Vec::new()).map(Some) } else { Ok(None) }
}

/// The error for a function that there is not, or not with these arguments.
pub(crate) fn unknown(binder: &Binder<'_>, name: &str, arguments: &[Typed]) -> SqlError {
    match binder.dialect() {
        Dialect::SqlServer => {
            SqlError::mssql(195, format!("'{name}' is not a recognized built-in function name."))
                .with_class(15)
                .with_state(10)
        }
        Dialect::Snowflake if arguments.is_empty() => {
            SqlError::snowflake(2_140, "42601", format!("SQL compilation error:\nUnknown function {name}"))
        }
        Dialect::Snowflake => {
            let types: Vec<String> = arguments.iter().map(|argument| argument.ty.to_string()).collect();
            SqlError::snowflake(
                1_065,
                "22023",
                format!(
                    "SQL compilation error:\nUnknown function {name} or invalid argument types: ({})",
                    types.join(", ")
                ),
            )
        }
    }
}

/// Takes the arguments if there are as many as wanted.
pub(crate) fn take(arguments: &mut Arguments, counts: std::ops::RangeInclusive<usize>) -> Option<Vec<Typed>> {
    arguments.take_if(|arguments| counts.contains(&arguments.len()))
}
