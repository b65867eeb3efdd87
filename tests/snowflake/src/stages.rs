//! Stages and file formats: names, locations, and the master keys that PUT handed out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use keyferry_sql::Identity;

use crate::{
    copy::Options,
    crypt::KeyName,
    lexer::{Kind, Token},
    objects::{Object, ObjectStore, random_text},
    reply::Refusal,
    session::lock,
};

/// One internal stage.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Folder of the stage in the bucket, under `stages/`.
    pub(crate) id: String,
    /// `DB.SCHEMA.NAME`, `~USER` or `%DB.SCHEMA.TABLE`.
    pub(crate) name: String,
    /// What LIST and COPY put before a file's path: the name in lower case, or nothing.
    pub(crate) shown: String,
    /// The role that made it; others need a grant. `None`: everybody who may see it.
    owner: Option<String>,
    /// Roles that were granted it.
    granted: Mutex<Vec<String>>,
    /// The session whose end drops it.
    temporary: Option<u64>,
    /// `FILE_FORMAT = (…)` of its creation.
    pub(crate) format: Options,
}

impl Stage {
    /// The key of a path in this stage.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("stages/{}/{path}", self.id)
    }

    /// The name of a key as LIST and COPY show it.
    pub(crate) fn shown_name(&self, key: &str) -> String {
        let path = key.strip_prefix(&self.key("")).unwrap_or(key);
        if self.shown.is_empty() { path.to_owned() } else { format!("{}/{path}", self.shown) }
    }

    fn allows(&self, role: Option<&str>, admins: &[String]) -> bool {
        let Some(owner) = &self.owner else { return true };
        let Some(role) = role else { return true };
        role.eq_ignore_ascii_case(owner)
            || admins.iter().any(|admin| admin.eq_ignore_ascii_case(role))
            || lock(&self.granted).iter().any(|granted| granted.eq_ignore_ascii_case(role))
    }
}

/// A stage and a path in it.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) stage: Arc<Stage>,
    pub(crate) path: String,
}

impl Location {
    /// Files of this location in the order of their names, with the name that COPY shows.
    pub(crate) fn files(&self, objects: &ObjectStore) -> Vec<(String, String, Arc<Object>)> {
        objects
            .list(&self.stage.key(&self.path))
            .into_iter()
            .map(|(key, object)| (self.stage.shown_name(&key), key, object))
            .collect()
    }
}

/// All stages, file formats and master keys.
#[derive(Default)]
pub(crate) struct Stages {
    by_name: Mutex<HashMap<String, Arc<Stage>>>,
    formats: Mutex<HashMap<String, Options>>,
    keys: Mutex<HashMap<(String, String, String), HandedOut>>,
}

/// The master key of one PUT.
struct HandedOut {
    key: Vec<u8>,
    digest_counts: bool,
}

/// How a stage is made.
pub(crate) struct NewStage {
    pub(crate) name: String,
    pub(crate) owner: Option<String>,
    pub(crate) temporary: Option<u64>,
    pub(crate) format: Options,
    pub(crate) replace: bool,
    pub(crate) if_not_exists: bool,
}

impl Stages {
    /// CREATE STAGE; the sentence that it answers comes back.
    pub(crate) fn create(&self, new: NewStage) -> Result<String, Refusal> {
        let mut stages = lock(&self.by_name);
        let short = last_part(&new.name).to_owned();
        if stages.contains_key(&new.name) && !new.replace {
            if new.if_not_exists {
                return Ok(format!("{short} already exists, statement succeeded."));
            }
            return Err(Refusal::new(
                "002002",
                "42710",
                format!("SQL compilation error:\nObject '{}' already exists.", new.name),
            ));
        }
        let stage = Stage {
            id: stage_id(),
            shown: short.to_lowercase(),
            name: new.name.clone(),
            owner: new.owner,
            granted: Mutex::default(),
            temporary: new.temporary,
            format: new.format,
        };
        stages.insert(new.name, Arc::new(stage));
        Ok(format!("Stage area {short} successfully created."))
    }

    /// DROP STAGE; its files go with it.
    pub(crate) fn drop_stage(
        &self,
        name: &str,
        if_exists: bool,
        objects: &ObjectStore,
    ) -> Result<String, Refusal> {
        let short = last_part(name);
        match lock(&self.by_name).remove(name) {
            Some(stage) => {
                for (key, _) in objects.list(&stage.key("")) {
                    objects.remove(&key);
                }
                Ok(format!("{short} successfully dropped."))
            }
            None if if_exists => {
                Ok(format!("Drop statement executed successfully ({short} already dropped)."))
            }
            None => Err(Refusal::not_found("Stage", name)),
        }
    }

    /// The end of a session drops its temporary stages.
    pub(crate) fn drop_temporary(&self, session: u64) {
        lock(&self.by_name).retain(|_, stage| stage.temporary != Some(session));
    }

    /// GRANT … ON STAGE … TO ROLE ….
    pub(crate) fn grant(&self, name: &str, role: &str) -> Result<(), Refusal> {
        let stages = lock(&self.by_name);
        let stage = stages.get(name).ok_or_else(|| Refusal::not_found("Stage", name))?;
        lock(&stage.granted).push(role.to_uppercase());
        Ok(())
    }

    /// Names of all stages that were created, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            lock(&self.by_name).keys().filter(|name| !is_implicit(name)).cloned().collect();
        names.sort();
        names
    }

    /// The stage and path that `@…` names. User and table stages come into being when they are first named.
    pub(crate) fn resolve(
        &self,
        location: &str,
        identity: &Identity,
        admins: &[String],
    ) -> Result<Location, Refusal> {
        let (reference, path) = split_location(location)?;
        let name = match reference.as_str() {
            "~" => format!("~{}", identity.user),
            table if table.contains('%') => format!("%{}", qualify(&table.replacen('%', "", 1), identity)?),
            named => qualify(named, identity)?,
        };
        let mut stages = lock(&self.by_name);
        let stage = match stages.get(&name) {
            Some(stage) => Arc::clone(stage),
            None if is_implicit(&name) => {
                let stage = Arc::new(Stage {
                    id: stage_id(),
                    shown: String::new(),
                    name: name.clone(),
                    owner: None,
                    granted: Mutex::default(),
                    temporary: None,
                    format: Options::default(),
                });
                stages.insert(name, Arc::clone(&stage));
                stage
            }
            None => return Err(Refusal::not_found("Stage", &name)),
        };
        if !stage.allows(identity.role.as_deref(), admins) {
            return Err(Refusal::not_found("Stage", &stage.name));
        }
        Ok(Location { stage, path })
    }

    /// Makes and remembers the master key of one PUT, and whether the driver's digest is one of the file.
    pub(crate) fn new_key(&self, stage: &str, name: &KeyName, length: usize, digest_counts: bool) -> Vec<u8> {
        let mut key = Vec::with_capacity(32);
        while key.len() < length {
            // Two random identifiers: 244 random bits for at most 256, which a test key may be.
            key.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        key.truncate(length);
        let id = key_id(stage, name);
        lock(&self.keys).insert(id, HandedOut { key: key.clone(), digest_counts });
        key
    }

    /// The master key of this name, if it belongs to this stage.
    pub(crate) fn master_key(&self, stage: &str, name: &KeyName) -> Option<Vec<u8>> {
        lock(&self.keys).get(&key_id(stage, name)).map(|handed| handed.key.clone())
    }

    /// Whether files under this key have a digest that must be theirs.
    pub(crate) fn digest_counts(&self, stage: &str, name: &KeyName) -> bool {
        lock(&self.keys).get(&key_id(stage, name)).is_none_or(|handed| handed.digest_counts)
    }

    /// CREATE FILE FORMAT.
    pub(crate) fn set_format(&self, name: &str, format: Options) {
        lock(&self.formats).insert(name.to_owned(), format);
    }

    /// DROP FILE FORMAT; whether there was one.
    pub(crate) fn drop_format(&self, name: &str) -> bool {
        lock(&self.formats).remove(name).is_some()
    }

    /// A file format by name.
    pub(crate) fn format(&self, name: &str) -> Result<Options, Refusal> {
        lock(&self.formats).get(name).cloned().ok_or_else(|| Refusal::not_found("File format", name))
    }
}

fn key_id(stage: &str, name: &KeyName) -> (String, String, String) {
    (stage.to_owned(), name.smk_id.clone(), name.query_id.clone())
}

/// Folders look like the real ones; nothing follows from their form.
fn stage_id() -> String {
    random_text(32)
}

fn is_implicit(name: &str) -> bool {
    name.starts_with(['~', '%'])
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// `@"A"."B".c/path/x` → (`"A"."B".c`, `path/x`); quotes around the whole are gone already.
fn split_location(location: &str) -> Result<(String, String), Refusal> {
    let body = location.strip_prefix('@').ok_or_else(|| {
        Refusal::syntax(format!("invalid stage location '{location}': it must begin with '@'."))
    })?;
    let mut quoted = false;
    let slash = body.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == '/' && !quoted
    });
    let (reference, path) = slash.map_or((body, ""), |(at, _)| (&body[..at], &body[at + 1..]));
    if reference.is_empty() {
        return Err(Refusal::syntax(format!("invalid stage location '{location}': it names no stage.")));
    }
    Ok((reference.to_owned(), path.trim_start_matches('/').to_owned()))
}

/// A name with one to three parts → `DB.SCHEMA.NAME`, unquoted parts in upper case.
pub(crate) fn qualify(name: &str, identity: &Identity) -> Result<String, Refusal> {
    let parts: Vec<Token<'_>> =
        crate::lexer::tokens(name).into_iter().filter(|token| !token.is(".")).collect();
    let words = parts.iter().all(|token| matches!(token.kind, Kind::Word | Kind::Quoted | Kind::Number));
    let mut values: Vec<String> = parts.iter().map(Token::value).collect();
    if !words || values.is_empty() || values.len() > 3 {
        return Err(Refusal::syntax(format!("invalid identifier '{name}'")));
    }
    let missing = |what: &str| {
        Refusal::new(
            "090105",
            "22000",
            format!(
                "Cannot perform operation. This session does not have a current {what}. Call 'USE {}', or use a qualified name.",
                what.to_uppercase()
            ),
        )
    };
    if values.len() == 1 {
        values.insert(0, identity.schema.clone().ok_or_else(|| missing("schema"))?);
    }
    if values.len() == 2 {
        values.insert(0, identity.database.clone().ok_or_else(|| missing("database"))?);
    }
    Ok(values.join("."))
}

/// Stage properties as `SHOW STAGES` lists them: database, schema, name.
pub(crate) fn parts_of(name: &str) -> BTreeMap<&'static str, String> {
    let mut parts = name.splitn(3, '.').map(str::to_owned);
    ["database_name", "schema_name", "name"]
        .into_iter()
        .map(|label| (label, parts.next().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified_by_the_session() {
        let identity = Identity {
            database: Some("RAW".into()),
            schema: Some("SALES".into()),
            user: "U".into(),
            ..Identity::default()
        };
        assert_eq!(qualify("st", &identity).unwrap(), "RAW.SALES.ST");
        assert_eq!(qualify("\"a b\".\"St\"", &identity).unwrap(), "RAW.a b.St");
        assert_eq!(qualify("st", &Identity::default()).unwrap_err().code, "090105");
        assert_eq!(split_location("@\"a/b\".st//p/q").unwrap(), ("\"a/b\".st".into(), "p/q".into()));
        assert_eq!(split_location("st/p").unwrap_err().code, "001003");
    }
}
