//! How a process comes to a run: it gets a number of its own, then begins the run or resumes it, and takes over what
//! earlier processes of its shard have left.

use uuid::Uuid;

use super::{
    Ledger, LedgerChunk, LedgerError, Run, number, run,
    sql::{self, RunKey},
    transaction::{commit, roll_back},
};
use crate::{model::TablePlan, snowflake::Statements};

/// Plan rows of one INSERT.
const ROWS_PER_INSERT: usize = 500;
/// Chunks of one answer without witnesses.
const BARE_PAGE: u32 = 10_000;
/// Chunks of one answer with witnesses: of a table with a thousand columns each has some hundred KiB.
const WITNESSED_PAGE: u32 = 50;

impl Ledger {
    /// Makes an owner of this process: the lock row counts every change, so that a later process of the same shard has
    /// a greater number. Doing it again gives another number, and the former one is never used.
    pub async fn join(&self, session: &mut impl Statements) -> Result<Self, LedgerError> {
        let transaction = self.begin_locked(session).await?;
        let count = session.execute(&sql::lock_count(&self.name)).await;
        let count = match count {
            Ok(count) => count,
            Err(error) => {
                roll_back(session).await;
                return Err(error.into());
            }
        };
        commit(session, transaction).await?;
        let unique = Uuid::new_v4().simple().to_string();
        let owner = format!("{} #{:010}-{}", self.shard, number(&count, 0, 0), &unique[..6]);
        tracing::info!(owner, "claims are made as");
        Ok(Self { owner, ..self.clone() })
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
        let transaction = self.begin_locked(session).await?;
        match self.open_or_resume_locked(session, plan).await {
            Ok((run_id, resumed)) => {
                commit(session, transaction).await?;
                let mut run = Run::new(run_id, resumed, plan);
                run.chunks = self.pages(session, &run, false).await?;
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
                    let done = session.execute_once(&insert).await?;
                    self.touched("writing the plan", &done, chunks.len() as u64)?;
                }
                Ok((run_id, false))
            }
            1 => {
                let run_id = open.value(0, 0).unwrap_or_default().to_owned();
                self.same_plan(&run_id, open.value(0, 1).unwrap_or_default(), plan)?;
                let key = RunKey { pipeline: &self.pipeline, run_id: &run_id, table };
                let take_over = sql::take_over(&self.name, key, &self.shard, &self.owner, self.lease);
                let taken = session.execute_once(&take_over).await?.affected.unwrap_or(0);
                if taken > 0 {
                    tracing::info!(
                        taken,
                        run = run_id,
                        "took over the chunks of an earlier process of this shard"
                    );
                }
                Ok((run_id, true))
            }
            several => Err(self.corrupt(format!("{several} open runs of {}", plan.target))),
        }
    }

    /// A run goes on only from the same origin, with the same columns and types.
    fn same_plan(&self, run_id: &str, begun: &str, plan: &TablePlan) -> Result<(), LedgerError> {
        if begun == plan.schema_hash {
            return Ok(());
        }
        let (run_id, table, ledger) = (run_id.to_owned(), plan.target.to_string(), self.name.sql());
        match (begun.split_once('@'), plan.schema_hash.split_once('@')) {
            (Some((old, began_at)), Some((new, now))) if old == new => {
                let (began_at, now) = (began_at.to_owned(), now.to_owned());
                Err(LedgerError::OriginChanged { run_id, table, ledger, began_at, now })
            }
            _ => Err(LedgerError::SchemaChanged { run_id, table, ledger }),
        }
    }

    /// The run's chunks as the ledger has them now, with their witnesses.
    pub async fn chunks(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<Vec<LedgerChunk>, LedgerError> {
        self.pages(session, run, true).await
    }

    /// In several answers: one would exceed what is accepted when there are many chunks, columns or both.
    async fn pages(
        &self,
        session: &mut impl Statements,
        run: &Run,
        witnesses: bool,
    ) -> Result<Vec<LedgerChunk>, LedgerError> {
        let page = if witnesses { WITNESSED_PAGE } else { BARE_PAGE };
        let mut chunks: Vec<LedgerChunk> = Vec::new();
        loop {
            let after = chunks.last().map(|chunk| chunk.number);
            let question = sql::chunks(&self.name, self.key(run), witnesses, after, page);
            let answer = session.execute(&question).await?;
            let full = answer.rows.len() >= page as usize;
            for row in &answer.rows {
                let chunk = LedgerChunk::from_row(row).filter(|chunk| {
                    // Each page lies behind the one before; whatever else comes back, this ends.
                    after.is_none_or(|after| chunk.number > after)
                });
                let unreadable = || self.corrupt(format!("an unreadable row of run {}", run.run_id));
                chunks.push(chunk.ok_or_else(unreadable)?);
            }
            if !full {
                return Ok(chunks);
            }
        }
    }
}
