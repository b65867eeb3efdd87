//! Bytes that no server sends: an error, never a panic, never much memory.

use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;

use super::{
    server::{connected, message},
    wire::{self, LATIN, NULLABLE, columns_of, done, metadata, packets, rows_of, selected},
};
use crate::tds::{
    Encrypt, TdsError,
    collation::{TextDecoder, append_utf16},
    cursor::Cursor,
    pin::public_key,
    prelogin, text, token,
};

/// What `fetch_text` makes of an answer.
async fn fetched(tokens: &[u8]) -> TdsError {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(&packets(tokens, 4096)).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.fetch_text("SELECT …"), server);
    outcome.unwrap_err()
}

#[tokio::test]
async fn lengths_of_gigabytes_are_refused_before_any_room_is_made() {
    let nvarchar_max = metadata(&[("t", NULLABLE, [&[0xE7, 0xFF, 0xFF][..], &LATIN].concat())]);
    let image = metadata(&[(
        "t",
        NULLABLE,
        [&[0x22, 0xFF, 0xFF, 0xFF, 0x7F, 1][..], &wire::us_varchar("t")].concat(),
    )]);
    let variant = metadata(&[("t", NULLABLE, vec![0x62, 0x49, 0x1F, 0, 0])]);
    let chunked = |total: u64, chunk: u32| [&[0xD1][..], &total.to_le_bytes(), &chunk.to_le_bytes()].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("announced", [&nvarchar_max[..], &chunked(2 << 30, 16)].concat()),
        ("one chunk", [&nvarchar_max[..], &chunked(u64::MAX - 1, 0x7FFF_FFFF)].concat()),
        ("image", [&image[..], &[0xD1, 16], &[0; 24], &0x7FFF_FFFFu32.to_le_bytes()].concat()),
        ("variant", [&variant[..], &[0xD1], &u32::MAX.to_le_bytes()].concat()),
        ("session state", [&[0xE4][..], &u32::MAX.to_le_bytes()].concat()),
        ("feature", [&[0xAE, 1][..], &u32::MAX.to_le_bytes()].concat()),
        ("columns", vec![0x81, 0xFE, 0xFF]),
        (
            "return value",
            [&[0xAC, 0, 0, 0, 0][..], &[0; 6], &[0xE7, 0xFF, 0xFF], &LATIN, &(1u64 << 60).to_le_bytes()]
                .concat(),
        ),
    ];
    for (case, tokens) in cases {
        let error = fetched(&tokens).await;
        assert!(matches!(error, TdsError::Protocol(_)), "{case}: {error}");
        assert!(!error.is_transient(), "{case}");
    }
}

#[tokio::test]
async fn a_value_that_is_not_as_long_as_announced_is_refused() {
    let columns = metadata(&[("t", NULLABLE, [&[0xE7, 0xFF, 0xFF][..], &LATIN].concat())]);
    let value =
        [&[0xD1][..], &6u64.to_le_bytes(), &2u32.to_le_bytes(), &[65, 0], &0u32.to_le_bytes()].concat();
    let error = fetched(&[columns, value, selected(1)].concat()).await;
    assert!(error.to_string().contains("announced 6 bytes and has 2"), "{error}");
}

#[tokio::test]
async fn unknown_tokens_and_types_are_named() {
    for unknown in [0x00, 0x20, 0x88, 0xA0, 0xD3, 0xEE] {
        let error = fetched(&[unknown, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        assert!(error.to_string().contains(&format!("token 0x{unknown:02x}")), "{error}");
    }
    let error = fetched(&metadata(&[("c", NULLABLE, vec![0xF5, 0, 0, 0])])).await;
    assert!(error.to_string().contains("type 0xf5"), "{error}");
    let too_precise = fetched(&metadata(&[("c", NULLABLE, vec![0x6C, 17, 39, 2])])).await;
    assert!(too_precise.to_string().contains("precision 39"), "{too_precise}");
}

#[tokio::test]
async fn a_token_that_is_shorter_than_its_own_fields_is_no_reason_to_wait() {
    for token in [0xAA, 0xAB, 0xE3, 0xAD] {
        let error = fetched(&[&[token, 1, 0, 4][..], &done(0, 0, 0)].concat()).await;
        assert!(error.to_string().contains("ends before its own fields do"), "0x{token:02x}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_should_be_small_has_a_bound() {
    let columns = metadata(&[("t", NULLABLE, [&[0xA7, 0x40, 0x1F][..], &LATIN].concat())]);
    let row = [&[0xD1, 0x40, 0x1F][..], &[b'x'; 8000]].concat();
    let (mut connection, mut io) = connected();
    let server = tokio::spawn(async move {
        message(&mut io).await;
        let wire = packets(&[columns, row.repeat(9000), selected(9000)].concat(), 32767);
        let _ = io.write_all(&wire).await;
    });
    let error = connection.fetch_text("SELECT …").await.unwrap_err();
    assert!(error.to_string().contains("should be small"), "{error}");
    drop(connection);
    server.await.unwrap();
}

fn some_columns() -> Vec<u8> {
    let with_collation = |head: &[u8]| [head, &LATIN].concat();
    metadata(&[
        ("a", NULLABLE, vec![0x26, 4]),
        ("b", NULLABLE, with_collation(&[0xE7, 80, 0])),
        ("c", NULLABLE, vec![0x2A, 3]),
        ("d", NULLABLE, vec![0x6C, 17, 38, 5]),
    ])
}

fn every_layout() -> Vec<u8> {
    let with_collation = |head: &[u8]| [head, &LATIN].concat();
    metadata(&[
        ("a", NULLABLE, vec![0x62, 0x49, 0x1F, 0, 0]),
        ("b", NULLABLE, with_collation(&[0xE7, 0xFF, 0xFF])),
        ("c", NULLABLE, vec![0x2B, 3]),
        ("d", NULLABLE, vec![0x29, 7]),
        ("e", NULLABLE, vec![0x6F, 8]),
        ("f", NULLABLE, vec![0x6E, 4]),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_the_token_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut cursor = Cursor::new(&bytes);
        while token::next(&mut cursor).is_ok() {}
        for start in [0x81, 0xAA, 0xAC, 0xAD, 0xAE, 0xE3, 0xE4, 0xED] {
            let token_bytes = [&[start][..], &bytes].concat();
            let _ = token::next(&mut Cursor::new(&token_bytes));
        }
    }

    #[test]
    fn no_bytes_make_the_row_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let columns = columns_of(&some_columns());
        for start in [0xD1, 0xD2] {
            let row = [&[start][..], &bytes].concat();
            let _ = rows_of(&columns).absorb(&row, 0);
        }
        for columns in [columns, columns_of(&every_layout())] {
            let _ = text::row(&mut Cursor::new(&bytes), &columns);
            let _ = text::null_bitmap_row(&mut Cursor::new(&bytes), &columns);
        }
    }

    #[test]
    fn no_bytes_make_the_smaller_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = prelogin::agree(Encrypt::Required, &bytes);
        let _ = public_key(&CertificateDer::from(bytes.clone()));
        for page in [437, 850, 874, 932, 936, 949, 950, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 65001] {
            let mut out = b"before".to_vec();
            let decoded = TextDecoder::of(page).unwrap().append(&bytes, &mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok(), "code page {page}");
            prop_assert!(decoded || out == b"before");
        }
        let mut out = b"before".to_vec();
        let decoded = append_utf16(&bytes, &mut out);
        prop_assert!(std::str::from_utf8(&out).is_ok() && (decoded || out == b"before"));
    }

    #[test]
    fn a_changed_byte_is_an_error_or_another_value(at in 0usize..400, byte in any::<u8>()) {
        let mut wire = [&[0xD1, 4, 1, 0, 0, 0, 4, 0, 65, 0, 66, 0, 7, 1, 2, 3, 0, 1, 2, 3, 5, 1, 9, 0, 0, 0][..], &[0xD2, 0x0F]].concat().repeat(12);
        wire.extend(selected(24));
        let at = at % wire.len();
        wire[at] = byte;
        let columns = columns_of(&some_columns());
        let mut rows = rows_of(&columns);
        if rows.absorb(&wire, 0).is_ok() {
            let count = rows.len();
            prop_assert_eq!(rows.finish().unwrap().0.num_rows(), count);
        }
    }
}
