//! Locks: on tables, rows and keys, held to the end of a transaction, with time-outs and deadlock detection.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{keys::KeyBytes, state::TableId, storage::RowId};

pub(crate) type TransactionId = u64;

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    Table(TableId),
    Row(TableId, RowId),
    Key(TableId, usize, KeyBytes),
}

/// How. On rows and keys only `Exclusive` is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    IntentExclusive,
    Shared,
    Exclusive,
}

impl Mode {
    fn compatible(self, other: Self) -> bool {
        matches!((self, other), (Self::IntentExclusive, Self::IntentExclusive) | (Self::Shared, Self::Shared))
    }
}

/// Why a lock was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    TimedOut,
    Deadlock,
    TooManyWaiters,
}

#[derive(Default)]
struct Table {
    held: HashMap<Resource, Vec<(TransactionId, Mode)>>,
    waiting: Vec<Waiter>,
    next_waiter: u64,
}

struct Waiter {
    id: u64,
    transaction: TransactionId,
    resource: Resource,
    mode: Mode,
    wake: Option<oneshot::Sender<()>>,
}

/// A held lock, or one that is waited for, as lock views show it.
#[derive(Debug, Clone)]
pub(crate) struct LockRow {
    pub resource: Resource,
    pub transaction: TransactionId,
    pub mode: Mode,
    pub granted: bool,
}

/// All locks of a server.
#[derive(Default)]
pub(crate) struct Locks(Mutex<Table>);

impl Locks {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the lock is granted. True: it had to wait, so what was read before may be old.
    pub(crate) async fn acquire(
        &self,
        transaction: TransactionId,
        resource: Resource,
        mode: Mode,
        timeout: Option<Duration>,
        max_waiters: usize,
    ) -> Result<bool, Refused> {
        let deadline = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
        let (waiter, mut woken) = {
            let mut table = self.table();
            if table.try_grant(transaction, &resource, mode, u64::MAX) {
                return Ok(false);
            }
            if timeout == Some(Duration::ZERO) {
                return Err(Refused::TimedOut);
            }
            if table.waiting.iter().filter(|waiter| waiter.resource == resource).count() >= max_waiters {
                return Err(Refused::TooManyWaiters);
            }
            let (wake, woken) = oneshot::channel();
            let id = table.next_waiter;
            table.next_waiter += 1;
            table.waiting.push(Waiter {
                id,
                transaction,
                resource: resource.clone(),
                mode,
                wake: Some(wake),
            });
            if table.is_deadlocked(transaction) {
                table.waiting.retain(|waiter| waiter.id != id);
                return Err(Refused::Deadlock);
            }
            (Waiting { locks: self, id }, woken)
        };
        loop {
            let outcome = if let Some(deadline) = deadline {
                tokio::time::timeout_at(deadline, &mut woken).await.is_ok()
            } else {
                let _ = (&mut woken).await;
                true
            };
            let mut table = self.table();
            if table.try_grant(transaction, &resource, mode, waiter.id) {
                drop(table);
                return Ok(true);
            }
            if !outcome {
                drop(table);
                return Err(Refused::TimedOut);
            }
            let (wake, again) = oneshot::channel();
            woken = again;
            if let Some(entry) = table.waiting.iter_mut().find(|entry| entry.id == waiter.id) {
                entry.wake = Some(wake);
            }
            if table.is_deadlocked(transaction) {
                drop(table);
                return Err(Refused::Deadlock);
            }
        }
    }

    /// Frees everything that a transaction holds.
    pub(crate) fn release(&self, transaction: TransactionId) {
        let mut table = self.table();
        table.held.retain(|_, holders| {
            holders.retain(|(holder, _)| *holder != transaction);
            !holders.is_empty()
        });
        table.wake();
    }

    /// Every lock, granted and waited for.
    pub(crate) fn rows(&self) -> Vec<LockRow> {
        let table = self.table();
        let held = table.held.iter().flat_map(|(resource, holders)| {
            holders.iter().map(|(transaction, mode)| LockRow {
                resource: resource.clone(),
                transaction: *transaction,
                mode: *mode,
                granted: true,
            })
        });
        let waiting = table.waiting.iter().map(|waiter| LockRow {
            resource: waiter.resource.clone(),
            transaction: waiter.transaction,
            mode: waiter.mode,
            granted: false,
        });
        held.chain(waiting).collect()
    }
}

/// Takes a waiter off the queue however its wait ends.
struct Waiting<'a> {
    locks: &'a Locks,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut table = self.locks.table();
        table.waiting.retain(|waiter| waiter.id != self.id);
        table.wake();
    }
}

impl Table {
    /// Who stands in the way: holders, and waiters that came before `waiter`.
    fn blockers(
        &self,
        transaction: TransactionId,
        resource: &Resource,
        mode: Mode,
        waiter: u64,
    ) -> HashSet<u64> {
        let holders = self.held.get(resource).into_iter().flatten();
        let holds = holders.clone().any(|(holder, _)| *holder == transaction);
        let mut blockers: HashSet<u64> = holders
            .filter(|(holder, held)| *holder != transaction && !mode.compatible(*held))
            .map(|(holder, _)| *holder)
            .collect();
        // Who already holds the resource may upgrade past the queue.
        if !holds {
            blockers.extend(
                self.waiting
                    .iter()
                    .filter(|other| {
                        other.id < waiter
                            && other.transaction != transaction
                            && other.resource == *resource
                            && !mode.compatible(other.mode)
                    })
                    .map(|other| other.transaction),
            );
        }
        blockers
    }

    fn try_grant(
        &mut self,
        transaction: TransactionId,
        resource: &Resource,
        mode: Mode,
        waiter: u64,
    ) -> bool {
        if !self.blockers(transaction, resource, mode, waiter).is_empty() {
            return false;
        }
        let holders = self.held.entry(resource.clone()).or_default();
        match holders.iter_mut().find(|(holder, _)| *holder == transaction) {
            None => holders.push((transaction, mode)),
            Some((_, held)) if *held == mode || *held == Mode::Exclusive => {}
            // Shared and intent together are as good as exclusive here.
            Some((_, held)) => *held = Mode::Exclusive,
        }
        true
    }

    fn is_deadlocked(&self, transaction: TransactionId) -> bool {
        let mut open = vec![transaction];
        let mut seen = HashSet::new();
        while let Some(current) = open.pop() {
            for waiter in self.waiting.iter().filter(|waiter| waiter.transaction == current) {
                for blocker in self.blockers(current, &waiter.resource, waiter.mode, waiter.id) {
                    if blocker == transaction {
                        return true;
                    }
                    if seen.insert(blocker) {
                        open.push(blocker);
                    }
                }
            }
        }
        false
    }

    fn wake(&mut self) {
        for waiter in &mut self.waiting {
            if let Some(wake) = waiter.wake.take() {
                let _ = wake.send(());
            }
        }
    }
}
