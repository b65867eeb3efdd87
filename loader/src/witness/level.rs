//! How much is compared.

use std::fmt;

use serde::Serialize;

/// How much is compared. Each level has everything of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Rows only.
    Counts,
    /// Rows, values that are not NULL, and an exact sum of every column.
    #[default]
    Sums,
    /// Also a sum of digests of every text and binary value.
    Hashes,
}

impl Level {
    /// All words, as a pipeline file writes them.
    pub const WORDS: [&'static str; 3] = ["counts", "sums", "hashes"];

    /// The level that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "counts" => Some(Self::Counts),
            "sums" => Some(Self::Sums),
            "hashes" => Some(Self::Hashes),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counts => "counts",
            Self::Sums => "sums",
            Self::Hashes => "hashes",
        })
    }
}
