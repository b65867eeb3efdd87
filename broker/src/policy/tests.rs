use proptest::{collection::vec, prelude::*};

use super::*;
use crate::config::CallerMatch;

fn entry(uid: u32, gid: Option<u32>, pipeline: &str, allow: &[(&str, Use)]) -> PolicyEntry {
    PolicyEntry {
        caller: CallerMatch { uid, gid },
        pipeline: pipeline.parse().unwrap(),
        allow: allow.iter().map(|(grant, allowed)| (grant.parse().unwrap(), *allowed)).collect(),
    }
}

fn two_pipelines() -> Policy {
    Policy::new(vec![
        entry(10002, None, "sales", &[("sql", Use::Relay), ("snow", Use::Session)]),
        entry(10002, None, "hr", &[("people", Use::Session)]),
        entry(10003, Some(7), "dbt", &[("snow", Use::Token)]),
    ])
}

fn ask(
    policy: &Policy,
    uid: u32,
    pipeline: Option<&str>,
    grant: &str,
    wanted: Use,
) -> Result<Permit, Denied> {
    let pipeline = pipeline.map(|p| p.parse().unwrap());
    policy.authorize(&Caller::new(uid, 7), pipeline.as_ref(), &grant.parse().unwrap(), wanted)
}

#[test]
fn a_caller_gets_what_its_entry_names_and_nothing_else() {
    let policy = two_pipelines();
    let permit = ask(&policy, 10002, Some("sales"), "sql", Use::Relay).unwrap();
    assert_eq!((permit.grant().as_str(), permit.allowed()), ("sql", Use::Relay));
    let denied = ask(&policy, 10002, Some("sales"), "sql", Use::Session).unwrap_err();
    assert_eq!(denied.to_string(), "policy allows pipeline `sales` the grant `sql` as relay, not as session");
    assert_eq!(ask(&policy, 1, None, "sql", Use::Relay).unwrap_err().reason(), "unknown_caller");
    assert_eq!(
        ask(&policy, 10002, Some("dbt"), "snow", Use::Token).unwrap_err().reason(),
        "not_its_pipeline"
    );
}

#[test]
fn rights_of_several_pipelines_are_never_united() {
    let policy = two_pipelines();
    assert_eq!(ask(&policy, 10002, Some("hr"), "snow", Use::Session).unwrap_err().reason(), "not_its_grant");
    let denied = ask(&policy, 10002, None, "people", Use::Session).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "uid 10002 moves several pipelines (hr, sales), whose rights are never united; name one in `pipeline`"
    );
}

#[test]
fn a_gid_counts_when_the_entry_names_one() {
    let policy = two_pipelines();
    assert!(ask(&policy, 10003, None, "snow", Use::Token).is_ok());
    let other_group =
        policy.authorize(&Caller::new(10003, 8), None, &"snow".parse().unwrap(), Use::Token).unwrap_err();
    assert_eq!(other_group.reason(), "unknown_caller");
}

#[test]
fn a_refusal_does_not_tell_whether_another_callers_grant_exists() {
    let policy = two_pipelines();
    let exists = ask(&policy, 10003, None, "people", Use::Session).unwrap_err().to_string();
    let absent = ask(&policy, 10003, None, "nobody", Use::Session).unwrap_err().to_string();
    assert_eq!(exists.replace("people", "X"), absent.replace("nobody", "X"));
}

/// The rule in one sentence: some entry of this caller and of the meant pipeline allows exactly this.
fn model(
    entries: &[PolicyEntry],
    caller: Caller,
    named: Option<&PipelineName>,
    grant: &GrantName,
    wanted: Use,
) -> bool {
    let mine: Vec<&PolicyEntry> = entries
        .iter()
        .filter(|e| e.caller.uid == caller.uid())
        .filter(|e| e.caller.gid.is_none() || e.caller.gid == Some(caller.gid()))
        .collect();
    let meant = match named {
        Some(name) => name.clone(),
        None => match mine.first() {
            Some(first) if mine.iter().all(|e| e.pipeline == first.pipeline) => first.pipeline.clone(),
            _ => return false,
        },
    };
    mine.iter().any(|e| e.pipeline == meant && e.allow.iter().any(|(g, u)| g == grant && *u == wanted))
}

const USES: [Use; 3] = [Use::Relay, Use::Session, Use::Token];

fn any_entry() -> impl Strategy<Value = PolicyEntry> {
    let allow = vec((0..4_usize, 0..3_usize), 0..4);
    (1..4_u32, proptest::option::of(1..3_u32), 0..3_usize, allow).prop_map(|(uid, gid, pipeline, allow)| {
        let names: Vec<(String, Use)> = allow.iter().map(|(g, u)| (format!("g{g}"), USES[*u])).collect();
        let pairs: Vec<(&str, Use)> = names.iter().map(|(name, allowed)| (name.as_str(), *allowed)).collect();
        entry(uid, gid, &format!("p{pipeline}"), &pairs)
    })
}

proptest! {
    #[test]
    fn policy_allows_exactly_what_the_model_allows(entries in vec(any_entry(), 0..6)) {
        let policy = Policy::new(entries.clone());
        for uid in 0..5 { for gid in 1..4 { for pipeline in 0..4 { for grant in 0..5 { for wanted in USES {
            let caller = Caller::new(uid, gid);
            let named: Option<PipelineName> = (pipeline > 0).then(|| format!("p{}", pipeline - 1).parse().unwrap());
            let grant: GrantName = format!("g{grant}").parse().unwrap();
            let answer = policy.authorize(&caller, named.as_ref(), &grant, wanted);
            prop_assert_eq!(answer.is_ok(), model(&entries, caller, named.as_ref(), &grant, wanted));
            if let Ok(permit) = answer {
                prop_assert_eq!(permit.allowed(), wanted);
                prop_assert!(policy.rights(&caller)[permit.pipeline()].contains(&(grant, wanted)));
            }
        }}}}}
    }
}
