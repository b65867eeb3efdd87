//! The built program against a Vault, an Entra and a real KDC: what it prints, how it ends, what it leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use keyferry_proto::{
    connect::{self, Address},
    v1::WhoAmIRequest,
};
use keyferry_stand_in_identity::{
    certs::Authority,
    entra::{Application, ClientSecret, Entra},
    kdc::{Kdc, Lifetimes},
    vault::{Role, Vault},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

const TENANT: &str = "contoso.example";
const APPLICATION: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01";
const CLIENT_SECRET: &str = "cs~one-to-find-nowhere";

struct World {
    dir: TempDir,
    private: TempDir,
    vault: Vault,
    _entra: Entra,
    _kdc: Kdc,
    secret_id: String,
}

impl World {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let private = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let authority = Authority::new("Keyferry test").unwrap();
        authority.write_pem(&dir.path().join("ca.pem")).unwrap();
        let names = &["localhost", "127.0.0.1"];
        let vault = Vault::start(authority.server(names).unwrap()).await.unwrap();
        let (resource, hour) = ("api://snowflake", Duration::from_hours(1));
        let entra = Entra::start(authority.server(names).unwrap(), TENANT, &[resource], hour).await.unwrap();
        let expires = SystemTime::now() + Duration::from_hours(24);
        entra.register(Application {
            client_id: APPLICATION.to_owned(),
            object_id: "object".to_owned(),
            secrets: vec![ClientSecret { value: CLIENT_SECRET.to_owned(), expires }],
            roles: Vec::new(),
        });
        let kdc = Kdc::start(&dir.path().join("kdc"), "KEYFERRY.TEST", Lifetimes::default()).unwrap();
        kdc.add_principal("svc_loader").unwrap();
        kdc.add_service("MSSQLSvc/localhost:1433").unwrap();
        let keytab = dir.path().join("svc_loader.keytab");
        kdc.export_keytab("svc_loader", &keytab).unwrap();
        vault.write_policy("loader", "path \"secret/data/p\" { capabilities = [\"read\"] }").unwrap();
        let data = serde_json::json!({
            "principal": "svc_loader@KEYFERRY.TEST",
            "keytab": BASE64_STANDARD.encode(fs::read(&keytab).unwrap()),
            "tenant": TENANT, "client_id": APPLICATION, "client_secret": CLIENT_SECRET, "user": "SVC",
        });
        vault.put("secret", "p", data);
        let role = Role {
            token_ttl: Duration::from_hours(1),
            token_max_ttl: Duration::from_hours(4),
            secret_id_num_uses: 0,
            secret_id_ttl: Duration::ZERO,
            policies: vec!["loader".to_owned()],
        };
        let role_id = vault.create_role("loader", role);
        let secret_id = vault.issue_secret_id("loader").unwrap();
        fs::write(dir.path().join("role-id"), role_id).unwrap();
        for name in ["secret-id", "role-id"] {
            let path = dir.path().join(name);
            if name == "secret-id" {
                fs::write(&path, &secret_id).unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        }
        fs::create_dir(dir.path().join("socket")).unwrap();
        fs::set_permissions(dir.path().join("socket"), fs::Permissions::from_mode(0o750)).unwrap();
        let text = format!(
            r#"socket: {{ path: socket/broker.sock }}
vault:
  address: {vault}
  ca_file: ca.pem
  auth: {{ approle: {{ role_id_file: role-id, secret_id_file: secret-id }} }}
  secret: {{ mount: secret, path: p }}
kerberos: {{ principal_key: principal, keytab_key: keytab, tmpfs: {private}, krb5_conf: {krb5} }}
grants:
  sales-sql: {{ kerberos: {{ spn: "MSSQLSvc/localhost:1433" }} }}
  analytics:
    snowflake:
      account: acc
      url: https://127.0.0.1:9
      ca_file: ca.pem
      user_key: user
      roles: [LOADER]
      warehouses: [LOAD_WH]
      login:
        entra: {{ tenant_key: tenant, client_id_key: client_id, client_secret_key: client_secret, scope: "{resource}/.default", authority: {entra}, ca_file: ca.pem }}
policy:
  - {{ caller: {{ uid: 10002 }}, pipeline: sales-nightly, allow: {{ sales-sql: relay, analytics: session }} }}
audit: {{ path: audit.log }}
admin: {{ listen: "127.0.0.1:0" }}
limits: {{ drain: 1s }}
"#,
            vault = vault.url(),
            entra = entra.url(),
            private = private.path().display(),
            krb5 = kdc.client_config().display(),
        );
        fs::write(dir.path().join("broker.yaml"), text).unwrap();
        let owner = format!("{0}:{0}", uid());
        let given = Command::new("chown").arg("-R").arg(owner).args([dir.path(), private.path()]).status();
        assert!(!geteuid().is_root() || given.unwrap().success());
        Self { dir, private, vault, _entra: entra, _kdc: kdc, secret_id }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("broker.yaml")
    }

    /// The keytabs on tmpfs.
    fn keytabs(&self) -> usize {
        let list = fs::read_dir(self.private.path()).unwrap().flatten();
        list.filter(|entry| entry.path().extension().is_some_and(|end| end == "keytab")).count()
    }

    fn assert_silent(&self, text: &str) {
        for secret in [self.secret_id.as_str(), CLIENT_SECRET] {
            assert!(!text.contains(secret), "a secret is in\n{text}");
        }
        for token in self.vault.live_tokens() {
            assert!(!text.contains(&token), "a Vault token is in\n{text}");
        }
    }
}

/// Whom the broker runs as: never root, which it refuses to be.
fn uid() -> u32 {
    if geteuid().is_root() { 10_001 } else { geteuid().as_raw() }
}

/// The built program, where that user can start it.
fn program() -> PathBuf {
    static COPY: OnceLock<TempDir> = OnceLock::new();
    let folder = COPY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Another process copies: a file that this one had open for writing could still be open in a fork of it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_broker")).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        folder
    });
    folder.path().join("broker")
}

fn broker(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().env("KEYFERRY_LOG", "trace");
    if geteuid().is_root() {
        command.uid(uid()).gid(uid());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finished(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = broker(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A program whose log goes to a file, so that it never blocks on a full pipe.
struct Serving {
    child: Child,
    log: PathBuf,
}

impl Serving {
    fn start(config: &Path, log: PathBuf) -> Self {
        let file = fs::File::create(&log).unwrap();
        let child = broker(&["run", "--config", config.to_str().unwrap()]).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The address of health and metrics, from the line that says that the broker serves.
    fn admin(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            for line in lines {
                if line["fields"]["message"] == "serving" {
                    return line["fields"]["admin"].as_str().unwrap().to_owned();
                }
            }
            assert!(
                self.child.try_wait().unwrap().is_none() && Instant::now() < deadline,
                "not serving:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self) -> i32 {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_serves_turns_a_second_one_away_and_leaves_nothing_behind() {
    let world = World::start().await;
    let mut serving = Serving::start(&world.config(), world.dir.path().join("broker.log"));
    let admin = serving.admin();
    assert_eq!(world.keytabs(), 1);

    let socket = world.dir.path().join("socket/broker.sock");
    let address = Address {
        socket: socket.clone(),
        server_uid: uid(),
        patience: Duration::from_secs(5),
        service_account_token: None,
    };
    let mut client = connect::connect(&address).await.unwrap();
    let seen = client.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(seen.uid, geteuid().as_raw());

    let (code, _, stderr) = finished(&["run", "--config", world.config().to_str().unwrap()]);
    assert_eq!(code, 75, "{stderr}");
    assert!(stderr.contains("another broker serves in"), "{stderr}");
    assert_eq!(world.keytabs(), 1, "the second broker left the first one's keytab alone");

    // The first token comes a moment after the socket.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(&admin, "/health").starts_with("HTTP/1.1 200") && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let health = get(&admin, "/health");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains(r#""name": "kerberos""#), "{health}");
    assert!(get(&admin, "/metrics").contains("keyferry_broker_seconds_to_expiry{grant=\"analytics\"} 3"));

    let tokens = world.vault.live_tokens();
    assert_eq!(serving.stop(), 0, "{}", serving.log());
    assert!(!socket.exists());
    assert_eq!(world.keytabs(), 0, "the keytab is wiped");
    assert!(world.vault.live_tokens().is_empty(), "the Vault token is revoked");
    let log = serving.log();
    world.assert_silent(&log);
    assert!(tokens.iter().all(|token| !log.contains(token)));
    let audit = fs::read_to_string(world.dir.path().join("audit.log")).unwrap();
    world.assert_silent(&audit);
    let events: Vec<String> = audit
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string())
        .collect();
    assert_eq!(events, ["\"Start\"", "\"WhoAmI\"", "\"Stop\""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_reaches_every_upstream_and_disturbs_no_running_broker() {
    let world = World::start().await;
    let mut serving = Serving::start(&world.config(), world.dir.path().join("broker.log"));
    serving.admin();
    let config = world.config();
    let (code, stdout, stderr) =
        finished(&["check", "--config", config.to_str().unwrap(), "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let outcome = |what: &str| {
        let steps = report["steps"].as_array().unwrap();
        steps
            .iter()
            .find(|step| step["what"] == what)
            .unwrap_or_else(|| panic!("no {what} in {stdout}"))
            .clone()
    };
    for what in ["socket", "audit log", "vault", "grant sales-sql"] {
        assert_eq!(outcome(what)["outcome"], "ok", "{stdout}");
    }
    assert_eq!(outcome("grant analytics")["outcome"], "failed", "nothing serves that Snowflake");
    assert_eq!((code, report["ok"].as_bool()), (69, Some(false)));
    assert_eq!(report["serves"].as_array().unwrap().len(), 2);
    world.assert_silent(&(stdout.clone() + &stderr));
    assert_eq!(world.keytabs(), 1, "the running broker's keytab is where it was");
    assert!(!world.private.path().join("check").exists());
    assert_eq!(serving.stop(), 0);

    let (code, stdout, _) = finished(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 69);
    assert!(stdout.contains("ok       grant sales-sql") && stdout.contains("would serve:"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_not_to_start_has_its_own_exit_code_and_one_line() {
    let world = World::start().await;
    let config = world.config();
    let good = fs::read_to_string(&config).unwrap();
    let vault = world.vault.url();
    let cases = [
        ("policy:", "polcy:", 78, "did you mean `policy`?"),
        ("path: socket/broker.sock", "path: absent/broker.sock", 78, "install -d"),
        ("audit.log", "absent/audit.log", 73, "cannot open the audit log"),
        (vault.as_str(), "https://127.0.0.1:9", 69, "vault"),
        ("mount: secret", "mount: secrets", 77, "vault"),
        ("ca_file: ca.pem\n  auth", "ca_file: absent.pem\n  auth", 78, "absent.pem"),
    ];
    for (from, to, wanted, text) in cases {
        fs::write(&config, good.replacen(from, to, 1)).unwrap();
        let (code, _, stderr) = finished(&["run", "--config", config.to_str().unwrap()]);
        let last = stderr.lines().last().unwrap_or_default();
        assert_eq!(code, wanted, "{to}: {stderr}");
        assert!(last.starts_with("broker: error[B") && last.contains(text), "{to}: {last}");
        world.assert_silent(&stderr);
        assert_eq!(world.keytabs(), 0);
    }
    let (code, _, stderr) = finished(&["run", "--config", "/nonexistent/broker.yaml"]);
    assert_eq!(code, 78, "{stderr}");
}
