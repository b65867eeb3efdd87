use super::*;

const CONFINED: &str = "Name:\tbroker\nUid:\t7\t7\t7\t7\nTracerPid:\t0\nVmSwap:\t       0 kB\nCapInh:\t0000000000000000\n\
    CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n\
    Seccomp:\t2\nSeccomp_filters:\t2\n";
const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
    Max core file size        0                    0                    bytes\n\
    Max open files            1024                 65536                files\n\
    Max locked memory         8388608              8388608              bytes\n";

fn missing(process: &str, threads: &[&str], limits: &str, owner: u32) -> Vec<&'static str> {
    let threads: Vec<String> = threads.iter().map(ToString::to_string).collect();
    let all = controls(process, &threads, limits, owner, "");
    all.into_iter().filter(|c| c.verdict == Verdict::Missing).map(|c| c.control).collect()
}

#[test]
fn a_confined_process_misses_nothing() {
    assert_eq!(missing(CONFINED, &[CONFINED, CONFINED], LIMITS, 0), Vec::<&str>::new());
}

#[test]
fn each_control_that_is_taken_away_is_missed_even_in_one_thread() {
    let cases = [
        ("Uid:\t7\t7", "Uid:\t0\t0", "user"),
        ("Uid:\t7\t7", "Uid:\t7\t8", "user"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no new privileges"),
        ("Seccomp:\t2", "Seccomp:\t0", "seccomp"),
        ("Seccomp_filters:\t2", "Seccomp_filters:\t1", "seccomp filters"),
        ("CapEff:\t0", "CapEff:\t8", "effective capabilities"),
        ("CapPrm:\t0", "CapPrm:\t8", "permitted capabilities"),
        ("CapInh:\t0", "CapInh:\t8", "inheritable capabilities"),
        ("CapAmb:\t0", "CapAmb:\t8", "ambient capabilities"),
        ("TracerPid:\t0", "TracerPid:\t12", "tracer"),
    ];
    for (from, to, control) in cases {
        let changed = CONFINED.replace(from, to);
        assert_ne!(changed, CONFINED, "{from}");
        assert_eq!(missing(CONFINED, &[CONFINED, &changed, CONFINED], LIMITS, 0), [control], "{to}");
    }
}

#[test]
fn limits_and_the_owner_are_of_the_process() {
    assert_eq!(missing(CONFINED, &[CONFINED], LIMITS, 7), ["not dumpable"]);
    let core = LIMITS.replace("0                    0     ", "0                    unlimited");
    assert_eq!(missing(CONFINED, &[CONFINED], &core, 0), ["core files"]);
    assert_eq!(missing(CONFINED, &[CONFINED], "", 0), ["core files", "open files", "locked memory"]);
}

#[test]
fn a_process_without_threads_or_fields_holds_nothing() {
    assert!(missing(CONFINED, &[], LIMITS, 0).contains(&"seccomp"));
    assert!(missing("", &[""], LIMITS, 0).contains(&"seccomp"));
}

#[test]
fn what_only_a_container_can_do_is_a_note() {
    let full = CONFINED.replace("CapBnd:\t0", "CapBnd:\t1");
    assert_eq!(missing(CONFINED, &[&full], LIMITS, 0), Vec::<&str>::new());
    let mounts = "1 0 0:1 / / rw,relatime - overlay o rw\n2 0 0:1 / / ro,relatime - overlay o rw\n3 1 0:2 / /tmp rw - tmpfs t rw";
    assert!(root_is_read_only(mounts));
    assert!(!root_is_read_only("1 0 0:1 / / rw,relatime - overlay o rw"));
}

#[test]
fn this_very_process_is_looked_at_and_is_not_confined() {
    let findings = look(std::process::id()).unwrap();
    assert!(!findings.holds);
    let text = findings.to_string();
    assert!(text.contains("MISSING  seccomp"), "{text}");
    assert!(look(u32::MAX).is_err());
}
