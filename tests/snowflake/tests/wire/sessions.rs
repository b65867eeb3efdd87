//! Tokens, renewal, and transactions of two sessions over HTTP.

use std::time::{Duration, Instant};

use keyferry_stand_in_snowflake::Polling;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn renewal_rotates_both_tokens_and_the_old_ones_die() {
    let world = World::ready().await;
    let mut client = world.login().await;
    let before = client.clone();
    assert_eq!(client.renew().await["success"], true);
    assert_ne!(client.token, before.token);
    assert_ne!(client.master, before.master);
    client.ok("SELECT 1").await;
    assert_eq!(before.refused("SELECT 1").await, "390112", "the old session token");
    assert_eq!(before.clone().renew().await["code"], "390115", "the old master token");
    // A session token does not renew, and a master token runs no statement.
    let body = json!({ "oldSessionToken": client.token, "requestType": "RENEW" });
    let reply = client.post("/session/token-request", &client.token, &body).await.unwrap();
    assert_eq!(reply["code"], "390115");
    let mut wrong = client.clone();
    wrong.token.clone_from(&client.master);
    assert_eq!(wrong.refused("SELECT 1").await, "390104");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_tokens_expire_in_http_200_and_master_tokens_end_it() {
    let world = World::ready_with(|config| {
        config.session_ttl = Duration::from_millis(300);
        config.master_ttl = Duration::from_millis(900);
    })
    .await;
    let mut client = world.login().await;
    client.ok("SELECT 1").await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(client.refused("SELECT 1").await, "390112");
    assert_eq!(client.renew().await["success"], true);
    client.ok("SELECT 1").await;
    tokio::time::sleep(Duration::from_millis(950)).await;
    let code = client.renew().await["code"].clone();
    assert!(code == "390114" || code == "390113", "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_is_gone_and_its_transaction_with_it() {
    let world = World::ready().await;
    let (one, two) = (world.login().await, world.login().await);
    one.ok("CREATE TABLE SALES.T (A NUMBER)").await;
    one.ok("BEGIN").await;
    one.ok("INSERT INTO SALES.T VALUES (1)").await;
    assert_eq!(one.close().await["success"], true);
    assert_eq!(one.refused("SELECT 1").await, "390111");
    assert_eq!(two.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_see_their_own_writes_and_committed_ones() {
    let world = World::ready().await;
    let (one, two) = (world.login().await, world.login().await);
    assert_ne!(one.session_id, two.session_id);
    assert_eq!(one.rows("SELECT CURRENT_SESSION()").await, json!([[one.session_id.to_string()]]));
    one.ok("CREATE TABLE SALES.T (A NUMBER(10,0))").await;
    one.ok("BEGIN").await;
    one.ok("INSERT INTO SALES.T VALUES (1), (2)").await;
    assert_eq!(one.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["2"]]));
    assert_eq!(two.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["0"]]));
    one.ok("COMMIT").await;
    assert_eq!(two.rows("SELECT COUNT(*) FROM SALES.T").await, json!([["2"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_one_table_wait_for_each_other_while_the_client_polls() {
    let world = World::ready_with(|config| {
        config.polling = Polling { ready_after: Duration::from_millis(1), hold: Duration::from_millis(50) };
    })
    .await;
    let (one, two) = (world.login().await, world.login().await);
    one.ok("CREATE TABLE SALES.L (K NUMBER, V NUMBER)").await;
    one.ok("INSERT INTO SALES.L VALUES (1, 0)").await;
    one.ok("BEGIN").await;
    one.ok("UPDATE SALES.L SET V = 1 WHERE K = 1").await;
    let waiting = tokio::spawn({
        let two = two.clone();
        async move {
            let from = Instant::now();
            let reply = two.run("UPDATE SALES.L SET V = V + 10 WHERE K = 1").await;
            (reply, from.elapsed())
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    one.ok("COMMIT").await;
    let (reply, waited) = waiting.await.unwrap();
    assert_eq!(reply["success"], true, "{reply}");
    assert!(waited >= Duration::from_millis(250));
    assert!(world.handle.stats.snapshot().polls >= 3);
    assert_eq!(two.rows("SELECT V FROM SALES.L").await, json!([["11"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_is_rolled_back_and_frees_its_lock() {
    let world = World::ready_with(|config| config.idle_transaction = Duration::from_millis(400)).await;
    let (dead, next) = (world.login().await, world.login().await);
    dead.ok("CREATE TABLE SALES.L (K NUMBER)").await;
    dead.ok("INSERT INTO SALES.L VALUES (1)").await;
    dead.ok("BEGIN").await;
    dead.ok("UPDATE SALES.L SET K = 2").await;
    // The client is gone: nothing more comes from it. The next one's UPDATE waits for the reaper.
    next.ok("UPDATE SALES.L SET K = K + 10").await;
    assert_eq!(next.rows("SELECT K FROM SALES.L").await, json!([["11"]]));
    assert_eq!(world.handle.stats.snapshot().transactions_reaped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_statement_can_be_cancelled() {
    let world = World::ready().await;
    let (one, two) = (world.login().await, world.login().await);
    one.ok("CREATE TABLE SALES.L (K NUMBER)").await;
    one.ok("INSERT INTO SALES.L VALUES (1)").await;
    one.ok("BEGIN").await;
    one.ok("UPDATE SALES.L SET K = 2").await;
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { two.run_as("request-7", "UPDATE SALES.L SET K = 3").await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let body = json!({ "requestId": "request-7" });
    let reply = two.post("/queries/v1/abort-request", &two.token, &body).await.unwrap();
    assert_eq!(reply["success"], true);
    assert_eq!(waiting.await.unwrap()["code"], "000604");
    one.ok("COMMIT").await;
    assert_eq!(two.rows("SELECT K FROM SALES.L").await, json!([["2"]]));
}
