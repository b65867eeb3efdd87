//! Failures on purpose: armed by tests while the server runs, each counting how often it fired.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The TCP connection is reset in the middle of the answer.
    Drop,
    /// An ERROR token follows the rows sent so far, then DONE with the error flag. Class 20 and above also closes.
    Error {
        /// For example 1205 (deadlock victim), 3960, 1222.
        number: i32,
        /// SQL Server's severity.
        class: u8,
        /// The text after the number.
        message: String,
    },
    /// Nothing more is sent for this long; then the answer goes on.
    Stall(Duration),
}

/// Which answers a fault strikes, and where in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Rows of one result set that are sent before the fault; a shorter result does not fire it.
    pub after_rows: u64,
    /// Only batches whose text contains this, compared exactly. None: every batch.
    pub statement_contains: Option<String>,
    /// How often it fires before it disarms itself; 0 means without end.
    pub times: u64,
}

/// The server's switches. Clones share them.
#[derive(Clone, Default, Debug)]
pub struct Faults(Arc<Switches>);

#[derive(Default, Debug)]
struct Switches {
    rules: Mutex<Vec<Rule>>,
    logins: Mutex<Vec<LoginRule>>,
    any: AtomicBool,
    one_byte: AtomicBool,
    one_byte_packets: AtomicU64,
}

#[derive(Debug)]
struct Rule {
    when: When,
    fault: Fault,
    armed: Armed,
}

#[derive(Debug)]
struct LoginRule {
    number: i32,
    left: u64,
    armed: Armed,
}

/// A fault that was armed: asks how often it fired, or takes it back.
#[derive(Clone, Debug, Default)]
pub struct Armed(Arc<Trigger>);

#[derive(Default, Debug)]
struct Trigger {
    fired: AtomicU64,
    disarmed: AtomicBool,
}

impl Armed {
    /// How often the fault struck.
    pub fn fired(&self) -> u64 {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// Takes the fault back; answers that are under way are not touched by it any more.
    pub fn disarm(&self) {
        self.0.disarmed.store(true, Ordering::SeqCst);
    }
}

impl Faults {
    /// Arms `fault`; several may be armed, the first that applies strikes.
    pub fn arm(&self, when: When, fault: Fault) -> Armed {
        let armed = Armed::default();
        self.rules().push(Rule { when, fault, armed: armed.clone() });
        self.0.any.store(true, Ordering::SeqCst);
        armed
    }

    /// Refuses the next `times` logins with this number, as a server does that moves or starts: 4060, 40613, 49918.
    pub fn refuse_logins(&self, number: i32, times: u64) -> Armed {
        let armed = Armed::default();
        self.logins().push(LoginRule { number, left: times, armed: armed.clone() });
        armed
    }

    /// The number that the next login is refused with. Counts it.
    pub(crate) fn refused_login(&self) -> Option<i32> {
        let mut rules = self.logins();
        rules.retain(|rule| rule.left > 0 && !rule.armed.0.disarmed.load(Ordering::SeqCst));
        let rule = rules.first_mut()?;
        rule.left -= 1;
        rule.armed.0.fired.fetch_add(1, Ordering::SeqCst);
        Some(rule.number)
    }

    /// Takes every fault back.
    pub fn clear(&self) {
        self.rules().clear();
        self.logins().clear();
        self.0.one_byte.store(false, Ordering::SeqCst);
    }

    /// While on, every answer is cut into packets that carry one byte each.
    pub fn one_byte_packets(&self, on: bool) {
        self.0.one_byte.store(on, Ordering::SeqCst);
    }

    /// How many one-byte packets were sent.
    pub fn one_byte_packets_sent(&self) -> u64 {
        self.0.one_byte_packets.load(Ordering::SeqCst)
    }

    pub(crate) fn is_one_byte(&self) -> bool {
        self.0.one_byte.load(Ordering::SeqCst)
    }

    pub(crate) fn count_one_byte_packet(&self) {
        self.0.one_byte_packets.fetch_add(1, Ordering::SeqCst);
    }

    /// The fault that strikes now, with `rows` rows of the result of `statement` sent. Counts it.
    pub(crate) fn strike(&self, statement: &str, rows: u64) -> Option<Fault> {
        // Asked before every row: without a fault it must cost nothing.
        if !self.0.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut rules = self.rules();
        rules.retain(|rule| !rule.armed.0.disarmed.load(Ordering::SeqCst));
        let rule = rules.iter().find(|rule| {
            let named = rule.when.statement_contains.as_deref();
            rule.when.after_rows == rows && named.is_none_or(|text| statement.contains(text))
        })?;
        let fired = rule.armed.0.fired.fetch_add(1, Ordering::SeqCst) + 1;
        if rule.when.times != 0 && fired >= rule.when.times {
            rule.armed.disarm();
        }
        Some(rule.fault.clone())
    }

    fn logins(&self) -> std::sync::MutexGuard<'_, Vec<LoginRule>> {
        self.0.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_asked_and_counts() {
        let faults = Faults::default();
        let when = When { after_rows: 3, statement_contains: Some("orders".into()), times: 1 };
        let armed = faults.arm(when, Fault::Drop);
        assert_eq!(faults.strike("select * from orders", 2), None);
        assert_eq!(faults.strike("select * from lineitem", 3), None);
        assert_eq!(faults.strike("select * from orders", 3), Some(Fault::Drop));
        assert_eq!(faults.strike("select * from orders", 3), None);
        assert_eq!(armed.fired(), 1);
    }

    #[test]
    fn logins_are_refused_as_often_as_asked() {
        let faults = Faults::default();
        let armed = faults.refuse_logins(40613, 2);
        let answers: Vec<_> = (0..3).map(|_| faults.refused_login()).collect();
        assert_eq!(answers, [Some(40613), Some(40613), None]);
        assert_eq!(armed.fired(), 2);
    }

    #[test]
    fn a_disarmed_fault_does_not_strike() {
        let faults = Faults::default();
        let armed = faults.arm(When::default(), Fault::Drop);
        armed.disarm();
        assert_eq!(faults.strike("select 1", 0), None);
        assert_eq!(armed.fired(), 0);
    }
}
