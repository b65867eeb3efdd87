//! From the first byte to LOGINACK.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::{
    server::{Script, acknowledged, answer, login, message, prelogin},
    wire,
};
use crate::tds::{ConnectOptions, Connection, Encrypt, TdsError};

fn plain() -> ConnectOptions {
    let mut options = ConnectOptions::new("sql01", 1433, "sales");
    options.encrypt = Encrypt::Off;
    options
}

/// Connects in clear to a server that goes on as `$server` says after PRELOGIN.
macro_rules! connect {
    ($relay:expr, |$io:ident| $server:block) => {{
        let (client, mut $io) = tokio::io::duplex(64 * 1024);
        let server = async {
            prelogin(&mut $io, 2).await;
            $server
            $io
        };
        let options = plain();
        tokio::join!(Connection::connect_over(Box::new(client), &options, $relay), server)
    }};
}

#[tokio::test]
async fn a_kerberos_login_needs_one_token_each_way() {
    let mut relay = Script::default();
    let (connection, _) = connect!(&mut relay, |io| {
        let login7 = login(&mut io).await;
        assert!(login7.payload.windows(6).any(|w| w == b"AP-REQ"));
    });
    assert_eq!(connection.unwrap().spid(), 57);
    assert_eq!((relay.begun, relay.seen), (1, vec![b"AP-REP".to_vec()]));
}

#[tokio::test]
async fn proof_and_acknowledgement_may_come_in_one_message() {
    let mut relay = Script::default();
    let (connection, _) = connect!(&mut relay, |io| {
        message(&mut io).await;
        answer(&mut io, &[vec![wire::sspi(b"AP-REP")], acknowledged()].concat()).await;
    });
    assert!(connection.is_ok(), "{connection:?}");
}

#[tokio::test]
async fn further_rounds_are_relayed_in_sspi_messages() {
    let mut relay = Script { rounds: 2, ..Script::default() };
    let (connection, _) = connect!(&mut relay, |io| {
        message(&mut io).await;
        for _ in 0..2 {
            answer(&mut io, &[wire::sspi(b"challenge")]).await;
            let reply = message(&mut io).await;
            assert_eq!((reply.kind, reply.payload), (0x11, b"more".to_vec()));
        }
        answer(&mut io, &[wire::sspi(b"last")]).await;
        answer(&mut io, &acknowledged()).await;
    });
    assert!(connection.is_ok(), "{connection:?}");
    assert_eq!(relay.seen.len(), 3);
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_left() {
    let mut relay = Script::default();
    let (connection, _) = connect!(&mut relay, |io| {
        message(&mut io).await;
        answer(&mut io, &acknowledged()).await;
    });
    assert!(matches!(connection, Err(TdsError::NotMutual)), "{connection:?}");

    let mut relay = Script::default();
    let (connection, _) = connect!(&mut relay, |io| {
        message(&mut io).await;
        answer(&mut io, &[wire::sspi(b"forged")]).await;
        answer(&mut io, &acknowledged()).await;
    });
    assert!(matches!(connection, Err(TdsError::Relay(_))), "{connection:?}");
}

#[tokio::test]
async fn a_refused_login_keeps_the_servers_number() {
    let mut relay = Script::default();
    let (connection, _) = connect!(&mut relay, |io| {
        message(&mut io).await;
        answer(&mut io, &[wire::error(18456, 14, "Login failed for user 'CORP\\x'."), wire::done(2, 0, 0)])
            .await;
    });
    let error = connection.unwrap_err();
    assert_eq!(error.number(), Some(18456));
    assert!(!error.is_transient());
    assert!(error.to_string().contains("state in the server's own error log"), "{error}");
}

#[tokio::test]
async fn the_servers_packet_size_holds_from_the_next_message_on() {
    let mut relay = Script::default();
    let (connection, io) = connect!(&mut relay, |io| {
        message(&mut io).await;
        answer(&mut io, &[wire::sspi(b"AP-REP")]).await;
        answer(&mut io, &[wire::login_ack(), wire::packet_size("512"), wire::done(0, 0, 0)]).await;
    });
    let (mut connection, mut io) = (connection.unwrap(), io);
    let sql = format!("SELECT '{}'", "x".repeat(5000));
    let server = async {
        let batch = message(&mut io).await;
        answer(&mut io, &[wire::done(0, 0, 0)]).await;
        batch
    };
    let (outcome, batch) = tokio::join!(connection.run(&sql), server);
    outcome.unwrap();
    assert_eq!((batch.sql(), batch.largest_packet), (sql, 512));
}

#[tokio::test]
async fn packet_sizes_and_features_that_nobody_may_send_are_refused() {
    for token in [
        wire::packet_size("511"),
        wire::packet_size("32768"),
        wire::packet_size("x"),
        vec![0xAE, 9, 0, 0, 0, 0, 0xFF],
    ] {
        let mut relay = Script::default();
        let (connection, _) = connect!(&mut relay, |io| {
            message(&mut io).await;
            answer(&mut io, &[wire::sspi(b"AP-REP"), wire::login_ack(), token, wire::done(0, 0, 0)]).await;
        });
        assert!(matches!(connection, Err(TdsError::Protocol(_))), "{connection:?}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    tokio::time::pause();
    let (client, server) = tokio::io::duplex(64 * 1024);
    let mut options = plain();
    options.timeouts.connect = Duration::from_secs(3);
    let outcome = Connection::connect_over(Box::new(client), &options, &mut Script::default()).await;
    assert!(matches!(outcome, Err(TdsError::Timeout { .. })), "{outcome:?}");
    assert!(outcome.unwrap_err().is_transient());
    drop(server);
}

#[tokio::test]
async fn another_protocol_on_the_port_is_recognised() {
    let (client, mut io) = tokio::io::duplex(64 * 1024);
    io.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
    let outcome = Connection::connect_over(Box::new(client), &plain(), &mut Script::default()).await;
    assert!(outcome.unwrap_err().to_string().contains("is this SQL Server's port"));
}

/// Routes every login to `port`.
async fn route_to(listener: TcpListener, port: u16) {
    loop {
        let (mut io, _) = listener.accept().await.unwrap();
        prelogin(&mut io, 2).await;
        message(&mut io).await;
        answer(&mut io, &[wire::sspi(b"AP-REP")]).await;
        answer(&mut io, &[wire::login_ack(), wire::routing("127.0.0.1", port), wire::done(0, 0, 0)]).await;
    }
}

#[tokio::test]
async fn routing_is_followed_with_a_new_exchange() {
    let (first, second) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut options = plain();
    (options.host, options.port) = ("127.0.0.1".into(), first.local_addr().unwrap().port());
    let target = second.local_addr().unwrap().port();
    let mut relay = Script::default();
    let server = async {
        let (mut io, _) = second.accept().await.unwrap();
        prelogin(&mut io, 2).await;
        login(&mut io).await;
    };
    let connection = tokio::select! {
        () = route_to(first, target) => unreachable!(),
        (connection, ()) = async { tokio::join!(Connection::connect(&options, &mut relay), server) } => connection,
    };
    assert!(connection.is_ok(), "{connection:?}");
    assert_eq!(relay.begun, 2);
}

#[tokio::test]
async fn routing_in_a_circle_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = plain();
    let port = listener.local_addr().unwrap().port();
    (options.host, options.port) = ("127.0.0.1".into(), port);
    let mut relay = Script::default();
    let outcome = tokio::select! {
        () = route_to(listener, port) => unreachable!(),
        outcome = Connection::connect(&options, &mut relay) => outcome,
    };
    assert!(outcome.unwrap_err().to_string().contains("routed 4 times"));
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = plain();
    (options.host, options.port) = ("127.0.0.1".into(), listener.local_addr().unwrap().port());
    drop(listener);
    let error = Connection::connect(&options, &mut Script::default()).await.unwrap_err();
    assert!(matches!(error, TdsError::Connect { .. }) && error.is_transient(), "{error}");
}
