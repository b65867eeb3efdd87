//! Executing one statement in its session, and its result as reply text.

use std::{borrow::Cow, sync::Arc};

use keyferry_sql::{Column, Outcome, Parameter, ResultSet, Rows, SqlError, Value as Cell, Verb};
use serde_json::{Value, json};

use super::Body;
use crate::{
    counting::Answered,
    lexer::{Kind, tokens},
    parameters,
    prepare::{self, Bindings, Prepared, prepare},
    reply::{self, Refusal},
    results::{Format, Laid, lay_out, with_rowset},
    server::Shared,
    session::Session,
    stages::Location,
    statement::{self, Answer, Kinds, number_column, text_column},
};

/// `statementTypeId` of a request with several statements.
const SEVERAL: u64 = 0xA000;

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
    /// Executes a request's statement, or its statements; the reply's text comes back.
    pub(crate) async fn request(&mut self, body: &Body) -> Result<Vec<u8>, Refusal> {
        let texts = prepare::split(&body.sql_text);
        if texts.is_empty() {
            return Err(Refusal::new("000900", "42601", "SQL compilation error:\nEmpty SQL statement."));
        }
        let wanted = self.parameter(body, "MULTI_STATEMENT_COUNT").and_then(|text| text.parse().ok());
        let wanted: usize = wanted.unwrap_or(1);
        if wanted != 0 && texts.len() != wanted {
            return Err(Refusal::new(
                "000008",
                "0A000",
                format!(
                    "Actual statement count {} did not match the desired statement count {wanted}.",
                    texts.len()
                ),
            ));
        }
        let bindings = self.bindings(body)?;
        let format = self.format(body);
        if let [text] = texts.as_slice() {
            if body.describe_only == Some(true) {
                return self.describe(text, &bindings).await;
            }
            return self.statement(text, &bindings, 0, format).await;
        }
        if body.describe_only == Some(true) {
            return Err(Refusal::new("002099", "0A000", "Several statements cannot be described at once."));
        }
        self.several(&texts, &bindings, format).await
    }

    /// `SYSTEM$CANCEL_QUERY`.
    pub(crate) fn cancel(&self, id: &str) -> Result<Vec<u8>, Refusal> {
        let message = super::cancel(self.server, self.session, id)?;
        self.reply(sentence(&message, SELECT), Format::Json, &Value::Null)
    }

    /// One statement after the other, each with a result of its own, by whose id the client fetches it.
    async fn several(
        &mut self,
        texts: &[&str],
        bindings: &Bindings,
        format: Format,
    ) -> Result<Vec<u8>, Refusal> {
        let (mut ids, mut types, mut first) = (Vec::new(), Vec::new(), 0);
        for text in texts {
            let id = uuid::Uuid::new_v4().to_string();
            let mut child =
                Run { server: self.server, session: self.session, sql: &mut *self.sql, query_id: &id };
            let reply = child.statement(text, bindings, first, format).await?;
            super::remember(self.session, &id, text, reply);
            first += prepare::count_binds(text);
            ids.push(id);
            types.push(type_id(text).to_string());
        }
        let message = "Multiple statements executed successfully.";
        let mut table = sentence(message, SEVERAL);
        table.columns = vec![text_column("multiple statement execution")];
        let more = json!({ "resultIds": ids.join(","), "resultTypes": types.join(",") });
        self.reply(table, Format::Json, &more)
    }

    /// Executes one statement, whose `?` are bound from the position `first` on.
    async fn statement(
        &mut self,
        text: &str,
        bindings: &Bindings,
        first: usize,
        format: Format,
    ) -> Result<Vec<u8>, Refusal> {
        let kind = statement::kind(&tokens(text));
        let prepared = prepare(text, bindings, first, kind != Kinds::Sql)?;
        let type_id = type_id(&prepared.text);
        let nothing = Value::Null;
        if kind != Kinds::Sql {
            return match statement::run(kind, self, &prepared.text).await? {
                Answer::Transfer(mut data) => {
                    self.add_context(&mut data, type_id);
                    Ok(reply::success(&data).to_string().into_bytes())
                }
                Answer::Table(columns, rows) => {
                    let rows = Rows::from_vec(rows);
                    let table = Table { columns, rows, type_id, stats: None, total: None };
                    self.reply(table, Format::Json, &nothing)
                }
            };
        }
        if let Some(id) = result_scan(&prepared.text) {
            return Ok(super::earlier_reply(self.server, self.session, &id)?.to_vec());
        }
        match self.server.counting.answer(&prepared.text) {
            Some(Answered::Rows(ResultSet { columns, rows })) => {
                let table = Table { columns, rows, type_id, stats: None, total: None };
                return self.reply(table, Format::Json, &nothing);
            }
            Some(Answered::Inserted(rows)) => {
                return self.reply(counted(Verb::InsertOverwrite, rows, type_id), Format::Json, &nothing);
            }
            None => {}
        }
        self.check_use(&prepared.text)?;
        let before = self.sql.transaction_id();
        let answer = self.execute(&prepared).await;
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
        // Only queries answer in Arrow; SHOW, counts and sentences are always JSON.
        let format = if type_id == SELECT { format } else { Format::Json };
        self.reply(table, format, &nothing)
    }

    /// Runs the statement; once for each row where arrays were bound, all or nothing.
    async fn execute(&mut self, prepared: &Prepared) -> Result<Outcome, SqlError> {
        let [set] = prepared.sets.as_slice() else {
            let own = !self.sql.in_transaction();
            if own {
                self.once("BEGIN", &[]).await?;
            }
            let mut sum = (Verb::Insert, 0);
            for set in &prepared.sets {
                match self.once(&prepared.text, set).await {
                    Ok(Outcome::Count { verb, rows }) => sum = (verb, sum.1 + rows),
                    Ok(_) => {}
                    Err(error) => {
                        if own {
                            self.sql.rollback();
                        }
                        return Err(error);
                    }
                }
            }
            if own {
                self.once("COMMIT", &[]).await?;
            }
            return Ok(Outcome::Count { verb: sum.0, rows: sum.1 });
        };
        self.once(&prepared.text, set).await
    }

    async fn once(&mut self, text: &str, set: &[Parameter]) -> Result<Outcome, SqlError> {
        self.sql.execute_with(text, set).await.pop().unwrap_or_else(|| {
            Ok(Outcome::Done { verb: Verb::Other, message: "Statement executed successfully.".to_owned() })
        })
    }

    /// The columns that a statement would answer with, and how many bindings it takes.
    async fn describe(&mut self, text: &str, bindings: &Bindings) -> Result<Vec<u8>, Refusal> {
        if statement::kind(&tokens(text)) != Kinds::Sql {
            return Err(Refusal::new("002099", "0A000", "This statement cannot be described."));
        }
        let unknown = prepare::unknown_bindings(text);
        let prepared = prepare(text, if bindings.is_empty() { &unknown } else { bindings }, 0, false)?;
        let type_id = type_id(&prepared.text);
        let columns = if let Some(verb) = first_verb(type_id) {
            counted(verb, 0, type_id).columns
        } else {
            let set = prepared.sets.first().map_or(&[][..], Vec::as_slice);
            self.sql.describe_with(&prepared.text, set).await?
        };
        let table = Table { columns, rows: Rows::from_vec(Vec::new()), type_id, stats: None, total: None };
        let bind = json!({
            "name": "?", "type": "text", "nullable": true, "precision": null, "scale": null, "length": null,
            "byteLength": null,
        });
        let more = json!({
            "numberOfBinds": prepared.binds, "arrayBindSupported": first_verb(type_id).is_some(),
            "metaDataOfBinds": vec![bind; prepared.binds],
        });
        self.reply(table, Format::Json, &more)
    }

    fn parameter(&self, body: &Body, name: &str) -> Option<String> {
        parameters::of_statement(name, body.parameters(), self.sql)
    }

    /// The result format that the client's own parameter chooses.
    fn format(&self, body: &Body) -> Format {
        let chosen = self.session.client.format_parameter().and_then(|name| self.parameter(body, name));
        match chosen {
            Some(value) if value.to_uppercase().starts_with("ARROW") && !body.only_json => Format::Arrow,
            _ => Format::Json,
        }
    }

    /// What is bound: in the request itself, or in a file that the driver staged.
    fn bindings<'b>(&self, body: &'b Body) -> Result<Cow<'b, Bindings>, Refusal> {
        match (&body.bind_stage, &body.bindings) {
            (Some(location), _) => {
                let rows = crate::copy::bound_rows(self, location)?;
                Ok(Cow::Owned(prepare::array_bindings(rows)))
            }
            (None, Some(bindings)) => Ok(Cow::Borrowed(bindings)),
            (None, None) => Ok(Cow::Owned(Bindings::new())),
        }
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

    fn reply(&self, table: Table, format: Format, more: &Value) -> Result<Vec<u8>, Refusal> {
        let Laid { members: mut data, rowset } =
            lay_out(self.server, self.query_id, &table.columns, table.rows, format)?;
        if let Some(total) = table.total {
            data["total"] = json!(total);
        }
        if let Some(stats) = table.stats {
            data["stats"] = stats;
        }
        self.add_context(&mut data, table.type_id);
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more.clone()) {
            data.extend(more);
        }
        Ok(with_rowset(&data, rowset.as_deref()))
    }

    fn add_context(&self, data: &mut Value, type_id: u64) {
        let identity = self.sql.identity();
        let role = identity.role.as_ref().or(self.server.config.admin_roles.first());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let context = json!({
            "parameters": parameters::listed(self.sql, &self.session.asked), "queryId": self.query_id,
            "databaseProvider": null, "finalDatabaseName": identity.database,
            "finalSchemaName": identity.schema, "finalWarehouseName": identity.warehouse,
            "finalRoleName": role, "numberOfBinds": 0, "arrayBindSupported": false,
            "statementTypeId": type_id, "version": 1, "sendResultTime": now.as_millis() as u64,
            "queryContext": { "entries": [] },
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

/// The id in `SELECT SYSTEM$CANCEL_QUERY('…')` (or CALL), which only the service itself can carry out.
pub(super) fn cancel_query(text: &str) -> Option<String> {
    let all = tokens(text);
    let [verb, function, open, id, close] = all.as_slice() else { return None };
    let fits = (verb.is("SELECT") || verb.is("CALL"))
        && function.is("SYSTEM$CANCEL_QUERY")
        && open.is("(")
        && close.is(")");
    (fits && id.kind == Kind::Text).then(|| id.value())
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

/// `statementTypeId` of a query.
const SELECT: u64 = 0x1000;

/// What a statement of this type counts; `None`: it answers rows of its own.
fn first_verb(type_id: u64) -> Option<Verb> {
    Some(match type_id {
        0x3100 => Verb::Insert,
        0x3200 => Verb::Update,
        0x3300 => Verb::Delete,
        0x3400 => Verb::Merge,
        _ => return None,
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
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" | "GRANT" | "REVOKE" | "COMMENT" | "UNDROP" => 0x6000,
        _ => SELECT,
    }
}
