//! Who may load a chunk: claims, leases, and what becomes of an attempt whose commit has an unknown outcome.

use super::{
    ChunkState, Claim, Claimed, Ledger, LedgerError, Reclaimed, Run, sql,
    transaction::{commit, roll_back},
};
use crate::{
    fail,
    snowflake::{Answer, Statements},
};

/// A chunk that is not loaded yet, as the ledger has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChunk {
    /// Its number within the table.
    pub number: u32,
    /// Who has it; none when nobody has begun.
    pub owner: Option<String>,
    /// Until when, by Snowflake's clock, UTC.
    pub lease_until: Option<String>,
    /// True when a claim would be granted, as far as leases go.
    pub free: bool,
}

impl Ledger {
    /// Claims one chunk for this owner. An unknown outcome leaves nothing to repair: claim again in a new session.
    pub async fn claim(
        &self,
        session: &mut impl Statements,
        run: &Run,
        chunk: u32,
    ) -> Result<Claimed, LedgerError> {
        let key = self.key(run);
        let transaction = self.begin_locked(session).await?;
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
                commit(session, transaction).await?;
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
    /// loaded, or void from now on and claimed anew. After an unknown outcome of its own it is asked again: then the
    /// later attempt that it finds is its own, for no other process has this owner.
    pub async fn reclaim(
        &self,
        session: &mut impl Statements,
        run: &Run,
        claim: &Claim,
    ) -> Result<Reclaimed, LedgerError> {
        let key = self.key(run);
        let transaction = self.begin_locked(session).await?;
        let work = async {
            let state = session.execute(&sql::chunk_state(&self.name, key, claim.chunk)).await?;
            let word = state.value(0, 0).and_then(ChunkState::parse);
            let attempt = self.attempt(&state)?;
            let owner = state.value(0, 2).unwrap_or("nobody");
            let loaded = word.is_some_and(ChunkState::is_loaded);
            if loaded && attempt == claim.attempt {
                return Ok(Reclaimed::Loaded);
            }
            let ours = attempt == claim.attempt || (owner == self.owner && attempt > claim.attempt);
            if word == Some(ChunkState::Claimed) && ours {
                let update = sql::reclaim(&self.name, key, claim.chunk, attempt, self.lease);
                let done = session.execute_once(&update).await?;
                self.touched("claiming again", &done, 1)?;
                return Ok(Reclaimed::Again(Claim::new(run, claim.chunk, attempt + 1)));
            }
            Ok(Reclaimed::Lost { owner: owner.to_owned() })
        };
        match work.await {
            Ok(again @ Reclaimed::Again(_)) => {
                commit(session, transaction).await?;
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
        let transaction = self.begin_locked(session).await?;
        let update = sql::renew_lease(&self.name, self.key(run), claim.chunk, claim.attempt, self.lease);
        match session.execute(&update).await {
            Ok(done) if done.affected == Some(1) => {
                commit(session, transaction).await?;
                Ok(true)
            }
            other => {
                roll_back(session).await;
                other?;
                Ok(false)
            }
        }
    }

    /// The chunks that are not loaded yet, with whoever has them.
    pub async fn open_chunks(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<Vec<OpenChunk>, LedgerError> {
        let answer = session.execute(&sql::open_chunks(&self.name, self.key(run))).await?;
        let read = |row: &Vec<Option<String>>| {
            let text = |index: usize| row.get(index).and_then(Clone::clone);
            let (owner, over) = (text(1), text(3)? == "1");
            let free = over || owner.is_none() || owner.as_deref() == Some(self.owner());
            Some(OpenChunk { number: text(0)?.parse().ok()?, owner, lease_until: text(2), free })
        };
        let chunks: Option<Vec<OpenChunk>> = answer.rows.iter().map(read).collect();
        chunks.ok_or_else(|| self.corrupt(format!("an unreadable row of run {}", run.run_id)))
    }
}
