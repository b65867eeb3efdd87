//! `VALIDATION_MODE`: the load is tried in a session of its own, what it would say is told, and nothing stays.

use keyferry_sql::{Row, Rows, Value};

use super::{
    Copy, StagedFile,
    format::Format,
    hook::plaintext,
    load::{all_or_nothing, sift},
};
use crate::{
    query::Run,
    reply::Refusal,
    statement::{Answer, number_column, text_column},
};

/// What a validation answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validation {
    /// Every row that would not load.
    Errors,
    /// The first rows, or the first error.
    Rows(usize),
}

impl Validation {
    /// `RETURN_ERRORS`, `RETURN_ALL_ERRORS`, `RETURN_n_ROWS`.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let upper = text.to_uppercase();
        let rows = upper.strip_prefix("RETURN_").and_then(|rest| rest.strip_suffix("_ROWS"));
        match (upper.as_str(), rows.and_then(|count| count.parse().ok())) {
            ("RETURN_ERRORS" | "RETURN_ALL_ERRORS", _) => Ok(Self::Errors),
            (_, Some(count)) => Ok(Self::Rows(count)),
            _ => Err(Refusal::syntax(format!("invalid value [{text}] for parameter 'VALIDATION_MODE'"))),
        }
    }
}

/// Tries the load.
pub(super) async fn validate(
    run: &mut Run<'_>,
    copy: &Copy,
    mode: Validation,
    files: &[StagedFile],
) -> Result<Answer, Refusal> {
    let mut probe = keyferry_sql::Session::new(run.sql.database(), run.sql.identity().clone());
    probe.set_stage_reader(run.session.hook.clone());
    for answer in probe.execute("BEGIN").await {
        answer?;
    }
    let mut trial = Run { server: run.server, session: run.session, sql: &mut probe, query_id: run.query_id };
    let answer = match mode {
        Validation::Errors => errors(&mut trial, copy, files).await,
        Validation::Rows(count) => rows(&mut trial, copy, count, files).await,
    };
    probe.rollback();
    answer
}

async fn errors(run: &mut Run<'_>, copy: &Copy, files: &[StagedFile]) -> Result<Answer, Refusal> {
    let columns = run.sql.table_columns(&copy.table_sql())?;
    let mut rows: Vec<Row> = Vec::new();
    for file in files {
        for (row, error) in sift(run, copy, &columns, file).await?.bad {
            let row = Value::number(i128::from(row));
            rows.push(
                [
                    Value::text(&error.message),
                    Value::text(&file.name),
                    row.clone(),
                    Value::number(1),
                    Value::Null,
                    Value::text("conversion"),
                    Value::number(i128::from(error.number)),
                    Value::text(error.sqlstate),
                    Value::Null,
                    row.clone(),
                    row,
                    Value::Null,
                ]
                .into(),
            );
        }
    }
    let columns = vec![
        text_column("ERROR"),
        text_column("FILE"),
        number_column("LINE"),
        number_column("CHARACTER"),
        number_column("BYTE_OFFSET"),
        text_column("CATEGORY"),
        number_column("CODE"),
        text_column("SQL_STATE"),
        text_column("COLUMN_NAME"),
        number_column("ROW_NUMBER"),
        number_column("ROW_START_LINE"),
        text_column("REJECTED_RECORD"),
    ];
    Ok(Answer::Table(columns, rows))
}

async fn rows(run: &mut Run<'_>, copy: &Copy, count: usize, files: &[StagedFile]) -> Result<Answer, Refusal> {
    let Format::Csv(format) = &copy.format else {
        return Err(Refusal::new("002099", "0A000", "RETURN_n_ROWS is carried for files of TYPE = CSV."));
    };
    let columns = run.sql.table_columns(&copy.table_sql())?;
    all_or_nothing(run, copy, &columns, files).await?;
    let targets: Vec<_> = columns
        .iter()
        .filter(|column| copy.columns.is_empty() || copy.columns.contains(&column.name))
        .map(|column| text_column(&column.name))
        .collect();
    let mut found = Vec::new();
    for file in files {
        let data = plaintext(run.server, &copy.location.stage.id, file)?;
        for row in format.rows(&data, targets.len())? {
            found.push(row?);
        }
    }
    found.truncate(count);
    Ok(Answer::Table(targets, Rows::from_vec(found).collect_all()?))
}
