//! Where a process does not start, and what it says where the kernel lacks a step.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::Command,
};

use libtest_mimic::Trial;

use crate::{
    child::{As, Said, UID, attempt, program, tried, with_privileges},
    root_test, test,
};

/// Flags of setpriv with which nothing is given and nothing can be gained.
const BARE: &[&str] = &["--bounding-set=-all", "--inh-caps=-all"];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(root_test("root_is_refused", root));
    trials.push(root_test("a_capability_that_was_given_is_refused", capability));
    trials.push(root_test("with_nothing_to_be_gained_every_step_is_active_under_strict", strict));
    trials.push(root_test("a_bounding_set_that_is_not_empty_is_said_and_refused_under_strict", bounding));
    trials.push(test("a_traced_process_is_refused", traced));
    trials.push(test(
        "one_uid_on_both_sides_is_refused_and_only_reported_where_that_was_asked_for",
        neighbours,
    ));
    trials.push(root_test("another_users_process_in_a_pod_is_refused", pod));
    trials.push(test("a_thread_that_is_there_already_stops_the_start", thread));
    trials.push(root_test("a_kernel_without_landlock_is_said_and_refused_under_strict", no_landlock));
    trials.push(root_test("a_kernel_without_seccomp_is_said_and_refused_under_strict", no_seccomp));
    trials.push(test("without_memfd_secret_secrets_lie_on_locked_pages", no_memfd_secret));
    trials.push(test("without_room_for_a_locked_page_a_keeper_of_secrets_does_not_start", no_locked_memory));
    trials.push(test("a_descriptor_that_was_left_open_is_closed", descriptors));
    trials.push(test("what_a_keeper_of_secrets_makes_is_its_own", files));
    trials.push(test("switched_off_nothing_is_done_and_that_is_said", off));
}

fn started(words: &[&str]) -> Said {
    tried(As::Broker, &[&["start"], words].concat())
}

fn bare(words: &[&str]) -> Said {
    with_privileges(BARE, As::Broker, &[&["start"], words].concat())
}

fn says(said: &Said, words: &[&str]) {
    for word in words {
        assert!(said.text.contains(word), "no {word:?} in {said:?}");
    }
}

fn root() {
    let said: Said = Command::new(program()).args(["--attempt", "broker", "start"]).output().unwrap().into();
    says(&said, &["error", "started as root", "runAsNonRoot"]);
}

fn capability() {
    let flags = ["--inh-caps=+net_raw", "--ambient-caps=+net_raw"];
    says(&with_privileges(&flags, As::Broker, &["start"]), &["error", "CAP_NET_RAW", "drop: [ALL]"]);
}

fn strict() {
    says(&bare(&["strict"]), &["whole=true", "all sets empty", "landlock: ABI", "memfd_secret"]);
}

fn bounding() {
    says(&started(&[]), &["whole=false", "NOT POSSIBLE (the bounding set still has"]);
    says(&started(&["strict"]), &["error", "`sandbox.strict` wants every step (capabilities)"]);
}

fn traced() {
    // The attempt ends with an error before anything stops it; its parent is the tracer and waits for it.
    says(&started(&["traced"]), &["error", "traces it", "without a debugger"]);
}

fn neighbours() {
    let own = if nix::unistd::geteuid().is_root() { UID } else { nix::unistd::geteuid().as_raw() };
    let with = |uid: u32, words: &[&str]| -> Said {
        let mut command = attempt(As::Broker, &[&["start"], words].concat());
        command.env("NEIGHBOUR", uid.to_string()).output().unwrap().into()
    };
    says(&with(own, &[]), &["error", "broker and caller are one user", "mode: report"]);
    says(&with(own, &["report"]), &["whole=false", "neighbours: WAIVED", "landlock: ABI"]);
    says(&with(own + 1, &[]), &["neighbours: other uids"]);
}

fn pod() {
    let mut other = Command::new("sleep");
    let mut other = other.uid(UID + 1).arg("30").spawn().unwrap();
    let said: Said =
        attempt(As::Broker, &["start"]).env("KUBERNETES_SERVICE_HOST", "10.0.0.1").output().unwrap().into();
    other.kill().unwrap();
    other.wait().unwrap();
    says(&said, &["error", "this is a pod", "shareProcessNamespace"]);
    says(&started(&[]), &["process namespace: its own"]);
}

fn thread() {
    says(&started(&["with-a-thread"]), &["error", "seccomp", "already has 2 threads"]);
}

fn no_landlock() {
    says(
        &bare(&["without-landlock"]),
        &["whole=false", "landlock: NOT POSSIBLE (this kernel has no Landlock", "seccomp: "],
    );
    says(&bare(&["without-landlock", "strict"]), &["error", "(landlock)", "sandbox.strict: false"]);
}

fn no_seccomp() {
    says(&bare(&["without-seccomp"]), &["whole=false", "seccomp: NOT POSSIBLE"]);
    says(&bare(&["without-seccomp", "strict"]), &["error", "(seccomp)"]);
}

fn no_memfd_secret() {
    says(&started(&["without-memfd-secret"]), &["secret pages: locked, not dumped"]);
    says(&started(&[]), &["secret pages: memfd_secret"]);
}

fn no_locked_memory() {
    let own = program();
    let script = format!("ulimit -l 0; exec {} --attempt broker start", own.display());
    let mut command = Command::new("sh");
    let output = as_user(command.args(["-c", &script])).output().unwrap();
    says(&output.into(), &["error", "secret pages", "LimitMEMLOCK"]);
}

/// As an unprivileged user, where this process is root.
fn as_user(command: &mut Command) -> &mut Command {
    if nix::unistd::geteuid().is_root() { command.gid(UID).uid(UID) } else { command }
}

/// What an attempt says when a shell starts it with a mask of modes and a file left open.
fn from_a_shell(who: As, words: &[&str]) -> Said {
    let direct = attempt(who, words);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 022; exec 5</etc/passwd; exec \"$0\" \"$@\""]).arg(direct.get_program());
    as_user(shell.args(direct.get_args()).env_clear().current_dir("/")).output().unwrap().into()
}

fn descriptors() {
    let ask = ["call", &libc::SYS_fcntl.to_string(), "5", &libc::F_GETFD.to_string()];
    for who in [As::Broker, As::Loader] {
        assert_eq!(from_a_shell(who, &ask).text, "EBADF", "{who:?}");
        says(&from_a_shell(who, &["start"]), &["inherited descriptors: closed "]);
    }
    assert_eq!(from_a_shell(As::Nobody, &ask).text, "ok");
}

fn files() {
    for (who, wanted) in [(As::Broker, 0o600), (As::Loader, 0o644), (As::Nobody, 0o644)] {
        let folder = tempfile::Builder::new().prefix("keyferry-made-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = folder.path().display().to_string();
        let said = from_a_shell(who, &["write", &path, &format!("write={path}")]);
        assert_eq!(said.text, "ok", "{who:?}");
        let made = fs::metadata(folder.path().join("file")).unwrap();
        assert_eq!(made.mode() & 0o777, wanted, "{who:?}");
    }
}

fn off() {
    says(&started(&["off"]), &["whole=false", "seccomp: OFF", "user: OFF"]);
}
