//! Chaos: loader and broker are killed (-9) at every crash point and at random moments, zombies wake up late, and
//! whatever happened the next run must leave the target exact. Seeded: the same seed makes the same plan.
//!
//! A sample runs with the other tests; `make chaos` runs all of it and prints what it counted.

mod cases;
mod check;
mod run;
mod table;
mod tally;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use keyferry_e2e::world::Options;
use libtest_mimic::Trial;

use self::{cases::Case, run::Arena, tally::Tally};
use crate::harness::{Stage, test};

/// Worlds that work side by side.
const ARENAS: usize = 2;
/// A sample of this many runs belongs to the ordinary tests.
const SAMPLE: usize = 16;
/// After so many failed runs there is nothing more to learn.
const MOST_FAILURES: usize = 8;

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("chaos_sample_killed_at_points_and_at_random_the_next_run_is_exact", || async {
        let seed = number("KEYFERRY_CHAOS_SEED", 7);
        chaos(cases::sample(seed, SAMPLE), seed).await
    }));
    let all = test("chaos_every_point_five_kills_and_random_ones_the_next_run_is_exact", || async {
        let seed = number("KEYFERRY_CHAOS_SEED", 1);
        chaos(cases::all(seed, number("KEYFERRY_CHAOS_RUNS", 300) as usize), seed).await
    });
    trials.push(all.with_ignored_flag(true));
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn chaos(cases: Vec<Case>, seed: u64) -> Result<()> {
    let planned = cases.len();
    let cases = Arc::new(Mutex::new(cases.into_iter().enumerate().collect::<VecDeque<_>>()));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let arenas = (0..ARENAS).map(|_| tokio::spawn(work(Arc::clone(&cases), Arc::clone(&tally), seed)));
    for arena in arenas.collect::<Vec<_>>() {
        arena.await??;
    }
    let tally = tally.lock().expect("no arena panicked");
    println!("{}", tally.report(seed, planned));
    tally.verdict(planned)
}

/// Takes case after case in one world; after a failed case in a new one, since what it left would taint the next.
async fn work(cases: Arc<Mutex<VecDeque<(usize, Case)>>>, tally: Arc<Mutex<Tally>>, seed: u64) -> Result<()> {
    let options = Options { idle_transaction: Duration::from_secs(2), ..Options::default() };
    let mut open: Option<Arena> = None;
    loop {
        let next = cases.lock().expect("no arena panicked").pop_front();
        let Some((number, case)) = next else { break };
        let mut arena = match open.take() {
            Some(arena) => arena,
            None => Arena::open(Stage::with(&options).await?).await?,
        };
        match arena.run(number, &case, seed).await {
            Ok(ended) => {
                tally.lock().expect("no arena panicked").add(&case, &ended);
                open = Some(arena);
            }
            Err(error) => {
                let failure = format!("run {number}: {case}: {error:#}");
                if tally.lock().expect("no arena panicked").failed(failure) >= MOST_FAILURES {
                    break;
                }
                arena.close().await?;
            }
        }
    }
    match open {
        Some(arena) => arena.close().await,
        None => Ok(()),
    }
}
