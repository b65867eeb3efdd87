use std::path::Path;

use super::*;
use crate::tds::{ServerError, TdsError};

const FILE: &str = r"pipeline: sales
broker: { socket: broker.sock, server_uid: 1 }
source: { host: sql01, database: SalesDB, grant: sales-sql }
target: { grant: analytics, role: LOADER, warehouse: WH, database: RAW, schema: SALES }
limits: { chunk_rows: 100 }
tables:
  - { source: dbo.Orders, columns: { exclude: [ssn] } }
";

/// Answers what it was told to, by the words that a question contains; anything else is a test's mistake.
struct Script {
    answers: Vec<(&'static str, Answer)>,
    asked: Vec<String>,
}

enum Answer {
    Rows(&'static str),
    Error(i32),
}

impl Catalog for Script {
    async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, TdsError> {
        self.asked.push(sql.to_owned());
        let answer = self.answers.iter().find(|(words, _)| sql.contains(words));
        match answer.unwrap_or_else(|| panic!("nobody told the script about: {sql}")) {
            (_, Answer::Rows(text)) => Ok(rows(text)),
            (_, Answer::Error(number)) => Err(TdsError::Server(Box::new(ServerError {
                number: *number,
                state: 1,
                class: 16,
                message: "no".into(),
                server: String::new(),
                procedure: String::new(),
                line: 1,
            }))),
        }
    }
}

/// A row per line, `|` between values, `-` for NULL.
fn rows(text: &str) -> Vec<Vec<Option<String>>> {
    let value = |v: &str| (v != "-").then(|| v.to_owned());
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split('|').map(value).collect()).collect()
}

const COLUMNS: &str = "
    OrderId|int|4|10|0|-|-|0|0|-
    Customer|nvarchar|80|0|0|Latin1_General_CI_AS|1252|1|0|-
    Code|varchar|10|0|0|Cyrillic_General_CI_AS|1251|0|0|-
    Amount|decimal|9|15|2|-|-|0|0|-
    Old|datetime|8|23|3|-|-|1|0|-
    Total|money|8|19|4|-|-|1|1|-
    Ssn|varchar|11|0|0|Latin1_General_CI_AS|1252|1|0|-";

fn script() -> Script {
    Script {
        answers: vec![
            ("sys.databases", Answer::Rows("SalesDB|1")),
            ("sys.objects", Answer::Rows("77|U ")),
            ("HAS_PERMS_BY_NAME", Answer::Rows("1")),
            ("sys.columns AS c JOIN sys.types", Answer::Rows(COLUMNS)),
            ("sys.indexes", Answer::Rows("1|PK_Orders|1|1|OrderId")),
            ("dm_db_partition_stats", Answer::Rows("350|5")),
            ("ROW_NUMBER", Answer::Rows("1|1\n101|101\n101|101\n205|301")),
        ],
        asked: Vec::new(),
    }
}

fn told(words: &'static str, answer: Answer) -> Script {
    let mut script = script();
    script.answers.insert(0, (words, answer));
    script
}

fn pipeline(text: &str) -> Pipeline {
    Pipeline::parse(Path::new("pipeline.yaml"), text).unwrap()
}

async fn planned(mut script: Script) -> Result<Plan, PlanError> {
    plan(&mut script, &pipeline(FILE), Level::Sums).await
}

async fn refused(script: Script) -> String {
    planned(script).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_plan_says_everything_before_anything_moves() {
    insta::assert_snapshot!(planned(script()).await.unwrap());
}

#[tokio::test]
async fn chunks_touch_each_other_and_cover_every_key_once() {
    let plan = planned(script()).await.unwrap();
    let ranges: Vec<_> = plan.tables[0]
        .plan
        .chunks
        .iter()
        .map(|c| format!("{}: {} ({} rows)", c.number, c.range, c.estimated_rows))
        .collect();
    // The boundary that came twice (a key with many rows) stands once, and its chunk is expected to be larger.
    assert_eq!(
        ranges,
        ["1: OrderId < 101 (100 rows)", "2: 101 <= OrderId < 205 (200 rows)", "3: OrderId >= 205 (50 rows)"]
    );
}

#[tokio::test]
async fn a_table_without_a_key_is_one_chunk_and_the_plan_says_so() {
    let plan = planned(told("sys.indexes", Answer::Rows(""))).await.unwrap();
    let table = &plan.tables[0];
    assert_eq!(table.plan.chunks.len(), 1);
    assert_eq!(table.plan.chunks[0].range.to_string(), "the whole table");
    assert!(
        table.notes.iter().any(|n| n.contains("neither a clustered nor a unique index")),
        "{:?}",
        table.notes
    );
}

#[tokio::test]
async fn an_empty_table_has_one_chunk() {
    let plan = planned(told("dm_db_partition_stats", Answer::Rows("0|0"))).await.unwrap();
    assert_eq!(plan.tables[0].plan.chunks.len(), 1);
}

#[tokio::test]
async fn without_the_right_to_see_statistics_rows_are_counted() {
    let mut script = told("dm_db_partition_stats", Answer::Error(300));
    script.answers.push(("COUNT_BIG", Answer::Rows("350")));
    let plan = plan(&mut script, &pipeline(FILE), Level::Sums).await.unwrap();
    assert!(plan.tables[0].counted);
    assert_eq!(plan.tables[0].rows, 350);
}

#[tokio::test]
async fn a_server_without_always_encrypted_is_asked_again_without_it() {
    let plan = planned(told("c.encryption_type", Answer::Error(207))).await.unwrap();
    assert_eq!(plan.tables[0].plan.columns.len(), 6);
}

#[tokio::test]
async fn the_schema_hash_changes_with_any_name_or_type_and_with_nothing_else() {
    let hash = async |script| planned(script).await.unwrap().tables[0].plan.schema_hash.clone();
    let first = hash(script()).await;
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(told("dm_db_partition_stats", Answer::Rows("9|9"))).await);
    let wider = COLUMNS.replace("decimal|9|15|2", "decimal|9|16|2");
    let wider: &'static str = Box::leak(wider.into_boxed_str());
    assert_ne!(first, hash(told("sys.columns AS c JOIN sys.types", Answer::Rows(wider))).await);
}

#[tokio::test]
async fn every_refusal_says_what_where_and_what_to_do() {
    let uncarried = "
        A|xml|-1|0|0|-|-|1|0|-
        B|ntext|16|0|0|Latin1_General_CI_AS|1252|1|0|-
        C|varbinary|68|0|0|-|-|1|0|1
        D|int|4|10|0|-|-|1|0|-
        d|int|4|10|0|-|-|1|0|-";
    let mut missing = told("sys.objects", Answer::Rows(""));
    missing.answers.push(("sys.tables", Answer::Rows("dbo|Order\nsales|Orders\nhr|People")));
    let few = FILE.replace("chunk_rows: 100", "memory_mib: 444");
    let documents = "
        OrderId|int|4|10|0|-|-|0|0|-
        Body|nvarchar|-1|0|0|Latin1_General_CI_AS|1252|1|0|-
        ssn|int|4|10|0|-|-|1|0|-";
    let mut counted = told("sys.columns AS c JOIN sys.types", Answer::Rows(documents));
    let refusals = [
        refused(told("sys.databases", Answer::Rows("SalesDB|0"))).await,
        refused(missing).await,
        refused(told("sys.objects", Answer::Rows("78|V "))).await,
        refused(told("HAS_PERMS_BY_NAME", Answer::Rows("0"))).await,
        refused(told("sys.columns AS c JOIN sys.types", Answer::Rows(uncarried))).await,
        refused(told("sys.objects", Answer::Error(18456))).await,
        plan(&mut counted, &pipeline(&few), Level::Sums).await.unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"));
}

#[tokio::test]
async fn read_committed_needs_no_snapshot_and_claims_no_witness() {
    let file = FILE.replace("grant: sales-sql", "grant: sales-sql, consistency: read_committed");
    let mut script = told("sys.databases", Answer::Rows("SalesDB|0"));
    let plan = plan(&mut script, &pipeline(&file), Level::Sums).await.unwrap();
    let statements = plan.tables[0].source_statements.join("\n");
    assert!(!statements.contains("SNAPSHOT") && !statements.contains("COUNT_BIG"), "{statements}");
}

#[tokio::test]
async fn a_plan_only_reads() {
    let mut script = script();
    plan(&mut script, &pipeline(FILE), Level::Sums).await.unwrap();
    assert!(script.asked.iter().all(|sql| sql.starts_with("SELECT ")), "{:?}", script.asked);
}
