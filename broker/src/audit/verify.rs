//! `broker audit verify`: does the log hold what was written? It reads the file alone, on any machine.

use std::{fmt, io, io::BufRead};

use serde::{Deserialize, Serialize};

use super::{
    chain::{MAX_LINE, NOTHING, hash},
    checkpoint::{self, PublicKey},
};

/// What is wrong with a log, the gravest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// A line is not the one that the line after it was written behind: one of the two was changed, or something
    /// between them was taken out, put in or moved.
    Broken {
        /// The later line, counted from 1 in the file.
        line: u64,
    },
    /// A line has another number than its place.
    Number {
        /// Its place.
        line: u64,
        /// The number that it has.
        found: u64,
    },
    /// The last line has no end: it was cut, or a crash cut it.
    Cut {
        /// Its place.
        line: u64,
    },
    /// There are fewer lines than are known to have been written.
    Short {
        /// How many there are.
        lines: u64,
        /// How many there must be.
        expected: u64,
    },
    /// A checkpoint's signature is not this key's over this log.
    Forged {
        /// Its place.
        line: u64,
        /// The key that it names.
        key: String,
    },
    /// Nothing signed stands behind these lines.
    Unsigned {
        /// The last line that a checkpoint covers; 0 when none does.
        after: u64,
        /// How many lines come after it.
        lines: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { line } => write!(
                f,
                "line {line} was not written behind the line before it: one of them was changed, or a line between them was \
                 taken out, put in or moved"
            ),
            Self::Number { line, found } => write!(f, "line {line} has the number {found}"),
            Self::Cut { line } => write!(f, "line {line} is the last one and has no end: it was cut short"),
            Self::Short { lines, expected } => {
                write!(f, "there are {lines} lines, and {expected} are known to have been written")
            }
            Self::Forged { line, key } => {
                write!(
                    f,
                    "the checkpoint on line {line} (key {key}) was not signed by this key over this log"
                )
            }
            Self::Unsigned { after: 0, lines } => write!(f, "no checkpoint covers any of the {lines} lines"),
            Self::Unsigned { after, lines } => write!(
                f,
                "the {lines} lines after the checkpoint on line {after} are not signed yet: whether some are missing at the \
                 end cannot be seen"
            ),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Lines in the file.
    pub lines: u64,
    /// Checkpoints whose signature holds; all of them when no key was given.
    pub checkpoints: u64,
    /// Lines that a crash cut short; the broker went on behind them.
    pub torn: Vec<u64>,
    /// What is wrong; empty when the log is whole.
    pub findings: Vec<Finding>,
}

/// The most findings that are told: behind the first one hardly anything is news.
const FINDINGS: usize = 20;

#[derive(Deserialize)]
struct Line {
    n: u64,
    prev: String,
    time: String,
    event: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    key: String,
}

/// Reads a log from its first line to its last. Without a key signatures are not looked at; `at_least` is how many lines
/// are known from elsewhere (the metric `keyferry_broker_audit_lines`, the broker's own log).
pub fn verify(mut log: impl BufRead, key: Option<&PublicKey>, at_least: Option<u64>) -> io::Result<Verified> {
    let mut verified = Verified::default();
    let (mut prev, mut covered, mut ended) = (NOTHING.to_owned(), 0, true);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if take_line(&mut log, &mut bytes)? == 0 {
            break;
        }
        verified.lines += 1;
        ended = bytes.last() == Some(&b'\n');
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let place = verified.lines;
        match serde_json::from_slice::<Line>(line) {
            Ok(read) => {
                verified.link(place, &read, &prev);
                if read.event == checkpoint::EVENT && verified.signed(place, &read, key) {
                    verified.checkpoints += 1;
                    covered = place;
                }
            }
            // The line after it says whether it was so when the broker went on.
            Err(_) => verified.torn.push(place),
        }
        prev = hash(line);
    }
    if !ended || verified.torn.last().is_some_and(|&torn| torn == verified.lines) {
        verified.torn.pop();
        verified.find(Finding::Cut { line: verified.lines });
    }
    if let Some(expected) = at_least.filter(|&expected| verified.lines < expected) {
        verified.find(Finding::Short { lines: verified.lines, expected });
    }
    if key.is_some() && covered < verified.lines {
        verified.find(Finding::Unsigned { after: covered, lines: verified.lines - covered });
    }
    Ok(verified)
}

/// One line with its end, and no more memory than the longest line may have.
fn take_line(log: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let length = io::Read::take(&mut *log, MAX_LINE + 2).read_until(b'\n', bytes)?;
    if length as u64 > MAX_LINE + 1 {
        return Err(io::Error::other("it has a line longer than any that a broker writes"));
    }
    Ok(length)
}

impl Verified {
    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS {
            self.findings.push(finding);
        }
    }

    fn link(&mut self, place: u64, line: &Line, prev: &str) {
        if line.prev != prev {
            self.find(Finding::Broken { line: place });
        }
        if line.n != place {
            self.find(Finding::Number { line: place, found: line.n });
        }
    }

    fn signed(&mut self, place: u64, line: &Line, key: Option<&PublicKey>) -> bool {
        let Some(key) = key else { return true };
        if key.verifies(&checkpoint::text(line.n, &line.prev, &line.time), &line.signature) {
            return true;
        }
        self.find(Finding::Forged { line: place, key: line.key.clone() });
        false
    }
}
