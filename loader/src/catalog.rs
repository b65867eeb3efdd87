//! What the source's catalog says about a table: read-only questions, exact answers, nothing guessed from values.

use crate::{
    config::Pipeline,
    model::{CodePage, SourceType, TableName},
    tds::{Connection, TdsError},
};

mod types;

pub use types::Uncarried;

/// Answers catalog questions: a connection, or a script in tests.
pub trait Catalog: Send {
    /// Runs one SELECT; every value as text.
    fn ask(&mut self, sql: &str) -> impl Future<Output = Result<Vec<Vec<Option<String>>>, TdsError>> + Send;
}

impl Catalog for Connection {
    async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, TdsError> {
        self.fetch_text(sql).await
    }
}

/// Why the catalog's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The question itself failed.
    #[error("while asking about {about}: {source}")]
    Tds {
        /// The table or database.
        about: String,
        /// What the connection said.
        source: TdsError,
    },
    /// The table is not there, or not visible.
    #[error("{table} does not exist in {database}, or this login may not see it{near}")]
    NoTable {
        /// What was asked for.
        table: TableName,
        /// Where.
        database: String,
        /// `; did you mean …?`, or empty.
        near: String,
    },
    /// It is there but no table.
    #[error("{table} is {kind}; only tables are carried. Name the tables under it")]
    NotATable {
        /// What was asked for.
        table: TableName,
        /// What it is.
        kind: String,
    },
    /// SELECT is not granted.
    #[error(
        "this login may not read {table}; run GRANT SELECT ON {} TO the loader's user in {database}",
        table.sql()
    )]
    Unreadable {
        /// The table.
        table: TableName,
        /// Its database.
        database: String,
    },
    /// The answer has another shape than the question.
    #[error("the catalog's answer about {about} cannot be read: {what}")]
    Answer {
        /// The table or database.
        about: String,
        /// What was missing.
        what: String,
    },
}

/// One column as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, if it is carried.
    pub source: Result<SourceType, Uncarried>,
    /// Whether it allows NULL.
    pub nullable: bool,
    /// Whether it is computed.
    pub computed: bool,
    /// Whether Always Encrypted holds its values.
    pub encrypted: bool,
    /// Its collation, for text.
    pub collation: Option<String>,
}

/// One table as the catalog has it.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its id.
    pub object_id: i64,
    /// All columns in their order.
    pub columns: Vec<Column>,
    /// The indexes that it can be cut by, the best first: the clustered one, the primary key, other unique ones.
    pub indexes: Vec<Index>,
    /// Rows.
    pub rows: u64,
    /// Whether the rows were counted now, and not taken from the catalog's statistics.
    pub counted: bool,
    /// Bytes on the source's pages, when the login may know.
    pub page_bytes: Option<u64>,
}

/// A rowstore index over all rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Whether the rows lie in its order.
    pub clustered: bool,
    /// Whether no two rows share a key.
    pub unique: bool,
    /// The names of its key columns, in order.
    pub columns: Vec<String>,
}

/// Facts about the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Whether SNAPSHOT transactions are allowed.
    pub snapshot_allowed: bool,
    /// The database that it is a snapshot of.
    pub snapshot_of: Option<String>,
    /// When it was made, by the server's clock.
    pub created: Option<String>,
}

/// Asks about the database.
pub async fn database(catalog: &mut impl Catalog, pipeline: &Pipeline) -> Result<Database, CatalogError> {
    let about = pipeline.source.database_snapshot.as_ref().unwrap_or(&pipeline.source.database);
    let rows = ask(catalog, about, sql::DATABASE).await?;
    let row = rows.first().ok_or_else(|| answer(about, "sys.databases has no row for it"))?;
    Ok(Database {
        name: text(row, 0).unwrap_or(about).to_owned(),
        snapshot_allowed: text(row, 1) == Some("1"),
        snapshot_of: text(row, 2).map(str::to_owned),
        created: text(row, 3).map(str::to_owned),
    })
}

/// The server's version as it prints it, and its engine edition.
pub async fn version(catalog: &mut impl Catalog, database: &Database) -> Result<(String, i32), CatalogError> {
    let rows = ask(catalog, &database.name, sql::VERSION).await?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let edition = text(row, 1).and_then(|number| number.parse().ok());
    let edition = edition.ok_or_else(|| answer(&database.name, "SERVERPROPERTY gave no edition"))?;
    Ok((text(row, 0).unwrap_or_default().to_owned(), edition))
}

/// Asks about one table.
pub async fn table(
    catalog: &mut impl Catalog,
    database: &Database,
    name: &TableName,
) -> Result<Table, CatalogError> {
    let about = name.to_string();
    let object_id = object_id(catalog, database, name).await?;
    let granted = ask(catalog, &about, &sql::may_select(name)).await?;
    if granted.first().and_then(|row| text(row, 0)) != Some("1") {
        return Err(CatalogError::Unreadable { table: name.clone(), database: database.name.clone() });
    }
    let columns = columns(catalog, &about, object_id).await?;
    let indexes = indexes(&ask(catalog, &about, &sql::indexes(object_id)).await?);
    let (rows, counted, page_bytes) = size(catalog, name, object_id).await?;
    Ok(Table { object_id, columns, indexes, rows, counted, page_bytes })
}

async fn object_id(
    catalog: &mut impl Catalog,
    database: &Database,
    name: &TableName,
) -> Result<i64, CatalogError> {
    let about = name.to_string();
    let rows = ask(catalog, &about, &sql::object(name)).await?;
    let Some(row) = rows.first() else {
        let names = ask(catalog, &about, sql::TABLES).await?;
        let names: Vec<_> =
            names.iter().filter_map(|r| Some(format!("{}.{}", text(r, 0)?, text(r, 1)?))).collect();
        let near = crate::config::nearest(&about, names.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(CatalogError::NoTable { table: name.clone(), database: database.name.clone(), near });
    };
    let kind = match text(row, 1).map(str::trim) {
        Some("U") => {
            let id = text(row, 0).and_then(|id| id.parse().ok());
            return id.ok_or_else(|| answer(&about, "it has no object_id"));
        }
        Some("V") => "a view".to_owned(),
        Some("SN") => "a synonym".to_owned(),
        Some(other) => format!("an object of type {other}"),
        None => "an object of no type".to_owned(),
    };
    Err(CatalogError::NotATable { table: name.clone(), kind })
}

async fn columns(
    catalog: &mut impl Catalog,
    about: &str,
    object_id: i64,
) -> Result<Vec<Column>, CatalogError> {
    const INVALID_COLUMN_NAME: i32 = 207;
    let rows = match catalog.ask(&sql::columns(object_id, "c.encryption_type")).await {
        // Before SQL Server 2016 there was neither Always Encrypted nor its column.
        Err(error) if error.number() == Some(INVALID_COLUMN_NAME) => {
            ask(catalog, about, &sql::columns(object_id, "CAST(NULL AS int)")).await?
        }
        other => other.map_err(|source| CatalogError::Tds { about: about.to_owned(), source })?,
    };
    rows.iter().map(|row| column(about, row)).collect()
}

/// One row for each key column, the columns of an index together.
fn indexes(rows: &[Vec<Option<String>>]) -> Vec<Index> {
    let mut all: Vec<(&str, Index)> = Vec::new();
    for row in rows {
        let (Some(id), Some(column)) = (text(row, 0), text(row, 4)) else { continue };
        match all.last_mut() {
            Some((last, index)) if *last == id => index.columns.push(column.to_owned()),
            _ => {
                let index = Index {
                    name: text(row, 1).unwrap_or_default().to_owned(),
                    clustered: flag(row, 2),
                    unique: flag(row, 3),
                    columns: vec![column.to_owned()],
                };
                all.push((id, index));
            }
        }
    }
    all.into_iter().map(|(_, index)| index).collect()
}

fn column(about: &str, row: &[Option<String>]) -> Result<Column, CatalogError> {
    let name = text(row, 0).ok_or_else(|| answer(about, "a column has no name"))?;
    let number = |at: usize, what: &str| {
        text(row, at)
            .and_then(|t| t.parse::<i32>().ok())
            .ok_or_else(|| answer(about, &format!("column {name} has no {what}")))
    };
    let declared = types::Declared {
        name: text(row, 1).unwrap_or("an unnamed type").to_owned(),
        max_length: number(2, "max_length")?,
        precision: number(3, "precision")?,
        scale: number(4, "scale")?,
        code_page: text(row, 6).and_then(|t| t.parse().ok()).map(CodePage),
    };
    Ok(Column {
        name: name.to_owned(),
        source: declared.source_type(),
        nullable: flag(row, 7),
        computed: flag(row, 8),
        encrypted: text(row, 9).is_some(),
        collation: text(row, 5).map(str::to_owned),
    })
}

/// Rows, whether they were counted, and bytes. The statistics need VIEW DATABASE STATE: without it rows are counted.
async fn size(
    catalog: &mut impl Catalog,
    name: &TableName,
    object_id: i64,
) -> Result<(u64, bool, Option<u64>), CatalogError> {
    let about = name.to_string();
    let number =
        |row: Option<&Vec<Option<String>>>, at: usize| row.and_then(|r| text(r, at)?.parse::<u64>().ok());
    match catalog.ask(&sql::size(object_id)).await {
        Ok(rows) => {
            if let Some(count) = number(rows.first(), 0) {
                let pages = number(rows.first(), 1);
                return Ok((count, false, pages.map(|pages| pages * 8192)));
            }
        }
        // A permission, not a broken connection: the counted way needs SELECT only.
        Err(error) if error.number().is_some() && !error.is_transient() => {
            tracing::debug!(%error, table = %name, "no statistics; counting the rows");
        }
        Err(source) => return Err(CatalogError::Tds { about, source }),
    }
    let rows = ask(catalog, &about, &sql::count(name)).await?;
    let count = number(rows.first(), 0).ok_or_else(|| answer(&about, "COUNT_BIG gave no number"))?;
    Ok((count, true, None))
}

async fn ask(
    catalog: &mut impl Catalog,
    about: &str,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, CatalogError> {
    catalog.ask(sql).await.map_err(|source| CatalogError::Tds { about: about.to_owned(), source })
}

fn answer(about: &str, what: &str) -> CatalogError {
    CatalogError::Answer { about: about.to_owned(), what: what.to_owned() }
}

fn text(row: &[Option<String>], at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}

fn flag(row: &[Option<String>], at: usize) -> bool {
    matches!(text(row, at), Some("1" | "true"))
}

/// The questions. All are SELECTs over catalog views that a reader of the table may see.
pub mod sql {
    use crate::model::TableName;

    /// Whether SNAPSHOT is allowed (1 is ON); and of a database snapshot its source and its moment.
    pub const DATABASE: &str = "SELECT d.name, d.snapshot_isolation_state, s.name, \
                                CONVERT(varchar(30), d.create_date, 126) FROM sys.databases AS d \
                                LEFT JOIN sys.databases AS s ON s.database_id = d.source_database_id \
                                WHERE d.name = DB_NAME()";
    /// Version and engine edition (5 and 8 are Azure).
    pub const VERSION: &str = "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), \
                               CAST(SERVERPROPERTY('EngineEdition') AS int)";
    /// Every visible table, for "did you mean".
    pub const TABLES: &str = "SELECT TOP (5000) s.name, t.name FROM sys.tables AS t \
                              JOIN sys.schemas AS s ON s.schema_id = t.schema_id ORDER BY s.name, t.name";

    /// Id and type of an object.
    pub fn object(name: &TableName) -> String {
        format!(
            "SELECT o.object_id, o.type FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id \
             WHERE s.name = {} AND o.name = {}",
            literal(&name.schema),
            literal(&name.name)
        )
    }

    /// 1 when this login may read the table.
    pub fn may_select(name: &TableName) -> String {
        format!("SELECT HAS_PERMS_BY_NAME({}, N'OBJECT', N'SELECT')", literal(&name.sql()))
    }

    /// Every column with its base type. `encryption` is `c.encryption_type` where that exists.
    pub fn columns(object_id: i64, encryption: &str) -> String {
        format!(
            "SELECT c.name, COALESCE(b.name, t.name), c.max_length, c.precision, c.scale, c.collation_name, \
             CAST(COLLATIONPROPERTY(c.collation_name, 'CodePage') AS int), c.is_nullable, c.is_computed, {encryption} \
             FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id \
             LEFT JOIN sys.types AS b ON b.user_type_id = c.system_type_id \
             WHERE c.object_id = {object_id} ORDER BY c.column_id"
        )
    }

    /// The key columns of the clustered index, the primary key and the other unique indexes, in this order. Columnstore,
    /// filtered and disabled indexes are left out: they are not in the order of a key, or not over all rows.
    pub fn indexes(object_id: i64) -> String {
        format!(
            "SELECT i.index_id, i.name, CASE WHEN i.type = 1 THEN 1 ELSE 0 END, i.is_unique, c.name FROM sys.indexes AS i \
             JOIN sys.index_columns AS x ON x.object_id = i.object_id AND x.index_id = i.index_id \
             JOIN sys.columns AS c ON c.object_id = x.object_id AND c.column_id = x.column_id \
             WHERE i.object_id = {object_id} AND i.type IN (1, 2) AND (i.type = 1 OR i.is_unique = 1) AND x.key_ordinal > 0 \
             AND i.has_filter = 0 AND i.is_disabled = 0 AND i.is_hypothetical = 0 \
             ORDER BY i.type, i.is_primary_key DESC, i.index_id, x.key_ordinal"
        )
    }

    /// Rows and 8-KiB pages by the statistics.
    pub fn size(object_id: i64) -> String {
        format!(
            "SELECT SUM(row_count), SUM(used_page_count) FROM sys.dm_db_partition_stats \
             WHERE object_id = {object_id} AND index_id IN (0, 1)"
        )
    }

    /// Rows, counted.
    pub fn count(name: &TableName) -> String {
        format!("SELECT COUNT_BIG(*) FROM {}", name.sql())
    }

    /// A Unicode string literal.
    pub fn literal(text: &str) -> String {
        format!("N'{}'", text.replace('\'', "''"))
    }
}
