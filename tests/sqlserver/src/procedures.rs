//! The system procedures by which clients run parameterised and prepared statements.

use std::collections::BTreeMap;

use keyferry_sql::{CallArgument, Parameter, SqlError, Value};

use crate::parameters::Argument;
use crate::rpc::{Call, Procedure};

/// Statements one connection may hold prepared.
const MAX_PREPARED: usize = 10_000;

/// What a call comes down to.
#[derive(Debug)]
pub(crate) enum Action {
    /// Run this statement; a new handle goes back to the client if there is one.
    Run {
        sql: String,
        /// The declaration of its parameters.
        declared: String,
        parameters: Vec<Parameter>,
        handle: Option<(String, i32)>,
        /// The parameters of which the client wants to know the value: place in the call, name.
        outputs: Vec<(u16, String)>,
    },
    /// Call a procedure of the database.
    Call { name: String, arguments: Vec<CallArgument> },
    /// Only the handle goes back, under its parameter's name.
    Handle(String, i32),
    /// Nothing but success.
    Nothing,
    /// A call that cannot even begin.
    Refused(SqlError),
}

#[derive(Debug, Clone)]
struct Statement {
    sql: String,
    declared: String,
}

/// A connection's prepared statements.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    statements: BTreeMap<i32, Statement>,
    last: i32,
}

impl Prepared {
    /// What a call means. Errors are SQL Server's: 8179, 214.
    pub(crate) fn resolve(&mut self, call: Call) -> Result<Action, SqlError> {
        let mut arguments = call.arguments.into_iter();
        match call.procedure {
            Procedure::ExecuteSql => {
                let sql = text(arguments.next(), "statement")?;
                let declared = match arguments.next() {
                    Some(declared) => optional(declared, "params")?,
                    None => String::new(),
                };
                Ok(run(Statement { sql, declared }, 2, arguments, None))
            }
            Procedure::Prepare => {
                let name = arguments.next().map(|one| one.name).unwrap_or_default();
                let statement = read_statement(&mut arguments)?;
                Ok(Action::Handle(name, self.keep(statement)?))
            }
            Procedure::PrepareAndExecute => {
                let name = arguments.next().map(|one| one.name).unwrap_or_default();
                let statement = read_statement(&mut arguments)?;
                let handle = Some((name, self.keep(statement.clone())?));
                Ok(run(statement, 3, arguments, handle))
            }
            Procedure::Execute => {
                let handle = number(arguments.next())?;
                let statement = self.statements.get(&handle).ok_or_else(|| unknown(handle))?;
                Ok(run(statement.clone(), 1, arguments, None))
            }
            Procedure::Unprepare => {
                let handle = number(arguments.next())?;
                self.statements.remove(&handle).map(|_| Action::Nothing).ok_or_else(|| unknown(handle))
            }
            Procedure::Other(name) => {
                let arguments = arguments
                    .map(|argument| CallArgument {
                        name: argument.name,
                        value: (!argument.default).then_some((argument.ty, argument.value)),
                        output: argument.output,
                    })
                    .collect();
                Ok(Action::Call { name, arguments })
            }
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

/// The declaration of `sp_prepare` and `sp_prepexec` and the statement, in this order.
fn read_statement(arguments: &mut impl Iterator<Item = Argument>) -> Result<Statement, SqlError> {
    let declared = match arguments.next() {
        Some(declared) => optional(declared, "params")?,
        None => String::new(),
    };
    Ok(Statement { declared, sql: text(arguments.next(), "stmt")? })
}

/// A text that may be NULL or of type NULL.
fn optional(argument: Argument, what: &str) -> Result<String, SqlError> {
    if argument.value == Value::Null { Ok(String::new()) } else { text(Some(argument), what) }
}

/// Runs a statement with the arguments that follow; `before` of them were the call's own.
fn run(
    statement: Statement,
    before: u16,
    arguments: impl Iterator<Item = Argument>,
    handle: Option<(String, i32)>,
) -> Action {
    let arguments: Vec<Argument> = arguments.collect();
    let wanted: Vec<usize> =
        arguments.iter().enumerate().filter(|(_, one)| one.output).map(|(at, _)| at).collect();
    let parameters = bind(&names(&statement.declared), arguments.into_iter());
    let outputs = wanted.into_iter().map(|at| (before + at as u16, parameters[at].name.clone())).collect();
    Action::Run { sql: statement.sql, declared: statement.declared, parameters, handle, outputs }
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
        .map(|Argument { name, ty, value, .. }| {
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
        Argument { name: String::new(), ty: DataType::Int, value, output: false, default: false }
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
        let Ok(Action::Handle(_, handle)) = prepared.resolve(call(Procedure::Prepare, arguments)) else {
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
    fn a_procedure_of_the_database_is_called_with_its_arguments_and_what_is_wanted_of_them() {
        let arguments = vec![
            argument(Value::Int(1)),
            Argument { output: true, ..argument(Value::Null) },
            Argument { default: true, ..argument(Value::Null) },
        ];
        let call = Call { procedure: Procedure::Other("dbo.p".into()), arguments };
        let Ok(Action::Call { name, arguments }) = Prepared::default().resolve(call) else {
            panic!("not called")
        };
        let told: Vec<_> = arguments.iter().map(|one| (one.value.is_some(), one.output)).collect();
        assert_eq!((name.as_str(), told), ("dbo.p", vec![(true, false), (true, true), (false, false)]));
    }

    #[test]
    fn output_parameters_keep_their_place_in_the_call() {
        let text = |text: &str| argument(Value::text(text));
        let arguments = vec![
            text("set @b = @a"),
            text("@a int, @b int output"),
            argument(Value::Int(1)),
            Argument { output: true, ..argument(Value::Null) },
        ];
        let call = Call { procedure: Procedure::ExecuteSql, arguments };
        let Ok(Action::Run { outputs, .. }) = Prepared::default().resolve(call) else { panic!("not run") };
        assert_eq!(outputs, [(3, "@b".to_owned())]);
    }
}
