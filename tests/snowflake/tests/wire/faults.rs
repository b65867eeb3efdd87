//! Fault switches: each does what it says, once, and counts it.

use std::time::{Duration, Instant};

use keyferry_stand_in_snowflake::{Effect, Fault, Trigger};
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
