//! The one memory budget of a run. Who wants to hold something takes a permit for it first, and the permit travels
//! with it; the sizes are the plan's (`plan/memory.rs`).
//!
//! A chunk takes a lane before it is read, so that with little memory fewer chunks are on their way. Within its lane
//! it has two batches. A row that is wider than a batch takes the wide lane, of which there is one: its holder needs
//! nothing else to finish, so nobody waits in a circle.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;
use crate::{extract::Room, plan::Sizes};

const KIB: usize = 1024;
/// The batch that is being filled and the one that is being encoded.
const BATCHES: usize = 2;

/// Shared by all connections.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    sizes: Sizes,
    lanes: Arc<Semaphore>,
    wide: Arc<Semaphore>,
}

/// The memory of one chunk on its way; dropping it lets another one begin.
#[derive(Debug)]
pub(super) struct Lane {
    _permit: OwnedSemaphorePermit,
}

/// The memory of one chunk's batches, inside its lane.
#[derive(Debug)]
pub(super) struct Batches {
    /// In KiB.
    room: Arc<Semaphore>,
    batch: usize,
}

/// What a batch on its way to the encoder has taken. It goes back when the batch is gone and, if it held a wide
/// row, the row group with it.
#[derive(Debug)]
pub(super) struct Paid {
    _batch: OwnedSemaphorePermit,
    _wide: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(sizes: Sizes) -> Self {
        let lanes = Arc::new(Semaphore::new(sizes.lanes));
        Self { sizes, lanes, wide: Arc::new(Semaphore::new(1)) }
    }

    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Waits for a lane.
    pub(super) async fn lane(&self) -> Result<Lane, Failure> {
        let permit = Arc::clone(&self.lanes).acquire_owned().await.map_err(|_| gone())?;
        Ok(Lane { _permit: permit })
    }

    /// The batches of a chunk that has a lane.
    pub(super) fn batches(&self) -> Batches {
        let room = Arc::new(Semaphore::new(kib(self.sizes.batch) as usize * BATCHES));
        Batches { room, batch: self.sizes.batch }
    }

    /// Room for one batch's wide row.
    pub(super) fn wide(&self) -> Wide {
        Wide { lane: Arc::clone(&self.wide), sizes: self.sizes, permit: None }
    }
}

impl Batches {
    /// Waits until a full batch may be held.
    pub(super) async fn reserve(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.room).acquire_many_owned(kib(self.batch)).await.map_err(|_| gone())
    }
}

/// Takes the wide lane when a row asks for it.
#[derive(Debug)]
pub(super) struct Wide {
    lane: Arc<Semaphore>,
    sizes: Sizes,
    permit: Option<OwnedSemaphorePermit>,
}

impl Room for Wide {
    fn largest_value(&self) -> usize {
        self.sizes.largest_value
    }

    async fn widen(&mut self) -> usize {
        if self.permit.is_none() {
            // Never closed; if it were, there would be no room.
            self.permit = Arc::clone(&self.lane).acquire_owned().await.ok();
        }
        self.permit.as_ref().map_or(0, |_| self.sizes.wide_row)
    }
}

impl Paid {
    /// For a batch of `bytes`: what it does not use goes back at once.
    pub(super) fn new(mut batch: OwnedSemaphorePermit, wide: Wide, bytes: usize) -> Self {
        let surplus = batch.num_permits().saturating_sub(kib(bytes) as usize);
        drop(batch.split(surplus));
        Self { _batch: batch, _wide: wide.permit }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX).max(1)
}

fn gone() -> Failure {
    Failure::Lost("the memory budget")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(lanes: usize) -> Budget {
        Budget::new(Sizes {
            lanes,
            lane: 16 << 20,
            batch: 1 << 20,
            full: 1 << 20,
            row_group: 1 << 20,
            part: 5 << 20,
            wide: 30 << 20,
            wide_row: 9 << 20,
            largest_value: 8 << 20,
        })
    }

    #[tokio::test]
    async fn a_chunk_beyond_the_lanes_waits_until_one_is_free() {
        let budget = budget(1);
        let first = budget.lane().await.unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.lane().await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_third_full_batch_waits_and_small_ones_do_not() {
        let budget = budget(1);
        let batches = budget.batches();
        let full = Paid::new(batches.reserve().await.unwrap(), budget.wide(), 1 << 20);
        let small = Paid::new(batches.reserve().await.unwrap(), budget.wide(), 1000);
        assert_eq!(batches.room.available_permits(), 1023);
        drop(small);
        assert_eq!(batches.room.available_permits(), 1024);
        drop(full);
        assert_eq!(batches.room.available_permits(), 2048);
    }

    #[tokio::test]
    async fn one_row_at_a_time_is_wide_until_its_pages_are_written() {
        let budget = budget(2);
        let batches = budget.batches();
        let mut wide = budget.wide();
        assert_eq!((wide.widen().await, wide.widen().await), (9 << 20, 9 << 20), "asked twice, taken once");
        let paid = Paid::new(batches.reserve().await.unwrap(), wide, 1 << 20);
        assert_eq!(budget.wide.available_permits(), 0);
        drop(paid);
        assert_eq!(budget.wide.available_permits(), 1);
    }
}
