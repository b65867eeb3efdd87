//! What a level does not see: said in the plan, by column.

use crate::{
    config::Consistency,
    model::{ColumnPlan, SourceType},
    verify::Level,
    witness::{Measure, Side},
};

/// The oldest SQL Server whose HASHBYTES takes values of any length: 2016.
const FIRST_WITH_HASHES: u32 = 13;

/// One sentence for each kind of gap, with the columns that have it.
pub fn gaps(columns: &[ColumnPlan], level: Level, consistency: Consistency) -> Vec<String> {
    let mut all = Vec::new();
    if consistency == Consistency::ReadCommitted {
        all.push("read_committed: the source bears no witness of any column".to_owned());
    }
    if level == Level::Counts {
        all.push("counts: no column has a witness; rows are counted".to_owned());
        return all;
    }
    let mut say = |what: &str, has: &dyn Fn(&ColumnPlan) -> bool| {
        let names: Vec<_> = columns.iter().filter(|c| has(c)).map(|c| c.source_name.as_str()).collect();
        if !names.is_empty() {
            all.push(format!("{what}: {}", names.join(", ")));
        }
    };
    let by_length = |side: Side, column: &ColumnPlan| side.measures(column, level) == [Measure::Bytes];
    let more = if level < Level::Hashes { " (`hashes` compares the values)" } else { "" };
    say(&format!("only the length of values is compared{more}"), &|c| {
        by_length(Side::Target, c) && by_length(Side::Source, c)
    });
    say(&format!("at the target only the length of values is compared{more}"), &|c| {
        by_length(Side::Target, c) && !by_length(Side::Source, c)
    });
    say("at the target only the smallest and the largest value are compared", &|c| {
        matches!(c.source, SourceType::Real | SourceType::Float)
    });
    all
}

/// What stands for a column's values at the level, on both sides.
pub(crate) fn words(column: &ColumnPlan, level: Level) -> String {
    if level == Level::Counts {
        return "rows only".into();
    }
    let names = |side: Side| {
        let measures = side.measures(column, level);
        measures.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")
    };
    let source = names(Side::Source);
    let target = match names(Side::Target) {
        floats if floats.is_empty() => "smallest and largest".into(),
        sums => sums,
    };
    if source == target { source } else { format!("{source} / {target}") }
}

/// Whether a server can compute the digests: SQL Server 2016 or later, or Azure (editions 5 and 8), whose version
/// number stands still at 12.
pub fn hashes_possible(version: &str, edition: i32) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    matches!(edition, 5 | 8) || major.is_some_and(|major| major >= FIRST_WITH_HASHES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CodePage;

    fn columns() -> Vec<ColumnPlan> {
        let types = [
            ("id", SourceType::Int),
            ("name", SourceType::NVarChar { units: 9 }),
            ("code", SourceType::Char { bytes: 2, code_page: CodePage(1252) }),
            ("ratio", SourceType::Float),
            ("guid", SourceType::UniqueIdentifier),
        ];
        let column = |(name, source): (&str, SourceType)| ColumnPlan {
            source_name: name.into(),
            target_name: name.to_uppercase(),
            source,
            nullable: true,
        };
        types.map(column).to_vec()
    }

    #[test]
    fn each_level_names_the_columns_that_it_does_not_see() {
        let said = |level, consistency| gaps(&columns(), level, consistency).join("\n");
        insta::assert_snapshot!(said(Level::Sums, Consistency::PerChunk), @r"
        only the length of values is compared (`hashes` compares the values): name, code
        at the target only the length of values is compared (`hashes` compares the values): guid
        at the target only the smallest and the largest value are compared: ratio
        ");
        insta::assert_snapshot!(said(Level::Hashes, Consistency::ReadCommitted), @r"
        read_committed: the source bears no witness of any column
        at the target only the smallest and the largest value are compared: ratio
        ");
        assert_eq!(
            said(Level::Counts, Consistency::PerChunk),
            "counts: no column has a witness; rows are counted"
        );
    }

    #[test]
    fn hashes_need_sql_server_2016_or_azure() {
        assert!(!hashes_possible("11.0.7001.0", 2) && !hashes_possible("12.0.6024.0", 3));
        assert!(hashes_possible("13.0.5026.0", 3) && hashes_possible("17.0.1000.7", 2));
        assert!(hashes_possible("12.0.2000.8", 5) && hashes_possible("12.0.2000.8", 8));
        assert!(!hashes_possible("", 3));
    }
}
