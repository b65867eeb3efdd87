//! The statements that the judges of SQL Server send, answered by the evaluator alone.

#![allow(clippy::unwrap_used)] // a file of statements that cannot be read fails the test

mod common;

use common::mssql;
use keyferry_sql::{Column, DataType, Dialect, Outcome, Session, SqlError, Value, show};

#[derive(Default)]
struct Case {
    what: String,
    sql: String,
    results: Vec<Vec<Vec<String>>>,
    counts: Vec<u64>,
    /// Number, class, state, line (0 where it does not matter), text.
    error: Option<(i32, u8, u8, u32, String)>,
    next: bool,
}

fn cases() -> Vec<Case> {
    let whole =
        include_str!("../../judges/sqlserver/statements.txt").replace("{me}", "ev").replace("{db}", "shop");
    let mut found: Vec<Case> = Vec::new();
    for line in whole.lines() {
        if let Some(head) = line.strip_prefix("## ") {
            found.push(Case { what: head.to_owned(), next: true, ..Case::default() });
        } else if let Some(case) = found.last_mut() {
            read(case, line);
        }
    }
    found
}

fn read(case: &mut Case, line: &str) {
    if line == ">>" {
        case.next = true;
    } else if let Some(row) = line.strip_prefix("> ") {
        if std::mem::take(&mut case.next) {
            case.results.push(Vec::new());
        }
        if row != "(none)" {
            case.results.last_mut().unwrap().push(row.split(" | ").map(str::to_owned).collect());
        }
    } else if let Some(count) = line.strip_prefix("# ").and_then(|count| count.parse().ok()) {
        case.counts.push(count);
    } else if let Some(error) = line.strip_prefix("! ") {
        let parts: Vec<&str> = error.splitn(5, ' ').collect();
        let number = |at: usize| parts[at].parse::<i32>().unwrap();
        case.error =
            Some((number(0), number(1) as u8, number(2) as u8, number(3) as u32, parts[4].to_owned()));
    } else if !line.trim().is_empty() && !line.starts_with("# ") {
        case.sql.push_str(line);
        case.sql.push('\n');
    }
}

/// A value as the file writes it: no zeros at the end of a second's fraction.
fn text(value: &Value, ty: &DataType) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Typed(inner) => text(&inner.1, &inner.0),
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        Value::Text(text) => text.lossy().into_owned(),
        Value::Float(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Time(_) | Value::DateTime { .. } | Value::DateTimeOffset { .. } => {
            let shown = show(Dialect::SqlServer, value, ty).unwrap();
            let Some((head, tail)) = shown.split_once('.') else { return shown };
            let (fraction, zone) = tail.split_once(' ').unwrap_or((tail, ""));
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{head}{point}{fraction} {zone}").trim_end().to_owned()
        }
        _ => show(Dialect::SqlServer, value, ty).unwrap(),
    }
}

fn agrees(found: &str, value: &Value, wanted: &str) -> bool {
    found == wanted
        || matches!(value, Value::Float(_) | Value::Real(_))
            && found.parse::<f64>().ok() == wanted.parse::<f64>().ok()
        || matches!(value, Value::DateTime { .. }) && format!("{found}:00") == wanted
}

/// Runs one case; what differs, if anything does.
async fn differs(session: &mut Session, case: &Case) -> Option<String> {
    let (mut counts, mut results, mut failed) = (Vec::new(), Vec::new(), None);
    for outcome in session.execute(&case.sql).await {
        match outcome {
            Ok(Outcome::Rows(set)) => {
                let columns: Vec<Column> = set.columns;
                let mut rows = Vec::new();
                for row in set.rows {
                    match row {
                        Ok(row) => rows.push(row),
                        Err(error) => failed = Some(error),
                    }
                }
                results.push((columns, rows));
            }
            Ok(Outcome::Count { rows, .. }) => counts.push(rows),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    if case.error.is_some() {
        results.retain(|(_, rows)| !rows.is_empty());
    }
    let told = failed.map(|SqlError { number, class, state, line, message, .. }| {
        let line = if case.error.as_ref().is_some_and(|wanted| wanted.3 == 0) { 0 } else { line.max(1) };
        (number, class, state, line, message)
    });
    if told != case.error {
        return Some(format!("found {told:?}, expected {:?}", case.error));
    }
    let same =
        results.len() == case.results.len()
            && results.iter().zip(&case.results).all(|((columns, rows), wanted)| {
                rows.len() == wanted.len()
                    && rows.iter().zip(wanted).all(|(row, wanted)| {
                        row.len() == wanted.len()
                            && row.iter().zip(columns).zip(wanted).all(|((value, column), wanted)| {
                                agrees(&text(value, &column.ty), value, wanted)
                            })
                    })
            });
    if !same && !case.what.starts_with("setup") {
        let shown: Vec<Vec<Vec<String>>> = results
            .iter()
            .map(|(columns, rows)| {
                rows.iter()
                    .map(|row| {
                        row.iter().zip(columns).map(|(value, column)| text(value, &column.ty)).collect()
                    })
                    .collect()
            })
            .collect();
        return Some(format!("found {shown:?}, expected {:?}", case.results));
    }
    (!case.counts.is_empty() && counts != case.counts)
        .then(|| format!("found counts {counts:?}, expected {:?}", case.counts))
}

#[tokio::test]
async fn statements_of_the_judges_have_the_documented_answers() {
    let (_db, mut session) = mssql();
    let mut missed = Vec::new();
    for case in cases() {
        if let Some(problem) = differs(&mut session, &case).await {
            missed.push(format!("{}: {problem}", case.what));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
