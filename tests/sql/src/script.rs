//! From a batch's text to steps: SQL by the parser library, and by hand the statements that it does not know.

use std::sync::Arc;

use sqlparser::{
    ast::{self, Expr as Ast},
    dialect::{Dialect as ParserDialect, MsSqlDialect, SnowflakeDialect},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

use crate::{
    error::{Effect, SqlError, quote},
    outcome::Context,
    types::Dialect,
};

mod reserved;
mod rewrite;
mod tsql;
mod variables;

pub(crate) use tsql::{CursorStep, Fetch, GivenText, ProcedureText};

/// One thing that a batch does.
#[derive(Debug)]
pub(crate) enum Step {
    Sql(Box<ast::Statement>),
    If {
        condition: Box<Ast>,
        then: Box<Line>,
        otherwise: Option<Box<Line>>,
    },
    While {
        condition: Box<Ast>,
        body: Box<Line>,
    },
    Block(Vec<Line>),
    Declare(Vec<(String, ast::DataType, Option<Ast>)>),
    Assign(String, Box<Ast>),
    /// SET of a session option, as its words in upper case.
    SetOption(Vec<String>),
    Begin(Option<String>),
    Commit,
    Rollback(Option<String>),
    Save(String),
    Use(Context, Vec<ast::Ident>),
    Print(Box<Ast>),
    RaiseError(Vec<Ast>),
    Throw(Vec<Ast>),
    /// A procedure, the variable that takes its return code, and its named or plain arguments.
    Execute {
        into: Option<String>,
        name: ast::ObjectName,
        arguments: Vec<GivenText>,
    },
    /// The rows that EXECUTE gives go into a table.
    InsertResults {
        table: ast::ObjectName,
        columns: Vec<String>,
        source: Box<Step>,
    },
    /// Text that is run.
    ExecuteText(Vec<Ast>),
    /// A statement whose recursive queries may take so many rounds.
    Recursion(u64, Box<Step>),
    Try {
        body: Vec<Line>,
        handler: Vec<Line>,
    },
    Break,
    Continue,
    Return(Option<Box<Ast>>),
    Goto(String),
    Label(String),
    WaitFor {
        until: bool,
        when: Box<Ast>,
    },
    DeclareTable(Box<ast::CreateTable>),
    Cursor(String, CursorStep),
    CreateProcedure(Arc<ProcedureText>),
    DropProcedure {
        names: Vec<ast::ObjectName>,
        if_exists: bool,
    },
    AlterSession(Vec<(String, String)>),
    /// SHOW, DESCRIBE, GRANT, REVOKE and other administration: its tokens without blanks.
    Words(Vec<Token>),
}

/// A step and the line where it begins.
#[derive(Debug)]
pub(crate) struct Line {
    pub number: u32,
    pub step: Step,
}

fn parser_dialect(dialect: Dialect) -> &'static dyn ParserDialect {
    match dialect {
        Dialect::SqlServer => &MsSqlDialect {},
        Dialect::Snowflake => &SnowflakeDialect {},
    }
}

fn syntax_error(dialect: Dialect, message: &str, line: u64, found: &str) -> SqlError {
    match dialect {
        Dialect::SqlServer => {
            // The parser tells what it could not take, and where.
            let (found, line) = reserved::found(message).unwrap_or((found, line));
            let keyword = reserved::is_keyword(found);
            let (number, what) = if keyword { (156, "the keyword ") } else { (102, "") };
            SqlError::mssql(number, format!("Incorrect syntax near {what}'{}'.", quote(found)))
                .with_class(15)
                .at_line(line.max(1) as u32)
                .ending(Effect::Batch)
        }
        Dialect::Snowflake => SqlError::snowflake(
            1_003,
            "42000",
            format!(
                "SQL compilation error:\nsyntax error line {line} unexpected '{}'. ({})",
                quote(found),
                quote(message)
            ),
        ),
    }
}

/// Parses one query, as a view or a default holds it.
pub(crate) fn parse_query(dialect: Dialect, sql: &str) -> Result<ast::Query, SqlError> {
    let failed = |error: ParserError| syntax_error(dialect, &error.to_string(), 1, sql);
    let mut parser = Parser::new(parser_dialect(dialect)).try_with_sql(sql).map_err(failed)?;
    parser.parse_query().map(|query| *query).map_err(failed)
}

/// Parses one expression.
pub(crate) fn parse_expr(dialect: Dialect, sql: &str) -> Result<Ast, SqlError> {
    let failed = |error: ParserError| syntax_error(dialect, &error.to_string(), 1, sql);
    let mut parser = Parser::new(parser_dialect(dialect)).try_with_sql(sql).map_err(failed)?;
    parser.parse_expr().map_err(failed)
}

/// Parses an object name.
pub(crate) fn parse_name(dialect: Dialect, sql: &str) -> Result<ast::ObjectName, SqlError> {
    let failed = |error: ParserError| syntax_error(dialect, &error.to_string(), 1, sql);
    let mut parser = Parser::new(parser_dialect(dialect)).try_with_sql(sql).map_err(failed)?;
    parser.parse_object_name(false).map_err(failed)
}

/// Parses the parameters of `sp_executesql`'s declaration.
pub(crate) fn parse_parameters(dialect: Dialect, text: &str) -> Result<Vec<tsql::ParameterText>, SqlError> {
    let failed = |error: ParserError| syntax_error(dialect, &error.to_string(), 1, text);
    let parser = Parser::new(parser_dialect(dialect)).try_with_sql(text).map_err(failed)?;
    let mut script =
        Script { dialect, parser, depth: 0, at_start: true, text: Arc::from(text), recursion: Vec::new() };
    let list = script.parameters()?;
    if script.end() { Ok(list) } else { Err(script.unexpected("a comma is missing")) }
}

/// Parses a whole batch.
pub(crate) fn parse(dialect: Dialect, sql: &str) -> Result<Vec<Line>, SqlError> {
    let tokens = Tokenizer::new(parser_dialect(dialect), sql)
        .tokenize_with_location()
        .map_err(|error| syntax_error(dialect, &error.message, error.location.line, sql))?;
    let mut recursion = Vec::new();
    let tokens = if dialect == Dialect::SqlServer {
        rewrite::rewritten(strip_hints(tokens, &mut recursion))
    } else {
        tokens
    };
    if dialect == Dialect::SqlServer
        && let Some((line, found)) = reserved::misplaced(&tokens)
    {
        return Err(syntax_error(dialect, "", line, &found));
    }
    let parser = Parser::new(parser_dialect(dialect)).with_tokens_with_locations(tokens);
    let mut script = Script { dialect, parser, depth: 0, at_start: true, text: Arc::from(sql), recursion };
    let mut lines = Vec::new();
    while let Some(line) = script.line()? {
        lines.push(line);
        script.at_start = false;
    }
    Ok(lines)
}

/// Refuses a batch that names a variable which neither it nor its caller declared (137).
pub(crate) fn check_variables(lines: &[Line], known: impl Iterator<Item = String>) -> Result<(), SqlError> {
    variables::check(lines, known.collect())
}

const HINTS: &[&str] = &[
    "TABLOCK",
    "TABLOCKX",
    "HOLDLOCK",
    "ROWLOCK",
    "PAGLOCK",
    "UPDLOCK",
    "XLOCK",
    "NOLOCK",
    "READPAST",
    "SERIALIZABLE",
    "READCOMMITTED",
    "READUNCOMMITTED",
    "REPEATABLEREAD",
    "NOWAIT",
    "KEEPIDENTITY",
    "KEEPDEFAULTS",
];

fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
        _ => None,
    }
}

/// Takes out what the parser does not know and what changes nothing here: hints behind the target of a change, and OPTION (…).
fn strip_hints(tokens: Vec<TokenWithSpan>, recursion: &mut Vec<((u64, u64), u64)>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut last = String::new();
    let mut at = 0;
    let next_word =
        |from: usize| tokens[from..].iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
    while at < tokens.len() {
        let token = &tokens[at];
        if let Some(word) = word(&token.token) {
            let opens = next_word(at + 1).is_some_and(|next| next.token == Token::LParen);
            let hint = word == "WITH"
                && opens
                && matches!(last.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE")
                && {
                    let mut inner =
                        tokens[at + 1..].iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
                    inner
                        .nth(1)
                        .and_then(|token| self::word(&token.token))
                        .is_some_and(|word| HINTS.contains(&word.as_str()))
                };
            if hint || (word == "OPTION" && opens) {
                let start = token.span.start;
                if let Some(rounds) = rewrite::max_recursion(&tokens[at..]) {
                    recursion.push(((start.line, start.column), rounds));
                }
                let mut depth = 0;
                at += 1;
                while at < tokens.len() {
                    match tokens[at].token {
                        Token::LParen => depth += 1,
                        Token::RParen => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 && matches!(tokens[at - 1].token, Token::RParen) {
                        break;
                    }
                }
                continue;
            }
            if matches!(
                word.as_str(),
                "INSERT"
                    | "UPDATE"
                    | "DELETE"
                    | "MERGE"
                    | "SELECT"
                    | "FROM"
                    | "VALUES"
                    | "USING"
                    | "CREATE"
                    | "ALTER"
            ) {
                last = word;
            }
        }
        out.push(token.clone());
        at += 1;
    }
    out
}

struct Script {
    dialect: Dialect,
    parser: Parser<'static>,
    depth: u32,
    /// Nothing of the batch was read yet.
    at_start: bool,
    /// The whole batch, which a procedure keeps.
    text: Arc<str>,
    /// Where MAXRECURSION was said (line and column), and how much.
    recursion: Vec<((u64, u64), u64)>,
}

impl Script {
    fn fail(&self, error: &ParserError) -> SqlError {
        let found = self.parser.peek_token();
        let message = match error {
            ParserError::RecursionLimitExceeded => "nested too deeply".to_owned(),
            other => other.to_string(),
        };
        let shown = match &found.token {
            Token::EOF => self.parser.get_current_token().token.to_string(),
            other => other.to_string(),
        };
        syntax_error(self.dialect, &message, found.span.start.line, &shown)
    }

    fn word(&self) -> Option<String> {
        word(&self.parser.peek_token().token)
    }

    fn second_word(&self) -> Option<String> {
        word(&self.parser.peek_nth_token(1).token)
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let found = self.word().is_some_and(|word| word == wanted);
        if found {
            self.parser.next_token();
        }
        found
    }

    fn end(&self) -> bool {
        matches!(self.parser.peek_token().token, Token::EOF | Token::SemiColon)
    }

    fn expr(&mut self) -> Result<Ast, SqlError> {
        self.parser.parse_expr().map_err(|error| self.fail(&error))
    }

    fn line(&mut self) -> Result<Option<Line>, SqlError> {
        while self.parser.consume_token(&Token::SemiColon) {}
        let next = self.parser.peek_token();
        if next.token == Token::EOF {
            return Ok(None);
        }
        self.depth += 1;
        if self.depth > 50 {
            return Err(syntax_error(
                self.dialect,
                "statements nested too deeply",
                next.span.start.line,
                &next.token.to_string(),
            ));
        }
        let step = self.step()?;
        self.depth -= 1;
        Ok(Some(Line { number: next.span.start.line as u32, step }))
    }

    fn step(&mut self) -> Result<Step, SqlError> {
        let first = self.word().unwrap_or_default();
        let second = self.second_word().unwrap_or_default();
        let mssql = self.dialect == Dialect::SqlServer;
        match (first.as_str(), second.as_str()) {
            ("BEGIN", "TRAN" | "TRANSACTION" | "WORK" | "NAME" | "DISTRIBUTED") => self.begin(),
            ("START", "TRANSACTION") => self.begin(),
            ("BEGIN", "TRY") if mssql => self.try_block(),
            ("BEGIN", _) if mssql => self.block(),
            ("BEGIN", "") => self.begin(),
            ("COMMIT" | "ROLLBACK", _) => Ok(self.finish(&first)),
            ("SAVE", "TRAN" | "TRANSACTION") => {
                self.parser.next_token();
                self.parser.next_token();
                Ok(Step::Save(self.one_name()?))
            }
            ("SET", _) if mssql => self.set(),
            ("DECLARE", _) if mssql => self.declare(),
            ("IF", _) if mssql => {
                self.parser.next_token();
                let condition = Box::new(self.expr()?);
                let then = Box::new(self.needed_line()?);
                while self.word().as_deref() != Some("ELSE")
                    && self.parser.peek_token().token == Token::SemiColon
                {
                    let after = word(&self.parser.peek_nth_token(1).token);
                    if after.as_deref() != Some("ELSE") {
                        break;
                    }
                    self.parser.next_token();
                }
                let otherwise = if self.eat("ELSE") { Some(Box::new(self.needed_line()?)) } else { None };
                Ok(Step::If { condition, then, otherwise })
            }
            ("WHILE", _) if mssql => {
                self.parser.next_token();
                let condition = Box::new(self.expr()?);
                Ok(Step::While { condition, body: Box::new(self.needed_line()?) })
            }
            ("USE", _) => self.use_step(),
            ("PRINT", _) if mssql => {
                self.parser.next_token();
                Ok(Step::Print(Box::new(self.expr()?)))
            }
            ("RAISERROR", _) if mssql => {
                self.parser.next_token();
                let list = self.parenthesized()?;
                if self.eat("WITH") {
                    self.parser.next_token();
                }
                Ok(Step::RaiseError(list))
            }
            ("THROW", _) if mssql => {
                self.parser.next_token();
                let mut list = Vec::new();
                while !self.statement_begins() {
                    list.push(self.expr()?);
                    if !self.parser.consume_token(&Token::Comma) {
                        break;
                    }
                }
                Ok(Step::Throw(list))
            }
            ("EXEC" | "EXECUTE", _) if mssql => self.execute(),
            ("INSERT", _) if mssql && self.inserts_results() => self.insert_results(),
            ("BREAK", _) if mssql => {
                self.parser.next_token();
                Ok(Step::Break)
            }
            ("CONTINUE", _) if mssql => {
                self.parser.next_token();
                Ok(Step::Continue)
            }
            ("RETURN", _) if mssql => self.return_step(),
            ("GOTO", _) if mssql => {
                self.parser.next_token();
                Ok(Step::Goto(self.one_name()?.to_lowercase()))
            }
            ("WAITFOR", _) if mssql => self.wait_for(),
            ("OPEN" | "CLOSE" | "DEALLOCATE" | "FETCH", _) if mssql => self.cursor(&first),
            ("CREATE" | "ALTER", "PROC" | "PROCEDURE") if mssql => self.procedure(&first),
            ("CREATE", "OR")
                if mssql
                    && matches!(
                        word(&self.parser.peek_nth_token(3).token).as_deref(),
                        Some("PROC" | "PROCEDURE")
                    ) =>
            {
                self.procedure(&first)
            }
            ("DROP", "PROC" | "PROCEDURE") if mssql => self.drop_procedure(),
            (label, "")
                if mssql && !label.is_empty() && self.parser.peek_nth_token(1).token == Token::Colon =>
            {
                self.parser.next_token();
                self.parser.next_token();
                Ok(Step::Label(label.to_lowercase()))
            }
            // A batch may begin with a procedure's name alone.
            (name, _) if mssql && self.at_start && self.depth == 1 && reserved::calls(name) => self.execute(),
            ("ALTER", "SESSION") => self.alter_session(),
            (
                "SHOW" | "DESCRIBE" | "DESC" | "GRANT" | "DENY" | "REVOKE" | "DBCC" | "CHECKPOINT" | "KILL",
                _,
            )
            | (
                "ALTER",
                "DATABASE" | "WAREHOUSE" | "USER" | "ACCOUNT" | "ROLE" | "LOGIN" | "AUTHORIZATION" | "SERVER",
            )
            | (
                "CREATE",
                "ROLE" | "USER" | "LOGIN" | "WAREHOUSE" | "STATISTICS" | "DATABASE" | "SCHEMA" | "CLUSTERED"
                | "NONCLUSTERED",
            )
            | ("UPDATE", "STATISTICS")
            | ("DROP", "ROLE" | "USER" | "LOGIN" | "WAREHOUSE" | "DATABASE" | "SCHEMA" | "INDEX") => {
                Ok(self.words())
            }
            ("UNSET", _) => Ok(self.words()),
            ("CREATE", "SECURITY" | "NETWORK") if !mssql => Ok(self.words()),
            ("CREATE", "OR")
                if matches!(
                    word(&self.parser.peek_nth_token(3).token).as_deref(),
                    Some("DATABASE" | "SCHEMA" | "WAREHOUSE" | "ROLE" | "USER")
                ) =>
            {
                Ok(self.words())
            }
            ("CREATE", "UNIQUE") => {
                let third = word(&self.parser.peek_nth_token(2).token);
                if matches!(third.as_deref(), Some("CLUSTERED" | "NONCLUSTERED")) {
                    Ok(self.words())
                } else {
                    self.statement()
                }
            }
            _ => self.statement(),
        }
    }

    fn needed_line(&mut self) -> Result<Line, SqlError> {
        let shown = self.parser.peek_token();
        self.line()?.ok_or_else(|| {
            syntax_error(
                self.dialect,
                "a statement is missing",
                shown.span.start.line,
                &shown.token.to_string(),
            )
        })
    }

    fn statement(&mut self) -> Result<Step, SqlError> {
        let begin = self.parser.peek_token().span.start;
        let statement = self.parser.parse_statement().map_err(|error| self.fail(&error))?;
        if self.dialect == Dialect::Snowflake && !self.end() {
            let found = self.parser.peek_token();
            return Err(syntax_error(
                self.dialect,
                "unexpected text after the statement",
                found.span.start.line,
                &found.token.to_string(),
            ));
        }
        let step = Step::Sql(Box::new(statement));
        // The OPTION clause stood between the statement's begin and what follows it.
        let next = self.parser.peek_token().span.start;
        let place = |(line, column): (u64, u64)| {
            (line, column) >= (begin.line, begin.column)
                && (next.line == 0 || (line, column) <= (next.line, next.column))
        };
        match self.recursion.iter().find(|(at, _)| place(*at)) {
            Some((_, rounds)) => Ok(Step::Recursion(*rounds, Box::new(step))),
            None => Ok(step),
        }
    }

    /// The statement's tokens up to its end.
    fn words(&mut self) -> Step {
        let mut tokens = Vec::new();
        while !self.end() {
            tokens.push(self.parser.next_token().token);
        }
        Step::Words(tokens)
    }

    fn begin(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        let _ = self.eat("DISTRIBUTED") || self.eat("WORK");
        let _ = self.eat("TRANSACTION") || self.eat("TRAN");
        let named = self.eat("NAME");
        let name = match self.parser.peek_token().token {
            Token::Word(word)
                if named || (word.keyword == Keyword::NoKeyword && self.dialect == Dialect::SqlServer) =>
            {
                self.parser.next_token();
                Some(word.value)
            }
            _ => None,
        };
        Ok(Step::Begin(name))
    }

    fn finish(&mut self, first: &str) -> Step {
        self.parser.next_token();
        let _ = self.eat("WORK") || self.eat("TRANSACTION") || self.eat("TRAN");
        let name = match self.parser.peek_token().token {
            Token::Word(word) if word.keyword == Keyword::NoKeyword && self.dialect == Dialect::SqlServer => {
                self.parser.next_token();
                Some(word.value)
            }
            _ => None,
        };
        if first == "COMMIT" { Step::Commit } else { Step::Rollback(name) }
    }

    fn block(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        let mut lines = Vec::new();
        loop {
            while self.parser.consume_token(&Token::SemiColon) {}
            if self.eat("END") {
                return Ok(Step::Block(lines));
            }
            lines.push(self.needed_line()?);
        }
    }

    fn set(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        if let Token::Word(word) = self.parser.peek_token().token
            && word.value.starts_with('@')
        {
            self.parser.next_token();
            use ast::BinaryOperator as Op;
            let sign = self.parser.next_token();
            let operator = match &sign.token {
                Token::Eq => None,
                Token::Plus => Some(Op::Plus),
                Token::Minus => Some(Op::Minus),
                Token::Mul => Some(Op::Multiply),
                Token::Div => Some(Op::Divide),
                Token::Mod => Some(Op::Modulo),
                Token::Ampersand => Some(Op::BitwiseAnd),
                Token::Pipe => Some(Op::BitwiseOr),
                Token::Caret => Some(Op::BitwiseXor),
                found => {
                    let line = sign.span.start.line;
                    return Err(syntax_error(self.dialect, "= is missing", line, &found.to_string()));
                }
            };
            let Some(op) = operator else {
                return Ok(Step::Assign(word.value, Box::new(self.expr()?)));
            };
            if !self.parser.consume_token(&Token::Eq) {
                return Err(self.unexpected("= is missing"));
            }
            let left = Box::new(Ast::Identifier(ast::Ident::new(word.value.clone())));
            let right = Box::new(Ast::Nested(Box::new(self.expr()?)));
            return Ok(Step::Assign(word.value, Box::new(Ast::BinaryOp { left, op, right })));
        }
        // A session option: words, numbers and texts up to where another statement begins.
        let mut words: Vec<String> = Vec::new();
        while !self.end() {
            let complete = match words.first().map(String::as_str) {
                None => false,
                Some("TRANSACTION") => {
                    words.len() >= 4
                        && matches!(
                            words.last().map(String::as_str),
                            Some("COMMITTED" | "UNCOMMITTED" | "SNAPSHOT" | "SERIALIZABLE")
                        )
                        || (words.len() >= 5 && words.last().is_some_and(|word| word == "READ"))
                }
                Some("IDENTITY_INSERT") => matches!(words.last().map(String::as_str), Some("ON" | "OFF")),
                Some(
                    "LOCK_TIMEOUT"
                    | "ROWCOUNT"
                    | "TEXTSIZE"
                    | "DATEFIRST"
                    | "DATEFORMAT"
                    | "LANGUAGE"
                    | "DEADLOCK_PRIORITY"
                    | "CONTEXT_INFO"
                    | "QUERY_GOVERNOR_COST_LIMIT",
                ) => words.len() >= 2 && words.last().is_some_and(|word| word != "-"),
                Some(_) => matches!(words.last().map(String::as_str), Some("ON" | "OFF")),
            };
            if complete {
                break;
            }
            let token = self.parser.next_token().token;
            words.push(match &token {
                Token::Word(word)
                    if word.quote_style.is_none()
                        && words.first().is_none_or(|first| first != "IDENTITY_INSERT") =>
                {
                    word.value.to_uppercase()
                }
                Token::Word(word)
                    if words.len() > 1 && matches!(word.value.to_uppercase().as_str(), "ON" | "OFF") =>
                {
                    word.value.to_uppercase()
                }
                Token::SingleQuotedString(text) | Token::NationalStringLiteral(text) => text.clone(),
                other => other.to_string(),
            });
        }
        Ok(Step::SetOption(words))
    }

    fn declare(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        if !matches!(&self.parser.peek_token().token, Token::Word(word) if word.value.starts_with('@')) {
            return self.declare_cursor();
        }
        let mut list = Vec::new();
        loop {
            let name = self.one_name()?;
            if !name.starts_with('@') {
                return Err(self.unexpected("a variable is missing"));
            }
            self.eat("AS");
            if list.is_empty() && self.word().as_deref() == Some("TABLE") {
                return self.table_variable(&name);
            }
            let ty = self.parser.parse_data_type().map_err(|error| self.fail(&error))?;
            let value = if self.parser.consume_token(&Token::Eq) { Some(self.expr()?) } else { None };
            list.push((name, ty, value));
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(Step::Declare(list));
            }
        }
    }

    fn parenthesized(&mut self) -> Result<Vec<Ast>, SqlError> {
        let mut list = Vec::new();
        self.parser.expect_token(&Token::LParen).map_err(|error| self.fail(&error))?;
        while !self.parser.consume_token(&Token::RParen) {
            list.push(self.expr()?);
            let _ = self.parser.consume_token(&Token::Comma);
        }
        Ok(list)
    }

    fn use_step(&mut self) -> Result<Step, SqlError> {
        self.parser.next_token();
        let context = match (self.dialect, self.word().as_deref(), &self.parser.peek_nth_token(1).token) {
            (
                Dialect::Snowflake,
                Some(kind @ ("ROLE" | "WAREHOUSE" | "DATABASE" | "SCHEMA")),
                Token::Word(_) | Token::SingleQuotedString(_),
            ) => {
                let context = match kind {
                    "ROLE" => Context::Role,
                    "WAREHOUSE" => Context::Warehouse,
                    "SCHEMA" => Context::Schema,
                    _ => Context::Database,
                };
                self.parser.next_token();
                context
            }
            (Dialect::Snowflake, Some("SECONDARY"), _) => return Ok(self.words()),
            _ => Context::Database,
        };
        let name = self.parser.parse_object_name(false).map_err(|error| self.fail(&error))?;
        let idents = name
            .0
            .into_iter()
            .filter_map(|part| match part {
                ast::ObjectNamePart::Identifier(ident) => Some(ident),
                ast::ObjectNamePart::Function(_) => None,
            })
            .collect();
        Ok(Step::Use(context, idents))
    }

    fn alter_session(&mut self) -> Result<Step, SqlError> {
        let Step::Words(tokens) = self.words() else { return Ok(Step::AlterSession(Vec::new())) };
        let plain = |token: &Token| match token {
            Token::Word(word) => word.value.clone(),
            Token::SingleQuotedString(text) | Token::Number(text, _) => text.clone(),
            other => other.to_string(),
        };
        let mut pairs = Vec::new();
        let mut at = 3;
        let unset = tokens.get(2).and_then(word).is_some_and(|word| word == "UNSET");
        while at < tokens.len() {
            if tokens[at] == Token::Comma {
                at += 1;
                continue;
            }
            let name = plain(&tokens[at]).to_uppercase();
            if unset {
                pairs.push((name, String::new()));
                at += 1;
            } else if tokens.get(at + 1) == Some(&Token::Eq) && at + 2 < tokens.len() {
                pairs.push((name, plain(&tokens[at + 2])));
                at += 3;
            } else {
                return Err(syntax_error(self.dialect, "name = value expected", 1, &name));
            }
        }
        Ok(Step::AlterSession(pairs))
    }
}
