//! One transaction, as every change of the ledger is one.

use crate::snowflake::{SnowflakeError, Statements};

/// Begins, after a look whether a transaction is open: BEGIN inside one is silently ignored.
pub(crate) async fn begin(session: &mut impl Statements) -> Result<(), SnowflakeError> {
    let open = session.execute("SELECT CURRENT_TRANSACTION()").await?;
    if open.value(0, 0).is_some() {
        return Err(SnowflakeError::Answer {
            attempted: "BEGIN TRANSACTION".to_owned(),
            found: "impossible: this session has a transaction open already; it is to be closed, not reused"
                .to_owned(),
        });
    }
    session.execute("BEGIN TRANSACTION").await.map(drop)
}

/// Undoes the transaction. If even that fails the session's end undoes it.
pub(crate) async fn roll_back(session: &mut impl Statements) {
    if let Err(error) = session.execute("ROLLBACK").await {
        tracing::debug!(%error, "ROLLBACK was not confirmed; the end of the session rolls back");
    }
}

/// Commits. COMMIT is sent once, and whatever comes back but a confirmation leaves the outcome unknown.
pub(crate) async fn commit(session: &mut impl Statements) -> Result<(), SnowflakeError> {
    match session.execute_once("COMMIT").await {
        Ok(_) => Ok(()),
        Err(unknown @ SnowflakeError::Unknown { .. }) => Err(unknown),
        Err(other) => {
            Err(SnowflakeError::Unknown { attempted: "COMMIT".to_owned(), reason: other.to_string() })
        }
    }
}
