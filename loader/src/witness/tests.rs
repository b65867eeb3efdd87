use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_buffer::i256;
use proptest::prelude::*;

use super::*;
use crate::model::{CodePage, SourceType, arrow_schema};

fn column(source: SourceType) -> ColumnPlan {
    ColumnPlan { source_name: "c".into(), target_name: "C".into(), source, nullable: true }
}

fn witness(source: SourceType, array: ArrayRef, bytes: u64) -> ColumnWitness {
    let columns = [column(source)];
    let batch = RecordBatch::try_new(Arc::new(arrow_schema(&columns)), vec![array]).unwrap();
    let mut witness = Witness::new(&columns, Level::Sums);
    witness.add(&columns, &Decoded { batch, source_bytes: vec![bytes] }).unwrap();
    witness.columns.remove(0)
}

fn big(number: i128) -> Vec<i256> {
    vec![i256::from_i128(number)]
}

#[test]
fn dates_and_times_count_from_the_year_one() {
    // 0001-01-01 and 9999-12-31.
    let days = Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)]);
    let found = witness(SourceType::Date, Arc::new(days), 0);
    assert_eq!((found.count, found.source, found.target), (2, big(3_652_058), big(3_652_058)));

    let texts = StringArray::from(vec![
        Some("0001-01-01 00:00:00.0000001"),
        Some("9999-12-31 23:59:59.9999999"),
        None,
    ]);
    let found = witness(SourceType::DateTime2 { scale: 7 }, Arc::new(texts), 0);
    assert_eq!(found.source, big(1 + 3_652_059 * 864_000_000_000 - 1));

    let micros = TimestampMicrosecondArray::from(vec![Some(-62_135_596_800_000_000), Some(0)]);
    let found = witness(SourceType::DateTime2 { scale: 6 }, Arc::new(micros), 0);
    assert_eq!(found.target, big(719_162 * 864_000_000_000));
}

#[test]
fn a_datetime_gives_back_its_three_hundredths_of_a_second() {
    // Every tick of a second, printed as SQL Server rounds it, before and after 1900.
    for tick in 0..300_i64 {
        let ms = (tick * 10 + 1) / 3;
        for day in [-100_000_i64, 0, 25_567, 100_000] {
            let array = TimestampMillisecondArray::from(vec![(day - 25_567) * 86_400_000 + ms]);
            let found = witness(SourceType::DateTime, Arc::new(array), 0);
            assert_eq!(found.source, [i256::from(day), i256::from(tick)], "day {day}, tick {tick}");
        }
    }
}

#[test]
fn a_smalldatetime_counts_minutes_since_1900() {
    let minutes = 25_567 * 1440 + 61;
    let array = TimestampMillisecondArray::from(vec![Some(61 * 60_000), None]);
    let found = witness(SourceType::SmallDateTime, Arc::new(array), 0);
    assert_eq!(
        (found.source, found.target),
        (big(minutes), big(719_162 * 864_000_000_000 + 61 * 600_000_000))
    );
}

#[test]
fn text_has_two_lengths_and_binary_one() {
    let text = SourceType::NVarChar { units: 20 };
    let found = witness(text, Arc::new(StringArray::from(vec![Some("aЖ😀"), None, Some("")])), 8);
    assert_eq!((found.count, found.source, found.target), (2, big(8), big(7)));
    let found = witness(
        SourceType::VarBinary { bytes: 9 },
        Arc::new(BinaryArray::from(vec![Some(&b"\0\0"[..]), None, Some(b"")])),
        2,
    );
    assert_eq!((found.count, found.source, found.target), (2, big(2), big(2)));
}

#[test]
fn a_uniqueidentifier_is_summed_as_the_server_stores_it() {
    // CAST of this to binary(16) is 0xFF19966F868B11D0B42D00C04FC964FF.
    let array = StringArray::from(vec!["6F9619FF-8B86-D011-B42D-00C04FC964FF"]);
    let found = witness(SourceType::UniqueIdentifier, Arc::new(array), 16);
    let head = i64::from_be_bytes([0xff, 0x19, 0x96, 0x6f, 0x86, 0x8b, 0x11, 0xd0]);
    let tail = i64::from_be_bytes([0xb4, 0x2d, 0x00, 0xc0, 0x4f, 0xc9, 0x64, 0xff]);
    assert_eq!((found.source, found.target), (vec![i256::from(head), i256::from(tail)], big(36)));
}

#[test]
fn a_decimal_of_scale_38_is_summed_by_its_digits() {
    let least = "0.00000000000000000000000000000000000001";
    let array = StringArray::from(vec![Some(least), Some("-0.99999999999999999999999999999999999999")]);
    let found = witness(SourceType::Decimal { precision: 38, scale: 38 }, Arc::new(array), 0);
    assert_eq!(found.source, big(1 - (10_i128.pow(38) - 1)));
    assert_eq!(found.target, big(40 + 41));
}

fn hashed(source: SourceType, array: ArrayRef) -> Witness {
    let columns = [column(source)];
    let batch = RecordBatch::try_new(Arc::new(arrow_schema(&columns)), vec![array]).unwrap();
    let mut witness = Witness::new(&columns, Level::Hashes);
    witness.add(&columns, &Decoded { batch, source_bytes: vec![0] }).unwrap();
    witness
}

#[test]
fn digests_tell_values_of_one_length_apart() {
    let text = SourceType::VarChar { bytes: 9, code_page: CodePage(1251) };
    let of = |value: &str| hashed(text, Arc::new(StringArray::from(vec![Some(value), None])));
    // One byte on the wire, two in UTF-8, whichever code page it is read in.
    let (right, wrong) = (of("Ж"), of("Æ"));
    assert_eq!(right.columns[0].target[0], wrong.columns[0].target[0]);
    assert_ne!(right.columns[0].source[1], wrong.columns[0].source[1]);
    assert_ne!(right.columns[0].target[1], wrong.columns[0].target[1]);
    let binary = SourceType::VarBinary { bytes: 9 };
    let of = |value: &[u8]| hashed(binary, Arc::new(BinaryArray::from(vec![value])));
    assert_ne!(of(&[1, 2]).columns[0].source[1], of(&[2, 1]).columns[0].source[1]);
    assert_ne!(of(&[1, 2]).columns[0].target[1], of(&[2, 1]).columns[0].target[1]);
}

#[test]
fn a_witness_kept_at_a_lower_level_is_known_when_it_is_read_back() {
    let columns = [column(SourceType::NVarChar { units: 9 }), column(SourceType::Int)];
    for level in [Level::Sums, Level::Hashes] {
        let text = Witness::new(&columns, level).to_json();
        assert_eq!(Witness::from_json(&columns, &text).unwrap().level, level);
    }
    let mut sum = Witness::new(&columns, Level::Hashes);
    sum.merge(&Witness::new(&columns, Level::Sums));
    assert_eq!((sum.level, sum.columns[0].source.len()), (Level::Sums, 1));
    // Without text there is nothing that digests would add.
    let numbers = [column(SourceType::Int)];
    let text = Witness::new(&numbers, Level::Sums).to_json();
    assert_eq!(Witness::from_json(&numbers, &text).unwrap().level, Level::Hashes);
}

#[test]
fn a_batch_of_another_type_than_planned_is_an_error() {
    let columns = [column(SourceType::Int)];
    let array: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let batch = RecordBatch::try_from_iter([("C", array)]).unwrap();
    let outcome =
        Witness::new(&columns, Level::Sums).add(&columns, &Decoded { batch, source_bytes: vec![0] });
    assert!(matches!(outcome, Err(WitnessError::Shape { .. })));
}

#[test]
fn a_difference_names_column_measure_and_both_values() {
    let columns = [column(SourceType::Money)];
    let mut loader = Witness::new(&columns, Level::Sums);
    (loader.rows, loader.columns[0].count, loader.columns[0].target) = (3, 3, big(123_456));
    let server =
        Observed { rows: 2, columns: vec![ObservedColumn { count: 3, sums: big(-5), extremes: None }] };
    let found: Vec<String> =
        compare(Side::Target, &columns, &loader, &server).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(found.join("\n"), @r"
    rows: 3 passed through the loader, Snowflake has 2
    column C: sum: 12.3456 passed through the loader, Snowflake has -0.0005
    ");
}

#[test]
fn a_stored_witness_of_other_columns_is_refused() {
    let text = Witness::new(&[column(SourceType::Int)], Level::Sums).to_json();
    assert!(Witness::from_json(&[column(SourceType::Float)], &text).is_err());
    assert!(Witness::from_json(&[], &text).is_err());
    assert!(Witness::from_json(&[column(SourceType::Int)], "{").is_err());
}

#[test]
fn numbers_of_the_servers_are_read_exactly_or_not_at_all() {
    let read = |text: &str, scale| stored::unscaled(text, scale).map(|n| n.to_string());
    assert_eq!(read("-12.5", 2).as_deref(), Some("-1250"));
    assert_eq!(read(".5", 1).as_deref(), Some("5"));
    assert_eq!(read("7.000000", 0).as_deref(), Some("7"));
    for wrong in ["", "-", "1e5", "1.5", "0x1", "1 ", "--1", &"9".repeat(90)] {
        assert_eq!(read(wrong, 0), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn integers_add_up_as_they_do_by_hand(values in prop::collection::vec(any::<Option<i64>>(), 0..50)) {
        let found = witness(SourceType::BigInt, Arc::new(Int64Array::from(values.clone())), 0);
        let sum: i128 = values.iter().flatten().map(|v| i128::from(*v)).sum();
        prop_assert_eq!(found.count, values.iter().flatten().count() as u64);
        prop_assert_eq!(&found.source, &big(sum));
        prop_assert_eq!(&found.target, &big(sum));
    }

    #[test]
    fn decimals_of_38_digits_do_not_overflow(values in prop::collection::vec(-(10_i128.pow(38) - 1)..10_i128.pow(38), 0..50)) {
        let array = Decimal128Array::from(values.clone()).with_precision_and_scale(38, 9).unwrap();
        let found = witness(SourceType::Decimal { precision: 38, scale: 9 }, Arc::new(array), 0);
        let (mut high, mut low) = (0_i128, 0_i128);
        let cut = 10_i128.pow(19);
        for value in values {
            high += value / cut;
            low += value % cut;
        }
        // The servers send two limbs; put together they are the same number.
        let mut limbs = [Some(high.to_string()), Some(print_scaled(low, 9))].into_iter();
        let measure = Measure::Number { digits: 38, scale: 9 };
        let texts: Vec<_> = limbs.by_ref().flatten().collect();
        let mut texts = texts.iter().map(String::as_str);
        prop_assert_eq!(vec![measure.read(|| texts.next()).unwrap()], found.source);
    }

    #[test]
    fn floats_add_up_by_their_bits(values in prop::collection::vec(any::<Option<f64>>().prop_filter("SQL Server has no NaN", |v| !v.is_some_and(f64::is_nan)), 0..50)) {
        let found = witness(SourceType::Float, Arc::new(Float64Array::from(values.clone())), 0);
        let sum: i128 = values.iter().flatten().map(|v| i128::from(i64::from_be_bytes(v.to_be_bytes()))).sum();
        prop_assert_eq!(found.source, big(sum));
        let low = values.iter().flatten().copied().reduce(f64::min);
        prop_assert_eq!(found.extremes.map(|e| e.0), low);
    }

    #[test]
    fn reals_too(values in prop::collection::vec(any::<f32>().prop_filter("SQL Server has no NaN", |v| !v.is_nan()), 0..50)) {
        let found = witness(SourceType::Real, Arc::new(Float32Array::from(values.clone())), 0);
        let sum: i128 = values.iter().map(|v| i128::from(i32::from_be_bytes(v.to_be_bytes()))).sum();
        prop_assert_eq!(found.source, big(sum));
    }

    #[test]
    fn merged_batches_are_the_same_as_one(values in prop::collection::vec(any::<Option<i16>>(), 0..60), cut in 0_usize..60) {
        let columns = [column(SourceType::SmallInt)];
        let cut = cut.min(values.len());
        let of = |values: &[Option<i16>]| {
            let array: ArrayRef = Arc::new(Int16Array::from(values.to_vec()));
            let batch = RecordBatch::try_new(Arc::new(arrow_schema(&columns)), vec![array]).unwrap();
            let mut witness = Witness::new(&columns, Level::Sums);
            witness.add(&columns, &Decoded { batch, source_bytes: vec![0] }).unwrap();
            witness
        };
        let mut parts = of(&values[..cut]);
        parts.merge(&of(&values[cut..]));
        prop_assert_eq!(&parts, &of(&values));
        let read = Witness::from_json(&columns, &parts.to_json()).unwrap();
        prop_assert_eq!((read.rows, read.columns), (parts.rows, parts.columns));
    }
}

fn print_scaled(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

#[test]
fn every_type_has_a_witness_on_both_sides() {
    let text = |code_page| SourceType::VarChar { bytes: 1, code_page };
    for source in [SourceType::Bit, SourceType::Real, text(CodePage(932)), SourceType::UniqueIdentifier] {
        assert!(!source_measure(source).is_empty(), "{source}");
    }
}
