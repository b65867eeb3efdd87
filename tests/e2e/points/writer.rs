//! Somebody who changes the source while it is read, and remembers every state that was ever committed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use keyferry_e2e::{
    sample::{Cell, Table},
    world::World,
};
use keyferry_sql::{Identity, Session};
use tokio::task::JoinHandle;

/// Rows of each of the two tables.
pub(crate) const ROWS: i64 = 600;
/// A pair of neighbours always adds up to this.
pub(crate) const PAIR: i64 = 1_000;

/// Rows by id: token, lots, balance.
type Rows = BTreeMap<i64, [i64; 3]>;

/// What is committed at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    accounts: Rows,
    savings: Rows,
}

impl State {
    fn first() -> Self {
        let rows = |base: i64| {
            let row = |n: i64| (n, [base + n, 10, if n % 2 == 0 { PAIR } else { 0 }]);
            (0..ROWS).map(row).collect::<Rows>()
        };
        Self { accounts: rows(0), savings: rows(1_000_000) }
    }

    /// A table's rows as the auditor would show them, by id.
    pub(crate) fn shown(&self, table: &str) -> Vec<Vec<String>> {
        let rows = if table == "accounts" { &self.accounts } else { &self.savings };
        rows.iter()
            .map(|(id, rest)| std::iter::once(id).chain(rest).map(ToString::to_string).collect())
            .collect()
    }
}

/// The tables that the writer changes, as they are at first.
pub(crate) fn tables() -> Vec<Table> {
    let columns = [
        ("id", "int NOT NULL"),
        ("token", "int NOT NULL"),
        ("lots", "int NOT NULL"),
        ("balance", "int NOT NULL"),
    ];
    let state = State::first();
    let cells = |rows: &Rows| {
        rows.iter()
            .map(|(id, rest)| std::iter::once(id).chain(rest).map(|n| Cell::Int(*n)).collect())
            .collect()
    };
    vec![
        Table::new("accounts", &columns, "[id]", cells(&state.accounts)),
        Table::new(
            "clock",
            &[("id", "int NOT NULL"), ("version", "int NOT NULL")],
            "[id]",
            vec![vec![Cell::Int(1), Cell::Int(0)]],
        ),
        Table::new("savings", &columns, "[id]", cells(&state.savings)),
    ]
}

/// A writer at work.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Vec<State>>>,
}

impl Writer {
    /// Begins to write; its transactions follow each other closely.
    pub(crate) fn start(world: &World) -> Self {
        let session = Session::new(&world.source, Identity { user: "sa".to_owned(), ..Identity::default() });
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(session, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Stops it; every state that was committed, by its version.
    pub(crate) async fn stop(self) -> Result<Vec<State>> {
        self.stop.store(true, Ordering::SeqCst);
        let states = self.task.await??;
        ensure!(states.len() > 20, "the writer changed next to nothing: {} versions", states.len());
        Ok(states)
    }
}

async fn write(mut session: Session, stop: Arc<AtomicBool>) -> Result<Vec<State>> {
    let mut states = vec![State::first()];
    while !stop.load(Ordering::SeqCst) {
        let version = states.len() as i64;
        let (next, sql) = change(&states[states.len() - 1], version);
        // A deadlock's victim, or a lock that was not granted, is tried again as a client would.
        let failed = session.execute(&sql).await.into_iter().find_map(Result::err);
        match failed {
            None => states.push(next),
            Some(error) if matches!(error.number, 1205 | 1222) => session.rollback(),
            Some(error) => return Err(anyhow!("{sql}: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(states)
}

/// One transaction: a lot goes from the first account to the last, another to the savings; money moves inside a pair of
/// neighbours; one saver leaves and another comes; one saver gets a new key.
fn change(before: &State, version: i64) -> (State, String) {
    let mut next = before.clone();
    let mut sql = String::from("SET XACT_ABORT ON; BEGIN TRANSACTION; ");
    let last = ROWS - 1;
    let pair = (version * 37 % (ROWS / 2)) * 2;
    let mut add = |table: &str, rows: &mut Rows, id: i64, column: usize, amount: i64| {
        if let Some(row) = rows.get_mut(&id) {
            row[column] += amount;
        }
        let name = ["token", "lots", "balance"][column];
        let _ = write!(sql, "UPDATE dbo.{table} SET {name} = {name} + ({amount}) WHERE id = {id}; ");
    };
    add("accounts", &mut next.accounts, 0, 1, -2);
    add("accounts", &mut next.accounts, last, 1, 1);
    add("accounts", &mut next.accounts, pair, 2, -1);
    add("accounts", &mut next.accounts, pair + 1, 2, 1);
    add("savings", &mut next.savings, last, 1, 1);
    let (first, newest) = (version * 2, ROWS + version);
    if let Some(row) = next.savings.remove(&first) {
        let _ = write!(sql, "DELETE FROM dbo.savings WHERE id = {first}; ");
        let _ =
            write!(sql, "INSERT INTO dbo.savings VALUES ({newest}, {}, {}, {}); ", row[0], row[1], row[2]);
        next.savings.insert(newest, row);
    }
    let (old, new) = (version * 2 + 1, -version);
    if old < last
        && let Some(row) = next.savings.remove(&old)
    {
        let _ = write!(sql, "UPDATE dbo.savings SET id = {new} WHERE id = {old}; ");
        next.savings.insert(new, row);
    }
    let _ = write!(sql, "UPDATE dbo.clock SET version = {version} WHERE id = 1; COMMIT TRANSACTION");
    (next, sql)
}
