//! A token, a row, a value may be cut anywhere: the batches are the same.

use arrow_array::RecordBatch;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::{
    server::{connected, message},
    wire::{self, LATIN, NOT_NULL, NULLABLE, columns_of, info, metadata, order, plan_of, rows_of, selected},
};
use crate::tds::{rows::Progress, token::Token};

const ROWS: usize = 24;

/// Columns of every kind of layout.
fn described() -> Vec<u8> {
    let with_collation = |head: &[u8]| [head, &LATIN].concat();
    metadata(&[
        ("id", NOT_NULL, vec![0x38]),
        ("n", NULLABLE, vec![0x26, 8]),
        ("price", NULLABLE, vec![0x6C, 9, 18, 4]),
        ("cost", NULLABLE, vec![0x6E, 8]),
        ("name", NULLABLE, with_collation(&[0xE7, 80, 0])),
        ("note", NULLABLE, with_collation(&[0xA7, 80, 0])),
        ("at", NULLABLE, vec![0x2A, 7]),
        ("flag", NULLABLE, vec![0x68, 1]),
        ("ref", NULLABLE, vec![0x24, 16]),
        ("raw", NULLABLE, vec![0xA5, 40, 0]),
        ("day", NULLABLE, vec![0x28]),
    ])
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

/// The values of one row, none for NULL, as they stand in the token.
fn values(i: usize) -> Vec<Option<Vec<u8>>> {
    let null = |column: usize| (i * 7 + column * 3).is_multiple_of(5);
    let byte = |value: &[u8]| [&[value.len() as u8][..], value].concat();
    let mut time = [0; 8];
    time[..5].copy_from_slice(&(i as u64 * 1_234_567).to_le_bytes()[..5]);
    time[5..].copy_from_slice(&(730_000 + i as u32).to_le_bytes()[..3]);
    let all = [
        (i as u32).to_le_bytes().to_vec(),
        byte(&(i as u64 * 99).to_le_bytes()),
        byte(&[&[1][..], &(i as u64 * 10_007).to_le_bytes()].concat()),
        byte(&[0, 0, 0, 0, i as u8, 1, 0, 0]),
        short(&wire::utf16(&"zażółć 🦀 gęślą".repeat(i % 3))),
        short(&b"caf\xE9 "[..].repeat(i % 6)),
        byte(&time),
        byte(&[(i % 2) as u8]),
        byte(&[i as u8; 16]),
        short(&vec![i as u8; i]),
        byte(&(i as u32 * 1000).to_le_bytes()[..3]),
    ];
    all.into_iter()
        .enumerate()
        .map(|(column, value)| (column == 0 || !null(column)).then_some(value))
        .collect()
}

/// ROW for even numbers, NBCROW for odd ones.
fn row(i: usize) -> Vec<u8> {
    let values = values(i);
    if i.is_multiple_of(2) {
        let null_of = |column: usize| if matches!(column, 4 | 5 | 9) { vec![0xFF, 0xFF] } else { vec![0] };
        let written = values.into_iter().enumerate().map(|(column, v)| v.unwrap_or_else(|| null_of(column)));
        return [vec![0xD1], written.collect::<Vec<_>>().concat()].concat();
    }
    let mut bitmap = vec![0; values.len().div_ceil(8)];
    for (column, value) in values.iter().enumerate() {
        if value.is_none() {
            bitmap[column / 8] |= 1 << (column % 8);
        }
    }
    [vec![0xD2], bitmap, values.into_iter().flatten().collect::<Vec<_>>().concat()].concat()
}

/// Rows of both kinds with an INFO between them, and the end.
fn recorded() -> Vec<u8> {
    let mut out = order();
    for i in 0..ROWS {
        out.extend(row(i));
        if i == 5 {
            out.extend(info(50_000, "between the rows"));
        }
    }
    out.extend(selected(ROWS as u64));
    out
}

/// Feeds the pieces as they come, as the connection does.
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
fn two_pieces_cut_at_every_byte_give_the_same_batch() {
    let wire = recorded();
    let whole = absorb(&[&wire]);
    assert_eq!(whole.0.num_rows(), ROWS);
    for cut in 0..=wire.len() {
        let (left, right) = wire.split_at(cut);
        assert_eq!(absorb(&[left, right]), whole, "cut at {cut}");
    }
}

#[test]
fn single_bytes_give_the_same_batch() {
    let wire = recorded();
    let pieces: Vec<_> = wire.chunks(1).collect();
    assert_eq!(absorb(&pieces), absorb(&[&wire]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_pieces_give_the_same_batch(mut cuts in prop::collection::vec(0usize..3000, 0..40)) {
        let wire = recorded();
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

/// The whole way: packets of any size, arriving in pieces of any size.
async fn through_packets(packet: usize, piece: usize, max_rows: usize) -> Vec<RecordBatch> {
    let (mut connection, mut io) = connected();
    let wire = wire::packets(&[described(), recorded()].concat(), packet);
    let server = async {
        message(&mut io).await;
        for part in wire.chunks(piece) {
            io.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let client = async {
        let mut stream = connection.stream("SELECT …").await.unwrap();
        let plan = plan_of(stream.columns());
        let mut batches = Vec::new();
        while let Some(decoded) = stream.next_batch(&plan, max_rows, 1 << 24).await.unwrap() {
            batches.push(decoded.batch);
        }
        batches
    };
    tokio::join!(client, server).0
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn packets_of_any_size_give_the_same_batches(packet in 9usize..600, piece in 1usize..900, max_rows in 1usize..30) {
        let batches = on_one_thread(through_packets(packet, piece, max_rows));
        let whole = absorb(&[&recorded()]).0;
        let mut from = 0;
        for batch in &batches {
            prop_assert!(batch.num_rows() <= max_rows);
            prop_assert_eq!(&whole.slice(from, batch.num_rows()), batch);
            from += batch.num_rows();
        }
        prop_assert_eq!(from, ROWS);
    }
}

#[test]
fn null_bitmaps_of_1_8_9_and_1024_columns_are_read() {
    for count in [1usize, 8, 9, 1024] {
        let names: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
        let described: Vec<_> = names.iter().map(|n| (n.as_str(), NULLABLE, vec![0x26, 4])).collect();
        let columns = columns_of(&metadata(&described));
        let is_null = |row: usize, column: usize| (row + column).is_multiple_of(3);
        let mut wire = Vec::new();
        for row in 0..4 {
            let mut bitmap = vec![0u8; count.div_ceil(8)];
            let mut cells = Vec::new();
            for column in 0..count {
                if is_null(row, column) {
                    bitmap[column / 8] |= 1 << (column % 8);
                } else {
                    cells.extend([&[4][..], &(column as u32).to_le_bytes()].concat());
                }
            }
            wire.extend([vec![0xD2], bitmap, cells].concat());
        }
        let mut rows = rows_of(&columns);
        let (used, _) = rows.absorb(&wire, 0).unwrap();
        assert_eq!((used, rows.len()), (wire.len(), 4));
        let (batch, _) = rows.finish().unwrap();
        for column in 0..count {
            let nulls: Vec<_> = (0..4).map(|row| batch.column(column).is_null(row)).collect();
            assert_eq!(
                nulls,
                (0..4).map(|row| is_null(row, column)).collect::<Vec<_>>(),
                "{count} columns, {column}"
            );
        }
    }
}
