//! When to renew and how to back off. Pure: chance and time come in as arguments.

use std::time::{Duration, SystemTime};

/// No token is trusted for longer than this, whatever its issuer says.
pub const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// Two renewals are never closer than this, however short the lives.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(200);

/// How long a token that ends at `expires_at` may be trusted, seen from `now`: nothing when it has ended
/// already, and never more than [`LONGEST_LIFE`].
pub fn trusted_life(now: SystemTime, expires_at: SystemTime) -> Option<Duration> {
    let life = expires_at.duration_since(now).ok()?;
    (!life.is_zero()).then_some(life.min(LONGEST_LIFE))
}

/// How long to wait before a token with this much life is renewed: 70 to 80 % of the life, spread by
/// `chance` (0 to 1), and never later than `margin` before the end when the life is at least twice that.
pub fn renew_in(life: Duration, margin: Duration, chance: f64) -> Duration {
    let early = life.mul_f64(0.1f64.mul_add(chance.clamp(0.0, 1.0), 0.7));
    let latest = if life >= margin * 2 { life.saturating_sub(margin) } else { life };
    early.min(latest).max(SHORTEST_WAIT)
}

/// Growing pauses between failed attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_mins(1), failures: 0 }
    }
}

impl Backoff {
    /// How many attempts failed since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure: doubling, capped, half to one and a half of itself by `chance`
    /// (0 to 1), and never shorter than the upstream asked for.
    pub fn after_failure(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(self.longest).mul_f64(0.5 + chance.clamp(0.0, 1.0));
        pause.max(asked.unwrap_or_default().min(LONGEST_LIFE))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn an_hour_is_renewed_between_42_and_48_minutes() {
        assert_eq!(renew_in(HOUR, MINUTE, 0.0), Duration::from_mins(42));
        let late = renew_in(HOUR, MINUTE, 1.0);
        assert!(late <= Duration::from_mins(48) && late > Duration::from_mins(47), "{late:?}");
    }

    #[test]
    fn a_wide_margin_wins_over_the_fraction() {
        assert_eq!(renew_in(HOUR, MINUTE * 25, 1.0), MINUTE * 35);
        assert!(renew_in(MINUTE, MINUTE, 1.0) < MINUTE * 81 / 100, "a margin that eats the life is ignored");
    }

    #[test]
    fn a_life_of_nothing_does_not_spin() {
        assert_eq!(renew_in(Duration::ZERO, MINUTE, 0.5), SHORTEST_WAIT);
    }

    #[test]
    fn absurd_lives_are_clamped_and_ended_ones_refused() {
        let now = SystemTime::UNIX_EPOCH + HOUR;
        assert_eq!(trusted_life(now, now), None);
        assert_eq!(trusted_life(now, now - MINUTE), None);
        assert_eq!(trusted_life(now, now + MINUTE), Some(MINUTE));
        assert_eq!(trusted_life(now, now + HOUR * 24 * 365 * 100), Some(LONGEST_LIFE));
    }

    #[test]
    fn pauses_double_to_a_minute_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.after_failure(None, 0.5).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        backoff.reset();
        assert_eq!(backoff.after_failure(None, 0.5), Duration::from_millis(500));
    }

    #[test]
    fn a_pause_is_never_shorter_than_the_upstream_asked() {
        assert_eq!(Backoff::default().after_failure(Some(HOUR), 0.0), HOUR);
        assert_eq!(Backoff::default().after_failure(Some(Duration::MAX), 0.0), LONGEST_LIFE);
    }

    proptest! {
        #[test]
        fn a_renewal_comes_before_the_end(seconds in 1u64..200_000, margin in 0u64..10_000, chance in 0.0f64..1.0) {
            let life = Duration::from_secs(seconds);
            let wait = renew_in(life, Duration::from_secs(margin), chance);
            prop_assert!(wait < life && wait >= SHORTEST_WAIT);
        }
    }
}
