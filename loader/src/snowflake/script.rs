//! A session that follows a script, for tests: each statement must begin as the script says, and is answered so.

#![allow(clippy::unnecessary_wraps)] // answers, good and bad, have one type

use std::collections::VecDeque;

use super::{Answer, Column, SnowflakeError, Statements};

/// What the script answers.
pub(crate) type Line = (&'static str, Result<Answer, SnowflakeError>);

/// Plays its lines in order and notes what was sent.
pub(crate) struct Script {
    lines: VecDeque<Line>,
    pub(crate) sent: Vec<String>,
    /// Of these, what may be sent only once.
    pub(crate) once: Vec<String>,
}

impl Script {
    pub(crate) fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        Self { lines: lines.into_iter().collect(), sent: Vec::new(), once: Vec::new() }
    }

    /// Every line was spoken.
    pub(crate) fn is_over(&self) -> bool {
        self.lines.is_empty()
    }

    fn play(&mut self, sql: &str) -> Result<Answer, SnowflakeError> {
        self.sent.push(sql.to_owned());
        let Some((expected, answer)) = self.lines.pop_front() else {
            panic!("not in the script: {sql}\nbefore it: {:#?}", self.sent);
        };
        assert!(sql.starts_with(expected), "expected {expected:?}, got {sql}");
        answer
    }
}

impl Statements for Script {
    async fn execute(&mut self, sql: &str) -> Result<Answer, SnowflakeError> {
        self.play(sql)
    }

    async fn execute_once(&mut self, sql: &str) -> Result<Answer, SnowflakeError> {
        self.once.push(sql.to_owned());
        self.play(sql)
    }

    fn role(&self) -> &'static str {
        "LOADER"
    }
}

/// An answer without rows.
pub(crate) fn done() -> Result<Answer, SnowflakeError> {
    Ok(Answer::default())
}

/// DML that touched `count` rows.
pub(crate) fn touched(count: u64) -> Result<Answer, SnowflakeError> {
    Ok(Answer { affected: Some(count), ..Answer::default() })
}

/// Rows of text; "NULL" is NULL.
pub(crate) fn rows(columns: &[&str], rows: &[&[&str]]) -> Result<Answer, SnowflakeError> {
    let value = |text: &&str| Some((*text).to_owned()).filter(|text| text != "NULL");
    Ok(Answer {
        columns: columns
            .iter()
            .map(|name| Column { name: (*name).to_owned(), kind: "text".to_owned() })
            .collect(),
        rows: rows.iter().map(|row| row.iter().map(value).collect()).collect(),
        query_id: "01b0-query".to_owned(),
        affected: None,
    })
}

/// A refusal.
pub(crate) fn refused(code: &str) -> Result<Answer, SnowflakeError> {
    Err(SnowflakeError::Refused {
        attempted: "it".to_owned(),
        code: code.to_owned(),
        message: "the server's sentence".to_owned(),
        query_id: String::new(),
    })
}

/// A lost reply.
pub(crate) fn lost() -> Result<Answer, SnowflakeError> {
    Err(SnowflakeError::Unknown { attempted: "it".to_owned(), reason: "cut".to_owned() })
}

/// `SELECT CURRENT_TRANSACTION()`.
pub(crate) fn transaction(id: &'static str) -> Line {
    ("SELECT CURRENT_TRANSACTION()", rows(&["T"], &[&[id]]))
}

/// The lines of a transaction's beginning.
pub(crate) fn begun() -> [Line; 3] {
    [transaction("NULL"), ("BEGIN TRANSACTION", done()), transaction("1763")]
}

/// The lines of a transaction's beginning, lock included.
pub(crate) fn locked() -> [Line; 4] {
    let [first, begin, id] = begun();
    [first, begin, id, ("UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET ATTEMPT = ATTEMPT + 1", touched(1))]
}
