//! Immutable versions of a table's rows, and a transaction's changes on top of one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{keys::KeyBytes, value::Row};

/// Identifies a row of a table for as long as it lives; ids grow in the order of commits.
pub(crate) type RowId = u64;

/// Ids of rows that are not committed yet begin here.
pub(crate) const PROVISIONAL: RowId = 1 << 62;

const SEGMENT_ROWS: usize = 4096;

type Segment = Vec<(RowId, Row)>;
type SharedIndex = Arc<Mutex<HashMap<KeyBytes, Vec<RowId>>>>;

/// One committed version of a table's rows, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct TableVersion {
    segments: Vec<Arc<Segment>>,
    pub rows: u64,
    pub next_id: RowId,
    /// Per unique key: where a key's rows may be. Shared by all versions of a table, so an entry may be
    /// older or newer than this version: the row itself decides.
    indexes: Mutex<HashMap<usize, SharedIndex>>,
    /// The rows' positions ordered by one column, made at the first range query over it.
    sorted: OnceLock<(usize, Arc<Vec<(u32, u32)>>)>,
}

/// A transaction's changes to one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delta {
    /// Every committed row with a smaller id is gone (TRUNCATE, INSERT OVERWRITE).
    pub deleted_below: RowId,
    /// Committed rows replaced or deleted.
    pub changed: HashMap<RowId, Option<Row>>,
    /// New rows by provisional id, ascending.
    pub inserted: Vec<(RowId, Row)>,
    pub next_provisional: u64,
    /// Whether anything other than appending was done to `inserted`.
    pub rewritten: bool,
}

impl Delta {
    pub(crate) fn is_empty(&self) -> bool {
        self.deleted_below == 0 && self.changed.is_empty() && self.inserted.is_empty()
    }

    pub(crate) fn insert(&mut self, row: Row) -> RowId {
        let id = PROVISIONAL + self.next_provisional;
        self.next_provisional += 1;
        self.inserted.push((id, row));
        id
    }

    /// Replaces (Some) or deletes (None) rows by id, committed or not.
    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = (RowId, Option<Row>)>) {
        let mut own: HashMap<RowId, Option<Row>> = HashMap::new();
        for (id, row) in changes {
            if id >= PROVISIONAL {
                own.insert(id, row);
            } else {
                self.changed.insert(id, row);
            }
        }
        if own.is_empty() {
            return;
        }
        self.rewritten = true;
        let inserted = std::mem::take(&mut self.inserted);
        self.inserted = inserted
            .into_iter()
            .filter_map(|(id, old)| match own.remove(&id) {
                None => Some((id, old)),
                Some(new) => new.map(|new| (id, new)),
            })
            .collect();
    }

    pub(crate) fn clear(&mut self, below: RowId) {
        self.deleted_below = below;
        self.changed.clear();
        self.inserted.clear();
        self.rewritten = true;
    }
}

impl TableVersion {
    /// The first version with these rows.
    pub(crate) fn from_rows(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut version = Self { next_id: 1, ..Self::default() };
        version.push_all(rows.into_iter().enumerate().map(|(index, row)| (index as RowId + 1, row)));
        version
    }

    fn push_all(&mut self, rows: impl Iterator<Item = (RowId, Row)>) {
        let mut last: Segment = match self.segments.last() {
            Some(last) if last.len() < SEGMENT_ROWS => {
                let last = last.as_ref().clone();
                self.segments.pop();
                last
            }
            _ => Vec::new(),
        };
        for (id, row) in rows {
            self.next_id = id + 1;
            self.rows += 1;
            last.push((id, row));
            if last.len() == SEGMENT_ROWS {
                self.segments.push(Arc::new(std::mem::take(&mut last)));
            }
        }
        if !last.is_empty() {
            self.segments.push(Arc::new(last));
        }
    }

    /// The version after a transaction's changes; new rows get their lasting ids here.
    pub(crate) fn apply(&self, delta: &Delta) -> Self {
        let mut segments = Vec::with_capacity(self.segments.len() + 1);
        let mut rows = 0;
        for segment in &self.segments {
            let touched = segment.first().is_some_and(|(id, _)| *id < delta.deleted_below)
                || (!delta.changed.is_empty()
                    && segment.iter().any(|(id, _)| delta.changed.contains_key(id)));
            let segment = if touched {
                Arc::new(segment.iter().filter_map(|(id, row)| seen(delta, *id, row)).collect::<Segment>())
            } else {
                Arc::clone(segment)
            };
            if !segment.is_empty() {
                rows += segment.len() as u64;
                segments.push(segment);
            }
        }
        let indexes = Mutex::new(lock(&self.indexes).clone());
        let mut next = Self { segments, rows, next_id: self.next_id, indexes, sorted: OnceLock::new() };
        let first = self.next_id;
        next.push_all(
            delta.inserted.iter().enumerate().map(|(at, (_, row))| (first + at as RowId, row.clone())),
        );
        next
    }

    /// A version with other rows in the same order (ALTER TABLE).
    pub(crate) fn map(&self, change: impl Fn(&Row) -> Row) -> Self {
        let segments = self
            .segments
            .iter()
            .map(|segment| Arc::new(segment.iter().map(|(id, row)| (*id, change(row))).collect()))
            .collect();
        Self { segments, rows: self.rows, next_id: self.next_id, ..Self::default() }
    }

    /// The row of this id.
    pub(crate) fn get(&self, id: RowId) -> Option<&Row> {
        let at = self.segments.partition_point(|segment| segment.last().is_some_and(|(last, _)| *last < id));
        let segment = self.segments.get(at)?;
        let found = segment.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&segment[found].1)
    }

    fn iter(&self) -> impl Iterator<Item = &(RowId, Row)> {
        self.segments.iter().flat_map(|segment| segment.iter())
    }

    /// Ids of committed rows whose key number `number` may be `key`.
    pub(crate) fn candidates(
        &self,
        number: usize,
        key: &KeyBytes,
        key_of: impl Fn(&Row) -> Option<KeyBytes>,
    ) -> Vec<RowId> {
        let index = Arc::clone(lock(&self.indexes).entry(number).or_insert_with(|| {
            let mut index: HashMap<KeyBytes, Vec<RowId>> = HashMap::new();
            for (id, row) in self.iter() {
                if let Some(key) = key_of(row) {
                    index.entry(key).or_default().push(*id);
                }
            }
            Arc::new(Mutex::new(index))
        }));
        lock(&index).get(key).cloned().unwrap_or_default()
    }

    /// Tells the shared indexes about the rows that a commit added or changed.
    pub(crate) fn extend_indexes(
        &self,
        first_new: RowId,
        delta: &Delta,
        key_of: impl Fn(usize, &Row) -> Option<KeyBytes>,
    ) {
        for (number, index) in lock(&self.indexes).iter() {
            let mut index = lock(index);
            let new = delta.inserted.iter().enumerate().map(|(at, (_, row))| (first_new + at as RowId, row));
            let changed = delta.changed.iter().filter_map(|(id, row)| row.as_ref().map(|row| (*id, row)));
            for (id, row) in new.chain(changed) {
                if let Some(key) = key_of(*number, row) {
                    let ids = index.entry(key).or_default();
                    if !ids.contains(&id) {
                        ids.push(id);
                    }
                }
            }
        }
    }

    /// Positions ordered by a column, for range queries; only one column per version is kept.
    pub(crate) fn sorted_by(
        &self,
        column: usize,
        compare: impl Fn(&Row, &Row) -> std::cmp::Ordering,
    ) -> Option<Arc<Vec<(u32, u32)>>> {
        let (of, positions) = self.sorted.get_or_init(|| {
            let mut positions: Vec<(u32, u32)> = Vec::with_capacity(self.rows as usize);
            for (s, segment) in self.segments.iter().enumerate() {
                positions.extend((0..segment.len()).map(|at| (s as u32, at as u32)));
            }
            positions.sort_by(|a, b| compare(self.at(*a), self.at(*b)));
            (column, Arc::new(positions))
        });
        (*of == column).then(|| Arc::clone(positions))
    }

    /// The row at a position.
    pub(crate) fn at(&self, (segment, at): (u32, u32)) -> &Row {
        &self.segments[segment as usize][at as usize].1
    }

    /// The id at a position.
    pub(crate) fn id_at(&self, (segment, at): (u32, u32)) -> RowId {
        self.segments[segment as usize][at as usize].0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seen(delta: &Delta, id: RowId, row: &Row) -> Option<(RowId, Row)> {
    if id < delta.deleted_below {
        return None;
    }
    match delta.changed.get(&id) {
        None => Some((id, row.clone())),
        Some(None) => None,
        Some(Some(row)) => Some((id, row.clone())),
    }
}

/// A committed version with a transaction's own changes: what a statement sees of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableView {
    pub version: Arc<TableVersion>,
    pub delta: Option<Arc<Delta>>,
}

impl TableView {
    /// How many rows it has.
    pub(crate) fn row_count(&self) -> u64 {
        if self.delta.is_none() { self.version.rows } else { self.clone().scan().count() as u64 }
    }

    /// The row of this id.
    pub(crate) fn get(&self, id: RowId) -> Option<Row> {
        if let Some(delta) = &self.delta {
            if id >= PROVISIONAL {
                let at = delta.inserted.binary_search_by_key(&id, |(id, _)| *id).ok()?;
                return Some(delta.inserted[at].1.clone());
            }
            return self.version.get(id).and_then(|row| seen(delta, id, row)).map(|(_, row)| row);
        }
        self.version.get(id).cloned()
    }

    /// All rows with their ids.
    pub(crate) fn scan(self) -> impl Iterator<Item = (RowId, Row)> + Send + 'static {
        let Self { version, delta } = self;
        let own = delta.clone();
        let committed = (0..version.segments.len()).flat_map(move |segment| {
            let segment = Arc::clone(&version.segments[segment]);
            let delta = delta.clone();
            (0..segment.len()).filter_map(move |at| {
                let (id, row) = &segment[at];
                match &delta {
                    None => Some((*id, row.clone())),
                    Some(delta) => seen(delta, *id, row),
                }
            })
        });
        let inserted = own
            .into_iter()
            .flat_map(|delta| (0..delta.inserted.len()).map(move |at| delta.inserted[at].clone()));
        committed.chain(inserted)
    }

    /// The rows at these positions of the committed version, and the transaction's own.
    pub(crate) fn scan_at(
        self,
        positions: Arc<Vec<(u32, u32)>>,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (RowId, Row)> + Send + 'static {
        let Self { version, delta } = self;
        let own = delta.clone();
        let committed = range.filter_map(move |at| {
            let position = positions[at];
            let (id, row) = (version.id_at(position), version.at(position));
            match &delta {
                None => Some((id, row.clone())),
                Some(delta) => seen(delta, id, row),
            }
        });
        // A row that the transaction changed may have moved into the range: the caller filters again.
        let changed = own.clone().into_iter().flat_map(|delta| {
            let rows: Vec<_> =
                delta.changed.iter().filter_map(|(id, row)| Some((*id, row.clone()?))).collect();
            rows
        });
        let inserted = own
            .into_iter()
            .flat_map(|delta| (0..delta.inserted.len()).map(move |at| delta.inserted[at].clone()));
        let mut seen_ids = std::collections::HashSet::new();
        committed.chain(changed).chain(inserted).filter(move |(id, _)| seen_ids.insert(*id))
    }
}
