//! Running a batch's steps.

use std::{sync::atomic::Ordering, time::Duration};

use sqlparser::ast::{self, Expr as Ast, Statement};

use crate::{
    error::{Effect, SqlError},
    outcome::{Context, Outcome, ResultSet, Verb},
    script::{self, Line, Step},
    session::{Answers, Isolation, Session, flow::Flow},
    types::{DataType, Dialect},
    value::Value,
};

impl Session {
    pub(super) async fn run_step(
        &mut self,
        step: &Step,
        out: &mut Answers,
        lazy: bool,
    ) -> Result<Flow, SqlError> {
        match step {
            Step::Sql(statement) => {
                let result = self.statement(statement).await;
                if let Some(outcome) = self.end_statement(result)? {
                    if let Outcome::Count { rows, .. } = &outcome {
                        self.row_count.store(*rows as i64, Ordering::Relaxed);
                    }
                    out.push(Ok(self.counted(outcome)));
                }
            }
            Step::Recursion(rounds, step) => {
                self.recursion = *rounds;
                let flow = Box::pin(self.run_step(step, out, lazy)).await;
                self.recursion = super::RECURSION;
                return flow;
            }
            Step::Block(lines) => return Ok(self.run_lines(lines, out, lazy).await),
            Step::If { condition, then, otherwise } => {
                let holds = self.holds(condition)?;
                let branch = if holds { Some(then) } else { otherwise.as_ref() };
                if let Some(line) = branch {
                    return Ok(self.run_lines(std::slice::from_ref(line.as_ref()), out, lazy).await);
                }
            }
            Step::While { condition, body } => return self.run_while(condition, body, out).await,
            Step::Try { body, handler } => return Ok(self.run_try(body, handler, out).await),
            Step::Break => return Ok(Flow::Break),
            Step::Continue => return Ok(Flow::Continue),
            Step::Goto(label) => return Ok(Flow::Goto(label.clone())),
            Step::Label(_) => {}
            Step::Return(value) => {
                let status = match value {
                    Some(value) => whole(&self.assigned(value, &DataType::Int)?),
                    None => 0,
                };
                return Ok(Flow::Return(status as i32));
            }
            Step::WaitFor { until, when } => self.wait_for(*until, when).await?,
            Step::Declare(list) => {
                for (name, ty, value) in list {
                    let ty = crate::bind::types::resolve(
                        self.dialect(),
                        &ty.to_string(),
                        self.db.settings().collation,
                    )?;
                    let value = match value {
                        Some(value) => self.assigned(value, &ty)?,
                        None => Value::Null,
                    };
                    self.variables.insert(name.to_lowercase(), (ty, value));
                }
            }
            Step::DeclareTable(create) => self.declare_table(create).await?,
            Step::Cursor(name, step) => return self.run_cursor(name, step, out).await.map(|()| Flow::Next),
            Step::Assign(name, value) => self.assign(name, value)?,
            Step::SetOption(words) => self.set_option(words)?,
            Step::Begin(name) => out.push(Ok(self.begin(name.as_deref()))),
            Step::Commit => out.push(Ok(self.commit()?)),
            Step::Rollback(name) => out.push(Ok(self.roll_back(name.as_deref())?)),
            Step::Save(name) => {
                let Some(transaction) = &mut self.transaction else {
                    return Err(SqlError::mssql(
                        628,
                        "Cannot issue SAVE TRANSACTION when there is no active transaction.",
                    ));
                };
                transaction.savepoints.push((name.clone(), transaction.deltas.clone()));
            }
            Step::Use(what, idents) => out.push(Ok(self.use_context(*what, idents)?)),
            Step::Print(value) => {
                let (value, ty) = self.evaluate(value)?;
                let text = self.cast().apply(value, &ty, &wide(self.dialect()))?;
                let message =
                    if let Value::Text(text) = text { text.lossy().into_owned() } else { String::new() };
                out.push(Ok(Outcome::Info { number: 0, class: 0, state: 1, message }));
            }
            Step::RaiseError(list) => self.raise(list, out)?,
            Step::Throw(list) => return Err(self.throw(list)?),
            Step::Execute { into, name, arguments } => {
                return self.execute_procedure(into.as_deref(), name, arguments, out).await;
            }
            Step::InsertResults { table, columns, source } => {
                return Box::pin(self.insert_results(table, columns, source, out)).await;
            }
            Step::ExecuteText(list) => return self.execute_text(list, out).await,
            Step::CreateProcedure(text) => out.push(Ok(self.create_procedure(text)?)),
            Step::DropProcedure { names, if_exists } => {
                out.push(Ok(self.drop_procedures(names, *if_exists)?));
            }
            Step::AlterSession(pairs) => {
                self.alter_session(pairs)?;
                out.push(Ok(done(Verb::Alter, "Statement executed successfully.")));
            }
            Step::Words(tokens) => out.push(Ok(self.administer(tokens).await?)),
        }
        Ok(Flow::Next)
    }

    pub(super) fn holds(&self, condition: &Ast) -> Result<bool, SqlError> {
        Ok(matches!(self.evaluate(condition)?.0, Value::Bool(true)))
    }

    pub(super) fn assigned(&self, value: &Ast, ty: &DataType) -> Result<Value, SqlError> {
        let (value, from) = self.evaluate(value)?;
        self.cast().apply(value, &from, ty)
    }

    fn assign(&mut self, name: &str, value: &Ast) -> Result<(), SqlError> {
        let key = name.to_lowercase();
        let Some((ty, _)) = self.variables.get(&key) else {
            return Err(SqlError::mssql(137, format!("Must declare the scalar variable \"{name}\"."))
                .with_class(15)
                .ending(Effect::Batch));
        };
        let ty = ty.clone();
        let value = self.assigned(value, &ty)?;
        self.variables.insert(key, (ty, value));
        Ok(())
    }

    /// Runs one SQL statement; None: it answers nothing.
    async fn statement(&mut self, statement: &Statement) -> Result<Option<Outcome>, SqlError> {
        match statement {
            Statement::Query(query) => {
                if let Some(outcome) = self.select_into_variables(query).await? {
                    return Ok(outcome);
                }
                if let ast::SetExpr::Select(select) = query.body.as_ref()
                    && let Some(into) = &select.into
                {
                    let name = into.targets.first().map(ToString::to_string).unwrap_or_default();
                    return self.select_into(query, &name).await.map(Some);
                }
                // Only an explicit transaction outlives its statement.
                if self.transaction.is_none() && !self.is_snowflake() && self.options.implicit_transactions {
                    self.ensure_transaction();
                }
                self.select(query).await.map(|rows| Some(Outcome::Rows(rows)))
            }
            Statement::Insert(insert) => self.insert(insert).await.map(Some),
            Statement::Update(update) => self.update(update).await.map(Some),
            Statement::Delete(delete) => self.delete(delete).await.map(Some),
            Statement::Merge(merge) => self.merge(merge).await.map(Some),
            Statement::Truncate(truncate) => self.truncate(truncate).await.map(Some),
            Statement::Call(function) if self.is_snowflake() => {
                // A procedure of the system's is a function of the same name.
                let name = function.name.to_string().to_uppercase();
                let sql = format!("SELECT {function} AS \"{name}\"");
                match script::parse(self.dialect(), &sql)?.into_iter().next() {
                    Some(Line { step: Step::Sql(inner), .. }) if matches!(*inner, Statement::Query(_)) => {
                        let Statement::Query(query) = *inner else { return Ok(None) };
                        self.select(&query).await.map(|rows| Some(Outcome::Rows(rows)))
                    }
                    _ => Err(crate::bind::unsupported(self.dialect(), statement)),
                }
            }
            Statement::Explain { .. } | Statement::ExplainTable { .. } => {
                Err(crate::bind::unsupported(self.dialect(), statement))
            }
            other => self.define(other).await.map(Some),
        }
    }

    /// `SELECT @a = …, @b = …`.
    async fn select_into_variables(
        &mut self,
        query: &ast::Query,
    ) -> Result<Option<Option<Outcome>>, SqlError> {
        let ast::SetExpr::Select(select) = query.body.as_ref() else { return Ok(None) };
        let mut names = Vec::new();
        let mut plain = select.as_ref().clone();
        for item in &mut plain.projection {
            let (name, value) = match item {
                // The parser reads `name = value` as an alias.
                ast::SelectItem::ExprWithAlias { expr, alias } => (alias.value.clone(), expr.clone()),
                ast::SelectItem::UnnamedExpr(Ast::BinaryOp { left, op: ast::BinaryOperator::Eq, right }) => {
                    match left.as_ref() {
                        Ast::Identifier(ident) => (ident.value.clone(), right.as_ref().clone()),
                        _ => return Ok(None),
                    }
                }
                _ => return Ok(None),
            };
            if !name.starts_with('@') {
                return Ok(None);
            }
            names.push(name.to_lowercase());
            *item = ast::SelectItem::UnnamedExpr(value);
        }
        let mut query = query.clone();
        *query.body = ast::SetExpr::Select(Box::new(plain));
        let ResultSet { columns, rows } = self.select(&query).await?;
        // Every row assigns; the last one stays.
        for row in rows {
            let row = row?;
            for ((name, column), value) in names.iter().zip(&columns).zip(row.iter()) {
                let Some((ty, _)) = self.variables.get(name) else {
                    return Err(SqlError::mssql(
                        137,
                        format!("Must declare the scalar variable \"{name}\"."),
                    )
                    .with_class(15));
                };
                let ty = ty.clone();
                let value = self.cast().apply(value.clone(), &column.ty, &ty)?;
                self.variables.insert(name.clone(), (ty, value));
            }
        }
        Ok(Some(None))
    }

    fn begin(&mut self, name: Option<&str>) -> Outcome {
        if self.is_snowflake() {
            // BEGIN inside an open transaction is silently ignored.
            if !self.in_transaction() {
                self.open_transaction(false);
                self.nesting = 1;
            }
            return done(Verb::Begin, "Statement executed successfully.");
        }
        self.nesting += 1;
        if self.transaction.is_none() {
            self.open_transaction(false);
            if let Some(transaction) = &mut self.transaction {
                transaction.name = name.map(str::to_owned);
            }
        }
        done(Verb::Begin, "")
    }

    fn commit(&mut self) -> Result<Outcome, SqlError> {
        if self.is_snowflake() {
            self.commit_now()?;
            return Ok(done(Verb::Commit, "Statement executed successfully."));
        }
        if self.transaction.as_ref().is_some_and(|transaction| transaction.doomed) {
            return Err(super::changes::doomed());
        }
        match self.nesting {
            0 => Err(SqlError::mssql(
                3902,
                "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.",
            )),
            1 => {
                self.commit_now()?;
                Ok(done(Verb::Commit, ""))
            }
            _ => {
                self.nesting -= 1;
                Ok(done(Verb::Commit, ""))
            }
        }
    }

    fn roll_back(&mut self, name: Option<&str>) -> Result<Outcome, SqlError> {
        if let (Some(name), Some(transaction)) = (name, &mut self.transaction)
            && let Some(at) =
                transaction.savepoints.iter().rposition(|(saved, _)| saved.eq_ignore_ascii_case(name))
        {
            transaction.deltas = transaction.savepoints[at].1.clone();
            transaction.savepoints.truncate(at + 1);
            return Ok(done(Verb::Rollback, ""));
        }
        if self.is_snowflake() {
            self.rollback();
            return Ok(done(Verb::Rollback, "Statement executed successfully."));
        }
        if self.nesting == 0 {
            return Err(SqlError::mssql(
                3903,
                "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
            ));
        }
        if let (Some(name), Some(transaction)) = (name, &self.transaction)
            && !transaction.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name))
        {
            return Err(SqlError::mssql(
                6401,
                format!("Cannot roll back {name}. No transaction or savepoint of that name was found."),
            ));
        }
        self.rollback();
        Ok(done(Verb::Rollback, ""))
    }

    fn use_context(&mut self, what: Context, idents: &[ast::Ident]) -> Result<Outcome, SqlError> {
        let names: Vec<String> =
            idents.iter().map(|ident| crate::bind::canonical(self.dialect(), ident)).collect();
        let state = self.db.state();
        let Some(last) = names.last().cloned() else { return Ok(done(Verb::Other, "")) };
        let missing = |kind: &str, name: &str| {
            SqlError::snowflake(
                2_043,
                "02000",
                format!(
                    "SQL compilation error:\nObject does not exist, or operation cannot be performed. ({kind} '{name}')"
                ),
            )
        };
        let old = match what {
            Context::Database => {
                let key = crate::state::fold(self.dialect(), names.first().unwrap_or(&last));
                let Some(info) = state.databases.get(&key) else {
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            911,
                            format!(
                                "Database '{last}' does not exist. Make sure that the name is entered correctly."
                            ),
                        ),
                        Dialect::Snowflake => missing("database", &last),
                    });
                };
                let default = if self.is_snowflake() { "PUBLIC" } else { "dbo" };
                self.identity.schema = Some(names.get(1).cloned().unwrap_or_else(|| default.to_owned()));
                self.identity.database.replace(info.name.clone())
            }
            Context::Schema => {
                let database = if names.len() > 1 {
                    names[0].clone()
                } else {
                    self.identity.database.clone().unwrap_or_default()
                };
                let catalog = self.is_snowflake() && last == "INFORMATION_SCHEMA";
                if !catalog && !state.schemas.contains_key(&(database.clone(), last.clone())) {
                    return Err(missing("schema", &last));
                }
                self.identity.database = Some(database);
                self.identity.schema.replace(last.clone())
            }
            Context::Role => {
                if let Some(current) = &self.identity.role
                    && !state.grants.effective(current).contains(&last)
                    && !state.grants.administrators.contains(current)
                    && !state.grants.members.contains(&(last.clone(), self.identity.user.clone()))
                {
                    return Err(SqlError::snowflake(
                        3_013,
                        "42501",
                        format!(
                            "SQL access control error:\nRequested role '{last}' is not assigned to the executing user. Specify another role to activate."
                        ),
                    ));
                }
                self.identity.role.replace(last.clone())
            }
            Context::Warehouse => self.identity.warehouse.replace(last.clone()),
        };
        Ok(Outcome::Changed { what, old: old.unwrap_or_default(), new: last })
    }

    fn set_option(&mut self, words: &[String]) -> Result<(), SqlError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let on = words.last() == Some(&"ON");
        match words.as_slice() {
            ["TRANSACTION", "ISOLATION", "LEVEL", rest @ ..] => {
                self.options.isolation = match rest {
                    ["SNAPSHOT"] => {
                        if self.transaction.as_ref().is_some_and(|transaction| {
                            transaction.pinned.is_none()
                                && !transaction.implicit
                                && !transaction.deltas.is_empty()
                        }) {
                            return Err(SqlError::mssql(3951, "Transaction failed in database because the statement was run under snapshot isolation but the transaction did not start in snapshot isolation.").ending(Effect::Transaction));
                        }
                        Isolation::Snapshot
                    }
                    ["READ", "COMMITTED" | "UNCOMMITTED"] => Isolation::ReadCommitted,
                    ["REPEATABLE", "READ"] | ["SERIALIZABLE"] => Isolation::Serializable,
                    other => {
                        return Err(SqlError::mssql(
                            102,
                            format!("Incorrect syntax near '{}'.", other.join(" ")),
                        )
                        .with_class(15));
                    }
                };
            }
            ["LOCK_TIMEOUT", rest @ ..] => {
                let text = rest.concat();
                let value: i64 = text.parse().map_err(|_| {
                    SqlError::mssql(102, format!("Incorrect syntax near '{text}'.")).with_class(15)
                })?;
                self.options.lock_timeout = u64::try_from(value).ok().map(Duration::from_millis);
            }
            ["ROWCOUNT", value] => self.options.row_limit = value.parse().unwrap_or(0),
            ["NOCOUNT", _] => self.options.no_count = on,
            ["FMTONLY", _] => self.options.metadata_only = on,
            ["XACT_ABORT", _] => self.options.abort_on_error = on,
            ["IMPLICIT_TRANSACTIONS", _] => self.options.implicit_transactions = on,
            ["IDENTITY_INSERT", name @ .., _] => {
                let parts = crate::functions::system::split_name(&name.concat());
                let table = self.table(&self.db.state(), &parts)?;
                self.options.identity_insert = on.then_some(table.id);
            }
            [
                "ANSI_NULLS"
                | "ANSI_PADDING"
                | "ANSI_WARNINGS"
                | "ANSI_NULL_DFLT_ON"
                | "ANSI_NULL_DFLT_OFF"
                | "ANSI_DEFAULTS"
                | "ARITHABORT"
                | "ARITHIGNORE"
                | "CONCAT_NULL_YIELDS_NULL"
                | "CURSOR_CLOSE_ON_COMMIT"
                | "DATEFIRST"
                | "DATEFORMAT"
                | "DEADLOCK_PRIORITY"
                | "LANGUAGE"
                | "NOEXEC"
                | "NUMERIC_ROUNDABORT"
                | "PARSEONLY"
                | "QUOTED_IDENTIFIER"
                | "TEXTSIZE"
                | "STATISTICS"
                | "SHOWPLAN_ALL"
                | "SHOWPLAN_TEXT"
                | "CONTEXT_INFO"
                | "REMOTE_PROC_TRANSACTIONS"
                | "FORCEPLAN"
                | "QUERY_GOVERNOR_COST_LIMIT",
                ..,
            ] => {}
            other => {
                return Err(SqlError::mssql(
                    195,
                    format!("'{}' is not a recognized SET option.", other.join(" ")),
                )
                .with_class(15));
            }
        }
        Ok(())
    }

    fn alter_session(&mut self, pairs: &[(String, String)]) -> Result<(), SqlError> {
        for (name, value) in pairs {
            let flag = value.eq_ignore_ascii_case("true");
            match name.as_str() {
                "AUTOCOMMIT" => {
                    if flag && self.in_transaction() {
                        self.commit_now()?;
                    }
                    self.options.autocommit = flag || value.is_empty();
                }
                "LOCK_TIMEOUT" => {
                    let seconds = if value.is_empty() { Ok(43_200) } else { value.parse::<u64>() };
                    let seconds = seconds.map_err(|_| {
                        SqlError::snowflake(
                            1_008,
                            "22023",
                            format!(
                                "SQL compilation error:\ninvalid value [{value}] for parameter 'LOCK_TIMEOUT'"
                            ),
                        )
                    })?;
                    self.options.lock_timeout = Some(Duration::from_secs(seconds));
                }
                _ => {}
            }
            self.options.parameters.insert(name.clone(), value.clone());
        }
        Ok(())
    }
}

pub(super) fn done(verb: Verb, message: impl Into<String>) -> Outcome {
    Outcome::Done { verb, message: message.into() }
}

pub(super) fn wide(dialect: Dialect) -> DataType {
    match dialect {
        Dialect::SqlServer => DataType::NVarChar {
            length: crate::types::Length::Max,
            collation: crate::collation::Collation::default(),
        },
        Dialect::Snowflake => DataType::String { length: DataType::SNOWFLAKE_TEXT },
    }
}

pub(super) fn whole(value: &Value) -> i64 {
    crate::bind::operators::exact(value).trunc() as i64
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.lossy().into_owned(),
        Value::Int(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        _ => String::new(),
    }
}
