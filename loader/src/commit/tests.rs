use super::*;
use crate::{
    ledger::{
        ChunkState,
        tests::{claim, ledger, plan, run, target},
    },
    snowflake::script::{Line, Script, begun, done, lost, refused, rows, touched, transaction},
};

const LOCK: &str = "UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET ATTEMPT = ATTEMPT + 1";
const FENCE: &str = "UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET STATE = 'loaded'";
const STATE: &str = "SELECT STATE, ATTEMPT";
const COPY: &str = "COPY INTO \"RAW\".\"SALES\".\"ORDERS_KEYFERRY_R1\"";

fn staged(name: &str, rows: u64) -> StagedFile {
    StagedFile { name: name.into(), rows, bytes: 100, digest: "d".into() }
}

fn facts() -> ChunkFacts {
    ChunkFacts {
        rows: 10,
        bytes: 1000,
        files: vec![staged("part000.parquet", 7), staged("part001.parquet", 3)],
        witness: "{}".into(),
        source_spid: 61,
        audit_id: "a-1".into(),
    }
}

fn copied(second: &str) -> Result<Answer, SnowflakeError> {
    rows(
        &["file", "status", "rows_parsed", "rows_loaded"],
        &[
            &["r1/c00002/a3_x/part001.parquet", "LOADED", "3", second],
            &["r1/c00002/a3_x/part000.parquet", "LOADED", "7", "7"],
        ],
    )
}

fn state(word: &str, attempt: &str) -> Result<Answer, SnowflakeError> {
    rows(&["STATE", "ATTEMPT", "OWNER", "LEASE_UNTIL"], &[&[word, attempt, "shard 1/2", "x"]])
}

async fn committed(lines: Vec<Line>, facts: &ChunkFacts) -> (Result<Committed, CommitError>, Script) {
    let mut session = Script::new(begun().into_iter().chain(lines));
    let (ledger, run, plan) = (ledger(), run(ChunkState::Claimed), plan());
    let stage = target("KEYFERRY_STAGE");
    let outcome = commit(&mut session, &ledger, &run, &plan, &stage, &claim(3), facts).await;
    (outcome, session)
}

#[tokio::test]
async fn copy_lock_fence_and_commit_come_in_this_order() {
    let lines = vec![
        (COPY, copied("3")),
        (LOCK, touched(1)),
        (FENCE, touched(1)),
        transaction("1763"),
        ("COMMIT", done()),
        (STATE, state("loaded", "3")),
    ];
    let (outcome, session) = committed(lines, &facts()).await;
    assert_eq!(outcome.unwrap(), Committed { query_id: "01b0-query".into() });
    assert!(session.is_over());
    // What must not be done twice is not sent twice, whatever becomes of the reply.
    assert!(session.once.len() == 3 && session.once[0].starts_with(COPY), "{:?}", session.once);
    assert!(session.once[1].starts_with(FENCE) && session.once[2] == "COMMIT", "{:?}", session.once);
    let fence = &session.sent[5];
    assert!(
        fence.contains("AND STATE = 'claimed' AND ATTEMPT = 3") && fence.contains("ROW_COUNT = 10"),
        "{fence}"
    );
}

#[tokio::test]
async fn a_chunk_without_rows_needs_no_copy() {
    let empty = ChunkFacts { rows: 0, files: vec![], ..facts() };
    let lines = vec![
        (LOCK, touched(1)),
        (FENCE, touched(1)),
        transaction("1763"),
        ("COMMIT", done()),
        (STATE, state("loaded", "3")),
    ];
    let (outcome, session) = committed(lines, &empty).await;
    outcome.unwrap();
    assert!(session.is_over());
}

#[tokio::test]
async fn a_copy_that_counts_otherwise_is_rolled_back() {
    let (outcome, session) = committed(vec![(COPY, copied("2")), ("ROLLBACK", done())], &facts()).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, CommitError::Counts { .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("part001.parquet: 3 rows were staged"), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn a_copy_that_skips_a_file_is_rolled_back() {
    let answer = rows(&["status"], &[&["Copy executed with 0 files processed."]]);
    let (outcome, session) = committed(vec![(COPY, answer), ("ROLLBACK", done())], &facts()).await;
    assert!(matches!(outcome, Err(CommitError::Counts { .. })));
    assert!(session.is_over());
}

#[tokio::test]
async fn a_zombie_finds_its_claim_gone_and_rolls_back() {
    let lines = vec![
        (COPY, copied("3")),
        (LOCK, touched(1)),
        (FENCE, touched(0)),
        (STATE, state("claimed", "4")),
        ("ROLLBACK", done()),
    ];
    let (outcome, session) = committed(lines, &facts()).await;
    let error = outcome.unwrap_err();
    assert!(matches!(&error, CommitError::ClaimLost { owner, .. } if owner == "shard 1/2"), "{error}");
    assert!(session.is_over());
}

#[tokio::test]
async fn a_lost_commit_is_unknown_and_nothing_more_is_sent() {
    let lines = vec![
        (COPY, copied("3")),
        (LOCK, touched(1)),
        (FENCE, touched(1)),
        transaction("1763"),
        ("COMMIT", lost()),
    ];
    let (outcome, session) = committed(lines, &facts()).await;
    assert!(outcome.unwrap_err().is_unknown());
    assert!(session.is_over());
}

#[tokio::test]
async fn a_refused_commit_is_unknown_too() {
    let lines = vec![
        (COPY, copied("3")),
        (LOCK, touched(1)),
        (FENCE, touched(1)),
        transaction("1763"),
        ("COMMIT", refused("000604")),
    ];
    let (outcome, _) = committed(lines, &facts()).await;
    assert!(outcome.unwrap_err().is_unknown());
}

#[tokio::test]
async fn a_commit_without_a_transaction_is_not_believed() {
    let lines = vec![
        (COPY, copied("3")),
        (LOCK, touched(1)),
        (FENCE, touched(1)),
        transaction("1763"),
        ("COMMIT", done()),
        (STATE, state("claimed", "3")),
    ];
    let (outcome, _) = committed(lines, &facts()).await;
    assert!(outcome.unwrap_err().is_unknown());
}

#[tokio::test]
async fn rows_copied_in_a_transaction_that_has_ended_are_not_committed_with_the_next_one() {
    let lines = vec![
        (COPY, copied("3")),
        (LOCK, touched(1)),
        (FENCE, touched(1)),
        transaction("1764"),
        ("ROLLBACK", done()),
    ];
    let (outcome, session) = committed(lines, &facts()).await;
    assert!(outcome.unwrap_err().is_unknown());
    assert!(session.is_over());
}

#[tokio::test]
async fn a_lost_copy_is_unknown() {
    let lines = vec![(COPY, lost()), ("ROLLBACK", lost())];
    let (outcome, _) = committed(lines, &facts()).await;
    assert!(outcome.unwrap_err().is_unknown());
}

#[tokio::test]
async fn a_refused_copy_names_the_grant() {
    let lines = vec![(COPY, refused("003001")), ("ROLLBACK", done()), (STATE, state("claimed", "3"))];
    let (outcome, session) = committed(lines, &facts()).await;
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("GRANT READ, WRITE ON STAGE") && text.contains("rolled back"), "{text}");
    assert!(session.is_over());
}

#[tokio::test]
async fn a_copy_refused_after_somebody_else_published_tells_who_took_the_chunk() {
    for (word, attempt) in [("published", "4"), ("claimed", "4")] {
        let lines = vec![(COPY, refused("091016")), ("ROLLBACK", done()), (STATE, state(word, attempt))];
        let (outcome, session) = committed(lines, &facts()).await;
        let error = outcome.unwrap_err();
        assert!(matches!(&error, CommitError::ClaimLost { owner, .. } if owner == "shard 1/2"), "{error}");
        assert!(session.is_over());
    }
}

#[tokio::test]
async fn rows_that_were_decoded_and_not_encoded_stop_before_any_statement() {
    let mut session = Script::new([]);
    let wrong = ChunkFacts { rows: 11, ..facts() };
    let (ledger, run, plan) = (ledger(), run(ChunkState::Claimed), plan());
    let outcome =
        commit(&mut session, &ledger, &run, &plan, &target("KEYFERRY_STAGE"), &claim(3), &wrong).await;
    assert!(matches!(outcome, Err(CommitError::Counts { .. })));
}

#[test]
fn copy_reads_so() {
    let claim = claim(3);
    let copy = copy_statement(
        &run(ChunkState::Claimed).staging,
        &plan().columns,
        &target("KEYFERRY_STAGE"),
        &claim,
        &facts().files,
    );
    insta::assert_snapshot!(copy.replace(claim.prefix(), "<prefix>"));
}
