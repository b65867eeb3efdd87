//! What is done to which run.

use std::fmt;

use keyferry_loader::fail::POINTS;

/// Chunks of the table that every run moves.
pub(super) const CHUNKS: u64 = 41;

/// Points that a run passes once; all others are passed for each chunk.
const ONCE: &[&str] = &[
    "run_opened",
    "staging_made",
    "all_loaded",
    "target_witnessed",
    "marked_verified",
    "before_publish",
    "overwritten",
    "publish_marked",
    "publish_sent",
    "after_publish",
    "staging_dropped",
    "stage_removed",
];

/// A place in the loader's course.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) point: &'static str,
    pub(super) passage: u64,
}

/// One run's misfortune.
#[derive(Clone, Debug)]
pub(super) enum Case {
    /// The loader dies at a point, and its successor at another one if it comes by there.
    Loader(At, Option<At>),
    /// The broker dies, and comes back, while the loader stands at a point.
    Broker(At),
    /// The loader stops at a point, another one does the work, then the first goes on.
    Zombie(At),
    /// The loader dies at a moment, given as a part of an undisturbed run.
    LoaderSometime(f64),
    /// The broker dies at a moment and comes back.
    BrokerSometime(f64),
    /// Both die at a moment.
    BothSometime(f64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.passage)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(at, None) => write!(f, "loader killed at {at}"),
            Self::Loader(at, Some(again)) => write!(f, "loader killed at {at}, then at {again}"),
            Self::Broker(at) => write!(f, "broker killed while the loader is at {at}"),
            Self::Zombie(at) => write!(f, "zombie from {at}"),
            Self::LoaderSometime(part) => write!(f, "loader killed after {part:.3} of a run"),
            Self::BrokerSometime(part) => write!(f, "broker killed after {part:.3} of a run"),
            Self::BothSometime(part) => write!(f, "both killed after {part:.3} of a run"),
        }
    }
}

/// Five kills at each point, and the rest up to `runs` shared among broker, zombies and random moments.
pub(super) fn all(seed: u64, runs: usize) -> Vec<Case> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut cases = Vec::new();
    for round in 0..5 {
        for point in POINTS {
            let first = place(&mut dice, point);
            let other = POINTS[dice.usize(..POINTS.len())];
            let again = (round == 4).then(|| place(&mut dice, other));
            cases.push(Case::Loader(first, again));
        }
    }
    for point in POINTS {
        cases.push(Case::Broker(place(&mut dice, point)));
        cases.push(Case::Zombie(place(&mut dice, point)));
    }
    while cases.len() < runs {
        let part = dice.f64();
        cases.push(match cases.len() % 3 {
            0 => Case::LoaderSometime(part),
            1 => Case::BrokerSometime(part),
            _ => Case::BothSometime(part),
        });
    }
    dice.shuffle(&mut cases);
    cases
}

/// A few of everything.
pub(super) fn sample(seed: u64, runs: usize) -> Vec<Case> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut points: Vec<&'static str> = POINTS.to_vec();
    dice.shuffle(&mut points);
    let mut points = points.into_iter().cycle();
    (0..runs)
        .map(|number| {
            let part = dice.f64();
            let mut at = || place(&mut dice, points.next().expect("a cycle"));
            match number % 8 {
                0..=2 => Case::Loader(at(), None),
                3 => Case::Loader(at(), Some(at())),
                4 => Case::Broker(at()),
                5 => Case::Zombie(at()),
                6 => Case::LoaderSometime(part),
                _ => Case::BothSometime(part),
            }
        })
        .collect()
}

fn place(dice: &mut fastrand::Rng, point: &'static str) -> At {
    let last = if ONCE.contains(&point) { 1 } else { CHUNKS };
    At { point, passage: dice.u64(1..=last) }
}
