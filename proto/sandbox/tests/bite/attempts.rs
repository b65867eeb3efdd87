//! What a child tries. It prints one line: `ok`, or the name of the error.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the parent reads it")]

use std::{
    collections::BTreeSet,
    fs, io,
    net::{TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    },
    path::PathBuf,
    time::Duration,
};

use keyferry_sandbox::{
    Enforcement, Process, Profile, Reach, Report, Sandbox, Settings, pages::Locked, places,
};
use nix::errno::Errno;

pub(crate) const BROKER: &str = include_str!("../../../../deploy/seccomp/broker.json");
pub(crate) const LOADER: &str = include_str!("../../../../deploy/seccomp/loader.json");

/// What lies on a secret page and on an ordinary one.
const MARKER: [u8; 32] = *b"a marker that nobody else writes";

/// `WHO ATTEMPT ARGUMENT...`.
pub(crate) fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (who, attempt, arguments) = (words[0], words[1], &words[2..]);
    if attempt == "start" {
        return start(who, arguments);
    }
    if who != "nobody" {
        let strict = Settings { mode: Enforcement::Enforce, strict: false };
        enter(who, strict, reach_of(arguments)).unwrap();
    }
    match attempt {
        "call" => {
            let numbers: Vec<i64> = arguments.iter().map(|text| text.parse().unwrap()).collect();
            let at = |n: usize| numbers.get(n).copied().unwrap_or(0);
            // SAFETY: whatever the call does to this process is what the test is about; it ends right after.
            let result = unsafe { libc::syscall(at(0), at(1), at(2), at(3), at(4), at(5), at(6)) };
            tell(if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
        }
        "read" => tell(fs::read(arguments[0]).map(drop)),
        "write" => tell(fs::write(PathBuf::from(arguments[0]).join("file"), b"x")),
        "connect" => tell(TcpStream::connect(("127.0.0.1", arguments[0].parse().unwrap())).map(drop)),
        "bind" => tell(TcpListener::bind("127.0.0.1:0").map(drop)),
        "abstract" => {
            let address = SocketAddr::from_abstract_name(arguments[0]).unwrap();
            tell(UnixStream::connect_addr(&address).map(drop));
        }
        "signal" => {
            let parent = nix::unistd::getppid().as_raw();
            // SAFETY: signal 0 is sent to nobody; the call only says whether it could be.
            let result = unsafe { libc::syscall(libc::SYS_tgkill, parent, parent, 0) };
            tell(if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
        }
        "secrets" => {
            let held: Vec<Locked> =
                (0..1000_u32).map(|n| Locked::copy(&n.to_le_bytes().repeat(500)).unwrap()).collect();
            assert!(
                held.iter().zip(0_u32..).all(|(secret, n)| secret.bytes() == n.to_le_bytes().repeat(500))
            );
            tell(Ok(()));
        }
        "threads" => {
            let threads: Vec<_> = (0..3).map(|n| std::thread::spawn(move || n)).collect();
            assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>(), 3);
            tell(Ok(()));
        }
        "hold" => {
            let ordinary = MARKER.to_vec();
            let secret = Locked::copy(&ordinary).unwrap();
            println!("ready {} {}", secret.bytes().as_ptr() as usize, ordinary.as_ptr() as usize);
            std::thread::sleep(Duration::from_secs(60));
            assert_eq!(secret.bytes(), ordinary);
        }
        "look" => look(arguments[0].parse().unwrap(), arguments[1].parse().unwrap()),
        "wait" => {
            println!("ready");
            std::thread::sleep(Duration::from_secs(60));
        }
        other => panic!("no attempt is called {other}"),
    }
}

/// Every way into another process that Linux has, each with what came of it; a way counts only when it shows the marker.
fn look(pid: i32, address: usize) {
    let shown = |bytes: &[u8]| if bytes == MARKER { "ok" } else { "other bytes" }.to_owned();
    let failed = |error: io::Error| format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0)));
    let of = |result: i64| if result < 0 { failed(io::Error::last_os_error()) } else { "ok".to_owned() };
    let mut buffer = MARKER.map(|_| 0);
    let remote = nix::sys::uio::RemoteIoVec { base: address, len: MARKER.len() };
    let read = nix::sys::uio::process_vm_readv(
        nix::unistd::Pid::from_raw(pid),
        &mut [io::IoSliceMut::new(&mut buffer)],
        &[remote],
    );
    let vm = read.map_or_else(|errno| format!("{errno:?}"), |_| shown(&buffer));
    let mut buffer = MARKER.map(|_| 0);
    let mem = fs::File::open(format!("/proc/{pid}/mem"))
        .and_then(|mem| std::os::unix::fs::FileExt::read_exact_at(&mem, &mut buffer, address as u64));
    let mem = mem.map_or_else(failed, |()| shown(&buffer));
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).map_or_else(failed, |_| "ok".to_owned());
    let fd = fs::read_dir(format!("/proc/{pid}/fd")).map_or_else(failed, |_| "ok".to_owned());
    // SAFETY: neither call touches memory of this process; it ends right after, and what it has traced is let go.
    let (trace, steal) = unsafe {
        let trace = of(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0));
        let handle = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (trace, of(libc::syscall(libc::SYS_pidfd_getfd, handle, 0, 0)))
    };
    println!(
        "vm_readv={vm} mem={mem} maps={} environ={} fd={fd} ptrace={trace} pidfd_getfd={steal}",
        file("maps"),
        file("environ")
    );
}

/// Enters as `begin` and `confine` do, and prints the report or the error.
fn start(who: &str, arguments: &[&str]) {
    let has = |word: &str| arguments.contains(&word);
    for (word, call, errno) in [
        ("without-landlock", libc::SYS_landlock_create_ruleset, libc::ENOSYS),
        ("without-memfd-secret", libc::SYS_memfd_secret, libc::ENOSYS),
        ("without-seccomp", libc::SYS_seccomp, libc::EINVAL),
    ] {
        if has(word) {
            forbid(call, errno);
        }
    }
    if has("traced") {
        // SAFETY: the call changes nothing in memory: it makes the parent the tracer.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME) }, 0);
    }
    let thread =
        has("with-a-thread").then(|| std::thread::spawn(|| std::thread::sleep(Duration::from_secs(30))));
    let mode = match (has("report"), has("off")) {
        (true, _) => Enforcement::Report,
        (_, true) => Enforcement::Off,
        _ => Enforcement::Enforce,
    };
    match enter(who, Settings { mode, strict: has("strict") }, Reach::default()) {
        Ok(report) => println!("whole={} {report}", report.is_whole()),
        Err(error) => println!("error {error}"),
    }
    drop(thread);
    std::process::exit(0);
}

fn enter(who: &str, settings: Settings, mut reach: Reach) -> Result<Report, keyferry_sandbox::SandboxError> {
    reach.read.extend(places::of_the_system());
    let neighbours = std::env::var("NEIGHBOUR").ok().map(|uid| uid.parse().unwrap());
    let process = Process { neighbours: neighbours.into_iter().collect(), keeps_secrets: who == "broker" };
    let profile = Profile::parse(if who == "broker" { BROKER } else { LOADER })?;
    Sandbox::begin(settings, &process)?.confine(&reach, &profile)
}

/// `read=PATH`, `write=PATH`, `connect=PORT`, `bind=PORT` among the arguments.
fn reach_of(arguments: &[&str]) -> Reach {
    let all = |name: &str| {
        arguments.iter().filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).collect::<Vec<_>>()
    };
    let ports = |name| all(name).iter().map(|port| port.parse().unwrap()).collect::<BTreeSet<u16>>();
    let paths = |name| all(name).iter().map(PathBuf::from).collect();
    Reach { read: paths("read"), write: paths("write"), connect: ports("connect"), bind: ports("bind") }
}

/// A kernel without a call, as a filter around this process makes it look.
fn forbid(call: i64, errno: i32) {
    use seccompiler::{SeccompAction, SeccompFilter};
    let filter = SeccompFilter::new(
        [(call, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn tell(outcome: io::Result<()>) {
    match outcome {
        Ok(()) => println!("ok"),
        Err(error) => println!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    }
}
