//! Every statement that reads or changes the ledger. All names are fully qualified and quoted, every value is a
//! literal, none is a script.

use std::time::Duration;

use crate::model::{Bound, ChunkPlan, TargetName};

/// Snowflake's clock, in UTC (the session's time zone), without a zone.
const NOW: &str = "CURRENT_TIMESTAMP()::TIMESTAMP_NTZ";

/// The lock row's chunk number; plan rows have none below zero.
pub(super) const LOCK_CHUNK: i32 = -1;

/// The chunk number of a run's finish row: who verifies and publishes it.
pub(super) const FINISH_CHUNK: i32 = -2;

/// 1 when nobody holds a living lease.
const LEASE_OVER: &str = "CASE WHEN LEASE_UNTIL IS NULL OR LEASE_UNTIL < CURRENT_TIMESTAMP()::TIMESTAMP_NTZ \
     THEN 1 ELSE 0 END AS LEASE_OVER";

/// A text literal: Snowflake reads backslashes as escapes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), literal)
}

/// The rows of one run of one table.
#[derive(Clone, Copy)]
pub(crate) struct RunKey<'a> {
    pub(crate) pipeline: &'a str,
    pub(crate) run_id: &'a str,
    pub(crate) table: &'a str,
}

impl RunKey<'_> {
    fn condition(&self) -> String {
        format!(
            "PIPELINE = {} AND RUN_ID = {} AND TABLE_NAME = {}",
            literal(self.pipeline),
            literal(self.run_id),
            literal(self.table)
        )
    }
}

/// Makes the ledger together with its lock row: a name is unique, so one creator wins.
pub(super) fn create(ledger: &TargetName) -> String {
    let columns = [
        ("''", "VARCHAR", "PIPELINE"),
        ("''", "VARCHAR", "RUN_ID"),
        ("''", "VARCHAR", "TABLE_NAME"),
        ("-1", "NUMBER(10,0)", "CHUNK"),
        ("NULL", "VARCHAR", "KEY_LOWER"),
        ("NULL", "VARCHAR", "KEY_UPPER"),
        ("'lock'", "VARCHAR", "STATE"),
        ("NULL", "VARCHAR", "OWNER"),
        ("0", "NUMBER(19,0)", "ATTEMPT"),
        ("NULL", "VARCHAR", "SESSION_ID"),
        ("NULL", "VARCHAR", "SOURCE_SPID"),
        ("NULL", "TIMESTAMP_NTZ", "LEASE_UNTIL"),
        ("NULL", "VARCHAR", "FILES"),
        ("NULL", "VARCHAR", "CONTENT_HASH"),
        ("NULL", "NUMBER(38,0)", "ROW_COUNT"),
        ("NULL", "NUMBER(38,0)", "BYTE_COUNT"),
        ("NULL", "VARCHAR", "WITNESS"),
        ("NULL", "VARCHAR", "QUERY_ID"),
        ("NULL", "VARCHAR", "AUDIT_ID"),
        ("NULL", "VARCHAR", "SCHEMA_HASH"),
        ("NULL", "TIMESTAMP_NTZ", "COMMITTED_AT"),
    ];
    let columns: Vec<String> =
        columns.iter().map(|(value, kind, name)| format!("CAST({value} AS {kind}) AS {name}")).collect();
    format!("CREATE TABLE {} AS SELECT {}", ledger.sql(), columns.join(", "))
}

/// Is the ledger there, with how many lock rows?
pub(super) fn count_locks(ledger: &TargetName) -> String {
    format!("SELECT COUNT(*) FROM {} WHERE CHUNK = {LOCK_CHUNK}", ledger.sql())
}

/// The first statement of every change: waits for whoever holds the lock row.
pub(crate) fn lock(ledger: &TargetName, owner: &str) -> String {
    format!(
        "UPDATE {} SET ATTEMPT = ATTEMPT + 1, OWNER = {}, SESSION_ID = CURRENT_SESSION() WHERE CHUNK = {LOCK_CHUNK}",
        ledger.sql(),
        literal(owner)
    )
}

/// The unpublished runs of a table.
pub(super) fn open_runs(ledger: &TargetName, pipeline: &str, table: &str) -> String {
    format!(
        "SELECT RUN_ID, SCHEMA_HASH, COUNT(*) AS CHUNKS FROM {} WHERE PIPELINE = {} AND TABLE_NAME = {} \
         AND CHUNK >= 0 AND STATE <> 'published' GROUP BY RUN_ID, SCHEMA_HASH ORDER BY RUN_ID",
        ledger.sql(),
        literal(pipeline),
        literal(table)
    )
}

/// The latest published run of a table.
pub(super) fn last_published(ledger: &TargetName, pipeline: &str, table: &str) -> String {
    format!(
        "SELECT RUN_ID, MAX(COMMITTED_AT) AS LAST_COMMIT FROM {} WHERE PIPELINE = {} AND TABLE_NAME = {} AND CHUNK >= 0 \
         AND STATE = 'published' GROUP BY RUN_ID ORDER BY 2 DESC LIMIT 1",
        ledger.sql(),
        literal(pipeline),
        literal(table)
    )
}

/// The plan of a new run, some chunks at a time.
pub(super) fn insert_plan(
    ledger: &TargetName,
    run: RunKey<'_>,
    schema_hash: &str,
    chunks: &[ChunkPlan],
) -> String {
    let rows: Vec<String> = chunks
        .iter()
        .map(|chunk| {
            format!(
                "({}, {}, {}, {}, {}, {}, 'planned', 0, {})",
                literal(run.pipeline),
                literal(run.run_id),
                literal(run.table),
                chunk.number,
                optional(chunk.range.lower.as_ref().map(Bound::to_text).as_deref()),
                optional(chunk.range.upper.as_ref().map(Bound::to_text).as_deref()),
                literal(schema_hash)
            )
        })
        .collect();
    format!(
        "INSERT INTO {} (PIPELINE, RUN_ID, TABLE_NAME, CHUNK, KEY_LOWER, KEY_UPPER, STATE, ATTEMPT, SCHEMA_HASH) \
         VALUES {}",
        ledger.sql(),
        rows.join(", ")
    )
}

/// Everything that a loader wants to know of a run's chunks, a page at a time.
pub(super) fn chunks(
    ledger: &TargetName,
    run: RunKey<'_>,
    witnesses: bool,
    after: Option<u32>,
    most: u32,
) -> String {
    format!(
        "SELECT CHUNK, KEY_LOWER, KEY_UPPER, STATE, OWNER, ATTEMPT, ROW_COUNT, BYTE_COUNT, {}, \
         {LEASE_OVER} FROM {} WHERE {} AND {} ORDER BY CHUNK LIMIT {most}",
        if witnesses { "WITNESS" } else { "NULL AS WITNESS" },
        ledger.sql(),
        run.condition(),
        after.map_or_else(|| "CHUNK >= 0".to_owned(), |after| format!("CHUNK > {after}")),
    )
}

/// What is not loaded yet, and who has it.
pub(super) fn open_chunks(ledger: &TargetName, run: RunKey<'_>) -> String {
    format!(
        "SELECT CHUNK, OWNER, CAST(LEASE_UNTIL AS VARCHAR) AS LEASE_UNTIL, {LEASE_OVER} FROM {} WHERE {} \
         AND CHUNK >= 0 AND STATE IN ('planned', 'claimed') ORDER BY CHUNK",
        ledger.sql(),
        run.condition()
    )
}

/// The changes that the ledger has seen, under the lock.
pub(super) fn lock_count(ledger: &TargetName) -> String {
    format!("SELECT ATTEMPT FROM {} WHERE CHUNK = {LOCK_CHUNK}", ledger.sql())
}

/// An earlier process of the same shard: its owner sorts before this one's.
fn earlier_of_shard(shard: &str, owner: &str) -> String {
    format!("OWNER LIKE {} AND OWNER < {}", literal(&format!("{shard} #%")), literal(owner))
}

/// Takes over, at once, what earlier processes of this shard have claimed: their attempts are void from then on.
pub(super) fn take_over(
    ledger: &TargetName,
    run: RunKey<'_>,
    shard: &str,
    owner: &str,
    lease: Duration,
) -> String {
    format!(
        "UPDATE {} SET OWNER = {}, ATTEMPT = ATTEMPT + 1, SESSION_ID = CURRENT_SESSION(), \
         LEASE_UNTIL = DATEADD(second, {}, {NOW}) WHERE {} AND CHUNK >= 0 AND STATE = 'claimed' AND {}",
        ledger.sql(),
        literal(owner),
        lease.as_secs(),
        run.condition(),
        earlier_of_shard(shard, owner)
    )
}

/// Who finishes the run.
pub(super) fn finish_state(ledger: &TargetName, run: RunKey<'_>) -> String {
    format!(
        "SELECT OWNER, CAST(LEASE_UNTIL AS VARCHAR) AS LEASE_UNTIL FROM {} WHERE {} AND CHUNK = {FINISH_CHUNK}",
        ledger.sql(),
        run.condition()
    )
}

/// The first to finish the run.
pub(super) fn insert_finish(ledger: &TargetName, run: RunKey<'_>, owner: &str, lease: Duration) -> String {
    format!(
        "INSERT INTO {} (PIPELINE, RUN_ID, TABLE_NAME, CHUNK, STATE, OWNER, ATTEMPT, SESSION_ID, LEASE_UNTIL) \
         SELECT {}, {}, {}, {FINISH_CHUNK}, 'finish', {}, 1, CURRENT_SESSION(), DATEADD(second, {}, {NOW})",
        ledger.sql(),
        literal(run.pipeline),
        literal(run.run_id),
        literal(run.table),
        literal(owner),
        lease.as_secs()
    )
}

/// Finishes the run instead of an earlier process of this shard, or of somebody whose lease is over.
pub(super) fn claim_finish(
    ledger: &TargetName,
    run: RunKey<'_>,
    shard: &str,
    owner: &str,
    lease: Duration,
) -> String {
    format!(
        "UPDATE {} SET OWNER = {}, ATTEMPT = ATTEMPT + 1, SESSION_ID = CURRENT_SESSION(), \
         LEASE_UNTIL = DATEADD(second, {}, {NOW}) WHERE {} AND CHUNK = {FINISH_CHUNK} \
         AND (OWNER = {} OR LEASE_UNTIL < {NOW} OR ({}))",
        ledger.sql(),
        literal(owner),
        lease.as_secs(),
        run.condition(),
        literal(owner),
        earlier_of_shard(shard, owner)
    )
}

/// Takes a chunk that is planned, is ours, or was left by somebody whose lease is over.
pub(super) fn claim(
    ledger: &TargetName,
    run: RunKey<'_>,
    chunk: u32,
    owner: &str,
    lease: Duration,
) -> String {
    let owner = literal(owner);
    format!(
        "UPDATE {} SET STATE = 'claimed', OWNER = {owner}, ATTEMPT = ATTEMPT + 1, SESSION_ID = CURRENT_SESSION(), \
         LEASE_UNTIL = DATEADD(second, {}, {NOW}) WHERE {} AND CHUNK = {chunk} \
         AND (STATE = 'planned' OR (STATE = 'claimed' AND (OWNER = {owner} OR LEASE_UNTIL < {NOW})))",
        ledger.sql(),
        lease.as_secs(),
        run.condition()
    )
}

/// Takes a chunk again whose attempt `attempt` has an unknown outcome.
pub(super) fn reclaim(
    ledger: &TargetName,
    run: RunKey<'_>,
    chunk: u32,
    attempt: u64,
    lease: Duration,
) -> String {
    format!(
        "UPDATE {} SET ATTEMPT = ATTEMPT + 1, SESSION_ID = CURRENT_SESSION(), \
         LEASE_UNTIL = DATEADD(second, {}, {NOW}) WHERE {} AND CHUNK = {chunk} AND STATE = 'claimed' \
         AND ATTEMPT = {attempt}",
        ledger.sql(),
        lease.as_secs(),
        run.condition()
    )
}

/// Prolongs the lease of a claim that is still ours.
pub(super) fn renew_lease(
    ledger: &TargetName,
    run: RunKey<'_>,
    chunk: u32,
    attempt: u64,
    lease: Duration,
) -> String {
    format!(
        "UPDATE {} SET LEASE_UNTIL = DATEADD(second, {}, {NOW}) WHERE {} AND CHUNK = {chunk} \
         AND STATE = 'claimed' AND ATTEMPT = {attempt}",
        ledger.sql(),
        lease.as_secs(),
        run.condition()
    )
}

/// The state of one chunk, under the lock or after a commit.
pub(crate) fn chunk_state(ledger: &TargetName, run: RunKey<'_>, chunk: u32) -> String {
    format!(
        "SELECT STATE, ATTEMPT, OWNER, CAST(LEASE_UNTIL AS VARCHAR) AS LEASE_UNTIL FROM {} WHERE {} AND CHUNK = {chunk}",
        ledger.sql(),
        run.condition()
    )
}

/// What a commit writes about its chunk.
pub(crate) struct LoadedRow<'a> {
    pub(crate) files: &'a str,
    pub(crate) content_hash: &'a str,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) witness: &'a str,
    pub(crate) source_spid: &'a str,
    pub(crate) query_id: &'a str,
    pub(crate) audit_id: &'a str,
}

/// The fence: touches one row only if the claim is still this attempt's.
pub(crate) fn loaded(
    ledger: &TargetName,
    run: RunKey<'_>,
    chunk: u32,
    attempt: u64,
    row: &LoadedRow<'_>,
) -> String {
    format!(
        "UPDATE {} SET STATE = 'loaded', SESSION_ID = CURRENT_SESSION(), FILES = {}, CONTENT_HASH = {}, \
         ROW_COUNT = {}, BYTE_COUNT = {}, WITNESS = {}, SOURCE_SPID = {}, QUERY_ID = {}, AUDIT_ID = {}, \
         COMMITTED_AT = {NOW} WHERE {} AND CHUNK = {chunk} AND STATE = 'claimed' AND ATTEMPT = {attempt}",
        ledger.sql(),
        literal(row.files),
        literal(row.content_hash),
        row.rows,
        row.bytes,
        literal(row.witness),
        literal(row.source_spid),
        literal(row.query_id),
        literal(row.audit_id),
        run.condition()
    )
}

/// How many chunks of a run are in which state, with how many rows and source bytes.
pub(crate) fn states(ledger: &TargetName, run: RunKey<'_>) -> String {
    format!(
        "SELECT STATE, COUNT(*) AS CHUNKS, SUM(ROW_COUNT) AS ROW_COUNT, SUM(BYTE_COUNT) AS BYTE_COUNT FROM {} \
         WHERE {} AND CHUNK >= 0 \
         GROUP BY STATE ORDER BY STATE",
        ledger.sql(),
        run.condition()
    )
}

/// Moves a whole run from one state to the next.
pub(crate) fn advance(ledger: &TargetName, run: RunKey<'_>, from: &str, to: &str) -> String {
    let at = if to == "published" { format!(", COMMITTED_AT = {NOW}") } else { String::new() };
    format!(
        "UPDATE {} SET STATE = '{to}'{at} WHERE {} AND CHUNK >= 0 AND STATE = '{from}'",
        ledger.sql(),
        run.condition()
    )
}

/// For `loader status`: who has what, and how far it is.
pub(super) fn status(ledger: &TargetName, pipeline: &str) -> String {
    const HOLDER: &str = "CASE WHEN STATE = 'claimed' THEN OWNER ELSE NULL END";
    format!(
        "SELECT TABLE_NAME, RUN_ID, STATE, COUNT(*) AS CHUNKS, SUM(ROW_COUNT) AS ROW_COUNT, \
         SUM(BYTE_COUNT) AS BYTE_COUNT, CAST(MAX(COMMITTED_AT) AS VARCHAR) AS COMMITTED_AT, {HOLDER} AS HOLDER, \
         CAST(MAX(LEASE_UNTIL) AS VARCHAR) AS LEASE_UNTIL FROM {} \
         WHERE PIPELINE = {} AND CHUNK >= 0 GROUP BY TABLE_NAME, RUN_ID, STATE, {HOLDER} \
         ORDER BY TABLE_NAME, RUN_ID, STATE, HOLDER",
        ledger.sql(),
        literal(pipeline)
    )
}
