//! What drivers ask SQL Server about its tables, types that are stored as bytes, and what is denied.

mod common;

use common::{fails, mssql, ok, table};
use keyferry_sql::{Identity, Session};

#[tokio::test]
async fn the_catalog_procedures_describe_a_table() {
    let (_db, mut session) = mssql();
    ok(
        &mut session,
        "CREATE TABLE dbo.goods (id int IDENTITY NOT NULL PRIMARY KEY, name nvarchar(40) NULL, at datetime2(3) NULL)",
    )
    .await;
    ok(&mut session, "CREATE INDEX ix_name ON dbo.goods (name)").await;
    table(
        &mut session,
        &[
            ("EXEC sp_tables @table_name = 'go%', @table_type = '''TABLE'''", "shop|dbo|goods|TABLE|NULL"),
            ("EXEC sp_tables 'GOODS', 'dbo', 'shop', '''VIEW'''", ""),
            ("EXEC sp_pkeys 'nowhere'", ""),
        ],
    )
    .await;
    let columns = ok(&mut session, "EXEC sp_columns_100 'goods', NULL, NULL, NULL, @ODBCVer = 3").await;
    let columns: Vec<Vec<&str>> = columns.lines().map(|line| line.split('|').collect()).collect();
    let told: Vec<[&str; 5]> = columns.iter().map(|row| [row[3], row[4], row[5], row[6], row[10]]).collect();
    let expected = [
        ["id", "4", "int identity", "10", "0"],
        ["name", "-9", "nvarchar", "40", "1"],
        ["at", "93", "datetime2", "23", "1"],
    ];
    assert_eq!(told, expected);
    let keys = ok(&mut session, "EXEC sp_pkeys 'goods'").await;
    assert!(keys.starts_with("shop|dbo|goods|id|1|"), "{keys}");
    let indexes = ok(&mut session, "EXEC sp_statistics_100 'goods', @is_unique = 'N'").await;
    assert!(indexes.lines().any(|line| line.contains("|ix_name|3|1|name|A|")), "{indexes}");
    let kinds = ok(&mut session, "EXEC sp_datatype_info_100 4, @ODBCVer = 3").await;
    assert_eq!(
        kinds.lines().map(|line| line.split('|').next()).collect::<Vec<_>>(),
        [Some("int"), Some("int identity")]
    );
}

#[tokio::test]
async fn a_class_of_the_runtime_is_stored_as_its_bytes_and_made_from_nothing_else() {
    let (_db, mut session) = mssql();
    ok(
        &mut session,
        "CREATE TABLE dbo.places (id int NOT NULL PRIMARY KEY, h hierarchyid NULL, g geography NULL)",
    )
    .await;
    ok(&mut session, "INSERT INTO dbo.places VALUES (1, CAST(0x58 AS hierarchyid), NULL)").await;
    table(
        &mut session,
        &[
            ("SELECT CAST(h AS varbinary(max)), g FROM dbo.places", "0x58|NULL"),
            ("SELECT CAST(12 AS geography)", "error 529"),
            (
                "SELECT c.system_type_id, c.user_type_id, t.name FROM sys.columns c JOIN sys.types t ON t.user_type_id = c.user_type_id \
                 WHERE c.object_id = OBJECT_ID('dbo.places') AND c.name IN ('h', 'g') ORDER BY c.column_id",
                "240|128|hierarchyid\n240|130|geography",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_variant_tells_its_own_type() {
    let (_db, mut session) = mssql();
    let of = |property: &str| {
        format!("SELECT SQL_VARIANT_PROPERTY(CAST(CAST(1.50 AS decimal(9,2)) AS sql_variant), '{property}')")
    };
    for (property, expected) in
        [("BaseType", "decimal"), ("Precision", "9"), ("Scale", "2"), ("MaxLength", "5")]
    {
        assert_eq!(ok(&mut session, &of(property)).await, expected, "{property}");
    }
}

#[tokio::test]
async fn what_is_denied_to_one_login_is_open_to_others_until_it_is_revoked() {
    let (db, mut owner) = mssql();
    let mut guest = Session::new(&db, Identity { user: "CORP\\guest".to_owned(), ..Identity::default() });
    ok(&mut owner, "CREATE TABLE dbo.secret (id int NOT NULL)").await;
    ok(&mut owner, "DENY SELECT, INSERT ON dbo.secret TO [CORP\\guest]").await;
    assert_eq!(fails(&mut guest, "SELECT id FROM dbo.secret").await.number, 229);
    assert_eq!(fails(&mut guest, "INSERT INTO dbo.secret VALUES (1)").await.number, 229);
    assert_eq!(ok(&mut owner, "INSERT INTO dbo.secret VALUES (1)").await, "1 rows");
    ok(&mut owner, "REVOKE SELECT ON dbo.secret TO [CORP\\guest]").await;
    assert_eq!(ok(&mut guest, "SELECT id FROM dbo.secret").await, "1");
    assert_eq!(fails(&mut guest, "INSERT INTO dbo.secret VALUES (1)").await.number, 229);
}
