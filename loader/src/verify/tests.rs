use super::*;
use crate::{
    model::{Bound, CodePage, KeyColumn, SourceType, TargetName},
    witness::Witness,
};

fn every_type() -> TablePlan {
    let text = CodePage(1252);
    let types = [
        ("Flag", SourceType::Bit),
        ("Tiny", SourceType::TinyInt),
        ("Big", SourceType::BigInt),
        ("Price", SourceType::Decimal { precision: 15, scale: 2 }),
        ("Wide", SourceType::Decimal { precision: 38, scale: 10 }),
        ("Deep", SourceType::Decimal { precision: 38, scale: 30 }),
        ("Deepest", SourceType::Decimal { precision: 38, scale: 38 }),
        ("Cash", SourceType::Money),
        ("Single", SourceType::Real),
        ("Double", SourceType::Float),
        ("Day", SourceType::Date),
        ("Minute", SourceType::SmallDateTime),
        ("Old", SourceType::DateTime),
        ("Exact", SourceType::DateTime2 { scale: 7 }),
        ("Name", SourceType::NVarChar { units: 40 }),
        ("Code]", SourceType::Char { bytes: 4, code_page: text }),
        ("Blob", SourceType::VarBinary { bytes: 100 }),
        ("Id", SourceType::UniqueIdentifier),
    ];
    let column = |(name, source): (&str, SourceType)| ColumnPlan {
        source_name: name.into(),
        target_name: name.to_uppercase(),
        source,
        nullable: true,
    };
    let target = TargetName { database: "RAW".into(), schema: "SALES".into(), name: "ALL\"TYPES".into() };
    TablePlan {
        source: TableName { schema: "dbo".into(), name: "All Types".into() },
        staging: TargetName { name: "ALL_TYPES__KEYFERRY".into(), ..target.clone() },
        target,
        columns: types.map(column).to_vec(),
        keys: vec![KeyColumn { name: "Big".into(), source: SourceType::BigInt, nullable: true }],
        chunks: Vec::new(),
        schema_hash: String::new(),
    }
}

fn lines(sql: &str) -> String {
    sql.replace(", COUNT", ",\nCOUNT").replace(" FROM ", "\nFROM ")
}

#[test]
fn the_source_recomputes_its_witness() {
    let range = KeyRange { lower: None, upper: Some(Bound::of("Big", "CAST(10 AS bigint)")) };
    insta::assert_snapshot!(lines(&source_sql(&every_type(), &range, Level::Sums)));
}

#[test]
fn the_target_recomputes_its_witness() {
    let plan = every_type();
    insta::assert_snapshot!(lines(&target_sql(&plan, &plan.staging, Level::Sums)));
}

#[test]
fn hashes_add_digests_of_text_and_binary_on_both_sides() {
    let mut plan = every_type();
    plan.columns.drain(..13);
    insta::assert_snapshot!(lines(&source_sql(&plan, &KeyRange::default(), Level::Hashes)));
    insta::assert_snapshot!(lines(&target_sql(&plan, &plan.staging, Level::Hashes)));
}

#[test]
fn counts_alone_ask_for_rows_alone() {
    let plan = every_type();
    assert_eq!(
        source_sql(&plan, &KeyRange::default(), Level::Counts),
        "SELECT COUNT_BIG(*) FROM [dbo].[All Types]"
    );
    assert_eq!(
        target_sql(&plan, &plan.target, Level::Counts),
        "SELECT COUNT(*) FROM \"RAW\".\"SALES\".\"ALL\"\"TYPES\""
    );
}

#[test]
fn an_empty_chunk_agrees_although_sums_of_nothing_are_null() {
    let plan = every_type();
    let loader = Witness::new(&plan.columns, Level::Sums);
    for side in [Side::Source, Side::Target] {
        let mut row = vec![Some("0".to_owned())];
        for column in &plan.columns {
            row.push(Some("0".to_owned()));
            let two = |m: &crate::witness::Measure| matches!(m.limbs(), crate::witness::Limbs::Two { .. });
            let limbs =
                side.measures(column, Level::Sums).iter().map(|m| if two(m) { 2 } else { 1 }).sum::<usize>();
            let extremes = if side == Side::Target && target_sql::has_extremes(column) { 2 } else { 0 };
            row.extend(std::iter::repeat_n(None, limbs + extremes));
        }
        let seen = observed(side, Level::Sums, &plan.columns, &[row]).unwrap();
        match side {
            Side::Source => check_source(&plan, 1, &KeyRange::default(), &loader, &seen).unwrap(),
            Side::Target => check_target(&plan, &loader, &seen).unwrap(),
        }
    }
}

#[test]
fn a_mismatch_names_table_chunk_range_column_and_both_values() {
    let mut plan = every_type();
    plan.columns.truncate(2);
    let mut loader = Witness::new(&plan.columns, Level::Sums);
    loader.rows = 3;
    loader.columns[0].count = 3;
    let range = KeyRange { lower: Some(Bound::of("Big", "5")), upper: Some(Bound::of("Big", "9")) };
    let row = ["4", "4", "0", "0", "7"].map(|text| Some(text.to_owned())).to_vec();
    let seen = observed(Side::Source, Level::Sums, &plan.columns, &[row]).unwrap();
    let mismatch = check_source(&plan, 7, &range, &loader, &seen).unwrap_err();
    insta::assert_snapshot!(mismatch, @r"
    dbo.All Types is not the same on both sides in chunk 7 (5 <= Big < 9):
      rows: 3 passed through the loader, SQL Server has 4
      column Flag: values that are not NULL: 3 passed through the loader, SQL Server has 4
      column Tiny: sum: 0 passed through the loader, SQL Server has 7
    What was read is not what the source says it has in the same transaction. The chunk was not committed and the target was not touched; running again reads the chunk anew.
    ");
}

#[test]
fn rows_that_a_policy_may_hide_are_hinted_at() {
    let plan = every_type();
    let mut loader = Witness::new(&plan.columns, Level::Sums);
    loader.rows = 3;
    let seen = observed(Side::Target, Level::Counts, &plan.columns, &[vec![Some("2".into())]]).unwrap();
    let mismatch = check_target(&plan, &loader, &seen).unwrap_err();
    assert!(mismatch.to_string().contains("row access or masking policy"), "{mismatch}");
}

#[test]
fn an_answer_that_is_no_number_is_refused() {
    let plan = every_type();
    assert!(observed(Side::Source, Level::Counts, &plan.columns, &[]).is_err());
    assert!(observed(Side::Source, Level::Counts, &plan.columns, &[vec![Some("many".into())]]).is_err());
}
