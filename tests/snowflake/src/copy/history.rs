//! Load metadata: which files a table has, so that COPY does not load them twice.

use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};

use keyferry_sql::Identity;

use crate::{
    LoadHistory, lexer::tokens, objects::Object, session::lock, stages::qualify, statement::dotted_name,
};

/// How long a loaded file is remembered.
const LIFE: Duration = Duration::from_hours(1536);

#[derive(Debug)]
struct Entry {
    table: String,
    key: String,
    size: usize,
    etag: String,
    at: SystemTime,
    /// The session in whose open transaction the file was loaded.
    pending: Option<u64>,
}

/// The load metadata of all tables.
#[derive(Default)]
pub(crate) struct History(Mutex<Vec<Entry>>);

impl History {
    /// Whether a session sees this very object (name, size and tag) as loaded into the table.
    pub(crate) fn loaded(&self, table: &str, key: &str, object: &Object, session: u64) -> bool {
        lock(&self.0).iter().any(|entry| {
            entry.table == table
                && entry.key == key
                && entry.size == object.data.len()
                && entry.etag == object.etag
                && entry.pending.is_none_or(|owner| owner == session)
                && entry.at.elapsed().is_ok_and(|age| age < LIFE)
        })
    }

    /// Notes a loaded file; `pending` while its transaction is open.
    pub(crate) fn add(&self, table: &str, key: &str, object: &Object, pending: Option<u64>) {
        lock(&self.0).push(Entry {
            table: table.to_owned(),
            key: key.to_owned(),
            size: object.data.len(),
            etag: object.etag.clone(),
            at: SystemTime::now(),
            pending,
        });
    }

    /// The session's transaction was committed.
    pub(crate) fn committed(&self, session: u64) {
        for entry in lock(&self.0).iter_mut().filter(|entry| entry.pending == Some(session)) {
            entry.pending = None;
        }
    }

    /// The session's transaction was rolled back.
    pub(crate) fn rolled_back(&self, session: u64, rule: LoadHistory) {
        match rule {
            LoadHistory::RollsBack => lock(&self.0).retain(|entry| entry.pending != Some(session)),
            LoadHistory::Survives => self.committed(session),
        }
    }

    /// DROP, TRUNCATE and CREATE OR REPLACE delete a table's metadata.
    pub(crate) fn follow_ddl(&self, text: &str, identity: &Identity) {
        let all = tokens(text);
        let starts = |words: &[&str]| {
            words.iter().zip(&all).filter(|(word, token)| token.is(word)).count() == words.len()
        };
        let forgets =
            starts(&["DROP", "TABLE"]) || starts(&["TRUNCATE"]) || starts(&["CREATE", "OR", "REPLACE"]);
        if !forgets {
            return;
        }
        let skipped = [
            "DROP",
            "TRUNCATE",
            "CREATE",
            "OR",
            "REPLACE",
            "TRANSIENT",
            "TEMP",
            "TEMPORARY",
            "TABLE",
            "IF",
            "EXISTS",
        ];
        let name_at = all.iter().position(|token| !skipped.iter().any(|word| token.is(word)));
        let named = name_at.and_then(|at| dotted_name(&all, at).ok());
        if let Some(table) = named.and_then(|(name, _)| qualify(&name, identity).ok()) {
            lock(&self.0).retain(|entry| entry.table != table);
        }
    }
}
