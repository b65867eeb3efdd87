//! The system procedures by which clients run parameterised and prepared statements.

use std::collections::BTreeMap;

use keyferry_sql::{Parameter, SqlError, Value};

use crate::parameters::Argument;
use crate::rpc::{Call, Procedure};

/// Statements one connection may hold prepared.
const MAX_PREPARED: usize = 10_000;

/// What a call comes down to.
#[derive(Debug)]
pub(crate) enum Action {
    /// Run this statement; a new handle goes back to the client if there is one.
    Run { sql: String, parameters: Vec<Parameter>, handle: Option<i32> },
    /// Only the handle goes back.
    Handle(i32),
    /// Nothing but success.
    Nothing,
}

#[derive(Debug, Clone)]
struct Statement {
    sql: String,
    names: Vec<String>,
}

/// A connection's prepared statements.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    statements: BTreeMap<i32, Statement>,
    last: i32,
}

impl Prepared {
    /// What a call means. Errors are SQL Server's: 2812, 8179, 214.
    pub(crate) fn resolve(&mut self, call: Call) -> Result<Action, SqlError> {
        let mut arguments = call.arguments.into_iter();
        match call.procedure {
            Procedure::ExecuteSql => {
                let sql = text(arguments.next(), "statement")?;
                let names = match arguments.next() {
                    Some(declared) => names(&text(Some(declared), "params")?),
                    None => Vec::new(),
                };
                Ok(Action::Run { sql, parameters: bind(&names, arguments), handle: None })
            }
            Procedure::Prepare => {
                let _handle = arguments.next();
                let statement = read_statement(&mut arguments)?;
                Ok(Action::Handle(self.keep(statement)?))
            }
            Procedure::PrepareAndExecute => {
                let _handle = arguments.next();
                let statement = read_statement(&mut arguments)?;
                let (sql, names) = (statement.sql.clone(), statement.names.clone());
                let handle = Some(self.keep(statement)?);
                Ok(Action::Run { sql, parameters: bind(&names, arguments), handle })
            }
            Procedure::Execute => {
                let handle = number(arguments.next())?;
                let statement = self.statements.get(&handle).ok_or_else(|| unknown(handle))?;
                let parameters = bind(&statement.names, arguments);
                Ok(Action::Run { sql: statement.sql.clone(), parameters, handle: None })
            }
            Procedure::Unprepare => {
                let handle = number(arguments.next())?;
                self.statements.remove(&handle).map(|_| Action::Nothing).ok_or_else(|| unknown(handle))
            }
            // Any other is executed as a batch would; one that there is not is told by the evaluator.
            Procedure::Other(name) => Ok(execute(&name, arguments)),
        }
    }

    /// Forgets everything, as a reset of the connection does.
    pub(crate) fn clear(&mut self) {
        self.statements.clear();
    }

    fn keep(&mut self, statement: Statement) -> Result<i32, SqlError> {
        if self.statements.len() == MAX_PREPARED {
            return Err(SqlError::mssql(701, "There are too many prepared statements; unprepare some."));
        }
        self.last += 1;
        self.statements.insert(self.last, statement);
        Ok(self.last)
    }
}

/// `EXEC name …` with an argument for each parameter, named as the client named it.
fn execute(name: &str, arguments: impl Iterator<Item = Argument>) -> Action {
    let mut parameters = Vec::new();
    let mut list = Vec::new();
    for (at, Argument { name, ty, value }) in arguments.enumerate() {
        let own = format!("@__{at}");
        list.push(if name.is_empty() { own.clone() } else { format!("{name} = {own}") });
        parameters.push(Parameter { name: own, ty, value });
    }
    Action::Run { sql: format!("EXEC {name} {}", list.join(", ")), parameters, handle: None }
}

/// The declaration of `sp_prepare` and `sp_prepexec` and the statement, in this order.
fn read_statement(arguments: &mut impl Iterator<Item = Argument>) -> Result<Statement, SqlError> {
    let names = match arguments.next() {
        Some(Argument { value: Value::Null, .. }) | None => Vec::new(),
        declared => names(&text(declared, "params")?),
    };
    Ok(Statement { names, sql: text(arguments.next(), "stmt")? })
}

fn text(argument: Option<Argument>, what: &str) -> Result<String, SqlError> {
    match argument.map(|argument| argument.value) {
        Some(Value::Text(text)) => Ok(text.lossy().into_owned()),
        _ => Err(SqlError::mssql(
            214,
            format!("Procedure expects parameter '@{what}' of type 'ntext/nchar/nvarchar'."),
        )),
    }
}

fn number(argument: Option<Argument>) -> Result<i32, SqlError> {
    match argument.map(|argument| argument.value) {
        Some(Value::Int(handle)) => i32::try_from(handle).map_err(|_| unknown(-1)),
        _ => Err(SqlError::mssql(214, "Procedure expects parameter '@handle' of type 'int'.")),
    }
}

fn unknown(handle: i32) -> SqlError {
    SqlError::mssql(8179, format!("Could not find prepared statement with handle {handle}.")).with_state(4)
}

/// Names for the arguments: their own, or those of the declaration in its order.
fn bind(names: &[String], arguments: impl Iterator<Item = Argument>) -> Vec<Parameter> {
    let mut declared = names.iter();
    arguments
        .map(|Argument { name, ty, value }| {
            let next = declared.next();
            let name = if name.is_empty() { next.cloned().unwrap_or_default() } else { name };
            Parameter { name, ty, value }
        })
        .collect()
}

/// The names in a declaration like `@a int, @b decimal(10, 2)`.
fn names(declaration: &str) -> Vec<String> {
    let mut depth = 0_u32;
    declaration
        .split(|character| {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            character == ',' && depth == 0
        })
        .filter_map(|part| part.split_whitespace().next())
        .filter(|name| name.starts_with('@'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use keyferry_sql::DataType;

    use super::*;

    fn argument(value: Value) -> Argument {
        Argument { name: String::new(), ty: DataType::Int, value }
    }

    #[test]
    fn declared_names_are_found_beside_commas_in_types() {
        assert_eq!(names("@a int, @b decimal(10, 2),@c nvarchar(max)"), ["@a", "@b", "@c"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn a_prepared_statement_runs_until_it_is_unprepared() {
        let mut prepared = Prepared::default();
        let text = |text: &str| argument(Value::text(text));
        let call = |procedure, arguments| Call { procedure, arguments };
        let arguments = vec![argument(Value::Null), text("@a int"), text("select @a")];
        let Ok(Action::Handle(handle)) = prepared.resolve(call(Procedure::Prepare, arguments)) else {
            panic!("no handle")
        };
        let handle = || argument(Value::Int(i64::from(handle)));
        let run =
            prepared.resolve(call(Procedure::Execute, vec![handle(), argument(Value::Int(5))])).unwrap();
        let Action::Run { sql, parameters, .. } = run else { panic!("not run") };
        assert_eq!((sql.as_str(), parameters[0].name.as_str()), ("select @a", "@a"));
        prepared.resolve(call(Procedure::Unprepare, vec![handle()])).unwrap();
        let error = prepared.resolve(call(Procedure::Execute, vec![handle()])).unwrap_err();
        assert_eq!(error.number, 8179);
    }

    #[test]
    fn any_other_procedure_is_executed_with_its_arguments() {
        let named = Argument { name: "@table_name".into(), ..argument(Value::text("t%")) };
        let arguments = vec![argument(Value::Int(1)), named];
        let call = Call { procedure: Procedure::Other("sys.sp_tables".into()), arguments };
        let Ok(Action::Run { sql, parameters, .. }) = Prepared::default().resolve(call) else {
            panic!("not run")
        };
        assert_eq!(sql, "EXEC sys.sp_tables @__0, @table_name = @__1");
        assert_eq!(parameters[1].value, Value::text("t%"));
    }
}
