//! Snowflake's SHOW and DESCRIBE.

use std::sync::Arc;

use sqlparser::tokenizer::Token;

use crate::{
    bind::{Binder, unsupported},
    catalog::{Sheet, number, text, time},
    error::SqlError,
    functions::text::like,
    locks::{Mode, Resource},
    outcome::{Outcome, ResultSet, Rows},
    session::{
        Session,
        access::{self, word},
    },
    state::Object,
    value::Value,
};

impl Session {
    pub(super) fn show(&self, tokens: &[Token]) -> Result<Outcome, SqlError> {
        let words: Vec<String> = tokens.iter().map(|token| word(Some(token))).collect();
        let describe = words[0] != "SHOW";
        let mut at = 1;
        while matches!(words.get(at).map(String::as_str), Some("TERSE" | "TEMPORARY" | "TABLE" | "VIEW") if describe || words[at] == "TERSE")
        {
            at += 1;
        }
        let pattern =
            words.iter().position(|word| word == "LIKE").and_then(|like| match tokens.get(like + 1) {
                Some(Token::SingleQuotedString(pattern)) => Some(pattern.clone()),
                _ => None,
            });
        let matches =
            |name: &str| pattern.as_ref().is_none_or(|pattern| like(name, pattern, None, None, true));
        if describe {
            let (parts, _) = self.name_at(&tokens[at..]);
            return self.describe_table(&parts).map(rows);
        }
        let kind = words.get(at).cloned().unwrap_or_default();
        let scope = words.iter().position(|word| word == "IN").map(|place| {
            let mut place = place + 1;
            while matches!(
                words.get(place).map(String::as_str),
                Some("SCHEMA" | "DATABASE" | "ACCOUNT" | "TABLE")
            ) {
                place += 1;
            }
            (
                words.get(place - 1).cloned().unwrap_or_default(),
                self.name_at(&tokens[place.min(tokens.len())..]).0,
            )
        });
        let state = self.db.state();
        let inside = |database: &str, schema: &str| match &scope {
            None => {
                self.identity.database.as_deref() == Some(database)
                    && self.identity.schema.as_deref() == Some(schema)
            }
            Some((kind, _)) if kind == "ACCOUNT" => true,
            Some((kind, parts)) if kind == "DATABASE" => parts.last().is_none_or(|name| name == database),
            Some((_, parts)) => match parts.as_slice() {
                [] => self.identity.database.as_deref() == Some(database),
                [name] => name == schema && self.identity.database.as_deref() == Some(database),
                [.., first, second] => first == database && second == schema,
            },
        };
        let visible = |object: &Object| {
            crate::access::authorize(
                &self.db,
                &self.identity,
                &state,
                object,
                &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"],
            )
            .is_ok()
        };
        let sheet = match kind.as_str() {
            "TABLES" | "OBJECTS" | "VIEWS" => {
                let mut sheet = Sheet::new(&[
                    time("created_on"),
                    text("name"),
                    text("database_name"),
                    text("schema_name"),
                    text("kind"),
                    text("comment"),
                    text("cluster_by"),
                    number("rows"),
                    number("bytes"),
                    text("owner"),
                    text("retention_time"),
                    text("owner_role_type"),
                    text("is_hybrid"),
                    text("is_dynamic"),
                    text("is_iceberg"),
                ]);
                for object in state.objects.values() {
                    let name = object.name();
                    let temporary = name.schema.contains('#');
                    let schema = name.schema.split('#').next().unwrap_or_default();
                    let own = !temporary || name.schema.ends_with(&format!("#{}", self.id));
                    if !own || !inside(&name.database, schema) || !matches(&name.name) || !visible(object) {
                        continue;
                    }
                    let (label, count, created) = match object {
                        Object::Table(table) if kind != "VIEWS" => {
                            let label = if table.temporary {
                                "TEMPORARY"
                            } else if table.transient && kind == "TABLES" {
                                "TRANSIENT"
                            } else {
                                "TABLE"
                            };
                            (
                                label,
                                state.tables.get(&table.id).map_or(0, |version| version.rows),
                                table.created,
                            )
                        }
                        Object::View(view) if kind != "TABLES" => ("VIEW", 0, view.created),
                        _ => continue,
                    };
                    sheet.push(vec![
                        instant(created),
                        Value::text(&name.name),
                        Value::text(&name.database),
                        Value::text(schema),
                        Value::text(label),
                        Value::text(""),
                        Value::text(""),
                        Value::number(i128::from(count)),
                        Value::number(i128::from(count) * 64),
                        Value::text(object.owner().unwrap_or("ACCOUNTADMIN")),
                        Value::text("1"),
                        Value::text("ROLE"),
                        Value::text("N"),
                        Value::text("N"),
                        Value::text("N"),
                    ]);
                }
                sheet
            }
            "COLUMNS" => {
                let mut sheet = Sheet::new(&[
                    text("table_name"),
                    text("schema_name"),
                    text("column_name"),
                    text("data_type"),
                    text("null?"),
                    text("default"),
                    text("kind"),
                    text("expression"),
                    text("comment"),
                    text("database_name"),
                    text("autoincrement"),
                ]);
                let wanted = match &scope {
                    Some((kind, _)) if matches!(kind.as_str(), "SCHEMA" | "DATABASE" | "ACCOUNT") => None,
                    Some((_, parts)) => {
                        Some(crate::bind::complete(&self.db, &self.identity, self.id, &state, parts)?)
                    }
                    None => None,
                };
                for object in state.objects.values() {
                    let Object::Table(table) = object else { continue };
                    let here = wanted.as_ref().map_or_else(
                        || inside(&table.name.database, &table.name.schema),
                        |name| *name == table.name,
                    );
                    if !here || !visible(object) {
                        continue;
                    }
                    for def in table.columns.iter().filter(|def| matches(&def.column.name)) {
                        sheet.push(vec![
                            Value::text(&table.name.name),
                            Value::text(&table.name.schema),
                            Value::text(&def.column.name),
                            Value::text(crate::catalog::snowflake::type_json(
                                &def.column.ty,
                                def.column.nullable,
                            )),
                            Value::text(def.column.nullable.to_string()),
                            Value::text(def.default.as_deref().unwrap_or_default()),
                            Value::text("COLUMN"),
                            Value::text(""),
                            Value::text(""),
                            Value::text(&table.name.database),
                            Value::text(""),
                        ]);
                    }
                }
                sheet
            }
            "DATABASES" => {
                let mut sheet = Sheet::new(&[
                    time("created_on"),
                    text("name"),
                    text("is_default"),
                    text("is_current"),
                    text("owner"),
                    text("comment"),
                ]);
                for info in state.databases.values().filter(|info| matches(&info.name)) {
                    let current = if self.identity.database.as_ref() == Some(&info.name) { "Y" } else { "N" };
                    sheet.push(vec![
                        instant(info.created),
                        Value::text(&info.name),
                        Value::text("N"),
                        Value::text(current),
                        Value::text("ACCOUNTADMIN"),
                        Value::text(""),
                    ]);
                }
                sheet
            }
            "SCHEMAS" => {
                let mut sheet = Sheet::new(&[
                    time("created_on"),
                    text("name"),
                    text("is_default"),
                    text("is_current"),
                    text("database_name"),
                    text("owner"),
                ]);
                for info in state.schemas.values().filter(|info| matches(&info.name)) {
                    let here = scope
                        .as_ref()
                        .map_or(self.identity.database.as_ref() == Some(&info.database), |(_, parts)| {
                            parts.last().is_none_or(|name| *name == info.database)
                        });
                    if here {
                        sheet.push(vec![
                            instant(info.created),
                            Value::text(&info.name),
                            Value::text("N"),
                            Value::text("N"),
                            Value::text(&info.database),
                            Value::text(info.owner.as_deref().unwrap_or("ACCOUNTADMIN")),
                        ]);
                    }
                }
                sheet
            }
            "TRANSACTIONS" => {
                let mut sheet = Sheet::new(&[
                    number("id"),
                    text("user"),
                    number("session"),
                    text("name"),
                    time("started_on"),
                    text("state"),
                    text("scope"),
                ]);
                for open in self.db.transactions() {
                    if open.user == self.identity.user || words.iter().any(|word| word == "ACCOUNT") {
                        sheet.push(vec![
                            Value::number(i128::from(open.id)),
                            Value::text(&open.user),
                            Value::number(i128::from(open.session)),
                            Value::text(&open.name),
                            instant(open.started),
                            Value::text("running"),
                            Value::number(0),
                        ]);
                    }
                }
                sheet
            }
            "LOCKS" => {
                let mut sheet = Sheet::new(&[
                    text("resource"),
                    text("type"),
                    number("transaction"),
                    time("transaction_started_on"),
                    text("status"),
                    time("acquired_on"),
                    text("query_id"),
                    number("session"),
                ]);
                let open = self.db.transactions();
                for lock in self.db.locks.rows() {
                    let Resource::Table(id) = lock.resource else { continue };
                    let Some(transaction) = open.iter().find(|open| open.id == lock.transaction) else {
                        continue;
                    };
                    if lock.mode != Mode::Exclusive
                        || (transaction.user != self.identity.user
                            && !words.iter().any(|word| word == "ACCOUNT"))
                    {
                        continue;
                    }
                    let name = state
                        .objects
                        .values()
                        .find(|object| object.id() == id)
                        .map(|object| object.name().to_string());
                    sheet.push(vec![
                        Value::text(name.unwrap_or_default()),
                        Value::text("PARTITIONS"),
                        Value::number(i128::from(lock.transaction)),
                        instant(transaction.started),
                        Value::text(if lock.granted { "HOLDING" } else { "WAITING" }),
                        if lock.granted { instant(transaction.started) } else { Value::Null },
                        Value::text(""),
                        Value::number(i128::from(transaction.session)),
                    ]);
                }
                sheet
            }
            "PARAMETERS" => {
                let mut sheet = Sheet::new(&[
                    text("key"),
                    text("value"),
                    text("default"),
                    text("level"),
                    text("description"),
                    text("type"),
                ]);
                let mut all: std::collections::BTreeMap<String, String> = [
                    ("AUTOCOMMIT", "true"),
                    ("LOCK_TIMEOUT", "43200"),
                    ("TRANSACTION_ABORT_ON_ERROR", "false"),
                    ("TIMEZONE", "UTC"),
                    ("ABORT_DETACHED_QUERY", "false"),
                    ("QUERY_TAG", ""),
                    ("READ_CONSISTENCY_MODE", "SESSION"),
                    ("BINARY_OUTPUT_FORMAT", "HEX"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
                all.extend(self.options.parameters.clone());
                for (name, value) in all.into_iter().filter(|(name, _)| matches(name)) {
                    let level = if self.options.parameters.contains_key(&name) { "SESSION" } else { "" };
                    sheet.push(vec![
                        Value::text(&name),
                        Value::text(&value),
                        Value::text(""),
                        Value::text(level),
                        Value::text(""),
                        Value::text("STRING"),
                    ]);
                }
                sheet
            }
            "GRANTS" => {
                let mut sheet = Sheet::new(&[
                    time("created_on"),
                    text("privilege"),
                    text("granted_on"),
                    text("name"),
                    text("granted_to"),
                    text("grantee_name"),
                    text("grant_option"),
                    text("granted_by"),
                ]);
                let on_object = words.iter().any(|word| word == "ON");
                let place = words
                    .iter()
                    .rposition(|word| matches!(word.as_str(), "ON" | "TO"))
                    .map_or(at + 1, |place| place + 2);
                let (parts, _) = self.name_at(&tokens[place.min(tokens.len())..]);
                let wanted = if on_object {
                    crate::bind::complete(&self.db, &self.identity, self.id, &state, &parts)?.to_string()
                } else {
                    parts.join(".")
                };
                for grant in &state.grants.all {
                    if (on_object && grant.object == wanted) || (!on_object && grant.grantee == wanted) {
                        sheet.push(vec![
                            instant((0, 0)),
                            Value::text(&grant.privilege),
                            Value::text("TABLE"),
                            Value::text(&grant.object),
                            Value::text("ROLE"),
                            Value::text(&grant.grantee),
                            Value::text("false"),
                            Value::text("ACCOUNTADMIN"),
                        ]);
                    }
                }
                if on_object
                    && let Some(object) =
                        state.objects.values().find(|object| object.name().to_string() == wanted)
                {
                    sheet.push(vec![
                        instant((0, 0)),
                        Value::text("OWNERSHIP"),
                        Value::text("TABLE"),
                        Value::text(&wanted),
                        Value::text("ROLE"),
                        Value::text(object.owner().unwrap_or("ACCOUNTADMIN")),
                        Value::text("true"),
                        Value::text("ACCOUNTADMIN"),
                    ]);
                }
                sheet
            }
            "WAREHOUSES" => {
                let mut sheet = Sheet::new(&[text("name"), text("state"), text("type"), text("size")]);
                if let Some(name) = &self.identity.warehouse {
                    sheet.push(vec![
                        Value::text(name),
                        Value::text("STARTED"),
                        Value::text("STANDARD"),
                        Value::text("X-Small"),
                    ]);
                }
                sheet
            }
            _ => return Err(unsupported(self.dialect(), access::text(tokens))),
        };
        Ok(rows(page(sheet, tokens, &words)))
    }

    fn describe_table(&self, parts: &[String]) -> Result<Sheet, SqlError> {
        let state = self.db.state();
        let name = crate::bind::complete(&self.db, &self.identity, self.id, &state, parts)?;
        let (columns, keys) = match state.objects.get(&name.key(self.dialect())) {
            Some(object @ Object::View(_)) => {
                let deltas = self.deltas();
                let env = self.env(Arc::clone(&state), &deltas);
                (crate::catalog::snowflake::columns_of(&Binder::new(&env), object), Vec::new())
            }
            _ => {
                let table = self.table(&state, parts)?;
                (table.columns.clone(), table.keys.clone())
            }
        };
        let mut sheet = Sheet::new(&[
            text("name"),
            text("type"),
            text("kind"),
            text("null?"),
            text("default"),
            text("primary key"),
            text("unique key"),
            text("check"),
            text("expression"),
            text("comment"),
            text("policy name"),
        ]);
        for (at, def) in columns.iter().enumerate() {
            let keyed = |primary: bool| {
                if keys.iter().any(|key| key.primary == primary && key.columns.contains(&at)) {
                    "Y"
                } else {
                    "N"
                }
            };
            sheet.push(vec![
                Value::text(&def.column.name),
                Value::text(def.column.ty.to_string()),
                Value::text("COLUMN"),
                Value::text(if def.column.nullable { "Y" } else { "N" }),
                def.default.as_ref().map_or(Value::Null, Value::text),
                Value::text(keyed(true)),
                Value::text(keyed(false)),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
            ]);
        }
        Ok(sheet)
    }
}

/// `STARTS WITH 'x'` and `LIMIT n FROM 'x'`, for what has names.
fn page(mut sheet: Sheet, tokens: &[Token], words: &[String]) -> Sheet {
    let Some(column) = sheet.columns.iter().position(|column| column.name == "name") else { return sheet };
    let quoted = |at: usize| match tokens.get(at) {
        Some(Token::SingleQuotedString(text)) => Some(text.clone()),
        _ => None,
    };
    let name = |row: &[Value]| match row.get(column) {
        Some(Value::Text(text)) => text.lossy().into_owned(),
        _ => String::new(),
    };
    if let Some(prefix) =
        words.windows(2).position(|two| two == ["STARTS", "WITH"]).and_then(|at| quoted(at + 2))
    {
        sheet.rows.retain(|row| name(row).starts_with(&prefix));
    }
    let Some(limit) = words.iter().rposition(|word| word == "LIMIT") else { return sheet };
    if words.get(limit + 2).is_some_and(|word| word == "FROM")
        && let Some(from) = quoted(limit + 3)
    {
        // The page begins behind the first name that matches.
        let first = sheet.rows.iter().position(|row| name(row).starts_with(&from));
        sheet.rows.drain(..first.map_or(sheet.rows.len(), |first| first + 1));
    }
    if let Some(Token::Number(most, _)) = tokens.get(limit + 1) {
        sheet.rows.truncate(most.parse().unwrap_or(usize::MAX));
    }
    sheet
}

fn instant((days, ns): (i32, u64)) -> Value {
    Value::DateTimeOffset { days, ns, minutes: 0 }
}

fn rows(sheet: Sheet) -> Outcome {
    Outcome::Rows(ResultSet { columns: sheet.columns, rows: Rows::from_vec(sheet.rows) })
}
