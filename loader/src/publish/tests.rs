use super::*;
use crate::{
    ledger::{
        ChunkState, LedgerError,
        tests::{ledger, plan, run, target},
    },
    model::SourceType,
    snowflake::script::{Line, Script, begun, done, locked, lost, refused, rows, touched, transaction},
};

const STATES: &str = "SELECT STATE, COUNT(*)";
const OVERWRITE: &str = "INSERT OVERWRITE INTO \"RAW\".\"SALES\".\"ORDERS\"";
const LOCK: &str = "UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET ATTEMPT = ATTEMPT + 1";
const ADVANCE: &str = "UPDATE \"RAW\".\"SALES\".\"KEYFERRY_LEDGER\" SET STATE = 'published'";

fn states(word: &'static str, chunks: &'static str) -> Line {
    (STATES, rows(&["STATE", "CHUNKS", "ROW_COUNT", "BYTE_COUNT"], &[&[word, chunks, "9", "99"]]))
}

async fn published(lines: Vec<Line>) -> (Result<Published, PublishError>, Script) {
    let mut session = Script::new(lines);
    let outcome = publish(&mut session, &ledger(), &plan(), &run(ChunkState::Verified)).await;
    (outcome, session)
}

/// The lines of a look at the ledger under the lock.
fn settled(word: &'static str, chunks: &'static str) -> Vec<Line> {
    let mut lines: Vec<Line> = locked().into();
    lines.extend([states(word, chunks), ("ROLLBACK", done())]);
    lines
}

#[tokio::test]
async fn the_target_and_the_ledger_change_in_one_transaction() {
    let mut lines = settled("verified", "2");
    lines.extend(begun());
    lines.extend([
        (OVERWRITE, touched(9)),
        (LOCK, touched(1)),
        (ADVANCE, touched(2)),
        transaction("1763"),
        ("COMMIT", done()),
        states("published", "2"),
    ]);
    let (outcome, session) = published(lines).await;
    assert_eq!(outcome.unwrap(), Published { rows: 9, bytes: 99, already: false });
    assert!(session.is_over());
}

#[tokio::test]
async fn a_run_that_is_not_wholly_verified_is_not_published() {
    for (word, chunks) in [("verified", "1"), ("loaded", "2")] {
        let (outcome, session) = published(settled(word, chunks)).await;
        assert!(matches!(outcome, Err(PublishError::NotVerified { .. })));
        assert!(session.is_over());
    }
}

#[tokio::test]
async fn publishing_twice_does_nothing_the_second_time() {
    let (outcome, session) = published(settled("published", "2")).await;
    assert_eq!(outcome.unwrap(), Published { rows: 9, bytes: 99, already: true });
    assert!(session.is_over());
}

#[tokio::test]
async fn a_staging_table_with_other_rows_leaves_the_target_untouched() {
    let mut lines = settled("verified", "2");
    lines.extend(begun());
    lines.extend([(OVERWRITE, touched(8)), ("ROLLBACK", done())]);
    lines.extend(settled("verified", "2"));
    let (outcome, session) = published(lines).await;
    assert!(matches!(outcome, Err(PublishError::Rows { expected: 9, found: 8, .. })));
    assert!(session.is_over());
}

#[tokio::test]
async fn a_second_publisher_finds_the_ledger_changed_and_rolls_back() {
    let mut lines = settled("verified", "2");
    lines.extend(begun());
    lines.extend([(OVERWRITE, touched(9)), (LOCK, touched(1)), (ADVANCE, touched(0)), ("ROLLBACK", done())]);
    lines.extend(settled("verified", "2"));
    let (outcome, session) = published(lines).await;
    assert!(matches!(outcome, Err(PublishError::Ledger(LedgerError::Guard { .. }))));
    assert!(session.is_over());
}

#[tokio::test]
async fn a_publication_that_fails_because_another_one_was_quicker_has_not_failed() {
    // The other one has dropped the staging table, or has moved the ledger on.
    for middle in [
        vec![(OVERWRITE, refused("002003"))],
        vec![(OVERWRITE, touched(9)), (LOCK, touched(1)), (ADVANCE, touched(0))],
    ] {
        let mut lines = settled("verified", "2");
        lines.extend(begun());
        lines.extend(middle);
        lines.push(("ROLLBACK", done()));
        lines.extend(settled("published", "2"));
        let (outcome, session) = published(lines).await;
        assert_eq!(outcome.unwrap(), Published { rows: 9, bytes: 99, already: true });
        assert!(session.is_over());
    }
}

#[tokio::test]
async fn a_lost_publication_is_unknown() {
    let mut lines = settled("verified", "2");
    lines.extend(begun());
    lines.extend([
        (OVERWRITE, touched(9)),
        (LOCK, touched(1)),
        (ADVANCE, touched(2)),
        transaction("1763"),
        ("COMMIT", lost()),
    ]);
    let (outcome, session) = published(lines).await;
    assert!(outcome.unwrap_err().is_unknown());
    assert!(
        session.once[0].starts_with(OVERWRITE) && session.once[1].starts_with(ADVANCE),
        "{:?}",
        session.once
    );
}

#[tokio::test]
async fn a_target_without_privileges_is_named_with_the_grant() {
    let mut lines = settled("verified", "2");
    lines.extend(begun());
    lines.extend([(OVERWRITE, refused("003001")), ("ROLLBACK", done())]);
    lines.extend(settled("verified", "2"));
    let (outcome, _) = published(lines).await;
    let text = outcome.unwrap_err().to_string();
    let grant = "GRANT SELECT, INSERT, DELETE ON TABLE \"RAW\".\"SALES\".\"ORDERS\" TO ROLE LOADER";
    assert!(text.contains(grant), "{text}");
}

const SHAPE: [&str; 7] = [
    "COLUMN_NAME",
    "DATA_TYPE",
    "NUMERIC_PRECISION",
    "NUMERIC_SCALE",
    "CHARACTER_MAXIMUM_LENGTH",
    "DATETIME_PRECISION",
    "IS_NULLABLE",
];

const FITTING: [[&str; 7]; 5] = [
    ["ID", "NUMBER", "38", "0", "NULL", "NULL", "NO"],
    ["PRICE", "NUMBER", "19", "4", "NULL", "NULL", "YES"],
    ["AT", "TIMESTAMP_NTZ", "NULL", "NULL", "NULL", "7", "YES"],
    ["Name \"x\"", "TEXT", "NULL", "NULL", "50", "NULL", "YES"],
    ["RAW", "BINARY", "NULL", "NULL", "8388608", "NULL", "YES"],
];

async fn prepared(columns: &[[&str; 7]]) -> Result<(), PublishError> {
    let columns: Vec<&[&str]> = columns.iter().map(<[&str; 7]>::as_slice).collect();
    let mut session = Script::new([("SELECT COLUMN_NAME", rows(&SHAPE, &columns))]);
    prepare_target(&mut session, &plan()).await
}

#[tokio::test]
async fn a_target_that_holds_every_value_fits() {
    prepared(&FITTING).await.unwrap();
}

#[tokio::test]
async fn a_target_with_other_columns_or_types_is_refused_by_column() {
    let with = |row: usize, column: usize, value: &'static str| {
        let mut columns = FITTING;
        columns[row][column] = value;
        columns.to_vec()
    };
    let mut extra = FITTING.to_vec();
    extra.push(["LATER", "DATE", "NULL", "NULL", "NULL", "NULL", "YES"]);
    let cases: [(Vec<[&str; 7]>, &str); 9] = [
        (with(0, 2, "9"), "\"ID\""),
        (with(1, 3, "2"), "\"PRICE\""),
        (with(1, 1, "FLOAT"), "\"PRICE\""),
        (with(2, 5, "6"), "\"AT\""),
        (with(2, 1, "TIMESTAMP_LTZ"), "\"AT\""),
        (with(3, 4, "49"), "\"Name \"\"x\"\"\""),
        (with(4, 6, "NO"), "\"RAW\""),
        (FITTING[..4].to_vec(), "\"RAW\""),
        (extra, "\"LATER\""),
    ];
    for (columns, name) in cases {
        let error = prepared(&columns).await.unwrap_err();
        assert!(matches!(&error, PublishError::Shape(shape) if shape.column == name), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_resumed_run_never_makes_its_staging_table_anew() {
    let columns: Vec<&[&str]> = FITTING.iter().map(<[&str; 7]>::as_slice).collect();
    let mut session = Script::new([("SELECT COLUMN_NAME", rows(&SHAPE, &columns))]);
    prepare(&mut session, &plan(), &run(ChunkState::Loaded)).await.unwrap();
    assert!(session.is_over());
}

#[tokio::test]
async fn a_missing_target_is_made() {
    let mut session = Script::new([
        ("SELECT COLUMN_NAME", rows(&SHAPE, &[])),
        ("CREATE TABLE IF NOT EXISTS \"RAW\".\"SALES\".\"ORDERS\"", done()),
        ("CREATE TRANSIENT TABLE IF NOT EXISTS \"RAW\".\"SALES\".\"ORDERS_KEYFERRY_R1\"", done()),
    ]);
    prepare(&mut session, &plan(), &run(ChunkState::Planned)).await.unwrap();
    assert!(session.is_over());
}

#[tokio::test]
async fn what_a_crash_left_of_the_last_run_is_cleaned() {
    let mut session = Script::new([
        ("SELECT RUN_ID, MAX(COMMITTED_AT)", rows(&["RUN_ID", "AT"], &[&["r0", "x"]])),
        ("DROP TABLE IF EXISTS \"RAW\".\"SALES\".\"ORDERS_KEYFERRY_R0\"", done()),
        ("REMOVE @\"RAW\".\"SALES\".\"KEYFERRY_STAGE\"/r0/", done()),
    ]);
    clean_previous(&mut session, &ledger(), &plan(), &target("KEYFERRY_STAGE")).await.unwrap();
    assert!(session.is_over());
}

#[test]
fn every_statement_of_a_load_reads_so() {
    let (ledger, mut plan, stage) = (ledger(), plan(), target("KEYFERRY_STAGE"));
    plan.columns[0].source = SourceType::Decimal { precision: 38, scale: 38 };
    let mut statements = statements(&ledger, &plan, &stage);
    statements.push(shape::columns_statement(&plan.target));
    statements.push(crate::snowflake::settings(&crate::snowflake::SessionOptions::new("g", "r", "w")));
    statements.extend(privileges(&ledger, &plan, &stage, "LOADER"));
    insta::assert_snapshot!(statements.join("\n\n"));
}
