use proptest::{collection::vec, prelude::*};

use super::*;
use crate::config::CallerMatch;

fn entry(uid: u32, gid: Option<u32>, pipeline: &str, allow: &[(&str, Use)]) -> PolicyEntry {
    PolicyEntry {
        caller: CallerMatch { uid: Some(uid), gid, service_account: None },
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
fn a_service_account_alone_is_enough_when_the_entry_names_no_uid_and_never_for_root() {
    let mut one = entry(1, None, "dbt", &[("snow", Use::Token)]);
    one.caller.uid = None;
    one.caller.service_account = Some("analytics/dbt".parse().unwrap());
    let policy = Policy::new(vec![one]);
    let ask = |caller: Caller| policy.authorize(&caller, None, &"snow".parse().unwrap(), Use::Token).is_ok();
    let proved = |uid, account: &str| Caller::new(uid, 7).proved(account.parse().unwrap());
    assert!(ask(proved(10_003, "analytics/dbt")));
    assert!(!ask(proved(10_003, "analytics/other")));
    assert!(!ask(Caller::new(10_003, 7)), "no token");
    assert!(!ask(proved(0, "analytics/dbt")) && !ask(proved(65_534, "analytics/dbt")));
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
    caller: &Caller,
    named: Option<&PipelineName>,
    grant: &GrantName,
    wanted: Use,
) -> bool {
    let mine: Vec<&PolicyEntry> = entries
        .iter()
        .filter(|e| e.caller.uid.is_none() || e.caller.uid == Some(caller.uid()))
        .filter(|e| e.caller.uid.is_some() || e.caller.service_account.is_some())
        .filter(|e| e.caller.uid.is_some() || (caller.uid() != 0 && caller.uid() != 65_534))
        .filter(|e| {
            e.caller.service_account.is_none()
                || e.caller.service_account.as_ref() == caller.service_account()
        })
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

const ACCOUNTS: [Option<&str>; 3] = [None, Some("n/a"), Some("n/b")];
const CALLERS: [u32; 5] = [0, 1, 2, 4, 65_534];
const USES: [Use; 3] = [Use::Relay, Use::Session, Use::Token];

fn any_entry() -> impl Strategy<Value = PolicyEntry> {
    let allow = vec((0..4_usize, 0..3_usize), 0..4);
    let who = (proptest::option::of(1..4_u32), proptest::option::of(1..3_u32), 0..3_usize);
    (who, 0..3_usize, allow).prop_map(|((uid, gid, account), pipeline, allow)| {
        let names: Vec<(String, Use)> = allow.iter().map(|(g, u)| (format!("g{g}"), USES[*u])).collect();
        let pairs: Vec<(&str, Use)> = names.iter().map(|(name, allowed)| (name.as_str(), *allowed)).collect();
        let mut entry = entry(1, gid, &format!("p{pipeline}"), &pairs);
        entry.caller.uid = uid;
        entry.caller.service_account = ACCOUNTS[account].map(|account| account.parse().unwrap());
        entry
    })
}

proptest! {
    #[test]
    fn policy_allows_exactly_what_the_model_allows(entries in vec(any_entry(), 0..6)) {
        let policy = Policy::new(entries.clone());
        for uid in CALLERS { for account in ACCOUNTS { for gid in 1..4 { for pipeline in 0..4 { for grant in 0..5 { for wanted in USES {
            let caller = Caller::new(uid, gid);
            let caller = match account {
                Some(account) => caller.proved(account.parse().unwrap()),
                None => caller,
            };
            let named: Option<PipelineName> = (pipeline > 0).then(|| format!("p{}", pipeline - 1).parse().unwrap());
            let grant: GrantName = format!("g{grant}").parse().unwrap();
            let answer = policy.authorize(&caller, named.as_ref(), &grant, wanted);
            prop_assert_eq!(answer.is_ok(), model(&entries, &caller, named.as_ref(), &grant, wanted));
            if let Ok(permit) = answer {
                prop_assert_eq!(permit.allowed(), wanted);
                prop_assert!(policy.rights(&caller)[permit.pipeline()].contains(&(grant, wanted)));
            }
        }}}}}}
    }
}
