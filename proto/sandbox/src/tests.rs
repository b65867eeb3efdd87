use super::*;

#[test]
fn strict_and_a_mode_that_lets_steps_fail_contradict_each_other() {
    for mode in [Enforcement::Report, Enforcement::Off] {
        let error = Sandbox::begin(Settings { mode, strict: true }, &Process::default()).unwrap_err();
        assert_eq!(error.step(), Step::Settings);
    }
}

#[test]
fn a_step_that_the_kernel_cannot_take_is_reported_and_ends_the_start_under_strict() {
    let missing = || Ok(State::Missing("too old".to_owned()));
    let take = |settings| {
        let mut sandbox = Sandbox { settings, report: Report::default() };
        sandbox.take(Step::Landlock, missing).map(|()| sandbox.report)
    };
    let report = take(Settings::default()).unwrap();
    assert_eq!(report.of(Step::Landlock), Some(&State::Missing("too old".to_owned())));
    let error = take(Settings { strict: true, ..Settings::default() }).unwrap_err();
    assert!(matches!(error, SandboxError::Missing { step: Step::Landlock, .. }), "{error}");
}

#[test]
fn a_failed_step_ends_the_start_unless_it_is_only_reported() {
    let fail = || Err(SandboxError::failed(Step::Limits, "lower", std::io::Error::other("no"), "look"));
    let take = |mode| {
        let mut sandbox = Sandbox { settings: Settings { mode, strict: false }, report: Report::default() };
        sandbox.take(Step::Limits, fail).map(|()| sandbox.report)
    };
    assert!(take(Enforcement::Enforce).is_err());
    assert!(matches!(take(Enforcement::Report).unwrap().of(Step::Limits), Some(State::Waived(_))));
    assert_eq!(take(Enforcement::Off).unwrap().of(Step::Limits), Some(&State::Off));
}
