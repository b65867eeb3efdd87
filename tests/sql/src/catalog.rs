//! Catalog views and table functions of both dialects.

use std::sync::Arc;

use sqlparser::ast;

use crate::{
    bind::{Binder, ScopeColumn, query::Bound},
    error::SqlError,
    exec::Plan,
    types::{Column, DataType, Dialect, Length},
    value::{Row, Value},
};

mod inferred;
pub(crate) mod mssql;
pub(crate) mod procedures;
pub(crate) mod snowflake;

/// A small result that is made at once.
pub(crate) struct Sheet {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

impl Sheet {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, values: Vec<Value>) {
        self.rows.push(Row::from(values));
    }

    /// As a relation of this name.
    pub(crate) fn bound(self, name: &str, schema: &str) -> Bound {
        let columns = self
            .columns
            .into_iter()
            .map(|column| ScopeColumn {
                schema: schema.to_owned(),
                ..ScopeColumn::new(name, &column.name, column.ty, column.nullable)
            })
            .collect();
        (Arc::new(Plan::Rows(Arc::new(self.rows))), columns)
    }
}

pub(crate) fn text(name: &str) -> Column {
    Column::new(name, DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT }, true)
}

pub(crate) fn number(name: &str) -> Column {
    Column::new(name, DataType::Number { precision: 38, scale: 0 }, true)
}

pub(crate) fn time(name: &str) -> Column {
    Column::new(name, DataType::TimestampLtz { scale: 3 }, true)
}

pub(crate) fn int(name: &str) -> Column {
    Column::new(name, DataType::Int, true)
}

pub(crate) fn bigint(name: &str) -> Column {
    Column::new(name, DataType::BigInt, true)
}

pub(crate) fn tinyint(name: &str) -> Column {
    Column::new(name, DataType::TinyInt, true)
}

pub(crate) fn smallint(name: &str) -> Column {
    Column::new(name, DataType::SmallInt, true)
}

pub(crate) fn bit(name: &str) -> Column {
    Column::new(name, DataType::Bit, true)
}

pub(crate) fn sysname(name: &str) -> Column {
    Column::new(
        name,
        DataType::NVarChar { length: Length::Fixed(128), collation: crate::collation::Collation::default() },
        true,
    )
}

pub(crate) fn datetime(name: &str) -> Column {
    Column::new(name, DataType::DateTime, true)
}

/// The catalog view of this name, if it is one.
pub(crate) fn view(binder: &Binder<'_>, parts: &[String]) -> Result<Option<Bound>, SqlError> {
    match binder.dialect() {
        Dialect::SqlServer => mssql::view(binder, parts),
        Dialect::Snowflake => Ok(snowflake::view(binder, parts)),
    }
}

/// A function that returns a table.
pub(crate) fn table_function(
    binder: &Binder<'_>,
    name: &ast::ObjectName,
    arguments: &ast::TableFunctionArgs,
) -> Result<Bound, SqlError> {
    let bare = binder.parts(name)?.pop().unwrap_or_default().to_uppercase();
    let (mut values, mut names) = (Vec::new(), Vec::new());
    for argument in &arguments.args {
        if let ast::FunctionArg::Named { name, .. } = argument {
            names.push(name.value.to_uppercase());
        }
        match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast))
            | ast::FunctionArg::Named { arg: ast::FunctionArgExpr::Expr(ast), .. } => {
                // `TABLE(GENERATOR(ROWCOUNT => 10))` nests its function.
                if let ast::Expr::Function(inner) = ast
                    && bare == "TABLE"
                    && let ast::FunctionArguments::List(list) = &inner.args
                {
                    let inner_arguments = ast::TableFunctionArgs { args: list.args.clone(), settings: None };
                    return table_function(binder, &inner.name, &inner_arguments);
                }
                values.push(binder.constant(ast)?.0);
            }
            other => return Err(binder.unsupported(format!("{name}({other})"))),
        }
    }
    match (binder.dialect(), bare.as_str()) {
        (Dialect::SqlServer, "DM_EXEC_DESCRIBE_FIRST_RESULT_SET") => mssql::describe(binder, &values),
        (Dialect::SqlServer, "STRING_SPLIT") => {
            let shown = |at: usize| match values.get(at) {
                Some(Value::Text(text)) => text.lossy().into_owned(),
                _ => String::new(),
            };
            let (all, by) = (shown(0), shown(1));
            let ordinal =
                values.get(2).is_some_and(|wanted| crate::bind::operators::exact(wanted).trunc() == 1);
            let mut columns = vec![Column::new("value", binder.wide_text(), false)];
            if ordinal {
                columns.push(bigint("ordinal"));
            }
            let mut sheet = Sheet::new(&columns);
            for (at, part) in all.split(by.as_str()).enumerate() {
                let number = ordinal.then_some(Value::Int(at as i64 + 1));
                sheet.push([Value::text(part)].into_iter().chain(number).collect());
            }
            Ok(sheet.bound("", ""))
        }
        (Dialect::SqlServer, "GENERATE_SERIES") => {
            let at =
                |at: usize| values.get(at).map(|value| crate::bind::operators::exact(value).trunc() as i64);
            let (from, to, step) = (at(0).unwrap_or(1), at(1).unwrap_or(0), at(2).unwrap_or(1));
            let mut sheet = Sheet::new(&[int("value")]);
            let mut current = from;
            while step != 0
                && (if step > 0 { current <= to } else { current >= to })
                && sheet.rows.len() < 5_000_000
            {
                sheet.push(vec![Value::Int(current)]);
                current += step;
            }
            Ok(sheet.bound("", ""))
        }
        (Dialect::Snowflake, "INFER_SCHEMA") => inferred::schema(binder, &names, &values),
        (Dialect::Snowflake, "GENERATOR") => {
            let rows = values
                .first()
                .map_or(0, |value| crate::bind::operators::exact(value).trunc())
                .clamp(0, 5_000_000);
            let mut sheet = Sheet::new(&[]);
            for _ in 0..rows {
                sheet.push(Vec::new());
            }
            Ok(sheet.bound("", ""))
        }
        (Dialect::SqlServer, _) => Err(SqlError::mssql(208, format!("Invalid object name '{name}'."))),
        (Dialect::Snowflake, _) => Err(SqlError::snowflake(
            2_141,
            "42601",
            format!("SQL compilation error:\nUnknown table function {bare}"),
        )),
    }
}
