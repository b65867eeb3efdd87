//! Transact-SQL: expected values are from Microsoft's documentation.

mod common;

use common::{fails, mssql, ok, session, table};

#[tokio::test]
async fn expressions_have_the_documented_values() {
    let (_db, mut session) = mssql();
    table(
        &mut session,
        &[
            ("SELECT 1 + 2", "3"),
            ("SELECT 7 / 2, -7 / 2, 7 % 3", "3|-3|1"),
            ("SELECT 2.0 / 3", "0.666666"),
            ("SELECT CAST(2 AS decimal(5,2)) / CAST(3 AS decimal(5,2))", "0.66666666"),
            ("SELECT CAST(1 AS decimal(38,10)) / CAST(3 AS decimal(38,10))", "0.333333"),
            ("SELECT 1.5 * 2.25", "3.375"),
            ("SELECT CAST(2147483647 AS int) + 1", "error 8115"),
            ("SELECT 1/0", "error 8134"),
            ("SELECT 'a' + 'b' + N'ç'", "abç"),
            ("SELECT CASE WHEN 'ABC' = 'abc  ' THEN 1 ELSE 0 END", "1"),
            ("SELECT CASE WHEN 'a' COLLATE Latin1_General_BIN2 = 'A' THEN 1 ELSE 0 END", "0"),
            ("SELECT LEN('ab  '), DATALENGTH('ab  '), DATALENGTH(N'ab')", "2|4|4"),
            ("SELECT CAST('2024-02-29' AS date), CAST('2024-02-29 23:59:59.998' AS datetime)", "2024-02-29|2024-02-29 23:59:59.997"),
            ("SELECT CAST('2024-02-29 23:59:59.999' AS datetime)", "2024-03-01 00:00:00.000"),
            ("SELECT DATEDIFF(year, '2023-12-31', '2024-01-01')", "1"),
            ("SELECT DATEDIFF(day, CAST('0001-01-01' AS date), CAST('9999-12-31' AS date))", "3652058"),
            ("SELECT DATEDIFF(second, '0001-01-01', '9999-12-31')", "error 535"),
            ("SELECT CAST(CAST(123.456 AS money) AS decimal(38,4))", "123.4560"),
            ("SELECT CAST(CAST(1.5E0 AS float) AS binary(8))", "0x3FF8000000000000"),
            ("SELECT CAST(CAST(CAST(1.5E0 AS float) AS binary(8)) AS bigint)", "4609434218613702656"),
            ("SELECT CAST(SUBSTRING(CAST(CAST('1900-01-02 00:00:01' AS datetime) AS binary(8)), 1, 4) AS int), CAST(SUBSTRING(CAST(CAST('1900-01-02 00:00:01' AS datetime) AS binary(8)), 5, 4) AS int)", "1|300"),
            ("SELECT HASHBYTES('SHA2_256', N'abc')", "0x13E228567E8249FCE53337F25D7970DE3BD68AB2653424C7B8F9FD05E33CAEDF"),
            ("SELECT HASHBYTES('MD5', 'abc')", "0x900150983CD24FB0D6963F7D28E17F72"),
            ("SELECT DATEPART(nanosecond, CAST('2024-01-01 00:00:00.1234567' AS datetime2(7)))", "123456700"),
            ("SELECT DATEPART(tz, CAST('2024-01-01 00:00:00 +05:30' AS datetimeoffset(0)))", "330"),
            ("SELECT CAST('x' AS int)", "error 245"),
            ("SELECT TRY_CAST('x' AS int)", "NULL"),
            ("SELECT CAST(300 AS tinyint)", "error 220"),
            ("SELECT CAST('abc' AS decimal(5,2))", "error 8114"),
            ("SELECT CONVERT(varchar(30), CAST('2024-01-02 03:04:05' AS datetime), 120)", "2024-01-02 03:04:05"),
            ("SELECT ISNULL(NULL, 'x'), COALESCE(NULL, 2), NULLIF(1, 1)", "x|2|NULL"),
            ("SELECT IIF(1 > 2, 'a', 'b')", "b"),
            ("SELECT CASE WHEN NULL = NULL THEN 'eq' WHEN NOT (NULL = 1) THEN 'not' ELSE 'unknown' END", "unknown"),
            ("SELECT 1 WHERE 'abcdef' LIKE 'a[a-c]%f'", "1"),
            ("SELECT UPPER(SUBSTRING('hello', 2, 3)), CHARINDEX('l', 'hello'), REPLACE('aAa', 'a', 'x')", "ELL|3|xxx"),
            ("SELECT ROUND(150.75, 0), ROUND(-1.5, 0), FLOOR(-1.5), CEILING(1.2)", "151.00|-2.0|-2|2"),
            ("DECLARE @x int = 5; SET @x = @x * 2; SELECT @x", "10"),
            ("DECLARE @a int, @b varchar(10); SELECT @a = 1, @b = 'z'; SELECT @a, @b", "1|z"),
            ("IF 1 = 1 SELECT 'yes' ELSE SELECT 'no'", "yes"),
            ("SELECT @@TRANCOUNT, XACT_STATE()", "0|0"),
            ("SELECT COLLATIONPROPERTY('Greek_CI_AS', 'CodePage')", "1253"),
            ("SELECT TOP (2) v FROM (VALUES (3), (1), (2)) AS t(v) ORDER BY v DESC", "3\n2"),
            ("SELECT v FROM (VALUES (3), (1), (NULL)) AS t(v) ORDER BY v", "NULL\n1\n3"),
            ("SELECT CAST(0x48656C6C6F AS varchar(5))", "Hello"),
            ("SELECT CAST('6F9619FF-8B86-D011-B42D-00C04FC964FF' AS uniqueidentifier)", "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
            ("SELECT q.k FROM (SELECT k, ROW_NUMBER() OVER (ORDER BY k) AS n FROM (VALUES (10),(20),(30),(40)) t(k)) AS q WHERE q.n % 2 = 1 ORDER BY q.k", "10\n30"),
            ("SELECT nonsense FROM nowhere", "error 208"),
            ("SELECT FROB(1)", "error 195"),
            ("SELEC 1", "error 102"),
        ],
    )
    .await;
}

#[tokio::test]
async fn tables_are_made_filled_queried_and_described() {
    let (_db, mut session) = mssql();
    let s = &mut session;
    ok(s, "CREATE TABLE dbo.Orders (id int NOT NULL PRIMARY KEY, customer nvarchar(20) NULL, amount decimal(10,2) NOT NULL, at datetime2(7) NULL)").await;
    assert_eq!(ok(s, "INSERT INTO dbo.Orders (id, customer, amount) VALUES (1, N'Ann', 10.5), (2, N'Bob', 20), (3, NULL, 30)").await, "3 rows");
    table(
        s,
        &[
            ("SELECT COUNT_BIG(*), SUM(amount), AVG(amount), MIN(customer), MAX(id) FROM dbo.Orders", "3|60.50|20.166666|Ann|3"),
            ("SELECT id FROM Orders WHERE id >= 2 AND id < 3", "2"),
            ("SELECT o.id, p.id FROM Orders o LEFT JOIN Orders p ON p.id = o.id + 1 ORDER BY o.id", "1|2\n2|3\n3|NULL"),
            ("SELECT customer, COUNT(*) AS n FROM Orders GROUP BY customer HAVING COUNT(*) > 0 ORDER BY customer DESC", "Bob|1\nAnn|1\nNULL|1"),
            ("SELECT id FROM Orders WHERE customer IN (SELECT customer FROM Orders WHERE id = 1)", "1"),
            ("SELECT id FROM Orders o WHERE EXISTS (SELECT 1 FROM Orders p WHERE p.id > o.id) ORDER BY 1", "1\n2"),
            ("WITH c AS (SELECT id FROM Orders) SELECT MAX(id) FROM c UNION ALL SELECT MIN(id) FROM c", "3\n1"),
            ("UPDATE Orders SET amount = amount + 1 WHERE id = 1; SELECT amount FROM Orders WHERE id = 1", "1 rows\n11.50"),
            ("UPDATE o SET amount = p.amount FROM Orders o JOIN Orders p ON p.id = 3 WHERE o.id = 2; SELECT amount FROM Orders WHERE id = 2", "1 rows\n30.00"),
            ("DELETE FROM Orders WHERE id = 3; SELECT COUNT(*) FROM Orders", "1 rows\n2"),
            ("INSERT INTO Orders VALUES (1, N'again', 1, NULL)", "error 2627"),
            ("INSERT INTO Orders (id) VALUES (9)", "error 515"),
            ("INSERT INTO Orders VALUES (9, N'a name that is much too long', 1, NULL)", "error 2628"),
            ("SELECT name, system_type_name, is_nullable FROM sys.dm_exec_describe_first_result_set(N'SELECT id, amount, at FROM dbo.Orders', NULL, 0) ORDER BY column_ordinal", "id|int|0\namount|decimal(10,2)|0\nat|datetime2(7)|1"),
            ("SELECT c.name, t.name, c.max_length FROM sys.columns c JOIN sys.types t ON t.user_type_id = c.user_type_id WHERE c.object_id = OBJECT_ID('dbo.Orders') ORDER BY c.column_id", "id|int|4\ncustomer|nvarchar|40\namount|decimal|9\nat|datetime2|8"),
            ("SELECT c.name FROM sys.indexes i JOIN sys.index_columns ic ON ic.object_id = i.object_id AND ic.index_id = i.index_id JOIN sys.columns c ON c.object_id = ic.object_id AND c.column_id = ic.column_id WHERE i.object_id = OBJECT_ID('dbo.Orders') AND i.type = 1", "id"),
            ("SELECT SUM(row_count) FROM sys.dm_db_partition_stats WHERE object_id = OBJECT_ID('dbo.Orders') AND index_id IN (0, 1)", "2"),
            ("SELECT SCHEMA_NAME(schema_id), name FROM sys.tables", "dbo|Orders"),
            ("MERGE Orders AS t USING (VALUES (1, 5.0), (7, 7.0)) AS s(id, amount) ON t.id = s.id WHEN MATCHED THEN UPDATE SET amount = s.amount WHEN NOT MATCHED THEN INSERT (id, amount) VALUES (s.id, s.amount); SELECT id, amount FROM Orders ORDER BY id", "2 rows\n1|5.00\n2|30.00\n7|7.00"),
            ("SELECT STRING_AGG(CAST(id AS varchar(5)), ',') WITHIN GROUP (ORDER BY id DESC) FROM Orders", "7,2,1"),
            ("SELECT id INTO #copy FROM Orders; SELECT COUNT(*) FROM #copy", "3 rows\n3"),
            ("EXEC sp_executesql N'SELECT @p + 1', N'@p int', @p = 41", "42"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_snapshot_transaction_reads_its_moment_and_meets_3960() {
    let (db, mut one) = mssql();
    let mut two = session(&db);
    ok(&mut one, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    ok(&mut one, "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION; SELECT COUNT(*) FROM t").await;
    ok(&mut two, "UPDATE t SET v = 10 WHERE id = 1; INSERT INTO t VALUES (3, 3)").await;
    assert_eq!(ok(&mut one, "SELECT SUM(v) FROM t").await, "3");
    assert_eq!(fails(&mut one, "UPDATE t SET v = 0 WHERE id = 1").await.number, 3960);
    assert_eq!(ok(&mut one, "SELECT @@TRANCOUNT").await, "0");
    assert_eq!(ok(&mut one, "SELECT SUM(v) FROM t").await, "15");
    ok(&mut two, "ALTER DATABASE shop SET ALLOW_SNAPSHOT_ISOLATION OFF").await;
    assert_eq!(fails(&mut one, "BEGIN TRAN SELECT COUNT(*) FROM t").await.number, 3952);
}

#[tokio::test]
async fn writers_of_one_row_wait_and_time_out_and_deadlocks_have_a_victim() {
    let (db, mut one) = mssql();
    let mut two = session(&db);
    ok(&mut one, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    ok(&mut one, "BEGIN TRAN; UPDATE t SET v = 5 WHERE id = 1").await;
    ok(&mut two, "BEGIN TRAN; UPDATE t SET v = 6 WHERE id = 2").await;
    assert_eq!(ok(&mut two, "SELECT SUM(v) FROM t").await, "7");
    ok(&mut two, "SET LOCK_TIMEOUT 10").await;
    assert_eq!(fails(&mut two, "UPDATE t SET v = 7 WHERE id = 1").await.number, 1222);
    ok(&mut two, "SET LOCK_TIMEOUT -1").await;
    let waiting =
        tokio::spawn(
            async move { (common::run(&mut two, "UPDATE t SET v = 7 WHERE id = 1; COMMIT").await, two) },
        );
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(fails(&mut one, "UPDATE t SET v = 8 WHERE id = 2").await.number, 1205);
    let (result, _two) = waiting.await.unwrap();
    assert_eq!(result.unwrap(), "1 rows");
    assert_eq!(ok(&mut one, "SELECT SUM(v) FROM t").await, "13");
}

#[tokio::test]
async fn a_reader_in_mid_result_is_untouched_by_writers() {
    let (db, mut one) = mssql();
    let mut two = session(&db);
    ok(&mut one, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let rows = (0..60_000).map(|id| Ok(std::sync::Arc::from([keyferry_sql::Value::Int(id)])));
    assert_eq!(one.append("dbo.t", &[], rows).await.unwrap(), 60_000);
    let mut result = one.query("SELECT id FROM t").await.unwrap().rows;
    assert!(result.next().is_some());
    ok(&mut two, "DELETE FROM t").await;
    assert_eq!(result.count(), 59_999);
    assert_eq!(ok(&mut two, "SELECT COUNT(*) FROM t").await, "0");
}

#[tokio::test]
async fn sixty_thousand_wide_rows_are_aggregated_in_well_under_a_second_per_range() {
    let (_db, mut s) = mssql();
    ok(&mut s, "CREATE TABLE w (id int NOT NULL PRIMARY KEY, a int, b decimal(18,4), c nvarchar(20), d datetime2(7))").await;
    let row = |id: i64| {
        use keyferry_sql::{Decimal, Value};
        let at = Value::DateTime { days: 730_000 + (id % 1000) as i32, ns: 12_345_600 };
        Ok([
            Value::Int(id),
            Value::Int(id % 7),
            Value::Decimal(Decimal::new(i128::from(id), 4)),
            Value::text("text"),
            at,
        ]
        .into())
    };
    s.append("w", &[], (0..60_000).map(row)).await.unwrap();
    let ticks = "SUM(CAST(DATEDIFF(day, CAST('0001-01-01' AS date), d) AS decimal(38,0)) * 864000000000 + CAST(DATEPART(hour,d)*3600+DATEPART(minute,d)*60+DATEPART(second,d) AS bigint)*10000000 + DATEPART(nanosecond,d)/100)";
    let start = std::time::Instant::now();
    for chunk in 0..20 {
        let (low, high) = (chunk * 3_000, (chunk + 1) * 3_000);
        let sql = format!(
            "SELECT COUNT_BIG(*), SUM(CAST(a AS decimal(38,0))), SUM(DATALENGTH(c)), {ticks} FROM w WHERE [id] >= {low} AND [id] < {high}"
        );
        assert!(ok(&mut s, &sql).await.starts_with("3000|"));
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    println!("20 ranges: {:?}", start.elapsed());
}
