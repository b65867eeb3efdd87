//! PUT, COPY and SELECT of staged Parquet files.

use std::{sync::Arc, time::Instant};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use keyferry_stand_in_snowflake::{LoadHistory, StageKey};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::{
    s3::{Sealed, Stage},
    world::{Client, World},
};

const FORMAT: &str = "FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE)";

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn numbers(from: i32, to: i32) -> Vec<u8> {
    let ids: Int32Array = (from..to).collect();
    let names: StringArray = (from..to).map(|id| Some(format!("name {id}"))).collect();
    file(vec![("ID", Arc::new(ids)), ("NAME", Arc::new(names))])
}

async fn stage(world: &World, client: &Client) -> Stage {
    client.ok("CREATE STAGE IF NOT EXISTS SALES.ST").await;
    client.ok("CREATE TABLE IF NOT EXISTS SALES.T (ID NUMBER(10,0), NAME VARCHAR)").await;
    let put = client.ok("PUT 'file:///nowhere/x.parquet' @SALES.ST/run AUTO_COMPRESS = FALSE").await;
    assert_eq!(put["command"], "UPLOAD");
    Stage::of(&world.http, &put)
}

fn copy(files: &str) -> String {
    format!(
        "COPY INTO \"RAW\".\"SALES\".\"T\" (\"ID\", \"NAME\") FROM (SELECT $1:\"ID\"::NUMBER(10,0), $1:\"NAME\"::VARCHAR \
         FROM @\"RAW\".\"SALES\".\"ST\"/run/) FILES = ({files}) {FORMAT} ON_ERROR = ABORT_STATEMENT"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_is_decrypted_loaded_and_counted_once() {
    let world = World::ready().await;
    let client = world.login().await;
    let stage = stage(&world, &client).await;
    stage.upload("a.parquet", &numbers(0, 1000)).await;
    stage.upload("b.parquet", &numbers(1000, 1500)).await;
    let listed = client.rows("LIST @SALES.ST/run/").await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0][0], "st/run/a.parquet");
    let data = client.ok(&copy("'a.parquet', 'b.parquet'")).await;
    assert_eq!(data["rowtype"][3]["name"], "rows_loaded");
    assert_eq!(
        data["rowset"][0],
        json!(["st/run/a.parquet", "LOADED", "1000", "1000", "1", "0", null, null, null, null])
    );
    assert_eq!(data["rowset"][1][3], "500");
    let rows = client.rows("SELECT COUNT(*), SUM(ID), MAX(NAME) FROM SALES.T").await;
    assert_eq!(rows, json!([["1500", "1124250", "name 999"]]));
    // The load history knows both; FORCE does not ask it.
    let again = client.ok(&copy("'a.parquet', 'b.parquet'")).await;
    assert_eq!(again["rowset"][0][1], "LOAD_SKIPPED");
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["1500"]]));
    client.ok(&format!("{} FORCE = TRUE", copy("'b.parquet'"))).await;
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["2000"]]));
    assert_eq!(client.refused(&copy("'missing.parquet'")).await, "091016");
    // The same files as a relation.
    client.ok("CREATE FILE FORMAT SALES.PQ TYPE = PARQUET").await;
    let rows = client.rows("SELECT COUNT(*) FROM @SALES.ST/run/a (FILE_FORMAT => 'SALES.PQ')").await;
    assert_eq!(rows, json!([["1000"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_lives_and_dies_with_its_transaction_and_so_does_the_load_history() {
    for rule in [LoadHistory::RollsBack, LoadHistory::Survives] {
        let world = World::ready_with(|config| config.load_history = rule).await;
        let (client, other) = (world.login().await, world.login().await);
        let stage = stage(&world, &client).await;
        stage.upload("a.parquet", &numbers(0, 10)).await;
        client.ok("BEGIN").await;
        client.ok(&copy("'a.parquet'")).await;
        assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["10"]]));
        assert_eq!(other.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
        client.ok("ROLLBACK").await;
        assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
        let again = client.ok(&copy("'a.parquet'")).await;
        let expected = if rule == LoadHistory::RollsBack { "LOADED" } else { "LOAD_SKIPPED" };
        assert_eq!(again["rowset"][0][1], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_digests_and_padding_are_refused() {
    let world = World::ready().await;
    let client = world.login().await;
    let stage = stage(&world, &client).await;
    let plain = numbers(0, 10);
    let mut wrong = Sealed::new(&stage.material, &plain);
    wrong.digest = STANDARD.encode([0; 32]);
    stage.upload_sealed("digest.parquet", &wrong).await;
    let mut material = stage.material.clone();
    material["queryStageMasterKey"] = json!(STANDARD.encode([5; 16]));
    stage.upload_sealed("master.parquet", &Sealed::new(&material, &plain)).await;
    let mut material = stage.material.clone();
    material["queryId"] = json!("00000000-0000-0000-0000-000000000000");
    stage.upload_sealed("query.parquet", &Sealed::new(&material, &plain)).await;
    let mut cut = Sealed::new(&stage.material, &plain);
    cut.data.truncate(cut.data.len() - 16);
    stage.upload_sealed("padding.parquet", &cut).await;
    let reply = stage.send("PUT", &format!("/{}plain.parquet", stage.folder), "", &[], plain.clone()).await;
    assert_eq!(reply.status(), 200);
    for name in ["digest", "master", "query", "padding", "plain"] {
        let reply = client.run(&copy(&format!("'{name}.parquet'"))).await;
        assert_eq!(reply["code"], "100035", "{name}: {reply}");
    }
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
    assert_eq!(world.handle.stats.snapshot().files_undecipherable, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_keys_work_too() {
    let world = World::ready_with(|config| config.stage_key = StageKey::Aes256).await;
    let client = world.login().await;
    let stage = stage(&world, &client).await;
    stage.upload("a.parquet", &numbers(0, 10)).await;
    assert_eq!(client.ok(&copy("'a.parquet'")).await["rowset"][0][1], "LOADED");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_match_by_name_and_missing_ones_are_null() {
    let world = World::ready().await;
    let client = world.login().await;
    let stage = stage(&world, &client).await;
    let ids: Int64Array = vec![Some(1), None].into_iter().collect();
    stage
        .upload(
            "m.parquet",
            &file(vec![("id", Arc::new(ids)), ("extra", Arc::new(Int32Array::from(vec![1, 2])))]),
        )
        .await;
    let sql = format!("COPY INTO SALES.T FROM @SALES.ST/run/ {FORMAT} MATCH_BY_COLUMN_NAME = ");
    assert_eq!(client.refused(&format!("{sql} CASE_SENSITIVE")).await, "001003");
    client.ok(&format!("{sql} CASE_INSENSITIVE")).await;
    let rows = client.rows("SELECT ID, NAME FROM SALES.T ORDER BY ID NULLS LAST").await;
    assert_eq!(rows, json!([["1", null], [null, null]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_error_decides_what_a_bad_row_costs() {
    let world = World::ready().await;
    let client = world.login().await;
    let stage = stage(&world, &client).await;
    let bad = |values: &[&str]| {
        let ids: StringArray = values.iter().map(|value| Some((*value).to_owned())).collect();
        let names: StringArray = values.iter().map(|_| Some("x".to_owned())).collect();
        file(vec![("ID", Arc::new(ids)), ("NAME", Arc::new(names))])
    };
    stage.upload("bad.parquet", &bad(&["1", "oops", "3", "no", "5"])).await;
    stage.upload("good.parquet", &bad(&["7"])).await;
    let sql = |rule: &str| copy("'bad.parquet', 'good.parquet'").replace("ABORT_STATEMENT", rule);
    let reply = client.run(&sql("ABORT_STATEMENT")).await;
    assert_eq!(reply["code"], "100038", "{reply}");
    assert!(reply["message"].as_str().unwrap().contains("File 'st/run/bad.parquet', line 2"), "{reply}");
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
    let data = client.ok(&sql("SKIP_FILE")).await;
    assert_eq!(data["rowset"][0][1], "LOAD_FAILED");
    assert_eq!(data["rowset"][1][1], "LOADED");
    let data = client.ok(&sql("CONTINUE")).await;
    assert_eq!(data["rowset"][1][1], "PARTIALLY_LOADED", "{data}");
    assert_eq!(data["rowset"][1][3], "3");
    assert_eq!(data["rowset"][1][5], "2");
    assert_eq!(client.rows("SELECT SUM(ID) FROM SALES.T").await, json!([["16"]]));
}

/// All types that cross, in a wide table: exact, and in about a second for 60,000 rows of 16 columns.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_thousand_wide_rows_load_exactly() {
    const ROWS: usize = 60_000;
    let world = World::ready().await;
    let client = world.login().await;
    let stage = stage(&world, &client).await;
    let mut columns: Vec<(String, &str, ArrayRef)> = Vec::new();
    for at in 0..4 {
        columns.push((format!("I{at}"), "NUMBER(19,0)", Arc::new((0..ROWS as i64).collect::<Int64Array>())));
        let amounts = Decimal128Array::from_iter_values((0..ROWS as i128).map(|n| n * 100 + 7));
        columns.push((
            format!("D{at}"),
            "NUMBER(12,2)",
            Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        ));
        let texts: StringArray = (0..ROWS).map(|n| Some(format!("some words {n}"))).collect();
        columns.push((format!("S{at}"), "VARCHAR", Arc::new(texts)));
    }
    columns.push(("B".into(), "BOOLEAN", Arc::new(BooleanArray::from(vec![true; ROWS]))));
    columns.push(("F".into(), "FLOAT", Arc::new(Float64Array::from(vec![0.1; ROWS]))));
    columns.push(("DT".into(), "DATE", Arc::new(Date32Array::from(vec![-719_162; ROWS]))));
    columns.push((
        "TS".into(),
        "TIMESTAMP_NTZ(6)",
        Arc::new(TimestampMicrosecondArray::from(vec![-1; ROWS])),
    ));
    columns.push(("X".into(), "BINARY", Arc::new(BinaryArray::from_vec(vec![&[0_u8, 255][..]; ROWS]))));
    let list = |form: &dyn Fn(&str, &str) -> String| {
        columns.iter().map(|(name, ty, _)| form(name, ty)).collect::<Vec<_>>().join(", ")
    };
    client.ok(&format!("CREATE TABLE SALES.W ({})", list(&|name, ty| format!("\"{name}\" {ty}")))).await;
    stage
        .upload("w.parquet", &file(columns.iter().map(|(n, _, a)| (n.as_str(), Arc::clone(a))).collect()))
        .await;
    let from = Instant::now();
    let data = client
        .ok(&format!(
            "COPY INTO SALES.W ({}) FROM (SELECT {} FROM @SALES.ST/run/) FILES = ('w.parquet') {FORMAT}",
            list(&|name, _| format!("\"{name}\"")),
            list(&|name, ty| format!("$1:\"{name}\"::{ty}"))
        ))
        .await;
    assert_eq!(data["rowset"][0][3], ROWS.to_string());
    eprintln!("COPY of {ROWS} rows took {:?}", from.elapsed());
    let row = client
        .rows("SELECT SUM(I0), SUM(D1), MAX(S2), MIN(F), MIN(DT), MIN(TS), MIN(X), COUNT(*) FROM SALES.W")
        .await;
    let expected: Value = json!([[
        "1799970000",
        "1799974200.00",
        "some words 9999",
        "0.1",
        "-719162",
        "-0.000001",
        "00FF",
        "60000"
    ]]);
    assert_eq!(row, expected);
    // A large answer begins in the reply and goes on in parts.
    let data = client.ok("SELECT * FROM SALES.W").await;
    let begun = data["rowset"].as_array().unwrap().len();
    let parts = data["chunks"].as_array().unwrap();
    let rest: u64 = parts.iter().map(|part| part["rowCount"].as_u64().unwrap()).sum();
    assert_eq!(begun + rest as usize, ROWS);
}
