//! Executing one statement in its session, and its result as reply text.

use std::sync::Arc;

use keyferry_sql::{Column, Outcome, ResultSet, Rows, SqlError, Value as Cell, Verb};
use serde_json::{Value, json};

use super::Body;
use crate::{
    counting::Answered,
    lexer::{Kind, tokens},
    prepare::prepare,
    reply::{self, Refusal},
    results::{row_type, with_rowset},
    server::Shared,
    session::Session,
    stages::Location,
    statement::{self, Answer, Kinds, number_column, text_column},
};

/// What a statement may use while it runs.
pub(crate) struct Run<'a> {
    pub(crate) server: &'a Arc<Shared>,
    pub(crate) session: &'a Session,
    pub(crate) sql: &'a mut keyferry_sql::Session,
    pub(crate) query_id: &'a str,
}

/// A result on its way to the reply.
struct Table {
    columns: Vec<Column>,
    rows: Rows,
    type_id: u64,
    stats: Option<Value>,
    /// What `total` says; `None`: the number of rows.
    total: Option<u64>,
}

impl Run<'_> {
    /// Executes; the reply's text comes back.
    pub(crate) async fn statement(&mut self, body: &Body) -> Result<Vec<u8>, Refusal> {
        let all = tokens(&body.sql_text);
        let kind = statement::kind(&all);
        let none = crate::prepare::Bindings::new();
        let prepared = prepare(&body.sql_text, body.bindings.as_ref().unwrap_or(&none), kind != Kinds::Sql)?;
        let type_id = type_id(&prepared.text);
        if body.describe_only == Some(true) {
            if kind != Kinds::Sql {
                return Err(Refusal::new("002099", "0A000", "This statement cannot be described."));
            }
            let columns = self.sql.describe(&prepared.text).await?;
            return self.reply(Table {
                columns,
                rows: Rows::from_vec(Vec::new()),
                type_id,
                stats: None,
                total: None,
            });
        }
        if kind != Kinds::Sql {
            return match statement::run(kind, self, &prepared.text).await? {
                Answer::Transfer(mut data) => {
                    self.add_context(&mut data, type_id);
                    Ok(reply::success(&data).to_string().into_bytes())
                }
                Answer::Table(columns, rows) => self.reply(Table {
                    columns,
                    rows: Rows::from_vec(rows),
                    type_id,
                    stats: None,
                    total: None,
                }),
            };
        }
        if let Some(id) = result_scan(&prepared.text) {
            return Ok(super::earlier_reply(self.server, self.session, &id)?.to_vec());
        }
        match self.server.counting.answer(&prepared.text) {
            Some(Answered::Rows(ResultSet { columns, rows })) => {
                return self.reply(Table { columns, rows, type_id, stats: None, total: None });
            }
            Some(Answered::Inserted(rows)) => {
                return self.reply(counted(Verb::InsertOverwrite, rows, type_id));
            }
            None => {}
        }
        self.check_use(&prepared.text)?;
        let before = self.sql.transaction_id();
        let mut answers = self.sql.execute_with(&prepared.text, &prepared.parameters).await;
        let answer = answers.pop().unwrap_or_else(|| {
            Ok(Outcome::Done { verb: Verb::Other, message: "Statement executed successfully.".to_owned() })
        });
        self.follow_history(before, &answer, &prepared.text);
        self.session.hook.set_identity(self.sql.identity());
        let table = match answer? {
            Outcome::Rows(ResultSet { columns, rows }) => {
                Table { columns, rows, type_id, stats: None, total: None }
            }
            Outcome::Count { verb, rows } => counted(verb, rows, type_id),
            Outcome::Done { message, .. } if !message.is_empty() => sentence(&message, type_id),
            Outcome::Info { message, .. } => sentence(&message, type_id),
            Outcome::Done { .. } | Outcome::Changed { .. } | Outcome::Entered | Outcome::Left { .. } => {
                sentence("Statement executed successfully.", type_id)
            }
        };
        self.reply(table)
    }

    /// The stage and path that a location names, if the session's role may use it.
    pub(crate) fn resolve(&self, location: &str) -> Result<Location, Refusal> {
        self.server.stages.resolve(location, self.sql.identity(), &self.server.config.admin_roles)
    }

    /// DDL commits the open transaction.
    pub(crate) async fn commit_before_ddl(&mut self) -> Result<(), Refusal> {
        if self.sql.in_transaction() {
            for answer in self.sql.execute("COMMIT").await {
                answer?;
            }
            self.server.history.committed(self.session.id);
        }
        Ok(())
    }

    /// Refuses a name whose schema the session does not see.
    pub(crate) async fn check_schema(&mut self, name: &str) -> Result<(), Refusal> {
        let Some((probe, schema)) = statement::schema_probe(name) else { return Ok(()) };
        let rows = self.sql.query(&probe).await?.rows.collect_all()?;
        let seen = rows.first().and_then(|row| row.first());
        match seen {
            Some(Cell::Decimal(count)) if count.unscaled > 0 => Ok(()),
            Some(Cell::Int(count)) if *count > 0 => Ok(()),
            _ => Err(Refusal::new(
                "002003",
                "02000",
                format!("SQL compilation error:\nSchema '{schema}' does not exist or not authorized."),
            )),
        }
    }

    /// USE ROLE and USE WAREHOUSE name only what the user was given.
    fn check_use(&self, text: &str) -> Result<(), Refusal> {
        let all = tokens(text);
        let [first, what, name] = all.as_slice() else { return Ok(()) };
        if !first.is("USE") {
            return Ok(());
        }
        let name = name.value();
        let Some(user) =
            self.server.config.users.iter().find(|user| user.name.eq_ignore_ascii_case(&self.session.user))
        else {
            return Ok(());
        };
        let has = |names: &[String]| names.iter().any(|known| known.eq_ignore_ascii_case(&name));
        if what.is("ROLE") && !has(&user.roles) {
            return Err(Refusal::new(
                "003013",
                "42501",
                format!(
                    "SQL access control error:\nRequested role '{name}' is not assigned to the executing user. \
                     Specify another role to activate."
                ),
            ));
        }
        if what.is("WAREHOUSE") && !has(&user.warehouses) {
            return Err(Refusal::new(
                "002043",
                "02000",
                "SQL compilation error:\nObject does not exist, or operation cannot be performed.",
            ));
        }
        Ok(())
    }

    /// The load history follows the transaction: committed, rolled back, or forgotten with its table.
    fn follow_history(&self, before: Option<u64>, answer: &Result<Outcome, SqlError>, text: &str) {
        let ended = before.is_some() && self.sql.transaction_id() != before;
        if ended {
            let rolled_back = match answer {
                Ok(Outcome::Done { verb, .. }) => *verb == Verb::Rollback,
                Ok(_) => false,
                // DDL commits before it can fail; anything else that ends a transaction by failing undoes it.
                Err(_) => !is_ddl(text),
            };
            if rolled_back {
                self.server.history.rolled_back(self.session.id, self.server.config.load_history);
            } else {
                self.server.history.committed(self.session.id);
            }
        }
        if answer.is_ok() {
            self.server.history.follow_ddl(text, self.sql.identity());
        }
    }

    fn reply(&self, table: Table) -> Result<Vec<u8>, Refusal> {
        let mut rowset = Vec::new();
        let count = crate::results::write_rows(&mut rowset, &table.columns, table.rows)?;
        let mut data = json!({
            "rowtype": table.columns.iter().map(row_type).collect::<Vec<_>>(),
            "total": table.total.unwrap_or(count), "returned": count, "queryResultFormat": "json",
        });
        if let Some(stats) = table.stats {
            data["stats"] = stats;
        }
        self.add_context(&mut data, table.type_id);
        Ok(with_rowset(&data, &rowset))
    }

    fn add_context(&self, data: &mut Value, type_id: u64) {
        let identity = self.sql.identity();
        let role = identity.role.as_ref().or(self.server.config.admin_roles.first());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let context = json!({
            "parameters": [], "queryId": self.query_id, "databaseProvider": null,
            "finalDatabaseName": identity.database, "finalSchemaName": identity.schema,
            "finalWarehouseName": identity.warehouse, "finalRoleName": role,
            "numberOfBinds": 0, "arrayBindSupported": false, "statementTypeId": type_id, "version": 1,
            "sendResultTime": now.as_millis() as u64, "queryContext": { "entries": [] },
        });
        if let (Some(data), Value::Object(context)) = (data.as_object_mut(), context) {
            data.extend(context);
        }
    }
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        // A missing table or view is 42S02; databases, schemas and stages are 02000.
        let table =
            error.number == 2003 && ["Object '", "Table '"].iter().any(|kind| error.message.contains(kind));
        Self::new(&error.code(), if table { "42S02" } else { error.sqlstate }, error.message)
    }
}

/// The id in `SELECT * FROM TABLE(RESULT_SCAN('…'))`, by which drivers fetch the result of a detached statement.
fn result_scan(text: &str) -> Option<String> {
    let all = tokens(text);
    let words = ["SELECT", "*", "FROM", "TABLE", "(", "RESULT_SCAN", "("];
    let fits = all.len() == 10 && words.iter().zip(&all).all(|(word, token)| token.is(word));
    (fits && all[7].kind == Kind::Text).then(|| all[7].value())
}

fn sentence(message: &str, type_id: u64) -> Table {
    let rows = Rows::from_vec(vec![[Cell::text(message)].into()]);
    Table { columns: vec![text_column("status")], rows, type_id, stats: None, total: None }
}

/// The one-row answer of a statement that changed rows.
fn counted(verb: Verb, rows: u64, type_id: u64) -> Table {
    let (names, stat): (&[&str], &str) = match verb {
        Verb::Insert | Verb::InsertOverwrite => (&["number of rows inserted"], "numRowsInserted"),
        Verb::Update => {
            (&["number of rows updated", "number of multi-joined rows updated"], "numRowsUpdated")
        }
        Verb::Delete | Verb::Truncate => (&["number of rows deleted"], "numRowsDeleted"),
        Verb::Merge => (&["number of rows updated"], "numRowsUpdated"),
        _ => (&["number of rows"], "numRows"),
    };
    let mut stats =
        json!({ "numRowsInserted": 0, "numRowsUpdated": 0, "numRowsDeleted": 0, "numDmlDuplicates": 0 });
    stats[stat] = json!(rows);
    let cells: Vec<Cell> =
        (0..names.len()).map(|at| Cell::number(if at == 0 { i128::from(rows) } else { 0 })).collect();
    Table {
        columns: names.iter().map(|name| number_column(name)).collect(),
        rows: Rows::from_vec(vec![cells.into()]),
        type_id,
        stats: Some(stats),
        total: Some(1),
    }
}

fn is_ddl(text: &str) -> bool {
    tokens(text).first().is_some_and(|token| {
        ["CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT", "REVOKE", "UNDROP", "COMMENT"]
            .iter()
            .any(|word| token.is(word))
    })
}

/// `statementTypeId`, by which drivers tell queries from changes.
fn type_id(text: &str) -> u64 {
    let all = tokens(text);
    let first = all.first().map(|token| token.text.to_uppercase()).unwrap_or_default();
    match first.as_str() {
        "INSERT" => 0x3100,
        "UPDATE" => 0x3200,
        "DELETE" => 0x3300,
        "MERGE" => 0x3400,
        "COPY" => 0x3600,
        "ALTER" if all.get(1).is_some_and(|token| token.is("SESSION")) => 0x4100,
        "USE" => 0x4300,
        "SHOW" => 0x4400,
        "DESCRIBE" | "DESC" => 0x4500,
        "LIST" | "LS" | "PUT" | "GET" | "REMOVE" | "RM" => 0x4700,
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" => 0x5000,
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" | "GRANT" | "REVOKE" => 0x6000,
        _ => 0x1000,
    }
}
