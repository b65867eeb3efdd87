//! What the broker gives up before it serves, and all that it can still reach.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use keyferry_sandbox::{Process, Profile, Reach, Report, Sandbox, SandboxError, places};

use crate::config::{Config, GrantConfig, SnowflakeLoginConfig, VaultAuth};

/// The system calls that the broker makes.
const PROFILE: &str = include_str!("../../deploy/seccomp/broker.json");

/// KDC, password change (which a KDC may refer to), where the Kerberos profile names no other.
const KERBEROS_PORTS: [u16; 2] = [88, 464];
/// Name servers, for answers that are too large for UDP.
const DOMAIN: u16 = 53;
/// The deepest that Kerberos profiles include each other.
const MOST_INCLUDED: usize = 64;

/// Refuses what would make the sandbox worthless, and takes the steps that need no path. Call it first of all, before
/// [`prepare`](crate::prepare).
pub fn begin(config: &Config) -> Result<Sandbox, SandboxError> {
    let neighbours = config.policy.iter().filter_map(|entry| entry.caller.uid).collect();
    Sandbox::begin(config.sandbox, &Process { neighbours, keeps_secrets: true })
}

/// The rest: from here on only what the configuration names can be reached. Call it after everything was
/// [prepared](crate::prepare), and before the program has a second thread.
pub fn confine(sandbox: Sandbox, reach: &Reach) -> Result<Report, SandboxError> {
    sandbox.confine(reach, &Profile::parse(PROFILE)?)
}

/// All that a broker with this configuration needs.
pub fn reach(config: &Config) -> Reach {
    let mut reach = Reach { read: places::of_the_system().collect(), ..Reach::default() };
    let VaultAuth::AppRole(approle) = &config.vault.auth;
    // What is read again while the broker runs may be another file by then.
    let accounts = config.service_accounts.as_ref();
    let of_accounts =
        accounts.into_iter().flat_map(|accounts| accounts.pod_uid_file.iter().chain([&accounts.keys_file]));
    for file in [&config.file, &approle.role_id_file, &approle.secret_id_file].into_iter().chain(of_accounts)
    {
        reach.read.insert(places::replaceable(file));
    }
    reach.read.extend(config.vault.ca_file.clone());
    reach.connect.extend([DOMAIN, config.vault.address.port()]);
    for grant in config.grants.values() {
        if let GrantConfig::Snowflake(snowflake) = grant {
            let SnowflakeLoginConfig::Entra(entra) = &snowflake.login;
            reach.read.extend(snowflake.ca_file.iter().chain(&entra.ca_file).cloned());
            reach.connect.extend([snowflake.port(), entra.authority.port()]);
        }
    }
    if let Some(kerberos) = &config.kerberos {
        reach.write.insert(kerberos.tmpfs.clone());
        reach.read.extend(["/etc/gss", "/usr/etc/gss"].map(PathBuf::from));
        reach.connect.extend(KERBEROS_PORTS);
        profile(&kerberos.krb5_conf, &mut reach);
    }
    reach.write.extend(
        [&config.socket.path, &config.audit.path]
            .into_iter()
            .filter_map(|path| Some(path.parent()?.to_owned())),
    );
    reach.bind.insert(config.admin.listen.port());
    reach
}

/// The Kerberos profile with all that it includes, and the ports of the servers that it names.
fn profile(file: &Path, reach: &mut Reach) {
    let mut todo = vec![file.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(file) = todo.pop() {
        if seen.len() >= MOST_INCLUDED || !seen.insert(file.clone()) {
            continue;
        }
        reach.read.insert(places::replaceable(&file));
        let text = fs::read_to_string(&file).unwrap_or_default();
        reach.connect.extend(text.lines().filter_map(server_port));
        for line in text.lines() {
            if let Some(included) = line.strip_prefix("include ") {
                todo.push(PathBuf::from(included.trim()));
            } else if let Some(folder) = line.strip_prefix("includedir ") {
                let folder = PathBuf::from(folder.trim());
                let files = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
                todo.extend(files);
                reach.read.insert(folder);
            }
        }
    }
}

/// The port of `kdc = kdc01.corp.example.com:8088`, in any of the forms of krb5.conf(5).
fn server_port(line: &str) -> Option<u16> {
    const SERVERS: [&str; 5] = ["kdc", "primary_kdc", "master_kdc", "admin_server", "kpasswd_server"];
    let (key, value) = line.split_once('=')?;
    if !SERVERS.contains(&key.trim()) {
        return None;
    }
    let value = value.trim();
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let host = rest.split('/').next()?;
    // An IPv6 address has colons of its own, and stands in brackets when a port follows.
    let port = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:")?.1,
        None if host.matches(':').count() == 1 => host.split_once(':')?.1,
        None if value.starts_with("https://") => return Some(443),
        None => return None,
    };
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_of_system_calls_is_well_formed() {
        Profile::parse(PROFILE).unwrap();
    }

    #[test]
    fn a_kdc_may_have_a_port_of_its_own() {
        let cases = [
            ("  kdc = kdc01.corp.example.com:8088", Some(8088)),
            ("kdc=[2001:db8::1]:750", Some(750)),
            ("kdc = 2001:db8::1", None),
            ("kdc = kdc01.corp.example.com", None),
            ("kdc = tcp/kdc01:88", None),
            ("kdc = https://proxy.example.com/KdcProxy", Some(443)),
            ("kpasswd_server = kdc01:1464", Some(1464)),
            ("default_realm = A:88", None),
        ];
        for (line, port) in cases {
            assert_eq!(server_port(line), port, "{line}");
        }
    }

    #[test]
    fn a_profile_brings_what_it_includes() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::create_dir(file("d")).unwrap();
        let text = format!("include {}\nincludedir {}\n", file("own").display(), file("d").display());
        fs::write(file("krb5.conf"), text).unwrap();
        fs::write(file("own"), format!("include {}\nkdc = a:1\n", file("krb5.conf").display())).unwrap();
        fs::write(file("d/realm"), "  kdc = b:2\n").unwrap();
        let mut reach = Reach::default();
        profile(&file("krb5.conf"), &mut reach);
        assert_eq!(reach.connect, BTreeSet::from([1, 2]));
        assert!(reach.read.contains(&file("d")));
    }
}
