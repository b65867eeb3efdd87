//! Administration that is parsed by its words: GRANT, roles, databases, schemas, warehouses, indexes.

use sqlparser::tokenizer::Token;

use crate::{
    bind::unsupported,
    error::SqlError,
    outcome::{Outcome, Verb},
    session::{Session, steps::done},
    state::{Unique, fold},
    types::Dialect,
};

/// The plain word of a token, in upper case; empty for anything else.
pub(super) fn word(token: Option<&Token>) -> String {
    match token {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    }
}

/// Tokens as the text that they were.
pub(super) fn text(tokens: &[Token]) -> String {
    tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl Session {
    /// A name at the start of tokens, and how many tokens it takes.
    pub(super) fn name_at(&self, tokens: &[Token]) -> (Vec<String>, usize) {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                Token::Word(word) => parts.push(match (self.dialect(), word.quote_style) {
                    (Dialect::Snowflake, None) => word.value.to_uppercase(),
                    _ => word.value.clone(),
                }),
                Token::SingleQuotedString(text) => parts.push(text.clone()),
                _ => break,
            }
            at += 1;
            if tokens.get(at) == Some(&Token::Period) {
                at += 1;
            } else {
                break;
            }
        }
        (parts, at)
    }

    pub(super) async fn administer(&mut self, tokens: &[Token]) -> Result<Outcome, SqlError> {
        let words: Vec<String> = tokens.iter().map(|token| word(Some(token))).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let snowflake = self.is_snowflake();
        if snowflake && !matches!(words.first(), Some(&("SHOW" | "DESC" | "DESCRIBE"))) {
            self.commit_now()?;
        }
        let ok = |verb: Verb| done(verb, if snowflake { "Statement executed successfully." } else { "" });
        match words.as_slice() {
            ["SHOW" | "DESC" | "DESCRIBE", ..] if snowflake => self.show(tokens),
            ["GRANT", ..] => self.grant_words(tokens).map(|()| ok(Verb::Grant)),
            ["DENY", ..] if !snowflake => self.deny_words(tokens).map(|()| ok(Verb::Grant)),
            ["REVOKE", ..] => self.revoke_words(tokens).map(|()| ok(Verb::Grant)),
            ["CREATE", rest @ ..] => {
                self.create_words(tokens, rest).map(|message| done(Verb::Create, message))
            }
            ["DROP", "DATABASE" | "SCHEMA", ..] => self.drop_words(tokens).map(|()| ok(Verb::Drop)),
            ["DROP", "ROLE" | "USER" | "LOGIN" | "WAREHOUSE" | "INDEX", ..]
            | ["UPDATE", "STATISTICS", ..]
            | ["CHECKPOINT" | "DBCC" | "WAITFOR" | "SECONDARY", ..]
            | [
                "ALTER",
                "USER" | "WAREHOUSE" | "ACCOUNT" | "ROLE" | "LOGIN" | "AUTHORIZATION" | "SERVER",
                ..,
            ] => Ok(ok(Verb::Alter)),
            ["ALTER", "DATABASE", ..] => self.alter_database(tokens).map(|()| ok(Verb::Alter)),
            _ => Err(unsupported(self.dialect(), text(tokens))),
        }
    }

    fn create_words(&mut self, tokens: &[Token], rest: &[&str]) -> Result<String, SqlError> {
        let mut at = 1;
        let mut rest = rest;
        if let ["OR", "REPLACE", more @ ..] = rest {
            (at, rest) = (at + 2, more);
        }
        let kind = rest.first().copied().unwrap_or("");
        // Who may log in, and from where, is the server's own matter: `snowflake::Config` says it.
        if let (true, ["SECURITY", "INTEGRATION", ..] | ["NETWORK", "POLICY" | "RULE", ..]) =
            (self.is_snowflake(), rest)
        {
            return Ok("Statement executed successfully.".to_owned());
        }
        if matches!(kind, "CLUSTERED" | "NONCLUSTERED" | "UNIQUE") {
            return self.create_index_words(tokens).map(|()| String::new());
        }
        at += 1;
        let if_not_exists = rest.get(1..4) == Some(&["IF", "NOT", "EXISTS"]);
        if if_not_exists {
            at += 3;
        }
        let (parts, _) = self.name_at(tokens.get(at..).unwrap_or_default());
        let Some(name) = parts.last().cloned() else { return Err(unsupported(self.dialect(), text(tokens))) };
        let state = self.db.state();
        match kind {
            "DATABASE" => {
                if state.databases.contains_key(&fold(self.dialect(), &name)) {
                    if if_not_exists {
                        return Ok(format!("{name} already exists, statement succeeded."));
                    }
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            1801,
                            format!("Database '{name}' already exists. Choose a different database name."),
                        ),
                        Dialect::Snowflake => SqlError::snowflake(
                            2_002,
                            "42710",
                            format!("SQL compilation error:\nObject '{name}' already exists."),
                        ),
                    });
                }
                let words: Vec<String> = tokens.iter().map(|token| word(Some(token))).collect();
                let snapshot = words.windows(3).position(|three| three == ["AS", "SNAPSHOT", "OF"]);
                if let Some(at) = snapshot.filter(|_| !self.is_snowflake()) {
                    return self.create_snapshot(&name, &words, &tokens[at + 3..]);
                }
                self.db.create_database(&name, self.identity.role.clone());
                if self.is_snowflake() {
                    self.identity.database = Some(name.clone());
                    self.identity.schema = Some("PUBLIC".to_owned());
                }
                Ok(format!("Database {name} successfully created."))
            }
            "SCHEMA" => {
                let database = if parts.len() > 1 {
                    parts[0].clone()
                } else {
                    self.identity.database.clone().unwrap_or_default()
                };
                if !self.db.create_schema(&database, &name, self.identity.role.clone()) && !if_not_exists {
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            2714,
                            format!("There is already an object named '{name}' in the database."),
                        )
                        .with_state(6),
                        Dialect::Snowflake => SqlError::snowflake(
                            2_002,
                            "42710",
                            format!("SQL compilation error:\nObject '{name}' already exists."),
                        ),
                    });
                }
                if self.is_snowflake() {
                    self.identity.database = Some(database);
                    self.identity.schema = Some(name.clone());
                }
                Ok(format!("Schema {name} successfully created."))
            }
            "ROLE" | "USER" | "LOGIN" | "WAREHOUSE" | "STATISTICS" => {
                Ok(format!("{name} successfully created."))
            }
            _ => Err(unsupported(self.dialect(), text(tokens))),
        }
    }

    /// CREATE [UNIQUE] [NON]CLUSTERED INDEX name ON table (columns).
    fn create_index_words(&mut self, tokens: &[Token]) -> Result<(), SqlError> {
        let words: Vec<String> = tokens.iter().map(|token| word(Some(token))).collect();
        let refused = || unsupported(Dialect::SqlServer, text(tokens));
        let index = words.iter().position(|word| word == "INDEX").ok_or_else(refused)?;
        let (names, used) = self.name_at(&tokens[index + 1..]);
        let on = index + 1 + used;
        if words.get(on).map(String::as_str) != Some("ON") {
            return Err(refused());
        }
        let (table, used) = self.name_at(&tokens[on + 1..]);
        let table = self.table(&self.db.state(), &table)?;
        let mut columns = Vec::new();
        let mut descending = Vec::new();
        for token in tokens.iter().skip(on + 1 + used + 1) {
            match token {
                Token::RParen => break,
                Token::Word(name) if name.value.eq_ignore_ascii_case("asc") => {}
                Token::Word(name) if name.value.eq_ignore_ascii_case("desc") => {
                    if let Some(last) = descending.last_mut() {
                        *last = true;
                    }
                }
                Token::Word(name) => {
                    let at = table
                        .columns
                        .iter()
                        .position(|def| def.column.name.eq_ignore_ascii_case(&name.value));
                    columns.push(at.ok_or_else(|| {
                        SqlError::mssql(
                            1911,
                            format!(
                                "Column name '{}' does not exist in the target table or view.",
                                name.value
                            ),
                        )
                    })?);
                    descending.push(false);
                }
                _ => {}
            }
        }
        let key = Unique {
            name: names.last().cloned().unwrap_or_default(),
            primary: false,
            clustered: words.iter().any(|word| word == "CLUSTERED"),
            unique: words.iter().any(|word| word == "UNIQUE"),
            constraint: false,
            columns,
            descending,
        };
        self.add_key(&table, key).map(|_| ())
    }

    /// CREATE DATABASE x ON (NAME = f, FILENAME = 'p') AS SNAPSHOT OF y.
    fn create_snapshot(&mut self, name: &str, words: &[String], of: &[Token]) -> Result<String, SqlError> {
        let (parts, _) = self.name_at(of);
        let Some(source) = parts.last() else { return Err(unsupported(self.dialect(), "AS SNAPSHOT OF")) };
        let state = self.db.state();
        let Some(info) = state.databases.get(&fold(self.dialect(), source)) else {
            return Err(SqlError::mssql(
                911,
                format!("Database '{source}' does not exist. Make sure that the name is entered correctly."),
            ));
        };
        if info.snapshot_of.is_some() {
            return Err(SqlError::mssql(
                1829,
                format!(
                    "A database snapshot cannot be created of the database snapshot '{source}' (stand-in)."
                ),
            ));
        }
        if !words.iter().any(|word| word == "FILENAME") {
            return Err(SqlError::mssql(
                5127,
                format!(
                    "All files must be specified for database snapshot creation. Missing the file \"{source}\"."
                ),
            ));
        }
        if self.db.checks_permissions()
            && !state.grants.administrators.contains(&self.identity.user)
            && !state.grants.allow(&self.identity.user, &["CREATE DATABASE", "CREATE ANY DATABASE"], "master")
        {
            return Err(SqlError::mssql(262, "CREATE DATABASE permission denied in database 'master'.")
                .with_class(14));
        }
        self.db.snapshot_database(name, source);
        Ok(String::new())
    }

    fn drop_words(&mut self, tokens: &[Token]) -> Result<(), SqlError> {
        let kind = word(tokens.get(1));
        let if_exists = word(tokens.get(2)) == "IF";
        let (parts, _) = self.name_at(&tokens[if if_exists { 4 } else { 2 }.min(tokens.len())..]);
        let Some(name) = parts.last() else { return Err(unsupported(self.dialect(), text(tokens))) };
        let dialect = self.dialect();
        let database = fold(
            dialect,
            if kind == "SCHEMA" && parts.len() > 1 {
                &parts[0]
            } else {
                self.identity.database.as_deref().unwrap_or("")
            },
        );
        let name = fold(dialect, name);
        if kind == "DATABASE" && dialect == Dialect::SqlServer {
            let state = self.db.state();
            let id = state.databases.get(&name).map(|info| info.id);
            if let Some(snapshot) =
                state.databases.values().find(|info| info.snapshot_of.is_some() && info.snapshot_of == id)
            {
                return Err(SqlError::mssql(
                    3709,
                    format!(
                        "Cannot drop the database while the database snapshot \"{}\" refers to it. Drop that database first.",
                        snapshot.name
                    ),
                ));
            }
        }
        let gone = self.db.change(|state| {
            let doomed = |key: &crate::state::Key| {
                if kind == "DATABASE" { key.0 == name } else { key.0 == database && key.1 == name }
            };
            let ids: Vec<_> =
                state.objects.iter().filter(|(key, _)| doomed(key)).map(|(_, object)| object.id()).collect();
            if kind == "SCHEMA" && dialect == Dialect::SqlServer && !ids.is_empty() {
                return Err(SqlError::mssql(
                    3729,
                    format!("Cannot drop schema '{name}' because it is being referenced by an object."),
                ));
            }
            state.objects.retain(|key, _| !doomed(key));
            for id in ids {
                state.tables.remove(&id);
            }
            if kind == "DATABASE" {
                state.schemas.retain(|(in_database, _), _| *in_database != name);
                Ok(state.databases.remove(&name).is_some())
            } else {
                Ok(state.schemas.remove(&(database.clone(), name.clone())).is_some())
            }
        })?;
        if gone || if_exists {
            return Ok(());
        }
        Err(match dialect {
            Dialect::SqlServer => SqlError::mssql(
                3701,
                format!(
                    "Cannot drop the {} '{name}', because it does not exist or you do not have permission.",
                    kind.to_lowercase()
                ),
            )
            .with_class(11),
            Dialect::Snowflake => SqlError::snowflake(
                2_003,
                "02000",
                format!("SQL compilation error:\n{kind} '{name}' does not exist or not authorized."),
            ),
        })
    }

    /// ALTER DATABASE x SET `ALLOW_SNAPSHOT_ISOLATION` ON, and options without effect here.
    fn alter_database(&mut self, tokens: &[Token]) -> Result<(), SqlError> {
        let words: Vec<String> = tokens.iter().map(|token| word(Some(token))).collect();
        let Some(at) = words.iter().position(|word| word == "ALLOW_SNAPSHOT_ISOLATION") else {
            return Ok(());
        };
        let on = words.get(at + 1).is_some_and(|word| word == "ON");
        let (parts, _) = self.name_at(&tokens[2..]);
        let named = parts.last().cloned().unwrap_or_default();
        let name = if named.eq_ignore_ascii_case("current") {
            self.identity.database.clone().unwrap_or_default()
        } else {
            named
        };
        let key = fold(self.dialect(), &name);
        self.db.change(|state| {
            if let Some(info) = state.databases.get_mut(&key) {
                info.allow_snapshot = on;
            }
        });
        Ok(())
    }

    fn grant_words(&mut self, tokens: &[Token]) -> Result<(), SqlError> {
        for (grantee, privilege, object) in self.grant_parts(tokens)? {
            if privilege == "ROLE" {
                self.db.change(|state| {
                    state.grants.members.insert((object.clone(), grantee.clone()));
                });
            } else {
                self.db.grant(&grantee, &privilege, &object);
            }
        }
        Ok(())
    }

    fn deny_words(&mut self, tokens: &[Token]) -> Result<(), SqlError> {
        for (grantee, privilege, object) in self.grant_parts(tokens)? {
            self.db.change(|state| {
                state.grants.denied.insert(crate::grants::Grant {
                    grantee: grantee.clone(),
                    privilege: privilege.clone(),
                    object: object.clone(),
                });
            });
        }
        Ok(())
    }

    fn revoke_words(&mut self, tokens: &[Token]) -> Result<(), SqlError> {
        for (grantee, privilege, object) in self.grant_parts(tokens)? {
            let other = |grant: &crate::grants::Grant| {
                !(grant.grantee == grantee
                    && grant.object == object
                    && (grant.privilege == privilege || privilege == "ALL"))
            };
            self.db.change(|state| {
                state.grants.all.retain(other);
                state.grants.denied.retain(other);
            });
        }
        Ok(())
    }

    /// Who gets what on which object.
    fn grant_parts(&self, tokens: &[Token]) -> Result<Vec<(String, String, String)>, SqlError> {
        let words: Vec<String> = tokens.iter().map(|token| word(Some(token))).collect();
        let refused = || unsupported(self.dialect(), text(tokens));
        let to = words.iter().rposition(|word| word == "TO" || word == "FROM").ok_or_else(refused)?;
        let skip = usize::from(matches!(words.get(to + 1).map(String::as_str), Some("ROLE" | "USER")));
        let (grantee, _) = self.name_at(&tokens[to + 1 + skip..]);
        let grantee = grantee.last().cloned().ok_or_else(refused)?;
        if words.get(1).is_some_and(|word| word == "ROLE") {
            let (role, _) = self.name_at(&tokens[2..]);
            return Ok(vec![(grantee, "ROLE".to_owned(), role.last().cloned().unwrap_or_default())]);
        }
        let on = words.iter().position(|word| word == "ON");
        let listed = &tokens[1..on.unwrap_or(to)];
        let mut privileges: Vec<String> = vec![String::new()];
        for token in listed {
            if *token == Token::Comma {
                privileges.push(String::new());
            } else if let Some(last) = privileges.last_mut() {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(&word(Some(token)));
            }
        }
        for privilege in &mut privileges {
            *privilege = privilege.trim_end_matches(" PRIVILEGES").to_owned();
        }
        let database = self.identity.database.clone().unwrap_or_default();
        let object = match on {
            None => format!("{database}.*"),
            Some(on) => {
                let mut at = on + 1;
                let mut every = false;
                while matches!(
                    words.get(at).map(String::as_str),
                    Some(
                        "ALL" | "FUTURE" | "TABLES" | "VIEWS" | "IN" | "OBJECT" | "TABLE" | "VIEW" | "STAGES"
                    )
                ) || tokens.get(at) == Some(&Token::DoubleColon)
                {
                    every |= matches!(words[at].as_str(), "ALL" | "FUTURE");
                    at += 1;
                }
                let kind = words.get(at).cloned().unwrap_or_default();
                let scoped = matches!(
                    kind.as_str(),
                    "SCHEMA" | "DATABASE" | "WAREHOUSE" | "STAGE" | "INTEGRATION" | "ACCOUNT"
                );
                at += usize::from(scoped);
                if tokens.get(at) == Some(&Token::DoubleColon) {
                    at += 1;
                }
                let (parts, _) = self.name_at(&tokens[at..to]);
                match (kind.as_str(), every) {
                    ("DATABASE", true) => format!("{}.*", parts.join(".")),
                    ("DATABASE" | "WAREHOUSE" | "INTEGRATION" | "ACCOUNT", _) => parts.join("."),
                    ("SCHEMA", _) => {
                        let full = if parts.len() > 1 {
                            parts.join(".")
                        } else {
                            format!("{database}.{}", parts.join("."))
                        };
                        if every || !self.is_snowflake() { format!("{full}.*") } else { full }
                    }
                    _ => crate::bind::complete(&self.db, &self.identity, self.id, &self.db.state(), &parts)?
                        .to_string(),
                }
            }
        };
        Ok(privileges.into_iter().map(|privilege| (grantee.clone(), privilege, object.clone())).collect())
    }
}
