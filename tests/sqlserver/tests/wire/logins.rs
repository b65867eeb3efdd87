//! Encryption and logins as tiberius sees them.

use keyferry_stand_in_sqlserver::{Encrypt, Server, SqlLogin};
use tiberius::error::Error;
use tiberius::{AuthMethod, EncryptionLevel};

use crate::support::{PASSWORD, USER, ints, start, start_plain};

fn number(result: tiberius::Result<crate::support::Tiberius>) -> u32 {
    match result {
        Err(Error::Server(token)) => token.code(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the login was accepted"),
    }
}

#[tokio::test]
async fn a_password_over_tls_is_accepted_and_the_certificate_is_checked() {
    let local = start(|_| {}).await;
    let mut client = local.connect(local.client_config(EncryptionLevel::Required)).await.unwrap();
    assert_eq!(ints(&mut client, "SELECT 1 + 1").await, [2]);

    let mut stranger = local.client_config(EncryptionLevel::Required);
    stranger.host("other.example");
    assert!(local.connect(stranger).await.is_err());
    assert_eq!(local.server.stats().logins, 1);
    local.server.stop().await;
}

#[tokio::test]
async fn tls_before_prelogin_is_served_on_the_same_port() {
    let local = start(|_| {}).await;
    let mut client = local.connect(local.client_config(EncryptionLevel::Strict)).await.unwrap();
    assert_eq!(ints(&mut client, "SELECT 2").await, [2]);
}

#[tokio::test]
async fn encryption_of_the_login_only_leaves_the_rest_plain() {
    let local = start(|config| config.encrypt = Encrypt::Off).await;
    let mut client = local.connect(local.client_config(EncryptionLevel::Off)).await.unwrap();
    assert_eq!(ints(&mut client, "SELECT 3").await, [3]);
    // A client that asks for more gets it.
    let mut client = local.connect(local.client_config(EncryptionLevel::Required)).await.unwrap();
    assert_eq!(ints(&mut client, "SELECT 4").await, [4]);
}

#[tokio::test]
async fn a_server_that_forces_encryption_refuses_a_client_without() {
    let local = start(|_| {}).await;
    assert!(local.connect(local.client_config(EncryptionLevel::NotSupported)).await.is_err());
    assert_eq!(local.server.stats().logins, 0);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_18456() {
    let local = start_plain().await;
    for (user, password) in [(USER, "guess"), ("nobody", PASSWORD), (USER, "")] {
        let mut config = local.client_config(EncryptionLevel::NotSupported);
        config.authentication(AuthMethod::sql_server(user, password));
        assert_eq!(number(local.connect(config).await), 18456, "{user}");
    }
    assert_eq!(local.server.stats().refused_logins, 3);
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_4060() {
    let local = start_plain().await;
    let mut config = local.client_config(EncryptionLevel::NotSupported);
    config.database("sale");
    assert_eq!(number(local.connect(config).await), 4060);
    let mut config = local.client_config(EncryptionLevel::NotSupported);
    config.database("sales");
    local.connect(config).await.unwrap();
}

#[tokio::test]
async fn every_packet_size_carries_the_same_answer() {
    let local = start_plain().await;
    for size in [512, 4096, 32_767] {
        let mut config = local.client_config(EncryptionLevel::NotSupported);
        config.packet_size(size);
        let mut client = local.connect(config).await.unwrap();
        let sql = format!("SELECT LEN('{}')", "x".repeat(6000));
        assert_eq!(ints(&mut client, &sql).await, [6000], "{size}");
    }
}

#[tokio::test]
async fn encryption_without_a_certificate_does_not_start() {
    let database = keyferry_sql::Database::new(keyferry_sql::Dialect::SqlServer, "sales");
    let mut config = keyferry_stand_in_sqlserver::Config::new("127.0.0.1:0".parse().unwrap(), database);
    config.logins.push(SqlLogin::new(USER, PASSWORD));
    let Err(error) = Server::start(config).await else { panic!("it started") };
    assert!(error.to_string().contains("no certificate"), "{error}");
}
