//! Types with (max): values that come in pieces, cut anywhere, of any size.

use arrow_array::{Array, RecordBatch, cast::AsArray};
use proptest::prelude::*;

use super::{
    server::{answer, connected, message},
    wire::{
        self, LATIN, NOT_NULL, NULLABLE, columns_of, info, metadata, order, plan_of, rows_of, selected, utf16,
    },
};
use crate::{
    extract::Room,
    model::{LARGEST_BINARY, LARGEST_TEXT, SourceType},
    tds::{ColumnMeta, Rows, TdsError, rows::Progress, token::Token},
};

const NULL: [u8; 8] = [0xFF; 8];
const UNKNOWN: u64 = u64::MAX - 1;
/// Japanese, code page 932.
const JAPANESE: [u8; 5] = [0x11, 0x04, 0xD0, 0x00, 0x00];

/// A value as PLP has it: the announced length, chunks of these sizes, the end.
fn plp(announced: u64, chunks: &[&[u8]]) -> Vec<u8> {
    let mut out = announced.to_le_bytes().to_vec();
    for chunk in chunks {
        out.extend((chunk.len() as u32).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out.extend([0; 4]);
    out
}

fn whole(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() { plp(0, &[]) } else { plp(bytes.len() as u64, &[bytes]) }
}

/// In chunks of `size`, of a length that nobody knows before.
fn chunked(bytes: &[u8], size: usize) -> Vec<u8> {
    plp(UNKNOWN, &bytes.chunks(size).collect::<Vec<_>>())
}

fn described() -> Vec<u8> {
    let max = |token: u8, collation: &[u8]| [&[token, 0xFF, 0xFF][..], collation].concat();
    metadata(&[
        ("id", NOT_NULL, vec![0x38]),
        ("n", NULLABLE, max(0xE7, &LATIN)),
        ("flag", NULLABLE, vec![0x68, 1]),
        ("v", NULLABLE, max(0xA7, &LATIN)),
        ("j", NULLABLE, max(0xA7, &JAPANESE)),
        ("b", NULLABLE, max(0xA5, &[])),
        ("name", NULLABLE, [&[0xE7, 80, 0][..], &LATIN].concat()),
    ])
}

/// Rows of both kinds; chunks of an odd size, so that units, pairs and lead bytes are cut between chunks as well.
fn recorded() -> (Vec<u8>, usize) {
    let unicode = utf16("zażółć 🦀𝄞 gęślą");
    let japanese = [0x61, 0x93, 0xFA, 0xB1, 0x96, 0x7B];
    let long: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let id = |i: u32| i.to_le_bytes().to_vec();
    let name = |text: &str| [&(text.len() as u16 * 2).to_le_bytes()[..], &utf16(text)].concat();
    let mut out = order();
    let mut rows = 0;
    let mut row = |token: &[u8], cells: &[Vec<u8>]| {
        out.extend_from_slice(token);
        out.extend(cells.concat());
        rows += 1;
    };
    row(
        &[0xD1],
        &[
            id(1),
            whole(&unicode),
            vec![1, 1],
            whole(b"caf\xE9"),
            whole(&japanese),
            whole(&[0, 255]),
            name("x"),
        ],
    );
    for size in [1, 3, 5] {
        row(
            &[0xD1],
            &[
                id(2),
                chunked(&unicode, size),
                vec![0],
                chunked(b"caf\xE9 caf\xE9", size),
                chunked(&japanese, size),
                chunked(&[7; 9], size),
                vec![0xFF, 0xFF],
            ],
        );
    }
    row(&[0xD1], &[id(3), NULL.to_vec(), vec![0], NULL.to_vec(), NULL.to_vec(), NULL.to_vec(), name("")]);
    // An empty value is a zero length and a terminator; of an unknown length, a terminator.
    row(&[0xD1], &[id(4), whole(&[]), vec![0], chunked(&[], 1), whole(&[]), whole(&[]), name("y")]);
    row(&[0xD2, 0b0101_1110], &[id(5), whole(&[1])]);
    row(
        &[0xD2, 0b0000_0010],
        &[id(6), vec![1, 0], whole(b"v"), whole(b"j"), chunked(&long, 8000), name("z")],
    );
    let mut wire = out;
    wire.extend(info(50_000, "between the rows"));
    wire.extend(selected(rows));
    (wire, rows as usize)
}

fn absorb(pieces: &[&[u8]]) -> (RecordBatch, Vec<u64>) {
    let columns = columns_of(&described());
    let mut rows = rows_of(&columns);
    let mut buffer: Vec<u8> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (used, progress) = rows.absorb(&buffer, 0).unwrap();
            buffer.drain(..used);
            match progress {
                Progress::Short(wanted) => {
                    assert!(wanted > buffer.len(), "it asks for more than it has");
                    assert!(wanted <= 82, "a value in pieces is never waited for as a whole: {wanted}");
                    break;
                }
                Progress::Token(Token::Done(_)) => return rows.finish().unwrap(),
                Progress::Token(_) => {}
                Progress::Full | Progress::Wide => panic!("not so many rows"),
            }
        }
    }
    panic!("no DONE");
}

#[test]
fn values_in_pieces_are_what_was_sent() {
    let (wire, rows) = recorded();
    let (batch, bytes) = absorb(&[&wire]);
    assert_eq!(batch.num_rows(), rows);
    let text = |column: usize| batch.column(column).as_string::<i64>();
    let unicode = "zażółć 🦀𝄞 gęślą";
    let found: Vec<_> = text(1).iter().collect();
    let u = Some(unicode);
    assert_eq!(found, [u, u, u, u, None, Some(""), None, None]);
    let found: Vec<_> = text(3).iter().collect();
    let two = Some("café café");
    assert_eq!(found, [Some("café"), two, two, two, None, Some(""), None, Some("v")]);
    assert_eq!(text(4).value(2), "a日ｱ本");
    let binary = batch.column(5).as_binary::<i64>();
    assert_eq!((binary.value(0), binary.value(6)), (&[0, 255][..], &[1][..]));
    assert!(binary.is_null(4) && binary.is_valid(5) && binary.value(5).is_empty());
    assert_eq!(binary.value(7).len(), 70_000);
    let units = unicode.encode_utf16().count() as u64;
    assert_eq!(bytes, [0, units * 2 * 4, 0, 4 + 27 + 1, 24 + 1, 2 + 27 + 1 + 70_000, 2 + 2 + 2]);
}

#[test]
fn single_bytes_and_a_cut_at_every_place_give_the_same_batch() {
    let (wire, _) = recorded();
    let expected = absorb(&[&wire]);
    assert_eq!(absorb(&wire.chunks(1).collect::<Vec<_>>()), expected);
    // The last row's long value is all alike inside; its head and tail are not.
    for cut in (0..2000).chain(wire.len() - 2000..wire.len()) {
        let (left, right) = wire.split_at(cut);
        assert_eq!(absorb(&[left, right]), expected, "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_pieces_give_the_same_batch(mut cuts in prop::collection::vec(0usize..72_000, 0..40)) {
        let (wire, _) = recorded();
        for cut in &mut cuts {
            *cut %= wire.len();
        }
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&wire[from..cut]);
            from = cut;
        }
        pieces.push(&wire[from..]);
        prop_assert_eq!(absorb(&pieces), absorb(&[&wire]));
    }
}

/// One nullable column of this type and one value.
fn one(type_info: &[u8], value: &[u8]) -> Result<Progress, TdsError> {
    let columns = columns_of(&metadata(&[("doc", NULLABLE, type_info.to_vec())]));
    let mut rows = rows_of(&columns);
    rows.absorb(&[&[0xD1][..], value].concat(), 41).map(|(_, progress)| progress)
}

fn nvarchar() -> Vec<u8> {
    [&[0xE7, 0xFF, 0xFF][..], &LATIN].concat()
}

#[test]
fn what_no_value_can_be_is_an_error_that_names_column_and_row() {
    let varbinary = vec![0xA5, 0xFF, 0xFF];
    let japanese = [&[0xA7, 0xFF, 0xFF][..], &JAPANESE].concat();
    let cases = [
        ("surrogate", nvarchar(), chunked(&utf16("a🦀")[..4], 3)),
        ("surrogate", nvarchar(), whole(&[&utf16("🦀")[2..], &utf16("a")].concat())),
        ("surrogate", nvarchar(), chunked(&utf16("ab")[..3], 2)),
        ("code page 932", japanese, chunked(&[0x61, 0x93], 1)),
        ("announced 3 bytes and has 2", varbinary.clone(), plp(3, &[&[1, 2]])),
        ("announced 1 bytes and has more", varbinary.clone(), plp(1, &[&[1], &[2]])),
        ("67108865 bytes", varbinary, plp(LARGEST_BINARY as u64 + 1, &[])),
        ("268435458 bytes", nvarchar(), plp(LARGEST_TEXT as u64 * 2 + 2, &[])),
    ];
    for (expected, type_info, value) in cases {
        let error = one(&type_info, &value).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(expected), "{expected}: {shown}");
        if let TdsError::Value { column, row, .. } = error {
            assert_eq!((column.as_str(), row), ("doc", 42));
        }
    }
}

#[test]
fn a_value_without_a_known_length_stops_at_the_limit() {
    let columns = columns_of(&metadata(&[("doc", NULLABLE, vec![0xA5, 0xFF, 0xFF])]));
    let mut rows = Rows::new(&columns, &plan_of(&columns), 10, usize::MAX, 1000).unwrap();
    let wire = [&[0xD1][..], &chunked(&[7; 1001], 100)].concat();
    let error = rows.absorb(&wire, 0).unwrap_err().to_string();
    assert!(
        error.contains("doc") && error.contains("1000 bytes") && error.contains("no announced size"),
        "{error}"
    );
}

#[test]
fn every_max_type_is_planned_as_one() {
    let planned: Vec<_> = columns_of(&described()).iter().filter_map(ColumnMeta::source_type).collect();
    assert!(planned.contains(&SourceType::NVarCharMax) && planned.contains(&SourceType::VarBinaryMax));
    assert!(planned.iter().any(|p| p.to_string() == "varchar(max) cp932"));
}

/// Gives so much, and counts how often it was asked.
struct Granted {
    bytes: usize,
    asked: usize,
}

impl Room for Granted {
    fn largest_value(&self) -> usize {
        usize::MAX
    }

    async fn widen(&mut self) -> usize {
        self.asked += 1;
        self.bytes
    }
}

async fn batches_of(values: &[usize], room: &mut Granted) -> Result<Vec<usize>, TdsError> {
    let (mut connection, mut io) = connected();
    let described = metadata(&[("doc", NULLABLE, vec![0xA5, 0xFF, 0xFF])]);
    let rows: Vec<u8> =
        values.iter().flat_map(|size| [&[0xD1][..], &chunked(&vec![7; *size], 8000)].concat()).collect();
    let tokens = [described, rows, wire::selected(values.len() as u64)];
    let server = async {
        message(&mut io).await;
        answer(&mut io, &tokens).await;
    };
    let client = async {
        let mut stream = connection.stream("SELECT …").await?;
        let plan = plan_of(stream.columns());
        let mut found = Vec::new();
        while let Some(decoded) = stream.next_batch_within(&plan, 1000, 100_000, room).await? {
            found.push(decoded.batch.num_rows());
        }
        Ok(found)
    };
    // A client that has failed leaves the server alone with the rest.
    tokio::select! {
        outcome = client => outcome,
        () = async { server.await; std::future::pending().await } => unreachable!(),
    }
}

#[tokio::test]
async fn a_row_wider_than_its_batch_asks_for_room_and_ends_the_batch() {
    let mut room = Granted { bytes: 1 << 20, asked: 0 };
    let found = batches_of(&[40_000, 900_000, 10, 60_000, 60_000, 10], &mut room).await.unwrap();
    assert_eq!(found, [2, 3, 1]);
    assert_eq!(room.asked, 1);
}

#[tokio::test]
async fn a_row_for_which_there_is_no_room_at_all_is_refused_by_column_and_row() {
    let mut room = Granted { bytes: 500_000, asked: 0 };
    let error = batches_of(&[10, 900_000], &mut room).await.unwrap_err();
    assert!(matches!(&error, TdsError::Value { column, row: 2, .. } if column == "doc"), "{error}");
    assert!(error.to_string().contains("memory_mib"), "{error}");
}
