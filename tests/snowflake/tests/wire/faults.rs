//! Fault switches: each does what it says, once, and counts it.

use std::time::{Duration, Instant};

use keyferry_stand_in_snowflake::{Effect, Fault, Polling, Trigger};
use serde_json::json;

use crate::world::World;

fn statement(prefix: &str) -> Trigger {
    Trigger::Statement(prefix.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_is_cut_is_committed_all_the_same() {
    let world = World::ready().await;
    let (client, other) = (world.login().await, world.login().await);
    client.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    client.ok("BEGIN").await;
    client.ok("INSERT INTO SALES.T VALUES (1)").await;
    let fault = world.handle.faults.arm(Fault::once(statement("COMMIT"), Effect::CutAfter));
    assert!(client.run_as("c1", "COMMIT").await.is_err());
    assert_eq!(world.handle.faults.fired(fault), 1);
    assert_eq!(other.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["1"]]));
    // The same request in the same session is answered with what happened.
    assert_eq!(client.run_as("c1", "COMMIT").await.unwrap()["success"], true);
    assert_eq!(world.handle.stats.snapshot().repeats, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_cut_before_did_nothing() {
    let world = World::ready().await;
    let client = world.login().await;
    client.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    let fault = world.handle.faults.arm(Fault::once(statement("insert into"), Effect::CutBefore));
    assert!(client.run_as("i1", "INSERT INTO SALES.T VALUES (1)").await.is_err());
    assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
    assert_eq!(world.handle.faults.fired(fault), 1);
    client.ok("INSERT INTO SALES.T VALUES (1)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delays_503_and_expired_tokens_come_when_they_are_asked_for() {
    let world = World::ready().await;
    let client = world.login().await;
    let faults = &world.handle.faults;
    faults.arm(Fault::once(statement("SELECT 1"), Effect::Delay(Duration::from_millis(200))));
    let from = Instant::now();
    client.ok("SELECT 1").await;
    assert!(from.elapsed() >= Duration::from_millis(200));
    faults.arm(Fault::once(Trigger::Path("/queries/v1/".into()), Effect::Unavailable));
    let reply = world.http.post(format!("{}/queries/v1/query-request", client.url)).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    faults.arm(Fault::once(statement("SELECT"), Effect::TokenExpired).after(1));
    client.ok("SELECT 1").await;
    assert_eq!(client.refused("SELECT 1").await, "390112");
    client.ok("SELECT 1").await;
    world.handle.expire_session_tokens();
    assert_eq!(client.refused("SELECT 1").await, "390112");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_statement_can_be_made_to_run_twice() {
    let world = World::ready().await;
    let client = world.login().await;
    let blocker = world.login().await;
    client.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    client.ok("INSERT INTO SALES.T VALUES (0)").await;
    blocker.ok("BEGIN").await;
    blocker.ok("UPDATE SALES.T SET A = 0").await;
    let fault =
        world.handle.faults.arm(Fault::once(statement("UPDATE SALES.T SET A = A + 1"), Effect::RunTwice));
    let send = || {
        let client = client.clone();
        tokio::spawn(async move { client.run_as("u1", "UPDATE SALES.T SET A = A + 1").await })
    };
    let first = send();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let second = send();
    tokio::time::sleep(Duration::from_millis(150)).await;
    blocker.ok("COMMIT").await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(world.handle.faults.fired(fault), 1);
    assert_eq!(client.rows("SELECT A FROM SALES.T").await, json!([["2"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_connection_is_cut_during_it_goes_on() {
    let world = World::ready().await;
    let (client, blocker) = (world.login().await, world.login().await);
    client.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    client.ok("INSERT INTO SALES.T VALUES (1)").await;
    blocker.ok("BEGIN").await;
    blocker.ok("UPDATE SALES.T SET A = 1").await;
    let fault =
        world.handle.faults.arm(Fault::once(statement("UPDATE SALES.T SET A = A + 1"), Effect::CutDuring));
    // The reply is lost while the statement waits for the lock.
    assert!(client.run_as("u1", "UPDATE SALES.T SET A = A + 1").await.is_err());
    assert_eq!(world.handle.faults.fired(fault), 1);
    assert_eq!(blocker.rows("SELECT A FROM SALES.T").await, json!([["1"]]));
    blocker.ok("COMMIT").await;
    // The same request in the same session is answered with what happened, once.
    assert_eq!(client.run_as("u1", "UPDATE SALES.T SET A = A + 1").await.unwrap()["success"], true);
    assert_eq!(client.rows("SELECT A FROM SALES.T").await, json!([["2"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_time_out_refuses_the_statement_and_ends_the_transaction_where_it_is_told_to() {
    let world = World::ready().await;
    let client = world.login().await;
    client.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    for (abort, left) in [("FALSE", "1"), ("TRUE", "0")] {
        client.ok(&format!("ALTER SESSION SET TRANSACTION_ABORT_ON_ERROR = {abort}")).await;
        client.ok("BEGIN").await;
        client.ok("INSERT INTO SALES.T VALUES (1)").await;
        let fault = world.handle.faults.arm(Fault::once(statement("UPDATE"), Effect::LockTimeout));
        assert_eq!(client.refused("UPDATE SALES.T SET A = 2").await, "000625");
        assert_eq!(world.handle.faults.fired(fault), 1);
        assert_eq!(client.rows("SELECT COUNT(*) FROM SALES.T").await, json!([[left]]), "abort: {abort}");
        client.ok("ROLLBACK").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_asked_for_can_be_late_or_lost_and_is_there_all_the_same() {
    let polling = Polling { ready_after: Duration::from_millis(100), hold: Duration::from_millis(10) };
    let world = World::ready_with(|config| config.polling = polling).await;
    let client = world.login().await;
    let late = world.handle.faults.arm(Fault::once(Trigger::Poll, Effect::Delay(Duration::from_millis(200))));
    let from = Instant::now();
    client.ok("SELECT 1").await;
    assert!(from.elapsed() >= Duration::from_millis(200));
    let lost = world.handle.faults.arm(Fault::once(Trigger::Poll, Effect::CutBefore));
    let reply = client.send("q1", &json!({ "sqlText": "SELECT 1" })).await.unwrap();
    assert_eq!(reply["code"], "333333");
    let url = format!("{}{}", client.url, reply["data"]["getResultUrl"].as_str().unwrap());
    let poll = || {
        let token = format!("Snowflake Token=\"{}\"", client.token);
        world.http.get(&url).header("Authorization", token).send()
    };
    assert!(poll().await.is_err());
    assert!(poll().await.is_ok());
    assert_eq!((world.handle.faults.fired(late), world.handle.faults.fired(lost)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_of_a_client_that_is_gone_lives_on_with_its_locks_until_its_time_is_out() {
    let world = World::ready_with(|config| config.idle_transaction = Duration::from_millis(700)).await;
    let (gone, other) = (world.login().await, world.login().await);
    gone.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    gone.ok("INSERT INTO SALES.T VALUES (1)").await;
    gone.ok("BEGIN").await;
    let cut = world.handle.faults.arm(Fault::once(statement("UPDATE"), Effect::CutAfter));
    assert!(gone.run_as("u1", "UPDATE SALES.T SET A = 2").await.is_err());
    assert_eq!(world.handle.faults.fired(cut), 1);
    // Nobody speaks for the session any more, and it holds the lock.
    other.ok("ALTER SESSION SET LOCK_TIMEOUT = 0").await;
    assert_eq!(other.refused("UPDATE SALES.T SET A = 3").await, "000625");
    other.ok("ALTER SESSION SET LOCK_TIMEOUT = 60").await;
    other.ok("UPDATE SALES.T SET A = A + 10").await;
    assert_eq!(other.rows("SELECT A FROM SALES.T").await, json!([["11"]]));
    assert_eq!(world.handle.stats.snapshot().transactions_reaped, 1);
}
