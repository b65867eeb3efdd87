//! What is committed: databases, schemas, objects and the versions of tables. A [`State`] never changes once it is
//! published; a commit makes the next one and shares all that it did not touch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicI64},
};

use crate::{
    collation::Collation,
    grants::Grants,
    storage::TableVersion,
    types::{Column, Dialect},
};

pub(crate) type TableId = u64;

/// A full name. Its parts keep the case in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub database: String,
    pub schema: String,
    pub name: String,
}

impl Name {
    /// What names are looked up by: SQL Server's are case-insensitive.
    pub(crate) fn key(&self, dialect: Dialect) -> Key {
        (fold(dialect, &self.database), fold(dialect, &self.schema), fold(dialect, &self.name))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.database, self.schema, self.name)
    }
}

pub(crate) type Key = (String, String, String);

pub(crate) fn fold(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::SqlServer => name.to_lowercase(),
        Dialect::Snowflake => name.to_owned(),
    }
}

/// A column with what only its table knows.
#[derive(Debug, Clone)]
pub(crate) struct ColumnDef {
    pub column: Column,
    /// The DEFAULT expression as it was written.
    pub default: Option<String>,
    /// Seed and increment.
    pub identity: Option<(i64, i64)>,
    /// The expression of a computed column as it was written.
    pub computed: Option<String>,
}

/// A PRIMARY KEY or UNIQUE constraint, or a unique index.
#[derive(Debug, Clone)]
pub(crate) struct Unique {
    pub name: String,
    pub primary: bool,
    pub clustered: bool,
    /// False for a plain index, which only catalog views know.
    pub unique: bool,
    /// A constraint, and not only an index.
    pub constraint: bool,
    pub columns: Vec<usize>,
    pub descending: Vec<bool>,
}

/// A CHECK constraint.
#[derive(Debug, Clone)]
pub(crate) struct CheckDef {
    pub name: String,
    /// The condition as it was written.
    pub sql: String,
    /// The column that it was declared with.
    pub column: Option<String>,
}

/// A FOREIGN KEY constraint.
#[derive(Debug, Clone)]
pub(crate) struct ForeignDef {
    pub name: String,
    pub columns: Vec<usize>,
    pub parent: TableId,
    pub parent_columns: Vec<usize>,
}

/// What a table's rows have to fulfil besides its keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Constraints {
    pub checks: Vec<CheckDef>,
    pub foreign: Vec<ForeignDef>,
    /// Names of DEFAULT constraints and their columns.
    pub defaults: Vec<(String, String)>,
}

/// A table's definition.
#[derive(Debug)]
pub(crate) struct TableDef {
    pub id: TableId,
    pub name: Name,
    pub columns: Vec<ColumnDef>,
    pub keys: Vec<Unique>,
    pub constraints: Constraints,
    pub next_identity: Arc<AtomicI64>,
    pub temporary: bool,
    pub transient: bool,
    pub owner: Option<String>,
    pub created: (i32, u64),
}

impl TableDef {
    /// The same definition under another name; its rows are another table's.
    pub(crate) fn at(other: &Self, id: TableId, name: Name) -> Self {
        use std::sync::atomic::Ordering;
        Self {
            id,
            name,
            columns: other.columns.clone(),
            keys: other.keys.clone(),
            constraints: other.constraints.clone(),
            next_identity: Arc::new(AtomicI64::new(other.next_identity.load(Ordering::Relaxed))),
            temporary: other.temporary,
            transient: other.transient,
            owner: other.owner.clone(),
            created: other.created,
        }
    }
}

/// A view: its text is bound anew at each use.
#[derive(Debug)]
pub(crate) struct ViewDef {
    pub id: TableId,
    pub name: Name,
    pub columns: Vec<String>,
    pub sql: String,
    pub owner: Option<String>,
    pub created: (i32, u64),
}

impl ViewDef {
    /// The same view under another name.
    pub(crate) fn at(other: &Self, id: TableId, name: Name) -> Self {
        Self {
            id,
            name,
            columns: other.columns.clone(),
            sql: other.sql.clone(),
            owner: other.owner.clone(),
            created: other.created,
        }
    }
}

/// What a name of schema scope stands for.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Table(Arc<TableDef>),
    View(Arc<ViewDef>),
}

impl Object {
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Table(table) => &table.name,
            Self::View(view) => &view.name,
        }
    }

    pub(crate) fn id(&self) -> TableId {
        match self {
            Self::Table(table) => table.id,
            Self::View(view) => view.id,
        }
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            Self::Table(table) => table.owner.as_deref(),
            Self::View(view) => view.owner.as_deref(),
        }
    }
}

/// A parameter of a procedure.
#[derive(Debug, Clone)]
pub(crate) struct ProcedureParameter {
    pub name: String,
    pub ty: crate::types::DataType,
    pub default: Option<crate::value::Value>,
    pub output: bool,
}

/// A stored procedure.
#[derive(Debug)]
pub(crate) struct ProcedureDef {
    pub id: TableId,
    pub name: Name,
    pub parameters: Vec<ProcedureParameter>,
    pub body: Arc<Vec<crate::script::Line>>,
    pub text: Arc<str>,
    pub created: (i32, u64),
}

/// A database's own settings.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseInfo {
    pub name: String,
    pub id: i64,
    pub collation: Collation,
    pub allow_snapshot: bool,
    pub created: (i32, u64),
    /// The id of the database that this one is a snapshot of: it is then read-only.
    pub snapshot_of: Option<i64>,
}

/// A schema.
#[derive(Debug, Clone)]
pub(crate) struct SchemaInfo {
    pub database: String,
    pub name: String,
    pub id: i64,
    pub owner: Option<String>,
    pub created: (i32, u64),
}

/// Everything that is committed at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub databases: BTreeMap<String, DatabaseInfo>,
    pub schemas: BTreeMap<(String, String), SchemaInfo>,
    pub objects: BTreeMap<Key, Object>,
    pub procedures: BTreeMap<Key, Arc<ProcedureDef>>,
    pub tables: HashMap<TableId, Arc<TableVersion>>,
    pub grants: Grants,
}
