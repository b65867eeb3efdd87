//! The statements around the target and its staging table, and the privileges that they need.

use crate::{
    ledger::Ledger,
    model::{ColumnPlan, TablePlan, TargetName, file_column, quoted},
    snowflake::SnowflakeError,
    stage,
};

/// The statements of a load in the order in which they run, for the plan; `<run>` and `<attempt>` stand for what is
/// not known yet.
pub fn statements(ledger: &Ledger, plan: &TablePlan, stage: &TargetName) -> Vec<String> {
    let staging = TargetName { name: format!("{}_<RUN>", plan.staging.name), ..plan.staging.clone() };
    let casts: Vec<String> = plan
        .columns
        .iter()
        .map(|column| format!("$1:{}::{}", quoted(&column.target_name), column.source.snowflake()))
        .collect();
    let ledger = ledger.name().sql();
    vec![
        create_target(&plan.target, &plan.columns),
        create_staging(&staging, &plan.columns),
        stage::create_statement(stage),
        stage::put_statement(stage, "<run>/<chunk>/<attempt>"),
        format!(
            "COPY INTO {} FROM (SELECT {}, METADATA$FILENAME FROM {}) FILES = (...) \
             FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT",
            staging.sql(),
            casts.join(", "),
            stage::location(stage, "<run>/<chunk>/<attempt>"),
        ),
        format!(
            "UPDATE {ledger} SET STATE = 'loaded', ... WHERE ... AND STATE = 'claimed' AND ATTEMPT = <attempt>"
        ),
        overwrite_statement(&plan.target, &staging, &plan.columns),
        format!("UPDATE {ledger} SET STATE = 'published' WHERE ... AND STATE = 'verified'"),
        drop_statement(&staging),
        stage::remove_statement(stage, "<run>"),
    ]
}

/// The privileges that [`statements`] need, as the grants that give them.
pub fn privileges(ledger: &Ledger, plan: &TablePlan, stage: &TargetName, role: &str) -> Vec<String> {
    let schema = format!("{}.{}", quoted(&plan.target.database), quoted(&plan.target.schema));
    let role = quoted(role);
    vec![
        format!("GRANT USAGE ON DATABASE {} TO ROLE {role}", quoted(&plan.target.database)),
        format!("GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA {schema} TO ROLE {role}"),
        format!(
            "GRANT SELECT, INSERT, UPDATE ON TABLE {} TO ROLE {role} -- if it exists",
            ledger.name().sql()
        ),
        format!("GRANT READ, WRITE ON STAGE {} TO ROLE {role} -- if it exists", stage.sql()),
        format!("GRANT SELECT, INSERT, DELETE ON TABLE {} TO ROLE {role} -- if it exists", plan.target.sql()),
    ]
}

fn column_list(columns: &[ColumnPlan]) -> String {
    columns.iter().map(|column| quoted(&column.target_name)).collect::<Vec<_>>().join(", ")
}

fn definitions(columns: &[ColumnPlan]) -> String {
    let definition =
        |column: &ColumnPlan| format!("{} {}", quoted(&column.target_name), column.source.snowflake());
    columns.iter().map(definition).collect::<Vec<_>>().join(", ")
}

/// The target, as the plan has it.
pub(super) fn create_target(target: &TargetName, columns: &[ColumnPlan]) -> String {
    format!("CREATE TABLE IF NOT EXISTS {} ({})", target.sql(), definitions(columns))
}

/// Transient: its rows are staged files' rows and need no fail-safe. Each row says which file it came from.
pub(super) fn create_staging(staging: &TargetName, columns: &[ColumnPlan]) -> String {
    let file = quoted(&file_column(columns));
    let definitions = definitions(columns);
    format!("CREATE TRANSIENT TABLE IF NOT EXISTS {} ({definitions}, {file} VARCHAR)", staging.sql())
}

pub(super) fn overwrite_statement(
    target: &TargetName,
    staging: &TargetName,
    columns: &[ColumnPlan],
) -> String {
    let columns = column_list(columns);
    format!("INSERT OVERWRITE INTO {} ({columns}) SELECT {columns} FROM {}", target.sql(), staging.sql())
}

pub(super) fn drop_statement(staging: &TargetName) -> String {
    format!("DROP TABLE IF EXISTS {}", staging.sql())
}

pub(super) fn needs_create(error: SnowflakeError, table: &TargetName, role: &str) -> SnowflakeError {
    let schema = format!("{}.{}", quoted(&table.database), quoted(&table.schema));
    error.needing(
        &format!("the schema {schema}"),
        role,
        &format!(
            "GRANT USAGE ON DATABASE {} TO ROLE {role} and GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA {schema} TO ROLE {role}",
            quoted(&table.database)
        ),
    )
}

pub(super) fn needs_overwrite(
    error: SnowflakeError,
    target: &TargetName,
    staging: &TargetName,
    role: &str,
) -> SnowflakeError {
    error.needing(
        &format!("the target {} or the staging table {}", target.sql(), staging.sql()),
        role,
        &format!("GRANT SELECT, INSERT, DELETE ON TABLE {} TO ROLE {role}", target.sql()),
    )
}
