//! One point in time on SQL Server: database snapshots, shared table locks, and what a SNAPSHOT transaction sees.

mod common;

use std::time::Duration;

use common::{fails, mssql, ok, session, table};

const SNAPSHOT: &str =
    "CREATE DATABASE shop_monday ON (NAME = shop, FILENAME = 'C:\\data\\shop_monday.ss') AS SNAPSHOT OF shop";

#[tokio::test]
async fn a_database_snapshot_keeps_its_moment_and_cannot_be_changed() {
    let (_db, mut s) = mssql();
    ok(
        &mut s,
        "CREATE TABLE dbo.t (id int PRIMARY KEY, v nvarchar(9)); INSERT INTO t VALUES (1, N'a'), (2, N'b')",
    )
    .await;
    ok(&mut s, SNAPSHOT).await;
    ok(
        &mut s,
        "UPDATE t SET v = N'later' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, N'c')",
    )
    .await;
    table(
        &mut s,
        &[
            ("SELECT id, v FROM shop_monday.dbo.t ORDER BY id", "1|a\n2|b"),
            ("SELECT id, v FROM shop.dbo.t ORDER BY id", "1|later\n3|c"),
            (
                "SELECT d.name, s.name, d.is_read_only FROM sys.databases AS d JOIN sys.databases AS s ON s.database_id = d.source_database_id",
                "shop_monday|shop|1",
            ),
            ("INSERT INTO shop_monday.dbo.t VALUES (9, N'x')", "error 3906"),
            ("UPDATE shop_monday.dbo.t SET v = N'x'", "error 3906"),
            ("DELETE FROM shop_monday.dbo.t", "error 3906"),
            (SNAPSHOT, "error 1801"),
            ("CREATE DATABASE other ON (NAME = f, FILENAME = 'p') AS SNAPSHOT OF nowhere", "error 911"),
            ("CREATE DATABASE other AS SNAPSHOT OF shop", "error 5127"),
            ("DROP DATABASE shop", "error 3709"),
        ],
    )
    .await;
    ok(&mut s, "USE shop_monday").await;
    assert_eq!(ok(&mut s, "SELECT COUNT(*) FROM t WHERE v = N'a'").await, "1");
    let index = "SELECT COUNT(*) FROM sys.indexes WHERE object_id = OBJECT_ID('dbo.t') AND type = 1";
    assert_eq!(ok(&mut s, index).await, "1");
    ok(&mut s, "USE shop; DROP DATABASE shop_monday").await;
    assert_eq!(fails(&mut s, "SELECT id FROM shop_monday.dbo.t").await.number, 208);
}

#[tokio::test]
async fn a_snapshot_of_the_database_needs_the_right_to_make_one() {
    let (db, mut s) = mssql();
    db.check_permissions();
    assert_eq!(fails(&mut s, SNAPSHOT).await.number, 262);
    db.administrator("tester");
    ok(&mut s, SNAPSHOT).await;
}

#[tokio::test]
async fn a_held_table_lock_waits_for_writers_and_new_writers_wait_for_it() {
    let (db, mut holder) = mssql();
    let (mut early, mut late) = (session(&db), session(&db));
    ok(&mut holder, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    ok(&mut early, "BEGIN TRAN; UPDATE t SET v = 5 WHERE id = 1").await;
    ok(&mut holder, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN TRANSACTION; SET LOCK_TIMEOUT 20")
        .await;
    let barrier = "SELECT TOP (1) 1 FROM t WITH (TABLOCK, HOLDLOCK)";
    assert_eq!(fails(&mut holder, barrier).await.number, 1222);
    // Only the statement ended: the transaction is still there.
    assert_eq!(ok(&mut holder, "SELECT @@TRANCOUNT").await, "1");
    // A plan that cannot return a row touches no table.
    assert_eq!(ok(&mut holder, "SELECT TOP (0) 1 FROM t WITH (TABLOCK, HOLDLOCK)").await, "");
    ok(&mut early, "COMMIT").await;
    assert_eq!(ok(&mut holder, barrier).await, "1");
    ok(&mut late, "SET LOCK_TIMEOUT 20").await;
    for change in ["UPDATE t SET v = 9 WHERE id = 2", "INSERT INTO t VALUES (3, 3)", "DELETE FROM t"] {
        assert_eq!(fails(&mut late, change).await.number, 1222, "{change}");
    }
    // Readers are not held up.
    assert_eq!(ok(&mut late, "SELECT SUM(v) FROM t").await, "7");
    ok(&mut late, "SET LOCK_TIMEOUT -1").await;
    let waiting =
        tokio::spawn(async move { common::run(&mut late, "UPDATE t SET v = 9 WHERE id = 2").await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!waiting.is_finished());
    ok(&mut holder, "COMMIT TRANSACTION").await;
    assert_eq!(waiting.await.unwrap().unwrap(), "1 rows");
}

#[tokio::test]
async fn snapshots_that_were_begun_under_one_lock_see_one_moment() {
    let (db, mut holder) = mssql();
    let (mut one, mut two, mut writer) = (session(&db), session(&db), session(&db));
    ok(&mut holder, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 10), (2, 20); CREATE TABLE empty (id int)").await;
    for reader in [&mut one, &mut two] {
        ok(reader, "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION").await;
    }
    // BEGIN alone pins nothing.
    ok(&mut writer, "UPDATE t SET v = v + 1").await;
    ok(&mut holder, "BEGIN TRANSACTION; SELECT TOP (1) 1 FROM t WITH (TABLOCK, HOLDLOCK)").await;
    ok(&mut one, "SELECT TOP (1) 1 FROM t").await;
    assert_eq!(ok(&mut two, "SELECT TOP (1) 1 FROM empty").await, "");
    ok(&mut holder, "COMMIT").await;
    ok(&mut writer, "BEGIN TRAN; UPDATE t SET v = v - 5 WHERE id = 1; UPDATE t SET v = v + 5 WHERE id = 2; COMMIT; INSERT INTO t VALUES (3, 1)").await;
    for reader in [&mut one, &mut two] {
        assert_eq!(ok(reader, "SELECT COUNT(*), SUM(v), MAX(v) FROM t").await, "2|32|21");
    }
}

#[tokio::test]
async fn savepoints_applies_recursion_and_refused_reading() {
    let (db, mut s) = mssql();
    ok(&mut s, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)")
        .await;
    table(
        &mut s,
        &[
            ("SAVE TRANSACTION early", "error 628"),
            (
                "BEGIN TRAN; UPDATE t SET v = 0 WHERE id = 1; SAVE TRANSACTION a; DELETE FROM t; ROLLBACK TRANSACTION a; SELECT SUM(v), @@TRANCOUNT FROM t; ROLLBACK; SELECT SUM(v) FROM t",
                "1 rows\n3 rows\n50|1\n60",
            ),
            (
                "SELECT t.id, x.below FROM t CROSS APPLY (SELECT MAX(b.v) AS below FROM t AS b WHERE b.id < t.id HAVING COUNT(*) > 0) AS x ORDER BY t.id",
                "2|10\n3|20",
            ),
            (
                "SELECT t.id, x.below FROM t OUTER APPLY (SELECT MAX(b.v) AS below FROM t AS b WHERE b.id < t.id HAVING COUNT(*) > 0) AS x ORDER BY t.id",
                "1|NULL\n2|10\n3|20",
            ),
        ],
    )
    .await;
    db.grant("somebody", "SELECT", "shop.dbo.other");
    assert_eq!(fails(&mut s, "SELECT id FROM t").await.number, 229);
    db.grant("tester", "SELECT", "shop.dbo.t");
    assert_eq!(ok(&mut s, "SELECT COUNT(*) FROM t").await, "3");
}
