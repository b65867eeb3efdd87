//! Switches that break things on purpose. Each counts that it fired, so that a test can prove that it did.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Names one armed fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

/// What a fault waits for.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A statement that begins with these words, compared without case, comments and extra spaces.
    Statement(String),
    /// A request to the service whose path begins so, for example `/session/token-request`.
    Path(String),
    /// A request for the result of a statement that was said to run.
    Poll,
    /// A request to the object store with this method whose key contains this text.
    Object {
        /// `PUT`, `GET`, `HEAD`, `POST` or `DELETE`.
        method: String,
        /// Part of the key; empty for any.
        key: String,
    },
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The connection is closed and nothing was executed.
    CutBefore,
    /// Only for statements: it begins, and the connection is closed while it goes on.
    CutDuring,
    /// The statement or request is carried out, then the connection is closed without a reply.
    CutAfter,
    /// The request waits this long first.
    Delay(Duration),
    /// HTTP 503, nothing executed.
    Unavailable,
    /// HTTP 403, nothing executed.
    Forbidden,
    /// The session token counts as expired: 390112, nothing executed. For requests to the service only.
    TokenExpired,
    /// HTTP 200 with this code and no success, nothing executed. For requests to the service only.
    Refused(&'static str),
    /// Only for statements: refused as one that has waited `LOCK_TIMEOUT` for a lock, 000625. Under
    /// `TRANSACTION_ABORT_ON_ERROR` the open transaction is rolled back.
    LockTimeout,
    /// Only for statements: a repeat of this requestId while the first is still running runs it a second time.
    RunTwice,
}

/// One switch.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it waits for.
    pub on: Trigger,
    /// What it does.
    pub effect: Effect,
    /// How many matches pass unharmed first.
    pub skip: u32,
    /// How many times it fires, then it is spent.
    pub times: u32,
}

impl Fault {
    /// Fires at the first match, once.
    pub fn once(on: Trigger, effect: Effect) -> Self {
        Self { on, effect, skip: 0, times: 1 }
    }

    /// The same, after `skip` matches that pass unharmed.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// The same, `times` times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

struct Armed {
    id: FaultId,
    fault: Fault,
    seen: u32,
    fired: u64,
}

/// The armed switches; shared by the server and its [`crate::Handle`].
#[derive(Default)]
pub struct Faults(Mutex<Vec<Armed>>);

impl Faults {
    /// Arms a switch.
    pub fn arm(&self, fault: Fault) -> FaultId {
        let mut armed = self.lock();
        let id = FaultId(armed.last().map_or(1, |last| last.id.0 + 1));
        armed.push(Armed { id, fault, seen: 0, fired: 0 });
        id
    }

    /// Disarms a switch; its count stays readable.
    pub fn disarm(&self, id: FaultId) {
        if let Some(armed) = self.lock().iter_mut().find(|armed| armed.id == id) {
            armed.fault.times = 0;
        }
    }

    /// How often a switch fired.
    pub fn fired(&self, id: FaultId) -> u64 {
        self.lock().iter().find(|armed| armed.id == id).map_or(0, |armed| armed.fired)
    }

    /// The effects of all switches that fire on this statement (given in canonical spelling).
    pub(crate) fn on_statement(&self, canonical: &str) -> Vec<Effect> {
        self.firing(false, |on| match on {
            Trigger::Statement(prefix) => canonical.starts_with(&crate::lexer::canonical(prefix)),
            _ => false,
        })
    }

    /// Whether a repeat of a running statement is to run again.
    pub(crate) fn run_twice(&self, canonical: &str) -> bool {
        !self
            .firing(true, |on| match on {
                Trigger::Statement(prefix) => canonical.starts_with(&crate::lexer::canonical(prefix)),
                _ => false,
            })
            .is_empty()
    }

    pub(crate) fn on_path(&self, path: &str) -> Vec<Effect> {
        self.firing(false, |on| matches!(on, Trigger::Path(prefix) if path.starts_with(prefix.as_str())))
    }

    pub(crate) fn on_poll(&self) -> Vec<Effect> {
        self.firing(false, |on| matches!(on, Trigger::Poll))
    }

    pub(crate) fn on_object(&self, verb: &str, name: &str) -> Vec<Effect> {
        self.firing(false, |on| match on {
            Trigger::Object { method, key } => method == verb && name.contains(key.as_str()),
            _ => false,
        })
    }

    /// `twice` asks for [`Effect::RunTwice`] alone, otherwise for all the others.
    fn firing(&self, twice: bool, matches: impl Fn(&Trigger) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        for armed in self.lock().iter_mut().filter(|armed| armed.fault.times > 0) {
            if (armed.fault.effect == Effect::RunTwice) != twice || !matches(&armed.fault.on) {
                continue;
            }
            armed.seen += 1;
            if armed.seen > armed.fault.skip {
                armed.fault.times -= 1;
                armed.fired += 1;
                effects.push(armed.fault.effect);
            }
        }
        effects
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_skips_then_fires_then_is_spent() {
        let faults = Faults::default();
        let id = faults.arm(Fault::once(Trigger::Statement("copy  into".into()), Effect::CutAfter).after(1));
        assert!(faults.on_statement("COPY INTO T FROM @S").is_empty());
        assert_eq!(faults.on_statement("COPY INTO T FROM @S"), [Effect::CutAfter]);
        assert!(faults.on_statement("COPY INTO T FROM @S").is_empty());
        assert!(faults.on_statement("SELECT 1").is_empty());
        assert_eq!(faults.fired(id), 1);
    }
}
