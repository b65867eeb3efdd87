//! Snowflake SQL that recomputes the target's witness. SUM widens to 38 digits and fails beyond them.

use crate::{
    model::{ColumnPlan, SourceType, TablePlan, TargetName, quoted},
    plan::sql,
    verify::Level,
    witness::{Limbs, Measure, Side},
};

/// One row over a whole table: the count of rows; then for each column the count of values, its sums, and for
/// floats the smallest and the largest.
pub fn target_sql(table: &TablePlan, from: &TargetName, level: Level) -> String {
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
    format!("SELECT {} FROM {}", items.join(", "), from.sql())
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
