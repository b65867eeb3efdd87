//! FreeTDS' `tsql` as a second opinion, in C and by other people.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{Local, PASSWORD, USER, run, start};

/// What tsql prints for these lines of input. None, with a word on stderr, where tsql is not installed.
async fn tsql(local: &Local, password: &str, input: &str) -> Option<String> {
    let port = local.server.addr().port().to_string();
    let child = Command::new("tsql")
        .args(["-H", "127.0.0.1", "-p", &port, "-U", USER, "-P", password, "-D", "sales", "-o", "fhq"])
        .args(["-t", "|"])
        .env("TDSVER", "7.4")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: tsql is not installed (Debian package freetds-bin)");
            return None;
        }
        Err(error) => panic!("tsql: {error}"),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output =
        tokio::time::timeout(Duration::from_mins(1), child.wait_with_output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some(format!("{out}{err}"))
}

#[tokio::test]
async fn tsql_logs_in_over_tls_and_reads_values() {
    let local = start(|_| {}).await;
    let mut client = local.connect(local.client_config(tiberius::EncryptionLevel::Required)).await.unwrap();
    let utf8 = "COLLATE Latin1_General_100_CI_AS_SC_UTF8";
    let create = format!(
        "CREATE TABLE dbo.t (id int NOT NULL PRIMARY KEY, name nvarchar(20) NULL, price money NULL, \
         at datetime2(7) NULL, word varchar(20) {utf8} NULL)"
    );
    run(&mut client, &create).await;
    run(
        &mut client,
        "INSERT INTO dbo.t VALUES (1, N'Zoë', -12.3400, '2024-02-29 01:02:03.1234567', N'日本 é'), \
         (2, NULL, NULL, NULL, NULL)",
    )
    .await;
    let sql = "SELECT id, name, price, word FROM dbo.t ORDER BY id\nGO\nSELECT 1/0\nGO\n\
               SELECT COUNT(*) FROM dbo.t\nGO\nquit\n";
    let Some(output) = tsql(&local, PASSWORD, sql).await else { return };
    assert!(output.contains("1|Zoë|-12.3400|日本 é"), "{output}");
    assert!(output.contains("2|NULL|NULL|NULL"), "{output}");
    assert!(output.contains("Msg 8134"), "{output}");
    assert!(output.lines().any(|line| line.trim() == "2"), "{output}");
}

#[tokio::test]
async fn tsql_is_told_why_a_login_failed() {
    let local = start(|_| {}).await;
    let Some(output) = tsql(&local, "wrong", "quit\n").await else { return };
    assert!(output.contains("18456"), "{output}");
}
