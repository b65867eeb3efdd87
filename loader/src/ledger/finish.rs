//! Who verifies and publishes a run when several processes have loaded it: one at a time, under a lease. What keeps the
//! publication exact is its own guard; this only saves the others the work.

use super::{
    Ledger, LedgerError, Run, sql,
    transaction::{commit, roll_back},
};
use crate::snowflake::Statements;

/// Whether this process finishes the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finishing {
    /// It does.
    Mine,
    /// Another one is at it.
    Other {
        /// Who.
        owner: String,
        /// Until when, by Snowflake's clock, UTC.
        lease_until: Option<String>,
    },
}

impl Ledger {
    /// Claims the end of a run: its verification and publication. An unknown outcome leaves nothing to repair.
    pub async fn claim_finish(
        &self,
        session: &mut impl Statements,
        run: &Run,
    ) -> Result<Finishing, LedgerError> {
        let key = self.key(run);
        let transaction = self.begin_locked(session).await?;
        let work = async {
            let found = session.execute(&sql::finish_state(&self.name, key)).await?;
            let claim = match found.rows.len() {
                0 => sql::insert_finish(&self.name, key, &self.owner, self.lease),
                1 => sql::claim_finish(&self.name, key, &self.shard, &self.owner, self.lease),
                several => return Err(self.corrupt(format!("{several} rows for one publication"))),
            };
            if session.execute_once(&claim).await?.affected == Some(1) {
                return Ok(Finishing::Mine);
            }
            Ok(Finishing::Other {
                owner: found.value(0, 0).unwrap_or("nobody").to_owned(),
                lease_until: found.value(0, 1).map(str::to_owned),
            })
        };
        match work.await {
            Ok(Finishing::Mine) => {
                commit(session, transaction).await?;
                Ok(Finishing::Mine)
            }
            outcome => {
                roll_back(session).await;
                outcome
            }
        }
    }
}
