//! What was counted.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Result, ensure};
use keyferry_loader::fail::POINTS;

use super::cases::{CHUNKS, Case};

/// What became of one run.
#[derive(Default)]
pub(super) struct Outcome {
    /// Points at which the loader died.
    pub(super) fired: Vec<&'static str>,
    /// Points at which it stood while something else happened.
    pub(super) stopped: Vec<&'static str>,
    pub(super) random: u64,
    pub(super) loader_kills: u64,
    pub(super) broker_kills: u64,
    pub(super) zombies: u64,
    pub(super) asked_to_come_again: u64,
    pub(super) rows: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
}

#[derive(Default)]
pub(super) struct Tally {
    runs: u64,
    failures: Vec<String>,
    killed: BTreeMap<&'static str, u64>,
    stopped: BTreeMap<&'static str, u64>,
    /// Points that some case asked for.
    wanted: BTreeMap<&'static str, u64>,
    sum: Outcome,
}

impl Tally {
    pub(super) fn add(&mut self, case: &Case, run: &Outcome) {
        self.runs += 1;
        if let Case::Loader(at, _) | Case::Broker(at) | Case::Zombie(at) = case {
            *self.wanted.entry(at.point).or_default() += 1;
        }
        for point in &run.fired {
            *self.killed.entry(point).or_default() += 1;
        }
        for point in &run.stopped {
            *self.stopped.entry(point).or_default() += 1;
        }
        self.sum.random += run.random;
        self.sum.loader_kills += run.loader_kills + run.fired.len() as u64;
        self.sum.broker_kills += run.broker_kills;
        self.sum.zombies += run.zombies;
        self.sum.asked_to_come_again += run.asked_to_come_again;
        self.sum.rows += run.rows;
        self.sum.lost += run.lost;
        self.sum.doubled += run.doubled;
    }

    /// Notes a run that went wrong; returns how many did.
    pub(super) fn failed(&mut self, failure: String) -> usize {
        self.failures.push(failure);
        self.failures.len()
    }

    pub(super) fn report(&self, seed: u64, planned: usize) -> String {
        let mut text = format!("\nCHAOS  seed {seed}, {planned} runs of {CHUNKS} chunks, 4 committers\n");
        let _ = writeln!(text, "  {:<18} {:>12} {:>24}", "point", "loader kill", "broker kill or zombie");
        for point in POINTS {
            let count = |of: &BTreeMap<_, u64>| of.get(point).copied().unwrap_or(0);
            let _ = writeln!(text, "  {point:<18} {:>12} {:>24}", count(&self.killed), count(&self.stopped));
        }
        let sum = &self.sum;
        let _ = write!(
            text,
            "  runs {}  failed {}  loader kills {}  broker kills {}  zombies {}  at random moments {}\n  \
             undisturbed runs that asked to come again {}\n  rows compared {}  lost {}  doubled {}\n",
            self.runs,
            self.failures.len(),
            sum.loader_kills,
            sum.broker_kills,
            sum.zombies,
            sum.random,
            sum.asked_to_come_again,
            sum.rows,
            sum.lost,
            sum.doubled,
        );
        text
    }

    /// Fails when a run is missing, a row is not where it should be, or a point that was asked for never fired.
    pub(super) fn verdict(&self, planned: usize) -> Result<()> {
        ensure!(self.failures.is_empty(), "runs that went wrong:\n{}", self.failures.join("\n"));
        ensure!(self.runs == planned as u64, "{} of {planned} runs ended", self.runs);
        ensure!(self.sum.lost == 0 && self.sum.doubled == 0, "rows were lost or doubled");
        for (point, wanted) in &self.wanted {
            let fired = [&self.killed, &self.stopped].iter().filter_map(|of| of.get(point)).sum::<u64>();
            ensure!(fired >= *wanted, "the point {point} fired {fired} times where {wanted} were asked for");
        }
        Ok(())
    }
}
