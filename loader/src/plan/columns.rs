//! Which columns cross and under which names; everything that is wrong with a table's columns is said at once.

use std::collections::HashMap;

use super::PlanError;
use crate::{
    catalog,
    config::{Identifiers, Table, nearest},
    model::{ColumnPlan, KeyColumn, SourceType, TableName, TargetName},
};

pub(super) struct Chosen {
    pub columns: Vec<ColumnPlan>,
    pub notes: Vec<String>,
}

/// The columns that cross, or all the reasons why they cannot.
pub(super) fn choose(
    table: &Table,
    found: &catalog::Table,
    identifiers: Identifiers,
) -> Result<Chosen, PlanError> {
    let mut problems = unknown_exclusions(table, found);
    let mut columns = Vec::new();
    let mut notes = Vec::new();
    let mut names: HashMap<String, &str> = HashMap::new();
    for column in found.columns.iter().filter(|c| !is_excluded(table, &c.name)) {
        let name = &column.name;
        if column.encrypted {
            problems.push(format!(
                "column {name} is under Always Encrypted: its ciphertext would load as if it were the value. \
                 Exclude it: columns: {{ exclude: [{name}] }}"
            ));
            continue;
        }
        let source = match &column.source {
            Ok(source) => *source,
            Err(uncarried) => {
                problems.push(format!(
                    "column {name} is {}: {}. Exclude it: columns: {{ exclude: [{name}] }}",
                    uncarried.declared, uncarried.hint
                ));
                continue;
            }
        };
        let target_name = identifiers.apply(name);
        if let Some(other) = names.insert(target_name.clone(), name) {
            problems.push(format!(
                "columns {other} and {name} would both become {target_name}. Exclude one, or write \
                 `identifiers: exact` in `target`"
            ));
            continue;
        }
        notes.extend(note(column, source));
        columns.push(ColumnPlan {
            source_name: name.clone(),
            target_name,
            source,
            nullable: column.nullable,
        });
    }
    if problems.is_empty() && columns.is_empty() {
        problems.push("no column is left; exclude fewer".into());
    }
    if problems.is_empty() {
        Ok(Chosen { columns, notes })
    } else {
        Err(PlanError::Columns { table: table.source.clone(), line: table.line, problems })
    }
}

/// SQL Server's own comparison of names is the database's; this one ignores case, as most databases do.
fn is_excluded(table: &Table, name: &str) -> bool {
    table.exclude.iter().any(|excluded| excluded.to_lowercase() == name.to_lowercase())
}

fn unknown_exclusions(table: &Table, found: &catalog::Table) -> Vec<String> {
    let names = || found.columns.iter().map(|c| c.name.as_str());
    let unknown = |excluded: &&String| !names().any(|name| name.to_lowercase() == excluded.to_lowercase());
    let problem = |excluded: &String| {
        let near = nearest(excluded, names()).map_or(String::new(), |near| format!("; did you mean {near}?"));
        format!("`exclude` names {excluded}, which is no column of it{near}")
    };
    table.exclude.iter().filter(unknown).map(problem).collect()
}

fn note(column: &catalog::Column, source: SourceType) -> Option<String> {
    let name = &column.name;
    match source {
        SourceType::Decimal { scale: 38, .. } => Some(format!(
            "column {name} becomes VARCHAR: Snowflake's numbers have at most 37 digits after the point"
        )),
        SourceType::DateTime => Some(format!(
            "column {name} counts 1/300 s and crosses as SQL Server prints it, to the millisecond"
        )),
        _ if column.computed => {
            Some(format!("column {name} is computed at the source and crosses as a value"))
        }
        _ => None,
    }
}

/// SHA-256, hex, over everything about the table that a resumed run must find unchanged.
pub(super) fn schema_hash(
    source: &TableName,
    target: &TargetName,
    columns: &[ColumnPlan],
    keys: &[KeyColumn],
    collations: &[Option<&str>],
    point: Option<&str>,
) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    // Each field carries its length, so that no two schemas share one text.
    let mut add = |field: &str| {
        digest.update(&(field.len() as u64).to_be_bytes());
        digest.update(field.as_bytes());
    };
    for name in [&source.schema, &source.name, &target.database, &target.schema, &target.name] {
        add(name);
    }
    for column in columns {
        add(&column.source_name);
        add(&column.source.to_string());
        add(if column.nullable { "null" } else { "not null" });
        add(&column.target_name);
        add(&column.source.snowflake());
    }
    for (key, collation) in keys.iter().zip(collations) {
        add("key");
        add(&key.name);
        add(&key.source.to_string());
        add(if key.nullable { "null" } else { "not null" });
        // The ranges of text keys mean something under their collation only.
        add(collation.unwrap_or("no collation"));
    }
    if let Some(point) = point {
        add("point");
        add(point);
    }
    hex::encode(digest.finish())
}
