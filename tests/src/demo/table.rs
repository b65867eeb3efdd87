//! The proof table: one line for each claim, with what was measured, and the verdict.

use std::io::{IsTerminal as _, Write as _};

/// Claims in order.
#[derive(Default)]
pub(super) struct Proofs {
    lines: Vec<Line>,
}

struct Line {
    claim: String,
    found: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Proved,
    Failed,
    NotProved,
}

impl Proofs {
    /// A claim that held or did not.
    pub(super) fn check(&mut self, claim: impl Into<String>, found: impl Into<String>, holds: bool) {
        let verdict = if holds { Verdict::Proved } else { Verdict::Failed };
        self.lines.push(Line { claim: claim.into(), found: found.into(), verdict });
    }

    /// A claim that this run could not examine.
    pub(super) fn not_proved(&mut self, claim: impl Into<String>, why: impl Into<String>) {
        self.lines.push(Line { claim: claim.into(), found: why.into(), verdict: Verdict::NotProved });
    }

    /// True when nothing failed.
    pub(super) fn hold(&self) -> bool {
        self.lines.iter().all(|line| line.verdict != Verdict::Failed)
    }

    /// Prints the table and the sentence that the exit code repeats.
    pub(super) fn print(&self) {
        let mut out = std::io::stdout().lock();
        let colour = out.is_terminal();
        let width = |pick: fn(&Line) -> &str| {
            self.lines.iter().map(|line| pick(line).chars().count()).max().unwrap_or(0)
        };
        let (claims, finds) = (width(|line| &line.claim), width(|line| &line.found));
        let _ = writeln!(out, "\n{:<claims$}  {:<finds$}  verdict", "claim", "measured");
        let _ = writeln!(out, "{}  {}  ----------", "-".repeat(claims), "-".repeat(finds));
        for line in &self.lines {
            let (word, code) = match line.verdict {
                Verdict::Proved => ("proved", "32"),
                Verdict::Failed => ("FAILED", "31"),
                Verdict::NotProved => ("NOT PROVED", "33"),
            };
            let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
            let _ = writeln!(out, "{:<claims$}  {:<finds$}  {word}", line.claim, line.found);
        }
        let count = |verdict| self.lines.iter().filter(|line| line.verdict == verdict).count();
        let _ = writeln!(
            out,
            "\n{} proved, {} failed, {} not proved here",
            count(Verdict::Proved),
            count(Verdict::Failed),
            count(Verdict::NotProved)
        );
    }
}
