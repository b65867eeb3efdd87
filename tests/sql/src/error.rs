//! What a statement is refused with: the number, class and state that SQL Server or Snowflake would send.

use std::fmt;

/// A refused statement.
///
/// For SQL Server `number`, `state` and `class` are those of its ERROR token. For Snowflake `number` is the
/// six-digit code without leading zeros (2003 for `002003`) and `sqlstate` is what its reply carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// SQL Server's error number, or Snowflake's code as a number.
    pub number: i32,
    /// SQLSTATE: five characters, `42000` where nothing finer is known.
    pub sqlstate: &'static str,
    /// SQL Server's severity (11..=16 for errors that the user can mend).
    pub class: u8,
    /// SQL Server's state.
    pub state: u8,
    /// Line of the batch, counted from 1; 0: not known.
    pub line: u32,
    /// The procedure in which it happened; empty in a batch.
    pub procedure: String,
    /// The message's text.
    pub message: String,
    /// The row of the input (counted from 1) where an `append` or a stage query failed.
    pub row: Option<u64>,
    /// What the error does to the batch and the transaction.
    pub effect: Effect,
}

/// What else ends with a refused statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Only the statement; SQL Server goes on with the batch's next one.
    Statement,
    /// The rest of the batch; an open transaction stays open.
    Batch,
    /// The batch, and the transaction is rolled back (1205, 3960, or anything under `XACT_ABORT`).
    Transaction,
}

impl SqlError {
    /// A SQL Server error of class 16, state 1, that ends its statement.
    pub fn mssql(number: i32, message: impl Into<String>) -> Self {
        Self {
            number,
            sqlstate: "42000",
            class: 16,
            state: 1,
            line: 0,
            procedure: String::new(),
            message: message.into(),
            row: None,
            effect: Effect::Statement,
        }
    }

    /// A Snowflake error: code and SQLSTATE as its replies carry them.
    pub fn snowflake(number: i32, sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, effect: Effect::Batch, ..Self::mssql(number, message) }
    }

    /// What a statement answers that was stopped by its client or by its deadline.
    pub(crate) fn stopped() -> Self {
        Self::snowflake(604, "57014", "SQL execution canceled")
    }

    /// Snowflake's code with its leading zeros, as in `002003`.
    pub fn code(&self) -> String {
        format!("{:06}", self.number)
    }

    /// The same error with another severity.
    #[must_use]
    pub fn with_class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// The same error with another state.
    #[must_use]
    pub fn with_state(mut self, state: u8) -> Self {
        self.state = state;
        self
    }

    /// The same error with another effect.
    #[must_use]
    pub fn ending(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// The same error at a line of the batch, unless it already knows its line.
    #[must_use]
    pub fn at_line(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// The same error at a row of the input, counted from 1.
    #[must_use]
    pub fn at_row(mut self, row: u64) -> Self {
        self.row.get_or_insert(row);
        self
    }
}

/// Shortens a piece of SQL for an error message: at most 120 characters, never cut inside one.
pub(crate) fn quote(sql: impl fmt::Display) -> String {
    let text = sql.to_string();
    let mut cut: String = text.chars().take(120).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
