//! What health says about each upstream.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::error::{ErrorClass, UpstreamError, UpstreamName};

/// How one upstream did last.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// Which one.
    pub name: UpstreamName,
    /// For an upstream that serves one grant only, that grant's name.
    pub grant: Option<String>,
    /// The last call succeeded.
    pub ok: bool,
    /// What the last failure was, if the last call failed.
    pub last_error: Option<ErrorClass>,
    /// The last failure's code, for example `AADSTS7000215`.
    pub last_code: Option<String>,
    /// Until when what was obtained last is good: the Vault token, the ticket.
    pub valid_until: Option<SystemTime>,
}

/// The notes of all upstreams: written by whoever called one, read by health.
#[derive(Default)]
pub(super) struct Board(Mutex<Vec<UpstreamStatus>>);

impl Board {
    /// Notes a success, and until when its result is good.
    pub(super) fn succeeded(&self, name: UpstreamName, grant: Option<&str>, until: Option<SystemTime>) {
        self.update(name, grant, |status| {
            status.ok = true;
            status.last_error = None;
            status.last_code = None;
            if until.is_some() {
                status.valid_until = until;
            }
        });
    }

    /// Notes a failure. What was obtained before stays as good as it was.
    pub(super) fn failed(&self, grant: Option<&str>, error: &UpstreamError) {
        self.update(error.upstream(), grant, |status| {
            status.ok = false;
            status.last_error = Some(error.class());
            status.last_code = error.code().map(str::to_owned);
        });
    }

    /// Everything noted, in the order in which the upstreams were first used.
    pub(super) fn list(&self) -> Vec<UpstreamStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, name: UpstreamName, grant: Option<&str>, change: impl FnOnce(&mut UpstreamStatus)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().position(|s| s.name == name && s.grant.as_deref() == grant);
        let at = found.unwrap_or_else(|| {
            all.push(UpstreamStatus {
                name,
                grant: grant.map(str::to_owned),
                ok: false,
                last_error: None,
                last_code: None,
                valid_until: None,
            });
            all.len() - 1
        });
        if let Some(status) = all.get_mut(at) {
            change(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failure_keeps_the_time_until_which_the_last_result_is_good() {
        let board = Board::default();
        let until = SystemTime::now() + Duration::from_mins(1);
        board.succeeded(UpstreamName::Vault, None, Some(until));
        let error = UpstreamError::new(UpstreamName::Vault, ErrorClass::Sealed, "a", "b", "c");
        board.failed(None, &error);
        let [status] = board.list().try_into().unwrap();
        assert!(!status.ok);
        assert_eq!((status.last_error, status.valid_until), (Some(ErrorClass::Sealed), Some(until)));
    }
}
