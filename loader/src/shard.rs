//! Which part of a run a process begins with, when several processes share one run.

use std::{fmt, str::FromStr};

/// The variables that a Kubernetes Job's pods have: the first is set by an Indexed Job itself.
pub const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// How many there are; the Job's `completions`, given to the pods by their manifest.
pub const COUNT_VARIABLE: &str = "JOB_COMPLETION_COUNT";

/// More processes than this for one run would wait for each other at the ledger.
const MOST: u32 = 1000;

/// One of `count` shares, counted from 0. A share is where a process begins; then it claims what others have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub(crate) index: u32,
    pub(crate) count: u32,
}

/// Why a shard is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShardError {
    /// Not `i/n`.
    #[error(
        "{0:?} is no shard: write INDEX/COUNT with INDEX from 0 to COUNT - 1, for example 0/4 (at most {MOST})"
    )]
    Text(String),
    /// One variable without the other.
    #[error(
        "{INDEX_VARIABLE} is set and {COUNT_VARIABLE} is not: every pod would take itself for the whole run. Give the pods \
         {COUNT_VARIABLE} with the Job's `completions`, or use --shard"
    )]
    NoCount,
}

impl Default for Shard {
    /// The whole run.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Shard {
    /// True for the chunks that this process begins with.
    pub fn has(self, chunk: u32) -> bool {
        chunk % self.count == self.index
    }

    /// The shard that the environment names, if it names one.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ShardError> {
        match (variable(INDEX_VARIABLE), variable(COUNT_VARIABLE)) {
            (None, _) => Ok(None),
            (Some(_), None) => Err(ShardError::NoCount),
            (Some(index), Some(count)) => format!("{index}/{count}").parse().map(Some),
        }
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parsed = text.split_once('/').and_then(|(index, count)| {
            Some(Self { index: index.trim().parse().ok()?, count: count.trim().parse().ok()? })
        });
        parsed
            .filter(|shard| shard.index < shard.count && shard.count <= MOST)
            .ok_or_else(|| ShardError::Text(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    /// As owners begin in the ledger.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_in_the_share_of_exactly_one_shard() {
        let shards: Vec<Shard> = (0..3).map(|index| format!("{index}/3").parse().unwrap()).collect();
        for chunk in 1..100 {
            assert_eq!(shards.iter().filter(|shard| shard.has(chunk)).count(), 1, "{chunk}");
        }
        assert!((1..100).all(|chunk| Shard::default().has(chunk)));
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "1/1", "3/2", "-1/2", "0/0", "a/b", "0/1001", "0/1/2"] {
            assert_eq!(text.parse::<Shard>(), Err(ShardError::Text(text.into())), "{text}");
        }
    }

    #[test]
    fn a_jobs_pod_knows_its_share_from_its_environment_and_an_index_alone_is_refused() {
        let both = |name: &str| Some(if name == INDEX_VARIABLE { "2" } else { "5" }.to_owned());
        assert_eq!(Shard::from_environment(both), Ok(Some("2/5".parse().unwrap())));
        assert_eq!(Shard::from_environment(|_| None), Ok(None));
        let index = |name: &str| (name == INDEX_VARIABLE).then(|| "2".to_owned());
        assert_eq!(Shard::from_environment(index), Err(ShardError::NoCount));
    }
}
