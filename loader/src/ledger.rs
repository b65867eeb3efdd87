//! The ledger in the target's schema: the only truth about progress, and the fence between a loader and the ghosts
//! of its predecessors.
//!
//! Every change is one transaction: first the lock row is updated, then, as a new statement that begins after the lock
//! was granted, the guarded change, which must touch exactly the rows that it names; otherwise the transaction is
//! rolled back. Whoever held the lock before has then committed or aborted, and this statement sees which.

mod claims;
mod error;
mod finish;
mod open;
mod run;
pub(crate) mod sql;
pub(crate) mod transaction;

use std::time::Duration;

pub use self::error::LedgerError;
pub(crate) use self::run::{chunk_folder, staging_of};
pub use self::{
    claims::OpenChunk,
    finish::Finishing,
    run::{ChunkState, Claim, Claimed, LedgerChunk, Reclaimed, Run, RunStatus},
};
use self::{
    sql::RunKey,
    transaction::{Transaction, begin, commit, roll_back},
};
use crate::{
    model::{TablePlan, TargetName},
    publish::Published,
    snowflake::{Answer, SnowflakeError, Statements},
};

/// The table's name in the target's schema.
pub const LEDGER_TABLE: &str = "KEYFERRY_LEDGER";

/// A pipeline's view of the ledger, as one owner.
#[derive(Clone, Debug)]
pub struct Ledger {
    name: TargetName,
    pipeline: String,
    shard: String,
    owner: String,
    lease: Duration,
}

impl Ledger {
    /// `shard` is the part of the run that this process begins with, for example `shard 0/1`. It claims nothing before
    /// [`Ledger::join`] has made an owner of it.
    pub fn new(database: &str, schema: &str, pipeline: &str, shard: &str, lease: Duration) -> Self {
        let name = TargetName {
            database: database.to_owned(),
            schema: schema.to_owned(),
            name: LEDGER_TABLE.to_owned(),
        };
        let (pipeline, shard) = (pipeline.to_owned(), shard.to_owned());
        Self { name, pipeline, owner: shard.clone(), shard, lease }
    }

    /// The ledger's table.
    pub fn name(&self) -> &TargetName {
        &self.name
    }

    /// Who claims: the shard and the number of this very process, `shard 0/1 #0000000042-3f2a9c`.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Looks for the ledger and makes it, together with its lock row, if it is missing.
    pub async fn ensure(&self, session: &mut impl Statements) -> Result<(), LedgerError> {
        let found = session.execute(&sql::count_locks(&self.name)).await;
        let count = match found {
            Err(error) if error.is_missing() => {
                let role = session.role().to_owned();
                match session.execute(&sql::create(&self.name)).await {
                    Ok(_) => {}
                    // 002002: already there. Another loader was first, and so was its lock row.
                    Err(error) if error.code() == Some("002002") => {}
                    Err(error) => return Err(self.needs_create(error, &role).into()),
                }
                session.execute(&sql::count_locks(&self.name)).await
            }
            other => other,
        };
        let count = count.map_err(|error| self.needs_rights(error, session.role()))?;
        self.exactly_one_lock(number(&count, 0, 0))
    }

    /// Records that the loaded rows agree with the source: every chunk of the run, or none.
    pub async fn mark_verified(&self, session: &mut impl Statements, run: &Run) -> Result<(), LedgerError> {
        let chunks = run.chunks.len() as u64;
        let transaction = self.begin_locked(session).await?;
        let work = async {
            let before = self.states(session, run).await?;
            if before.count("verified") + before.count("published") == chunks {
                return Ok(false);
            }
            let done =
                session.execute_once(&sql::advance(&self.name, self.key(run), "loaded", "verified")).await?;
            self.touched("recording the verification", &done, chunks)?;
            Ok(true)
        };
        match work.await {
            Ok(true) => Ok(commit(session, transaction).await?),
            outcome => {
                roll_back(session).await;
                outcome.map(drop)
            }
        }
    }

    /// What is known of all runs of the pipeline.
    pub async fn status(&self, session: &mut impl Statements) -> Result<Vec<RunStatus>, LedgerError> {
        let answer = session
            .execute(&sql::status(&self.name, &self.pipeline))
            .await
            .map_err(|error| self.needs_rights(error, session.role()))?;
        Ok(answer.rows.iter().map(|row| RunStatus::from_row(row)).collect())
    }

    /// The latest published run of a table, whose leftovers a crash may have left.
    pub(crate) async fn last_published(
        &self,
        session: &mut impl Statements,
        plan: &TablePlan,
    ) -> Result<Option<String>, LedgerError> {
        let last = sql::last_published(&self.name, &self.pipeline, &plan.target.name);
        Ok(session.execute(&last).await?.value(0, 0).map(str::to_owned))
    }

    /// How many chunks of the run are in which state.
    pub(crate) async fn states(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<run::States, LedgerError> {
        let answer = session.execute(&sql::states(&self.name, self.key(run))).await?;
        run::States::from_rows(&answer.rows)
            .ok_or_else(|| self.corrupt(format!("unreadable states of run {}", run.run_id)))
    }

    /// The run, if it is published.
    pub async fn published(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<Option<Published>, LedgerError> {
        Ok(self.states(session, run).await?.published(run))
    }

    pub(crate) fn key<'a>(&'a self, run: &'a Run) -> RunKey<'a> {
        RunKey { pipeline: &self.pipeline, run_id: &run.run_id, table: &run.table }
    }

    /// How many chunks of the run are in which state, once whoever held the lock has committed or aborted: what a
    /// transaction whose outcome is unknown has come to.
    pub(crate) async fn settled(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<run::States, LedgerError> {
        let _transaction = self.begin_locked(session).await?;
        let states = self.states(session, run).await;
        roll_back(session).await;
        states
    }

    /// Begins a transaction and takes the lock; on any failure nothing is left open.
    async fn begin_locked(&self, session: &mut impl Statements) -> Result<Transaction, LedgerError> {
        let transaction = begin(session).await?;
        match self.lock(session).await {
            Ok(()) => Ok(transaction),
            Err(error) => {
                roll_back(session).await;
                Err(error)
            }
        }
    }

    /// Takes the lock row, inside a transaction: waits for whoever holds it.
    pub(crate) async fn lock(&self, session: &mut impl Statements) -> Result<(), LedgerError> {
        let done = session
            .execute(&sql::lock(&self.name, &self.owner))
            .await
            .map_err(|error| self.needs_rights(error, session.role()))?;
        self.exactly_one_lock(done.affected.unwrap_or(0))
    }

    fn exactly_one_lock(&self, found: u64) -> Result<(), LedgerError> {
        if found == 1 { Ok(()) } else { Err(LedgerError::LockRow { ledger: self.name.sql(), found }) }
    }

    /// Passes a guarded change that touched exactly `expected` rows.
    pub(crate) fn touched(
        &self,
        attempted: &'static str,
        done: &Answer,
        expected: u64,
    ) -> Result<(), LedgerError> {
        if done.affected == Some(expected) { Ok(()) } else { Err(self.guard(attempted, expected, done)) }
    }

    fn guard(&self, attempted: &'static str, expected: u64, done: &Answer) -> LedgerError {
        LedgerError::Guard { ledger: self.name.sql(), attempted, expected, found: done.affected.unwrap_or(0) }
    }

    fn attempt(&self, state: &Answer) -> Result<u64, LedgerError> {
        state
            .value(0, 1)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.corrupt("a chunk without an attempt number".to_owned()))
    }

    fn corrupt(&self, found: String) -> LedgerError {
        LedgerError::Corrupt { ledger: self.name.sql(), found }
    }

    fn needs_create(&self, error: SnowflakeError, role: &str) -> SnowflakeError {
        let schema = self.schema();
        error.needing(
            &format!("the schema {schema}"),
            role,
            &format!("GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA {schema} TO ROLE {role}"),
        )
    }

    fn needs_rights(&self, error: SnowflakeError, role: &str) -> SnowflakeError {
        let ledger = self.name.sql();
        error.needing(
            &format!("the ledger {ledger}"),
            role,
            &format!("GRANT SELECT, INSERT, UPDATE ON TABLE {ledger} TO ROLE {role}"),
        )
    }

    fn schema(&self) -> String {
        format!("{}.{}", crate::model::quoted(&self.name.database), crate::model::quoted(&self.name.schema))
    }
}

fn number(answer: &Answer, row: usize, column: usize) -> u64 {
    answer.value(row, column).and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests;
