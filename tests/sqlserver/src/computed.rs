//! Tables that are computed instead of stored: a test that needs more rows than memory holds answers the questions
//! about them itself, before the evaluator is asked.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use keyferry_sql::ResultSet;

/// Knows the answer to some batches.
pub trait Answers: Send + Sync {
    /// The result of this batch, if it is about a computed table; anything else goes to the evaluator. Rows are asked
    /// for one by one as they are sent.
    fn answer(&self, sql: &str) -> Option<ResultSet>;
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
        let answers = self.0.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        answers.answer(sql)
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}
