//! A real MIT KDC for one realm, in a folder of its own, on a free loopback port.
//!
//! Every path is given explicitly: with a malformed profile the MIT tools fall back to the system's
//! own database.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// A running `krb5kdc` with its database.
pub struct Kdc {
    dir: PathBuf,
    realm: String,
    address: SocketAddr,
    child: Option<Child>,
}

/// How a realm issues tickets.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// The longest life of a ticket.
    pub ticket: Duration,
    /// How long a ticket may be renewed.
    pub renewable: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { ticket: Duration::from_hours(10), renewable: Duration::from_hours(24) }
    }
}

impl Kdc {
    /// Creates realm and database under `dir` and starts the server.
    pub fn start(dir: &Path, realm: &str, lifetimes: Lifetimes) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut kdc = Self { dir: dir.to_owned(), realm: realm.to_owned(), address, child: None };
        fs::write(kdc.client_config(), krb5_conf(realm, address))?;
        fs::write(dir.join("kdc.conf"), kdc_conf(dir, realm, port, lifetimes))?;
        kdc.run("kdb5_util", &["create", "-s", "-P", &uuid::Uuid::new_v4().to_string(), "-r", realm])?;
        kdc.serve()?;
        Ok(kdc)
    }

    /// The client's `krb5.conf`, for `KRB5_CONFIG`.
    pub fn client_config(&self) -> PathBuf {
        self.dir.join("krb5.conf")
    }

    /// The realm's name.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Where the KDC listens (TCP).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a client configuration that reaches the KDC through `proxy` instead.
    pub fn write_client_config(&self, path: &Path, proxy: SocketAddr) -> Result<()> {
        fs::write(path, krb5_conf(&self.realm, proxy)).with_context(|| format!("write {}", path.display()))
    }

    /// Adds a principal with random AES keys. `name` is without realm.
    pub fn add_principal(&self, name: &str) -> Result<()> {
        self.kadmin(&format!("addprinc -randkey +requires_preauth {name}"))
    }

    /// Adds a service: a principal that tickets can be issued for.
    pub fn add_service(&self, name: &str) -> Result<()> {
        self.kadmin(&format!("addprinc -randkey {name}"))
    }

    /// Writes the principal's current keys to a keytab, without changing them.
    pub fn export_keytab(&self, name: &str, keytab: &Path) -> Result<()> {
        self.kadmin(&format!("ktadd -norandkey -k {} {name}", keytab.display()))
    }

    /// Gives the principal new keys (kvno + 1) and writes those to a keytab.
    pub fn rotate_keytab(&self, name: &str, keytab: &Path) -> Result<()> {
        self.kadmin(&format!("ktadd -k {} {name}", keytab.display()))
    }

    /// Stops answering; the database stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts answering (again), and returns when the port is open.
    pub fn serve(&mut self) -> Result<()> {
        let child = self
            .command("krb5kdc")
            .args(["-n", "-r", &self.realm])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.join("krb5kdc.err"))?)
            .spawn()
            .context("start krb5kdc; is the package krb5-kdc installed?")?;
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                let said = fs::read_to_string(self.dir.join("krb5kdc.err")).unwrap_or_default();
                bail!("krb5kdc ended with {status}: {said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("krb5kdc did not open {} within 10 s", self.address)
    }

    fn kadmin(&self, request: &str) -> Result<()> {
        // A user without an entry in the system's database has no name to act under unless one is given.
        self.run("kadmin.local", &["-r", &self.realm, "-p", "admin/local", "-q", request])
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let output =
            self.command(program).args(arguments).stdin(Stdio::null()).output().with_context(|| {
                format!("run {program}; is the package krb5-kdc (krb5-admin-server) installed?")
            })?;
        // kadmin.local ends with 0 even where a request failed: its words decide.
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let failed = ["while ", "error:", "Error"].iter().any(|word| said.contains(word));
        if !output.status.success() || failed {
            bail!("{program} {}: {}", arguments.last().unwrap_or(&""), said.trim());
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        // Debian keeps the server's tools in /usr/sbin, which is on no ordinary user's path.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .env("KRB5_CONFIG", self.client_config())
            .env("KRB5_KDC_PROFILE", self.dir.join("kdc.conf"));
        command
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `deploy/krb5/krb5.conf` with this realm and this server: what operators are given is what every test runs with.
fn krb5_conf(realm: &str, kdc: SocketAddr) -> String {
    const DEPLOYED: &str = include_str!("../../../deploy/krb5/krb5.conf");
    let servers = DEPLOYED.lines().filter(|line| !line.contains("kdc = dc02."));
    let text: Vec<String> = servers
        .map(|line| match line.split_once("kdc = dc01.") {
            Some((indent, _)) => format!("{indent}kdc = {kdc}"),
            None => line.replace("CORP.EXAMPLE.COM", realm),
        })
        .collect();
    text.join("\n").replace("[libdefaults]\n", "[libdefaults]\n    qualify_shortname = \"\"\n")
}

fn kdc_conf(dir: &Path, realm: &str, port: u16, lifetimes: Lifetimes) -> String {
    let dir = dir.display();
    let (ticket, renewable) = (lifetimes.ticket.as_secs(), lifetimes.renewable.as_secs());
    format!(
        "[kdcdefaults]\n  kdc_listen = 127.0.0.1:{port}\n  kdc_tcp_listen = 127.0.0.1:{port}\n\n[realms]\n  {realm} = {{\n    \
         database_name = {dir}/principal\n    key_stash_file = {dir}/stash\n    acl_file = {dir}/kadm5.acl\n    \
         max_life = {ticket}s\n    max_renewable_life = {renewable}s\n    \
         supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal\n  }}\n\n\
         [logging]\n  kdc = FILE:{dir}/krb5kdc.log\n  admin_server = FILE:{dir}/kadmin.log\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_gets_a_ticket_with_its_keytab_and_not_with_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let kdc = Kdc::start(&dir.path().join("kdc"), "TEST.EXAMPLE", Lifetimes::default()).unwrap();
        kdc.add_principal("svc").unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        kdc.export_keytab("svc", &old).unwrap();
        let kinit = |keytab: &Path| {
            kdc.command("kinit")
                .env("KRB5CCNAME", format!("FILE:{}", dir.path().join("cc").display()))
                .args(["-k", "-t", keytab.to_str().unwrap(), "svc"])
                .output()
                .unwrap()
        };
        assert!(kinit(&old).status.success());
        kdc.rotate_keytab("svc", &new).unwrap();
        let refused = kinit(&old);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("reauthentication failed"), "{refused:?}");
        assert!(kinit(&new).status.success());
        assert!(kdc.add_principal("svc").is_err(), "a second principal of the same name is refused");
    }
}
