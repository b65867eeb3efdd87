//! Files of the system that both programs read while they run, and nothing else of it.

use std::path::{Path, PathBuf};

/// Names of hosts, users and services.
const NAMES: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/passwd",
    "/etc/group",
    "/run/systemd/resolve",
];
/// Authorities of the system, for `ca_file` that is left out.
const AUTHORITIES: &[&str] = &[
    "/etc/ssl",
    "/etc/pki",
    "/usr/lib/ssl",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
/// Modules that the C library and the Kerberos library load when they are first needed.
const LIBRARIES: &[&str] =
    &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];
/// Time zones, random bytes, and how many processors this process may use.
const REST: &[&str] = &[
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
    "/proc/self",
    "/proc/sys/vm/overcommit_memory",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
];
/// Where the environment may put authorities.
const VARIABLES: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What a program reads of the system: names, authorities, libraries, time zones.
pub fn of_the_system() -> impl Iterator<Item = PathBuf> {
    let fixed = [NAMES, AUTHORITIES, LIBRARIES, REST].into_iter().flatten().map(PathBuf::from);
    let named = VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from);
    fixed.chain(named)
}

/// What must be readable so that a file can be read again after it was replaced: its folder, as a renamed file and a
/// mounted Kubernetes volume are a new file in the old folder. A folder that holds more than one program's files is too
/// much: of `/etc`, `/run` and the like only the file itself.
pub fn replaceable(file: &Path) -> PathBuf {
    const SHARED: &[&str] =
        &["/", "/etc", "/run", "/run/secrets", "/tmp", "/var", "/var/run", "/home", "/root", "/dev/shm"];
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    match file.parent() {
        Some(folder) if !SHARED.iter().any(|shared| folder == Path::new(shared)) => folder.to_owned(),
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_folder_of_its_own_brings_the_folder_and_one_among_others_only_itself() {
        let cases = [
            ("/etc/keyferry/broker.yaml", "/etc/keyferry"),
            ("/etc/krb5.conf", "/etc/krb5.conf"),
            ("/run/secrets/secret-id", "/run/secrets/secret-id"),
            ("/run/secrets/keyferry/secret-id", "/run/secrets/keyferry"),
        ];
        for (file, wanted) in cases {
            assert_eq!(replaceable(Path::new(file)), Path::new(wanted));
        }
    }

    #[test]
    fn neither_a_folder_of_users_nor_the_configuration_as_a_whole_is_readable() {
        let all: Vec<PathBuf> = of_the_system().collect();
        for never in ["/", "/etc", "/root", "/home", "/tmp", "/proc", "/var", "/run", "/dev", "/dev/shm"] {
            assert!(!all.contains(&PathBuf::from(never)), "{never}");
        }
    }
}
