//! When to try again: a bounded number of times, later each time, never all at the same moment.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often one piece of work may fail in passing: until the pauses between its attempts add up to `patience`.
pub(super) fn most_failures(patience: Duration) -> u32 {
    let (mut failures, mut paused) = (1, Duration::ZERO);
    while paused < patience {
        paused += usual_pause(failures);
        failures += 1;
    }
    failures
}

/// The pause before the next attempt after so many failures: the usual one times 0.5 to 1.5.
pub(super) fn pause(failures: u32) -> Duration {
    usual_pause(failures).mul_f64(0.5 + fastrand::f64())
}

/// 0.5 s doubled each time to at most 30 s.
fn usual_pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST_PAUSE)
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

    #[test]
    fn patience_decides_how_often_work_may_fail() {
        assert_eq!(most_failures(Duration::from_secs(1)), 3);
        assert_eq!(most_failures(Duration::from_secs(5)), 5);
        assert_eq!(most_failures(Duration::from_mins(5)), 16);
        let day: Duration = (1..most_failures(Duration::from_hours(24))).map(usual_pause).sum();
        assert!(day >= Duration::from_hours(24) && day < Duration::from_hours(25), "{day:?}");
    }
}
