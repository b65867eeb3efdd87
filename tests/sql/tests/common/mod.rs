//! What the table tests share: sessions, and rows as text.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use keyferry_sql::{Database, Dialect, Identity, Outcome, Session, SqlError, show};

pub(crate) fn session(db: &Arc<Database>) -> Session {
    Session::new(db, Identity { user: "tester".to_owned(), ..Identity::default() })
}

pub(crate) fn mssql() -> (Arc<Database>, Session) {
    let db = Database::new(Dialect::SqlServer, "shop");
    let session = session(&db);
    (db, session)
}

pub(crate) fn snowflake() -> (Arc<Database>, Session) {
    let db = Database::new(Dialect::Snowflake, "SHOP");
    let session = session(&db);
    (db, session)
}

/// Runs a batch; each result set as lines of values joined by `|`, each count as `n rows`.
pub(crate) async fn run(session: &mut Session, sql: &str) -> Result<String, SqlError> {
    let dialect = session.database().dialect();
    let mut out = Vec::new();
    for outcome in session.execute(sql).await {
        match outcome? {
            Outcome::Rows(set) => {
                for row in set.rows {
                    let shown = row?
                        .iter()
                        .zip(&set.columns)
                        .map(|(value, column)| {
                            show(dialect, value, &column.ty).unwrap_or_else(|| "NULL".to_owned())
                        })
                        .collect::<Vec<_>>();
                    out.push(shown.join("|"));
                }
            }
            Outcome::Count { rows, .. } => out.push(format!("{rows} rows")),
            Outcome::Info { message, .. } => out.push(message),
            Outcome::Done { .. } | Outcome::Changed { .. } | Outcome::Entered | Outcome::Left { .. } => {}
        }
    }
    Ok(out.join("\n"))
}

pub(crate) async fn ok(session: &mut Session, sql: &str) -> String {
    run(session, sql).await.unwrap_or_else(|error| panic!("{sql}\n{} {}", error.number, error.message))
}

pub(crate) async fn fails(session: &mut Session, sql: &str) -> SqlError {
    match run(session, sql).await {
        Ok(rows) => panic!("{sql}\nwas expected to fail and gave:\n{rows}"),
        Err(error) => error,
    }
}

/// Checks pairs of SQL and expected text, and shows every mismatch.
pub(crate) async fn table(session: &mut Session, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let found = match run(session, sql).await {
            Ok(rows) => rows,
            Err(error) => format!("error {}: {}", error.number, error.message),
        };
        let matches = if let Some(number) = expected.strip_prefix("error ") {
            found.starts_with(&format!("error {number}"))
        } else {
            found == *expected
        };
        if !matches {
            wrong.push(format!("{sql}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
