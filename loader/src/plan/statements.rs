//! Everything that a run will say to both servers, and the rights that it needs for that.

use super::{PlannedTable, sql};
use crate::{
    catalog,
    config::{Consistency, Pipeline},
    ledger::Ledger,
    model::{TablePlan, TargetName, bracketed},
    publish,
    verify::{Level, source_sql, target_sql},
};

/// T-SQL in the order in which it runs; of the chunks' statements the first chunk's stand for all.
pub(super) fn source(
    plan: &TablePlan,
    table: &catalog::Table,
    pipeline: &Pipeline,
    level: Level,
    quantiles: &[String],
) -> Vec<String> {
    use catalog::sql as ask;
    let mut all = vec![
        ask::DATABASE.to_owned(),
        ask::object(&plan.source),
        ask::may_select(&plan.source),
        ask::columns(table.object_id, "c.encryption_type"),
        ask::indexes(table.object_id),
        ask::size(table.object_id),
    ];
    if table.counted {
        all.push(ask::count(&plan.source));
    }
    all.extend_from_slice(quantiles);
    let Some(chunk) = plan.chunks.first() else { return all };
    let consistency = pipeline.source.consistency;
    if consistency == Consistency::PerRunBarrier {
        all.extend([sql::BEGIN_BARRIER.to_owned(), sql::hold(&plan.source), sql::COMMIT.to_owned()]);
    }
    all.push(sql::begin(consistency).to_owned());
    if consistency == Consistency::PerRunBarrier {
        all.push(sql::touch(&plan.source));
    }
    all.push(sql::select(plan, &chunk.range));
    if consistency.bears_witness() {
        all.push(source_sql(plan, &chunk.range, level));
    }
    all.push(sql::COMMIT.to_owned());
    all
}

/// Snowflake SQL.
pub(super) fn target(ledger: &Ledger, plan: &TablePlan, stage: &TargetName, level: Level) -> Vec<String> {
    let mut all = publish::statements(ledger, plan, stage);
    let staging = TargetName { name: format!("{}_<RUN>", plan.staging.name), ..plan.staging.clone() };
    all.push(target_sql(plan, &staging, level));
    all
}

/// One line for each right, without repetition.
pub(super) fn privileges(
    pipeline: &Pipeline,
    ledger: &Ledger,
    stage: &TargetName,
    tables: &[PlannedTable],
) -> Vec<String> {
    let mut all = Vec::new();
    for table in &pipeline.tables {
        all.push(format!("SQL Server: GRANT SELECT ON {} TO the loader's user", table.source.sql()));
    }
    all.push("SQL Server: VIEW DATABASE STATE is optional; without it rows are counted".into());
    if pipeline.source.consistency.needs_snapshot_isolation() {
        let database = bracketed(&pipeline.source.database);
        all.push(format!("SQL Server: ALTER DATABASE {database} SET ALLOW_SNAPSHOT_ISOLATION ON (it is)"));
    }
    let role = if pipeline.target.role.is_empty() { "LOADER" } else { &pipeline.target.role };
    for table in tables {
        for right in publish::privileges(ledger, &table.plan, stage, role) {
            let right = format!("Snowflake: {right}");
            if !all.contains(&right) {
                all.push(right);
            }
        }
    }
    all
}
