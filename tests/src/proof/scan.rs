//! Searches a living process: memory, environment, arguments, open files, and what it has logged.
//!
//! The process is stopped while it is read, so that nothing moves between two regions. Reading
//! another user's memory needs root.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::needles::{Needle, Pattern, patterns};

/// One hit: what was found, in which form, where.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The secret's name.
    pub secret: String,
    /// The form it was in.
    pub form: &'static str,
    /// Where it lay.
    pub place: String,
}

/// What a scan saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Bytes of memory that were searched.
    pub memory_bytes: u64,
    /// Bytes of environment, arguments, files and logs that were searched.
    pub other_bytes: u64,
    /// Memory regions searched.
    pub regions: u64,
    /// Memory regions that exist, are readable by the process, and could not be read.
    pub unreadable: Vec<String>,
    /// What was found.
    pub hits: Vec<Hit>,
}

/// The needles of a scan, compiled once.
pub struct Scanner {
    needles: Vec<Needle>,
    patterns: Vec<Pattern>,
    automaton: AhoCorasick,
    longest: usize,
}

/// How much of a region is read at once.
const WINDOW: usize = 4 << 20;

impl Scanner {
    /// Prepares a search for every form of `needles`.
    pub fn new(needles: Vec<Needle>) -> Result<Self> {
        let patterns = patterns(&needles);
        let longest = patterns.iter().map(|pattern| pattern.bytes.len()).max().unwrap_or(1);
        let automaton =
            AhoCorasick::new(patterns.iter().map(|pattern| &pattern.bytes)).context("compile the needles")?;
        Ok(Self { needles, patterns, automaton, longest })
    }

    /// The secrets that are searched for.
    pub fn needles(&self) -> &[Needle] {
        &self.needles
    }

    /// How many byte patterns that makes.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Stops the process, searches it and the given log files, and lets it go on.
    pub fn process(&self, pid: u32, logs: &[PathBuf]) -> Result<Report> {
        let target = Pid::from_raw(pid as i32);
        kill(target, Signal::SIGSTOP).with_context(|| format!("stop process {pid}"))?;
        let outcome = self.stopped(pid, logs);
        kill(target, Signal::SIGCONT).with_context(|| format!("continue process {pid}"))?;
        outcome
    }

    fn stopped(&self, pid: u32, logs: &[PathBuf]) -> Result<Report> {
        let mut report = Report::default();
        self.memory(pid, &mut report)?;
        for (place, path) in [("environment", "environ"), ("arguments", "cmdline")] {
            let bytes = fs::read(format!("/proc/{pid}/{path}"))
                .with_context(|| format!("read the {place} of {pid}"))?;
            report.other_bytes += bytes.len() as u64;
            self.search(&bytes, place, &mut report);
        }
        self.open_files(pid, &mut report)?;
        for log in logs {
            self.file(log, &mut report);
        }
        Ok(report)
    }

    fn memory(&self, pid: u32, report: &mut Report) -> Result<()> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
            .with_context(|| format!("read the maps of {pid}"))?;
        let memory =
            File::open(format!("/proc/{pid}/mem")).with_context(|| format!("open the memory of {pid}"))?;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(mode)) = (words.next(), words.next()) else { continue };
            let name = words.nth(3).unwrap_or("[anonymous]");
            // Pages without read permission hold nothing the process could use; the kernel's own pages are the same for all.
            if !mode.starts_with('r') || matches!(name, "[vvar]" | "[vvar_vclock]" | "[vsyscall]") {
                continue;
            }
            let Some((from, until)) = range.split_once('-') else { continue };
            let (from, until) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(until, 16)?);
            report.regions += 1;
            if let Err(error) = self.region(&memory, from, until, name, report) {
                report.unreadable.push(format!("{range} {name}: {error}"));
            }
        }
        Ok(())
    }

    fn region(
        &self,
        memory: &File,
        from: u64,
        until: u64,
        name: &str,
        report: &mut Report,
    ) -> std::io::Result<()> {
        let overlap = self.longest as u64;
        let mut at = from;
        let mut buffer = vec![0; WINDOW + self.longest];
        while at < until {
            let wanted = (until - at).min(buffer.len() as u64) as usize;
            memory.read_exact_at(&mut buffer[..wanted], at)?;
            self.search(&buffer[..wanted], &format!("{name} at {at:#x}"), report);
            report.memory_bytes += wanted as u64;
            if at + wanted as u64 >= until {
                break;
            }
            at += wanted as u64 - overlap;
            report.memory_bytes -= overlap;
        }
        Ok(())
    }

    fn open_files(&self, pid: u32, report: &mut Report) -> Result<()> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"))
            .with_context(|| format!("list the open files of {pid}"))?;
        for entry in entries.flatten() {
            // Opening through /proc reaches unlinked files too, such as the spool.
            let is_file = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file());
            if is_file {
                self.file(&entry.path(), report);
            }
        }
        Ok(())
    }

    fn file(&self, path: &Path, report: &mut Report) {
        let place = fs::read_link(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        match File::open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                match file.read_to_end(&mut bytes) {
                    Ok(_) => {
                        report.other_bytes += bytes.len() as u64;
                        self.search(&bytes, &place, report);
                    }
                    Err(error) => report.unreadable.push(format!("{place}: {error}")),
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => report.unreadable.push(format!("{place}: {error}")),
        }
    }

    /// Searches bytes that come from somewhere else than a process, such as a recorded exchange.
    pub fn search(&self, bytes: &[u8], place: &str, report: &mut Report) {
        for found in self.automaton.find_overlapping_iter(bytes) {
            let pattern = &self.patterns[found.pattern().as_usize()];
            report.hits.push(Hit {
                secret: self.needles[pattern.needle].name.clone(),
                form: pattern.form,
                place: place.to_owned(),
            });
        }
    }
}
