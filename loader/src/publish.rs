//! From the staging table into the target, once: INSERT OVERWRITE and the ledger's `published` in one transaction.
//!
//! It is DML, so the target keeps its grants, policies and tags, and readers see the old rows or the new ones.

mod error;
mod shape;
mod statements;

use self::statements::{
    create_staging, create_target, drop_statement, needs_create, needs_overwrite, overwrite_statement,
};
pub use self::{
    error::PublishError,
    shape::ShapeError,
    statements::{privileges, statements},
};
use crate::{
    fail,
    ledger::{
        Ledger, Run,
        sql::advance,
        staging_of,
        transaction::{begin, commit, roll_back},
    },
    model::{TablePlan, TargetName},
    snowflake::{SnowflakeError, Statements},
    stage,
};

/// A published run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Rows in the target.
    pub rows: u64,
    /// Source bytes of these.
    pub bytes: u64,
    /// True when another process had published the run already.
    pub already: bool,
}

/// Makes target and staging table if they are missing, and checks a target that exists. DDL: outside any transaction.
pub async fn prepare(session: &mut impl Statements, plan: &TablePlan, run: &Run) -> Result<(), PublishError> {
    prepare_target(session, plan).await?;
    // A staging table with loaded chunks must exist; making it anew would hide that they are gone.
    if run.chunks.iter().any(|chunk| chunk.state.is_loaded()) {
        return Ok(());
    }
    let create = create_staging(&run.staging, &plan.columns);
    let done = session.execute(&create).await;
    done.map_err(|error| needs_create(error, &run.staging, session.role()))?;
    Ok(())
}

/// Makes the target if it is missing; checks its columns if it is there.
pub async fn prepare_target(session: &mut impl Statements, plan: &TablePlan) -> Result<(), PublishError> {
    let found = session.execute(&shape::columns_statement(&plan.target)).await;
    let found = found.map_err(|error| needs_create(error, &plan.target, session.role()))?;
    if found.rows.is_empty() {
        let create = create_target(&plan.target, &plan.columns);
        let done = session.execute(&create).await;
        done.map_err(|error| needs_create(error, &plan.target, session.role()))?;
    } else {
        shape::check(&plan.target, &plan.columns, &found)?;
    }
    Ok(())
}

/// Publishes a verified run. Called again after a crash or an unknown outcome, or beside another publisher, it finds
/// out under the lock what the others came to.
pub async fn publish(
    session: &mut impl Statements,
    ledger: &Ledger,
    plan: &TablePlan,
    run: &Run,
) -> Result<Published, PublishError> {
    // The lock waits for a transaction of this run that is still open, such as one whose COMMIT is on its way.
    let states = ledger.settled(session, run).await?;
    let (chunks, rows, bytes) = (states.chunks(), states.rows(), states.bytes());
    if let Some(published) = states.published(run) {
        return Ok(published);
    }
    if !states.all("verified", run) {
        return Err(PublishError::NotVerified {
            table: plan.target.to_string(),
            chunks: run.chunks.len(),
            found: states.to_string(),
        });
    }
    fail::point("before_publish");
    let transaction = begin(session).await?;
    if let Err(error) = overwrite(session, ledger, plan, run, rows).await {
        roll_back(session).await;
        // Another publisher may have been quicker: then the staging table is gone, or the ledger has moved on.
        return match ledger.settled(session, run).await {
            Ok(states) => states.published(run).ok_or(error),
            Err(_) => Err(error),
        };
    }
    let sent = commit(session, transaction).await;
    fail::point("publish_sent");
    sent?;
    confirm(session, ledger, run, chunks).await?;
    fail::point("after_publish");
    Ok(Published { rows, bytes, already: false })
}

/// Everything inside the transaction.
async fn overwrite(
    session: &mut impl Statements,
    ledger: &Ledger,
    plan: &TablePlan,
    run: &Run,
    rows: u64,
) -> Result<(), PublishError> {
    let statement = overwrite_statement(&plan.target, &run.staging, &plan.columns);
    let done = session.execute_once(&statement).await;
    let done = done.map_err(|error| needs_overwrite(error, &plan.target, &run.staging, session.role()))?;
    if done.affected != Some(rows) {
        return Err(PublishError::Rows {
            table: plan.target.to_string(),
            staging: run.staging.to_string(),
            expected: rows,
            found: done.affected.unwrap_or(0),
        });
    }
    fail::point("overwritten");
    ledger.lock(session).await?;
    let change = advance(ledger.name(), ledger.key(run), "verified", "published");
    let done = session.execute_once(&change).await?;
    fail::point("publish_marked");
    Ok(ledger.touched("the publication", &done, run.chunks.len() as u64)?)
}

/// COMMIT is confirmed even when no transaction was open any more, so the ledger is read once more.
async fn confirm(
    session: &mut impl Statements,
    ledger: &Ledger,
    run: &Run,
    chunks: u64,
) -> Result<(), PublishError> {
    let reason = match ledger.states(session, run).await {
        Ok(states) if states.count("published") == chunks => return Ok(()),
        Ok(states) => format!("COMMIT was confirmed, but the ledger has {states}"),
        Err(error) => error.to_string(),
    };
    Err(SnowflakeError::Unknown { attempted: "COMMIT".to_owned(), reason }.into())
}

/// After publication: drops the run's staging table and removes its staged files, those of dead attempts included.
/// Doing it again does nothing.
pub async fn clean(session: &mut impl Statements, run: &Run, stage: &TargetName) -> Result<(), PublishError> {
    clean_up(session, &run.staging, &run.run_id, stage).await
}

/// The same for the table's latest published run, in case a crash came between publication and cleaning.
pub async fn clean_previous(
    session: &mut impl Statements,
    ledger: &Ledger,
    plan: &TablePlan,
    stage: &TargetName,
) -> Result<(), PublishError> {
    match ledger.last_published(session, plan).await? {
        Some(run_id) => clean_up(session, &staging_of(plan, &run_id), &run_id, stage).await,
        None => Ok(()),
    }
}

async fn clean_up(
    session: &mut impl Statements,
    staging: &TargetName,
    run_id: &str,
    stage: &TargetName,
) -> Result<(), PublishError> {
    session.execute(&drop_statement(staging)).await?;
    fail::point("staging_dropped");
    session.execute(&stage::remove_statement(stage, run_id)).await?;
    fail::point("stage_removed");
    Ok(())
}

#[cfg(test)]
mod tests;
