use super::*;
use crate::{
    model::{Bound, ChunkPlan, ColumnPlan, KeyColumn, KeyRange, SourceType, TableName},
    snowflake::script::{Line, Script, done, locked, lost, refused, rows, touched, transaction},
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
        transaction("1763"),
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
        transaction("1763"),
        ("COMMIT", lost()),
    ]);
    let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
    assert!(error.is_transient());
    assert!(matches!(error, LedgerError::Snowflake(error) if error.is_unknown()));
}

#[tokio::test]
async fn a_missing_lock_row_rolls_back_and_says_so() {
    let [before, begin, id, (lock, _)] = locked();
    let mut session = Script::new([before, begin, id, (lock, touched(0)), ("ROLLBACK", done())]);
    let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
    assert!(matches!(error, LedgerError::LockRow { found: 0, .. }), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn nothing_begins_inside_an_open_transaction() {
    let mut session = Script::new([transaction("1762"), ("ROLLBACK", done()), transaction("1762")]);
    let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
    assert!(error.to_string().contains("open already"), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn a_transaction_that_snowflake_ended_meanwhile_is_not_committed() {
    for now in ["NULL", "1764"] {
        let mut session = script(vec![
            (CLAIM, touched(1)),
            (STATE, rows(&STATE_COLUMNS, &[&["claimed", "3", "shard 0/1", "x"]])),
            transaction(now),
            ("ROLLBACK", done()),
        ]);
        let error = ledger().claim(&mut session, &run(ChunkState::Planned), 2).await.unwrap_err();
        assert!(matches!(&error, LedgerError::Snowflake(unknown) if unknown.is_unknown()), "{error}");
        assert!(session.is_over());
    }
}

#[tokio::test]
async fn each_process_is_an_owner_of_its_own_and_later_ones_sort_after_earlier_ones() {
    let mut owners = Vec::new();
    for count in ["9", "10", "10"] {
        let mut session = script(vec![
            ("SELECT ATTEMPT FROM", rows(&["ATTEMPT"], &[&[count]])),
            transaction("1763"),
            ("COMMIT", done()),
        ]);
        owners.push(ledger().join(&mut session).await.unwrap().owner().to_owned());
        assert!(session.is_over());
    }
    assert!(owners[0].starts_with("shard 0/1 #0000000009-"), "{owners:?}");
    assert!(owners[0] < owners[1] && owners[0] < owners[2] && owners[1] != owners[2], "{owners:?}");
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
        transaction("1763"),
        ("COMMIT", done()),
    ]);
    let found = ledger().reclaim(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap();
    assert!(matches!(found, Reclaimed::Again(Claim { chunk: 2, attempt: 5, .. })), "{found:?}");
    assert!(session.sent[5].contains("AND ATTEMPT = 4"), "{}", session.sent[5]);
    assert_eq!(session.once.len(), 2, "{:?}", session.once);
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

#[tokio::test]
async fn a_reclaim_that_is_repeated_after_a_lost_reply_does_not_lose_to_itself() {
    let mut session = script(vec![
        (STATE, rows(&STATE_COLUMNS, &[&["claimed", "5", "shard 0/1", "x"]])),
        ("UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET ATTEMPT = ATTEMPT + 1, SESSION_ID", touched(1)),
        transaction("1763"),
        ("COMMIT", done()),
    ]);
    let found = ledger().reclaim(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap();
    assert!(matches!(found, Reclaimed::Again(Claim { chunk: 2, attempt: 6, .. })), "{found:?}");
    assert!(session.sent[5].contains("AND ATTEMPT = 5"), "{}", session.sent[5]);
    assert!(session.is_over());
}

#[tokio::test]
async fn a_lease_is_renewed_under_the_lock_and_a_lost_one_is_said() {
    let renew = "UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET LEASE_UNTIL";
    let mut session = script(vec![(renew, touched(1)), transaction("1763"), ("COMMIT", done())]);
    assert!(ledger().renew_lease(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap());
    assert!(session.is_over());
    let mut session = script(vec![(renew, touched(0)), ("ROLLBACK", done())]);
    assert!(!ledger().renew_lease(&mut session, &run(ChunkState::Claimed), &claim(4)).await.unwrap());
    assert!(session.is_over());
}

#[tokio::test]
async fn what_others_hold_is_not_free_and_what_is_ours_or_left_is() {
    let columns = ["CHUNK", "OWNER", "LEASE_UNTIL", "LEASE_OVER"];
    let answer = rows(
        &columns,
        &[
            &["1", "NULL", "NULL", "1"],
            &["2", "shard 0/1", "x", "0"],
            &["3", "shard 1/2 #7", "x", "0"],
            &["4", "shard 1/2 #7", "x", "1"],
        ],
    );
    let mut session = Script::new([("SELECT CHUNK, OWNER", answer)]);
    let open = ledger().open_chunks(&mut session, &run(ChunkState::Claimed)).await.unwrap();
    let free: Vec<u32> = open.iter().filter(|chunk| chunk.free).map(|chunk| chunk.number).collect();
    assert_eq!(free, [1, 2, 4]);
}

const FINISH: &str = "SELECT OWNER, CAST(LEASE_UNTIL AS VARCHAR) AS LEASE_UNTIL";

#[tokio::test]
async fn one_process_finishes_a_run_and_the_others_learn_which() {
    let mut session = script(vec![
        (FINISH, rows(&["OWNER", "LEASE_UNTIL"], &[])),
        ("INSERT INTO \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\"", touched(1)),
        transaction("1763"),
        ("COMMIT", done()),
    ]);
    let run = run(ChunkState::Loaded);
    assert_eq!(ledger().claim_finish(&mut session, &run).await.unwrap(), Finishing::Mine);
    assert!(session.is_over());
    let mut session = script(vec![
        (FINISH, rows(&["OWNER", "LEASE_UNTIL"], &[&["shard 1/2 #7", "x"]])),
        ("UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET OWNER", touched(0)),
        ("ROLLBACK", done()),
    ]);
    let other = Finishing::Other { owner: "shard 1/2 #7".into(), lease_until: Some("x".into()) };
    assert_eq!(ledger().claim_finish(&mut session, &run).await.unwrap(), other);
    assert!(session.is_over());
}

#[tokio::test]
async fn chunks_come_in_pages_that_follow_each_other() {
    let row = |number: u32| {
        let row = [&number.to_string(), "NULL", "NULL", "loaded", "a", "1", "6", "99", "{}", "0"];
        row.map(str::to_owned).to_vec()
    };
    let page = |numbers: std::ops::RangeInclusive<u32>| {
        let owned: Vec<Vec<String>> = numbers.map(row).collect();
        let cells: Vec<Vec<&str>> =
            owned.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
        rows(&CHUNK_COLUMNS, &cells.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let mut session =
        Script::new([("SELECT CHUNK, KEY", page(1..=50)), ("SELECT CHUNK, KEY", page(51..=53))]);
    let chunks = ledger().chunks(&mut session, &run(ChunkState::Loaded)).await.unwrap();
    assert_eq!(chunks.len(), 53);
    assert!(session.sent[1].contains("CHUNK > 50"), "{}", session.sent[1]);
    let mut session =
        Script::new([("SELECT CHUNK, KEY", page(1..=50)), ("SELECT CHUNK, KEY", page(50..=52))]);
    assert!(ledger().chunks(&mut session, &run(ChunkState::Loaded)).await.is_err());
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
        transaction("1763"),
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
        ("UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET OWNER", touched(0)),
        transaction("1763"),
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
async fn a_run_that_reads_from_elsewhere_is_not_resumed_and_both_places_are_named() {
    let begun = "abc123@database SalesDB at old.example:1433, grant sales-sql";
    let mut session = script(vec![
        ("SELECT RUN_ID, SCHEMA_HASH", rows(&["R", "H", "N"], &[&["r7", begun, "1"]])),
        ("ROLLBACK", done()),
    ]);
    let mut plan = plan();
    plan.schema_hash.push_str("@database SalesDB at new.example:1433, grant sales-sql");
    let error = ledger().open_or_resume(&mut session, &plan).await.unwrap_err();
    assert!(matches!(error, LedgerError::OriginChanged { .. }), "{error}");
    for part in ["old.example", "new.example", "r7", "RAW.SALES.ORDERS"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
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
        sql::chunks(&name, key, false, None, 10_000),
        sql::chunks(&name, key, true, Some(50), 50),
        sql::open_chunks(&name, key),
        sql::lock_count(&name),
        sql::take_over(&name, key, "shard 0/1", "shard 0/1 #0000000042-3f2a9c", lease),
        sql::finish_state(&name, key),
        sql::insert_finish(&name, key, "shard 0/1 #0000000042-3f2a9c", lease),
        sql::claim_finish(&name, key, "shard 0/1", "shard 0/1 #0000000042-3f2a9c", lease),
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
