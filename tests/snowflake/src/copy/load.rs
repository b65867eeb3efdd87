//! Appending the rows of files to a table, under each `ON_ERROR`.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use keyferry_sql::{Column, Row, SqlError, Value, Variant};

use super::{
    Copy, FileReport, Matching, OnError, StagedFile,
    format::{Format, ParquetFormat},
    hook::{Plan, plaintext, sql_error},
    parquet::Records,
};
use crate::{query::Run, reply::Refusal};

/// A file with more bad rows than this fails as a whole even under CONTINUE.
const MOST_BAD_ROWS: usize = 1000;

type BoxedRows = Box<dyn Iterator<Item = Result<Row, SqlError>> + Send>;

/// One attempt: how many rows of each file were read, and the error that ended it.
struct Attempt {
    read: Vec<u64>,
    outcome: Result<u64, SqlError>,
}

/// Loads the files; one report for each, in their order.
pub(super) async fn load(
    run: &mut Run<'_>,
    copy: &Copy,
    files: &[StagedFile],
) -> Result<Vec<FileReport>, Refusal> {
    // An unknown table, or one that may not be written, is told before any file is read.
    let columns = run.sql.table_columns(&copy.table_sql())?;
    if run.server.counting.counts(&copy.table_sql()) {
        return counted(run, copy, files);
    }
    match copy.on_error {
        OnError::Abort => all_or_nothing(run, copy, &columns, files).await,
        OnError::SkipFile => {
            let mut reports = Vec::new();
            for file in files {
                let attempt = attempt(run, copy, &columns, std::slice::from_ref(file), &[]).await?;
                reports.push(match attempt.outcome {
                    Ok(rows) => loaded(file, attempt.read[0], rows, 1),
                    Err(error) => failed(file, attempt.read[0], &error),
                });
            }
            Ok(reports)
        }
        OnError::Continue => {
            let mut reports = Vec::new();
            for file in files {
                reports.push(without_bad_rows(run, copy, &columns, file).await?);
            }
            Ok(reports)
        }
    }
}

/// Adds the rows up instead of storing them; the files are not needed any more.
fn counted(run: &Run<'_>, copy: &Copy, files: &[StagedFile]) -> Result<Vec<FileReport>, Refusal> {
    let mut reports = Vec::with_capacity(files.len());
    for file in files {
        let data = plaintext(run.server, &copy.location.stage.id, file)?;
        let rows = run.server.counting.add(&copy.table_sql(), &file.name, data)?;
        run.server.objects.remove(&file.key);
        reports.push(loaded(file, rows, rows, 1));
    }
    Ok(reports)
}

pub(super) async fn all_or_nothing(
    run: &mut Run<'_>,
    copy: &Copy,
    columns: &[Column],
    files: &[StagedFile],
) -> Result<Vec<FileReport>, Refusal> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let attempt = attempt(run, copy, columns, files, &[]).await?;
    match attempt.outcome {
        Ok(_) => {
            Ok(files.iter().zip(&attempt.read).map(|(file, rows)| loaded(file, *rows, *rows, 1)).collect())
        }
        Err(error) => {
            let (file, row) = place(files, &attempt.read, error.row);
            let mut refusal = Refusal::from(error);
            let _ = write!(
                refusal.message,
                "\n  File '{file}', line {row}, character 1\n  Row {row}\n  If you would like to continue loading when \
                 an error is encountered, use other values such as 'SKIP_FILE' or 'CONTINUE' for the ON_ERROR option."
            );
            Err(refusal)
        }
    }
}

/// Loads one file without the rows that were found bad.
async fn without_bad_rows(
    run: &mut Run<'_>,
    copy: &Copy,
    columns: &[Column],
    file: &StagedFile,
) -> Result<FileReport, Refusal> {
    let sifted = sift(run, copy, columns, file).await?;
    Ok(match sifted.outcome {
        Ok(rows) => {
            let mut report = loaded(file, sifted.read, rows, sifted.read.max(1));
            if let Some((_, error)) = sifted.bad.first() {
                report.status = "PARTIALLY_LOADED";
                report.errors = sifted.bad.len() as u64;
                report.first_error = Some(error.message.clone());
                report.first_line = sifted.bad.iter().map(|(row, _)| *row).min();
            }
            report
        }
        Err(error) => failed(file, sifted.read, &error),
    })
}

/// One file, loaded row by row as it were.
pub(super) struct Sifted {
    read: u64,
    outcome: Result<u64, SqlError>,
    /// Rows that do not load, counted from 1, and why.
    pub(super) bad: Vec<(u64, SqlError)>,
}

/// Loads one file again and again, each time without the rows that were found bad.
pub(super) async fn sift(
    run: &mut Run<'_>,
    copy: &Copy,
    columns: &[Column],
    file: &StagedFile,
) -> Result<Sifted, Refusal> {
    let mut bad: Vec<(u64, SqlError)> = Vec::new();
    loop {
        let mut sorted: Vec<u64> = bad.iter().map(|(row, _)| *row).collect();
        sorted.sort_unstable();
        let attempt = attempt(run, copy, columns, std::slice::from_ref(file), &sorted).await?;
        let read = attempt.read[0];
        let error = match attempt.outcome {
            Ok(rows) => return Ok(Sifted { read, outcome: Ok(rows), bad }),
            Err(error) => error,
        };
        // The evaluator counts the rows that it was given; the bad ones before were left out.
        let Some(given) = error.row.filter(|_| bad.len() < MOST_BAD_ROWS) else {
            return Ok(Sifted { read, outcome: Err(error), bad });
        };
        let row = sorted.iter().fold(given, |row, earlier| row + u64::from(*earlier <= row));
        if sorted.contains(&row) {
            return Ok(Sifted { read, outcome: Err(error), bad });
        }
        bad.push((row, error));
    }
}

async fn attempt(
    run: &mut Run<'_>,
    copy: &Copy,
    columns: &[Column],
    files: &[StagedFile],
    skip: &[u64],
) -> Result<Attempt, Refusal> {
    match &copy.format {
        Format::Parquet(format) => {
            let mut plan = Plan::new(&copy.location.stage.id, files, *format);
            plan.skip = skip.iter().map(|row| (0, *row)).collect();
            parquet(run, copy, columns, plan).await
        }
        Format::Csv(format) => {
            let width = if copy.columns.is_empty() { columns.len() } else { copy.columns.len() };
            let mut rows: Vec<Result<Row, SqlError>> = Vec::new();
            let mut read = Vec::new();
            for file in files {
                let data = plaintext(run.server, &copy.location.stage.id, file)?;
                let found = format.rows(&data, width)?;
                read.push(found.len() as u64);
                rows.extend(found);
            }
            let mut number = 0;
            rows.retain(|_| {
                number += 1;
                !skip.contains(&number)
            });
            let mut number = 0;
            let rows = rows.into_iter().map(move |row| {
                number += 1;
                row.map_err(|error| error.at_row(number))
            });
            let outcome = run.sql.append(&copy.table_sql(), &copy.columns, rows).await;
            Ok(Attempt { read, outcome })
        }
    }
}

async fn parquet(run: &mut Run<'_>, copy: &Copy, columns: &[Column], plan: Plan) -> Result<Attempt, Refusal> {
    let counts = plan.clone();
    let (names, rows): (Vec<String>, BoxedRows) = if let Some(select) = &copy.transform {
        run.session.hook.set_plan(Some(plan));
        let selected = run.sql.query(select).await;
        run.session.hook.set_plan(None);
        match selected {
            Ok(selected) => (copy.columns.clone(), Box::new(selected.rows)),
            Err(error) => return Ok(Attempt { read: counts.counts(), outcome: Err(error) }),
        }
    } else if copy.matching == Matching::None {
        (copy.columns.clone(), whole_records(run, copy, columns, plan)?)
    } else {
        match by_name(run, copy, columns, plan) {
            Ok(found) => found,
            Err(error) => return Ok(Attempt { read: counts.counts(), outcome: Err(error) }),
        }
    };
    let given = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&given);
    let rows = rows.map(move |row| {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        row.map_err(|error| error.at_row(number))
    });
    let outcome = run.sql.append(&copy.table_sql(), &names, rows).await;
    Ok(Attempt { read: counts.counts(), outcome })
}

/// Without a transform or `MATCH_BY_COLUMN_NAME` a Parquet record goes whole into one VARIANT.
fn whole_records(run: &Run<'_>, copy: &Copy, columns: &[Column], plan: Plan) -> Result<BoxedRows, Refusal> {
    let targets: Vec<&Column> = columns
        .iter()
        .filter(|column| copy.columns.is_empty() || copy.columns.contains(&column.name))
        .collect();
    if !matches!(targets.as_slice(), [only] if only.ty.is_semi_structured()) {
        return Err(Refusal::syntax(
            "PARQUET file format can produce one and only one column of type variant, object, or array. Load data \
             into separate columns using the MATCH_BY_COLUMN_NAME copy option or copy with transformation.",
        ));
    }
    let records = run.session.hook.records(plan)?;
    Ok(Box::new(
        records.map(|row| row.map(|row| -> Row { Arc::new([Value::Variant(Arc::new(row.record))]) })),
    ))
}

/// The table's columns that the first file has, and every record's values for them.
fn by_name(
    run: &Run<'_>,
    copy: &Copy,
    columns: &[Column],
    plan: Plan,
) -> Result<(Vec<String>, BoxedRows), SqlError> {
    let same = |left: &str, right: &str| match copy.matching {
        Matching::CaseInsensitive => left.to_lowercase() == right.to_lowercase(),
        _ => left == right,
    };
    let file_names = first_names(run, &plan)?;
    let mut pairs: Vec<(String, Arc<str>)> = Vec::new();
    for column in
        columns.iter().filter(|column| copy.columns.is_empty() || copy.columns.contains(&column.name))
    {
        let mut found = file_names.iter().filter(|name| same(name, &column.name));
        if let Some(name) = found.next() {
            if found.next().is_some() {
                return Err(sql_error(&Refusal::syntax(format!(
                    "the files have more than one column that matches '{}'.",
                    column.name
                ))));
            }
            pairs.push((column.name.clone(), Arc::clone(name)));
        }
    }
    if pairs.is_empty() {
        return Err(sql_error(&Refusal::syntax("no column of the files matches a column of the table.")));
    }
    let (targets, members): (Vec<String>, Vec<Arc<str>>) = pairs.into_iter().unzip();
    let records = run.session.hook.records(plan)?;
    let rows = records.map(move |row| row.map(|row| pick(row.record, &members)));
    Ok((targets, Box::new(rows)))
}

fn first_names(run: &Run<'_>, plan: &Plan) -> Result<Vec<Arc<str>>, SqlError> {
    let Some(file) = plan.files.first() else { return Ok(Vec::new()) };
    let data = plaintext(run.server, &plan.stage, file)?;
    let format: ParquetFormat = plan.format;
    Ok(Records::open(data, format, &file.name)?.names().to_vec())
}

fn pick(record: Variant, members: &[Arc<str>]) -> Row {
    let Variant::Object(mut found) = record else { return Arc::new([]) };
    members
        .iter()
        .map(|name| {
            let at = found.iter().position(|(known, _)| Arc::ptr_eq(known, name) || known == name);
            match at.map(|at| std::mem::replace(&mut found[at].1, Variant::Scalar(Value::Null))) {
                Some(Variant::Scalar(value)) => value,
                Some(other) => Value::Variant(Arc::new(other)),
                None => Value::Null,
            }
        })
        .collect()
}

fn loaded(file: &StagedFile, parsed: u64, loaded: u64, limit: u64) -> FileReport {
    FileReport {
        name: file.name.clone(),
        status: "LOADED",
        parsed,
        loaded,
        limit,
        errors: 0,
        first_error: None,
        first_line: None,
    }
}

fn failed(file: &StagedFile, parsed: u64, error: &SqlError) -> FileReport {
    FileReport {
        name: file.name.clone(),
        status: "LOAD_FAILED",
        parsed,
        loaded: 0,
        limit: 1,
        errors: 1,
        first_error: Some(error.message.clone()),
        first_line: error.row,
    }
}

/// The file and its row where the `row`th of all rows stands.
fn place<'a>(files: &'a [StagedFile], read: &[u64], row: Option<u64>) -> (&'a str, u64) {
    let mut left = row.unwrap_or_else(|| read.iter().sum());
    for (file, rows) in files.iter().zip(read) {
        if left <= *rows {
            return (&file.name, left);
        }
        left -= rows;
    }
    (files.last().map_or("", |file| file.name.as_str()), left)
}
