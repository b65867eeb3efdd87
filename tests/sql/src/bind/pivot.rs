//! PIVOT and UNPIVOT, as the grouped query or the union that they stand for.

use sqlparser::ast;

use crate::{
    bind::{
        Binder, Cte, ScopeColumn,
        query::{Bound, Outer},
    },
    error::SqlError,
};

/// The name under which the pivoted relation stands in the query that is made of it.
const SOURCE: &str = "\u{1}pivoted";

fn quoted(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

impl Binder<'_> {
    /// `FROM t PIVOT (SUM(v) FOR k IN ([a], [b])) AS p`.
    pub(crate) fn pivot(
        &self,
        source: Bound,
        aggregates: &[ast::ExprWithAlias],
        key: &[ast::Expr],
        values: &ast::PivotValueSource,
        outer: Outer<'_>,
    ) -> Result<Bound, SqlError> {
        let ([aggregate], [key], ast::PivotValueSource::List(values)) = (aggregates, key, values) else {
            return Err(self.unsupported("PIVOT of several aggregates, keys or of a query"));
        };
        let ast::Expr::Function(function) = &aggregate.expr else {
            return Err(self.unsupported(&aggregate.expr));
        };
        let argument = match &function.args {
            ast::FunctionArguments::List(list) => match list.args.as_slice() {
                [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument))] => last_name(argument),
                _ => None,
            },
            _ => None,
        };
        let (Some(argument), Some(key)) = (argument, last_name(key)) else {
            return Err(self.unsupported(&aggregate.expr));
        };
        let rest: Vec<String> = source
            .1
            .iter()
            .map(|column| column.name.clone())
            .filter(|name| !self.same(name, &key) && !self.same(name, &argument))
            .map(|name| quoted(&name))
            .collect();
        let name = &function.name;
        let mut shown = rest.clone();
        for value in values {
            let Some(value) = last_name(&value.expr) else { return Err(self.unsupported(&value.expr)) };
            shown.push(format!(
                "{name}(CASE WHEN {} = N'{}' THEN {} END) AS {}",
                quoted(&key),
                value.replace('\'', "''"),
                quoted(&argument),
                quoted(&value)
            ));
        }
        let grouped = if rest.is_empty() { String::new() } else { format!(" GROUP BY {}", rest.join(", ")) };
        let sql = format!("SELECT {} FROM {}{grouped}", shown.join(", "), quoted(SOURCE));
        self.over(source, &sql, outer)
    }

    /// `FROM t UNPIVOT (v FOR k IN (a, b)) AS u`: rows without NULL values.
    pub(crate) fn unpivot(
        &self,
        source: Bound,
        value: &ast::Expr,
        key: &ast::Ident,
        columns: &[ast::ExprWithAlias],
        outer: Outer<'_>,
    ) -> Result<Bound, SqlError> {
        let Some(value) = last_name(value) else { return Err(self.unsupported(value)) };
        let names = columns
            .iter()
            .map(|column| last_name(&column.expr).ok_or_else(|| self.unsupported(&column.expr)))
            .collect::<Result<Vec<_>, _>>()?;
        let rest: String = source
            .1
            .iter()
            .filter(|column| !names.iter().any(|name| self.same(name, &column.name)))
            .map(|column| format!("{}, ", quoted(&column.name)))
            .collect();
        let parts: Vec<String> = names
            .iter()
            .map(|name| {
                format!(
                    "SELECT {rest}{column} AS {}, N'{}' AS {} FROM {} WHERE {column} IS NOT NULL",
                    quoted(&value),
                    name.replace('\'', "''"),
                    quoted(&key.value),
                    quoted(SOURCE),
                    column = quoted(name),
                )
            })
            .collect();
        self.over(source, &parts.join(" UNION ALL "), outer)
    }

    /// Binds a query over a relation that has no name of its own.
    fn over(&self, (plan, columns): Bound, sql: &str, outer: Outer<'_>) -> Result<Bound, SqlError> {
        let query = crate::script::parse_query(self.dialect(), sql)?;
        let columns = columns
            .into_iter()
            .map(|column| ScopeColumn { qualifier: SOURCE.to_owned(), schema: String::new(), ..column })
            .collect();
        self.ctes.borrow_mut().push(Cte { name: SOURCE.to_owned(), columns, plan });
        let bound = self.query_in(&query, outer);
        self.ctes.borrow_mut().pop();
        bound
    }
}

/// The last part of a column's name, or the text of a literal.
fn last_name(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Identifier(ident) => Some(ident.value.clone()),
        ast::Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _)
            | ast::Value::SingleQuotedString(text)
            | ast::Value::NationalStringLiteral(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}
