//! COPY INTO a table: which files, how they are read, and what is remembered of them.

mod csv;
mod format;
mod history;
mod hook;
mod load;
pub(crate) mod options;
mod parquet;
mod validate;

use std::{collections::HashSet, sync::Arc};

pub(crate) use format::file_format;
use format::{Format, copy_format};
pub(crate) use history::History;
pub(crate) use hook::StageHook;
use keyferry_sql::{Row, Value};
pub(crate) use options::Options;
use options::Setting;
use regex::Regex;
use validate::Validation;

use crate::{
    lexer::{Kind, Token, tokens},
    objects::Object,
    query::Run,
    reply::Refusal,
    stages::{Location, qualify},
    statement::{Answer, dotted_name, location_of, number_column, quoted, status, text_column},
};

/// The most names that FILES may list.
const MOST_FILES: usize = 1000;

/// One staged file that a COPY names.
#[derive(Clone)]
pub(crate) struct StagedFile {
    /// As LIST shows it.
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) object: Arc<Object>,
}

/// What happens at a row that does not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnError {
    Abort,
    SkipFile,
    Continue,
}

/// How file columns find table columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matching {
    None,
    CaseSensitive,
    CaseInsensitive,
}

/// A COPY, read.
struct Copy {
    /// `DB.SCHEMA.TABLE`.
    table: String,
    columns: Vec<String>,
    location: Location,
    /// `SELECT …` with the stage's place taken by a name that the hook knows.
    transform: Option<String>,
    format: Format,
    on_error: OnError,
    matching: Matching,
    files: Option<Vec<String>>,
    pattern: Option<Regex>,
    force: bool,
    purge: bool,
    validation: Option<Validation>,
}

/// What became of one file.
struct FileReport {
    name: String,
    status: &'static str,
    parsed: u64,
    loaded: u64,
    limit: u64,
    errors: u64,
    first_error: Option<String>,
    first_line: Option<u64>,
}

/// Runs one COPY INTO a table.
pub(crate) async fn run(run: &mut Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let copy = parse(run, text)?;
    let (files, mut reports) = choose(run, &copy)?;
    if files.is_empty() && reports.is_empty() {
        return Ok(status("Copy executed with 0 files processed."));
    }
    if let Some(mode) = copy.validation {
        return validate::validate(run, &copy, mode, &files).await;
    }
    let before = run.sql.transaction_id();
    let loaded = load::load(run, &copy, &files).await?;
    debug_assert!(before.is_none() || run.sql.transaction_id() == before, "COPY stays in its transaction");
    let pending = run.sql.in_transaction().then_some(run.session.id);
    for (file, report) in files.iter().zip(&loaded) {
        if report.status != "LOAD_FAILED" {
            run.server.stats.files_loaded();
            run.server.history.add(&copy.table, &file.key, &file.object, pending);
            if copy.purge {
                run.server.objects.remove(&file.key);
            }
        }
    }
    reports.extend(loaded);
    Ok(answer(reports))
}

fn answer(reports: Vec<FileReport>) -> Answer {
    let columns = vec![
        text_column("file"),
        text_column("status"),
        number_column("rows_parsed"),
        number_column("rows_loaded"),
        number_column("error_limit"),
        number_column("errors_seen"),
        text_column("first_error"),
        number_column("first_error_line"),
        number_column("first_error_character"),
        text_column("first_error_column_name"),
    ];
    let rows = reports
        .into_iter()
        .map(|report| -> Row {
            let number = |value: u64| Value::number(i128::from(value));
            Arc::new([
                Value::text(report.name),
                Value::text(report.status),
                number(report.parsed),
                number(report.loaded),
                number(report.limit),
                number(report.errors),
                report.first_error.map_or(Value::Null, Value::text),
                report.first_line.map_or(Value::Null, number),
                Value::Null,
                Value::Null,
            ])
        })
        .collect();
    Answer::Table(columns, rows)
}

/// The files to load, and reports of those that were loaded before.
fn choose(run: &Run<'_>, copy: &Copy) -> Result<(Vec<StagedFile>, Vec<FileReport>), Refusal> {
    let mut chosen = Vec::new();
    if let Some(names) = &copy.files {
        let stage = &copy.location.stage;
        let mut folder = copy.location.path.clone();
        if !folder.is_empty() && !folder.ends_with('/') {
            folder.push('/');
        }
        let mut seen = HashSet::new();
        for name in names.iter().filter(|name| seen.insert(name.as_str())) {
            let key = stage.key(&format!("{folder}{}", name.trim_start_matches('/')));
            let object =
                run.server.objects.find(&key).ok_or_else(|| missing_file(&stage.shown_name(&key)))?;
            chosen.push(StagedFile { name: stage.shown_name(&key), key, object });
        }
    } else {
        chosen.extend(
            copy.location
                .files(&run.server.objects)
                .into_iter()
                .filter(|(name, _, _)| copy.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)))
                .map(|(name, key, object)| StagedFile { name, key, object }),
        );
    }
    let mut skipped = Vec::new();
    chosen.retain(|file| {
        let known = run.server.history.loaded(&copy.table, &file.key, &file.object, run.session.id);
        if known && !copy.force {
            // Only files that were asked for by name are reported when they are passed over.
            if copy.files.is_some() {
                skipped.push(FileReport {
                    name: file.name.clone(),
                    status: "LOAD_SKIPPED",
                    parsed: 0,
                    loaded: 0,
                    limit: 1,
                    errors: 1,
                    first_error: Some("File was loaded before.".to_owned()),
                    first_line: None,
                });
            }
            return false;
        }
        true
    });
    Ok((chosen, skipped))
}

fn missing_file(name: &str) -> Refusal {
    Refusal::new(
        "091016",
        "22000",
        format!(
            "Remote file '{name}' was not found. There are several potential causes. The file might not exist. The \
             required credentials may be missing or invalid. If you are running a copy command, please make sure \
             files are not deleted when they are being loaded or files are not being loaded into two different \
             tables concurrently with auto purge option."
        ),
    )
}

/// The rows of the CSV files in a stage's folder, as drivers leave many bindings there.
pub(crate) fn bound_rows(run: &Run<'_>, location: &str) -> Result<Vec<Vec<Option<String>>>, Refusal> {
    let mut location = run.resolve(location)?;
    if !location.path.is_empty() && !location.path.ends_with('/') {
        location.path.push('/');
    }
    let format = csv::CsvFormat::read(&location.stage.format)?;
    let mut rows = Vec::new();
    for (name, key, object) in location.files(&run.server.objects) {
        let file = StagedFile { name, key, object };
        let data = hook::plaintext(run.server, &location.stage.id, &file)?;
        rows.extend(format.texts(&data)?);
    }
    Ok(rows)
}

/// A PATTERN, which must match a file's whole name.
pub(crate) fn pattern(text: &str) -> Result<Regex, Refusal> {
    Regex::new(&format!("^(?:{text})$"))
        .map_err(|_| Refusal::new("100048", "2201B", format!("Invalid regular expression: '{text}'")))
}

fn parse(run: &Run<'_>, text: &str) -> Result<Copy, Refusal> {
    let all = tokens(text);
    if all.get(2).and_then(location_of).is_some() {
        return Err(Refusal::new("002099", "0A000", "COPY INTO a location (unloading) is not carried."));
    }
    let (name, mut at) = dotted_name(&all, 2)?;
    let table = qualify(&name, run.sql.identity())?;
    let mut columns = Vec::new();
    if all.get(at).is_some_and(|token| token.is("(")) {
        at += 1;
        while let Some(token) = all.get(at).filter(|token| !token.is(")")) {
            match token.kind {
                Kind::Word | Kind::Quoted => columns.push(token.value()),
                _ if token.is(",") => {}
                _ => return Err(options::unexpected(token)),
            }
            at += 1;
        }
        at += 1;
    }
    let end = || Refusal::syntax("syntax error: unexpected '<EOF>'.");
    let from = all.get(at).ok_or_else(end)?;
    if !from.is("FROM") {
        return Err(options::unexpected(from));
    }
    at += 1;
    let source = all.get(at).ok_or_else(end)?;
    let (location, transform) = if source.is("(") {
        let close = matching_parenthesis(&all, at).ok_or_else(end)?;
        let (location, select) = transform(text, &all[at + 1..close])?;
        at = close + 1;
        (location, Some(select))
    } else {
        at += 1;
        (location_of(source).ok_or_else(|| options::unexpected(source))?, None)
    };
    let options = options::parse(all.get(at).map_or("", |token| &text[token.start..]))?;
    settings(run, table, columns, &location, transform, &options)
}

fn settings(
    run: &Run<'_>,
    table: String,
    columns: Vec<String>,
    location: &str,
    transform: Option<String>,
    options: &Options,
) -> Result<Copy, Refusal> {
    options.only(&[
        "FILES",
        "PATTERN",
        "FILE_FORMAT",
        "ON_ERROR",
        "SIZE_LIMIT",
        "PURGE",
        "RETURN_FAILED_ONLY",
        "MATCH_BY_COLUMN_NAME",
        "ENFORCE_LENGTH",
        "TRUNCATECOLUMNS",
        "FORCE",
        "LOAD_UNCERTAIN_FILES",
        "VALIDATION_MODE",
    ])?;
    let files = match options.get("FILES") {
        None => None,
        Some(Setting::List(names)) if names.len() <= MOST_FILES => Some(names.clone()),
        Some(Setting::List(_)) => {
            return Err(Refusal::new("001501", "22000", "The number of files listed exceeds 1000."));
        }
        Some(_) => return Err(Refusal::syntax("FILES must be a list of names.")),
    };
    let matching = match options.plain("MATCH_BY_COLUMN_NAME").map(str::to_uppercase).as_deref() {
        None | Some("NONE") => Matching::None,
        Some("CASE_SENSITIVE") => Matching::CaseSensitive,
        Some("CASE_INSENSITIVE") => Matching::CaseInsensitive,
        Some(other) => return Err(invalid("MATCH_BY_COLUMN_NAME", other)),
    };
    if matching != Matching::None && transform.is_some() {
        return Err(Refusal::syntax(
            "MATCH_BY_COLUMN_NAME copy option is not supported with copy transformations.",
        ));
    }
    let on_error = match options.plain("ON_ERROR").map(str::to_uppercase).as_deref() {
        None | Some("ABORT_STATEMENT") => OnError::Abort,
        Some("SKIP_FILE") => OnError::SkipFile,
        Some("CONTINUE") => OnError::Continue,
        Some(other) => return Err(invalid("ON_ERROR", other)),
    };
    let validation = options.plain("VALIDATION_MODE").map(Validation::read).transpose()?;
    if validation.is_some() && transform.is_some() {
        return Err(Refusal::syntax("VALIDATION_MODE is not supported with copy transformations."));
    }
    let location = run.resolve(location)?;
    Ok(Copy {
        validation,
        format: copy_format(run, options, &location)?,
        pattern: options.plain("PATTERN").map(pattern).transpose()?,
        force: options.flag("FORCE")?.unwrap_or(false),
        purge: options.flag("PURGE")?.unwrap_or(false),
        table,
        columns,
        location,
        transform,
        on_error,
        matching,
        files,
    })
}

fn invalid(name: &str, value: &str) -> Refusal {
    Refusal::syntax(format!("invalid value [{value}] for parameter '{name}'"))
}

fn matching_parenthesis(all: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in all.iter().enumerate().skip(open) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// The location of `SELECT … FROM @stage …`, and the same SELECT over the hook's own name for these files.
fn transform(text: &str, inner: &[Token<'_>]) -> Result<(String, String), Refusal> {
    let select = inner.first().ok_or_else(|| Refusal::syntax("COPY FROM () needs a SELECT."))?;
    if !select.is("SELECT") {
        return Err(options::unexpected(select));
    }
    let at = inner
        .windows(2)
        .position(|pair| pair[0].is("FROM") && location_of(&pair[1]).is_some())
        .ok_or_else(|| Refusal::syntax("COPY FROM (SELECT …) must select from a stage."))?;
    for word in ["WHERE", "JOIN", "GROUP", "ORDER", "LIMIT", "UNION", "HAVING"] {
        if let Some(token) = inner.iter().find(|token| token.is(word)) {
            return Err(Refusal::new(
                "002099",
                "0A000",
                format!("SQL compilation error:\nCOPY transformations do not support {}.", token.text),
            ));
        }
    }
    let location = location_of(&inner[at + 1]).unwrap_or_default();
    let last = inner.last().map_or(select.end(), Token::end);
    let rewritten = format!(
        "{}@{}{}",
        &text[select.start..inner[at + 1].start],
        hook::PLANNED,
        &text[inner[at + 1].end()..last]
    );
    Ok((location, rewritten))
}

impl Copy {
    /// The table's name as SQL writes it.
    fn table_sql(&self) -> String {
        quoted(&self.table)
    }
}
