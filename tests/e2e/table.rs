//! What tests found, one row each: `tests/setup/test.sh` prints the tables at its end.

use std::{collections::BTreeSet, sync::Mutex};

use keyferry_e2e::results;

/// The rows that a whole run must leave behind: (table, test).
static PROMISED: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Appends a row; the last column names the test.
pub(crate) fn row(table: &str, cells: &[(&str, &str)]) {
    results::append(table, cells).expect("append to a table of results");
}

/// Says that a test will leave a row; [`missing`] holds it to that.
pub(crate) fn promise(table: &str, test: &str) {
    PROMISED.lock().expect("the promised rows").insert((table.to_owned(), test.to_owned()));
}

/// The promised rows that no test left: none after a run of all tests.
pub(crate) fn missing() -> Vec<String> {
    let folder = results::folder().expect("a folder of results");
    let tables = results::tables(&folder).expect("the tables of results");
    let left = |table: &str, test: &str| {
        let rows = tables.get(table).map(Vec::as_slice).unwrap_or_default();
        rows.iter().any(|row| row.last().is_some_and(|(_, text)| text == test))
    };
    let promised = PROMISED.lock().expect("the promised rows");
    promised
        .iter()
        .filter(|(table, test)| !left(table, test))
        .map(|(table, test)| format!("{table}: {test}"))
        .collect()
}
