//! From the staging table into the target, once: INSERT OVERWRITE and the ledger's `published` in one transaction.
//!
//! It is DML, so the target keeps its grants, policies and tags, and readers see the old rows or the new ones.

mod shape;

use crate::{
    fail,
    ledger::{
        Ledger, LedgerError, Run,
        sql::{advance, literal},
        staging_of,
        transaction::{begin, commit, roll_back},
    },
    model::{ColumnPlan, TablePlan, TargetName, quoted},
    snowflake::{SnowflakeError, Statements},
    stage,
};
pub use shape::ShapeError;

/// Why the target was not replaced, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A statement failed. After an unknown outcome publish again in a new session: it reads the ledger first.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The target has other columns.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Not every chunk is verified.
    #[error(
        "{table} is not published: of {chunks} chunks the ledger has {found}; all must be verified first"
    )]
    NotVerified {
        /// The target.
        table: String,
        /// Chunks of the run.
        chunks: usize,
        /// What the ledger says.
        found: String,
    },
    /// The staging table does not hold what the ledger says; rolled back.
    #[error(
        "{table} is not published: the staging table {staging} gave {found} rows where the ledger has {expected}; \
         rolled back, the target is untouched. A row access policy on it would hide rows from this role"
    )]
    Rows {
        /// The target.
        table: String,
        /// The staging table.
        staging: String,
        /// By the ledger.
        expected: u64,
        /// By INSERT OVERWRITE.
        found: u64,
    },
}

impl From<SnowflakeError> for PublishError {
    fn from(error: SnowflakeError) -> Self {
        Self::Ledger(error.into())
    }
}

impl PublishError {
    /// True when the outcome is open: publish again in a new session.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Ledger(LedgerError::Snowflake(error)) if error.is_unknown())
    }

    /// True when the same work in a new session may well succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_transient())
    }
}

/// A published run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Rows in the target.
    pub rows: u64,
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

/// Publishes a verified run. Called again after a crash or an unknown outcome it finds that out first.
pub async fn publish(
    session: &mut impl Statements,
    ledger: &Ledger,
    plan: &TablePlan,
    run: &Run,
) -> Result<Published, PublishError> {
    let states = ledger.states(session, run).await?;
    let (chunks, rows) = (states.chunks(), states.rows());
    if chunks == run.chunks.len() as u64 && states.count("published") == chunks {
        return Ok(Published { rows, already: true });
    }
    if chunks != run.chunks.len() as u64 || states.count("verified") != chunks {
        return Err(PublishError::NotVerified {
            table: plan.target.to_string(),
            chunks: run.chunks.len(),
            found: states.to_string(),
        });
    }
    fail::point("before_publish");
    begin(session).await?;
    if let Err(error) = overwrite(session, ledger, plan, run, rows).await {
        roll_back(session).await;
        return Err(error);
    }
    commit(session).await?;
    confirm(session, ledger, run, chunks).await?;
    fail::point("after_publish");
    Ok(Published { rows, already: false })
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
    let done = session.execute(&statement).await;
    let done = done.map_err(|error| needs_overwrite(error, &plan.target, &run.staging, session.role()))?;
    if done.affected != Some(rows) {
        return Err(PublishError::Rows {
            table: plan.target.to_string(),
            staging: run.staging.to_string(),
            expected: rows,
            found: done.affected.unwrap_or(0),
        });
    }
    ledger.lock(session).await?;
    let change = advance(ledger.name(), ledger.key(run), "verified", "published");
    let done = session.execute(&change).await?;
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
    session.execute(&stage::remove_statement(stage, run_id)).await?;
    Ok(())
}

/// The statements of a load in the order in which they run, for the plan; `<run>` and `<attempt>` stand for what is
/// not known yet.
pub fn statements(ledger: &Ledger, plan: &TablePlan, stage: &TargetName) -> Vec<String> {
    let staging = TargetName { name: format!("{}_<RUN>", plan.staging.name), ..plan.staging.clone() };
    let casts: Vec<String> = plan
        .columns
        .iter()
        .map(|column| format!("$1:{}::{}", quoted(&column.target_name), column.source.snowflake()))
        .collect();
    let ledger = ledger.name().sql();
    vec![
        create_target(&plan.target, &plan.columns),
        create_staging(&staging, &plan.columns),
        stage::create_statement(stage),
        stage::put_statement(stage, "<run>/<chunk>/<attempt>"),
        format!(
            "COPY INTO {} FROM (SELECT {} FROM {}) FILES = (...) \
             FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT",
            staging.sql(),
            casts.join(", "),
            stage::location(stage, "<run>/<chunk>/<attempt>"),
        ),
        format!(
            "UPDATE {ledger} SET STATE = 'loaded', ... WHERE ... AND STATE = 'claimed' AND ATTEMPT = <attempt>"
        ),
        overwrite_statement(&plan.target, &staging, &plan.columns),
        format!("UPDATE {ledger} SET STATE = 'published' WHERE ... AND STATE = 'verified'"),
        drop_statement(&staging),
        stage::remove_statement(stage, "<run>"),
    ]
}

/// The privileges that [`statements`] need, as the grants that give them.
pub fn privileges(ledger: &Ledger, plan: &TablePlan, stage: &TargetName, role: &str) -> Vec<String> {
    let schema = format!("{}.{}", quoted(&plan.target.database), quoted(&plan.target.schema));
    let role = quoted(role);
    vec![
        format!("GRANT USAGE ON DATABASE {} TO ROLE {role}", quoted(&plan.target.database)),
        format!("GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA {schema} TO ROLE {role}"),
        format!(
            "GRANT SELECT, INSERT, UPDATE ON TABLE {} TO ROLE {role} -- if it exists",
            ledger.name().sql()
        ),
        format!("GRANT READ, WRITE ON STAGE {} TO ROLE {role} -- if it exists", stage.sql()),
        format!("GRANT SELECT, INSERT, DELETE ON TABLE {} TO ROLE {role} -- if it exists", plan.target.sql()),
    ]
}

fn column_list(columns: &[ColumnPlan]) -> String {
    columns.iter().map(|column| quoted(&column.target_name)).collect::<Vec<_>>().join(", ")
}

fn definitions(columns: &[ColumnPlan]) -> String {
    let definition =
        |column: &ColumnPlan| format!("{} {}", quoted(&column.target_name), column.source.snowflake());
    columns.iter().map(definition).collect::<Vec<_>>().join(", ")
}

/// The target, as the plan has it.
pub(crate) fn create_target(target: &TargetName, columns: &[ColumnPlan]) -> String {
    format!("CREATE TABLE IF NOT EXISTS {} ({})", target.sql(), definitions(columns))
}

/// Transient: its rows are staged files' rows and need no fail-safe.
pub(crate) fn create_staging(staging: &TargetName, columns: &[ColumnPlan]) -> String {
    format!("CREATE TRANSIENT TABLE IF NOT EXISTS {} ({})", staging.sql(), definitions(columns))
}

fn overwrite_statement(target: &TargetName, staging: &TargetName, columns: &[ColumnPlan]) -> String {
    let columns = column_list(columns);
    format!("INSERT OVERWRITE INTO {} ({columns}) SELECT {columns} FROM {}", target.sql(), staging.sql())
}

fn drop_statement(staging: &TargetName) -> String {
    format!("DROP TABLE IF EXISTS {}", staging.sql())
}

fn needs_create(error: SnowflakeError, table: &TargetName, role: &str) -> SnowflakeError {
    let schema = format!("{}.{}", quoted(&table.database), quoted(&table.schema));
    error.needing(
        &format!("the schema {schema}"),
        role,
        &format!(
            "GRANT USAGE ON DATABASE {} TO ROLE {role} and GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA {schema} TO ROLE {role}",
            quoted(&table.database)
        ),
    )
}

fn needs_overwrite(
    error: SnowflakeError,
    target: &TargetName,
    staging: &TargetName,
    role: &str,
) -> SnowflakeError {
    error.needing(
        &format!("the target {} or the staging table {}", target.sql(), staging.sql()),
        role,
        &format!("GRANT SELECT, INSERT, DELETE ON TABLE {} TO ROLE {role}", target.sql()),
    )
}

#[cfg(test)]
mod tests;
