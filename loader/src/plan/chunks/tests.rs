//! Random tables under random keys, cut by the plan and read back by an evaluator of T-SQL: every row in exactly one chunk.

use std::{collections::BTreeMap, path::Path};

use keyferry_sql::{Database, Dialect, Identity, Outcome, Session, show};
use proptest::prelude::*;

use crate::{
    catalog::Catalog,
    config::Pipeline,
    plan::{Plan, plan, sql},
    tds::{ServerError, TdsError},
    verify::Level,
};

/// A session of the evaluator, asked as a connection would be.
struct Evaluator(Session);

impl Evaluator {
    fn new() -> Self {
        let database = Database::new(Dialect::SqlServer, "SalesDB");
        Self(Session::new(&database, Identity::default()))
    }

    async fn run(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.ask(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }
}

impl Catalog for Evaluator {
    async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, TdsError> {
        let mut rows = Vec::new();
        for outcome in self.0.execute(sql).await {
            let refused = |error: keyferry_sql::SqlError| {
                TdsError::Server(Box::new(ServerError {
                    number: error.number,
                    state: 1,
                    class: 16,
                    message: error.message.clone(),
                    server: String::new(),
                    procedure: String::new(),
                    line: 1,
                }))
            };
            if let Outcome::Rows(set) = outcome.map_err(refused)? {
                let columns = set.columns;
                for row in set.rows {
                    let row = row.map_err(refused)?;
                    let text = |(value, column): (_, &keyferry_sql::Column)| {
                        show(Dialect::SqlServer, value, &column.ty)
                    };
                    rows.push(row.iter().zip(&columns).map(text).collect());
                }
            }
        }
        Ok(rows)
    }
}

/// A type and some of its values, as T-SQL writes them: few, so that keys repeat; far apart; and those that compare oddly.
const TYPES: [(&str, &[&str]); 13] = [
    ("int", &["-2147483648", "-1", "0", "1", "2", "2147483647"]),
    ("bigint", &["-9000000000000000000", "-5", "0", "1000000000", "2000000000", "3000000000000"]),
    ("smallint", &["-3", "-2", "-1", "0", "7"]),
    ("bit", &["0", "1"]),
    ("decimal(9,2)", &["-99.50", "-0.01", "0.00", "12.34", "1000000.00"]),
    ("money", &["-0.0001", "0", "3.5", "922337203685477.5807"]),
    ("date", &["'0001-01-01'", "'1999-12-31'", "'2024-02-29'", "'9999-12-31'"]),
    ("datetime", &["'1753-01-01T00:00:00'", "'2024-02-29T23:59:59.997'", "'2024-03-01T00:00:00'"]),
    (
        "datetime2(7)",
        &["'0001-01-01T00:00:00'", "'2024-02-29T23:59:59.9999999'", "'2024-02-29T23:59:59.9999998'"],
    ),
    (
        "uniqueidentifier",
        &[
            "'00000000-0000-0000-0000-000000000001'",
            "'01000000-0000-0000-0000-000000000000'",
            "'00000000-0000-0001-0000-000000000000'",
            "'FFFFFFFF-FFFF-FFFF-0000-000000000000'",
            "'00000000-0000-0000-0100-000000000000'",
        ],
    ),
    (
        "varchar(8) COLLATE Latin1_General_CI_AS",
        &["''", "'a'", "'A'", "'a '", "'O''N'", "'b'", "'B '", "'z'"],
    ),
    ("nvarchar(8) COLLATE Latin1_General_CI_AS", &["N''", "N'ä'", "N'Ä'", "N'ж'", "N'a  '", "N'aa'"]),
    ("varbinary(4)", &["0x", "0x00", "0x0001", "0xFF", "0xFF00"]),
];

#[derive(Clone, Debug)]
struct KeyPart {
    ty: usize,
    nullable: bool,
    descending: bool,
}

#[derive(Clone, Debug)]
struct Case {
    key: Vec<KeyPart>,
    /// The row's number is the last column of the clustered index, which is then unique.
    unique: bool,
    /// A primary key beside it.
    primary: bool,
    /// No index at all.
    heap: bool,
    chunk_rows: u64,
    /// One number for each key column of each row.
    rows: Vec<Vec<u32>>,
}

fn cases() -> impl Strategy<Value = Case> {
    let part = (0..TYPES.len(), any::<bool>(), any::<bool>())
        .prop_map(|(ty, nullable, descending)| KeyPart { ty, nullable, descending });
    let key = proptest::collection::vec(part, 1..4);
    let row = proptest::collection::vec(0..40_u32, 3);
    let rows = prop_oneof![
        1 => proptest::collection::vec(row.clone(), 0..2),
        6 => proptest::collection::vec(row, 2..160),
    ];
    let skew = prop_oneof![Just(false), Just(true)];
    (key, any::<bool>(), any::<bool>(), prop::bool::weighted(0.1), 2..25_u64, rows, skew).prop_map(
        |(key, unique, primary, heap, chunk_rows, mut rows, skew)| {
            if skew {
                // One key holds most rows.
                for (at, row) in rows.iter_mut().enumerate() {
                    if at % 10 != 0 {
                        *row = vec![1; 3];
                    }
                }
            }
            Case { key, unique, primary, heap, chunk_rows, rows }
        },
    )
}

/// The table of a case, filled.
async fn table(case: &Case) -> Evaluator {
    let mut evaluator = Evaluator::new();
    let mut columns = vec!["n int NOT NULL".to_owned()];
    let mut indexed = Vec::new();
    for (at, part) in case.key.iter().enumerate() {
        let null = if part.nullable { "NULL" } else { "NOT NULL" };
        columns.push(format!("[k {at}] {} {null}", TYPES[part.ty].0));
        indexed.push(format!("[k {at}]{}", if part.descending { " DESC" } else { "" }));
    }
    if case.primary && !case.heap {
        columns.push("CONSTRAINT pk PRIMARY KEY NONCLUSTERED (n)".to_owned());
    }
    evaluator.run(&format!("CREATE TABLE dbo.T ({})", columns.join(", "))).await;
    if !case.heap {
        if case.unique {
            indexed.push("n".to_owned());
        }
        let kind = if case.unique { "UNIQUE CLUSTERED" } else { "CLUSTERED" };
        evaluator.run(&format!("CREATE {kind} INDEX ix ON dbo.T ({})", indexed.join(", "))).await;
    }
    for (n, row) in case.rows.iter().enumerate() {
        let values = case.key.iter().zip(row).map(|(part, number)| {
            let values = TYPES[part.ty].1;
            match values.get(*number as usize % (values.len() + usize::from(part.nullable))) {
                Some(value) => (*value).to_owned(),
                None => "NULL".to_owned(),
            }
        });
        let names: Vec<_> = (0..case.key.len()).map(|at| format!("[k {at}]")).collect();
        let values: Vec<_> = values.collect();
        let insert =
            format!("INSERT INTO dbo.T (n, {}) VALUES ({n}, {})", names.join(", "), values.join(", "));
        evaluator.run(&insert).await;
    }
    evaluator
}

async fn planned(evaluator: &mut Evaluator, chunk_rows: u64) -> Plan {
    let file = format!(
        "pipeline: sales\nbroker: {{ socket: broker.sock, server_uid: 1 }}\n\
         source: {{ host: sql01, database: SalesDB, grant: sales-sql }}\n\
         target: {{ grant: analytics, role: LOADER, warehouse: WH, database: RAW, schema: SALES }}\n\
         limits: {{ chunk_rows: {chunk_rows} }}\ntables:\n  - {{ source: dbo.T }}\n"
    );
    let pipeline = Pipeline::parse(Path::new("pipeline.yaml"), &file).unwrap();
    plan(evaluator, &pipeline, Level::Sums).await.unwrap()
}

async fn every_row_is_in_exactly_one_chunk(case: Case) {
    let mut evaluator = table(&case).await;
    let plan = planned(&mut evaluator, case.chunk_rows).await;
    let table = &plan.tables[0];
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for chunk in &table.plan.chunks {
        let select = sql::select(&table.plan, &chunk.range);
        let rows = evaluator.run(&select).await;
        assert_eq!(rows.len() as u64, chunk.estimated_rows, "{select}");
        for row in rows {
            let n = row[0].clone().expect("a row's number");
            assert_eq!(
                seen.insert(n, chunk.number),
                None,
                "a second time in chunk {}: {select}",
                chunk.number
            );
        }
    }
    assert_eq!(seen.len(), case.rows.len(), "rows in no chunk: {:#?}", table.plan.chunks);
    let rows = case.rows.len() as u64;
    match (case.heap, case.unique || case.primary) {
        (true, _) => assert_eq!(table.plan.chunks.len(), 1),
        // A key that is unique cuts evenly, whatever lies in it.
        (false, true) => {
            let largest = table.plan.chunks.iter().map(|chunk| chunk.estimated_rows).max();
            assert!(largest <= Some(case.chunk_rows * 2), "{largest:?} in a chunk of {}", case.chunk_rows);
            assert!(table.plan.chunks.len() as u64 >= rows / (case.chunk_rows * 2));
        }
        (false, false) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_any_table_under_any_key_every_row_is_in_exactly_one_chunk(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(every_row_is_in_exactly_one_chunk(case));
    }
}

#[tokio::test]
async fn an_unselective_leading_column_is_helped_by_the_next_ones_and_a_selective_one_stays_alone() {
    let part = |ty| KeyPart { ty, nullable: false, descending: false };
    let case = |rows: Vec<Vec<u32>>| Case {
        key: vec![part(0), part(10)],
        unique: true,
        primary: false,
        heap: false,
        chunk_rows: 4,
        rows,
    };
    let width = async |case: Case| {
        let mut evaluator = table(&case).await;
        let plan = planned(&mut evaluator, case.chunk_rows).await;
        let lower = plan.tables[0].plan.chunks[1].range.lower.clone().expect("a lower bound");
        lower.0.len()
    };
    // Six values of the first column, three rows each: one column is enough. One value only: all are needed.
    assert_eq!(width(case((0..18).map(|n| vec![n % 6, n, 0]).collect())).await, 1);
    assert_eq!(width(case((0..18).map(|n| vec![0, n % 2, 0]).collect())).await, 3);
}

#[tokio::test]
async fn rows_that_come_after_the_plan_belong_to_a_chunk() {
    let part = KeyPart { ty: 0, nullable: true, descending: false };
    let rows = (0..18).map(|n| vec![1 + n % 4, 0, 0]).collect();
    let case = Case { key: vec![part], unique: true, primary: false, heap: false, chunk_rows: 3, rows };
    let mut evaluator = table(&case).await;
    let plan = planned(&mut evaluator, 3).await;
    for (n, key) in [(100, "NULL"), (101, "-2147483648"), (102, "2147483647"), (103, "1")] {
        evaluator.run(&format!("INSERT INTO dbo.T (n, [k 0]) VALUES ({n}, {key})")).await;
    }
    let mut read = 0;
    for chunk in &plan.tables[0].plan.chunks {
        read += evaluator.run(&sql::select(&plan.tables[0].plan, &chunk.range)).await.len();
    }
    assert_eq!(read, 22);
}
