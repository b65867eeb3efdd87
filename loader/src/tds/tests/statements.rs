//! Batches on a connection that is logged in.

use tokio::io::AsyncWriteExt;

use super::{
    server::{answer, connected, message},
    wire::{self, LATIN, NULLABLE, done, error, info, metadata, order, plan_of, selected, transaction},
};
use crate::{
    model::{CodePage, SourceType},
    tds::TdsError,
};

fn int_rows(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| [&[0xD1][..], &v.to_le_bytes()].concat()).collect()
}

fn int_column() -> Vec<u8> {
    metadata(&[("id", wire::NOT_NULL, vec![0x38])])
}

#[tokio::test]
async fn the_documented_answer_is_read() {
    // MS-TDS 4.7, packet header included.
    let documented = [
        0x04, 0x01, 0x00, 0x33, 0x00, 0x00, 0x01, 0x00, 0x81, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00,
        0xA7, 0x03, 0x00, 0x09, 0x04, 0xD0, 0x00, 0x34, 0x03, 0x62, 0x00, 0x61, 0x00, 0x72, 0x00, 0xD1, 0x03,
        0x00, 0x66, 0x6F, 0x6F, 0xFD, 0x10, 0x00, 0xC1, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(&documented).await.unwrap();
    };
    let client = async {
        let mut stream = connection.stream("select 'foo' as 'bar'").await.unwrap();
        let latin1 = SourceType::VarChar { bytes: 3, code_page: CodePage(1252) };
        assert_eq!(
            (stream.columns()[0].name.as_str(), stream.columns()[0].source_type()),
            ("bar", Some(latin1))
        );
        let plan = plan_of(stream.columns());
        let decoded = stream.next_batch(&plan, 10, 1 << 20).await.unwrap().unwrap();
        assert_eq!((decoded.batch.num_rows(), decoded.source_bytes), (1, vec![3]));
        assert!(stream.next_batch(&plan, 10, 1 << 20).await.unwrap().is_none());
        assert!(stream.next_batch(&plan, 10, 1 << 20).await.unwrap().is_none(), "and again");
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn a_statement_returns_the_rows_that_it_changed() {
    let (mut connection, mut io) = connected();
    let server = async {
        let batch = message(&mut io).await;
        let counts = [done(0x0011, 0x00C3, 2), done(0x0001, 0x00C5, 99), done(0x0010, 0x00C4, 3)];
        answer(&mut io, &counts).await;
        batch
    };
    let (affected, batch) = tokio::join!(connection.run("INSERT …; UPDATE …"), server);
    assert_eq!(affected.unwrap(), 5, "a DONE without DONE_COUNT says nothing");
    assert_eq!(batch.sql(), "INSERT …; UPDATE …");
}

#[tokio::test]
async fn the_transaction_of_the_session_goes_into_every_batch() {
    let (mut connection, mut io) = connected();
    let server = async {
        let mut seen = Vec::new();
        for tokens in [transaction(8, Some(0x1122_3344)), vec![], transaction(9, Some(0x1122_3344)), vec![]] {
            seen.push(message(&mut io).await.transaction());
            answer(&mut io, &[tokens, done(0, 0, 0)]).await;
        }
        seen
    };
    let client = async {
        for sql in ["BEGIN TRAN", "x", "COMMIT", "y"] {
            connection.run(sql).await.unwrap();
        }
    };
    let ((), seen) = tokio::join!(client, server);
    assert_eq!(seen, [0, 0x1122_3344, 0x1122_3344, 0]);
}

#[tokio::test]
async fn small_answers_come_as_text() {
    let nvarchar_max = [&[0xE7, 0xFF, 0xFF][..], &LATIN].concat();
    let columns = metadata(&[
        ("n", NULLABLE, vec![0x26, 8]),
        ("d", NULLABLE, vec![0x6C, 17, 38, 3]),
        ("m", NULLABLE, vec![0x6E, 8]),
        ("t", NULLABLE, nvarchar_max),
        ("o", NULLABLE, vec![0x2B, 2]),
        ("v", NULLABLE, vec![0x62, 0x49, 0x1F, 0, 0]),
        ("b", NULLABLE, vec![0xA5, 8, 0]),
    ]);
    let text = wire::utf16("zażółć");
    let row = [
        &[0xD1, 8][..],
        &(-5i64).to_le_bytes(),
        &[5, 0, 0xD2, 4, 0, 0],
        &[8, 0, 0, 0, 0, 0x10, 0x27, 0, 0],
        // length unknown, three chunks that split units
        &(u64::MAX - 1).to_le_bytes(),
        &3u32.to_le_bytes(),
        &text[..3],
        &1u32.to_le_bytes(),
        &text[3..4],
        &((text.len() - 4) as u32).to_le_bytes(),
        &text[4..],
        &0u32.to_le_bytes(),
        // 23:30 UTC on the last day of 1999, at +01:00
        &[8, 0xA0, 0x21, 0x81, 0x9A, 0x24, 0x0B, 60, 0],
        // datetime2(3) in a sql_variant
        &[10, 0, 0, 0, 0x2A, 1, 3, 7, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0xAB, 0x01],
    ];
    let mut row = row.concat();
    // the time of day: 8,460,000 hundredths in three bytes
    let at = row.windows(3).position(|w| w == [0xA0, 0x21, 0x81]).unwrap();
    row[at..at + 3].copy_from_slice(&8_460_000u32.to_le_bytes()[..3]);
    row[at + 3..at + 6].copy_from_slice(&730_118u32.to_le_bytes()[..3]);
    let nulls = vec![0xD2, 0x7F];
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        answer(&mut io, &[columns, row, nulls, selected(2)]).await;
    };
    let (rows, ()) = tokio::join!(connection.fetch_text("SELECT …"), server);
    let rows = rows.unwrap();
    let shown: Vec<_> = rows[0].iter().map(|v| v.as_deref().unwrap()).collect();
    assert_eq!(
        shown,
        [
            "-5",
            "-1.234",
            "1.0000",
            "zażółć",
            "2000-01-01 00:30:00.00 +01:00",
            "0001-01-01 00:00:00.007",
            "0xAB01"
        ]
    );
    assert_eq!(rows[1], vec![None; 7]);
}

#[tokio::test]
async fn an_error_after_rows_fails_the_batch_and_poisons_the_connection() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        let tokens = [
            int_column(),
            int_rows(&[1, 2]),
            error(8134, 16, "Divide by zero error encountered."),
            done(2, 0xC1, 0),
        ];
        answer(&mut io, &tokens).await;
    };
    let client = async {
        let mut stream = connection.stream("SELECT …").await.unwrap();
        let plan = plan_of(stream.columns());
        assert_eq!(stream.next_batch(&plan, 1, 1 << 20).await.unwrap().unwrap().batch.num_rows(), 1);
        assert_eq!(stream.next_batch(&plan, 10, 1 << 20).await.unwrap_err().number(), Some(8134));
        assert!(matches!(stream.next_batch(&plan, 10, 1 << 20).await, Err(TdsError::Poisoned)));
        assert!(matches!(connection.run("SELECT 1").await, Err(TdsError::Poisoned)));
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn a_stream_that_is_not_read_to_its_end_poisons_the_connection() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        answer(&mut io, &[int_column(), int_rows(&[1]), selected(1)]).await;
    };
    let client = async {
        drop(connection.stream("SELECT …").await.unwrap());
        assert!(matches!(connection.run("SELECT 1").await, Err(TdsError::Poisoned)));
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn messages_and_order_between_rows_are_passed_over() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        let tokens = [
            done(0x0001, 0, 0),
            int_column(),
            order(),
            info(0, "between"),
            int_rows(&[1]),
            info(8153, "Warning: Null value is eliminated"),
            int_rows(&[2, 3]),
            vec![0x79, 0, 0, 0, 0],
            selected(3),
        ];
        answer(&mut io, &tokens).await;
        message(&mut io).await;
        answer(&mut io, &[done(0, 0, 0)]).await;
    };
    let client = async {
        let mut stream = connection.stream("SELECT …").await.unwrap();
        let plan = plan_of(stream.columns());
        let decoded = stream.next_batch(&plan, 100, 1 << 20).await.unwrap().unwrap();
        assert_eq!((decoded.batch.num_rows(), stream.rows_read()), (3, 3));
        assert!(stream.next_batch(&plan, 100, 1 << 20).await.unwrap().is_none());
        connection.run("and the connection is still good").await.unwrap();
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn answers_that_cannot_be_right_are_errors() {
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("sent 5 rows, and 2 came", vec![int_column(), int_rows(&[1, 2]), selected(5)]),
        (
            "returns several",
            vec![int_column(), int_rows(&[1]), done(0x11, 0xC1, 1), int_column(), selected(0)],
        ),
        ("without a final DONE", vec![int_column(), int_rows(&[1]), done(0x11, 0xC1, 1)]),
        ("ends without DONE", vec![int_column(), int_rows(&[1])]),
        ("ends within a token or row", vec![int_column(), int_rows(&[1])[..3].to_vec()]),
        ("failed without an error message", vec![int_column(), done(2, 0xC1, 0)]),
        ("token 0x00", vec![int_column(), vec![0]]),
        ("token of the login", vec![int_column(), wire::login_ack()]),
    ];
    for (expected, tokens) in cases {
        let (mut connection, mut io) = connected();
        let server = async {
            message(&mut io).await;
            answer(&mut io, &tokens).await;
        };
        let client = async {
            let mut stream = connection.stream("SELECT …").await.unwrap();
            let plan = plan_of(stream.columns());
            stream.next_batch(&plan, 100, 1 << 20).await.unwrap_err().to_string()
        };
        let (error, ()) = tokio::join!(client, server);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn the_wrong_kind_of_statement_is_named() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        answer(&mut io, &[int_column(), int_rows(&[1]), selected(1)]).await;
    };
    let (outcome, ()) = tokio::join!(connection.run("SELECT 1"), server);
    assert!(outcome.unwrap_err().to_string().contains("returns columns (id)"));

    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        answer(&mut io, &[done(0, 0, 0)]).await;
    };
    let (outcome, ()) = tokio::join!(connection.stream("SET NOCOUNT ON"), server);
    assert!(outcome.unwrap_err().to_string().contains("holds no SELECT"));
}

#[tokio::test]
async fn data_after_the_end_of_an_answer_is_noticed() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(&[wire::packets(&done(0, 0, 0), 4096), wire::packets(&done(0, 0, 0), 4096)].concat())
            .await
            .unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.run("x"), server);
    outcome.unwrap();
    assert!(connection.run("y").await.unwrap_err().to_string().contains("after the end"));
}

#[tokio::test]
async fn a_lost_connection_is_not_an_end() {
    let (mut connection, mut io) = connected();
    let server = async move {
        message(&mut io).await;
        let whole = wire::packets(&[int_column(), int_rows(&[1, 2, 3]), selected(3)].concat(), 4096);
        io.write_all(&whole[..whole.len() - 20]).await.unwrap();
    };
    let client = async {
        let mut stream = connection.stream("SELECT …").await.unwrap();
        let plan = plan_of(stream.columns());
        stream.next_batch(&plan, 100, 1 << 20).await.unwrap_err()
    };
    let (error, ()) = tokio::join!(client, server);
    assert!(matches!(error, TdsError::Closed { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn batches_close_by_rows_and_by_bytes() {
    let varchar = [&[0xA7, 0xE8, 0x03][..], &LATIN].concat();
    let row = [&[0xD1, 0xE8, 0x03][..], &[b'x'; 1000]].concat();
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        answer(&mut io, &[metadata(&[("t", NULLABLE, varchar)]), row.repeat(10), selected(10)]).await;
    };
    let client = async {
        let mut stream = connection.stream("SELECT …").await.unwrap();
        let plan = plan_of(stream.columns());
        let mut sizes = Vec::new();
        sizes.push(stream.next_batch(&plan, 3, 1 << 20).await.unwrap().unwrap().batch.num_rows());
        while let Some(decoded) = stream.next_batch(&plan, 100, 2500).await.unwrap() {
            sizes.push(decoded.batch.num_rows());
        }
        sizes
    };
    let (sizes, ()) = tokio::join!(client, server);
    assert_eq!(sizes, [3, 3, 3, 1]);
}
