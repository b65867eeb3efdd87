//! T-SQL through the wire: queries, parameters, transactions, errors, and snapshots that hold.

use futures_util::TryStreamExt;
use tiberius::{ColumnData, QueryItem};

use crate::support::{Local, Tiberius, error_number, ints, rows, run, start_plain};

async fn with_orders() -> (Local, Tiberius) {
    let local = start_plain().await;
    let mut client = local.client().await;
    run(&mut client, "CREATE TABLE dbo.customers (id int NOT NULL PRIMARY KEY, name nvarchar(40) NOT NULL)")
        .await;
    run(
        &mut client,
        "CREATE TABLE dbo.orders (id int NOT NULL PRIMARY KEY, customer int NULL, price int NOT NULL)",
    )
    .await;
    run(&mut client, "INSERT INTO dbo.customers VALUES (1, N'Ann'), (2, N'Bo'), (3, N'Cy')").await;
    run(&mut client, "INSERT INTO dbo.orders VALUES (1, 1, 10), (2, 1, 20), (3, 2, 5), (4, NULL, 1)").await;
    (local, client)
}

#[tokio::test]
async fn joins_and_aggregates_are_answered() {
    let (_local, mut client) = with_orders().await;
    let sql = "SELECT SUM(o.price) FROM dbo.customers AS c JOIN dbo.orders AS o ON o.customer = c.id \
               GROUP BY c.id HAVING COUNT(*) > 0 ORDER BY c.id";
    assert_eq!(ints(&mut client, sql).await, [30, 5]);
    let sql =
        "SELECT c.id FROM dbo.customers c LEFT JOIN dbo.orders o ON o.customer = c.id WHERE o.id IS NULL";
    assert_eq!(ints(&mut client, sql).await, [3]);
}

#[tokio::test]
async fn parameters_reach_the_statement_with_their_types() {
    let (_local, mut client) = with_orders().await;
    let name = "Bo";
    let sql = "SELECT id FROM dbo.customers WHERE name = @P1 OR id = @P2 ORDER BY id";
    let found = client.query(sql, &[&name, &3_i32]).await.unwrap().into_first_result().await.unwrap();
    let ids: Vec<i32> = found.iter().filter_map(|row| row.get(0)).collect();
    assert_eq!(ids, [2, 3]);
    let inserted = client
        .execute("INSERT INTO dbo.customers VALUES (@P1, @P2)", &[&4_i32, &"D'Arcy; DROP TABLE x 😀"])
        .await
        .unwrap();
    assert_eq!(inserted.total(), 1);
    let read = rows(&mut client, "SELECT name FROM dbo.customers WHERE id = 4").await;
    assert_eq!(read[0][0], ColumnData::String(Some("D'Arcy; DROP TABLE x 😀".into())));
}

#[tokio::test]
async fn several_statements_give_several_results() {
    let (_local, mut client) = with_orders().await;
    let sql = "SELECT 1; UPDATE dbo.orders SET price = price + 1 WHERE id < 3; SELECT price FROM dbo.orders";
    let results = client.simple_query(sql).await.unwrap().into_results().await.unwrap();
    let sizes: Vec<usize> = results.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 4]);
}

#[tokio::test]
async fn errors_have_the_real_numbers() {
    let (_local, mut client) = with_orders().await;
    assert_eq!(error_number(&mut client, "SELECT * FROM dbo.nowhere").await, 208);
    assert_eq!(error_number(&mut client, "SELECT nothing FROM dbo.orders").await, 207);
    assert_eq!(error_number(&mut client, "SELEC 1").await, 102);
    assert_eq!(error_number(&mut client, "SELECT 1 / 0").await, 8134);
    assert_eq!(error_number(&mut client, "INSERT INTO dbo.customers VALUES (1, N'again')").await, 2627);
    // The connection is as good as before.
    assert_eq!(ints(&mut client, "SELECT COUNT(*) FROM dbo.orders").await, [4]);
}

#[tokio::test]
async fn a_transaction_is_undone_or_kept() {
    let (local, mut client) = with_orders().await;
    let mut other = local.client().await;
    client.begin_transaction().await.unwrap();
    run(&mut client, "DELETE FROM dbo.orders WHERE id = 1").await;
    assert_eq!(ints(&mut client, "SELECT COUNT(*) FROM dbo.orders").await, [3]);
    assert_eq!(ints(&mut other, "SELECT COUNT(*) FROM dbo.orders").await, [4]);
    client.rollback_transaction().await.unwrap();
    assert_eq!(ints(&mut client, "SELECT COUNT(*) FROM dbo.orders").await, [4]);
    client.begin_transaction().await.unwrap();
    run(&mut client, "DELETE FROM dbo.orders WHERE id = 1").await;
    client.commit_transaction().await.unwrap();
    assert_eq!(ints(&mut other, "SELECT COUNT(*) FROM dbo.orders").await, [3]);
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_transaction_frees_its_locks() {
    let (local, mut client) = with_orders().await;
    run(&mut client, "BEGIN TRANSACTION").await;
    run(&mut client, "UPDATE dbo.orders SET price = 0").await;
    drop(client);
    let mut other = local.client().await;
    run(&mut other, "UPDATE dbo.orders SET price = price + 1 WHERE id = 1").await;
    assert_eq!(ints(&mut other, "SELECT price FROM dbo.orders WHERE id = 1").await, [11]);
}

/// Enough rows that the answer is far larger than any socket buffer.
const MANY: usize = 60_000;

async fn with_many_rows(local: &Local) {
    let mut session = keyferry_sql::Session::new(&local.database, keyferry_sql::Identity::default());
    let created = session.execute(
        "CREATE TABLE dbo.many (id int NOT NULL PRIMARY KEY, v int NOT NULL, pad varchar(400) NOT NULL)",
    );
    assert!(created.await.iter().all(Result::is_ok));
    let pad = keyferry_sql::Value::text("p".repeat(400));
    let rows = (0..MANY).map(|id| {
        let row: keyferry_sql::Row =
            [keyferry_sql::Value::Int(id as i64), keyferry_sql::Value::Int(1), pad.clone()].into();
        Ok(row)
    });
    session.append("dbo.many", &[], rows).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_reader_sees_the_old_rows_while_a_writer_changes_them() {
    let local = start_plain().await;
    with_many_rows(&local).await;
    let (mut reader, mut writer) = (local.client().await, local.client().await);
    run(&mut reader, "SET TRANSACTION ISOLATION LEVEL SNAPSHOT").await;
    run(&mut reader, "BEGIN TRANSACTION").await;
    let mut stream = reader.simple_query("SELECT id, v, pad FROM dbo.many ORDER BY id").await.unwrap();
    let (mut count, mut sum) = (0, 0);
    let mut changed = false;
    while let Some(item) = stream.try_next().await.unwrap() {
        let QueryItem::Row(row) = item else { continue };
        count += 1;
        sum += row.get::<i32, _>("v").unwrap();
        if count == 100 {
            assert!(local.server.stats().rows == 0, "the answer should still be under way");
            run(&mut writer, "UPDATE dbo.many SET v = 2").await;
            run(&mut writer, "DELETE FROM dbo.many WHERE id >= 30000").await;
            changed = true;
        }
    }
    drop(stream);
    assert!(changed);
    assert_eq!((count, sum), (MANY, MANY as i32));
    // Still the same snapshot in the next statement of the transaction, and the new rows after it.
    assert_eq!(ints(&mut reader, "SELECT SUM(v) FROM dbo.many").await, [MANY as i32]);
    run(&mut reader, "COMMIT").await;
    assert_eq!(ints(&mut reader, "SELECT SUM(v) FROM dbo.many").await, [60_000]);
    assert_eq!(ints(&mut reader, "SELECT COUNT(*) FROM dbo.many").await, [30_000]);
}

#[tokio::test]
async fn a_cancelled_answer_ends_early() {
    let local = start_plain().await;
    with_many_rows(&local).await;
    let mut client = local.client().await;
    let mut stream = client.simple_query("SELECT id, v, pad FROM dbo.many").await.unwrap();
    for _ in 0..10 {
        stream.try_next().await.unwrap();
    }
    drop(stream);
    // The answer that was cut short ends, and the acknowledgement follows in a message of its own: "if the response … does not
    // acknowledge the Attention … the TDS client MUST discard any data contained in the response and remain in the Sent
    // Attention state" (MS-TDS 3.2.5.9). This client gives up at the first message's end; those that go on are judges.
    let given_up = client.cancel_query().await.unwrap_err();
    assert!(given_up.to_string().contains("Attention"), "{given_up}");
    assert!(local.server.stats().rows < MANY as u64);
    for _ in 0..200 {
        if local.server.stats().attentions == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no attention arrived");
}
