//! Tables that are computed instead of stored: a test that needs more rows than memory holds answers the questions
//! about them itself, before the evaluator is asked.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use keyferry_sql::{Column, ResultSet, Row, SqlError};

use crate::rows::RowWriter;

/// Knows the answer to some batches.
pub trait Answers: Send + Sync {
    /// The result of this batch, if it is about a computed table; anything else goes to the evaluator. Rows are asked
    /// for one by one as they are sent.
    fn answer(&self, sql: &str) -> Option<ResultSet>;

    /// The same with rows that are encoded already, for who wants more rows in a second than an encoder makes. Asked
    /// first.
    fn encoded(&self, _sql: &str) -> Option<Encoded> {
        None
    }
}

/// Appends the tokens of some more rows, and says how many rows; 0 at the end.
pub type MoreRows = Box<dyn FnMut(&mut Vec<u8>) -> u64 + Send>;

/// A result whose rows are encoded already.
pub struct Encoded {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The rows, some 64 KiB at a time.
    pub more: MoreRows,
}

/// The tokens of these rows, one behind the other, and where each begins: what [`Encoded`] is made of.
pub fn encode(columns: &[Column], rows: &[Row]) -> Result<(Vec<u8>, Vec<usize>), SqlError> {
    let writer = RowWriter::begin(columns.to_vec(), &mut Vec::new())?;
    let (mut tokens, mut starts) = (Vec::new(), Vec::with_capacity(rows.len()));
    for row in rows {
        starts.push(tokens.len());
        writer.put(row, &mut tokens)?;
    }
    Ok((tokens, starts))
}

/// Whom to ask first. Clones share it, and it can be set while the server runs.
#[derive(Clone, Default)]
pub struct Computed(Arc<RwLock<Option<Arc<dyn Answers>>>>);

impl Computed {
    /// Sets whom to ask first.
    pub fn set(&self, answers: Arc<dyn Answers>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(answers);
    }

    pub(crate) fn answer(&self, sql: &str) -> Option<ResultSet> {
        self.answers()?.answer(sql)
    }

    pub(crate) fn encoded(&self, sql: &str) -> Option<Encoded> {
        self.answers()?.encoded(sql)
    }

    fn answers(&self) -> Option<Arc<dyn Answers>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}
