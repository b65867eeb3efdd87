//! Each type: from the wire's bytes to Arrow.

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    cast::AsArray,
};

use super::wire::{LATIN, NOT_NULL, NULLABLE, columns_of, metadata, plan, plan_of, rows_of};
use crate::{
    model::{CodePage, SourceType},
    tds::{Rows, TdsError, rows::Progress},
};

/// One column of this type, with these values as they stand in ROW; the array and its DATALENGTH sum.
fn decode(type_info: &[u8], values: &[&[u8]]) -> Result<(ArrayRef, u64), TdsError> {
    let columns = columns_of(&metadata(&[("c", NULLABLE, type_info.to_vec())]));
    let mut rows = rows_of(&columns);
    let mut wire = Vec::new();
    for value in values {
        wire.push(0xD1);
        wire.extend_from_slice(value);
    }
    let (used, progress) = rows.absorb(&wire, 0)?;
    assert!(matches!(progress, Progress::Short(1)), "{progress:?}");
    assert_eq!(used, wire.len());
    let (batch, source_bytes) = rows.finish()?;
    Ok((batch.column(0).clone(), source_bytes[0]))
}

fn array<T: Array + Clone + 'static>(type_info: &[u8], values: &[&[u8]]) -> T {
    decode(type_info, values).unwrap().0.as_any().downcast_ref::<T>().unwrap().clone()
}

fn trouble(type_info: &[u8], value: &[u8]) -> String {
    decode(type_info, &[value]).unwrap_err().to_string()
}

#[test]
fn integers_of_every_width_fixed_and_nullable() {
    assert_eq!(array::<Int16Array>(&[0x26, 1], &[&[1, 255], &[0]]), Int16Array::from(vec![Some(255), None]));
    assert_eq!(array::<Int16Array>(&[0x30], &[&[255]]), Int16Array::from(vec![255]));
    assert_eq!(array::<Int16Array>(&[0x34], &[&[0, 0x80]]), Int16Array::from(vec![i16::MIN]));
    assert_eq!(
        array::<Int32Array>(&[0x26, 4], &[&[4, 0xFF, 0xFF, 0xFF, 0x7F], &[0]]),
        Int32Array::from(vec![Some(i32::MAX), None])
    );
    assert_eq!(
        array::<Int64Array>(&[0x7F], &[&[0, 0, 0, 0, 0, 0, 0, 0x80]]),
        Int64Array::from(vec![i64::MIN])
    );
    assert_eq!(
        array::<BooleanArray>(&[0x68, 1], &[&[1, 1], &[1, 0], &[0]]),
        BooleanArray::from(vec![Some(true), Some(false), None])
    );
    assert_eq!(array::<BooleanArray>(&[0x32], &[&[1]]), BooleanArray::from(vec![true]));
}

#[test]
fn a_value_of_another_width_than_its_column_is_refused() {
    assert!(trouble(&[0x26, 4], &[2, 0, 0]).contains("column c, row 1"));
    assert!(trouble(&[0x68, 1], &[2, 0, 0]).contains("2 bytes"));
    assert!(trouble(&[0x6A, 9, 18, 2], &[3, 1, 2, 3]).contains("3 bytes"));
    assert!(trouble(&[0xA5, 2, 0], &[3, 0, 1, 2, 3]).contains("3 bytes came in a type of 2"));
}

#[test]
fn decimals_and_money_keep_every_digit() {
    let mut wire = vec![17, 0];
    wire.extend((10i128.pow(38) - 1).to_le_bytes());
    let most = array::<Decimal128Array>(&[0x6C, 17, 38, 10], &[&wire, &[5, 1, 1, 0, 0, 0], &[0]]);
    assert_eq!((most.precision(), most.scale()), (38, 10));
    assert_eq!((most.value(0), most.value(1), most.is_null(2)), (1 - 10i128.pow(38), 1, true));

    let money = array::<Decimal128Array>(
        &[0x6E, 8],
        &[&[8, 0, 0, 0, 0x80, 0, 0, 0, 0], &[8, 0, 0, 0, 0, 0x10, 0x27, 0, 0]],
    );
    assert_eq!((money.precision(), money.scale()), (19, 4));
    assert_eq!((money.value(0), money.value(1)), (i128::from(i64::MIN), 10_000));
    let small = array::<Decimal128Array>(&[0x7A], &[&[0xFF, 0xFF, 0xFF, 0x7F]]);
    assert_eq!((small.precision(), small.scale(), small.value(0)), (10, 4, i128::from(i32::MAX)));

    let text = array::<StringArray>(&[0x6A, 17, 38, 38], &[&[5, 0, 1, 0, 0, 0]]);
    assert_eq!(text.value(0), format!("-0.{}1", "0".repeat(37)), "scale 38 travels as text");
}

#[test]
fn a_decimal_beyond_its_precision_is_refused() {
    assert!(
        trouble(&[0x6A, 5, 4, 2], &[5, 1, 0x10, 0x27, 0, 0]).contains("outside of what its type can hold")
    );
    assert_eq!(array::<Decimal128Array>(&[0x6A, 5, 4, 2], &[&[5, 1, 0x0F, 0x27, 0, 0]]).value(0), 9999);
}

#[test]
fn floats_keep_their_bits() {
    let value = f32::from_bits(0x8000_0001);
    let mut wire = vec![4];
    wire.extend(value.to_le_bytes());
    assert_eq!(array::<Float32Array>(&[0x6D, 4], &[&wire]).value(0).to_bits(), 0x8000_0001);
    assert_eq!(array::<Float64Array>(&[0x3E], &[&(-0.0f64).to_le_bytes()]).value(0).to_bits(), 1 << 63);
}

#[test]
fn dates_and_times_span_the_whole_calendar() {
    let date = array::<Date32Array>(&[0x28], &[&[3, 0, 0, 0], &[3, 0xDA, 0xB9, 0x37], &[0]]);
    assert_eq!((date.value(0), date.value(1), date.is_null(2)), (-719_162, 2_932_896, true));
    assert!(trouble(&[0x28], &[3, 0xDB, 0xB9, 0x37]).contains("outside"));

    let small = array::<TimestampMillisecondArray>(&[0x6F, 4], &[&[4, 0, 0, 1, 0]]);
    assert_eq!(small.value(0), -2_208_988_740_000, "1900-01-01 00:01");
    let datetime = array::<TimestampMillisecondArray>(&[0x3D], &[&[0xDF, 0x63, 0, 0, 1, 0, 0, 0]]);
    assert_eq!(datetime.value(0), 3, "1970-01-01 and one three-hundredth");

    // scales 0 to 6 are micros, and each has its own width
    for (scale, width, unit) in
        [(0u8, 3, 1_000_000), (2, 3, 10_000), (3, 4, 1000), (4, 4, 100), (5, 5, 10), (6, 5, 1)]
    {
        let mut wire = vec![width + 3];
        wire.extend(&7u64.to_le_bytes()[..usize::from(width)]);
        wire.extend(&719_162u32.to_le_bytes()[..3]);
        let value = array::<TimestampMicrosecondArray>(&[0x2A, scale], &[&wire]).value(0);
        assert_eq!(value, 7 * unit, "scale {scale}");
    }
    let mut wire = vec![8];
    wire.extend(&863_999_999_999u64.to_le_bytes()[..5]);
    wire.extend(&3_652_058u32.to_le_bytes()[..3]);
    assert_eq!(array::<StringArray>(&[0x2A, 7], &[&wire]).value(0), "9999-12-31 23:59:59.9999999");
}

#[test]
fn a_uniqueidentifier_is_text_as_sql_server_prints_it() {
    let wire =
        [16, 0xFF, 0x19, 0x96, 0x6F, 0x86, 0x8B, 0x11, 0xD0, 0xB4, 0x2D, 0, 0xC0, 0x4F, 0xC9, 0x64, 0xFF];
    let (ids, bytes) = decode(&[0x24, 16], &[&wire, &[0]]).unwrap();
    assert_eq!(ids.as_string::<i32>().value(0), "6F9619FF-8B86-D011-B42D-00C04FC964FF");
    assert!(ids.is_null(1));
    assert_eq!(bytes, 0, "not a text: its DATALENGTH bears no witness");
}

fn short(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn varchar(lcid: u16, flags: u16, sort_id: u8) -> Vec<u8> {
    let mut out = vec![0xA7, 100, 0];
    out.extend(lcid.to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.push(sort_id);
    out
}

#[test]
fn text_is_decoded_by_its_columns_own_code_page() {
    let cases: &[(u16, u16, &[u8], &str)] = &[
        (0x0405, 1250, b"\xEC\x9A\xE8\xF8\x9E\xFD", "ěščřžý"),
        (0x0419, 1251, b"\xCF\xF0\xE8\xE2\xE5\xF2", "Привет"),
        (0x0409, 1252, b"na\xEFve \x80 \x93q\x94", "naïve € “q”"),
        (0x0408, 1253, b"\xC1\xE8\xDE\xED\xE1", "Αθήνα"),
        (0x041F, 1254, b"\xDDstanbul \xFE\xF0\xFD", "İstanbul şğı"),
        (0x040D, 1255, b"\xF9\xEC\xE5\xED", "שלום"),
        (0x0401, 1256, b"\xE3\xD1\xCD\xC8\xC7", "مرحبا"),
        (0x0427, 1257, b"\xE0\xE8\xE6\xEB\xE1\xF0\xF8\xFB\xFE", "ąčęėįšųūž"),
        (0x042A, 1258, b"Vi\xEA\xF2t \xFE", "Viê\u{323}t ₫"),
        (0x041E, 874, b"\xCA\xC7\xD1\xCA\xB4\xD5", "สวัสดี"),
        (0x0411, 932, b"\x93\xFA\x96{\x8C\xEA \xB1\xB2", "日本語 ｱｲ"),
        (0x0804, 936, b"\xC4\xE3\xBA\xC3\x80", "你好€"),
        (0x0412, 949, b"\xC7\xD1\xB1\xB9\xBE\xEE \x81A", "한국어 갂"),
        (0x0404, 950, b"\xA7A\xA6n", "你好"),
    ];
    for (lcid, page, bytes, text) in cases {
        let columns = columns_of(&metadata(&[("c", NULLABLE, varchar(*lcid, 0x00D0, 0))]));
        assert_eq!(
            columns[0].source_type(),
            Some(SourceType::VarChar { bytes: 100, code_page: CodePage(*page) }),
            "locale {lcid:04x}"
        );
        let (array, source_bytes) =
            decode(&varchar(*lcid, 0x00D0, 0), &[&short(bytes), &short(b"ascii\0")]).unwrap();
        assert_eq!(array.as_string::<i32>().value(0), *text, "code page {page}");
        assert_eq!(array.as_string::<i32>().value(1), "ascii\0", "U+0000 is a character like any other");
        assert_eq!(source_bytes, bytes.len() as u64 + 6);
    }
    // The UTF-8 flag wins over the locale; a sort order wins over it as well.
    let utf8 = array::<StringArray>(&varchar(0x0409, 0x0400, 0), &[&short("żółć 🦀".as_bytes())]);
    assert_eq!(utf8.value(0), "żółć 🦀");
    assert_eq!(array::<StringArray>(&varchar(0x0409, 0x00D0, 106), &[&short(b"\xCF\xF0")]).value(0), "Пр");
    assert_eq!(
        array::<StringArray>(&varchar(0x0409, 0x00D0, 42), &[&short(b"\x9B\xE1\x41")]).value(0),
        "øßA"
    );
    assert_eq!(array::<StringArray>(&varchar(0x0409, 0x00D0, 30), &[&short(b"\x9B\xE1")]).value(0), "¢ß");
}

#[test]
fn a_byte_without_a_meaning_is_an_error_that_names_column_and_row() {
    let refused: &[(u16, u16, &[u8])] = &[
        (0x0408, 0x00D0, b"\xAA"),             // 1253 has a hole there
        (0x0411, 0x00D0, b"\x93"),             // 932: half a pair
        (0x0804, 0x00D0, b"\x81\x30\x81\x30"), // 936: GB18030's four bytes are not the code page's
        (0x0804, 0x00D0, b"a\xC4"),            // 936: half a pair
        (0x0404, 0x00D0, b"\x87\x40"),         // 950: Hong Kong's extension
        (0x0404, 0x00D0, b"\xC8\xA1"),         // 950: the user's own characters
        (0x0409, 0x0400, b"\xFF"),             // UTF-8
        (0x0409, 0x0400, b"\xED\xA0\x80"),     // UTF-8: a surrogate
    ];
    for (lcid, flags, bytes) in refused {
        let error = decode(&varchar(*lcid, *flags, 0), &[&short(b"fine"), &short(bytes)]).unwrap_err();
        assert!(
            matches!(&error, TdsError::Value { column, row: 2, .. } if column == "c"),
            "{bytes:x?}: {error}"
        );
    }
}

#[test]
fn utf16_is_strict_about_surrogates() {
    let nvarchar = [&[0xE7, 100, 0][..], &LATIN].concat();
    let good = super::wire::utf16("zażółć 🦀\0");
    let (text, source_bytes) = decode(&nvarchar, &[&short(&good), &short(b""), &[0xFF, 0xFF]]).unwrap();
    assert_eq!(text.as_string::<i32>().value(0), "zażółć 🦀\0");
    assert_eq!((text.as_string::<i32>().value(1), text.is_null(1), text.is_null(2)), ("", false, true));
    assert_eq!(source_bytes, good.len() as u64);
    for lone in [&[0x3E, 0xD8][..], &[0x80, 0xDD], &[0x3E, 0xD8, 0x41, 0x00], &[0x80, 0xDD, 0x3E, 0xD8]] {
        assert!(trouble(&nvarchar, &short(lone)).contains("surrogate"), "{lone:x?}");
    }
    assert!(trouble(&nvarchar, &short(&[0x41])).contains("1 bytes"));
}

#[test]
fn binary_is_carried_as_it_is() {
    let (bytes, source_bytes) =
        decode(&[0xA5, 0x40, 0x1F], &[&short(&[0, 255, 0]), &short(&[]), &[0xFF, 0xFF]]).unwrap();
    let bytes = bytes.as_any().downcast_ref::<BinaryArray>().unwrap();
    assert_eq!((bytes.value(0), bytes.value(1), bytes.is_null(2)), (&[0, 255, 0][..], &[][..], true));
    assert_eq!(source_bytes, 3);
}

#[test]
fn a_result_that_is_not_the_planned_one_is_refused() {
    let columns =
        columns_of(&metadata(&[("id", NOT_NULL, vec![0x38]), ("amount", NULLABLE, vec![0x6A, 9, 12, 2])]));
    assert!(Rows::new(&columns, &plan_of(&columns), 1, 1, usize::MAX).is_ok());
    let decimal = |precision| SourceType::Decimal { precision, scale: 2 };
    let refusal = |planned: &[_]| Rows::new(&columns, planned, 1, 1, usize::MAX).unwrap_err().to_string();
    let text = refusal(&[plan("id", SourceType::Int), plan("amount", decimal(10))]);
    assert!(text.contains("amount is decimal(12,2) and was planned as decimal(10,2)"), "{text}");
    assert!(refusal(&[plan("id", SourceType::BigInt), plan("amount", decimal(12))]).contains("id is int"));
    assert!(refusal(&[plan("id", SourceType::Int)]).contains("2 columns, the plan 1"));
    assert!(refusal(&[plan("key", SourceType::Int), plan("amount", decimal(12))]).contains("\"key\""));
}

#[test]
fn a_null_where_the_plan_says_not_null_is_refused() {
    let columns = columns_of(&metadata(&[("id", NULLABLE, vec![0x26, 4])]));
    let mut planned = plan_of(&columns);
    planned[0].nullable = false;
    let mut rows = Rows::new(&columns, &planned, 10, 1000, usize::MAX).unwrap();
    let error = rows.absorb(&[0xD1, 4, 1, 0, 0, 0, 0xD2, 1], 40).unwrap_err();
    assert!(matches!(error, TdsError::Value { row: 42, .. }), "{error}");
}

#[test]
fn every_other_type_is_parsed_and_named() {
    let udt = [
        &[0xF0, 0xFF, 0xFF][..],
        &super::wire::b_varchar("sales"),
        &super::wire::b_varchar("sys"),
        &super::wire::b_varchar("geography"),
        &super::wire::us_varchar("Microsoft.SqlServer.Types"),
    ]
    .concat();
    let schema = [
        &[0xF1, 1][..],
        &super::wire::b_varchar("d"),
        &super::wire::b_varchar("s"),
        &super::wire::us_varchar("c"),
    ];
    let with_collation = |head: &[u8]| [head, &LATIN].concat();
    let table = [&[1][..], &super::wire::us_varchar("t")].concat();
    let columns = columns_of(&metadata(&[
        ("a", NULLABLE, vec![0x29, 7]),
        ("b", NULLABLE, vec![0x2B, 3]),
        ("c", NULLABLE, vec![0x62, 0x49, 0x1F, 0, 0]),
        ("d", NULLABLE, vec![0xF1, 0]),
        ("e", NULLABLE, schema.concat()),
        ("f", NULLABLE, udt),
        ("g", NULLABLE, vec![0xA5, 0xFF, 0xFF]),
        ("h", NULLABLE, with_collation(&[0xA7, 0xFF, 0xFF])),
        ("i", NULLABLE, with_collation(&[0xE7, 0xFF, 0xFF])),
        ("j", NULLABLE, [with_collation(&[0x23, 0xFF, 0xFF, 0xFF, 0x7F]), table.clone()].concat()),
        ("k", NULLABLE, [with_collation(&[0x63, 0xFE, 0xFF, 0xFF, 0x7F]), table.clone()].concat()),
        ("l", NULLABLE, [vec![0x22, 0xFF, 0xFF, 0xFF, 0x7F], table].concat()),
        ("m", NULLABLE, varchar(0x0439, 0, 0)),
    ]));
    let names: Vec<_> = columns.iter().map(crate::tds::ColumnMeta::type_name).collect();
    assert_eq!(names[..6], ["time(7)", "datetimeoffset(3)", "sql_variant", "xml", "xml", "geography"]);
    assert_eq!(
        names[6..12],
        ["varbinary(max)", "varchar(max) cp1252", "nvarchar(max)", "text", "ntext", "image"]
    );
    assert_eq!(names[12], "varchar(100) with a collation of locale 0x0439 and sort order 0");
    // Of these only the types with (max) are carried.
    let carried: Vec<_> = columns.iter().map(|c| c.source_type().is_some()).collect();
    let max = [false, false, false, false, false, false, true, true, true, false, false, false, false];
    assert_eq!(carried, max);
}
