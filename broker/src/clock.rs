//! The end of a token's life, by two clocks: the monotonic one stands still while the machine is
//! suspended, and the other one can be set.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::schedule;

/// A suspended machine's timers stand still, so a long wait looks again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// When a token ends. The nearer of the two clocks counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    by_monotonic: Instant,
    by_wall: SystemTime,
}

impl End {
    /// The end of a token that ends at `expires_at`, clamped; none when it has ended already.
    pub(crate) fn of(expires_at: SystemTime) -> Option<Self> {
        let life = schedule::trusted_life(SystemTime::now(), expires_at)?;
        Some(Self { by_monotonic: Instant::now() + life, by_wall: expires_at })
    }

    /// What is left.
    pub(crate) fn left(&self) -> Duration {
        let by_wall = self.by_wall.duration_since(SystemTime::now()).unwrap_or_default();
        self.by_monotonic.saturating_duration_since(Instant::now()).min(by_wall)
    }

    /// Waits until no more than `left` is left.
    pub(crate) async fn until_left(&self, left: Duration) {
        while let Some(wait) = self.left().checked_sub(left).filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_the_asked_rest_is_left() {
        let end = End::of(SystemTime::now() + Duration::from_mins(10)).unwrap();
        let before = Instant::now();
        end.until_left(Duration::from_secs(100)).await;
        let waited = before.elapsed().as_secs();
        assert!((499..=500).contains(&waited), "{waited}");
        assert!(End::of(SystemTime::now()).is_none());
    }
}
