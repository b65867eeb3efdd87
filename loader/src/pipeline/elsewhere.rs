//! Chunks that other processes of the run hold: set aside here until they are loaded, or until their leases are over
//! and they can be claimed. Every wait is for something: its owner is named, and it ends when nothing moves any more.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Failure, Loading, queue::Work, sessions::Sessions, sessions::persist};
use crate::ledger::OpenChunk;

/// How often the ledger is asked about them.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// The longest that none of them may change hands or be loaded.
const LONGEST_WAIT: Duration = Duration::from_hours(4);

/// The chunks in other hands.
#[derive(Debug)]
pub(super) struct Elsewhere(Mutex<State>);

#[derive(Debug)]
struct State {
    held: BTreeMap<(usize, u32), Held>,
    changed: Instant,
    told: String,
}

#[derive(Clone, Debug)]
struct Held {
    work: Work,
    owner: String,
    lease_until: Option<String>,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self(Mutex::new(State { held: BTreeMap::new(), changed: Instant::now(), told: String::new() }))
    }
}

impl Elsewhere {
    /// Sets a chunk aside that somebody else has.
    pub(super) fn put(&self, work: Work, owner: String, lease_until: Option<String>) {
        let mut state = self.lock();
        let place = (work.table, work.chunk);
        if state.held.get(&place).is_none_or(|former| former.owner != owner) {
            state.changed = Instant::now();
        }
        state.held.insert(place, Held { work, owner, lease_until });
    }

    /// The tables of the chunks in other hands.
    pub(super) fn tables(&self) -> Vec<usize> {
        let mut tables: Vec<usize> = self.lock().held.keys().map(|(table, _)| *table).collect();
        tables.dedup();
        tables
    }

    /// The chunks of `table` that are free now, and how many were loaded, by what the ledger says is open.
    fn sort_out(&self, table: usize, open: &BTreeMap<u32, OpenChunk>) -> (Vec<Work>, usize) {
        let mut state = self.lock();
        let (mut free, mut loaded) = (Vec::new(), 0);
        let mine: Vec<u32> =
            state.held.range((table, 0)..=(table, u32::MAX)).map(|((_, chunk), _)| *chunk).collect();
        for chunk in mine {
            match open.get(&chunk) {
                Some(found) if !found.free => {
                    let owner = found.owner.clone().unwrap_or_default();
                    if let Some(held) = state.held.get_mut(&(table, chunk)) {
                        held.lease_until.clone_from(&found.lease_until);
                        if held.owner != owner {
                            held.owner = owner;
                            state.changed = Instant::now();
                        }
                    }
                }
                found => {
                    state.changed = Instant::now();
                    if let Some(held) = state.held.remove(&(table, chunk)) {
                        match found {
                            Some(_) => free.push(held.work),
                            None => loaded += 1,
                        }
                    }
                }
            }
        }
        (free, loaded)
    }

    /// Whom this process waits for, once for each set of owners.
    fn tell(&self) {
        let mut state = self.lock();
        let mut owners: BTreeMap<&str, Vec<&Held>> = BTreeMap::new();
        for held in state.held.values() {
            owners.entry(&held.owner).or_default().push(held);
        }
        let words: Vec<String> = owners
            .iter()
            .map(|(owner, held)| {
                let until = held.iter().filter_map(|held| held.lease_until.as_deref()).max().unwrap_or("now");
                format!("{owner} ({} chunks, lease until {until} UTC)", held.len())
            })
            .collect();
        let told = owners.keys().copied().collect::<Vec<_>>().join(", ");
        if !told.is_empty() && told != state.told {
            tracing::info!("nothing is left to claim; waiting for {}", words.join(", "));
        }
        state.told = told;
    }

    /// The failure of a wait in which nothing moves.
    fn given_up(&self, loading: &Loading) -> Option<Failure> {
        let state = self.lock();
        let held = state.held.values().next().filter(|_| state.changed.elapsed() > LONGEST_WAIT)?;
        Some(Failure::Busy {
            table: loading.reader.table(&held.work).source.clone(),
            chunk: held.work.chunk,
            owner: held.owner.clone(),
            lease_until: held.lease_until.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the ledger what has become of the chunks in other hands, and which of those that wait have got there.
pub(super) async fn look(loading: &Loading, sessions: &mut Sessions) -> Result<(), Failure> {
    for table in loading.elsewhere.tables() {
        let (ledger, run) = (&loading.ledger, loading.run(table));
        let open: Vec<OpenChunk> = persist!(sessions, session => ledger.open_chunks(session, run))?;
        let open: BTreeMap<u32, OpenChunk> = open.into_iter().map(|chunk| (chunk.number, chunk)).collect();
        // What waits and is not free goes aside first; what is loaded is finished below, with the rest.
        for work in loading
            .queue
            .take_out(|work| work.table == table && open.get(&work.chunk).is_none_or(|chunk| !chunk.free))
        {
            let found = open.get(&work.chunk);
            let owner = found.and_then(|chunk| chunk.owner.clone()).unwrap_or_default();
            loading.elsewhere.put(work, owner, found.and_then(|chunk| chunk.lease_until.clone()));
        }
        let (free, loaded) = loading.elsewhere.sort_out(table, &open);
        for work in free {
            loading.queue.give_back(work);
        }
        for _ in 0..loaded {
            loading.reader.progress.chunk();
            loading.queue.finish();
        }
    }
    if loading.queue.is_idle() {
        loading.elsewhere.tell();
    }
    loading.elsewhere.given_up(loading).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyRange;

    fn work(chunk: u32) -> Work {
        Work { table: 0, chunk, range: KeyRange::default(), failures: 0 }
    }

    fn open(number: u32, owner: &str, free: bool) -> (u32, OpenChunk) {
        let chunk = OpenChunk { number, owner: Some(owner.to_owned()), lease_until: None, free };
        (number, chunk)
    }

    #[test]
    fn what_others_loaded_is_done_and_what_they_left_is_free() {
        let elsewhere = Elsewhere::default();
        for chunk in 1..=3 {
            elsewhere.put(work(chunk), "shard 1/2 #1".to_owned(), None);
        }
        let open = BTreeMap::from([open(2, "shard 1/2 #1", true), open(3, "shard 1/2 #1", false)]);
        let (free, loaded) = elsewhere.sort_out(0, &open);
        assert_eq!((free.len(), free[0].chunk, loaded), (1, 2, 1));
        assert_eq!(elsewhere.tables(), [0]);
        let (free, loaded) = elsewhere.sort_out(0, &BTreeMap::new());
        assert_eq!((free.len(), loaded), (0, 1));
        assert!(elsewhere.tables().is_empty());
    }
}
