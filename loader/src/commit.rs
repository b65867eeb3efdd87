//! COPY and the ledger's row in one transaction: a chunk is in the staging table exactly when the ledger says so.
//!
//! COPY comes first, because two COPYs do not block each other; then the lock, then the fence: an UPDATE that touches
//! the chunk's row only if this attempt still holds the claim. A zombie finds another attempt there and rolls back.

mod error;

pub use self::error::CommitError;
use crate::{
    fail,
    ledger::{
        Claim, Ledger, LedgerError, Run,
        sql::{self, LoadedRow},
        transaction::{begin, commit as commit_transaction, roll_back},
    },
    model::{ColumnPlan, KeyRange, TablePlan, TargetName, file_column, quoted},
    snowflake::{Answer, SnowflakeError, Statements},
    stage::{StagedFile, location},
};

/// COPY takes no more names.
const MOST_FILES: usize = 1000;

/// What is known of a chunk when its files are staged.
#[derive(Clone, Debug)]
pub struct ChunkFacts {
    /// Rows decoded, which is also rows encoded.
    pub rows: u64,
    /// Source bytes.
    pub bytes: u64,
    /// The staged files, under the claim's prefix. None for a chunk without rows.
    pub files: Vec<StagedFile>,
    /// The loader's aggregates, JSON.
    pub witness: String,
    /// The SQL Server session that read the rows.
    pub source_spid: u16,
    /// The broker's audit id of the Snowflake session.
    pub audit_id: String,
}

/// A committed chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The COPY's query id; empty for a chunk without rows.
    pub query_id: String,
}

/// Commits one claimed chunk whose files are staged.
pub async fn commit(
    session: &mut impl Statements,
    ledger: &Ledger,
    run: &Run,
    plan: &TablePlan,
    stage: &TargetName,
    claim: &Claim,
    facts: &ChunkFacts,
) -> Result<Committed, CommitError> {
    let chunk = Chunk { ledger, run, plan, stage, claim, facts };
    chunk.check_facts()?;
    let transaction = begin(session).await.map_err(|error| chunk.failed(error.into()))?;
    fail::point("commit_begun");
    let committed = match chunk.load(session).await {
        Ok(committed) => committed,
        Err(error) => {
            roll_back(session).await;
            return Err(chunk.unless_lost(session, error).await);
        }
    };
    let sent = commit_transaction(session, transaction).await;
    fail::point("after_commit_sent");
    sent.map_err(CommitError::Unknown)?;
    chunk.confirm(session).await?;
    fail::point("after_commit");
    Ok(committed)
}

struct Chunk<'a> {
    ledger: &'a Ledger,
    run: &'a Run,
    plan: &'a TablePlan,
    stage: &'a TargetName,
    claim: &'a Claim,
    facts: &'a ChunkFacts,
}

impl Chunk<'_> {
    /// Everything inside the transaction.
    async fn load(&self, session: &mut impl Statements) -> Result<Committed, CommitError> {
        let mut query_id = String::new();
        if !self.facts.files.is_empty() {
            let copy = copy_statement(
                &self.run.staging,
                &self.plan.columns,
                self.stage,
                self.claim,
                &self.facts.files,
            );
            let answer = session.execute_once(&copy).await;
            let answer =
                answer.map_err(|error| self.failed(self.needs_copy(error, session.role()).into()))?;
            check_counts(&answer, &self.facts.files).map_err(|found| self.counts(found))?;
            query_id = answer.query_id;
        }
        fail::point("after_copy");
        self.ledger.lock(session).await.map_err(|error| self.failed(error))?;
        fail::point("commit_locked");
        let done =
            session.execute_once(&self.fence(&query_id)).await.map_err(|error| self.failed(error.into()))?;
        match done.affected {
            Some(1) => {
                fail::point("commit_fenced");
                Ok(Committed { query_id })
            }
            Some(0) => Err(self.lost(session).await),
            _ => {
                let guard = self.ledger.touched("a chunk's commit", &done, 1);
                Err(guard
                    .err()
                    .map_or_else(|| self.counts("no row count".to_owned()), |error| self.failed(error)))
            }
        }
    }

    fn fence(&self, query_id: &str) -> String {
        let names: Vec<String> =
            self.facts.files.iter().map(|file| format!("{}/{}", self.claim.prefix(), file.name)).collect();
        let digests: Vec<&str> = self.facts.files.iter().map(|file| file.digest.as_str()).collect();
        let row = LoadedRow {
            files: &names.join("\n"),
            content_hash: &digests.join("\n"),
            rows: self.facts.rows,
            bytes: self.facts.bytes,
            witness: &self.facts.witness,
            source_spid: &self.facts.source_spid.to_string(),
            query_id,
            audit_id: &self.facts.audit_id,
        };
        let key = self.ledger.key(self.run);
        sql::loaded(self.ledger.name(), key, self.claim.chunk, self.claim.attempt, &row)
    }

    /// COMMIT is confirmed even when no transaction was open any more, so the ledger is read once more.
    async fn confirm(&self, session: &mut impl Statements) -> Result<(), CommitError> {
        let state = self.state(session).await;
        let unknown = |reason: String| {
            CommitError::Unknown(SnowflakeError::Unknown { attempted: "COMMIT".to_owned(), reason })
        };
        let state = state.map_err(|error| unknown(error.to_string()))?;
        let attempt = self.claim.attempt.to_string();
        match (state.value(0, 0), state.value(0, 1)) {
            (Some("loaded" | "verified" | "published"), Some(found)) if found == attempt => Ok(()),
            (word, _) => Err(unknown(format!("COMMIT was confirmed, but the ledger says {word:?}"))),
        }
    }

    /// What a refusal means when the claim is gone: whoever took the chunk over may have published the run and removed
    /// its files and its staging table, and then that is the cause to tell.
    async fn unless_lost(&self, session: &mut impl Statements, error: CommitError) -> CommitError {
        if !matches!(error, CommitError::Refused { .. }) || error.is_transient() {
            return error;
        }
        let Ok(state) = self.state(session).await else { return error };
        let ours = self.claim.attempt.to_string();
        match (state.value(0, 0), state.value(0, 1)) {
            (Some(word), Some(attempt)) if word != "claimed" || attempt != ours => self.lost_to(&state),
            _ => error,
        }
    }

    async fn lost(&self, session: &mut impl Statements) -> CommitError {
        self.lost_to(&self.state(session).await.unwrap_or_default())
    }

    fn lost_to(&self, state: &Answer) -> CommitError {
        CommitError::ClaimLost {
            chunk: self.claim.chunk,
            table: self.plan.target.to_string(),
            attempt: self.claim.attempt,
            owner: state.value(0, 2).unwrap_or("somebody").to_owned(),
        }
    }

    async fn state(&self, session: &mut impl Statements) -> Result<Answer, SnowflakeError> {
        let key = self.ledger.key(self.run);
        session.execute(&sql::chunk_state(self.ledger.name(), key, self.claim.chunk)).await
    }

    fn check_facts(&self) -> Result<(), CommitError> {
        let staged: u64 = self.facts.files.iter().map(|file| file.rows).sum();
        if staged != self.facts.rows {
            return Err(self.counts(format!("{} rows were decoded and {staged} encoded", self.facts.rows)));
        }
        if self.facts.files.len() > MOST_FILES {
            let files = self.facts.files.len();
            return Err(
                self.counts(format!("{files} files where COPY takes {MOST_FILES}; raise `limits.file_mib`"))
            );
        }
        Ok(())
    }

    fn range(&self) -> KeyRange {
        let chunk = self.run.chunks.iter().find(|chunk| chunk.number == self.claim.chunk);
        chunk.map(|chunk| chunk.range.clone()).unwrap_or_default()
    }

    fn counts(&self, found: String) -> CommitError {
        CommitError::Counts {
            chunk: self.claim.chunk,
            table: self.plan.target.to_string(),
            range: self.range(),
            found,
        }
    }

    /// Before COMMIT nothing can have taken effect but what ROLLBACK or the end of the session undoes, so even a lost
    /// reply is decided: by the next claim, which waits for this transaction's end.
    fn failed(&self, error: LedgerError) -> CommitError {
        match error {
            LedgerError::Snowflake(error) if error.is_session_gone() => CommitError::Unknown(error),
            source => CommitError::Refused {
                chunk: self.claim.chunk,
                table: self.plan.target.to_string(),
                range: self.range(),
                source: Box::new(source),
            },
        }
    }

    fn needs_copy(&self, error: SnowflakeError, role: &str) -> SnowflakeError {
        let (staging, stage) = (self.run.staging.sql(), self.stage.sql());
        error.needing(
            &format!("the staging table {staging} or the stage {stage}"),
            role,
            &format!("GRANT SELECT, INSERT ON TABLE {staging} TO ROLE {role} and GRANT READ, WRITE ON STAGE {stage} TO ROLE {role}"),
        )
    }
}

/// COPY with a cast for each column, so that no default of the account decides a type.
pub(crate) fn copy_statement(
    staging: &TargetName,
    columns: &[ColumnPlan],
    stage: &TargetName,
    claim: &Claim,
    files: &[StagedFile],
) -> String {
    let mut names: Vec<String> = columns.iter().map(|column| quoted(&column.target_name)).collect();
    names.push(quoted(&file_column(columns)));
    let casts: Vec<String> = columns
        .iter()
        .map(|column| format!("$1:{}::{}", quoted(&column.target_name), column.source.snowflake()))
        .collect();
    let files: Vec<String> = files.iter().map(|file| sql::literal(&file.name)).collect();
    format!(
        "COPY INTO {} ({}) FROM (SELECT {}, METADATA$FILENAME FROM {}) FILES = ({}) \
         FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT",
        staging.sql(),
        names.join(", "),
        casts.join(", "),
        location(stage, claim.prefix()),
        files.join(", ")
    )
}

/// COPY's own account of each file against the encoder's.
fn check_counts(answer: &Answer, files: &[StagedFile]) -> Result<(), String> {
    let column = |name: &str| {
        answer
            .column(name)
            .ok_or_else(|| format!("COPY's answer has no column {name:?}, so its files cannot be checked"))
    };
    let (file, status, loaded) = (column("file")?, column("status")?, column("rows_loaded")?);
    if answer.rows.len() != files.len() {
        return Err(format!("COPY speaks of {} files, {} were staged", answer.rows.len(), files.len()));
    }
    for staged in files {
        let row = (0..answer.rows.len()).find(|&row| {
            answer.value(row, file).is_some_and(|name| {
                name == staged.name || name.strip_suffix(&staged.name).is_some_and(|rest| rest.ends_with('/'))
            })
        });
        let Some(row) = row else { return Err(format!("COPY does not speak of {}", staged.name)) };
        let word = answer.value(row, status).unwrap_or("NULL");
        let rows: Option<u64> = answer.value(row, loaded).and_then(|text| text.parse().ok());
        if word != "LOADED" || rows != Some(staged.rows) {
            let rows = rows.map_or("no".to_owned(), |rows| rows.to_string());
            return Err(format!(
                "{}: {} rows were staged, COPY says {word} with {rows} rows",
                staged.name, staged.rows
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
