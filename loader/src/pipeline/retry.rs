//! When to try again: a bounded number of times, later each time, never all at the same moment.

use std::time::Duration;

/// How often one piece of work may fail in passing.
pub(super) const MOST_FAILURES: u32 = 5;

/// The pause before the next attempt after so many failures: 0.5 s doubled each time to at most 30 s, times 0.5 to 1.5.
pub(super) fn pause(failures: u32) -> Duration {
    let base = Duration::from_millis(500) * 2_u32.saturating_pow(failures.saturating_sub(1));
    base.min(Duration::from_secs(30)).mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for failures in 0..100 {
            assert!(pause(failures) <= Duration::from_secs(45));
        }
        assert!(pause(10) >= Duration::from_secs(15));
        assert!(pause(1) <= Duration::from_millis(750));
    }
}
