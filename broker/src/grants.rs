//! The bearer tokens held now. Reading one needs a [`Permit`]; a valid one is served at once, always.
//!
//! Each grant has one [`Slot`], which one renewal task ([`renew`](crate::renew)) fills. Callers never
//! call an issuer: they read the slot, or ask the task for one more attempt and wait for it together.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyferry_proto::grant::Grant;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{clock::End, config::GrantName, limits::Allowance, policy::Permit, upstream::UpstreamError};

/// How long a caller waits for a token that has to be issued first.
const PATIENCE: Duration = Duration::from_secs(25);

/// So often may callers have a token renewed while it still serves others: a few times at once, then slowly.
const EARLY_RENEWALS: u32 = 3;
const EARLY_RENEWAL_EVERY: Duration = Duration::from_secs(20);

/// How recent a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Issued while this caller waited.
    Fresh,
    /// Held; a renewal is not due or runs behind.
    Cached,
    /// Held; the last renewal failed.
    UpstreamDown,
}

/// What a caller wants of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand<'a> {
    /// The token must live at least this long.
    pub min_ttl: Duration,
    /// The generation that the upstream refused: this demand wants another. Others are served what is held.
    pub rejected: Option<&'a str>,
}

/// A token for a caller.
#[derive(Clone, Debug)]
pub struct Served {
    /// The token.
    pub grant: Grant,
    /// How recent it is.
    pub freshness: Freshness,
}

/// Why there is no token for a caller.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The grant is not one of bearer tokens.
    #[error("the grant `{0}` has no bearer token; it is relayed, use Initiate")]
    NotABearer(GrantName),
    /// No token of this issuer lives as long as the caller wants.
    #[error(
        "min_ttl of {} was asked, but the longest token that `{grant}` ever had lives {}; ask for less",
        humantime::format_duration(*asked),
        humantime::format_duration(Duration::from_secs(longest.as_secs()))
    )]
    TtlTooLong {
        /// The grant.
        grant: GrantName,
        /// What the caller wants.
        asked: Duration,
        /// The longest life seen.
        longest: Duration,
    },
    /// The issuer did not give one.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The token serves, this caller wants another, and callers have had it renewed too often.
    #[error(
        "`{grant}` was renewed for callers {EARLY_RENEWALS} times just now, and the token that is held has not ended; \
         ask again in {} s",
        wait.as_secs().max(1)
    )]
    TooOften {
        /// The grant.
        grant: GrantName,
        /// When to ask again.
        wait: Duration,
    },
    /// The issuer took too long for this caller.
    #[error("no token of `{grant}` was issued within {} s; try again", PATIENCE.as_secs())]
    TimedOut {
        /// The grant.
        grant: GrantName,
    },
}

/// All slots, by grant.
pub struct Grants {
    slots: BTreeMap<GrantName, Arc<Slot>>,
}

impl Grants {
    /// Empty slots for these grants.
    pub fn new(names: impl IntoIterator<Item = GrantName>) -> Self {
        Self { slots: names.into_iter().map(|name| (name.clone(), Arc::new(Slot::new(name)))).collect() }
    }

    /// The token that `permit` allows, as `demand` wants it.
    pub async fn current(&self, permit: &Permit, demand: Demand<'_>) -> Result<Served, GrantError> {
        self.slot(permit)?.serve(demand).await
    }

    /// The token that follows the one of `generation`: waits for it, and asks nobody to hurry.
    pub async fn after(&self, permit: &Permit, generation: &str) -> Result<Served, GrantError> {
        Ok(self.slot(permit)?.after(generation).await)
    }

    /// When the token held for `grant` ends; none when none is held.
    pub fn held_until(&self, grant: &GrantName) -> Option<SystemTime> {
        let view = self.slots.get(grant)?.view.borrow();
        view.held.as_ref().filter(|held| held.serves()).map(|held| held.grant.expires_at())
    }

    /// Starts a renewal because the upstream refused the token of this generation; what is held serves on until
    /// the new one is there. False when it is not held, or was renewed too often.
    pub fn renew(&self, permit: &Permit, generation: &str) -> bool {
        self.slot(permit).is_ok_and(|slot| slot.renew_if_held(generation))
    }

    /// Every slot, for the renewal tasks and for health.
    pub fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.values()
    }

    /// Forgets every token; each wipes itself.
    pub fn wipe(&self) {
        for slot in self.slots.values() {
            slot.view.send_modify(|view| view.held = None);
        }
    }

    fn slot(&self, permit: &Permit) -> Result<&Arc<Slot>, GrantError> {
        self.slots.get(permit.grant()).ok_or_else(|| GrantError::NotABearer(permit.grant().clone()))
    }
}

/// The token of one grant, and what its renewal task last found.
pub struct Slot {
    name: GrantName,
    view: watch::Sender<View>,
    /// The number of the attempt that somebody waits for.
    wanted: watch::Sender<u64>,
    /// Bounds the attempts that callers want ahead of time.
    early: Allowance,
}

#[derive(Default)]
struct View {
    held: Option<Held>,
    /// How many attempts have ended.
    attempts: u64,
    /// Set while the last attempt was a failure.
    failure: Option<Failure>,
    longest_life: Duration,
}

#[derive(Clone)]
struct Held {
    grant: Grant,
    end: End,
}

struct Failure {
    error: UpstreamError,
    retry_at: Instant,
}

/// What health shows of a slot.
#[derive(Clone, Debug)]
pub struct SlotState {
    /// The grant.
    pub name: GrantName,
    /// For how long the held token still serves; nothing when none does.
    pub left: Option<Duration>,
    /// The last attempt's error, when it failed.
    pub error: Option<UpstreamError>,
}

impl Held {
    fn serves(&self) -> bool {
        !self.end.left().is_zero()
    }
}

enum Answer {
    Serve(Served),
    Never(GrantError),
    /// `early`: what is held serves others on.
    Wait {
        attempts: u64,
        early: bool,
    },
}

impl Slot {
    fn new(name: GrantName) -> Self {
        let early = Allowance::new(EARLY_RENEWALS, EARLY_RENEWAL_EVERY);
        Self { name, view: watch::Sender::default(), wanted: watch::Sender::new(1), early }
    }

    /// The grant's name.
    pub fn name(&self) -> &GrantName {
        &self.name
    }

    /// What health shows.
    pub fn state(&self) -> SlotState {
        let view = self.view.borrow();
        SlotState {
            name: self.name.clone(),
            left: view.held.as_ref().filter(|held| held.serves()).map(|held| held.end.left()),
            error: view.failure.as_ref().map(|failure| failure.error.clone()),
        }
    }

    async fn serve(&self, demand: Demand<'_>) -> Result<Served, GrantError> {
        let deadline = Instant::now() + PATIENCE;
        let mut view = self.view.subscribe();
        let mut freshness = None;
        loop {
            let answer = self.answer(&view.borrow_and_update(), demand, freshness);
            match answer {
                Answer::Serve(served) => return Ok(served),
                Answer::Never(error) => return Err(error),
                Answer::Wait { attempts, early } => {
                    self.want(attempts + 1, early)
                        .map_err(|wait| GrantError::TooOften { grant: self.name.clone(), wait })?;
                    let next = timeout_at(deadline, view.wait_for(|view| view.attempts > attempts)).await;
                    if !matches!(next, Ok(Ok(_))) {
                        return Err(GrantError::TimedOut { grant: self.name.clone() });
                    }
                    freshness = Some(Freshness::Fresh);
                }
            }
        }
    }

    async fn after(&self, generation: &str) -> Served {
        let mut view = self.view.subscribe();
        let new = |held: &Held| held.serves() && held.grant.generation() != generation;
        // The sender lives in this slot, so the wait cannot fail while it is borrowed.
        if let Ok(view) = view.wait_for(|view| view.held.as_ref().is_some_and(new)).await
            && let Some(held) = &view.held
        {
            return Served { grant: held.grant.clone(), freshness: Freshness::Fresh };
        }
        std::future::pending().await
    }

    fn answer(&self, view: &View, demand: Demand<'_>, freshness: Option<Freshness>) -> Answer {
        if !view.longest_life.is_zero() && demand.min_ttl > view.longest_life {
            let (grant, asked, longest) = (self.name.clone(), demand.min_ttl, view.longest_life);
            return Answer::Never(GrantError::TtlTooLong { grant, asked, longest });
        }
        let held = view.held.as_ref().filter(|held| held.serves());
        let early = held.is_some();
        let good = held.filter(|held| {
            held.end.left() >= demand.min_ttl && demand.rejected != Some(held.grant.generation())
        });
        if let Some(held) = good {
            let otherwise = if view.failure.is_some() { Freshness::UpstreamDown } else { Freshness::Cached };
            let freshness = freshness.filter(|_| view.failure.is_none()).unwrap_or(otherwise);
            return Answer::Serve(Served { grant: held.grant.clone(), freshness });
        }
        match &view.failure {
            // Nobody calls an upstream again before the pause after its last failure is over.
            Some(failure) if Instant::now() < failure.retry_at => Answer::Never(failure.error.clone().into()),
            _ => Answer::Wait { attempts: view.attempts, early },
        }
    }

    fn renew_if_held(&self, generation: &str) -> bool {
        let attempts = {
            let view = self.view.borrow();
            let held = view.held.as_ref().is_some_and(|held| held.grant.generation() == generation);
            held.then_some(view.attempts)
        };
        attempts.is_some_and(|attempts| self.want(attempts + 1, true).is_ok())
    }

    /// Wants an attempt. One that is under way or wanted already costs nothing; when a new one would be early
    /// and too many were, it is refused with the time until the next.
    fn want(&self, attempt: u64, early: bool) -> Result<(), Duration> {
        let mut outcome = Ok(());
        self.wanted.send_if_modified(|wanted| {
            let more = *wanted < attempt;
            if more && early {
                outcome = self.early.take();
            }
            if more && outcome.is_ok() {
                *wanted = attempt;
            }
            more && outcome.is_ok()
        });
        outcome
    }

    /// Notes a token. One that has ended already, or that has no life at all, is refused.
    pub(crate) fn publish(&self, grant: Grant) -> Result<Duration, Lapsed> {
        let end = End::of(grant.expires_at()).ok_or(Lapsed)?;
        let life = end.left();
        self.view.send_modify(|view| {
            view.held = Some(Held { grant, end });
            view.longest_life = view.longest_life.max(life);
            view.failure = None;
            view.attempts += 1;
        });
        Ok(life)
    }

    /// Notes a failure; the token held stays in place.
    pub(crate) fn fail(&self, error: UpstreamError, retry_at: Instant) {
        self.view.send_modify(|view| {
            view.failure = Some(Failure { error, retry_at });
            view.attempts += 1;
        });
    }

    /// Waits until the held token has `left` or less to live; returns at once when none is held.
    pub(crate) async fn until_left(&self, left: Duration) {
        let end = self.view.borrow().held.as_ref().map(|held| held.end);
        if let Some(end) = end {
            end.until_left(left).await;
        }
    }

    /// Waits until somebody wants an attempt that has not been made.
    pub(crate) async fn until_wanted(&self) {
        let mut wanted = self.wanted.subscribe();
        let attempts = self.view.borrow().attempts;
        // The sender lives in this slot, so the wait cannot fail while it is borrowed.
        let _ = wanted.wait_for(|wanted| *wanted > attempts).await;
    }

    /// The longest life of any token so far.
    #[cfg(test)]
    pub(crate) fn longest_life(&self) -> Duration {
        self.view.borrow().longest_life
    }
}

/// A token had ended before it arrived.
#[derive(Debug)]
pub(crate) struct Lapsed;
