//! Stored procedures and text that is run: scopes, parameters, return codes.

use std::{collections::HashMap, sync::Arc};

use sqlparser::ast::{self, Expr as Ast};

use crate::{
    bind::types::resolve,
    database::now,
    error::{Effect, SqlError},
    outcome::{Outcome, ResultSet, Rows, Verb},
    script::{self, GivenText, Line, ProcedureText, Step},
    session::{
        Answers, Parameter, Session,
        flow::Flow,
        steps::{done, shown},
        transaction::Undo,
    },
    state::{Object, ProcedureDef, ProcedureParameter, TableId},
    storage::TableVersion,
    types::DataType,
    value::Value,
};

/// Procedures may call each other this deep.
const MAX_LEVEL: u32 = 32;

/// An argument of a call.
#[derive(Debug, Clone)]
pub struct CallArgument {
    /// `@name`, or empty for one that is told by its place.
    pub name: String,
    /// Its type and value; None asks for the parameter's default.
    pub value: Option<(DataType, Value)>,
    /// Whether the caller wants to know what becomes of it.
    pub output: bool,
}

/// What a call answered.
#[derive(Debug)]
pub struct Called {
    /// The answers of the procedure's statements.
    pub outcomes: Vec<Result<Outcome, SqlError>>,
    /// RETURN's code.
    pub status: i32,
    /// The output parameters that the caller asked for: place among the arguments, parameter's name, type, value.
    pub outputs: Vec<(usize, String, DataType, Value)>,
}

/// Where the batch goes, the return code, the output parameters, and error 266 if there is to be one.
type CallEnded = (Flow, i32, Vec<(usize, String, DataType, Value)>, Option<SqlError>);

type Variables = HashMap<String, (DataType, Value)>;

/// How a scope ended: where the batch goes, RETURN's code, its variables, and the error of a transaction that it
/// left open or closed.
struct Ended {
    flow: Flow,
    status: i32,
    variables: Variables,
    mismatch: Option<SqlError>,
}

/// A table that ends with its scope, and the one of an outer scope that it hides.
pub(super) struct Local {
    level: u32,
    id: TableId,
    hidden: Option<(Object, Option<Arc<TableVersion>>)>,
}

impl Session {
    /// Calls a procedure of the database, as a client's remote procedure call does.
    pub async fn call(&mut self, name: &str, arguments: &[CallArgument]) -> Called {
        self.begin_batch();
        let mut out = Vec::new();
        let called = match script::parse_name(self.dialect(), name)
            .and_then(|name| crate::bind::parts(self.dialect(), &name))
        {
            Ok(parts) => self.dispatch(&parts, name, arguments, &mut out).await,
            Err(error) => Err(error),
        };
        let (status, outputs) = match called {
            Ok((_, status, outputs, mismatch)) => {
                out.extend(mismatch.map(Err));
                (status, outputs)
            }
            Err(error) => {
                out.push(Err(error));
                (-6, Vec::new())
            }
        };
        self.end_batch(&mut out);
        Called { outcomes: out, status, outputs }
    }

    /// The value of a variable or parameter of the batch that ran last.
    pub fn variable(&self, name: &str) -> Option<&(DataType, Value)> {
        self.variables.get(&name.to_lowercase())
    }

    fn procedure(&self, parts: &[String], shown: &str) -> Result<Arc<ProcedureDef>, SqlError> {
        let state = self.db.state();
        let missing = || {
            SqlError::mssql(2812, format!("Could not find stored procedure '{shown}'."))
                .with_state(62)
                .ending(Effect::Statement)
        };
        let name =
            crate::bind::complete(&self.db, &self.identity, self.id, &state, parts).map_err(|_| missing())?;
        state.procedures.get(&name.key(self.dialect())).cloned().ok_or_else(missing)
    }

    pub(super) fn create_procedure(&mut self, text: &ProcedureText) -> Result<Outcome, SqlError> {
        let dialect = self.dialect();
        let parts = crate::bind::parts(dialect, &text.name)?;
        let state = self.db.state();
        let name = crate::bind::complete(&self.db, &self.identity, self.id, &state, &parts)?;
        self.check_schema(&name)?;
        self.writable(&name.database)?;
        crate::access::may_create(&self.db, &self.identity, &state, &name, "CREATE PROCEDURE")?;
        let key = name.key(dialect);
        let existing = state.procedures.get(&key).cloned();
        let taken = state.objects.contains_key(&key) || (existing.is_some() && !text.alter);
        if taken {
            return Err(SqlError::mssql(
                2714,
                format!("There is already an object named '{}' in the database.", name.name),
            )
            .with_state(3));
        }
        if existing.is_none() && !text.create {
            return Err(SqlError::mssql(208, format!("Invalid object name '{}'.", text.name)).with_state(6));
        }
        let mut parameters = Vec::new();
        for parameter in &text.parameters {
            let ty = resolve(dialect, &parameter.ty.to_string(), self.db.settings().collation)?;
            let default = match &parameter.default {
                Some(default) => Some(self.assigned(default, &ty)?),
                None => None,
            };
            let name = parameter.name.clone();
            parameters.push(ProcedureParameter { name, ty, default, output: parameter.output });
        }
        script::check_variables(&text.body, parameters.iter().map(|one| one.name.to_lowercase()))?;
        let procedure = ProcedureDef {
            id: existing.as_ref().map_or_else(|| self.db.next_id(), |existing| existing.id),
            name,
            parameters,
            body: Arc::clone(&text.body),
            text: Arc::clone(&text.text),
            created: now(),
        };
        self.db.change(|state| state.procedures.insert(key.clone(), Arc::new(procedure)));
        if let Some(transaction) = &mut self.transaction {
            transaction.undo.push(Undo::Procedure(key, existing));
        }
        Ok(done(if text.create { Verb::Create } else { Verb::Alter }, ""))
    }

    pub(super) fn drop_procedures(
        &mut self,
        names: &[ast::ObjectName],
        if_exists: bool,
    ) -> Result<Outcome, SqlError> {
        for shown in names {
            let parts = crate::bind::parts(self.dialect(), shown)?;
            let state = self.db.state();
            let name = crate::bind::complete(&self.db, &self.identity, self.id, &state, &parts)?;
            let key = name.key(self.dialect());
            let gone = self.db.change(|state| state.procedures.remove(&key));
            match (gone, &mut self.transaction) {
                (Some(gone), Some(transaction)) => {
                    transaction.undo.push(Undo::Procedure(key, Some(gone)));
                }
                (Some(_), None) => {}
                (None, _) if if_exists => {}
                (None, _) => {
                    return Err(SqlError::mssql(
                        3701,
                        format!(
                            "Cannot drop the procedure '{shown}', because it does not exist or you do not have permission."
                        ),
                    )
                    .with_class(11)
                    .with_state(5));
                }
            }
        }
        Ok(done(Verb::Drop, ""))
    }

    /// EXECUTE of a procedure.
    pub(super) async fn execute_procedure(
        &mut self,
        into: Option<&str>,
        name: &ast::ObjectName,
        arguments: &[GivenText],
        out: &mut Answers,
    ) -> Result<Flow, SqlError> {
        let parts = crate::bind::parts(self.dialect(), name)?;
        let mut given = Vec::new();
        for argument in arguments {
            let value = match &argument.value {
                Some(ast) => {
                    let (value, ty) = self.evaluate(ast)?;
                    Some((ty, value))
                }
                None => None,
            };
            if argument.output && variable_of(argument).is_none() {
                return Err(SqlError::mssql(
                    179,
                    "Cannot use the OUTPUT option when passing a constant to a stored procedure.",
                )
                .with_class(15));
            }
            let name = argument.name.clone().unwrap_or_default();
            given.push(CallArgument { name, value, output: argument.output });
        }
        let (flow, status, outputs, mismatch) = self.dispatch(&parts, &name.to_string(), &given, out).await?;
        for (at, _, ty, value) in outputs {
            if let Some(variable) = arguments.get(at).and_then(variable_of) {
                self.put(&variable, value, &ty)?;
            }
        }
        if let Some(into) = into {
            self.put(into, Value::Int(i64::from(status)), &DataType::Int)?;
        }
        match mismatch {
            Some(error) if flow == Flow::Next => Err(self.settle(error)),
            _ => Ok(flow),
        }
    }

    /// Calls a system procedure or one of the database.
    async fn dispatch(
        &mut self,
        parts: &[String],
        shown: &str,
        given: &[CallArgument],
        out: &mut Answers,
    ) -> Result<CallEnded, SqlError> {
        let bare = parts.last().map(|name| name.to_lowercase()).unwrap_or_default();
        match bare.as_str() {
            "sp_executesql" => return self.execute_sql(given, out).await,
            "sp_reset_connection" | "sp_set_session_context" => return Ok((Flow::Next, 0, Vec::new(), None)),
            _ => {}
        }
        let named: Vec<(Option<String>, Value)> = given
            .iter()
            .map(|one| {
                let name = (!one.name.is_empty()).then(|| one.name.clone());
                (name, one.value.as_ref().map_or(Value::Null, |(_, value)| value.clone()))
            })
            .collect();
        let arguments = crate::catalog::procedures::Arguments(&named);
        let state = self.db.state();
        if let Some(sheet) = crate::catalog::procedures::call(&state, &self.identity, &bare, &arguments) {
            let rows = Rows::from_vec(sheet.rows);
            out.push(Ok(Outcome::Rows(ResultSet { columns: sheet.columns, rows })));
            return Ok((Flow::Next, 0, Vec::new(), None));
        }
        let procedure = self.procedure(parts, shown)?;
        self.call_procedure(&procedure, given, out).await
    }

    /// Puts a value into a declared variable.
    fn put(&mut self, name: &str, value: Value, from: &DataType) -> Result<(), SqlError> {
        let key = name.to_lowercase();
        if let Some((ty, _)) = self.variables.get(&key) {
            let ty = ty.clone();
            let value = self.cast().apply(value, from, &ty)?;
            self.variables.insert(key, (ty, value));
        }
        Ok(())
    }

    /// `INSERT INTO table (columns) EXECUTE …`: the rows of all its results.
    pub(super) async fn insert_results(
        &mut self,
        table: &ast::ObjectName,
        columns: &[String],
        source: &Step,
        out: &mut Answers,
    ) -> Result<Flow, SqlError> {
        let mut inner = Vec::new();
        let flow = self.run_step(source, &mut inner, false).await?;
        let mut rows = Vec::new();
        for outcome in inner {
            match outcome {
                Ok(Outcome::Rows(set)) => rows.extend(set.rows.collect_all()?),
                Ok(Outcome::Info { .. }) | Err(_) => out.push(outcome),
                Ok(_) => {}
            }
        }
        if flow != Flow::Next {
            return Ok(flow);
        }
        let parts = crate::bind::parts(self.dialect(), table)?;
        let target = self.table(&self.db.state(), &parts)?;
        let given = target.columns.iter().filter(|def| {
            def.identity.is_none() && def.computed.is_none() && def.column.ty != DataType::RowVersion
        });
        let all: Vec<String> = given.map(|def| def.column.name.clone()).collect();
        let columns = if columns.is_empty() { all.as_slice() } else { columns };
        let count = self.append_rows(&parts, columns, rows.into_iter().map(Ok)).await?;
        self.row_count.store(count as i64, std::sync::atomic::Ordering::Relaxed);
        let counted = self.counted(Outcome::Count { verb: Verb::Insert, rows: count });
        out.push(Ok(counted));
        Ok(Flow::Next)
    }

    /// `EXECUTE ('text' + …)`.
    pub(super) async fn execute_text(&mut self, list: &[Ast], out: &mut Answers) -> Result<Flow, SqlError> {
        let mut sql = String::new();
        for ast in list {
            sql.push_str(&shown(&self.evaluate(ast)?.0));
        }
        let lines = Arc::new(script::parse(self.dialect(), &sql)?);
        script::check_variables(&lines, std::iter::empty())?;
        let ended = self.in_scope(None, Variables::new(), &lines, out).await?;
        match ended.mismatch {
            Some(error) => Err(self.settle(error)),
            None => Ok(ended.flow),
        }
    }

    async fn execute_sql(
        &mut self,
        given: &[CallArgument],
        out: &mut Answers,
    ) -> Result<CallEnded, SqlError> {
        let text = |at: usize| match given.get(at).and_then(|one| one.value.as_ref()) {
            Some((_, Value::Text(text))) => Some(text.lossy().into_owned()),
            _ => None,
        };
        let Some(sql) = text(0) else {
            return Err(SqlError::mssql(
                214,
                "Procedure expects parameter '@statement' of type 'ntext/nchar/nvarchar'.",
            )
            .with_state(2));
        };
        let declared = self.declared(&text(1).unwrap_or_default())?;
        let mut variables = Variables::new();
        let mut wanted = Vec::new();
        for (at, parameter) in declared.iter().enumerate() {
            let named = given
                .iter()
                .enumerate()
                .skip(2)
                .find(|(_, one)| !one.name.is_empty() && one.name.eq_ignore_ascii_case(&parameter.name));
            let found = named
                .or_else(|| given.get(at + 2).filter(|one| one.name.is_empty()).map(|one| (at + 2, one)));
            let Some((place, argument)) = found else {
                return Err(not_supplied(&text(1).unwrap_or_default(), &sql, &parameter.name));
            };
            let value = match &argument.value {
                Some((from, value)) => self.cast().apply(value.clone(), from, &parameter.ty)?,
                None => Value::Null,
            };
            if argument.output && parameter.output {
                wanted.push((place, parameter.name.clone()));
            }
            variables.insert(parameter.name.to_lowercase(), (parameter.ty.clone(), value));
        }
        let lines = Arc::new(script::parse(self.dialect(), &sql)?);
        script::check_variables(&lines, variables.keys().cloned())?;
        let ended = self.in_scope(None, variables, &lines, out).await?;
        let outputs = outputs(&ended.variables, wanted);
        Ok((ended.flow, 0, outputs, ended.mismatch))
    }

    /// The parameters that `@a int, @b decimal(10, 2) OUTPUT` declares.
    fn declared(&self, text: &str) -> Result<Vec<ProcedureParameter>, SqlError> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        script::parse_parameters(self.dialect(), text)?
            .into_iter()
            .map(|one| {
                let ty = resolve(self.dialect(), &one.ty.to_string(), self.db.settings().collation)?;
                Ok(ProcedureParameter { name: one.name, ty, default: None, output: one.output })
            })
            .collect()
    }

    async fn call_procedure(
        &mut self,
        procedure: &Arc<ProcedureDef>,
        given: &[CallArgument],
        out: &mut Answers,
    ) -> Result<CallEnded, SqlError> {
        let name = &procedure.name.name;
        let refuse = |number: i32, state: u8, message: String| {
            let mut error = SqlError::mssql(number, message).with_state(state);
            error.procedure.clone_from(name);
            error
        };
        if given.len() > procedure.parameters.len() {
            return Err(refuse(
                8144,
                2,
                format!("Procedure or function {name} has too many arguments specified."),
            ));
        }
        let mut places: Vec<Option<usize>> = vec![None; procedure.parameters.len()];
        for (at, argument) in given.iter().enumerate() {
            let place = if argument.name.is_empty() {
                at
            } else {
                let found = procedure
                    .parameters
                    .iter()
                    .position(|parameter| parameter.name.eq_ignore_ascii_case(&argument.name));
                found.ok_or_else(|| {
                    let message = format!("{} is not a parameter for procedure {name}.", argument.name);
                    refuse(8145, 1, message)
                })?
            };
            if argument.output && !procedure.parameters[place].output {
                return Err(refuse(
                    8162,
                    2,
                    format!(
                        "The formal parameter \"{}\" was not declared as an OUTPUT parameter, but the actual parameter passed in requested output.",
                        procedure.parameters[place].name
                    ),
                ));
            }
            places[place] = Some(at);
        }
        let mut variables = Variables::new();
        let mut wanted = Vec::new();
        for (parameter, place) in procedure.parameters.iter().zip(places) {
            let argument = place.and_then(|at| given.get(at));
            let value = match argument.and_then(|one| one.value.as_ref()) {
                Some((from, value)) => {
                    self.cast().apply(value.clone(), from, &parameter.ty).map_err(|_| {
                        let message =
                            format!("Error converting data type {} to {}.", from.name(), parameter.ty.name());
                        refuse(8114, 5, message)
                    })?
                }
                None => parameter.default.clone().ok_or_else(|| {
                    let message = format!(
                        "Procedure or function '{name}' expects parameter '{}', which was not supplied.",
                        parameter.name
                    );
                    refuse(201, 4, message)
                })?,
            };
            if let (Some(place), Some(argument)) = (place, argument)
                && argument.output
            {
                wanted.push((place, parameter.name.clone()));
            }
            variables.insert(parameter.name.to_lowercase(), (parameter.ty.clone(), value));
        }
        out.push(Ok(Outcome::Entered));
        let ended = self.in_scope(Some(name.clone()), variables, &procedure.body, out).await;
        let status = ended.as_ref().map_or(-6, |ended| ended.status);
        out.push(Ok(Outcome::Left { status }));
        let ended = ended?;
        let outputs = outputs(&ended.variables, wanted);
        Ok((ended.flow, ended.status, outputs, ended.mismatch))
    }

    /// Runs statements with variables, options and local tables of their own.
    async fn in_scope(
        &mut self,
        procedure: Option<String>,
        variables: Variables,
        lines: &Arc<Vec<Line>>,
        out: &mut Answers,
    ) -> Result<Ended, SqlError> {
        if self.level >= MAX_LEVEL {
            return Err(SqlError::mssql(
                217,
                "Maximum stored procedure, function, trigger, or view nesting level exceeded (limit 32).",
            )
            .ending(Effect::Batch));
        }
        let before = self.nesting;
        let options = self.options.clone();
        let named = procedure.is_some();
        let outer = std::mem::replace(&mut self.variables, variables);
        let outer_name = if named { std::mem::replace(&mut self.procedure, procedure) } else { None };
        self.level += 1;
        let flow = self.run_lines(lines, out, false).await;
        self.drop_locals(self.level);
        self.level -= 1;
        if named {
            self.procedure = outer_name;
        }
        let variables = std::mem::replace(&mut self.variables, outer);
        self.options = options;
        let status = if let Flow::Return(status) = flow { status } else { 0 };
        let flow = match flow {
            Flow::Stop | Flow::Throw => flow,
            _ => Flow::Next,
        };
        let mismatch = (self.nesting != before && flow == Flow::Next).then(|| {
            SqlError::mssql(
                266,
                format!(
                    "Transaction count after EXECUTE indicates a mismatching number of BEGIN and COMMIT statements. Previous count = {before}, current count = {}.",
                    self.nesting
                ),
            )
            .with_state(2)
        });
        Ok(Ended { flow, status, variables, mismatch })
    }

    /// `DECLARE @t TABLE (…)`.
    pub(super) async fn declare_table(&mut self, create: &ast::CreateTable) -> Result<(), SqlError> {
        let parts = crate::bind::parts(self.dialect(), &create.name)?;
        let name = crate::bind::complete(&self.db, &self.identity, self.id, &self.db.state(), &parts)?;
        let key = name.key(self.dialect());
        let hidden = self.db.change(|state| {
            state.objects.remove(&key).map(|object| {
                let version = state.tables.remove(&object.id());
                (object, version)
            })
        });
        self.create_table(create).await?;
        if let Some(transaction) = &mut self.transaction {
            // A rollback does not undo the declaration.
            transaction.undo.pop();
        }
        if let Some(object) = self.db.state().objects.get(&key) {
            self.locals.push(Local { level: self.level, id: object.id(), hidden });
        }
        Ok(())
    }

    /// Remembers a temporary table that a procedure made: it ends with it.
    pub(super) fn keep_local(&mut self, id: TableId) {
        if self.level > 0 {
            self.locals.push(Local { level: self.level, id, hidden: None });
        }
    }

    /// Drops what was declared at this level or below, and shows again what it hid.
    pub(super) fn drop_locals(&mut self, level: u32) {
        while let Some(local) = self.locals.pop_if(|local| local.level >= level) {
            if let Some(transaction) = &mut self.transaction {
                transaction.deltas.remove(&local.id);
            }
            let dialect = self.dialect();
            self.db.change(|state| {
                state.objects.retain(|_, object| object.id() != local.id);
                state.tables.remove(&local.id);
                if let Some((object, version)) = local.hidden {
                    if let Some(version) = version {
                        state.tables.insert(object.id(), version);
                    }
                    state.objects.insert(object.name().key(dialect), object);
                }
            });
        }
    }

    /// Forgets what a batch that was cancelled left half-way.
    pub(super) fn begin_batch(&mut self) {
        self.drop_locals(0);
        self.variables.clear();
        self.positional.clear();
        self.tries.clear();
        self.caught.clear();
        self.raised = None;
        self.level = 0;
        self.procedure = None;
        self.drop_unfinished();
    }

    /// Brings a client's parameters to the types that the declaration gives them. One that is declared and not
    /// given is error 8178.
    pub fn bind_declared(
        &self,
        declared: &str,
        sql: &str,
        mut given: Vec<Parameter>,
    ) -> Result<Vec<Parameter>, SqlError> {
        self.declared(declared)?
            .into_iter()
            .map(|wanted| {
                let place = given.iter().position(|one| one.name.eq_ignore_ascii_case(&wanted.name));
                let Some(one) = place.map(|at| given.swap_remove(at)) else {
                    return Err(not_supplied(declared, sql, &wanted.name));
                };
                let value = self.cast().apply(one.value, &one.ty, &wanted.ty)?;
                Ok(Parameter { name: one.name, ty: wanted.ty, value })
            })
            .collect()
    }
}

fn not_supplied(declared: &str, sql: &str, name: &str) -> SqlError {
    SqlError::mssql(
        8178,
        format!(
            "The parameterized query '{}' expects the parameter '{name}', which was not supplied.",
            crate::error::quote(format!("({declared}){sql}")),
        ),
    )
}

fn variable_of(argument: &GivenText) -> Option<String> {
    match &argument.value {
        Some(Ast::Identifier(ident)) if ident.value.starts_with('@') => Some(ident.value.clone()),
        _ => None,
    }
}

fn outputs(variables: &Variables, wanted: Vec<(usize, String)>) -> Vec<(usize, String, DataType, Value)> {
    wanted
        .into_iter()
        .filter_map(|(place, name)| {
            let (ty, value) = variables.get(&name.to_lowercase())?;
            Some((place, name, ty.clone(), value.clone()))
        })
        .collect()
}
