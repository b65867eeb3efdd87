use super::*;
use crate::{
    model::{Bound, ChunkPlan, ColumnPlan, KeyColumn, KeyRange, SourceType, TableName},
    snowflake::script::{Line, Script, done, locked, lost, refused, rows, touched},
};

pub(crate) fn target(name: &str) -> TargetName {
    TargetName { database: "RAW".into(), schema: "SALES".into(), name: name.into() }
}

/// A plan with every kind of column and two chunks.
pub(crate) fn plan() -> TablePlan {
    let column = |name: &str, source| ColumnPlan {
        source_name: name.to_lowercase(),
        target_name: name.into(),
        source,
        nullable: name != "ID",
    };
    let chunk = |number, lower: Option<&str>, upper: Option<&str>| ChunkPlan {
        number,
        range: KeyRange {
            lower: lower.map(|value| Bound::of("id", value)),
            upper: upper.map(|value| Bound::of("id", value)),
        },
        estimated_rows: 10,
        estimated_bytes: 1000,
    };
    TablePlan {
        source: TableName { schema: "dbo".into(), name: "orders".into() },
        target: target("ORDERS"),
        staging: target("ORDERS_KEYFERRY"),
        columns: vec![
            column("ID", SourceType::Int),
            column("PRICE", SourceType::Money),
            column("AT", SourceType::DateTime2 { scale: 7 }),
            column("Name \"x\"", SourceType::NVarChar { units: 50 }),
            column("RAW", SourceType::VarBinary { bytes: 16 }),
        ],
        keys: vec![KeyColumn { name: "id".into(), source: SourceType::Int, nullable: false }],
        chunks: vec![chunk(1, None, Some("N'O''Brien\\'")), chunk(2, Some("N'O''Brien\\'"), None)],
        schema_hash: "abc123".into(),
    }
}

pub(crate) fn ledger() -> Ledger {
    Ledger::new("RAW", "SALES", "sales-nightly", "shard 0/1", Duration::from_mins(15))
}

/// The run `r1` of [`plan`], with both chunks in `state`.
pub(crate) fn run(state: ChunkState) -> Run {
    let plan = plan();
    let mut run = Run::new("r1".into(), false, &plan);
    run.chunks = plan
        .chunks
        .iter()
        .map(|chunk| LedgerChunk {
            number: chunk.number,
            range: chunk.range.clone(),
            state,
            owner: Some("shard 1/2".into()),
            attempt: 1,
            rows: None,
            bytes: None,
            witness: None,
            lease_over: false,
        })
        .collect();
    run
}

pub(crate) fn claim(attempt: u64) -> Claim {
    Claim::new(&run(ChunkState::Planned), 2, attempt)
}

fn script(middle: Vec<Line>) -> Script {
    Script::new(locked().into_iter().chain(middle))
}

const CLAIM: &str = "UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET STATE = 'claimed'";
const STATE: &str = "SELECT STATE, ATTEMPT, OWNER";
const STATE_COLUMNS: [&str; 4] = ["STATE", "ATTEMPT", "OWNER", "LEASE_UNTIL"];

#[tokio::test]
async fn a_claim_locks_first_decides_next_and_commits() {
    let mut session = script(vec![
        (CLAIM, touched(1)),
        (STATE, rows(&STATE_COLUMNS, &[&["claimed", "3", "shard 0/1", "x"]])),
        ("COMMIT", done()),
    ]);
    let claimed = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap();
    let Claimed::Mine(claim) = claimed else { panic!("{claimed:?}") };
    assert_eq!((claim.chunk, claim.attempt), (2, 3));
    assert!(claim.prefix().starts_with("r1/c00002/a3_"), "{}", claim.prefix());
    assert!(session.is_over());
}

#[tokio::test]
async fn two_attempts_never_share_a_file_name() {
    assert_ne!(claim(1).prefix(), claim(1).prefix());
}

#[tokio::test]
async fn a_chunk_under_anothers_lease_is_left_alone_and_its_owner_named() {
    let mut session = script(vec![
        (CLAIM, touched(0)),
        (STATE, rows(&STATE_COLUMNS, &[&["claimed", "1", "shard 1/2", "2026-11-21 10:00:00"]])),
        ("ROLLBACK", done()),
    ]);
    let claimed = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap();
    assert_eq!(
        claimed,
        Claimed::Other { owner: "shard 1/2".into(), lease_until: Some("2026-11-21 10:00:00".into()) }
    );
    assert!(session.is_over());
}

#[tokio::test]
async fn a_loaded_chunk_is_not_claimed_again() {
    let mut session = script(vec![
        (CLAIM, touched(0)),
        (STATE, rows(&STATE_COLUMNS, &[&["loaded", "1", "shard 0/1", "NULL"]])),
        ("ROLLBACK", done()),
    ]);
    let claimed = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap();
    assert_eq!(claimed, Claimed::Done(ChunkState::Loaded));
}

#[tokio::test]
async fn a_claim_whose_commit_was_lost_is_unknown() {
    let mut session = script(vec![
        (CLAIM, touched(1)),
        (STATE, rows(&STATE_COLUMNS, &[&["claimed", "1", "shard 0/1", "x"]])),
        ("COMMIT", lost()),
    ]);
    let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
    assert!(error.is_transient());
    assert!(matches!(error, LedgerError::Snowflake(error) if error.is_unknown()));
}

#[tokio::test]
async fn a_missing_lock_row_rolls_back_and_says_so() {
    let [transaction, begin, (lock, _)] = locked();
    let mut session = Script::new([transaction, begin, (lock, touched(0)), ("ROLLBACK", done())]);
    let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
    assert!(matches!(error, LedgerError::LockRow { found: 0, .. }), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn nothing_begins_inside_an_open_transaction() {
    let mut session = Script::new([("SELECT CURRENT_TRANSACTION()", rows(&["T"], &[&["1763"]]))]);
    let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
    assert!(error.to_string().contains("open already"), "{error}");
}

#[tokio::test]
async fn an_unknown_commit_that_took_effect_is_done() {
    for state in ["loaded", "verified", "published"] {
        let mut session = script(vec![
            (STATE, rows(&STATE_COLUMNS, &[&[state, "4", "shard 0/1", "x"]])),
            ("ROLLBACK", done()),
        ]);
        let found = ledger().reclaim(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap();
        assert_eq!(found, Reclaimed::Loaded);
        assert!(session.is_over());
    }
}

#[tokio::test]
async fn an_unknown_commit_that_did_not_is_void_from_then_on() {
    let mut session = script(vec![
        (STATE, rows(&STATE_COLUMNS, &[&["claimed", "4", "shard 0/1", "x"]])),
        ("UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET ATTEMPT = ATTEMPT + 1, SESSION_ID", touched(1)),
        ("COMMIT", done()),
    ]);
    let found = ledger().reclaim(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap();
    assert!(matches!(found, Reclaimed::Again(Claim { chunk: 2, attempt: 5, .. })), "{found:?}");
    assert!(session.sent[4].contains("AND ATTEMPT = 4"), "{}", session.sent[4]);
    assert!(session.is_over());
}

#[tokio::test]
async fn an_attempt_that_was_taken_over_is_lost() {
    for (state, attempt) in [("claimed", "5"), ("loaded", "5")] {
        let mut session = script(vec![
            (STATE, rows(&STATE_COLUMNS, &[&[state, attempt, "shard 1/2", "x"]])),
            ("ROLLBACK", done()),
        ]);
        let found = ledger().reclaim(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap();
        assert_eq!(found, Reclaimed::Lost { owner: "shard 1/2".into() });
    }
}

const CHUNK_COLUMNS: [&str; 10] = [
    "CHUNK",
    "KEY_LOWER",
    "KEY_UPPER",
    "STATE",
    "OWNER",
    "ATTEMPT",
    "ROW_COUNT",
    "BYTE_COUNT",
    "WITNESS",
    "LEASE_OVER",
];

/// As a bound stands in the ledger.
const BOUND: &str = r#"[{"column":"id","value":"10"}]"#;

#[tokio::test]
async fn a_new_run_writes_its_plan_under_the_lock() {
    let mut session = script(vec![
        ("SELECT RUN_ID, SCHEMA_HASH", rows(&["RUN_ID", "SCHEMA_HASH", "CHUNKS"], &[])),
        ("INSERT INTO \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\"", touched(2)),
        ("COMMIT", done()),
        (
            "SELECT CHUNK, KEY_LOWER",
            rows(
                &CHUNK_COLUMNS,
                &[
                    &["1", "NULL", BOUND, "planned", "NULL", "0", "NULL", "NULL", "NULL", "1"],
                    &["2", BOUND, "NULL", "planned", "NULL", "0", "NULL", "NULL", "NULL", "1"],
                ],
            ),
        ),
    ]);
    let run = ledger().open_or_resume(&mut session, &plan()).await.unwrap();
    assert_eq!(BOUND, Bound::of("id", "10").to_text());
    assert!(!run.resumed && run.chunks.len() == 2);
    assert_eq!(run.chunks[1].range.to_string(), "id >= 10");
    assert_eq!(run.staging.name, format!("ORDERS_KEYFERRY_{}", run.run_id.to_uppercase()));
    assert!(session.is_over());
}

#[tokio::test]
async fn a_plan_that_was_written_in_part_is_rolled_back() {
    let mut session = script(vec![
        ("SELECT RUN_ID, SCHEMA_HASH", rows(&["RUN_ID", "SCHEMA_HASH", "CHUNKS"], &[])),
        ("INSERT INTO", touched(1)),
        ("ROLLBACK", done()),
    ]);
    let error = ledger().open_or_resume(&mut session, &plan()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Guard { expected: 2, found: 1, .. }), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn an_open_run_is_resumed_with_its_own_chunks() {
    let mut session = script(vec![
        ("SELECT RUN_ID, SCHEMA_HASH", rows(&["R", "H", "N"], &[&["r7", "abc123", "1"]])),
        ("COMMIT", done()),
        (
            "SELECT CHUNK, KEY_LOWER",
            rows(&CHUNK_COLUMNS, &[&["1", "NULL", "NULL", "loaded", "shard 0/1", "1", "6", "99", "{}", "0"]]),
        ),
    ]);
    let run = ledger().open_or_resume(&mut session, &plan()).await.unwrap();
    assert!(run.resumed);
    assert_eq!((run.run_id.as_str(), run.chunks.len(), run.chunks[0].rows), ("r7", 1, Some(6)));
}

#[tokio::test]
async fn a_run_of_another_shape_is_not_resumed() {
    let mut session = script(vec![
        ("SELECT RUN_ID, SCHEMA_HASH", rows(&["R", "H", "N"], &[&["r7", "other", "1"]])),
        ("ROLLBACK", done()),
    ]);
    let error = ledger().open_or_resume(&mut session, &plan()).await.unwrap_err();
    assert!(error.to_string().contains("RAW.SALES.ORDERS") && error.to_string().contains("r7"), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn the_ledger_is_made_when_it_is_missing_and_the_first_creator_wins() {
    for created in [done(), refused("002002")] {
        let mut session = Script::new([
            ("SELECT COUNT(*)", refused("002003")),
            ("CREATE TABLE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" AS SELECT", created),
            ("SELECT COUNT(*)", rows(&["N"], &[&["1"]])),
        ]);
        ledger().ensure(&mut session).await.unwrap();
        assert!(session.is_over());
    }
}

#[tokio::test]
async fn a_role_that_may_not_make_the_ledger_is_told_the_grant() {
    let mut session =
        Script::new([("SELECT COUNT(*)", refused("002003")), ("CREATE TABLE", refused("003001"))]);
    let text = ledger().ensure(&mut session).await.unwrap_err().to_string();
    for part in ["\"RAW\".\"SALES\"", "LOADER", "CREATE TABLE", "GRANT"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_verification_is_recorded_for_every_chunk_or_for_none() {
    let run = run(ChunkState::Loaded);
    let columns = ["STATE", "CHUNKS", "ROW_COUNT"];
    let mut session = script(vec![
        ("SELECT STATE, COUNT(*)", rows(&columns, &[&["claimed", "1", "NULL"], &["loaded", "1", "5"]])),
        ("UPDATE", touched(1)),
        ("ROLLBACK", done()),
    ]);
    let error = ledger().mark_verified(&mut session, &run).await.unwrap_err();
    assert!(matches!(error, LedgerError::Guard { expected: 2, found: 1, .. }), "{error}");
    let mut session = script(vec![
        ("SELECT STATE, COUNT(*)", rows(&columns, &[&["verified", "2", "9"]])),
        ("ROLLBACK", done()),
    ]);
    ledger().mark_verified(&mut session, &run).await.unwrap();
    assert!(session.is_over());
}

#[test]
fn run_ids_are_words_and_differ() {
    let (a, b) = (run::new_run_id(), run::new_run_id());
    assert_ne!(a, b);
    assert!(a.starts_with('r') && a.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{a}");
}

#[test]
fn a_waiting_loader_can_say_for_whom() {
    assert_eq!(run(ChunkState::Claimed).others("shard 0/2"), ["shard 1/2"]);
    assert!(run(ChunkState::Claimed).others("shard 1/2").is_empty());
}

#[test]
fn every_statement_of_the_ledger_reads_so() {
    let (name, run_row) = (target(LEDGER_TABLE), run(ChunkState::Planned));
    let ledger = ledger();
    let key = ledger.key(&run_row);
    let lease = Duration::from_mins(15);
    let row = sql::LoadedRow {
        files: "r1/c00002/a3_x/part000.parquet",
        content_hash: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        rows: 10,
        bytes: 1000,
        witness: r#"{"n":"it's \"quoted\""}"#,
        source_spid: "61",
        query_id: "01b0",
        audit_id: "a-1",
    };
    let statements = [
        sql::count_locks(&name),
        sql::create(&name),
        sql::lock(&name, "shard 0/1"),
        sql::open_runs(&name, "sales-nightly", "ORDERS"),
        sql::last_published(&name, "sales-nightly", "ORDERS"),
        sql::insert_plan(&name, key, "abc123", &plan().chunks),
        sql::chunks(&name, key),
        sql::claim(&name, key, 2, "shard 0/1", lease),
        sql::reclaim(&name, key, 2, 3, lease),
        sql::renew_lease(&name, key, 2, 3, lease),
        sql::chunk_state(&name, key, 2),
        sql::loaded(&name, key, 2, 3, &row),
        sql::states(&name, key),
        sql::advance(&name, key, "loaded", "verified"),
        sql::advance(&name, key, "verified", "published"),
        sql::status(&name, "sales-nightly"),
    ];
    insta::assert_snapshot!(statements.join("\n\n"));
}

proptest::proptest! {
    #[test]
    fn a_literal_reads_back_as_what_it_was(text: String) {
        let literal = sql::literal(&text);
        let inner = literal.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
        let mut back = String::new();
        let mut characters = inner.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' | '\'' => {
                    let next = characters.next();
                    proptest::prop_assert_eq!(next, Some(c));
                    back.push(c);
                }
                other => back.push(other),
            }
        }
        proptest::prop_assert_eq!(back, text);
    }
}
