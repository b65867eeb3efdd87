//! Each rule of both profiles: what must kill kills, what is allowed passes, all else is answered as by an older kernel.

use std::collections::BTreeMap;

use keyferry_sandbox::{Profile, Rule};
use libtest_mimic::Trial;

use crate::{
    attempts::{BROKER, LOADER},
    child::{As, Said, tried},
    numbers::number,
    test,
};

/// Harmless calls that no profile names.
const UNKNOWN: &[&str] = &[
    "inotify_init1",
    "pidfd_open",
    "shmget",
    "memfd_create",
    "msgget",
    "timerfd_create",
    "signalfd4",
    "kill",
    "openat2",
    "symlinkat",
    "linkat",
    "clone3",
    "mlockall",
    "personality",
    "capget",
    "sched_setattr",
];
/// What the broker needs and the loader does not.
const BROKERS_ONLY: &[&str] =
    &["bind", "listen", "accept4", "mkdirat", "fchownat", "renameat2", "mlock", "memfd_secret"];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    for (who, json) in [(As::Broker, BROKER), (As::Loader, LOADER)] {
        let name = format!("{who:?}").to_lowercase();
        trials.push(test(&format!("each_call_that_must_kill_the_{name}_kills_it"), move || kills(who, json)));
        trials.push(test(&format!("each_call_that_the_{name}_needs_passes"), move || passes(who, json)));
        trials.push(test(&format!("a_call_that_no_rule_of_the_{name}_names_gets_enosys"), move || {
            unknown(who);
        }));
        trials.push(test(&format!("the_{name}s_arguments_are_looked_at"), move || arguments(who)));
        trials.push(test(&format!("the_{name}_can_have_threads_after_the_filter"), move || {
            assert_eq!(tried(who, &["threads"]).text, "ok");
        }));
    }
    trials.push(test("the_loader_lacks_what_only_the_broker_needs", brokers_only));
    trials.push(test("no_call_both_kills_and_passes", apart));
    trials.push(test("no_rule_is_redundant", redundant));
}

/// The call with the arguments that the rule wants, and `other` for the rest.
fn call(who: As, call: &str, rule: &Rule, other: i64) -> Option<Said> {
    let mut arguments = [other; 6];
    for condition in &rule.when {
        arguments[condition.argument as usize] = condition.equals.value().unwrap() as i64;
    }
    // An old call that the headers of this machine no longer have.
    let number = number(call)?;
    let words: Vec<String> = [number].iter().chain(&arguments).map(ToString::to_string).collect();
    let words: Vec<&str> = std::iter::once("call").chain(words.iter().map(String::as_str)).collect();
    Some(tried(who, &words))
}

fn here(rule: &Rule) -> bool {
    rule.only.as_deref().is_none_or(|only| only == std::env::consts::ARCH)
}

fn kills(who: As, json: &str) {
    let profile = Profile::parse(json).unwrap();
    let mut count = 0;
    for rule in profile.kill.iter().filter(|rule| here(rule)) {
        for name in &rule.calls {
            let Some(said) = call(who, name, rule, 0) else { continue };
            assert_eq!(said.signal, Some(libc::SIGSYS), "{name} ({}): {said:?}", rule.group);
            count += 1;
        }
    }
    assert!(count > 60, "only {count} calls were tried");
}

fn passes(who: As, json: &str) {
    // They end the process or the thread, or must not be called by hand.
    const NOT_TRIED: [&str; 4] = ["exit", "exit_group", "rt_sigreturn", "restart_syscall"];
    let profile = Profile::parse(json).unwrap();
    let mut count = 0;
    for rule in profile.allow.iter().filter(|rule| here(rule)) {
        for name in rule.calls.iter().filter(|name| !NOT_TRIED.contains(&name.as_str())) {
            // A futex operation that does not exist is ENOSYS by itself, and all rights at once are those that kill.
            let other = if ["futex", "mmap", "mprotect"].contains(&name.as_str()) { 0 } else { -1 };
            let said = call(who, name, rule, other).unwrap_or_else(|| panic!("{name} has no number"));
            assert!(said.code == Some(0) && said.text != "ENOSYS", "{name} ({}): {said:?}", rule.group);
            count += 1;
        }
    }
    assert!(count > 60, "only {count} calls were tried");
}

fn unknown(who: As) {
    for name in UNKNOWN {
        let number = number(name).unwrap().to_string();
        assert_eq!(tried(who, &["call", &number]).text, "ENOSYS", "{name}");
        assert_ne!(tried(As::Nobody, &["call", &number]).text, "ENOSYS", "{name} does not exist here at all");
    }
}

fn brokers_only() {
    for name in BROKERS_ONLY {
        let number = number(name).unwrap().to_string();
        assert_eq!(tried(As::Loader, &["call", &number]).text, "ENOSYS", "{name}");
        assert_ne!(tried(As::Broker, &["call", &number]).text, "ENOSYS", "{name}");
    }
}

/// Calls that pass with some arguments and not with these.
fn arguments(who: As) {
    let cases: &[(&str, &str, &[i64])] = &[
        ("a netlink socket", "socket", &[16, 3, 0]),
        ("a Unix datagram socket", "socket", &[1, 2, 0]),
        ("a sequenced socket", "socket", &[1, 5, 0]),
        ("a pair that is no Unix socket", "socketpair", &[2, 1, 0, -1]),
        ("another switch of the process", "prctl", &[libc::PR_GET_DUMPABLE.into()]),
        ("another switch of a file", "ioctl", &[0, libc::FIOASYNC as i64, 0]),
        ("setting a limit", "prlimit64", &[0, 7, 8, 0]),
    ];
    for (what, name, arguments) in cases {
        let words: Vec<String> = number(name).iter().chain(*arguments).map(ToString::to_string).collect();
        let words: Vec<&str> = std::iter::once("call").chain(words.iter().map(String::as_str)).collect();
        assert_eq!(tried(who, &words).text, "ENOSYS", "{what}");
        assert_ne!(tried(As::Nobody, &words).text, "ENOSYS", "{what}, without the filter");
    }
    // A new process: without the flag of a thread.
    let clone = number("clone").unwrap().to_string();
    let words = ["call", &clone, &libc::SIGCHLD.to_string()];
    assert_eq!(tried(who, &words).text, "ENOSYS", "a process");
    // Memory that can be written and run; without the filter there is nothing to it.
    let words = ["call", &number("mmap").unwrap().to_string(), "0", "4096", "7", "34", "-1", "0"];
    assert_eq!(tried(who, &words).signal, Some(libc::SIGSYS), "written and run");
    assert_eq!(tried(As::Nobody, &words).text, "ok");
}

fn apart() {
    for json in [BROKER, LOADER] {
        let profile = Profile::parse(json).unwrap();
        for kill in profile.kill.iter().filter(|rule| rule.when.is_empty()) {
            for name in &kill.calls {
                let passing = profile.allow.iter().find(|rule| rule.calls.contains(name));
                assert!(passing.is_none(), "{name} kills ({}) and passes", kill.group);
            }
        }
    }
}

/// A call that one rule lets through whatever its arguments needs no second rule, and none is listed twice.
fn redundant() {
    for json in [BROKER, LOADER] {
        let profile = Profile::parse(json).unwrap();
        for rules in [&profile.kill, &profile.allow] {
            let mut seen: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
            for rule in rules {
                for name in &rule.calls {
                    let before = seen.entry(name).or_default();
                    let both = before.iter().find(|other| rule.when.is_empty() || other.when.is_empty());
                    assert!(both.is_none(), "{name} is in `{}` and `{}`", rule.group, both.unwrap().group);
                    before.push(rule);
                }
            }
        }
    }
}
