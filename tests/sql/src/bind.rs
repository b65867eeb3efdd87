//! From parsed SQL to plans: names become positions, types are settled, constants are computed.

use std::{cell::Cell, cell::RefCell, collections::HashMap, sync::Arc};

use sqlparser::ast;

use crate::{
    database::Database,
    error::{SqlError, quote},
    exec::{aggregate::Aggregate, window::Window},
    session::Identity,
    stage::StageReader,
    state::{Name, State, TableId},
    storage::{Delta, TableView},
    types::{DataType, Dialect},
    value::Value,
};

pub(crate) mod aggregates;
pub(crate) mod expressions;
pub(crate) mod operators;
mod pivot;
pub(crate) mod query;
pub(crate) mod relations;
pub(crate) mod types;

/// What a statement may refer to besides its own text.
pub(crate) struct Env<'a> {
    pub db: &'a Arc<Database>,
    pub state: Arc<State>,
    pub deltas: &'a HashMap<TableId, Arc<Delta>>,
    pub identity: &'a Identity,
    pub session_id: u64,
    pub variables: &'a HashMap<String, (DataType, Value)>,
    pub positional: Vec<(DataType, Value)>,
    pub now: (i32, u64),
    pub stage: Option<Arc<dyn StageReader>>,
    pub stop: Option<crate::session::Stop>,
    pub facts: Facts,
}

/// What functions and `@@` variables tell of the session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub transaction: Option<u64>,
    pub nesting: i64,
    pub doomed: bool,
    pub row_count: i64,
    pub error: i64,
    pub identity: Option<i64>,
    pub lock_timeout: i64,
    pub isolation: i64,
    pub fetch_status: i64,
    pub cursor_rows: i64,
    pub level: u32,
    /// Rounds that a recursive query may take.
    pub recursion: u64,
    /// The error whose CATCH block runs.
    pub caught: Option<SqlError>,
}

/// A common table expression in scope.
#[derive(Clone)]
pub(crate) struct Cte {
    pub name: String,
    pub columns: Vec<ScopeColumn>,
    pub plan: Arc<crate::exec::Plan>,
}

pub(crate) struct Binder<'a> {
    pub env: &'a Env<'a>,
    pub ctes: RefCell<Vec<Cte>>,
    pub depth: Cell<u32>,
}

/// A column that an expression may name.
#[derive(Debug, Clone)]
pub(crate) struct ScopeColumn {
    /// Alias or name of its relation.
    pub qualifier: String,
    /// Schema of its relation, where it has no alias.
    pub schema: String,
    pub name: String,
    pub ty: DataType,
    pub nullable: bool,
    pub identity: bool,
    pub computed: bool,
    /// Not part of `*`.
    pub hidden: bool,
}

impl ScopeColumn {
    pub(crate) fn new(qualifier: &str, name: &str, ty: DataType, nullable: bool) -> Self {
        Self {
            qualifier: qualifier.to_owned(),
            schema: String::new(),
            name: name.to_owned(),
            ty,
            nullable,
            identity: false,
            computed: false,
            hidden: false,
        }
    }
}

/// One query's names, inside those of the query around it.
pub(crate) struct Level<'p> {
    pub columns: &'p [ScopeColumn],
    pub parent: Option<&'p Level<'p>>,
    /// Set when something in this query names a column above it.
    pub correlated: &'p Cell<bool>,
    pub groups: Option<Groups<'p>>,
    /// Window functions found so far; None where they may not stand.
    pub windows: Option<RefCell<Vec<Window>>>,
    /// Snowflake lets an expression name an alias of the same SELECT.
    pub aliases: Vec<(String, ast::Expr)>,
}

/// The keys and aggregates of a grouped query.
pub(crate) struct Groups<'p> {
    pub input: &'p Level<'p>,
    /// The key's text, its column if it is a bare one, type and nullability.
    pub keys: Vec<(ast::Expr, Option<usize>, DataType, bool)>,
    pub aggregates: RefCell<Vec<Aggregate>>,
}

impl<'p> Level<'p> {
    pub(crate) fn new(
        columns: &'p [ScopeColumn],
        parent: Option<&'p Level<'p>>,
        correlated: &'p Cell<bool>,
    ) -> Self {
        Self { columns, parent, correlated, groups: None, windows: None, aliases: Vec::new() }
    }
}

impl<'a> Binder<'a> {
    pub(crate) fn new(env: &'a Env<'a>) -> Self {
        Self { env, ctes: RefCell::new(Vec::new()), depth: Cell::new(0) }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.env.db.dialect()
    }

    pub(crate) fn is_snowflake(&self) -> bool {
        self.dialect() == Dialect::Snowflake
    }

    /// An identifier as it is stored: Snowflake folds unquoted ones to upper case.
    pub(crate) fn ident(&self, ident: &ast::Ident) -> String {
        canonical(self.dialect(), ident)
    }

    /// Whether two identifiers are the same name.
    pub(crate) fn same(&self, a: &str, b: &str) -> bool {
        match self.dialect() {
            Dialect::SqlServer => a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase(),
            Dialect::Snowflake => a == b,
        }
    }

    /// The parts of an object name.
    pub(crate) fn parts(&self, name: &ast::ObjectName) -> Result<Vec<String>, SqlError> {
        parts(self.dialect(), name)
    }

    pub(crate) fn complete(&self, parts: &[String]) -> Result<Name, SqlError> {
        complete(self.env.db, self.env.identity, self.env.session_id, &self.env.state, parts)
    }

    /// The rows of a table as this statement sees them.
    pub(crate) fn view(&self, id: TableId) -> TableView {
        let version = self.env.state.tables.get(&id).cloned().unwrap_or_default();
        let delta = self.env.deltas.get(&id).filter(|delta| !delta.is_empty()).cloned();
        TableView { version, delta }
    }

    /// SQL that is parsed but means nothing here.
    pub(crate) fn unsupported(&self, what: impl std::fmt::Display) -> SqlError {
        unsupported(self.dialect(), what)
    }

    /// Guards the recursion of binding, whose depth outside text decides.
    pub(crate) fn enter(&self) -> Result<Depth<'_>, SqlError> {
        let depth = self.depth.get() + 1;
        if depth > 200 {
            return Err(match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    191,
                    "Some part of your SQL statement is nested too deeply. Rewrite the query or break it up into smaller queries.",
                )
                .with_class(15),
                Dialect::Snowflake => SqlError::snowflake(1003, "42000", "SQL compilation error:\nexpression is nested too deeply"),
            });
        }
        self.depth.set(depth);
        Ok(Depth(&self.depth))
    }
}

pub(crate) struct Depth<'a>(&'a Cell<u32>);

impl Drop for Depth<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// SQL that is parsed but means nothing here: refused with its own text.
pub(crate) fn unsupported(dialect: Dialect, what: impl std::fmt::Display) -> SqlError {
    match dialect {
        Dialect::SqlServer => SqlError::mssql(
            40_510,
            format!(
                "Statement or expression '{}' is not supported in this version of SQL Server (stand-in).",
                quote(what)
            ),
        )
        .with_class(16),
        Dialect::Snowflake => {
            SqlError::snowflake(2, "0A000", format!("Unsupported feature '{}' (stand-in).", quote(what)))
        }
    }
}

pub(crate) fn canonical(dialect: Dialect, ident: &ast::Ident) -> String {
    match (dialect, ident.quote_style) {
        (Dialect::Snowflake, None) => ident.value.to_uppercase(),
        _ => ident.value.clone(),
    }
}

pub(crate) fn parts(dialect: Dialect, name: &ast::ObjectName) -> Result<Vec<String>, SqlError> {
    name.0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(ident) => Ok(canonical(dialect, ident)),
            ast::ObjectNamePart::Function(_) => Err(unsupported(dialect, name)),
        })
        .collect()
}

/// Fills the missing parts of a name; a temporary table of the session hides others.
pub(crate) fn complete(
    db: &Database,
    identity: &Identity,
    session: u64,
    state: &State,
    parts: &[String],
) -> Result<Name, SqlError> {
    let database = identity.database.clone().unwrap_or_default();
    let default = match db.dialect() {
        Dialect::SqlServer => "dbo",
        Dialect::Snowflake => "PUBLIC",
    };
    let schema = identity.schema.clone().unwrap_or_else(|| default.to_owned());
    let or = |part: &String, other: &str| if part.is_empty() { other.to_owned() } else { part.clone() };
    let name = match parts {
        [name] => Name { database, schema, name: name.clone() },
        [schema_part, name] => Name { database, schema: or(schema_part, &schema), name: name.clone() },
        [database_part, schema_part, name] => Name {
            database: or(database_part, &database),
            schema: or(schema_part, default),
            name: name.clone(),
        },
        _ => return Err(unsupported(db.dialect(), parts.join("."))),
    };
    let temporary = Name { schema: format!("{}#{session}", name.schema), ..name.clone() };
    let temp_table = name.name.starts_with(['#', '@']) && db.dialect() == Dialect::SqlServer;
    if temp_table {
        return Ok(Name { database: "tempdb".to_owned(), schema: format!("dbo#{session}"), name: name.name });
    }
    Ok(if state.objects.contains_key(&temporary.key(db.dialect())) { temporary } else { name })
}
