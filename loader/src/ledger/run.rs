//! What the ledger's rows mean.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    model::{Bound, KeyRange, TablePlan, TargetName},
    publish::Published,
};

/// The life of a chunk. It only moves forward; a claim is taken over, never undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChunkState {
    /// Nobody has begun.
    Planned,
    /// An owner works on it, under a lease.
    Claimed,
    /// Its rows are in the staging table.
    Loaded,
    /// Source and staging table agree.
    Verified,
    /// Its rows are in the target.
    Published,
}

impl ChunkState {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "planned" => Self::Planned,
            "claimed" => Self::Claimed,
            "loaded" => Self::Loaded,
            "verified" => Self::Verified,
            "published" => Self::Published,
            _ => return None,
        })
    }

    /// True when the chunk's rows are durably in the staging table or beyond.
    pub fn is_loaded(self) -> bool {
        self >= Self::Loaded
    }
}

/// One run of one table.
#[derive(Clone, Debug)]
pub struct Run {
    /// Letters, digits and `_`; begins with a letter.
    pub run_id: String,
    /// True when another process began it.
    pub resumed: bool,
    /// The target's name, as the ledger has it.
    pub table: String,
    /// This run's own staging table: no zombie of another run can write into it.
    pub staging: TargetName,
    /// The chunks, in the order of their numbers.
    pub chunks: Vec<LedgerChunk>,
}

impl Run {
    pub(super) fn new(run_id: String, resumed: bool, plan: &TablePlan) -> Self {
        let staging = staging_of(plan, &run_id);
        Self { run_id, resumed, table: plan.target.name.clone(), staging, chunks: Vec::new() }
    }

    /// The other owners whose leases are not over, for the sentence that says whom one waits for.
    pub fn others(&self, owner: &str) -> Vec<&str> {
        let mut others: Vec<&str> = self
            .chunks
            .iter()
            .filter(|chunk| chunk.state == ChunkState::Claimed && !chunk.lease_over)
            .filter_map(|chunk| chunk.owner.as_deref())
            .filter(|&other| other != owner)
            .collect();
        others.sort_unstable();
        others.dedup();
        others
    }
}

/// The staging table of one run.
pub(crate) fn staging_of(plan: &TablePlan, run_id: &str) -> TargetName {
    TargetName { name: format!("{}_{}", plan.staging.name, run_id.to_uppercase()), ..plan.staging.clone() }
}

/// A name that no other run has and that sorts by time.
pub(super) fn new_run_id() -> String {
    let now = OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    let unique = Uuid::new_v4().simple().to_string();
    format!(
        "r{:04}{:02}{:02}_{:02}{:02}{:02}_{}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        &unique[..12]
    )
}

/// One chunk as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerChunk {
    /// Its number within the table.
    pub number: u32,
    /// Its key range.
    pub range: KeyRange,
    /// How far it is.
    pub state: ChunkState,
    /// Who claimed it last.
    pub owner: Option<String>,
    /// How often it was claimed.
    pub attempt: u64,
    /// Rows loaded.
    pub rows: Option<u64>,
    /// Source bytes loaded.
    pub bytes: Option<u64>,
    /// The loader's witness, JSON.
    pub witness: Option<String>,
    /// True when nobody holds a living lease.
    pub lease_over: bool,
}

impl LedgerChunk {
    pub(super) fn from_row(row: &[Option<String>]) -> Option<Self> {
        let text = |index: usize| row.get(index).and_then(Clone::clone);
        let count = |index: usize| text(index).and_then(|value| value.parse().ok());
        let bound = |text: Option<String>| match text {
            None => Some(None),
            Some(text) => Bound::from_text(&text).map(Some),
        };
        Some(Self {
            number: text(0)?.parse().ok()?,
            range: KeyRange { lower: bound(text(1))?, upper: bound(text(2))? },
            state: ChunkState::parse(&text(3)?)?,
            owner: text(4),
            attempt: text(5)?.parse().ok()?,
            rows: count(6),
            bytes: count(7),
            witness: text(8),
            lease_over: text(9).is_some_and(|flag| flag == "1"),
        })
    }
}

/// The folder of a chunk's files, under the run's own.
pub(crate) fn chunk_folder(chunk: u32) -> String {
    format!("c{chunk:05}")
}

/// The right to load one chunk: only the holder of the ledger's latest attempt can commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The chunk's number.
    pub chunk: u32,
    /// The attempt's number.
    pub attempt: u64,
    prefix: String,
}

impl Claim {
    pub(super) fn new(run: &Run, chunk: u32, attempt: u64) -> Self {
        let unique = Uuid::new_v4().simple();
        Self { chunk, attempt, prefix: format!("{}/{}/a{attempt}_{unique}", run.run_id, chunk_folder(chunk)) }
    }

    /// Where this attempt's files lie in the stage. No other attempt has the same.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the attempt's file number `part`, counted from 0.
    pub fn file_name(&self, part: usize) -> String {
        format!("part{part:03}.parquet")
    }
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours.
    Mine(Claim),
    /// It is loaded, or further.
    Done(ChunkState),
    /// Another owner works on it.
    Other {
        /// Who.
        owner: String,
        /// Until when, by Snowflake's clock, UTC.
        lease_until: Option<String>,
    },
}

/// What an attempt with an unknown outcome came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaimed {
    /// Its commit took effect.
    Loaded,
    /// It did not and cannot any more; this is the next attempt.
    Again(Claim),
    /// Somebody else has taken the chunk over: stop.
    Lost {
        /// Who.
        owner: String,
    },
}

/// A run in the words of `loader status`: one entry for each state that its chunks are in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunStatus {
    /// The target table.
    pub table: String,
    /// The run.
    pub run_id: String,
    /// The state.
    pub state: String,
    /// Chunks in this state.
    pub chunks: u64,
    /// Rows of these.
    pub rows: u64,
    /// Source bytes of these.
    pub bytes: u64,
    /// The latest commit among these, UTC.
    pub committed_at: Option<String>,
    /// Who works on them, if they are claimed.
    pub owner: Option<String>,
    /// Until when, if nobody renews it, by Snowflake's clock, UTC.
    pub lease_until: Option<String>,
}

impl RunStatus {
    pub(super) fn from_row(row: &[Option<String>]) -> Self {
        let text = |index: usize| row.get(index).and_then(Clone::clone);
        let count = |index: usize| text(index).and_then(|value| value.parse().ok()).unwrap_or(0);
        Self {
            table: text(0).unwrap_or_default(),
            run_id: text(1).unwrap_or_default(),
            state: text(2).unwrap_or_default(),
            chunks: count(3),
            rows: count(4),
            bytes: count(5),
            committed_at: text(6),
            lease_until: text(7).and_then(|_| text(8)),
            owner: text(7),
        }
    }
}

/// How many chunks are in which state, with how many rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct States(Vec<(String, u64, u64, u64)>);

impl States {
    pub(super) fn from_rows(rows: &[Vec<Option<String>>]) -> Option<Self> {
        let read = |row: &Vec<Option<String>>| {
            let text = |index: usize| row.get(index).and_then(Clone::clone);
            let sum = |index| text(index).map_or(Some(0), |sum| sum.parse().ok());
            Some((text(0)?, text(1)?.parse().ok()?, sum(2)?, sum(3)?))
        };
        rows.iter().map(read).collect::<Option<Vec<_>>>().map(Self)
    }

    pub(crate) fn count(&self, state: &str) -> u64 {
        self.0.iter().filter(|(name, ..)| name == state).map(|(_, chunks, ..)| chunks).sum()
    }

    /// True when every chunk of the run is in this state.
    pub(crate) fn all(&self, state: &str, run: &Run) -> bool {
        let chunks = run.chunks.len() as u64;
        self.chunks() == chunks && self.count(state) == chunks
    }

    /// The run, if it is published.
    pub(crate) fn published(&self, run: &Run) -> Option<Published> {
        let published = Published { rows: self.rows(), bytes: self.bytes(), already: true };
        self.all("published", run).then_some(published)
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.0.iter().map(|(_, chunks, ..)| chunks).sum()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.0.iter().map(|(_, _, rows, _)| rows).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|(.., bytes)| bytes).sum()
    }
}

impl std::fmt::Display for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> =
            self.0.iter().map(|(state, chunks, ..)| format!("{chunks} {state}")).collect();
        f.write_str(if words.is_empty() { "no chunk".to_owned() } else { words.join(", ") }.as_str())
    }
}
