//! Statements over the wire: encodings, repeats, polling, errors.

use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use keyferry_stand_in_snowflake::Polling;
use serde_json::json;
use std::io::Write;

use crate::world::{World, admin};

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_the_encoding_that_drivers_read() {
    let world = World::ready().await;
    let client = world.login().await;
    client
        .ok("CREATE TABLE SALES.E (N NUMBER(38,4), F FLOAT, T VARCHAR(10), B BOOLEAN, D DATE, TI TIME(3), \
             NTZ TIMESTAMP_NTZ(9), LTZ TIMESTAMP_LTZ(3), TZ TIMESTAMP_TZ(3), X BINARY(4))")
        .await;
    client
        .ok("INSERT INTO SALES.E SELECT 12345678901234567890123456789012.5000, 1.5, 'é\"', TRUE, '1969-12-31'::DATE, \
             '23:59:59.123'::TIME, '0001-01-01 00:00:00.000000001'::TIMESTAMP_NTZ, \
             '1970-01-01 00:00:00.500 +0000'::TIMESTAMP_LTZ, '1970-01-01 01:00:00.001 +0100'::TIMESTAMP_TZ, \
             TO_BINARY('00FF', 'HEX')")
        .await;
    client.ok("INSERT INTO SALES.E (N) VALUES (NULL)").await;
    let data = client.ok("SELECT * FROM SALES.E ORDER BY N NULLS LAST").await;
    let names: Vec<&str> =
        data["rowtype"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "fixed",
            "real",
            "text",
            "boolean",
            "date",
            "time",
            "timestamp_ntz",
            "timestamp_ltz",
            "timestamp_tz",
            "binary"
        ]
    );
    assert_eq!(data["rowtype"][0]["precision"], 38);
    assert_eq!(data["rowtype"][0]["scale"], 4);
    assert_eq!(data["rowtype"][2]["length"], 10);
    assert_eq!(data["rowtype"][6]["scale"], 9);
    assert_eq!(
        data["rowset"][0],
        json!([
            "12345678901234567890123456789012.5000",
            "1.5",
            "é\"",
            "1",
            "-1",
            "86399.123",
            "-62135596799.999999999",
            "0.500",
            "0.001 1500",
            "00FF"
        ])
    );
    assert_eq!(data["rowset"][1], json!([null, null, null, null, null, null, null, null, null, null]));
    assert_eq!((&data["total"], &data["returned"]), (&json!(2), &json!(2)));
    assert_eq!(data["finalDatabaseName"], "RAW");
    assert_eq!(data["statementTypeId"], 0x1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_id_runs_once_in_its_session_and_again_in_another() {
    let world = World::ready().await;
    let client = world.login().await;
    client.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    let first = client.run_as("same", "INSERT INTO SALES.T VALUES (1)").await.unwrap();
    let second = client.run_as("same", "INSERT INTO SALES.T VALUES (1)").await.unwrap();
    assert_eq!(first["data"]["queryId"], second["data"]["queryId"]);
    assert_eq!(first["data"]["stats"]["numRowsInserted"], 1);
    assert_eq!(first["data"]["rowtype"][0]["name"], "number of rows inserted");
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["1"]]));
    let other = world.login().await;
    other.run_as("same", "INSERT INTO SALES.T VALUES (1)").await.unwrap();
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["2"]]));
    assert_eq!(world.handle.stats.snapshot().repeats, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_take_time_and_are_polled_for() {
    let world = World::ready_with(|config| {
        config.polling =
            Polling { ready_after: Duration::from_millis(300), hold: Duration::from_millis(100) };
    })
    .await;
    let client = world.login().await;
    let reply = client.send("r1", &json!({ "sqlText": "SELECT 7" })).await.unwrap();
    assert_eq!(reply["code"], "333333");
    let id = reply["data"]["queryId"].as_str().unwrap();
    assert_eq!(
        client.get(&format!("/monitoring/queries/{id}")).await["data"]["queries"][0]["status"],
        "RUNNING"
    );
    let reply = client.run_as("r1", "SELECT 7").await.unwrap();
    assert_eq!(reply["data"]["rowset"], json!([["7"]]));
    assert_eq!(
        client.get(&format!("/monitoring/queries/{id}")).await["data"]["queries"][0]["status"],
        "SUCCESS"
    );
    let detached = client.send("r2", &json!({ "sqlText": "SELECT 8", "asyncExec": true })).await.unwrap();
    assert_eq!(detached["code"], "333334");
    assert_eq!(client.run_as("r2", "SELECT 8").await.unwrap()["data"]["rowset"], json!([["8"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_gzip_and_describe_work() {
    let world = World::ready().await;
    let client = world.login().await;
    let body = json!({ "sqlText": "SELECT ?, ?, ?", "bindings": {
        "1": { "type": "FIXED", "value": "12.50" }, "2": { "type": "TEXT", "value": "it's" },
        "3": { "type": "TIMESTAMP_NTZ", "value": "1500000000" },
    } });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body.to_string().as_bytes()).unwrap();
    let reply: serde_json::Value = world
        .http
        .post(format!("{}/queries/v1/query-request?requestId=g", client.url))
        .header("Authorization", format!("Snowflake Token=\"{}\"", client.token))
        .header("Content-Encoding", "gzip")
        .body(gzip.finish().unwrap())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(reply["data"]["rowset"], json!([["12.50", "it's", "1.500000000"]]), "{reply}");
    client.ok("CREATE TABLE SALES.T (A NUMBER(7,2), B VARCHAR)").await;
    let body = json!({ "sqlText": "SELECT B, A FROM SALES.T", "describeOnly": true });
    let reply = client.send("d", &body).await.unwrap();
    assert_eq!(reply["data"]["rowtype"][1]["precision"], 7, "{reply}");
    assert_eq!(reply["data"]["rowset"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_the_services_codes() {
    let world = World::ready().await;
    let client = world.login().await;
    assert_eq!(client.refused("SELECT * FROM SALES.MISSING").await, "002003");
    assert_eq!(client.refused("SELEC 1").await, "001003");
    assert_eq!(client.refused("SELECT 1; SELECT 2").await, "000008");
    assert_eq!(client.refused("USE ROLE ACCOUNTADMIN").await, "003013");
    assert_eq!(client.refused("USE WAREHOUSE OTHER_WH").await, "002043");
    assert_eq!(client.refused("LIST @NO_STAGE").await, "002003");
    let reply = client.run("SELECT * FROM SALES.MISSING").await;
    assert_eq!(reply["data"]["sqlState"], "42S02");
    assert!(reply["message"].as_str().unwrap().contains("does not exist or not authorized"), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_privileges_is_refused_and_one_without_usage_sees_nothing() {
    let world = World::ready().await;
    admin(&world.database, &["CREATE SCHEMA RAW.HIDDEN", "CREATE TABLE RAW.HIDDEN.T (A NUMBER)"]).await;
    let loader = world.login().await;
    loader.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    let reader = world.login_as("READER").await;
    assert_eq!(reader.refused("CREATE TABLE SALES.U (A NUMBER)").await, "003001");
    assert_eq!(reader.refused("SELECT * FROM RAW.HIDDEN.T").await, "002003");
    assert_eq!(reader.refused("INSERT INTO SALES.T VALUES (1)").await, "002003");
    loader.ok("GRANT SELECT ON TABLE SALES.T TO ROLE READER").await;
    reader.ok("SELECT * FROM SALES.T").await;
    assert_eq!(reader.refused("INSERT INTO SALES.T VALUES (1)").await, "003001");
    loader.ok("CREATE STAGE SALES.ST").await;
    assert_eq!(reader.refused("LIST @SALES.ST").await, "002003");
    loader.ok("GRANT READ ON STAGE SALES.ST TO ROLE READER").await;
    reader.ok("LIST @SALES.ST").await;
}
