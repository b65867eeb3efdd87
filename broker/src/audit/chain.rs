//! Lines that name the line before them, in a file of which only the end grows.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::SystemTime,
};

use aws_lc_rs::digest;
use nix::{fcntl::OFlag, unistd::geteuid};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Outcome, Record,
    checkpoint::{self, Sign},
};

/// The longest line that is ever written, and the furthest back that the last line is looked for.
pub(super) const MAX_LINE: u64 = 64 * 1024;

/// `prev` of the first line of a file.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    id: &'a str,
    time: &'a str,
    #[serde(flatten)]
    record: &'a Record,
    prev: &'a str,
}

#[derive(serde::Deserialize)]
struct Numbered {
    n: u64,
}

/// A record that makes a line longer than [`MAX_LINE`].
#[derive(Debug)]
pub(super) struct TooLong;

/// What is in the file now.
pub(super) struct Appended {
    /// The id of each record's line.
    pub(super) ids: Vec<Result<String, TooLong>>,
    /// The lines, each with its end.
    pub(super) text: Vec<u8>,
}

/// The log's file, and where its chain stands.
pub(super) struct Chain {
    file: File,
    length: u64,
    next: u64,
    prev: String,
    /// The file holds a broken piece that could not be cut off: it must not grow any more.
    torn: bool,
}

impl Chain {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)
            .map_err(|e| io::Error::other(format!("{e}; its folder must exist and belong to the broker")))?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a plain file; give the path of one"));
        }
        if meta.uid() != geteuid().as_raw() {
            let message =
                format!("it belongs to uid {}, not to the broker; give it away or move it", meta.uid());
            return Err(io::Error::other(message));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(io::Error::other("others can write it; take that away (chmod go-w)"));
        }
        let (next, prev, cut) = resume(&mut file, meta.len())?;
        let mut chain = Self { file, length: meta.len(), next, prev, torn: false };
        if cut {
            // A line that a crash cut short stays as it is, and is hashed as it is.
            chain.file.write_all(b"\n")?;
            chain.length += 1;
        }
        Ok(chain)
    }

    /// A chain over any file, to see what happens when it cannot be written.
    #[cfg(test)]
    pub(super) fn over(file: File) -> Self {
        Self { file, length: 0, next: 1, prev: NOTHING.to_owned(), torn: false }
    }

    /// How many lines the file has.
    pub(super) fn lines(&self) -> u64 {
        self.next - 1
    }

    /// Appends one line per record and flushes them together. All of them are in the file, or none is: but for
    /// a record that is too long for a line, which fails alone.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<Appended> {
        self.append_at(&now(), records)
    }

    /// Appends a line that says, signed, where the chain stands.
    pub(super) fn checkpoint(&mut self, signer: &dyn Sign) -> io::Result<Appended> {
        let time = now();
        let signature = signer.sign(checkpoint::text(self.next, &self.prev, &time).as_bytes());
        let (signature, key) = (hex::encode(signature), signer.key_id().to_owned());
        tracing::info!(line = self.next, prev = self.prev, signature, key, "audit checkpoint");
        let record = Record { signature, key, ..Record::new(checkpoint::EVENT, Outcome::Noted) };
        self.append_at(&time, std::slice::from_ref(&record))
    }

    fn append_at(&mut self, time: &str, records: &[Record]) -> io::Result<Appended> {
        if self.torn {
            return Err(io::Error::other(
                "an earlier line could not be taken back; move the file and restart",
            ));
        }
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::other("the file was removed; restart the broker to begin a new one"));
        }
        let (mut text, mut ids) = (Vec::new(), Vec::with_capacity(records.len()));
        let (mut next, mut prev) = (self.next, self.prev.clone());
        for record in records {
            let id = uuid::Uuid::new_v4().simple().to_string();
            let line = serde_json::to_vec(&Line { n: next, id: &id, time, record, prev: &prev })?;
            if line.len() as u64 > MAX_LINE {
                ids.push(Err(TooLong));
                continue;
            }
            prev = hash(&line);
            text.extend_from_slice(&line);
            text.push(b'\n');
            ids.push(Ok(id));
            next += 1;
        }
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            self.torn = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += text.len() as u64;
        (self.next, self.prev) = (next, prev);
        Ok(Appended { ids, text })
    }
}

/// The next line's number, the last line's hash, and whether the last line was cut short.
fn resume(file: &mut File, length: u64) -> io::Result<(u64, String, bool)> {
    if length == 0 {
        return Ok((1, NOTHING.to_owned(), false));
    }
    file.seek(SeekFrom::Start(length.saturating_sub(2 * MAX_LINE)))?;
    let mut tail = Vec::new();
    file.take(2 * MAX_LINE).read_to_end(&mut tail)?;
    let cut = tail.last() != Some(&b'\n');
    let lines = || tail.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let Some(last) = lines().next_back() else { return Ok((1, NOTHING.to_owned(), cut)) };
    // A last line that was cut short has no number to read, yet it counts.
    let number = |line| serde_json::from_slice::<Numbered>(line).ok().map(|line| line.n);
    let next = number(last).map(|n| n + 1).or_else(|| lines().rev().nth(1).and_then(number).map(|n| n + 2));
    match next {
        Some(next) => Ok((next, hash(last), cut)),
        None => Err(io::Error::other("its end is no audit log of this broker; move it away")),
    }
}

pub(super) fn hash(line: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, line))
}

fn now() -> String {
    OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default()
}
