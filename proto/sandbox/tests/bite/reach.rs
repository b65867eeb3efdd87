//! Landlock and the dumpable switch: each attempt fails inside and succeeds outside.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
            process::CommandExt as _,
        },
    },
    process::{Child, Stdio},
};

use keyferry_sandbox::outside;
use libtest_mimic::Trial;

use crate::{
    child::{As, Said, UID, attempt, tried},
    root_test, test,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("a_file_that_is_not_listed_cannot_be_read", files));
    trials.push(test("a_folder_that_is_only_read_cannot_be_written", folders));
    trials.push(test("a_port_that_is_not_listed_cannot_be_connected_to", ports));
    trials.push(test("a_port_that_is_not_listed_cannot_be_listened_on", binding));
    trials.push(test("an_abstract_socket_of_somebody_else_cannot_be_reached", abstract_sockets));
    trials.push(test("a_process_outside_cannot_be_signalled", signals));
    trials.push(root_test("a_process_of_the_same_uid_cannot_look_inside", dumpable));
    trials.push(root_test("the_loaders_user_finds_no_way_into_the_broker", inside));
    trials.push(root_test("not_even_root_reads_a_secret_page", pages));
    trials.push(root_test("from_outside_every_control_is_seen_and_none_without_them", seen));
    trials.push(test("many_secrets_find_room_behind_the_filter", || {
        assert_eq!(tried(As::Broker, &["secrets"]).text, "ok");
    }));
}

/// A folder that every user can enter and write.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("keyferry-bite-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn files() {
    let folder = open_folder();
    let file = folder.path().join("keytab");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(tried(As::Nobody, &["read", file]).text, "ok");
    for who in [As::Broker, As::Loader] {
        assert_eq!(tried(who, &["read", file]).text, "EACCES");
        assert_eq!(tried(who, &["read", file, &format!("read={file}")]).text, "ok");
        assert_eq!(tried(who, &["read", "/etc/hosts"]).text, "ok");
        assert_eq!(tried(who, &["read", "/etc/shells"]).text, tried(who, &["read", file]).text);
    }
}

fn folders() {
    let folder = open_folder();
    let path = folder.path().to_str().unwrap();
    assert_eq!(tried(As::Loader, &["write", path, &format!("read={path}")]).text, "EACCES");
    assert_eq!(tried(As::Loader, &["write", path, &format!("write={path}")]).text, "ok");
    fs::remove_file(folder.path().join("file")).unwrap();
    assert_eq!(tried(As::Nobody, &["write", path]).text, "ok");
}

fn ports() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_eq!(tried(As::Nobody, &["connect", &port]).text, "ok");
    assert_eq!(tried(As::Loader, &["connect", &port]).text, "EACCES");
    assert_eq!(tried(As::Loader, &["connect", &port, "connect=1"]).text, "EACCES");
    assert_eq!(tried(As::Loader, &["connect", &port, &format!("connect={port}")]).text, "ok");
}

fn binding() {
    assert_eq!(tried(As::Nobody, &["bind"]).text, "ok");
    assert_eq!(tried(As::Broker, &["bind"]).text, "EACCES");
    assert_eq!(tried(As::Broker, &["bind", "bind=0"]).text, "ok");
    // The loader's filter comes before Landlock: it may not even ask.
    assert_eq!(tried(As::Loader, &["bind", "bind=0"]).text, "ENOSYS");
}

fn abstract_sockets() {
    let name = format!("keyferry-bite-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(tried(As::Nobody, &["abstract", &name]).text, "ok");
    for who in [As::Broker, As::Loader] {
        assert_eq!(tried(who, &["abstract", &name]).text, "EPERM");
    }
}

fn signals() {
    // As root's child under another uid nobody may; as the same user everybody may but who is confined.
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(tried(As::Nobody, &["signal"]).text, "ok");
    }
    assert_eq!(tried(As::Loader, &["signal"]).text, "EPERM");
}

/// A child that has said that it is where it shall be.
fn waiting(who: As) -> Child {
    let mut child = attempt(who, &["wait"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn dumpable() {
    for (who, wanted) in [(As::Nobody, "ok"), (As::Broker, "EACCES"), (As::Loader, "EACCES")] {
        let child = waiting(who);
        let found = tried(As::Nobody, &["read", &format!("/proc/{}/environ", child.id())]);
        end(child);
        assert_eq!(found.text, wanted, "{who:?}");
    }
}

/// A child with the same marker on a secret page and on an ordinary one, and where both are.
fn holding(who: As) -> (Child, [String; 2]) {
    let mut child = attempt(who, &["hold"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[0], "ready");
    (child, [words[1].to_owned(), words[2].to_owned()])
}

/// What a process of this uid gets to see of another's memory at an address.
fn look(uid: u32, pid: u32, address: &str) -> String {
    let mut command = attempt(As::Nobody, &["look", &pid.to_string(), address]);
    let said: Said = command.uid(uid).gid(uid).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    said.text
}

fn inside() {
    const ALL: [&str; 7] = ["vm_readv", "mem", "maps", "environ", "fd", "ptrace", "pidfd_getfd"];
    // The control: root's way into a process without any of this is open.
    let (child, [_, ordinary]) = holding(As::Nobody);
    let open = look(0, child.id(), &ordinary);
    end(child);
    assert!(ALL.iter().all(|way| open.contains(&format!("{way}=ok"))), "{open}");
    // The loader's user, the broker's own, and a stranger.
    for uid in [UID + 1, UID, 65_533] {
        let (child, [_, ordinary]) = holding(As::Broker);
        let found = look(uid, child.id(), &ordinary);
        end(child);
        for way in ALL {
            let refused = ["EPERM", "EACCES"].iter().any(|errno| found.contains(&format!("{way}={errno}")));
            assert!(refused, "{way} as uid {uid}: {found}");
        }
    }
}

fn pages() {
    let (child, [secret, ordinary]) = holding(As::Broker);
    let (hidden, open) = (look(0, child.id(), &secret), look(0, child.id(), &ordinary));
    end(child);
    assert!(open.contains("vm_readv=ok mem=ok"), "the control: {open}");
    assert!(hidden.contains("vm_readv=EFAULT mem=EIO"), "{hidden}");
}

fn seen() {
    for who in [As::Broker, As::Loader] {
        let child = waiting(who);
        let findings = outside::look(child.id()).unwrap();
        end(child);
        assert!(findings.holds, "{findings}");
        let user = findings.controls.iter().find(|control| control.control == "user").unwrap();
        assert!(user.found.contains(&UID.to_string()), "{user:?}");
    }
    let child = waiting(As::Nobody);
    let findings = outside::look(child.id()).unwrap();
    end(child);
    let missing: Vec<&str> = findings
        .controls
        .iter()
        .filter(|control| control.verdict == outside::Verdict::Missing)
        .map(|control| control.control)
        .collect();
    for control in ["no new privileges", "seccomp", "seccomp filters", "not dumpable"] {
        assert!(missing.contains(&control), "{control} is not missed: {missing:?}");
    }
}
