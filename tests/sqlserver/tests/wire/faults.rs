//! Failures on purpose reach the client as the real ones would.

use std::time::{Duration, Instant};

use keyferry_stand_in_sqlserver::{Fault, When};
use tiberius::error::Error;

use crate::support::{Local, Tiberius, error_number, ints, run, start_plain, try_run};

async fn with_rows() -> (Local, Tiberius) {
    let local = start_plain().await;
    let mut client = local.client().await;
    run(&mut client, "CREATE TABLE dbo.t (id int NOT NULL PRIMARY KEY)").await;
    run(&mut client, "INSERT INTO dbo.t VALUES (1), (2), (3), (4), (5)").await;
    (local, client)
}

fn after(rows: u64) -> When {
    When { after_rows: rows, statement_contains: Some("dbo.t".into()), times: 1 }
}

#[tokio::test]
async fn a_deadlock_after_some_rows_is_error_1205() {
    let (local, mut client) = with_rows().await;
    let fault = Fault::Error { number: 1205, class: 13, message: "Transaction was deadlocked.".into() };
    let armed = local.server.faults().arm(after(3), fault);
    assert_eq!(error_number(&mut client, "SELECT id FROM dbo.t").await, 1205);
    assert_eq!(armed.fired(), 1);
    assert_eq!(ints(&mut client, "SELECT id FROM dbo.t").await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_dropped_connection_is_no_orderly_end() {
    let (local, mut client) = with_rows().await;
    let armed = local.server.faults().arm(after(2), Fault::Drop);
    let error = try_run(&mut client, "SELECT id FROM dbo.t").await.unwrap_err();
    assert!(!matches!(error, Error::Server(_)), "{error}");
    assert_eq!(armed.fired(), 1);
}

#[tokio::test]
async fn a_stall_delays_the_answer_and_loses_nothing() {
    let (local, mut client) = with_rows().await;
    let armed = local.server.faults().arm(after(2), Fault::Stall(Duration::from_millis(300)));
    let began = Instant::now();
    assert_eq!(ints(&mut client, "SELECT id FROM dbo.t").await.len(), 5);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(armed.fired(), 1);
}

#[tokio::test]
async fn a_fatal_error_closes_the_connection() {
    let (local, mut client) = with_rows().await;
    let fault = Fault::Error { number: 596, class: 21, message: "The session is in the kill state.".into() };
    local.server.faults().arm(after(1), fault);
    assert!(try_run(&mut client, "SELECT id FROM dbo.t").await.is_err());
    assert!(try_run(&mut client, "SELECT 1").await.is_err());
}

#[tokio::test]
async fn packets_of_one_byte_carry_the_same_rows() {
    let (local, mut client) = with_rows().await;
    local.server.faults().one_byte_packets(true);
    assert_eq!(ints(&mut client, "SELECT id FROM dbo.t").await, [1, 2, 3, 4, 5]);
    local.server.faults().clear();
    assert!(local.server.faults().one_byte_packets_sent() > 20);
    assert_eq!(ints(&mut client, "SELECT id FROM dbo.t").await, [1, 2, 3, 4, 5]);
}
