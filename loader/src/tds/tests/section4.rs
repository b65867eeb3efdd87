//! The byte examples of MS-TDS, section 4: every answer of a server is read, token by token and as a whole.

use tokio::io::AsyncWriteExt;

use super::server::{connected, message};
use crate::tds::{
    cursor::{Cursor, Stop},
    prelogin,
    token::{self, Change, Token},
};

/// A packet's header, which the examples begin with.
const HEADER: usize = 8;

macro_rules! example {
    ($name:literal) => {
        bytes(include_str!(concat!("../../../../tests/vectors/ms-tds/", $name, ".hex")))
    };
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// All tokens of one message without rows.
fn tokens(example: &[u8]) -> Vec<Token> {
    let mut cursor = Cursor::new(&example[HEADER..]);
    let mut tokens = Vec::new();
    while cursor.position() < example.len() - HEADER {
        tokens.push(token::next(&mut cursor).unwrap());
    }
    tokens
}

fn infos(tokens: &[Token]) -> Vec<(i32, &str, &str)> {
    tokens
        .iter()
        .filter_map(|token| match token {
            Token::Info(info) => Some((info.number, info.message.as_str(), info.server.as_str())),
            _ => None,
        })
        .collect()
}

fn acknowledged(tokens: &[Token]) -> Option<u32> {
    tokens.iter().find_map(|token| match token {
        Token::LoginAck(version) => Some(*version),
        _ => None,
    })
}

fn features(tokens: &[Token]) -> Vec<(u8, usize)> {
    let find = |token: &Token| match token {
        Token::Features(features) => Some(features.iter().map(|(id, data)| (*id, data.len())).collect()),
        _ => None,
    };
    tokens.iter().find_map(find).unwrap_or_default()
}

fn packet_size(tokens: &[Token]) -> Option<usize> {
    tokens.iter().find_map(|token| match token {
        Token::Changed(Change::PacketSize(size)) => Some(*size),
        _ => None,
    })
}

#[test]
fn the_login_response_of_4_4_is_read() {
    let tokens = tokens(&example!("4.4-login-response"));
    assert_eq!(acknowledged(&tokens), Some(0x7209_0002));
    assert_eq!(packet_size(&tokens), Some(4096));
    let told = [
        (5701, "Changed database context to 'master'.", ""),
        (5703, "Changed language setting to us_english.", ""),
    ];
    assert_eq!(infos(&tokens), told);
    assert!(matches!(tokens.last(), Some(Token::Done(done)) if !done.more() && !done.failed()));
}

#[test]
fn the_login_response_of_4_5_acknowledges_a_federated_login() {
    let tokens = tokens(&example!("4.5-login-response-federated"));
    assert_eq!(acknowledged(&tokens), Some(0x7400_0004));
    assert_eq!(features(&tokens), [(2, 64)]);
    assert!(infos(&tokens).iter().all(|(_, _, server)| *server == "cloud"));
}

/// The example has a zero byte too many behind its collation, at offset 132, which no token begins with.
#[test]
fn the_login_response_of_4_17_is_read_without_its_misprint() {
    let mut example = example!("4.17-login-response-session-recovery");
    let mut cursor = Cursor::new(&example[HEADER..]);
    let refused = loop {
        match token::next(&mut cursor) {
            Ok(_) => {}
            Err(Stop::Fail(error)) => break error.to_string(),
            Err(Stop::Short(_)) => panic!("the example ends within a token"),
        }
    };
    assert!(refused.contains("0x00"), "{refused}");
    let stray = HEADER + cursor.position() - 1;
    assert_eq!(example.remove(stray), 0);
    let tokens = tokens(&example);
    assert_eq!(acknowledged(&tokens), Some(0x7400_0004));
    assert_eq!(features(&tokens), [(1, 46)]);
}

#[test]
fn the_login_response_of_4_21_has_counts_before_it_and_four_features() {
    let tokens = tokens(&example!("4.21-login-response-azure-support"));
    assert_eq!(tokens.iter().filter(|token| matches!(token, Token::Done(done) if done.more())).count(), 14);
    assert_eq!(acknowledged(&tokens), Some(0x7400_0004));
    assert_eq!(packet_size(&tokens), Some(8000));
    assert_eq!(features(&tokens), [(1, 119), (4, 1), (5, 1), (8, 1)]);
    assert_eq!(infos(&tokens)[0], (5701, "Changed database context to 'testdb'.", "testsvr"));
}

#[test]
fn every_example_cut_anywhere_waits_for_more_and_breaks_nothing() {
    for example in [
        example!("4.4-login-response"),
        example!("4.5-login-response-federated"),
        example!("4.9-rpc-response"),
        example!("4.18-session-state"),
        example!("4.21-login-response-azure-support"),
    ] {
        let whole = tokens(&example).len();
        for cut in HEADER..example.len() {
            let mut cursor = Cursor::new(&example[HEADER..cut]);
            let mut read = 0;
            let stop = loop {
                match token::next(&mut cursor) {
                    Ok(_) => read += 1,
                    Err(stop) => break stop,
                }
            };
            assert!(matches!(stop, Stop::Short(_)), "cut at {cut}");
            assert!(read < whole);
        }
    }
}

#[tokio::test]
async fn the_answer_of_4_9_to_a_call_is_a_success() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(&example!("4.9-rpc-response")).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.run("EXEC foo3"), server);
    assert_eq!(outcome.unwrap(), 0, "rows that a SELECT returned are none that it changed");
}

#[tokio::test]
async fn the_xml_and_the_compressed_rows_of_4_15_are_read() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(&example!("4.15-sparse-column-select")).await.unwrap();
    };
    let (rows, ()) = tokio::join!(connection.fetch_text("SELECT * FROM sparse"), server);
    let rows = rows.unwrap();
    let expected = [
        ("1", Some("<sparseProp1>1000</sparseProp1><sparseProp2>foo</sparseProp2>")),
        ("2", Some("<sparseProp1>1000</sparseProp1>")),
        ("3", Some("<sparseProp2>abcd</sparseProp2>")),
    ];
    assert_eq!(rows.len(), 10);
    for (row, (id, xml)) in rows.iter().zip(expected) {
        assert_eq!((row[0].as_deref(), row[1].as_deref()), (Some(id), xml));
    }
    for (row, id) in rows[3..].iter().zip(4..) {
        assert_eq!((row[0].as_deref(), row[1].as_deref()), (Some(id.to_string().as_str()), None));
    }
}

#[tokio::test]
async fn the_session_state_of_4_18_says_nothing_that_matters_here() {
    let (mut connection, mut io) = connected();
    let server = async {
        message(&mut io).await;
        io.write_all(&example!("4.18-session-state")).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.run("SET LOCK_TIMEOUT -1"), server);
    assert_eq!(outcome.unwrap(), 0);
}

/// The request of 4.1 has the options that ours has, in the order that ours has, at the offsets that ours has.
#[test]
fn our_prelogin_has_the_layout_of_4_1() {
    let example = &example!("4.1-prelogin-request")[HEADER..];
    let ours = prelogin::request(crate::tds::Encrypt::Required);
    let list = 5 * 5 + 1;
    assert_eq!((ours.len(), &ours[..list]), (example.len(), &example[..list]));
    assert_eq!(ours[0x20], example[0x20], "encryption of everything");
}
