//! The attacks themselves. Each says how far it came.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        ptrace,
        signal::kill,
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::{Pid, setuid},
};

/// The broker's uid; nobody else's process is of interest here.
const BROKER: u32 = 10_001;
const SOCKET_FOLDER: &str = "/run/keyferry";

/// How an attack ended.
pub(crate) enum Outcome {
    /// It was not possible; what stood in the way.
    Refused(String),
    /// It was; what came of it.
    Succeeded(String),
}

/// An attack of the threat list.
pub(crate) struct Attack {
    /// What it is.
    pub(crate) name: &'static str,
    /// Whether the container alone must refuse it.
    pub(crate) by_container: bool,
    /// Tries it.
    pub(crate) run: fn() -> Outcome,
}

const fn attack(name: &'static str, by_container: bool, run: fn() -> Outcome) -> Attack {
    Attack { name, by_container, run }
}

/// Everything that is tried; the numbers are those of SECURITY.md.
pub(crate) const ATTACKS: &[Attack] = &[
    attack("2 find a process of the broker", true, find_broker),
    attack("2 read another process's memory (process_vm_readv)", false, read_memory),
    attack("2 trace another process (ptrace)", false, trace),
    attack("2 read /proc/1/environ of another user", true, environment),
    attack("7 rename the broker's socket", true, rename_socket),
    attack("7 remove the broker's socket", true, remove_socket),
    attack("7 bind a socket of its own beside it", true, bind_socket),
    attack("8 open the keytab's folder", true, keytab),
    attack("8 read the broker's configuration", true, broker_configuration),
    attack("8 start a shell", true, shell),
    attack("8 start this program again", false, start_again),
    attack("8 write to the root file system", true, write_root),
    attack("8 write where the kernel is set up", true, write_kernel),
    attack("8 open a raw socket", true, raw_socket),
    attack("8 open a packet socket", true, packet_socket),
    attack("8 become root", true, become_root),
    attack("8 mount a file system", true, mount_something),
    attack("8 make a user namespace", false, user_namespace),
    attack("8 signal every process", false, signal_all),
    attack("8 listen on a TCP port", false, listen),
    attack("8 connect to ports that are not its own", false, other_ports),
];

fn of<T>(result: Result<T, impl ToString>, did: &str) -> Outcome {
    match result {
        Ok(_) => Outcome::Succeeded(did.to_owned()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn processes() -> io::Result<Vec<(i32, u32)>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if let Ok(pid) = entry.file_name().to_string_lossy().parse() {
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let uid = status
                .lines()
                .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
            found.push((pid, uid.unwrap_or(entry.metadata()?.uid())));
        }
    }
    Ok(found)
}

fn find_broker() -> Outcome {
    match processes() {
        Err(error) => Outcome::Refused(format!("/proc: {error}")),
        Ok(all) => match all.iter().find(|(_, uid)| *uid == BROKER) {
            Some((pid, _)) => Outcome::Succeeded(format!("pid {pid}")),
            None => {
                Outcome::Refused(format!("{} processes are visible, none of them the broker's", all.len()))
            }
        },
    }
}

/// The parent: same user, and nothing but the sandbox stands between.
fn victim() -> Pid {
    nix::unistd::getppid()
}

fn read_memory() -> Outcome {
    let mut buffer = [0_u8; 16];
    let local = &mut [io::IoSliceMut::new(&mut buffer)];
    let remote = RemoteIoVec { base: 0x1000, len: 16 };
    match process_vm_readv(victim(), local, &[remote]) {
        // An address that holds nothing: the way there was open.
        Err(Errno::EFAULT) | Ok(_) => Outcome::Succeeded("the call reached the other process".to_owned()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn trace() -> Outcome {
    // Not `attach`: that stops the victim, which waits for this very process.
    of(ptrace::seize(victim(), ptrace::Options::empty()), "attached")
}

fn environment() -> Outcome {
    let own = nix::unistd::getuid().as_raw();
    let others: Vec<i32> = processes()
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, uid)| *uid != own)
        .map(|(pid, _)| pid)
        .collect();
    match others.iter().find(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok()) {
        Some(pid) => Outcome::Succeeded(format!("of pid {pid}")),
        None => Outcome::Refused(format!(
            "{} processes of other users are visible, none can be read",
            others.len()
        )),
    }
}

fn rename_socket() -> Outcome {
    let folder = Path::new(SOCKET_FOLDER);
    of(fs::rename(folder.join("broker.sock"), folder.join("aside")), "renamed")
}

fn remove_socket() -> Outcome {
    of(fs::remove_file(Path::new(SOCKET_FOLDER).join("broker.sock")), "removed")
}

fn bind_socket() -> Outcome {
    of(UnixListener::bind(Path::new(SOCKET_FOLDER).join("mine.sock")), "bound")
}

fn keytab() -> Outcome {
    of(fs::read_dir("/run/keyferry-private"), "opened")
}

fn broker_configuration() -> Outcome {
    of(fs::read("/etc/keyferry/broker.yaml"), "read")
}

fn shell() -> Outcome {
    of(Command::new("/bin/sh").arg("-c").arg("true").status(), "it ran")
}

fn start_again() -> Outcome {
    let own = env::current_exe().unwrap_or_default();
    of(Command::new(own).arg("--help").output(), "it ran")
}

fn write_root() -> Outcome {
    of(fs::write("/usr/local/bin/probe-was-here", "x"), "written")
}

fn write_kernel() -> Outcome {
    of(fs::write("/proc/sys/kernel/core_pattern", "|/tmp/x"), "written")
}

fn raw_socket() -> Outcome {
    of(socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp), "opened")
}

fn packet_socket() -> Outcome {
    of(socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll), "opened")
}

fn become_root() -> Outcome {
    of(setuid(nix::unistd::Uid::from_raw(0)), "uid 0")
}

fn mount_something() -> Outcome {
    let nothing: Option<&str> = None;
    of(mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), nothing), "mounted")
}

fn user_namespace() -> Outcome {
    of(unshare(CloneFlags::CLONE_NEWUSER), "made")
}

fn signal_all() -> Outcome {
    // Signal 0 asks whether one could be sent; the parent is outside of this process's sandbox.
    of(kill(victim(), None), "the parent could be signalled")
}

fn listen() -> Outcome {
    of(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), "listens")
}

/// Vault's, the KDC's and whatever else the broker may reach: the caller names them.
fn other_ports() -> Outcome {
    let ports: Vec<u16> = env::var("PROBE_BROKER_PORTS")
        .unwrap_or_default()
        .split(',')
        .filter_map(|port| port.trim().parse().ok())
        .collect();
    let open: Vec<String> = ports
        .iter()
        .filter(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, **port));
            match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
                Ok(_) => true,
                // A port that nobody serves answers so only when the way there is open.
                Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
            }
        })
        .map(ToString::to_string)
        .collect();
    match (ports.is_empty(), open.is_empty()) {
        (true, _) => Outcome::Succeeded("no port was named".to_owned()),
        (_, true) => Outcome::Refused(format!("{} ports", ports.len())),
        (_, false) => Outcome::Succeeded(format!("reached {}", open.join(", "))),
    }
}
