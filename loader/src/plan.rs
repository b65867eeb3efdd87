//! From the catalog to a plan: columns with exact types, chunks, names, and everything that will be said and
//! done, before anything moves. Read-only.

mod chunks;
mod columns;
pub(crate) mod literal;
mod memory;
pub(crate) mod print;
pub mod sql;
mod statements;

use std::time::Duration;

pub use memory::Sizes;
use serde::Serialize;

use crate::{
    catalog::{self, Catalog, CatalogError},
    config::{ByteSize, Consistency, Pipeline, Table},
    ledger::Ledger,
    model::{KeyColumn, TableName, TablePlan, TargetName},
    shard::Shard,
    verify::{self, Level},
};

/// How long a claim stands without being renewed, by Snowflake's clock.
pub const LEASE: Duration = Duration::from_mins(15);

/// Why no plan can be made. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The catalog could not be asked, or its answer rules the table out.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database allows no SNAPSHOT transactions.
    #[error(
        "{database} does not allow snapshot isolation, which `per_chunk` and `per_run` need. Either run \
         ALTER DATABASE {} SET ALLOW_SNAPSHOT_ISOLATION ON, or write `consistency: read_committed`: rows that \
         change while they are read can then be missed or seen twice",
        crate::model::bracketed(database)
    )]
    NoSnapshot {
        /// The source database.
        database: String,
    },
    /// The server is too old for the level.
    #[error(
        "the level `hashes` needs SQL Server 2016 or later, and this server is version {version}: its HASHBYTES takes \
         8,000 bytes at most. Use `sums`"
    )]
    NoHashes {
        /// What the server calls itself.
        version: String,
    },
    /// `database_snapshot` names something else.
    #[error(
        "`database_snapshot` names {name}, which is {}; let an administrator run CREATE DATABASE {} ON (NAME = …, \
         FILENAME = …) AS SNAPSHOT OF {}, with each data file named",
        found.as_ref().map_or_else(
            || "no database snapshot, or one of a database that this login may not see".to_owned(),
            |other| format!("a snapshot of {other} and not of {database}")
        ),
        crate::model::bracketed(name),
        crate::model::bracketed(database)
    )]
    NotASnapshot {
        /// What the file names.
        name: String,
        /// The source database.
        database: String,
        /// What it is a snapshot of.
        found: Option<String>,
    },
    /// Columns that cannot cross.
    #[error("{table} cannot be carried as configured (pipeline file, line {line}):{}", list(problems))]
    Columns {
        /// The source table.
        table: TableName,
        /// Where it stands in the file.
        line: u64,
        /// One line for each column.
        problems: Vec<String>,
    },
    /// The chunks are so small that there would be too many.
    #[error(
        "{table} would be cut into {chunks} chunks, more than {most}; raise `limits.chunk_mib` or `limits.chunk_rows`"
    )]
    TooManyChunks {
        /// The source table.
        table: TableName,
        /// How many there would be.
        chunks: u64,
        /// How many there may be.
        most: u64,
    },
    /// The memory budget cannot hold the widest row or value.
    #[error(
        "`limits.memory_mib` is {budget}, but the widest row of {table} needs {floor} even with one connection at a \
         time; column {column} is its widest. Raise `limits.memory_mib`{}, or exclude the column",
        if *has_max {
            ", or let `limits.value_mib` name the largest value that you expect (a larger one then stops the run)"
        } else {
            ""
        }
    )]
    Memory {
        /// The table with the widest rows.
        table: TableName,
        /// Its widest column, with the type.
        column: String,
        /// The configured budget.
        budget: ByteSize,
        /// The least that works.
        floor: ByteSize,
        /// Whether a column has a (max) type.
        has_max: bool,
    },
}

impl PlanError {
    /// Whether the same question may be answered later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Catalog(CatalogError::Tds { source, .. }) if source.is_transient())
    }
}

fn list(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |all, problem| all + "\n  " + problem)
}

/// The plan of a whole pipeline.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: String,
    /// The source database.
    pub database: String,
    /// What the rows are a view of.
    pub consistency: Consistency,
    /// The database snapshot that is read, and when it was made.
    pub point: Option<String>,
    /// How much is verified before anything is published.
    pub level: Level,
    /// The budget.
    pub memory_bytes: u64,
    /// The least budget that the widest possible row needs.
    pub memory_floor_bytes: u64,
    /// What is held in memory at once, and how many chunks are on their way.
    pub memory: Sizes,
    /// The stage that files cross.
    pub stage: TargetName,
    /// In the order of the file.
    pub tables: Vec<PlannedTable>,
    /// Rights that the two logins need.
    pub privileges: Vec<String>,
}

/// The plan of one table, with all that is said about it.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedTable {
    /// What the stages follow.
    #[serde(flatten)]
    pub plan: TablePlan,
    /// Rows.
    pub rows: u64,
    /// Whether they were counted now; otherwise they are the catalog's statistics.
    pub counted: bool,
    /// Source bytes, estimated.
    pub bytes: u64,
    /// Columns that do not cross because the file says so.
    pub excluded: Vec<String>,
    /// What a reader should know: no key, computed columns, changed names.
    pub notes: Vec<String>,
    /// What could be lost; a loss needs an opt-in, so this is empty unless one was given.
    pub losses: Vec<String>,
    /// What the chosen level does not see, with the columns.
    pub unwitnessed: Vec<String>,
    /// Per column, the witnesses on both sides.
    pub witnesses: Vec<String>,
    /// The statements at the source; of the chunks' the first stands for all.
    pub source_statements: Vec<String>,
    /// The statements at the target.
    pub target_statements: Vec<String>,
}

impl Plan {
    /// Binds every table's plan to where its rows come from: a run that began at one server or database is never
    /// resumed at another.
    #[must_use]
    pub fn from_origin(mut self, server: &str, grant: &str) -> Self {
        for table in &mut self.tables {
            let origin = format!("@database {} at {server}, grant {grant}", self.database);
            table.plan.schema_hash.push_str(&origin);
        }
        self
    }
}

/// Asks the catalog and decides.
pub async fn plan(catalog: &mut impl Catalog, pipeline: &Pipeline, level: Level) -> Result<Plan, PlanError> {
    let database = catalog::database(catalog, pipeline).await?;
    if pipeline.source.consistency.needs_snapshot_isolation() && !database.snapshot_allowed {
        return Err(PlanError::NoSnapshot { database: database.name });
    }
    let point = point(pipeline, &database)?;
    if level == Level::Hashes {
        let (version, edition) = catalog::version(catalog, &database).await?;
        if !verify::hashes_possible(&version, edition) {
            return Err(PlanError::NoHashes { version });
        }
    }
    let stage = target_name(pipeline, &pipeline.target.stage);
    let mut tables = Vec::with_capacity(pipeline.tables.len());
    for table in &pipeline.tables {
        tables.push(plan_table(catalog, pipeline, &database, point.as_deref(), table, &stage, level).await?);
    }
    let (memory, memory_floor_bytes) =
        memory::sizes(&pipeline.limits, tables.iter().map(|table| &table.plan))?;
    let ledger = ledger(pipeline);
    Ok(Plan {
        pipeline: pipeline.name.clone(),
        database: database.name,
        consistency: pipeline.source.consistency,
        point,
        level,
        memory_bytes: pipeline.limits.memory.bytes(),
        memory_floor_bytes,
        memory,
        privileges: statements::privileges(pipeline, &ledger, &stage, &tables),
        stage,
        tables,
    })
}

/// The database snapshot that is read, in words that no other one shares.
fn point(pipeline: &Pipeline, database: &catalog::Database) -> Result<Option<String>, PlanError> {
    let Some(name) = &pipeline.source.database_snapshot else { return Ok(None) };
    let of = database.snapshot_of.as_ref();
    match (of.filter(|of| of.to_lowercase() == pipeline.source.database.to_lowercase()), &database.created) {
        (Some(of), Some(created)) => Ok(Some(format!("{} of {of}, made {created}", database.name))),
        _ => Err(PlanError::NotASnapshot {
            name: name.clone(),
            database: pipeline.source.database.clone(),
            found: of.cloned(),
        }),
    }
}

#[allow(clippy::too_many_arguments)]
async fn plan_table(
    catalog: &mut impl Catalog,
    pipeline: &Pipeline,
    database: &catalog::Database,
    point: Option<&str>,
    table: &Table,
    stage: &TargetName,
    level: Level,
) -> Result<PlannedTable, PlanError> {
    let found = catalog::table(catalog, database, &table.source).await?;
    let chosen = columns::choose(table, &found, pipeline.target.identifiers)?;
    let keys = chunks::keys_of(&found);
    let row_bytes = chunks::row_bytes(&found, &chosen.columns);
    let mut notes = chosen.notes;
    if let Err(reason) = &keys {
        notes.push(format!(
            "one chunk: {reason}. Its rows are read once, in one stream into several files that are committed together; \
             after a crash the stream begins anew"
        ));
    }
    let keys = keys.unwrap_or_default();
    let cut = chunks::cut(catalog, &table.source, &found, &keys, row_bytes, &pipeline.limits).await?;
    notes.extend(cut.notes);
    let keys = chunks::columns_of(&keys);
    let target = target_name(pipeline, &table.target);
    let column = |key: &KeyColumn| found.columns.iter().find(|column| column.name == key.name);
    let collations: Vec<Option<&str>> =
        keys.iter().map(|key| column(key).and_then(|column| column.collation.as_deref())).collect();
    let plan = TablePlan {
        schema_hash: columns::schema_hash(&table.source, &target, &chosen.columns, &keys, &collations, point),
        staging: target_name(pipeline, &format!("{}__KEYFERRY", table.target)),
        source: table.source.clone(),
        target,
        columns: chosen.columns,
        keys,
        chunks: cut.chunks,
    };
    Ok(PlannedTable {
        rows: found.rows,
        counted: found.counted,
        bytes: found.rows * row_bytes,
        excluded: table.exclude.clone(),
        notes,
        losses: Vec::new(),
        witnesses: plan.columns.iter().map(|c| verify::words(c, level)).collect(),
        unwitnessed: verify::gaps(&plan.columns, level, pipeline.source.consistency),
        source_statements: statements::source(&plan, &found, pipeline, level, &cut.asked),
        target_statements: statements::target(&ledger(pipeline), &plan, stage, level),
        plan,
    })
}

/// The ledger as the whole run's only shard sees it.
pub fn ledger(pipeline: &Pipeline) -> Ledger {
    shard_ledger(pipeline, Shard::default())
}

/// The ledger as one shard of the run sees it.
pub fn shard_ledger(pipeline: &Pipeline, shard: Shard) -> Ledger {
    let (target, shard) = (&pipeline.target, shard.to_string());
    Ledger::new(&target.database, &target.schema, &pipeline.name, &shard, LEASE)
}

fn target_name(pipeline: &Pipeline, name: &str) -> TargetName {
    TargetName {
        database: pipeline.target.database.clone(),
        schema: pipeline.target.schema.clone(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
