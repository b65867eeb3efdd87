//! Which statements are the stand-in's own, and the small ones among them.

use keyferry_sql::{Column, DataType, Row, Value};
use serde_json::Value as Json;

use crate::{
    copy::{self, options},
    lexer::{Kind, Token, quote_text, tokens},
    query::Run,
    reply::Refusal,
    stages::{NewStage, parts_of, qualify},
    transfer,
};

/// What a statement of the stand-in's own answers.
pub(crate) enum Answer {
    /// A small result set.
    Table(Vec<Column>, Vec<Row>),
    /// The reply to PUT or GET: members of `data`.
    Transfer(Json),
}

/// The kind of a statement, told by its first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// The evaluator's.
    Sql,
    Put,
    Get,
    List,
    Remove,
    Copy,
    CreateStage,
    DropStage,
    ShowStages,
    GrantStage,
    CreateFormat,
    DropFormat,
}

/// Tells whose statement this is.
pub(crate) fn kind(all: &[Token<'_>]) -> Kinds {
    let words: Vec<String> = all
        .iter()
        .take(8)
        .map_while(|token| (token.kind == Kind::Word).then(|| token.text.to_uppercase()))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mentions = |word: &str| all.iter().any(|token| token.is(word));
    match words.as_slice() {
        ["PUT", ..] => Kinds::Put,
        ["GET", ..] => Kinds::Get,
        ["LIST" | "LS", ..] => Kinds::List,
        ["REMOVE" | "RM", ..] => Kinds::Remove,
        ["COPY", "INTO", ..] => Kinds::Copy,
        ["SHOW", "STAGES", ..] => Kinds::ShowStages,
        ["DROP", "STAGE", ..] => Kinds::DropStage,
        ["DROP", "FILE", "FORMAT", ..] => Kinds::DropFormat,
        ["GRANT", ..] if mentions("STAGE") => Kinds::GrantStage,
        ["CREATE", rest @ ..] => {
            let skipped = ["OR", "REPLACE", "TEMP", "TEMPORARY", "SCOPED"];
            match rest.iter().find(|word| !skipped.contains(word)) {
                Some(&"STAGE") => Kinds::CreateStage,
                Some(&"FILE") => Kinds::CreateFormat,
                _ => Kinds::Sql,
            }
        }
        _ => Kinds::Sql,
    }
}

/// Runs a statement of the stand-in's own.
pub(crate) async fn run(kind: Kinds, run: &mut Run<'_>, text: &str) -> Result<Answer, Refusal> {
    match kind {
        Kinds::Put => transfer::put(run, text),
        Kinds::Get => transfer::get(run, text),
        Kinds::Copy => copy::run(run, text).await,
        Kinds::List => list(run, text),
        Kinds::Remove => remove(run, text),
        Kinds::ShowStages => Ok(show_stages(run)),
        Kinds::CreateStage => create_stage(run, text).await,
        Kinds::CreateFormat => create_format(run, text).await,
        Kinds::DropStage | Kinds::DropFormat => drop_object(kind, run, text).await,
        Kinds::GrantStage => grant_stage(run, text),
        Kinds::Sql => Err(Refusal::syntax("unexpected statement")),
    }
}

/// One row with one text column `status`.
pub(crate) fn status(message: impl AsRef<str>) -> Answer {
    Answer::Table(vec![text_column("status")], vec![[Value::text(message)].into()])
}

pub(crate) fn text_column(name: &str) -> Column {
    Column::new(name, DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT }, true)
}

pub(crate) fn number_column(name: &str) -> Column {
    Column::new(name, DataType::Number { precision: 38, scale: 0 }, true)
}

/// The location that a token names: a stage token, or a string that begins with `@`.
pub(crate) fn location_of(token: &Token<'_>) -> Option<String> {
    match token.kind {
        Kind::Stage => Some(token.text.to_owned()),
        Kind::Text => Some(token.value()).filter(|value| value.starts_with('@')),
        _ => None,
    }
}

fn list(run: &Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let all = tokens(text);
    let location =
        all.get(1).and_then(location_of).ok_or_else(|| Refusal::syntax("LIST needs a stage location."))?;
    let options = options::parse(all.get(2).map_or("", |token| &text[token.start..]))?;
    options.only(&["PATTERN"])?;
    let location = run.resolve(&location)?;
    let pattern = options.plain("PATTERN").map(copy::pattern).transpose()?;
    let columns =
        vec![text_column("name"), number_column("size"), text_column("md5"), text_column("last_modified")];
    let rows = location
        .files(&run.server.objects)
        .into_iter()
        .filter(|(name, _, _)| pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)))
        .map(|(name, _, object)| {
            [
                Value::text(name),
                Value::number(object.data.len() as i128),
                Value::text(&object.etag),
                Value::text(crate::objects::http_date(object.modified)),
            ]
            .into()
        })
        .collect();
    Ok(Answer::Table(columns, rows))
}

fn remove(run: &Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let all = tokens(text);
    let location =
        all.get(1).and_then(location_of).ok_or_else(|| Refusal::syntax("REMOVE needs a stage location."))?;
    let options = options::parse(all.get(2).map_or("", |token| &text[token.start..]))?;
    options.only(&["PATTERN"])?;
    let pattern = options.plain("PATTERN").map(copy::pattern).transpose()?;
    let location = run.resolve(&location)?;
    let mut rows: Vec<Row> = Vec::new();
    for (name, key, _) in location.files(&run.server.objects) {
        if pattern.as_ref().is_none_or(|pattern| pattern.is_match(&name)) && run.server.objects.remove(&key) {
            rows.push([Value::text(name), Value::text("removed")].into());
        }
    }
    Ok(Answer::Table(vec![text_column("name"), text_column("result")], rows))
}

fn show_stages(run: &Run<'_>) -> Answer {
    let columns =
        ["created_on", "name", "database_name", "schema_name", "url", "type"].map(text_column).to_vec();
    let rows = run
        .server
        .stages
        .names()
        .iter()
        .map(|name| {
            let parts = parts_of(name);
            let part = |label| Value::text(&parts[label]);
            [
                Value::text(""),
                part("name"),
                part("database_name"),
                part("schema_name"),
                Value::text(""),
                Value::text("INTERNAL"),
            ]
            .into()
        })
        .collect();
    Answer::Table(columns, rows)
}

/// What stands between the keyword(s) of a CREATE and its options.
struct Creation {
    name: String,
    replace: bool,
    temporary: bool,
    if_not_exists: bool,
    options: options::Options,
}

fn creation(run: &Run<'_>, text: &str, keyword: &str) -> Result<Creation, Refusal> {
    let all = tokens(text);
    let keyword_at = all.iter().position(|token| token.is(keyword)).unwrap_or(0);
    let before = &all[..keyword_at];
    let mut at = keyword_at + 1;
    let if_not_exists =
        all[at..].iter().take(3).map(|token| token.text.to_uppercase()).eq(["IF", "NOT", "EXISTS"]);
    if if_not_exists {
        at += 3;
    }
    let (name, after) = dotted_name(&all, at)?;
    let options = options::parse(all.get(after).map_or("", |token| &text[token.start..]))?;
    Ok(Creation {
        name: qualify(&name, run.sql.identity())?,
        replace: before.iter().any(|token| token.is("REPLACE")),
        temporary: before.iter().any(|token| token.is("TEMP") || token.is("TEMPORARY")),
        if_not_exists,
        options,
    })
}

async fn create_stage(run: &mut Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let new = creation(run, text, "STAGE")?;
    new.options.only(&["FILE_FORMAT", "ENCRYPTION", "COMMENT", "DIRECTORY", "COPY_OPTIONS"])?;
    if let Some(options::Setting::Group(encryption)) = new.options.get("ENCRYPTION")
        && encryption.plain("TYPE").is_some_and(|kind| kind != "SNOWFLAKE_FULL")
    {
        return Err(Refusal::new(
            "002099",
            "0A000",
            "Only ENCRYPTION = (TYPE = 'SNOWFLAKE_FULL') is carried.",
        ));
    }
    run.check_schema(&new.name).await?;
    run.commit_before_ddl().await?;
    let format = copy::file_format(run, &new.options)?;
    let message = run.server.stages.create(NewStage {
        name: new.name,
        owner: run.sql.identity().role.clone(),
        temporary: new.temporary.then_some(run.session.id),
        format,
        replace: new.replace,
        if_not_exists: new.if_not_exists,
    })?;
    Ok(status(message))
}

async fn create_format(run: &mut Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let new = creation(run, text, "FORMAT")?;
    run.check_schema(&new.name).await?;
    run.commit_before_ddl().await?;
    let short = new.name.rsplit('.').next().unwrap_or_default().to_owned();
    run.server.stages.set_format(&new.name, new.options);
    Ok(status(format!("File format {short} successfully created.")))
}

async fn drop_object(kind: Kinds, run: &mut Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let all = tokens(text);
    let mut at = if kind == Kinds::DropStage { 2 } else { 3 };
    let if_exists =
        all[at.min(all.len())..].iter().take(2).map(|token| token.text.to_uppercase()).eq(["IF", "EXISTS"]);
    if if_exists {
        at += 2;
    }
    let (name, after) = dotted_name(&all, at)?;
    if let Some(token) = all.get(after) {
        return Err(options::unexpected(token));
    }
    let name = qualify(&name, run.sql.identity())?;
    run.commit_before_ddl().await?;
    if kind == Kinds::DropStage {
        if !if_exists {
            run.resolve(&format!("@{}", quoted(&name)))?;
        }
        return Ok(status(run.server.stages.drop_stage(&name, if_exists, &run.server.objects)?));
    }
    if !run.server.stages.drop_format(&name) && !if_exists {
        return Err(Refusal::not_found("File format", &name));
    }
    Ok(status(format!("{} successfully dropped.", name.rsplit('.').next().unwrap_or_default())))
}

/// `GRANT READ, WRITE ON STAGE s TO ROLE r`.
fn grant_stage(run: &Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let all = tokens(text);
    let stage_at = all.iter().position(|token| token.is("STAGE")).unwrap_or(0) + 1;
    let (name, after) = dotted_name(&all, stage_at)?;
    let rest: Vec<&Token<'_>> =
        all[after..].iter().filter(|token| !token.is("TO") && !token.is("ROLE")).collect();
    let [role] = rest.as_slice() else { return Err(Refusal::syntax("GRANT … ON STAGE … TO ROLE name")) };
    run.server.stages.grant(&qualify(&name, run.sql.identity())?, &role.value())?;
    Ok(status("Statement executed successfully."))
}

/// A dotted name that begins at `at`: its text, and where it ends.
pub(crate) fn dotted_name(all: &[Token<'_>], at: usize) -> Result<(String, usize), Refusal> {
    let mut name = String::new();
    let mut at = at;
    loop {
        let part = all.get(at).ok_or_else(|| Refusal::syntax("syntax error: unexpected '<EOF>'."))?;
        if !matches!(part.kind, Kind::Word | Kind::Quoted) {
            return Err(options::unexpected(part));
        }
        name.push_str(part.text);
        at += 1;
        if !all.get(at).is_some_and(|token| token.is(".")) {
            return Ok((name, at));
        }
        name.push('.');
        at += 1;
    }
}

/// `A.B.C` of plain parts → `"A"."B"."C"`.
pub(crate) fn quoted(name: &str) -> String {
    name.splitn(3, '.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

/// The query that tells whether the session sees a schema.
pub(crate) fn schema_probe(name: &str) -> Option<(String, String)> {
    let mut parts = name.splitn(3, '.');
    let (database, schema) = (parts.next()?, parts.next()?);
    let probe = format!(
        "SELECT COUNT(*) FROM \"{}\".INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = {}",
        database.replace('"', "\"\""),
        quote_text(schema)
    );
    Some((probe, format!("{database}.{schema}")))
}
