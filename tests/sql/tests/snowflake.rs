//! Snowflake's SQL: expected values are from its documentation.

mod common;

use common::{fails, ok, session, snowflake, table};

#[tokio::test]
async fn expressions_have_the_documented_values() {
    let (_db, mut session) = snowflake();
    table(
        &mut session,
        &[
            ("SELECT 1 + 2", "3"),
            ("SELECT 2/3, 7/2", "0.666667|3.500000"),
            ("SELECT 1.5 * 2.25", "3.375"),
            ("SELECT '12.345'::NUMBER(10,2)", "12.35"),
            ("SELECT 'abc'::NUMBER", "error 100038"),
            ("SELECT TRY_CAST('abc' AS NUMBER)", "NULL"),
            ("SELECT '2024-02-29'::DATE, '2024-02-29 01:02:03.123456789'::TIMESTAMP_NTZ(9)", "2024-02-29|2024-02-29 01:02:03.123456789"),
            ("SELECT MD5_NUMBER_LOWER64('Snowflake')", "9203306159527282910"),
            ("SELECT MD5('Snowflake')", "edf1439075a83a447fb8b630ddc9c8de"),
            ("SELECT SHA2('Snowflake', 224)", "6267d3d7a59929e6864dd4b737d98e3ef8569d9f88a7466647838532"),
            ("SELECT OCTET_LENGTH('a\u{e9}'), LENGTH('a\u{e9}')", "3|2"),
            ("SELECT HEX_ENCODE('SNOW'), TO_BINARY('534E4F57')", "534E4F57|534E4F57"),
            ("SELECT DATEDIFF('day', '0001-01-01'::DATE, '9999-12-31'::DATE)", "3652058"),
            ("SELECT DATE_PART(nanosecond, '2024-01-01 00:00:00.123456789'::TIMESTAMP_NTZ)", "123456789"),
            ("SELECT DATEADD(month, 1, '2024-01-31'::DATE)", "2024-02-29"),
            ("SELECT IFF(1 > 2, 'a', 'b'), NVL(NULL, 'x'), ZEROIFNULL(NULL)", "b|x|0"),
            ("SELECT 'a' = 'A', 'a' = 'a '", "false|false"),
            ("SELECT LISTAGG(v, ',') WITHIN GROUP (ORDER BY v DESC) FROM (VALUES ('a'), ('b')) t(v)", "b,a"),
            ("SELECT v FROM (VALUES (3), (1), (NULL)) AS t(v) ORDER BY v", "1\n3\nNULL"),
            ("SELECT PARSE_JSON('{\"a\":{\"b\":[1,2]}}'):a.b[1]::NUMBER", "2"),
            ("SELECT CURRENT_ROLE(), CURRENT_DATABASE(), CURRENT_SCHEMA(), CURRENT_TRANSACTION()", "ACCOUNTADMIN|SHOP|PUBLIC|NULL"),
            ("SELECT 1/0", "error 100051"),
            ("SELECT x FROM nowhere", "error 2003"),
            ("SELECT nonsense", "error 904"),
            ("SELEC 1", "error 1003"),
            ("SELECT HASH(1)", "error 2140"),
            ("SELECT UPPER(1, 2)", "error 1065"),
            ("SELECT TRUNC(1.29, 1), ROUND(1.25, 1), FLOOR(-1.5)", "1.2|1.3|-2"),
            ("SELECT x.v FROM (SELECT 1 AS v UNION ALL SELECT 2) x QUALIFY ROW_NUMBER() OVER (ORDER BY v DESC) = 1", "2"),
        ],
    )
    .await;
}

#[tokio::test]
async fn tables_are_made_filled_queried_and_shown() {
    let (_db, mut session) = snowflake();
    let s = &mut session;
    ok(s, "CREATE TABLE IF NOT EXISTS \"SHOP\".\"PUBLIC\".\"T\" (\"ID\" NUMBER(10,0) NOT NULL, \"NAME\" VARCHAR(5), \"AT\" TIMESTAMP_NTZ(7), \"B\" BINARY)").await;
    table(
        s,
        &[
            ("INSERT INTO t VALUES (1, 'a', '2024-01-01 00:00:00.1234567', NULL), (2, 'b', NULL, TO_BINARY('00FF'))", "2 rows"),
            ("SELECT * FROM t ORDER BY id", "1|a|2024-01-01 00:00:00.1234567|NULL\n2|b|NULL|00FF"),
            ("INSERT INTO t (id, name) VALUES (3, 'toolong')", "error 100078"),
            ("INSERT INTO t (id) VALUES (NULL)", "error 100072"),
            ("CREATE TABLE ledger AS SELECT 'p' AS pipeline, -1 AS chunk, CURRENT_TIMESTAMP() AS at", ""),
            ("CREATE TABLE ledger AS SELECT 1 AS x", "error 2002"),
            ("SELECT pipeline, chunk FROM ledger", "p|-1"),
            ("INSERT OVERWRITE INTO t SELECT id + 10, name, at, b FROM t", "2 rows"),
            ("SELECT id FROM t ORDER BY 1", "11\n12"),
            ("UPDATE t SET name = UPPER(name) WHERE id = 11", "1 rows"),
            ("DELETE FROM t WHERE id = 12", "1 rows"),
            ("MERGE INTO t USING (SELECT 11 AS id, 'm' AS name UNION ALL SELECT 13, 'n') s ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)", "2 rows"),
            ("SELECT id, name FROM t ORDER BY id", "11|m\n13|n"),
            ("SELECT column_name, data_type, numeric_precision, numeric_scale, is_nullable FROM information_schema.columns WHERE table_name = 'T' ORDER BY ordinal_position", "ID|NUMBER|10|0|NO\nNAME|TEXT|NULL|NULL|YES\nAT|TIMESTAMP_NTZ|NULL|NULL|YES\nB|BINARY|NULL|NULL|YES"),
            ("CREATE TABLE u LIKE t", ""),
            ("ALTER TABLE t SWAP WITH u", ""),
            ("SELECT COUNT(*) FROM t", "0"),
            ("ALTER TABLE t ADD COLUMN extra NUMBER(5,2)", ""),
            ("ALTER TABLE t RENAME COLUMN extra TO more", ""),
            ("DROP TABLE t", ""),
            ("DROP TABLE IF EXISTS t", ""),
        ],
    )
    .await;
    assert!(ok(s, "SHOW TABLES LIKE 'LED%'").await.contains("LEDGER"));
}

#[tokio::test]
async fn two_sessions_see_what_two_sessions_see() {
    let (db, mut one) = snowflake();
    let mut two = session(&db);
    ok(&mut one, "CREATE TABLE t (id NUMBER, v NUMBER)").await;
    ok(&mut one, "INSERT INTO t VALUES (1, 1)").await;
    ok(&mut one, "BEGIN").await;
    ok(&mut one, "INSERT INTO t VALUES (2, 2)").await;
    assert_eq!(ok(&mut one, "SELECT COUNT(*) FROM t").await, "2");
    assert_eq!(ok(&mut two, "SELECT COUNT(*) FROM t").await, "1");
    ok(&mut one, "UPDATE t SET v = 9 WHERE id = 1").await;
    ok(&mut two, "ALTER SESSION SET LOCK_TIMEOUT = 0").await;
    assert_eq!(fails(&mut two, "UPDATE t SET v = 8 WHERE id = 1").await.number, 625);
    ok(&mut two, "INSERT INTO t VALUES (3, 3)").await;
    assert!(ok(&mut one, "SHOW TRANSACTIONS").await.contains("tester"));
    // DDL commits the open transaction.
    ok(&mut one, "CREATE TABLE other (x NUMBER)").await;
    assert_eq!(ok(&mut two, "SELECT SUM(v) FROM t").await, "14");
    ok(&mut one, "BEGIN").await;
    ok(&mut one, "DELETE FROM t").await;
    ok(&mut one, "ROLLBACK").await;
    assert_eq!(ok(&mut one, "SELECT COUNT(*) FROM t").await, "3");
}

#[tokio::test]
async fn an_update_that_waited_for_the_lock_sees_the_commit() {
    let (db, mut one) = snowflake();
    let mut two = session(&db);
    ok(&mut one, "CREATE TABLE l (n NUMBER)").await;
    ok(&mut one, "INSERT INTO l VALUES (0)").await;
    ok(&mut one, "BEGIN").await;
    ok(&mut one, "UPDATE l SET n = n + 1").await;
    let waiting = tokio::spawn(async move { common::run(&mut two, "UPDATE l SET n = n + 1").await });
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    ok(&mut one, "COMMIT").await;
    assert_eq!(waiting.await.unwrap().unwrap(), "1 rows");
    assert_eq!(ok(&mut one, "SELECT n FROM l").await, "2");
}

#[tokio::test]
async fn an_aborted_transaction_frees_its_lock_and_cannot_commit() {
    let (db, mut zombie) = snowflake();
    let mut heir = session(&db);
    ok(&mut zombie, "CREATE TABLE l (n NUMBER)").await;
    ok(&mut zombie, "INSERT INTO l VALUES (0)").await;
    ok(&mut zombie, "BEGIN").await;
    ok(&mut zombie, "UPDATE l SET n = 1").await;
    let id = zombie.transaction_id().unwrap();
    ok(&mut heir, &format!("SELECT SYSTEM$ABORT_TRANSACTION({id})")).await;
    ok(&mut heir, "UPDATE l SET n = 2").await;
    assert_eq!(fails(&mut zombie, "COMMIT").await.number, 609);
    assert_eq!(ok(&mut heir, "SELECT n FROM l").await, "2");
}

#[tokio::test]
async fn a_role_without_privileges_is_refused() {
    let (db, mut admin) = snowflake();
    ok(&mut admin, "CREATE TABLE t (id NUMBER)").await;
    let identity = keyferry_sql::Identity {
        user: "svc".to_owned(),
        role: Some("LOADER".to_owned()),
        ..Default::default()
    };
    let mut loader = keyferry_sql::Session::new(&db, identity);
    assert_eq!(fails(&mut loader, "SELECT * FROM t").await.number, 2003);
    ok(&mut admin, "GRANT SELECT ON TABLE t TO ROLE LOADER").await;
    ok(&mut loader, "SELECT * FROM t").await;
    assert_eq!(fails(&mut loader, "INSERT INTO t VALUES (1)").await.number, 3001);
    assert_eq!(fails(&mut loader, "CREATE TABLE mine (x NUMBER)").await.number, 3001);
    ok(&mut admin, "GRANT CREATE TABLE ON SCHEMA shop.public TO ROLE LOADER").await;
    ok(&mut loader, "CREATE TABLE mine (x NUMBER)").await;
    ok(&mut loader, "INSERT INTO mine VALUES (1)").await;
}

struct OneFile;

impl keyferry_sql::StageReader for OneFile {
    fn open(
        &self,
        request: &keyferry_sql::StageRequest,
    ) -> Result<keyferry_sql::StageRows, keyferry_sql::SqlError> {
        use keyferry_sql::{StageRow, Value, Variant};
        assert!(request.location.contains("KEYFERRY_STAGE"), "{request:?}");
        let rows = [(1, "2024-01-02 03:04:05.1234567"), (i64::MAX, "0001-01-01 00:00:00.0000001")]
            .into_iter()
            .enumerate();
        Ok(Box::new(rows.map(|(at, (id, text))| {
            let record = Variant::Object(vec![
                ("id".into(), Variant::Scalar(Value::Int(id))),
                ("At".into(), Variant::Scalar(Value::text(text))),
                ("none".into(), Variant::Scalar(Value::Null)),
            ]);
            Ok(StageRow { record, file_name: "part-0.parquet".into(), row_number: at as u64 + 1 })
        })))
    }
}

#[tokio::test]
async fn staged_files_are_read_as_relations_and_appended() {
    let (_db, mut session) = snowflake();
    let s = &mut session;
    s.set_stage_reader(std::sync::Arc::new(OneFile));
    ok(s, "CREATE TABLE t (id NUMBER(19,0) NOT NULL, at TIMESTAMP_NTZ(7), x VARCHAR)").await;
    let sql = r#"SELECT $1:"id"::NUMBER(19,0), $1:"At"::TIMESTAMP_NTZ(7), $1:"none"::VARCHAR FROM @KEYFERRY_STAGE/run/part-0.parquet"#;
    assert_eq!(
        ok(s, sql).await,
        "1|2024-01-02 03:04:05.1234567|NULL\n9223372036854775807|0001-01-01 00:00:00.0000001|NULL"
    );
    let rows = s.query(sql).await.unwrap().rows;
    ok(s, "BEGIN").await;
    assert_eq!(s.append(r#""SHOP"."PUBLIC"."T""#, &[], rows).await.unwrap(), 2);
    ok(s, "ROLLBACK").await;
    assert_eq!(ok(s, "SELECT COUNT(*) FROM t").await, "0");
    assert_eq!(
        ok(s, r#"SELECT $1:"id" FROM @"SHOP"."PUBLIC"."KEYFERRY_STAGE"/x.parquet (FILE_FORMAT => 'F')"#)
            .await,
        "1\n9223372036854775807"
    );
}
