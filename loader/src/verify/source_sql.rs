//! T-SQL that recomputes the source's witness. SUM keeps its argument's type (the sum of int is int), so every
//! argument is cast before it is summed; see `Measure` for what each sum is.

use crate::{
    model::{KeyRange, TablePlan, bracketed},
    plan::sql,
    verify::Level,
    witness::{Limbs, Measure, Side},
};

/// One row: the count of rows; then for each column the count of values and its sums.
pub fn source_sql(table: &TablePlan, range: &KeyRange, level: Level) -> String {
    let mut items = vec!["COUNT_BIG(*)".to_owned()];
    if level > Level::Counts {
        for column in &table.columns {
            let name = bracketed(&column.source_name);
            items.push(format!("COUNT_BIG({name})"));
            for measure in Side::Source.measures(column, level) {
                items.extend(sums(measure, &name));
            }
        }
    }
    format!("SELECT {} FROM {}{}", items.join(", "), table.source.sql(), sql::where_clause(table, range))
}

fn sums(measure: Measure, column: &str) -> Vec<String> {
    let big = |value: String| vec![format!("SUM(CAST({value} AS bigint))")];
    let wide = |value: String| vec![format!("SUM(CAST({value} AS decimal(38,0)))")];
    let half = |value: &str, from: u8, bytes: u8, ty: &str| {
        format!("CAST(SUBSTRING(CAST({column} AS binary({value})), {from}, {bytes}) AS {ty})")
    };
    match measure {
        Measure::Ones => big(column.to_owned()),
        Measure::Bytes => big(format!("DATALENGTH({column})")),
        Measure::Number { scale, .. } => match measure.limbs() {
            Limbs::One(_) => vec![format!("SUM(CAST({column} AS decimal(38,{scale})))")],
            Limbs::Two { .. } => limbs(column, scale),
        },
        Measure::Days => big(format!("DATEDIFF(day, CAST('0001-01-01' AS date), {column})")),
        Measure::Minutes => big(format!("DATEDIFF(minute, CAST('1900-01-01' AS smalldatetime), {column})")),
        Measure::DateTimeDays => big(half("8", 1, 4, "int")),
        Measure::DateTimeTicks => big(half("8", 5, 4, "int")),
        Measure::Ticks => wide(format!(
            "CAST(DATEDIFF(day, CAST('0001-01-01' AS date), {column}) AS bigint) * 864000000000 \
             + CAST(DATEPART(hour, {column}) * 3600 + DATEPART(minute, {column}) * 60 + DATEPART(second, {column}) AS bigint) \
             * 10000000 + DATEPART(nanosecond, {column}) / 100"
        )),
        Measure::Bits32 => wide(format!("CAST(CAST({column} AS binary(4)) AS int)")),
        Measure::Bits64 => wide(format!("CAST(CAST({column} AS binary(8)) AS bigint)")),
        Measure::UuidHead => wide(half("16", 1, 8, "bigint")),
        Measure::UuidTail => wide(half("16", 9, 8, "bigint")),
        // The server's own conversion from the code page: what the loader decoded must be the same text.
        Measure::TextDigest => wide(digest(&format!("CAST({column} AS nvarchar(max))"))),
        Measure::BinaryDigest => wide(digest(column)),
        // Measures of the target only.
        Measure::TextMd5 | Measure::BinaryMd5 => Vec::new(),
    }
}

/// Eight bytes of SHA-256 as a signed number. HASHBYTES takes values of any length since SQL Server 2016.
fn digest(value: &str) -> String {
    format!("CAST(SUBSTRING(HASHBYTES('SHA2_256', {value}), 1, 8) AS bigint)")
}

/// Two sums of at most 19 digits each: what lies above 10^(19 - scale), and the rest.
fn limbs(column: &str, scale: u8) -> Vec<String> {
    let cut = sql::power_of_ten(19 - i32::from(scale));
    let high = if scale < 19 {
        format!("SUM(CAST(({column} - {column} % {cut}) / {cut} AS decimal(38,0)))")
    } else {
        format!("SUM(CAST({column} - {column} % {cut} AS decimal(38,{})))", scale - 19)
    };
    vec![high, format!("SUM(CAST({column} % {cut} AS decimal(38,{scale})))")]
}
