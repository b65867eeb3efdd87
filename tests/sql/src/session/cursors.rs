//! T-SQL cursors: a result that is read row by row. Rows are those of the moment of OPEN (as STATIC).

use sqlparser::ast;

use crate::{
    error::SqlError,
    outcome::{Outcome, ResultSet, Rows},
    script::{CursorStep, Fetch},
    session::{Answers, Session, steps::whole},
    types::Column,
    value::{Row, Value},
};

/// A declared cursor.
pub(super) struct Cursor {
    query: Box<ast::Query>,
    scroll: bool,
    open: Option<Opened>,
}

struct Opened {
    columns: Vec<Column>,
    rows: Vec<Row>,
    /// The row it stands on, counted from 1; 0 is before the first.
    at: i64,
}

impl Session {
    pub(super) async fn run_cursor(
        &mut self,
        name: &str,
        step: &CursorStep,
        out: &mut Answers,
    ) -> Result<(), SqlError> {
        let key = name.to_lowercase();
        let missing = || SqlError::mssql(16_916, format!("A cursor with the name '{name}' does not exist."));
        match step {
            CursorStep::Declare { query, scroll } => {
                if self.cursors.contains_key(&key) {
                    return Err(SqlError::mssql(
                        16_915,
                        format!("A cursor with the name '{name}' already exists."),
                    ));
                }
                self.cursors.insert(key, Cursor { query: query.clone(), scroll: *scroll, open: None });
            }
            CursorStep::Open => {
                let cursor = self.cursors.get(&key).ok_or_else(missing)?;
                if cursor.open.is_some() {
                    return Err(SqlError::mssql(16_905, "The cursor is already open."));
                }
                let query = cursor.query.clone();
                let ResultSet { columns, rows } = self.select(&query).await?;
                let rows = rows.collect_all()?;
                self.cursor_rows = rows.len() as i64;
                if let Some(cursor) = self.cursors.get_mut(&key) {
                    cursor.open = Some(Opened { columns, rows, at: 0 });
                }
            }
            CursorStep::Fetch { from, into } => self.fetch(&key, from, into, out, missing)?,
            CursorStep::Close => {
                let cursor = self.cursors.get_mut(&key).ok_or_else(missing)?;
                if cursor.open.take().is_none() {
                    return Err(not_open());
                }
            }
            CursorStep::Deallocate => {
                self.cursors.remove(&key).ok_or_else(missing)?;
            }
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        key: &str,
        from: &Fetch,
        into: &[String],
        out: &mut Answers,
        missing: impl Fn() -> SqlError,
    ) -> Result<(), SqlError> {
        let by = match from {
            Fetch::Absolute(by) | Fetch::Relative(by) => whole(&self.evaluate(by)?.0),
            _ => 0,
        };
        let cursor = self.cursors.get_mut(key).ok_or_else(&missing)?;
        let scroll = cursor.scroll;
        let opened = cursor.open.as_mut().ok_or_else(not_open)?;
        let count = opened.rows.len() as i64;
        if !scroll && !matches!(from, Fetch::Next) {
            return Err(SqlError::mssql(
                16_911,
                "fetch: The fetch type cannot be used with forward only cursors.",
            ));
        }
        let wanted = match from {
            Fetch::Next => opened.at + 1,
            Fetch::Prior => opened.at - 1,
            Fetch::First => 1,
            Fetch::Last => count,
            Fetch::Absolute(_) if by < 0 => count + 1 + by,
            Fetch::Absolute(_) => by,
            Fetch::Relative(_) => opened.at + by,
        };
        opened.at = wanted.clamp(0, count + 1);
        let row = usize::try_from(opened.at - 1).ok().and_then(|at| opened.rows.get(at)).cloned();
        let columns = opened.columns.clone();
        self.fetch_status = if row.is_some() { 0 } else { -1 };
        if into.is_empty() {
            out.push(Ok(Outcome::Rows(ResultSet {
                columns,
                rows: Rows::from_vec(row.into_iter().collect()),
            })));
            return Ok(());
        }
        if into.len() != columns.len() {
            return Err(SqlError::mssql(
                16_924,
                "Cursorfetch: The number of variables declared in the INTO list must match that of selected columns.",
            ));
        }
        let Some(row) = row else { return Ok(()) };
        for ((name, column), value) in into.iter().zip(&columns).zip(row.iter()) {
            let Some((ty, _)) = self.variables.get(name) else { continue };
            let ty = ty.clone();
            let value: Value = self.cast().apply(value.clone(), &column.ty, &ty)?;
            self.variables.insert(name.clone(), (ty, value));
        }
        Ok(())
    }
}

fn not_open() -> SqlError {
    SqlError::mssql(16_917, "Cursor is not open.")
}
