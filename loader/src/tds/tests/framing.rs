//! Packets: sizes, empty ones, wrong ones.

use tokio::io::AsyncWriteExt;

use super::{
    server::{connected, message},
    wire::{done, packets},
};

/// Runs a statement against these bytes as its answer.
async fn answered_by(bytes: &[u8]) -> Result<u64, String> {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(bytes).await.unwrap();
        io.shutdown().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.run("x"), server);
    outcome.map_err(|e| e.to_string())
}

fn packet(kind: u8, status: u8, length: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, status];
    out.extend(length.to_be_bytes());
    out.extend([0, 0, 1, 0]);
    out.extend(payload);
    out
}

#[tokio::test]
async fn a_message_may_end_with_an_empty_packet() {
    let end = done(0x10, 0xC3, 4);
    let bytes = [packet(4, 0, 8 + 13, &end), packet(4, 1, 8, &[])].concat();
    assert_eq!(answered_by(&bytes).await, Ok(4));
    let bytes = [packet(4, 0, 8, &[]).repeat(20), packet(4, 1, 8 + 13, &end)].concat();
    assert_eq!(answered_by(&bytes).await, Ok(4));
}

#[tokio::test]
async fn every_packet_size_from_one_byte_of_payload_on_works() {
    let tokens = [done(0x11, 0xC3, 1).repeat(400), done(0x10, 0xC3, 1)].concat();
    for size in [9, 10, 512, 4096, 32767] {
        assert_eq!(answered_by(&packets(&tokens, size)).await, Ok(401), "packets of {size}");
    }
}

#[tokio::test]
async fn headers_that_cannot_be_are_refused() {
    let says = |outcome: Result<u64, String>| outcome.unwrap_err();
    assert!(says(answered_by(&packet(4, 1, 7, &[])).await).contains("length of 7 bytes"));
    assert!(says(answered_by(&packet(4, 1, 0, &[])).await).contains("length of 0 bytes"));
    assert!(says(answered_by(&packet(3, 1, 21, &done(0, 0, 0))).await).contains("type 0x03"));
    assert!(
        says(answered_by(&packet(4, 0, 8, &[]).repeat(1500)).await).contains("nothing but empty packets")
    );
    assert!(
        says(answered_by(&packet(4, 0, 21, &done(0, 0, 0))).await).contains("closed the connection"),
        "no end of message"
    );
    assert!(
        says(answered_by(&packet(4, 1, 200, &done(0, 0, 0))).await).contains("closed the connection"),
        "half a packet"
    );
    assert!(says(answered_by(&[]).await).contains("closed the connection"));
}

#[tokio::test]
async fn a_request_beyond_what_is_sent_at_once_is_refused_before_it_is_sent() {
    let (mut connection, _io) = connected();
    let sql = "x".repeat(9 * 1024 * 1024);
    assert!(connection.run(&sql).await.unwrap_err().to_string().contains("longer than"));
}
