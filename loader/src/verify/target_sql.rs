//! Snowflake SQL that recomputes the target's witness. SUM widens to 38 digits and fails beyond them.

use crate::{
    ledger::chunk_folder,
    model::{ColumnPlan, SourceType, TablePlan, TargetName, file_column, quoted},
    plan::sql,
    verify::Level,
    witness::{Limbs, Measure, Side},
};

/// One row over a whole table: the count of rows; then for each column the count of values, its sums, and for
/// floats the smallest and the largest.
pub fn target_sql(table: &TablePlan, from: &TargetName, level: Level) -> String {
    ranged_sql(table, from, level, None)
}

/// The same over the rows that a condition names.
pub(crate) fn ranged_sql(
    table: &TablePlan,
    from: &TargetName,
    level: Level,
    condition: Option<&str>,
) -> String {
    let condition = condition.map(|c| format!(" WHERE {c}")).unwrap_or_default();
    format!("SELECT {} FROM {}{condition}", items(table, level).join(", "), from.sql())
}

/// The same for each chunk of a staging table, the chunk's folder first.
pub(crate) fn chunks_sql(table: &TablePlan, staging: &TargetName, level: Level) -> String {
    let (folder, items) = (folder(table), items(table, level).join(", "));
    format!("SELECT {folder} AS CHUNK_FOLDER, {items} FROM {} GROUP BY {folder}", staging.sql())
}

/// The files of a chunk that a staging table has rows of, and how many.
pub(crate) fn files_sql(table: &TablePlan, staging: &TargetName, chunk: u32) -> String {
    let file = quoted(&file_column(&table.columns));
    format!(
        "SELECT {file}, COUNT(*) FROM {} WHERE {} GROUP BY {file} ORDER BY {file}",
        staging.sql(),
        chunk_condition(table, chunk)
    )
}

/// The rows of a staging table that came with a chunk's files.
pub(crate) fn chunk_condition(table: &TablePlan, chunk: u32) -> String {
    format!("{} = '{}'", folder(table), chunk_folder(chunk))
}

/// A file lies in `…/<run>/<chunk>/<attempt>/`.
fn folder(table: &TablePlan) -> String {
    format!("SPLIT_PART({}, '/', -3)", quoted(&file_column(&table.columns)))
}

fn items(table: &TablePlan, level: Level) -> Vec<String> {
    let mut items = vec!["COUNT(*)".to_owned()];
    if level > Level::Counts {
        for column in &table.columns {
            let name = quoted(&column.target_name);
            items.push(format!("COUNT({name})"));
            for measure in Side::Target.measures(column, level) {
                items.extend(sums(measure, &name));
            }
            if has_extremes(column) {
                items.extend([format!("MIN({name})"), format!("MAX({name})")]);
            }
        }
    }
    items
}

/// Whether the smallest and the largest float of each column are exactly the loader's. Snowflake compares: what it
/// prints may have 15 digits only, and 17 name a float. Nothing when there are no floats.
pub(crate) fn extremes_sql(
    table: &TablePlan,
    from: &TargetName,
    extremes: &[(usize, (f64, f64))],
) -> Option<String> {
    let compared = |(index, (low, high)): &(usize, (f64, f64))| {
        let name = quoted(&table.columns.get(*index)?.target_name);
        Some(format!("MIN({name}) = '{low:.16e}'::FLOAT, MAX({name}) = '{high:.16e}'::FLOAT"))
    };
    let items: Vec<String> = extremes.iter().filter_map(compared).collect();
    (!items.is_empty()).then(|| format!("SELECT {} FROM {}", items.join(", "), from.sql()))
}

/// Floats have no exact sum in SQL.
pub(super) fn has_extremes(column: &ColumnPlan) -> bool {
    matches!(column.source, SourceType::Real | SourceType::Float)
}

fn sums(measure: Measure, column: &str) -> Vec<String> {
    let one = |value: String| vec![format!("SUM({value})")];
    match measure {
        Measure::Ones => one(format!("CASE WHEN {column} THEN 1 ELSE 0 END")),
        Measure::Bytes => one(format!("OCTET_LENGTH({column})")),
        Measure::TextMd5 => one(format!("MD5_NUMBER_LOWER64({column})")),
        Measure::BinaryMd5 => one(format!("MD5_NUMBER_LOWER64(HEX_ENCODE({column}))")),
        Measure::Number { scale, .. } => match measure.limbs() {
            Limbs::One(_) => one(column.to_owned()),
            Limbs::Two { .. } => limbs(column, scale),
        },
        Measure::Days => one(format!("DATEDIFF('day', '0001-01-01'::DATE, {column})")),
        Measure::Ticks => one(format!(
            "DATEDIFF('day', '0001-01-01'::DATE, {column}::DATE) * 864000000000 \
             + (HOUR({column}) * 3600 + MINUTE({column}) * 60 + SECOND({column})) * 10000000 \
             + TRUNC(DATE_PART(nanosecond, {column}) / 100)"
        )),
        // Measures of the source only; no target type has them.
        Measure::Minutes
        | Measure::DateTimeDays
        | Measure::DateTimeTicks
        | Measure::Bits32
        | Measure::Bits64
        | Measure::UuidHead
        | Measure::UuidTail
        | Measure::TextDigest
        | Measure::BinaryDigest => Vec::new(),
    }
}

/// Two sums of at most 19 digits each: what lies above 10^(19 - scale), and the rest.
fn limbs(column: &str, scale: u8) -> Vec<String> {
    let cut = sql::power_of_ten(19 - i32::from(scale));
    let high = if scale < 19 {
        format!("SUM((({column} - {column} % {cut}) / {cut})::NUMBER(38,0))")
    } else {
        format!("SUM(({column} - {column} % {cut})::NUMBER(38,{}))", scale - 19)
    };
    vec![high, format!("SUM({column} % {cut})")]
}
