//! Variables must be declared before they are named: SQL Server checks a whole batch before it runs any of it.

use std::{collections::HashSet, ops::ControlFlow};

use sqlparser::ast::{self, Expr as Ast, Visit};

use super::{CursorStep, Line, Step};
use crate::error::{Effect, SqlError};

struct Search<'k> {
    known: &'k HashSet<String>,
    line: u32,
}

impl ast::Visitor for Search<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, ast: &Ast) -> ControlFlow<SqlError> {
        match ast {
            Ast::Identifier(ident)
                if ident.quote_style.is_none()
                    && ident.value.starts_with('@')
                    && !ident.value.starts_with("@@")
                    && !self.known.contains(&ident.value.to_lowercase()) =>
            {
                let line = match ident.span.start.line {
                    0 => self.line,
                    line => line as u32,
                };
                ControlFlow::Break(undeclared(&ident.value, line))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn undeclared(name: &str, line: u32) -> SqlError {
    SqlError::mssql(137, format!("Must declare the scalar variable \"{name}\"."))
        .with_class(15)
        .with_state(2)
        .at_line(line)
        .ending(Effect::Batch)
}

fn looked_at(node: &impl Visit, known: &HashSet<String>, line: u32) -> Result<(), SqlError> {
    match node.visit(&mut Search { known, line }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// `known`: what the caller declared, in lower case.
pub(super) fn check(lines: &[Line], mut known: HashSet<String>) -> Result<(), SqlError> {
    walk(lines, &mut known)
}

fn walk(lines: &[Line], known: &mut HashSet<String>) -> Result<(), SqlError> {
    for line in lines {
        let number = line.number;
        match &line.step {
            Step::Sql(statement) => looked_at(statement, known, number)?,
            Step::Recursion(_, step) => {
                if let Step::Sql(statement) = step.as_ref() {
                    looked_at(statement, known, number)?;
                }
            }
            Step::Declare(list) => {
                for (name, _, value) in list {
                    if let Some(value) = value {
                        looked_at(value, known, number)?;
                    }
                    known.insert(name.to_lowercase());
                }
            }
            Step::Assign(name, value) => {
                if !known.contains(&name.to_lowercase()) {
                    return Err(undeclared(name, number).with_state(1));
                }
                looked_at(value.as_ref(), known, number)?;
            }
            Step::If { condition, then, otherwise } => {
                looked_at(condition.as_ref(), known, number)?;
                walk(std::slice::from_ref(then), known)?;
                if let Some(otherwise) = otherwise {
                    walk(std::slice::from_ref(otherwise), known)?;
                }
            }
            Step::While { condition, body } => {
                looked_at(condition.as_ref(), known, number)?;
                walk(std::slice::from_ref(body), known)?;
            }
            Step::Block(lines) => walk(lines, known)?,
            Step::Try { body, handler } => {
                walk(body, known)?;
                walk(handler, known)?;
            }
            Step::Print(value) => looked_at(value.as_ref(), known, number)?,
            Step::Return(Some(value)) => looked_at(value.as_ref(), known, number)?,
            Step::RaiseError(list) | Step::Throw(list) | Step::ExecuteText(list) => {
                looked_at(list, known, number)?;
            }
            Step::Execute { into, arguments, .. } => {
                if let Some(into) = into
                    && !known.contains(&into.to_lowercase())
                {
                    return Err(undeclared(into, number).with_state(1));
                }
                for argument in arguments {
                    if let Some(value) = &argument.value {
                        looked_at(value, known, number)?;
                    }
                }
            }
            Step::Cursor(_, CursorStep::Declare { query, .. }) => looked_at(query.as_ref(), known, number)?,
            Step::Cursor(_, CursorStep::Fetch { into, .. }) => {
                if let Some(name) = into.iter().find(|name| !known.contains(*name)) {
                    return Err(undeclared(name, number));
                }
            }
            // A procedure's body is checked when it is made, with its own parameters.
            _ => {}
        }
    }
    Ok(())
}
