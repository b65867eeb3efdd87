use super::*;

fn profile(kill: &str, allow: &str) -> Result<Profile, SandboxError> {
    Profile::parse(&format!(
        r#"{{"about": "a test", "otherwise": {{"errno": "ENOSYS", "reason": "r"}}, "kill": [{kill}], "allow": [{allow}]}}"#
    ))
}

const KILL: &str = r#"{"group": "programs", "reason": "none is started", "calls": ["execve"]}"#;

#[test]
fn a_profile_is_read_and_becomes_two_filters() {
    let allow = r#"{"group": "files", "reason": "reads", "calls": ["read", "close"]}"#;
    let filters = profile(KILL, allow).unwrap().compile().unwrap();
    assert!(filters.iter().all(|filter| filter.len() > 4));
}

#[test]
fn a_mistake_in_a_profile_is_named() {
    let cases = [
        (r#"{"group": "g", "reason": " ", "calls": ["read"]}"#, "no reason"),
        (r#"{"group": "g", "reason": "r", "calls": []}"#, "no calls"),
        (r#"{"group": "g", "reason": "r", "calls": ["raed"]}"#, "raed"),
        (r#"{"group": "g", "reason": "r", "calls": ["read"], "wen": []}"#, "unknown field"),
        (
            r#"{"group": "g", "reason": "r", "calls": ["read"], "when": [{"argument": 0, "equals": "AF_NOSUCH"}]}"#,
            "AF_NOSUCH",
        ),
    ];
    for (rule, words) in cases {
        let error = profile(KILL, rule).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_rule_of_another_architecture_is_left_out() {
    let rule = r#"{"group": "g", "reason": "r", "calls": ["no_such_call"], "only": "m68k"},
                  {"group": "g", "reason": "r", "calls": ["read"]}"#;
    profile(KILL, rule).unwrap();
}
