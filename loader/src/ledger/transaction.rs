//! One transaction, as every change of the ledger is one.
//!
//! Snowflake may end a transaction behind its client's back: after five idle minutes in which it blocked somebody, or
//! by an error. The session's `AUTOCOMMIT = FALSE` keeps what comes after such an end from taking effect by itself, and
//! [`commit`] looks first whether the transaction is still the one that was begun: otherwise a part of the work would be
//! committed without the rest.

use crate::snowflake::{SnowflakeError, Statements};

const CURRENT: &str = "SELECT CURRENT_TRANSACTION()";
/// How often a transaction may be gone before anything was done in it.
const MOST_BEGINNINGS: u32 = 3;

/// A transaction that was begun, by Snowflake's id of it.
#[derive(Debug)]
#[must_use = "a transaction is committed or rolled back"]
pub(crate) struct Transaction {
    id: String,
}

/// Begins, after a look whether a transaction is open: BEGIN inside one is silently ignored.
pub(crate) async fn begin(session: &mut impl Statements) -> Result<Transaction, SnowflakeError> {
    let impossible = |found: &str| SnowflakeError::Answer {
        attempted: "BEGIN TRANSACTION".to_owned(),
        found: format!("impossible: {found}; the session is to be closed, not reused"),
    };
    if current(session).await?.is_some() {
        // Without autocommit a reading may have begun one; whatever was written was committed or rolled back before.
        session.execute("ROLLBACK").await?;
        if current(session).await?.is_some() {
            return Err(impossible("this session has a transaction open already"));
        }
    }
    // Whoever sleeps here for longer than Snowflake lets a transaction idle finds it gone. Nothing was done in it.
    for _ in 0..MOST_BEGINNINGS {
        session.execute("BEGIN TRANSACTION").await?;
        if let Some(id) = current(session).await? {
            return Ok(Transaction { id });
        }
    }
    Err(impossible("no transaction is open after it"))
}

async fn current(session: &mut impl Statements) -> Result<Option<String>, SnowflakeError> {
    Ok(session.execute(CURRENT).await?.value(0, 0).map(str::to_owned))
}

/// Undoes the transaction. If even that fails the session's end undoes it.
pub(crate) async fn roll_back(session: &mut impl Statements) {
    if let Err(error) = session.execute("ROLLBACK").await {
        tracing::debug!(%error, "ROLLBACK was not confirmed; the end of the session rolls back");
    }
}

/// Commits. COMMIT is sent once, and whatever comes back but a confirmation leaves the outcome unknown.
pub(crate) async fn commit(
    session: &mut impl Statements,
    transaction: Transaction,
) -> Result<(), SnowflakeError> {
    let unknown = |reason: String| SnowflakeError::Unknown { attempted: "COMMIT".to_owned(), reason };
    match current(session).await {
        Ok(Some(id)) if id == transaction.id => {}
        Ok(_) => {
            roll_back(session).await;
            return Err(unknown(
                "Snowflake had ended the transaction before it; nothing was committed".into(),
            ));
        }
        Err(error) => return Err(unknown(error.to_string())),
    }
    match session.execute_once("COMMIT").await {
        Ok(_) => Ok(()),
        Err(lost @ SnowflakeError::Unknown { .. }) => Err(lost),
        Err(other) => Err(unknown(other.to_string())),
    }
}
