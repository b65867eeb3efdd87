//! Logins by ticket against a real MIT KDC in a throw-away directory.
//!
//! Kerberos takes its configuration from the environment, so the clients run in a child process: this test binary,
//! started again for one ignored test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyferry_stand_in_sqlserver::{Encrypt, Kerberos, Server};
use tiberius::{AuthMethod, EncryptionLevel};

use crate::raw;
use crate::support::{Local, Tiberius, rows, start};

const REALM: &str = "KEYFERRY.TEST";

/// The KDC and its files; killed with the value.
struct Kdc {
    process: Child,
    directory: tempfile::TempDir,
}

impl Drop for Kdc {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Kdc {
    /// A realm with one service and two users. None where MIT Kerberos is not installed.
    fn start(service: &str) -> Option<Self> {
        let (Some(kdc), Some(_), Some(_)) = (tool("krb5kdc"), tool("kadmin.local"), tool("kinit")) else {
            eprintln!("SKIPPED: no MIT KDC here (Debian packages krb5-kdc krb5-admin-server krb5-user)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let port = free_port();
        let folder = at.display();
        let krb5 = format!(
            "[libdefaults]\ndefault_realm = {REALM}\nrdns = false\ndns_canonicalize_hostname = false\n\
             dns_lookup_kdc = false\ndns_lookup_realm = false\nudp_preference_limit = 1\n\
             [realms]\n{REALM} = {{\n kdc = 127.0.0.1:{port}\n}}\n"
        );
        let kdc_conf = format!(
            "[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n\
             {REALM} = {{\n database_name = {folder}/principal\n key_stash_file = {folder}/stash\n\
             acl_file = {folder}/acl\n max_life = 1h\n}}\n[logging]\nkdc = FILE:{folder}/kdc.log\n"
        );
        std::fs::write(at.join("krb5.conf"), krb5).unwrap();
        std::fs::write(at.join("kdc.conf"), kdc_conf).unwrap();
        run(at, "kdb5_util", &["create", "-s", "-P", "throw-away", "-r", REALM]);
        for principal in [service, "svc_loader", "stranger"] {
            run(at, "kadmin.local", &["-q", &format!("addprinc -randkey {principal}")]);
            let file = if principal == service { "service.keytab" } else { "client.keytab" };
            run(at, "kadmin.local", &["-q", &format!("ktadd -k {folder}/{file} {principal}")]);
        }
        let process = command(at, kdc.to_str().unwrap()).arg("-n").spawn().unwrap();
        let kdc = Self { process, directory };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the KDC does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(kdc)
    }

    /// Runs one ignored test of this binary with `user`'s ticket.
    fn as_user(&self, user: &str, port: u16, test: &str) {
        let at = self.directory.path();
        run(at, "kinit", &["-k", "-t", &at.join("client.keytab").display().to_string(), user]);
        let binary = std::env::current_exe().unwrap();
        let output = command(at, binary.to_str().unwrap())
            .args(["--exact", &format!("kerberos::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
            .env("KEYFERRY_TEST_DIRECTORY", at)
            .env("KEYFERRY_TEST_PORT", port.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{test} as {user}:\n{text}");
    }
}

fn command(at: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("KRB5_CONFIG", at.join("krb5.conf"))
        .env("KRB5_KDC_PROFILE", at.join("kdc.conf"))
        .env("KRB5CCNAME", format!("FILE:{}", at.join("ccache").display()))
        .env("KRB5RCACHEDIR", at)
        .stdin(Stdio::null());
    command
}

fn run(at: &Path, program: &str, arguments: &[&str]) {
    let path = tool(program).unwrap();
    let output = command(at, path.to_str().unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tickets_of_known_principals_are_accepted_and_others_refused() {
    let port = free_port();
    let Some(kdc) = Kdc::start(&format!("MSSQLSvc/localhost:{port}")) else { return };
    kdc.as_user("svc_loader", port, "tokens_of_both_mechanisms_are_accepted_once");
    kdc.as_user("stranger", port, "an_unknown_principal_is_18456");
    kdc.as_user("svc_loader", port, "a_known_principal_logs_in");
    kdc.as_user("svc_loader", port, "a_service_key_that_does_not_match_is_18452");
}

/// The server as the child sees it, with the keytab of this name.
async fn with_kerberos(keytab: &str, encrypt: Encrypt) -> Local {
    let directory =
        PathBuf::from(std::env::var_os("KEYFERRY_TEST_DIRECTORY").expect("started by the parent test"));
    let port: u16 = std::env::var("KEYFERRY_TEST_PORT").unwrap().parse().unwrap();
    let logins = [(format!("svc_loader@{REALM}"), r"CORP\svc_loader".to_owned())].into();
    let kerberos =
        Kerberos { keytab: directory.join(keytab), spn: format!("MSSQLSvc/localhost:{port}"), logins };
    start(|config| {
        config.listen.set_port(port);
        config.kerberos = Some(kerberos);
        config.encrypt = encrypt;
    })
    .await
}

async fn integrated(local: &Local) -> tiberius::Result<Tiberius> {
    let mut config = local.client_config(EncryptionLevel::Required);
    config.authentication(AuthMethod::Integrated);
    local.connect(config).await
}

fn refused_with(result: tiberius::Result<Tiberius>) -> u32 {
    match result {
        Err(tiberius::error::Error::Server(token)) => token.code(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the login was accepted"),
    }
}

#[tokio::test]
#[ignore = "needs a KDC; the parent test starts it"]
async fn a_known_principal_logs_in() {
    let local = with_kerberos("service.keytab", Encrypt::Required).await;
    let mut client = integrated(&local).await.unwrap();
    let name = rows(&mut client, "SELECT SUSER_SNAME()").await;
    assert_eq!(name[0][0], tiberius::ColumnData::String(Some(r"CORP\svc_loader".into())));
    // A second login takes a second ticket and works too.
    integrated(&local).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a KDC; the parent test starts it"]
async fn tokens_of_both_mechanisms_are_accepted_once() {
    let local = with_kerberos("service.keytab", Encrypt::NotSupported).await;
    let spn = format!("MSSQLSvc/localhost:{}", local.server.addr().port());
    raw::tokens_are_answered_once(&local, &spn).await;
}

#[tokio::test]
#[ignore = "needs a KDC; the parent test starts it"]
async fn an_unknown_principal_is_18456() {
    let local = with_kerberos("service.keytab", Encrypt::Required).await;
    assert_eq!(refused_with(integrated(&local).await), 18456);
}

#[tokio::test]
#[ignore = "needs a KDC; the parent test starts it"]
async fn a_service_key_that_does_not_match_is_18452() {
    let directory =
        PathBuf::from(std::env::var_os("KEYFERRY_TEST_DIRECTORY").expect("started by the parent test"));
    let port = std::env::var("KEYFERRY_TEST_PORT").unwrap();
    // The service's password changes after the keytab was given out; the client's next ticket has the new key.
    run(&directory, "kadmin.local", &["-q", &format!("cpw -randkey MSSQLSvc/localhost:{port}")]);
    let local = with_kerberos("service.keytab", Encrypt::Required).await;
    assert_eq!(refused_with(integrated(&local).await), 18452);
}

#[tokio::test]
async fn a_keytab_without_the_services_key_does_not_start() {
    let database = keyferry_sql::Database::new(keyferry_sql::Dialect::SqlServer, "sales");
    let mut config = keyferry_stand_in_sqlserver::Config::new("127.0.0.1:0".parse().unwrap(), database);
    config.encrypt = Encrypt::NotSupported;
    let spn = "MSSQLSvc/localhost:1433@KEYFERRY.TEST".to_owned();
    config.kerberos = Some(Kerberos { keytab: "/nonexistent/keytab".into(), spn, logins: [].into() });
    let Err(error) = Server::start(config).await else { panic!("it started") };
    assert!(error.to_string().contains("MSSQLSvc/localhost:1433"), "{error}");
}
