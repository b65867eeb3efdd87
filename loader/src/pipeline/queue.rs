//! The chunks that wait to be moved. A chunk leaves the queue for good only when it is finished; one that failed in
//! passing comes back.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::model::KeyRange;

/// One chunk of one table.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// The table's place in the plan.
    pub table: usize,
    pub chunk: u32,
    pub range: KeyRange,
    /// How often it has failed in passing.
    pub failures: u32,
}

/// The biggest first, so that none is begun when all others are done. Chunks of much the same size (within a power of
/// two) stay in the order of their keys.
pub(super) fn biggest_first(mut work: Vec<(u64, Work)>) -> Vec<Work> {
    work.sort_by_key(|(rows, _)| std::cmp::Reverse(rows.checked_ilog2()));
    work.into_iter().map(|(_, work)| work).collect()
}

/// Shared by all connections and committers.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Work>,
    unfinished: usize,
}

impl Queue {
    pub(super) fn new(work: impl IntoIterator<Item = Work>) -> Self {
        let waiting: VecDeque<_> = work.into_iter().collect();
        Self { state: Mutex::new(State { unfinished: waiting.len(), waiting }), changed: Notify::new() }
    }

    /// The next chunk; `None` when all are finished. Waits while others hold the last ones, which may come back.
    pub(super) async fn next(&self) -> Option<Work> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(work) = state.waiting.pop_front() {
                    return Some(work);
                }
                if state.unfinished == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// How many chunks are not finished.
    pub(super) fn unfinished(&self) -> usize {
        self.lock().unfinished
    }

    /// The chunk is done and will not come back.
    pub(super) fn finish(&self) {
        self.lock().unfinished -= 1;
        self.changed.notify_waiters();
    }

    /// The chunk failed in passing and is to be tried again.
    pub(super) fn put_back(&self, mut work: Work) {
        work.failures += 1;
        self.lock().waiting.push_back(work);
        self.changed.notify_waiters();
    }

    /// A chunk that somebody else had is to be tried here.
    pub(super) fn give_back(&self, work: Work) {
        self.lock().waiting.push_back(work);
        self.changed.notify_waiters();
    }

    /// Takes chunks out that wait for nothing here: they stay unfinished until they are finished or given back.
    pub(super) fn take_out(&self, which: impl Fn(&Work) -> bool) -> Vec<Work> {
        let mut state = self.lock();
        let (out, kept) = state.waiting.drain(..).partition(|work| which(work));
        state.waiting = kept;
        Vec::from(out)
    }

    /// True when nothing waits here.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(chunk: u32) -> Work {
        Work { table: 0, chunk, range: KeyRange::default(), failures: 0 }
    }

    #[tokio::test]
    async fn a_chunk_that_failed_comes_back_to_whoever_waits() {
        let queue = Queue::new([work(1)]);
        let held = queue.next().await.unwrap();
        let waiting = async {
            let again = queue.next().await.unwrap();
            queue.finish();
            again
        };
        let (again, ()) = tokio::join!(waiting, async { queue.put_back(held) });
        assert_eq!((again.chunk, again.failures), (1, 1));
        assert!(queue.next().await.is_none());
    }

    #[test]
    fn the_biggest_chunk_is_begun_first_and_equals_keep_their_order() {
        let sized = [(900, work(1)), (1000, work(2)), (70_000, work(3)), (0, work(4)), (950, work(5))];
        let order: Vec<u32> = biggest_first(sized.into()).iter().map(|work| work.chunk).collect();
        assert_eq!(order, [3, 1, 2, 5, 4]);
    }

    #[tokio::test]
    async fn while_one_chunk_is_held_up_another_connection_takes_all_the_rest() {
        let queue = Queue::new((1..=20).map(work));
        let held_up = queue.next().await.unwrap();
        for _ in 2..=20 {
            let taken = queue.next().await.unwrap();
            assert_ne!(taken.chunk, held_up.chunk);
            queue.finish();
        }
        queue.finish();
        assert!(queue.next().await.is_none());
    }

    #[tokio::test]
    async fn a_chunk_in_other_hands_keeps_the_queue_open_until_it_is_finished_or_given_back() {
        let queue = Queue::new([work(1), work(2)]);
        let out = queue.take_out(|work| work.chunk == 2);
        assert_eq!(out.len(), 1);
        assert_eq!(queue.next().await.unwrap().chunk, 1);
        assert!(queue.is_idle());
        queue.finish();
        let (again, ()) = tokio::join!(queue.next(), async {
            for work in out {
                queue.give_back(work);
            }
        });
        assert_eq!(again.map(|work| (work.chunk, work.failures)), Some((2, 0)));
        queue.finish();
        assert!(queue.next().await.is_none());
    }

    #[tokio::test]
    async fn an_empty_queue_ends_at_once() {
        assert!(Queue::new([]).next().await.is_none());
    }
}
