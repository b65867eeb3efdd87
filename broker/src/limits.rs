//! What one uid may take, so many at once and so many calls a second; and how often all of them together may
//! have something done ahead of its time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Counts what each uid has open, up to a most.
#[derive(Clone)]
pub struct PerUid {
    most: usize,
    open: Arc<Mutex<HashMap<u32, usize>>>,
}

impl PerUid {
    /// At most so many at once.
    pub fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// The most that one uid may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A place for one more of this uid, given back when dropped; none when it has its share.
    pub fn take(&self, uid: u32) -> Option<Taken> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(uid).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Taken { uid, open: Arc::clone(&self.open) })
    }
}

/// One place that a uid has taken.
pub struct Taken {
    uid: u32,
    open: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

/// Whether a call may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It may.
    Yes,
    /// It may not, and it is the first of a row: worth a line in the audit log.
    FirstRefused,
    /// It may not, like the one before it.
    Refused,
}

/// A bucket per uid that fills at a steady rate and holds two seconds' worth.
pub struct Rate {
    per_second: f64,
    buckets: Mutex<HashMap<u32, Bucket>>,
}

struct Bucket {
    calls: f64,
    at: Instant,
    refusing: bool,
}

/// Beyond this many uids full buckets are forgotten; if none is full, all are.
const REMEMBERED: usize = 1024;

impl Rate {
    /// So many calls a second per uid.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Takes one call out of the uid's bucket.
    pub fn pass(&self, uid: u32) -> Pass {
        let now = Instant::now();
        let most = self.per_second * 2.0;
        let fill = |bucket: &Bucket| {
            (now - bucket.at).as_secs_f64().mul_add(self.per_second, bucket.calls).min(most)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REMEMBERED {
            buckets.retain(|_, bucket| fill(bucket) < most);
            if buckets.len() >= REMEMBERED {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(uid).or_insert(Bucket { calls: most, at: now, refusing: false });
        bucket.calls = fill(bucket);
        bucket.at = now;
        if bucket.calls >= 1.0 {
            bucket.calls -= 1.0;
            bucket.refusing = false;
            Pass::Yes
        } else if std::mem::replace(&mut bucket.refusing, true) {
            Pass::Refused
        } else {
            Pass::FirstRefused
        }
    }
}

/// How often something may be done ahead of its time: a few times at once, then at a steady pace.
pub struct Allowance {
    burst: u32,
    every: Duration,
    /// When the burst will be whole again.
    whole_at: Mutex<Option<Instant>>,
}

impl Allowance {
    /// `burst` times at once, and once more each `every`.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, whole_at: Mutex::default() }
    }

    /// Takes one; when none is left, says how long until there is.
    pub fn take(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = whole_at.unwrap_or(now).max(now) + self.every;
        let beyond = next.saturating_duration_since(now + self.every * self.burst);
        if beyond.is_zero() {
            *whole_at = Some(next);
            Ok(())
        } else {
            Err(beyond)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_uid_has_its_own_share_and_gets_it_back() {
        let share = PerUid::new(2);
        let (one, _two) = (share.take(7).unwrap(), share.take(7).unwrap());
        assert!(share.take(7).is_none());
        assert!(share.take(8).is_some());
        drop(one);
        assert!(share.take(7).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_the_rate_holds_and_others_are_not_touched() {
        let rate = Rate::new(10);
        assert!((0..20).all(|_| rate.pass(7) == Pass::Yes));
        assert_eq!((rate.pass(7), rate.pass(7)), (Pass::FirstRefused, Pass::Refused));
        assert_eq!(rate.pass(8), Pass::Yes);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!((0..20).filter(|_| rate.pass(7) == Pass::Yes).count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_allowance_is_a_burst_then_a_pace() {
        let allowance = Allowance::new(3, Duration::from_secs(20));
        assert!((0..3).all(|_| allowance.take().is_ok()));
        assert_eq!(allowance.take(), Err(Duration::from_secs(20)));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(allowance.take(), Err(Duration::from_secs(5)), "a refusal costs nothing");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(allowance.take().is_ok() && allowance.take().is_err());
        tokio::time::advance(Duration::from_mins(60)).await;
        assert_eq!((0..10).filter(|_| allowance.take().is_ok()).count(), 3);
    }

    #[test]
    fn many_uids_do_not_fill_the_memory() {
        let rate = Rate::new(1);
        for uid in 0..100_000 {
            rate.pass(uid);
        }
        assert!(rate.buckets.lock().unwrap().len() <= REMEMBERED);
    }
}
