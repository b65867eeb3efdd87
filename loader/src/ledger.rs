//! The ledger in the target's schema: the only truth about progress, and the fence between a loader and the ghosts
//! of its predecessors.
//!
//! Every change is one transaction: first the lock row is updated, then, as a new statement that begins after the lock
//! was granted, the guarded change, which must touch exactly the rows that it names; otherwise the transaction is
//! rolled back. Whoever held the lock before has then committed or aborted, and this statement sees which.

mod error;
mod run;
pub(crate) mod sql;
pub(crate) mod transaction;

use std::time::Duration;

pub use self::error::LedgerError;
pub use self::run::{ChunkState, Claim, Claimed, LedgerChunk, Reclaimed, Run, RunStatus};
pub(crate) use self::run::{chunk_folder, staging_of};
use self::{
    sql::RunKey,
    transaction::{begin, commit, roll_back},
};
use crate::{
    fail,
    model::{TablePlan, TargetName},
    snowflake::{Answer, SnowflakeError, Statements},
};

/// The table's name in the target's schema.
pub const LEDGER_TABLE: &str = "KEYFERRY_LEDGER";

/// Plan rows of one INSERT.
const ROWS_PER_INSERT: usize = 500;

/// A pipeline's view of the ledger, as one owner.
#[derive(Clone, Debug)]
pub struct Ledger {
    name: TargetName,
    pipeline: String,
    owner: String,
    lease: Duration,
}

impl Ledger {
    /// `owner` is the shard of the run, for example `shard 0/1`: a restarted shard is the same owner.
    pub fn new(database: &str, schema: &str, pipeline: &str, owner: &str, lease: Duration) -> Self {
        let name = TargetName {
            database: database.to_owned(),
            schema: schema.to_owned(),
            name: LEDGER_TABLE.to_owned(),
        };
        Self { name, pipeline: pipeline.to_owned(), owner: owner.to_owned(), lease }
    }

    /// The ledger's table.
    pub fn name(&self) -> &TargetName {
        &self.name
    }

    /// Who claims.
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

    /// Starts a run of the plan, or resumes the table's open one (then the chunks are the ledger's, not the plan's).
    pub async fn open_or_resume(
        &self,
        session: &mut impl Statements,
        plan: &TablePlan,
    ) -> Result<Run, LedgerError> {
        if plan.chunks.is_empty() {
            return Err(LedgerError::NoChunks { table: plan.target.to_string() });
        }
        self.begin_locked(session).await?;
        match self.open_or_resume_locked(session, plan).await {
            Ok((run_id, resumed)) => {
                commit(session).await?;
                let mut run = Run::new(run_id, resumed, plan);
                run.chunks = self.chunks(session, &run).await?;
                Ok(run)
            }
            Err(error) => {
                roll_back(session).await;
                Err(error)
            }
        }
    }

    async fn open_or_resume_locked(
        &self,
        session: &mut impl Statements,
        plan: &TablePlan,
    ) -> Result<(String, bool), LedgerError> {
        let table = &plan.target.name;
        let open = session.execute(&sql::open_runs(&self.name, &self.pipeline, table)).await?;
        match open.rows.len() {
            0 => {
                let run_id = run::new_run_id();
                let key = RunKey { pipeline: &self.pipeline, run_id: &run_id, table };
                for chunks in plan.chunks.chunks(ROWS_PER_INSERT) {
                    let insert = sql::insert_plan(&self.name, key, &plan.schema_hash, chunks);
                    let done = session.execute(&insert).await?;
                    self.touched("writing the plan", &done, chunks.len() as u64)?;
                }
                Ok((run_id, false))
            }
            1 => {
                let run_id = open.value(0, 0).unwrap_or_default().to_owned();
                if open.value(0, 1) != Some(plan.schema_hash.as_str()) {
                    return Err(LedgerError::SchemaChanged {
                        run_id,
                        table: plan.target.to_string(),
                        ledger: self.name.sql(),
                    });
                }
                Ok((run_id, true))
            }
            several => Err(self.corrupt(format!("{several} open runs of {}", plan.target))),
        }
    }

    /// The run's chunks as the ledger has them now.
    pub async fn chunks(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<Vec<LedgerChunk>, LedgerError> {
        let answer = session.execute(&sql::chunks(&self.name, self.key(run))).await?;
        answer
            .rows
            .iter()
            .map(|row| {
                LedgerChunk::from_row(row)
                    .ok_or_else(|| self.corrupt(format!("an unreadable row of run {}", run.run_id)))
            })
            .collect()
    }

    /// Claims one chunk for this owner. An unknown outcome leaves nothing to repair: claim again in a new session.
    pub async fn claim(
        &self,
        session: &mut impl Statements,
        run: &Run,
        chunk: u32,
    ) -> Result<Claimed, LedgerError> {
        let key = self.key(run);
        self.begin_locked(session).await?;
        let work = async {
            fail::point("claim_locked");
            let update = sql::claim(&self.name, key, chunk, &self.owner, self.lease);
            let done = session.execute(&update).await?;
            fail::point("claim_updated");
            let state = session.execute(&sql::chunk_state(&self.name, key, chunk)).await?;
            match done.affected {
                Some(1) => Ok(Claimed::Mine(Claim::new(run, chunk, self.attempt(&state)?))),
                Some(0) => self.not_mine(run, chunk, &state),
                _ => Err(self.guard("a claim", 1, &done)),
            }
        };
        match work.await {
            Ok(mine @ Claimed::Mine(_)) => {
                commit(session).await?;
                fail::point("after_claim");
                Ok(mine)
            }
            outcome => {
                roll_back(session).await;
                outcome
            }
        }
    }

    fn not_mine(&self, run: &Run, chunk: u32, state: &Answer) -> Result<Claimed, LedgerError> {
        let missing = || self.corrupt(format!("no row of chunk {chunk} of run {}", run.run_id));
        let word = state.value(0, 0).ok_or_else(missing)?;
        match ChunkState::parse(word).ok_or_else(|| self.corrupt(format!("the state {word:?}")))? {
            ChunkState::Claimed | ChunkState::Planned => Ok(Claimed::Other {
                owner: state.value(0, 2).unwrap_or("nobody").to_owned(),
                lease_until: state.value(0, 3).map(str::to_owned),
            }),
            done => Ok(Claimed::Done(done)),
        }
    }

    /// Decides, in a new session and under the lock, what became of an attempt whose commit has an unknown outcome:
    /// loaded, or void from now on and claimed anew.
    pub async fn reclaim(
        &self,
        session: &mut impl Statements,
        run: &Run,
        claim: &Claim,
    ) -> Result<Reclaimed, LedgerError> {
        let key = self.key(run);
        self.begin_locked(session).await?;
        let work = async {
            let state = session.execute(&sql::chunk_state(&self.name, key, claim.chunk)).await?;
            let word = state.value(0, 0).and_then(ChunkState::parse);
            let attempt = self.attempt(&state)?;
            match word {
                Some(ChunkState::Loaded | ChunkState::Verified | ChunkState::Published)
                    if attempt == claim.attempt =>
                {
                    Ok(Reclaimed::Loaded)
                }
                Some(ChunkState::Claimed) if attempt == claim.attempt => {
                    let update = sql::reclaim(&self.name, key, claim.chunk, attempt, self.lease);
                    let done = session.execute(&update).await?;
                    self.touched("claiming again", &done, 1)?;
                    Ok(Reclaimed::Again(Claim::new(run, claim.chunk, attempt + 1)))
                }
                _ => Ok(Reclaimed::Lost { owner: state.value(0, 2).unwrap_or("nobody").to_owned() }),
            }
        };
        match work.await {
            Ok(again @ Reclaimed::Again(_)) => {
                commit(session).await?;
                Ok(again)
            }
            outcome => {
                roll_back(session).await;
                outcome
            }
        }
    }

    /// Prolongs the lease of a claim. False when the claim is no longer ours: stop working on the chunk.
    pub async fn renew_lease(
        &self,
        session: &mut impl Statements,
        run: &Run,
        claim: &Claim,
    ) -> Result<bool, LedgerError> {
        let update = sql::renew_lease(&self.name, self.key(run), claim.chunk, claim.attempt, self.lease);
        Ok(session.execute(&update).await?.affected == Some(1))
    }

    /// Records that the loaded rows agree with the source: every chunk of the run, or none.
    pub async fn mark_verified(&self, session: &mut impl Statements, run: &Run) -> Result<(), LedgerError> {
        let chunks = run.chunks.len() as u64;
        self.begin_locked(session).await?;
        let work = async {
            let before = self.states(session, run).await?;
            if before.count("verified") + before.count("published") == chunks {
                return Ok(false);
            }
            let done =
                session.execute(&sql::advance(&self.name, self.key(run), "loaded", "verified")).await?;
            self.touched("recording the verification", &done, chunks)?;
            Ok(true)
        };
        match work.await {
            Ok(true) => Ok(commit(session).await?),
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

    pub(crate) fn key<'a>(&'a self, run: &'a Run) -> RunKey<'a> {
        RunKey { pipeline: &self.pipeline, run_id: &run.run_id, table: &run.table }
    }

    /// Begins a transaction and takes the lock; on any failure nothing is left open.
    async fn begin_locked(&self, session: &mut impl Statements) -> Result<(), LedgerError> {
        begin(session).await?;
        match self.lock(session).await {
            Ok(()) => Ok(()),
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
