//! A throw-away MIT realm, and a way to run a test inside it.
//!
//! The Kerberos library takes its profile from the environment, which a test process with many threads
//! cannot change. So each test starts its own executable again with the environment of its realm.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use libgssapi::{
    context::ServerCtx,
    credential::{Cred, CredUsage},
    error::Error,
    name::Name,
    oid::GSS_NT_KRB5_PRINCIPAL,
};

use super::profile_list;
use crate::{config::KerberosConfig, upstream::bundle::Bundle};

pub(in crate::upstream) const REALM: &str = "KEYFERRY.TEST";
pub(in crate::upstream) const CLIENT: &str = "svc_loader@KEYFERRY.TEST";
pub(in crate::upstream) const SERVICE: &str = "MSSQLSvc/sql01.keyferry.test:1433";

const FOLDER: &str = "KEYFERRY_TEST_REALM";

/// A realm with one client, one service and a KDC.
pub(in crate::upstream) struct Realm {
    pub(in crate::upstream) folder: PathBuf,
    kdc: Option<Child>,
    _owner: Option<tempfile::TempDir>,
}

/// Runs `body` in a process of its own, in a realm of its own. `test` is the calling test's full name.
pub(in crate::upstream) fn in_realm(test: &str, body: impl FnOnce(&mut Realm)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let mut realm = Realm { folder: folder.into(), kdc: None, _owner: None };
        realm.start_kdc();
        return body(&mut realm);
    }
    let owner = tempfile::Builder::new()
        .prefix("keyferry-realm-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in("/dev/shm")
        .unwrap();
    let realm = Realm { folder: owner.path().to_owned(), kdc: None, _owner: Some(owner) };
    realm.make();
    let at = |name: &str| realm.folder.join(name);
    let profile = profile_list(&at("private").join(super::PROFILE_FILE), &at("krb5.conf"));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, &realm.folder)
        .env("KRB5_CONFIG", profile)
        .env("KRB5_KTNAME", at("service.keytab"))
        .env("KRB5RCACHEDIR", &realm.folder)
        .output()
        .unwrap();
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].join("\n");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

impl Realm {
    /// The broker's configuration for this realm.
    pub(in crate::upstream) fn config(&self) -> KerberosConfig {
        KerberosConfig {
            principal_key: "mssql_spn".parse().unwrap(),
            keytab_key: "keytab_base64".parse().unwrap(),
            tmpfs: self.folder.join("private"),
            krb5_conf: self.folder.join("krb5.conf"),
        }
    }

    /// What Vault would hold: a principal, and a keytab file in base64.
    pub(in crate::upstream) fn bundle(&self, principal: &str, keytab: &str) -> Bundle {
        let keytab = STANDARD.encode(fs::read(self.folder.join(keytab)).unwrap());
        let fields = serde_json::json!({ "mssql_spn": principal, "keytab_base64": keytab });
        Bundle::new(1, "secret/test".to_owned(), serde_json::from_value(fields).unwrap())
    }

    /// Gives an order to the realm's database.
    pub(in crate::upstream) fn kadmin(&self, order: &str) {
        self.run(Command::new("kadmin.local").args(["-r", REALM, "-q", order]));
    }

    pub(in crate::upstream) fn stop_kdc(&mut self) {
        if let Some(mut kdc) = self.kdc.take() {
            kdc.kill().unwrap();
            kdc.wait().unwrap();
        }
    }

    fn make(&self) {
        // Everything that the broker must not take from an operator's profile is switched on here.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = self.folder.display();
        let profile = format!(
            "[libdefaults]\n default_realm = OTHER.TEST\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = true\n \
             forwardable = true\n proxiable = true\n allow_weak_crypto = true\n udp_preference_limit = 1\n \
             permitted_enctypes = rc4-hmac aes256-cts-hmac-sha1-96\n\
             [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        );
        fs::write(self.folder.join("krb5.conf"), profile).unwrap();
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
             [realms]\n {REALM} = {{\n  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n  \
             acl_file = {folder}/acl\n  supported_enctypes = aes256-cts-hmac-sha1-96:normal\n  max_life = 10h\n  \
             default_principal_flags = +preauth\n }}\n\
             [logging]\n kdc = FILE:{folder}/kdc.log\n"
        );
        fs::write(self.folder.join("kdc.conf"), kdc).unwrap();
        self.run(Command::new("kdb5_util").args(["create", "-s", "-r", REALM, "-P", "master"]));
        self.kadmin(&format!("addprinc -randkey {CLIENT}"));
        self.kadmin(&format!("addprinc -randkey {SERVICE}@{REALM}"));
        self.kadmin(&format!("ktadd -k {folder}/client.keytab {CLIENT}"));
        self.kadmin(&format!("ktadd -k {folder}/service.keytab {SERVICE}@{REALM}"));
    }

    fn start_kdc(&mut self) {
        let mut command = Command::new("krb5kdc");
        self.environment(command.args(["-n", "-r", REALM]));
        self.kdc = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let address = self.address();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "the KDC does not listen on {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where the KDC listens, or somebody in its place.
    pub(in crate::upstream) fn address(&self) -> String {
        let profile = fs::read_to_string(self.folder.join("krb5.conf")).unwrap();
        profile.split("\n  kdc = ").nth(1).unwrap().lines().next().unwrap().to_owned()
    }

    /// Runs one of Kerberos' own programs with the operator's profile alone, and a cache of its own.
    pub(in crate::upstream) fn tool(&self, program: &str, arguments: &[&str]) -> bool {
        let cache = format!("FILE:{}", self.folder.join("tool.cache").display());
        let mut command = Command::new(program);
        self.environment(command.args(arguments)).env("KRB5CCNAME", cache).stdin(Stdio::null());
        command.output().unwrap().status.success()
    }

    fn run(&self, command: &mut Command) {
        let output = self.environment(command).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("KRB5_CONFIG", self.folder.join("krb5.conf"))
            .env("KRB5_KDC_PROFILE", self.folder.join("kdc.conf"))
    }

    /// Files that look like a keytab in the broker's private folder.
    pub(in crate::upstream) fn keytabs(&self) -> Vec<PathBuf> {
        let list = fs::read_dir(self.folder.join("private")).unwrap();
        list.map(|e| e.unwrap().path())
            .filter(|p| p.extension() == Some(Path::new("keytab").as_os_str()))
            .collect()
    }
}

/// What SQL Server does with the token: it holds the service's key and nothing else.
pub(in crate::upstream) fn accept(token: &[u8]) -> Result<(Vec<u8>, ServerCtx), Error> {
    let service = format!("{SERVICE}@{REALM}");
    let name = Name::new(service.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
    let mut server = ServerCtx::new(Some(Cred::acquire(Some(&name), None, CredUsage::Accept, None)?));
    let answer = server.step(token, None)?.map(|t| t.to_vec()).unwrap_or_default();
    Ok((answer, server))
}

impl Drop for Realm {
    fn drop(&mut self) {
        self.stop_kdc();
    }
}
