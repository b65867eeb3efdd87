//! The byte examples of MS-TDS, section 4: what a client sends is read, what a server sends is made, byte for byte.

use keyferry_sql::{Collation, Column, DataType, Length, Value};

use crate::config::Encrypt;
use crate::login7::{Login7, MAX_LOGIN, Proof};
use crate::packet::{Message, Reader, kind, read_message};
use crate::prelogin::{Encryption, Prelogin};
use crate::rows::RowWriter;
use crate::rpc::{Call, Procedure, skip_headers};
use crate::tokens::{self, Change, Done, DoneKind, Notice, status};
use crate::transactions;

/// A packet's header, which the examples begin with.
const HEADER: usize = 8;

macro_rules! example {
    ($name:literal) => {
        bytes(include_str!(concat!("../../vectors/ms-tds/", $name, ".hex")))
    };
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

async fn message(example: &[u8]) -> Message {
    let mut from = example;
    let message = read_message(&mut from, MAX_LOGIN).await.unwrap().unwrap();
    assert!(from.is_empty(), "the example is one message");
    message
}

async fn login(example: &[u8]) -> Login7 {
    let message = message(example).await;
    assert_eq!(message.kind, kind::LOGIN7);
    Login7::parse(&message.body).unwrap()
}

fn server_collation() -> Collation {
    Collation::parse("SQL_Latin1_General_CP1_CI_AS").unwrap()
}

fn notice(number: i32, state: u8, message: &str, line: u32) -> Notice<'_> {
    Notice { number, state, class: 0, message, line, procedure: "" }
}

#[tokio::test]
async fn the_prelogin_request_of_4_1_asks_for_encryption() {
    let message = message(&example!("4.1-prelogin-request")).await;
    assert_eq!(message.kind, kind::PRELOGIN);
    let prelogin = Prelogin::parse(&message.body).unwrap();
    assert_eq!(prelogin.negotiate(Encrypt::Off, false), (1, Encryption::Full));
}

#[tokio::test]
async fn the_login_request_of_4_2_is_read() {
    let login = login(&example!("4.2-login-request")).await;
    assert_eq!((login.tds_version, login.packet_size), (0x7209_0002, 4096));
    let texts = [&login.host, &login.user, &login.application, &login.database];
    assert_eq!(texts, ["skostov1", "sa", "OSQL-32", ""]);
    assert!(login.proof == Proof::Password(String::new()) && login.features.is_empty());
}

#[tokio::test]
async fn the_login_request_of_4_3_brings_a_federated_token() {
    let login = login(&example!("4.3-login-request-federated")).await;
    assert_eq!((login.host.as_str(), login.application.as_str()), ("DANBENED3-XGZUO", "SQLCMD"));
    assert_eq!(login.features, [2]);
    assert!(login.proof == Proof::Federated && login.user.is_empty());
}

#[tokio::test]
async fn the_login_requests_of_4_16_and_4_20_tell_their_features() {
    let recovery = login(&example!("4.16-login-request-session-recovery")).await;
    assert_eq!((recovery.user.as_str(), recovery.database.as_str()), ("sa", "tempdb"));
    assert_eq!(recovery.features, [1]);
    let azure = login(&example!("4.20-login-request-azure-support")).await;
    assert_eq!((azure.user.as_str(), azure.database.as_str()), ("cloudsa", "testdb"));
    assert_eq!((azure.packet_size, azure.features.as_slice()), (8000, &[1, 4, 5, 8][..]));
}

#[test]
fn the_login_response_of_4_4_is_made() {
    let mut made = Vec::new();
    Change::Database { new: "master", old: "master" }.put(&mut made);
    notice(5701, 2, "Changed database context to 'master'.", 0).put("", &mut made);
    Change::Collation(server_collation().tds()).put(&mut made);
    Change::Language("us_english").put(&mut made);
    Change::PacketSize { new: 4096, old: 4096 }.put(&mut made);
    notice(5703, 1, "Changed language setting to us_english.", 0).put("", &mut made);
    tokens::login_ack(0x7209_0002, [0; 4], &mut made);
    Done::plain(DoneKind::Done, 0).put(&mut made);
    assert_eq!(made, example!("4.4-login-response")[HEADER..]);
}

#[test]
fn the_login_response_of_4_5_acknowledges_a_federated_login() {
    let expected = example!("4.5-login-response-federated");
    let mut made = Vec::new();
    Change::Database { new: "master", old: "master" }.put(&mut made);
    notice(5701, 2, "Changed database context to 'master'.", 1).put("cloud", &mut made);
    Change::Collation(server_collation().tds()).put(&mut made);
    Change::Language("us_english").put(&mut made);
    notice(5703, 1, "Changed language setting to us_english.", 1).put("cloud", &mut made);
    tokens::login_ack(0x7400_0004, [0x0B, 0x00, 0x08, 0xCB], &mut made);
    Change::PacketSize { new: 4096, old: 4096 }.put(&mut made);
    // Nonce and signature are the example's own: 64 bytes before FEATUREEXTACK's end and DONE.
    let signed = &expected[expected.len() - 14 - 64..expected.len() - 14];
    tokens::feature_ext_ack(&[(2, signed)], &mut made);
    Done::plain(DoneKind::Done, 0).put(&mut made);
    assert_eq!(made, expected[HEADER..]);
}

#[tokio::test]
async fn the_batch_of_4_6_is_read() {
    let message = message(&example!("4.6-sql-batch-request")).await;
    assert_eq!((message.kind, message.reset), (kind::BATCH, false));
    let mut reader = Reader::new(&message.body, "batch");
    skip_headers(&mut reader).unwrap();
    let sql = reader.utf16(reader.rest().len() / 2).unwrap();
    assert_eq!(sql, "\nselect 'foo' as 'bar'\n        ");
}

#[test]
fn the_answer_of_4_7_is_made() {
    let ty = DataType::VarChar { length: Length::Fixed(3), collation: server_collation() };
    let column = Column { computed: true, ..Column::new("bar", ty, false) };
    let mut made = Vec::new();
    let writer = RowWriter::begin(vec![column], &mut made).unwrap();
    writer.put(&[Value::text("foo")], &mut made).unwrap();
    Done { kind: DoneKind::Done, status: status::COUNT, command: 0xC1, rows: 1 }.put(&mut made);
    assert_eq!(made, example!("4.7-sql-batch-response")[HEADER..]);
}

#[tokio::test]
async fn the_call_of_4_8_is_read() {
    let message = message(&example!("4.8-rpc-request")).await;
    assert_eq!(message.kind, kind::RPC);
    let calls = Call::parse(&message.body, server_collation()).unwrap();
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(call.procedure, Procedure::Other("foo3".into()));
    let [argument] = call.arguments.as_slice() else { panic!("{:?}", call.arguments) };
    assert_eq!((&argument.ty, &argument.value), (&DataType::SmallInt, &Value::Null));
}

#[test]
fn the_answer_of_4_9_is_made() {
    let mut made = Vec::new();
    let counted = status::COUNT | status::MORE;
    Done { kind: DoneKind::InProc, status: counted, command: 0xC1, rows: 1 }.put(&mut made);
    tokens::return_status(0, &mut made);
    Done { kind: DoneKind::Proc, status: 0, command: tokens::EXECUTE, rows: 0 }.put(&mut made);
    assert_eq!(made, example!("4.9-rpc-response")[HEADER..]);
}

#[tokio::test]
async fn the_attention_of_4_10_is_a_message_without_a_body() {
    let message = message(&example!("4.10-attention-request")).await;
    assert_eq!((message.kind, message.body.len()), (kind::ATTENTION, 0));
}

#[tokio::test]
async fn the_sspi_message_of_4_11_is_the_token_alone() {
    let message = message(&example!("4.11-sspi-message")).await;
    assert_eq!((message.kind, &message.body[..8]), (kind::SSPI, b"NTLMSSP\0".as_slice()));
}

/// The example's request type is one that its own section, 2.2.6.9, does not have.
#[tokio::test]
async fn the_transaction_request_of_4_13_is_refused_by_its_number() {
    let message = message(&example!("4.13-transaction-manager-request")).await;
    assert_eq!(message.kind, kind::TRANSACTION);
    let error = transactions::statement(&message.body).unwrap_err().to_string();
    assert!(error.contains("22"), "{error}");
}

/// XML in chunks of unknown length is for the reader; the rows without it and the DONE are as the server makes them.
#[test]
fn the_compressed_rows_of_4_15_are_made() {
    let columns = vec![Column::new("id", DataType::Int, true), Column::new("xml", DataType::Xml, true)];
    let writer = RowWriter::begin(columns, &mut Vec::new()).unwrap();
    let mut made = Vec::new();
    for id in 4..=10 {
        writer.put(&[Value::Int(id), Value::Null], &mut made).unwrap();
    }
    Done { kind: DoneKind::Done, status: status::COUNT, command: 0xC1, rows: 10 }.put(&mut made);
    assert!(example!("4.15-sparse-column-select").ends_with(&made));
}
