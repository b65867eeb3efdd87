//! Transact-SQL's own statements: TRY, GOTO, cursors, procedures, table variables.

use std::sync::Arc;

use sqlparser::{
    ast::{self, Expr as Ast, helpers::stmt_create_table::CreateTableBuilder},
    tokenizer::Token,
};

use super::{Script, Step, syntax_error, word};
use crate::error::{Effect, SqlError};

/// What a statement does with a cursor.
#[derive(Debug)]
pub(crate) enum CursorStep {
    Declare {
        query: Box<ast::Query>,
        scroll: bool,
    },
    Open,
    /// Where to go, and the variables that take the row; without them the row is a result.
    Fetch {
        from: Fetch,
        into: Vec<String>,
    },
    Close,
    Deallocate,
}

/// The row that FETCH wants.
#[derive(Debug)]
pub(crate) enum Fetch {
    Next,
    Prior,
    First,
    Last,
    Absolute(Box<Ast>),
    Relative(Box<Ast>),
}

/// A parameter as CREATE PROCEDURE declares it.
#[derive(Debug)]
pub(crate) struct ParameterText {
    pub name: String,
    pub ty: ast::DataType,
    pub default: Option<Ast>,
    pub output: bool,
}

/// CREATE or ALTER PROCEDURE.
#[derive(Debug)]
pub(crate) struct ProcedureText {
    pub name: ast::ObjectName,
    pub parameters: Vec<ParameterText>,
    pub body: Arc<Vec<super::Line>>,
    pub text: Arc<str>,
    /// CREATE may make it.
    pub create: bool,
    /// ALTER may replace it.
    pub alter: bool,
}

/// An argument of EXECUTE.
#[derive(Debug)]
pub(crate) struct GivenText {
    pub name: Option<String>,
    /// None: DEFAULT.
    pub value: Option<Ast>,
    pub output: bool,
}

impl Script {
    /// `BEGIN TRY … END TRY BEGIN CATCH … END CATCH`.
    pub(super) fn try_block(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        let body = self.lines_until_end("TRY")?;
        while self.parser.consume_token(&Token::SemiColon) {}
        if !(self.eat("BEGIN") && self.eat("CATCH")) {
            return Err(self.unexpected("BEGIN CATCH is missing"));
        }
        let handler = self.lines_until_end("CATCH")?;
        Ok(Step::Try { body, handler })
    }

    /// Statements up to `END name`; `name` before them is taken too.
    fn lines_until_end(&mut self, name: &str) -> Result<Vec<super::Line>, SqlError> {
        let _ = self.eat(name);
        let mut lines = Vec::new();
        loop {
            while self.parser.consume_token(&Token::SemiColon) {}
            if self.word().as_deref() == Some("END") && self.second_word().as_deref() == Some(name) {
                self.parser.next_token();
                self.parser.next_token();
                return Ok(lines);
            }
            lines.push(self.needed_line()?);
        }
    }

    /// The error for the next token.
    pub(super) fn unexpected(&self, why: &str) -> SqlError {
        let found = self.parser.peek_token();
        syntax_error(self.dialect, why, found.span.start.line, &found.token.to_string())
    }

    /// A bare name, as of a cursor or a label.
    pub(super) fn one_name(&mut self) -> Result<String, SqlError> {
        match self.parser.peek_token().token {
            Token::Word(word) => {
                self.parser.next_token();
                Ok(word.value)
            }
            _ => Err(self.unexpected("a name is missing")),
        }
    }

    /// Whether another statement begins here, so that an optional expression is not there.
    pub(super) fn statement_begins(&self) -> bool {
        const BEGINNINGS: &[&str] = &[
            "ALTER",
            "BEGIN",
            "BREAK",
            "CLOSE",
            "COMMIT",
            "CONTINUE",
            "CREATE",
            "DEALLOCATE",
            "DECLARE",
            "DELETE",
            "DROP",
            "ELSE",
            "END",
            "EXEC",
            "EXECUTE",
            "FETCH",
            "GOTO",
            "IF",
            "INSERT",
            "MERGE",
            "OPEN",
            "PRINT",
            "RAISERROR",
            "RETURN",
            "ROLLBACK",
            "SAVE",
            "SELECT",
            "SET",
            "THROW",
            "TRUNCATE",
            "UPDATE",
            "USE",
            "WAITFOR",
            "WHILE",
            "WITH",
        ];
        self.end() || self.word().is_some_and(|word| BEGINNINGS.contains(&word.as_str()))
    }

    pub(super) fn return_step(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        Ok(Step::Return(if self.statement_begins() { None } else { Some(Box::new(self.expr()?)) }))
    }

    pub(super) fn wait_for(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        let until = match self.word().as_deref() {
            Some("DELAY") => false,
            Some("TIME") => true,
            _ => return Err(self.unexpected("DELAY or TIME is missing")),
        };
        self.parser.next_token();
        Ok(Step::WaitFor { until, when: Box::new(self.expr()?) })
    }

    /// `DECLARE @t TABLE (…)`, after the name.
    pub(super) fn table_variable(&mut self, name: &str) -> Result<Step, SqlError> {
        self.parser.next_token();
        let (columns, constraints) = self.parser.parse_columns().map_err(|error| self.fail(&error))?;
        let name = ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ast::Ident::new(name))]);
        let table = CreateTableBuilder::new(name).columns(columns).constraints(constraints).build();
        Ok(Step::DeclareTable(Box::new(table)))
    }

    /// `DECLARE name [INSENSITIVE] [SCROLL] CURSOR [options] FOR query [FOR …]`, after DECLARE.
    pub(super) fn declare_cursor(&mut self) -> Result<Step, SqlError> {
        let name = self.one_name()?;
        let mut scroll = false;
        loop {
            match self.word().as_deref() {
                Some("CURSOR") => {
                    self.parser.next_token();
                }
                Some("SCROLL" | "STATIC" | "KEYSET" | "DYNAMIC") => {
                    scroll = true;
                    self.parser.next_token();
                }
                Some(
                    "INSENSITIVE" | "LOCAL" | "GLOBAL" | "FORWARD_ONLY" | "FAST_FORWARD" | "READ_ONLY"
                    | "SCROLL_LOCKS" | "OPTIMISTIC" | "TYPE_WARNING",
                ) => {
                    self.parser.next_token();
                }
                Some("FOR") => break,
                _ => return Err(self.unexpected("FOR is missing")),
            }
        }
        self.parser.next_token();
        let query = self.parser.parse_query().map_err(|error| self.fail(&error))?;
        if self.eat("FOR") && !(self.eat("READ") && self.eat("ONLY")) && self.eat("UPDATE") && self.eat("OF")
        {
            while self.one_name().is_ok() && self.parser.consume_token(&Token::Comma) {}
        }
        Ok(Step::Cursor(name, CursorStep::Declare { query, scroll }))
    }

    /// OPEN, CLOSE, DEALLOCATE and FETCH.
    pub(super) fn cursor(&mut self, verb: &str) -> Result<Step, SqlError> {
        self.parser.next_token();
        if verb != "FETCH" {
            let _ = self.eat("GLOBAL");
            let name = self.one_name()?;
            let step = match verb {
                "OPEN" => CursorStep::Open,
                "CLOSE" => CursorStep::Close,
                _ => CursorStep::Deallocate,
            };
            return Ok(Step::Cursor(name, step));
        }
        let direction = self.word();
        let from = match direction.as_deref() {
            Some("NEXT") => Fetch::Next,
            Some("PRIOR") => Fetch::Prior,
            Some("FIRST") => Fetch::First,
            Some("LAST") => Fetch::Last,
            Some("ABSOLUTE" | "RELATIVE") => {
                self.parser.next_token();
                let by = Box::new(self.expr()?);
                if direction.as_deref() == Some("ABSOLUTE") {
                    Fetch::Absolute(by)
                } else {
                    Fetch::Relative(by)
                }
            }
            _ => Fetch::Next,
        };
        if matches!(direction.as_deref(), Some("NEXT" | "PRIOR" | "FIRST" | "LAST")) {
            self.parser.next_token();
        }
        let _ = self.eat("FROM");
        let _ = self.eat("GLOBAL");
        let name = self.one_name()?;
        let mut into = Vec::new();
        if self.eat("INTO") {
            loop {
                into.push(self.one_name()?.to_lowercase());
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
        }
        Ok(Step::Cursor(name, CursorStep::Fetch { from, into }))
    }

    /// CREATE, CREATE OR ALTER and ALTER PROCEDURE: the rest of the batch is its body.
    pub(super) fn procedure(&mut self, first: &str) -> Result<Step, SqlError> {
        if self.depth > 1 || !self.at_start {
            return Err(SqlError::mssql(
                111,
                "'CREATE/ALTER PROCEDURE' must be the first statement in a query batch.",
            )
            .with_class(15)
            .at_line(self.parser.peek_token().span.start.line as u32)
            .ending(Effect::Batch));
        }
        self.parser.next_token();
        let or_alter = self.eat("OR") && self.eat("ALTER");
        self.parser.next_token();
        let name = self.parser.parse_object_name(false).map_err(|error| self.fail(&error))?;
        let parenthesized = self.parser.consume_token(&Token::LParen);
        let parameters = self.parameters()?;
        if parenthesized && !self.parser.consume_token(&Token::RParen) {
            return Err(self.unexpected(") is missing"));
        }
        if self.eat("WITH") {
            while self.word().is_some_and(|word| word != "AS" || self.second_word().as_deref() == Some("AS"))
            {
                self.parser.next_token();
                let _ = self.parser.consume_token(&Token::Comma);
            }
        }
        if !self.eat("AS") {
            return Err(self.unexpected("AS is missing"));
        }
        let mut body = Vec::new();
        while let Some(line) = self.line()? {
            body.push(line);
        }
        Ok(Step::CreateProcedure(Arc::new(ProcedureText {
            name,
            parameters,
            body: Arc::new(body),
            text: Arc::clone(&self.text),
            create: first == "CREATE",
            alter: first == "ALTER" || or_alter,
        })))
    }

    /// `@a int = 1 OUTPUT, …`.
    pub(super) fn parameters(&mut self) -> Result<Vec<ParameterText>, SqlError> {
        let mut parameters = Vec::new();
        while matches!(&self.parser.peek_token().token, Token::Word(word) if word.value.starts_with('@')) {
            let name = self.one_name()?;
            let _ = self.eat("AS");
            let ty = self.parser.parse_data_type().map_err(|error| self.fail(&error))?;
            let _ = self.eat("NOT");
            let _ = self.eat("NULL");
            let default = if self.parser.consume_token(&Token::Eq) { Some(self.expr()?) } else { None };
            let output = self.eat("OUTPUT") || self.eat("OUT");
            let _ = self.eat("READONLY");
            parameters.push(ParameterText { name, ty, default, output });
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(parameters)
    }

    /// `DROP PROCEDURE [IF EXISTS] name, …`.
    pub(super) fn drop_procedure(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        self.parser.next_token();
        let if_exists = self.eat("IF") && self.eat("EXISTS");
        let mut names = Vec::new();
        loop {
            names.push(self.parser.parse_object_name(false).map_err(|error| self.fail(&error))?);
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(Step::DropProcedure { names, if_exists });
            }
        }
    }

    /// Whether `INSERT [INTO] table [(columns)] EXECUTE` comes next.
    pub(super) fn inserts_results(&self) -> bool {
        let mut at = 1;
        let mut next = || {
            let token = self.parser.peek_nth_token(at).token;
            at += 1;
            token
        };
        let mut token = next();
        if word(&token).as_deref() == Some("INTO") {
            token = next();
        }
        while matches!(token, Token::Word(_) | Token::Period) {
            if word(&token).is_some_and(|word| word == "EXEC" || word == "EXECUTE") {
                return true;
            }
            token = next();
        }
        if token != Token::LParen {
            return false;
        }
        while matches!(next(), Token::Word(_) | Token::Comma) {}
        word(&next()).is_some_and(|word| word == "EXEC" || word == "EXECUTE")
    }

    /// `INSERT INTO table (columns) EXECUTE …`.
    pub(super) fn insert_results(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        let _ = self.eat("INTO");
        let table = self.parser.parse_object_name(false).map_err(|error| self.fail(&error))?;
        let mut columns = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            loop {
                columns.push(self.one_name()?);
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            if !self.parser.consume_token(&Token::RParen) {
                return Err(self.unexpected(") is missing"));
            }
        }
        Ok(Step::InsertResults { table, columns, source: Box::new(self.execute()?) })
    }

    /// EXECUTE of a procedure or of text.
    pub(super) fn execute(&mut self) -> Result<Step, SqlError> {
        if self.word().is_some_and(|word| word == "EXEC" || word == "EXECUTE") {
            self.parser.next_token();
        }
        if self.parser.peek_token().token == Token::LParen {
            return Ok(Step::ExecuteText(self.parenthesized()?));
        }
        let mut into = None;
        if let (Token::Word(variable), Token::Eq) =
            (self.parser.peek_token().token, self.parser.peek_nth_token(1).token)
            && variable.value.starts_with('@')
        {
            self.parser.next_token();
            self.parser.next_token();
            into = Some(variable.value);
        }
        let name = self.parser.parse_object_name(false).map_err(|error| self.fail(&error))?;
        let mut arguments = Vec::new();
        while !self.statement_begins() {
            let named = match (self.parser.peek_token().token, self.parser.peek_nth_token(1).token) {
                (Token::Word(word), Token::Eq) if word.value.starts_with('@') => {
                    self.parser.next_token();
                    self.parser.next_token();
                    Some(word.value)
                }
                _ => None,
            };
            let value = match self.parser.peek_token().token {
                Token::Word(_) if self.word().as_deref() == Some("DEFAULT") => {
                    self.parser.next_token();
                    None
                }
                // A bare word is a text.
                Token::Word(bare)
                    if !bare.value.starts_with('@')
                        && word(&Token::Word(bare.clone()))
                            .is_none_or(|word| word != "NULL" && word != "N") =>
                {
                    self.parser.next_token();
                    let text = ast::Value::NationalStringLiteral(bare.value);
                    Some(Ast::Value(text.into()))
                }
                _ => Some(self.argument()?),
            };
            let output = self.eat("OUTPUT") || self.eat("OUT");
            arguments.push(GivenText { name: named, value, output });
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if self.eat("WITH") {
            // RECOMPILE and friends change nothing here.
            while !self.statement_begins() {
                self.parser.next_token();
            }
        }
        Ok(Step::Execute { into, name, arguments })
    }

    /// A constant or a variable: an argument is no expression, so that OUTPUT behind it is not part of it.
    fn argument(&mut self) -> Result<Ast, SqlError> {
        let first = self.parser.peek_token().token;
        match first {
            Token::Word(word) if word.value.starts_with('@') => {
                self.parser.next_token();
                Ok(Ast::Identifier(ast::Ident::new(word.value)))
            }
            _ => self.expr(),
        }
    }
}
