//! A server's databases: committed versions of tables, locks, grants and settings.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    calendar::DAY_1970,
    collation::Collation,
    grants::Grant,
    keys::{self, KeyBytes, Order},
    locks::Locks,
    session::Identity,
    state::{DatabaseInfo, Name, Object, SchemaInfo, State, TableDef, TableId, ViewDef, fold},
    storage::Delta,
    types::Dialect,
    value::{DAY_NS, Row},
};

/// What a server is set to. Every field can be changed before the [`Database`] is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collation of new databases (SQL Server).
    pub collation: Collation,
    /// `ALLOW_SNAPSHOT_ISOLATION` of the first database (SQL Server); otherwise a SNAPSHOT transaction meets 3952.
    pub allow_snapshot: bool,
    /// Whether an UPDATE that waited for a lock sees what the other transaction committed meanwhile (Snowflake
    /// does not document which; a client must be right either way).
    pub waiters_see_commits: bool,
    /// How long a statement waits for a lock when the session does not say: forever for SQL Server, 12 hours for Snowflake.
    pub lock_timeout: Option<Duration>,
    /// Snowflake: how many statements may wait for one table's lock before `000625`.
    pub max_waiters: usize,
    /// What `@@VERSION` or `CURRENT_VERSION()` answers.
    pub version: String,
    /// What `@@SERVERNAME` or `CURRENT_ACCOUNT()` answers.
    pub server_name: String,
}

impl Settings {
    /// The defaults of a dialect.
    pub fn of(dialect: Dialect) -> Self {
        let snowflake = dialect == Dialect::Snowflake;
        Self {
            collation: Collation::default(),
            allow_snapshot: true,
            waiters_see_commits: true,
            lock_timeout: snowflake.then(|| Duration::from_hours(12)),
            max_waiters: 20,
            version: if snowflake {
                "9.35.1".to_owned()
            } else {
                "Microsoft SQL Server 2022 (RTM) - 16.0.1000.6 (X64) (Keyferry stand-in)".to_owned()
            },
            server_name: if snowflake { "MYACCOUNT".to_owned() } else { "SQL01".to_owned() },
        }
    }
}

/// A server (SQL Server) or account (Snowflake) with its databases. Share it with `Arc`.
pub struct Database {
    dialect: Dialect,
    settings: Settings,
    state: Mutex<Arc<State>>,
    pub(crate) locks: Locks,
    next_id: AtomicU64,
    next_session: AtomicU64,
    open: Mutex<HashMap<u64, OpenTransaction>>,
    permissions: AtomicBool,
}

/// An open transaction, as SHOW TRANSACTIONS tells of it.
#[derive(Debug, Clone)]
pub struct OpenTransaction {
    /// Its number.
    pub id: u64,
    /// The session that began it.
    pub session: u64,
    /// That session's user.
    pub user: String,
    /// When it began: days since 0001-01-01 and nanoseconds, UTC.
    pub started: (i32, u64),
    /// Its name, if it was given one.
    pub name: String,
    pub(crate) aborted: bool,
}

impl Database {
    /// A server of this dialect with one database of this name, which has the schema `dbo` or `PUBLIC`.
    pub fn new(dialect: Dialect, name: &str) -> Arc<Self> {
        Self::with_settings(dialect, name, Settings::of(dialect))
    }

    /// The same with other settings.
    pub fn with_settings(dialect: Dialect, name: &str, settings: Settings) -> Arc<Self> {
        let database = Arc::new(Self {
            dialect,
            state: Mutex::new(Arc::new(State::default())),
            locks: Locks::default(),
            // Object ids look like SQL Server's: far from small numbers.
            next_id: AtomicU64::new(901_578_250),
            next_session: AtomicU64::new(51),
            open: Mutex::new(HashMap::new()),
            permissions: AtomicBool::new(false),
            settings,
        });
        if dialect == Dialect::SqlServer {
            for system in ["master", "tempdb", "model", "msdb"] {
                database.create_database(system, None);
            }
        }
        database.create_database(name, None);
        database
    }

    /// Whose rules it follows.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What it is set to.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Grants a privilege to a role (Snowflake) or login (SQL Server). `object` is `DATABASE.SCHEMA.OBJECT`, `DATABASE.SCHEMA.*` for all and
    /// future tables, `DATABASE.*`, or the bare name of a database or schema (`DATABASE`, `DATABASE.SCHEMA`). SQL Server
    /// checks permissions once something was granted.
    pub fn grant(&self, grantee: &str, privilege: &str, object: &str) {
        self.permissions.store(true, Ordering::Relaxed);
        self.change(|state| {
            state.grants.all.insert(Grant {
                grantee: grantee.to_owned(),
                privilege: privilege.to_uppercase(),
                object: object.to_owned(),
            });
        });
    }

    /// Makes a role or login one that may do everything.
    pub fn administrator(&self, grantee: &str) {
        self.change(|state| {
            state.grants.administrators.insert(grantee.to_owned());
        });
    }

    /// Turns SQL Server's permission checks on before anything was granted.
    pub fn check_permissions(&self) {
        self.permissions.store(true, Ordering::Relaxed);
    }

    /// Every open transaction, oldest first.
    pub fn transactions(&self) -> Vec<OpenTransaction> {
        let mut open: Vec<_> = lock(&self.open).values().cloned().collect();
        open.sort_by_key(|transaction| transaction.id);
        open
    }

    pub(crate) fn checks_permissions(&self) -> bool {
        self.permissions.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&lock(&self.state))
    }

    /// Publishes a changed state.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut current = lock(&self.state);
        let mut next = State::clone(&current);
        let result = change(&mut next);
        *current = Arc::new(next);
        result
    }

    pub(crate) fn next_id(&self) -> TableId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn create_database(&self, name: &str, owner: Option<String>) {
        let (dialect, now) = (self.dialect, now());
        self.change(|state| {
            let id = state.databases.len() as i64 + 1;
            state.databases.insert(
                fold(dialect, name),
                DatabaseInfo {
                    name: name.to_owned(),
                    id,
                    collation: self.settings.collation,
                    allow_snapshot: self.settings.allow_snapshot,
                    created: now,
                    snapshot_of: None,
                },
            );
            let schema = if dialect == Dialect::SqlServer { "dbo" } else { "PUBLIC" };
            let info =
                SchemaInfo { database: name.to_owned(), name: schema.to_owned(), id: 1, owner, created: now };
            state.schemas.insert((fold(dialect, name), fold(dialect, schema)), info);
        });
    }

    /// CREATE DATABASE … AS SNAPSHOT OF: what is committed at this moment, under another name and read-only. False: there
    /// is no such source.
    pub(crate) fn snapshot_database(&self, name: &str, source: &str) -> bool {
        let (dialect, now) = (self.dialect, now());
        let (key, from) = (fold(dialect, name), fold(dialect, source));
        self.change(|state| {
            let Some(info) = state.databases.get(&from).cloned() else { return false };
            let id = state.databases.values().map(|info| info.id).max().unwrap_or(0) + 1;
            let snapshot =
                DatabaseInfo { name: name.to_owned(), id, created: now, snapshot_of: Some(info.id), ..info };
            state.databases.insert(key.clone(), snapshot);
            let schemas: Vec<_> = state
                .schemas
                .values()
                .filter(|schema| fold(dialect, &schema.database) == from)
                .cloned()
                .collect();
            for schema in schemas {
                let place = (key.clone(), fold(dialect, &schema.name));
                state.schemas.insert(place, SchemaInfo { database: name.to_owned(), ..schema });
            }
            let objects: Vec<_> = state
                .objects
                .iter()
                .filter(|((database, ..), _)| *database == from)
                .map(|(_, object)| object.clone())
                .collect();
            for object in objects {
                let place = Name { database: name.to_owned(), ..object.name().clone() };
                let id = self.next_id();
                let copy = match &object {
                    Object::Table(table) => {
                        if let Some(version) = state.tables.get(&table.id).cloned() {
                            state.tables.insert(id, version);
                        }
                        Object::Table(Arc::new(TableDef::at(table, id, place.clone())))
                    }
                    Object::View(view) => Object::View(Arc::new(ViewDef::at(view, id, place.clone()))),
                };
                state.objects.insert(place.key(dialect), copy);
            }
            // Rights lie inside a database, so the snapshot has those of its source.
            let inside = |object: &str| {
                let rest = object.get(source.len()..)?;
                let same = object.get(..source.len())?.eq_ignore_ascii_case(source);
                (same && (rest.is_empty() || rest.starts_with('.'))).then(|| format!("{name}{rest}"))
            };
            let granted: Vec<_> = state
                .grants
                .all
                .iter()
                .filter_map(|grant| Some(Grant { object: inside(&grant.object)?, ..grant.clone() }))
                .collect();
            state.grants.all.extend(granted);
            true
        })
    }

    /// Makes a schema; false if it is there.
    pub(crate) fn create_schema(&self, database: &str, name: &str, owner: Option<String>) -> bool {
        let (dialect, now) = (self.dialect, now());
        self.change(|state| {
            let key = (fold(dialect, database), fold(dialect, name));
            if state.schemas.contains_key(&key) {
                return false;
            }
            let id = state.schemas.len() as i64 + 4;
            let info =
                SchemaInfo { database: database.to_owned(), name: name.to_owned(), id, owner, created: now };
            state.schemas.insert(key, info);
            true
        })
    }

    pub(crate) fn begin(&self, session: u64, user: &str) -> u64 {
        // Snowflake's transaction ids are nanoseconds of their start.
        let id = match self.dialect {
            Dialect::SqlServer => self.next_id(),
            Dialect::Snowflake => {
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                elapsed.as_nanos() as u64 / 1000 * 1000 + self.next_id() % 1000
            }
        };
        let transaction = OpenTransaction {
            id,
            session,
            user: user.to_owned(),
            started: now(),
            name: String::new(),
            aborted: false,
        };
        lock(&self.open).insert(id, transaction);
        id
    }

    /// Ends a transaction: its locks are free.
    pub(crate) fn end(&self, transaction: u64) {
        lock(&self.open).remove(&transaction);
        self.locks.release(transaction);
    }

    /// Whether somebody aborted the transaction.
    pub(crate) fn is_aborted(&self, transaction: u64) -> bool {
        lock(&self.open).get(&transaction).is_none_or(|open| open.aborted)
    }

    /// Aborts another session's transaction of the same user: its locks are free at once.
    pub(crate) fn abort_transaction(&self, id: u64, identity: &Identity) -> bool {
        let mut open = lock(&self.open);
        let Some(transaction) = open.get_mut(&id) else { return false };
        let state = self.state();
        let admin = identity.role.as_ref().is_none_or(|role| state.grants.administrators.contains(role));
        if transaction.user != identity.user && !admin {
            return false;
        }
        transaction.aborted = true;
        drop(open);
        self.locks.release(id);
        true
    }

    /// Applies a transaction's changes to the committed state. False: it was aborted, nothing happened.
    pub(crate) fn commit(&self, transaction: u64, deltas: &HashMap<TableId, Arc<Delta>>) -> bool {
        // One critical section: an abort comes before it or after it, never between.
        let open = lock(&self.open);
        if open.get(&transaction).is_none_or(|open| open.aborted) {
            return false;
        }
        let dialect = self.dialect;
        self.change(|state| {
            for (id, delta) in deltas {
                if delta.is_empty() {
                    continue;
                }
                let Some(version) = state.tables.get(id) else { continue };
                let next = version.apply(delta);
                if let Some(Object::Table(table)) = state.objects.values().find(|object| object.id() == *id) {
                    next.extend_indexes(version.next_id, delta, |number, row| {
                        unique_key(dialect, table, number, row)
                    });
                }
                state.tables.insert(*id, Arc::new(next));
            }
        });
        drop(open);
        true
    }

    pub(crate) fn object(&self, name: &Name) -> Option<Object> {
        self.state().objects.get(&name.key(self.dialect)).cloned()
    }
}

/// The key of a row under a table's unique constraint number `number`.
pub(crate) fn unique_key(
    dialect: Dialect,
    table: &crate::state::TableDef,
    number: usize,
    row: &Row,
) -> Option<KeyBytes> {
    let unique = table.keys.get(number)?;
    let mut key = KeyBytes::new();
    for column in &unique.columns {
        let order = Order::of(dialect, &table.columns[*column].column.ty);
        keys::push_key(&mut key, row.get(*column)?, order);
    }
    Some(key)
}

/// The present moment in UTC.
pub(crate) fn now() -> (i32, u64) {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ns = elapsed.as_nanos();
    (DAY_1970 + (ns / u128::from(DAY_NS)) as i32, (ns % u128::from(DAY_NS)) as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
