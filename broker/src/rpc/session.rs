//! `OpenSession`: the broker logs in to Snowflake; the caller gets session tokens and nothing else.
//!
//! Each session has one task, which owns the login (and with it the master token), renews ahead of expiry
//! or when the caller says that its token was refused, and closes the session upstream when the caller's
//! stream or the broker ends.

mod registry;

use std::{sync::Arc, time::Duration};

use keyferry_proto::{
    grant::Grant,
    v1::{OpenSessionRequest, SnowflakeSession},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{info, warn};

use self::registry::Entry;
pub(super) use self::registry::Sessions;
use super::{
    Answers, Broker,
    ask::Ask,
    status,
    wire::{self, Target},
};
use crate::{
    audit::Outcome,
    clock::End,
    config::Use,
    grants::{Demand, Freshness},
    issuer::{Session, Upstreams},
    limits::{Allowance, Taken},
    policy::Permit,
    schedule::{self, Backoff},
    upstream::{ErrorClass, GrantSettings, UpstreamError},
};

/// A login takes no longer than this.
const LOGIN: Duration = Duration::from_mins(1);

/// A renewal takes no longer than this.
const RENEWAL: Duration = Duration::from_secs(30);

/// Two renewals are never closer than this, whatever the caller reports.
const PACE: Duration = Duration::from_millis(500);

/// So often may a caller have its session renewed ahead of time: a few times at once, then slowly.
const EARLY_RENEWALS: u32 = 5;
const EARLY_RENEWAL_EVERY: Duration = Duration::from_secs(5);

/// How long the caller may leave a renewed token lying.
const TAKE: Duration = Duration::from_secs(20);

/// Closing a session upstream takes no longer than this.
const CLOSE: Duration = Duration::from_secs(10);

type Answer = Result<SnowflakeSession, Status>;

/// Checks the request, then opens the session on a task of its own: a caller that leaves in the middle of
/// the login leaves no session behind.
pub(super) async fn open<U: Upstreams>(
    broker: &Arc<Broker<U>>,
    mut ask: Ask<U>,
    request: OpenSessionRequest,
) -> Result<Answers<SnowflakeSession>, Status> {
    let permit = ask.permit(&request.grant, &request.pipeline, &request.run_id, Some(Use::Session)).await?;
    let settings = match broker.upstreams.settings(permit.grant()) {
        Ok(settings) => settings,
        Err(error) => return Err(ask.failed(status::of_upstream(&error)).await),
    };
    let GrantSettings::Snowflake { account, url, user, roles, warehouses } = settings else {
        return Err(ask.malformed("`grant`: this grant is no Snowflake login").await);
    };
    let role = choose(&mut ask, "role", &request.role, &roles).await?;
    let warehouse = choose(&mut ask, "warehouse", &request.warehouse, &warehouses).await?;
    let Some(place) = broker.session_places.take(permit.caller().uid()) else {
        let most = broker.session_places.most();
        let message = format!("this uid has {most} sessions open, its share; close one first");
        return Err(ask.denied("sessions", Status::resource_exhausted(message)).await);
    };
    let (answers, stream) = mpsc::channel(1);
    let (opened, outcome) = oneshot::channel();
    let target = Target { account, url, user };
    let opening = Opening { broker: Arc::clone(broker), ask, permit, target, role, warehouse, place };
    broker.tasks.spawn(opening.run(answers, opened));
    match outcome.await {
        Ok(Ok(())) => Ok(Box::pin(ReceiverStream::new(stream))),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::internal("the session's task ended early; try again")),
    }
}

async fn choose<U: Upstreams>(
    ask: &mut Ask<U>,
    what: &'static str,
    asked: &str,
    allowed: &[String],
) -> Result<String, Status> {
    let found = match asked {
        "" => allowed.first(),
        asked => allowed.iter().find(|name| *name == asked),
    };
    if let Some(name) = found {
        return Ok(name.clone());
    }
    let message = format!("this grant does not allow that {what}; it allows {}", allowed.join(", "));
    Err(ask.denied(what, Status::permission_denied(message)).await)
}

struct Opening<U> {
    broker: Arc<Broker<U>>,
    ask: Ask<U>,
    permit: Permit,
    target: Target,
    role: String,
    warehouse: String,
    place: Taken,
}

impl<U: Upstreams> Opening<U> {
    async fn run(mut self, answers: mpsc::Sender<Answer>, opened: oneshot::Sender<Result<(), Status>>) {
        let login = tokio::select! {
            login = self.log_in() => login,
            () = self.broker.stop.cancelled() => Err(Status::unavailable("the broker is stopping; try again")),
        };
        let session = match login {
            Ok(session) => session,
            Err(status) => {
                let status = self.ask.failed(status).await;
                // A caller that is gone needs no status.
                let _ = opened.send(Err(status));
                return;
            }
        };
        session.session_id().clone_into(&mut self.ask.record.session_id);
        let (number, entry) = self.broker.sessions.enter(&self.permit, session.grant());
        let gauge = self.broker.metrics.session_opened(self.permit.grant().as_str());
        let mut open = Open {
            broker: self.broker,
            ask: self.ask,
            permit: self.permit,
            target: self.target,
            session,
            answers,
            entry,
        };
        let why = match open.hand_over().await {
            Err(status) => {
                // A caller that is gone needs no status.
                let _ = opened.send(Err(status));
                "nothing could be handed over"
            }
            Ok(()) if opened.send(Ok(())).is_err() => "the caller left",
            Ok(()) => open.keep().await,
        };
        open.broker.sessions.leave(number);
        open.end(why).await;
        drop((gauge, self.place));
    }

    /// Logs in with the token held; once more with a new one when Snowflake says that the held one has ended.
    async fn log_in(&self) -> Result<U::Session, Status> {
        let current =
            |rejected| self.broker.grants.current(&self.permit, Demand { rejected, ..Demand::default() });
        let bearer = current(None).await.map_err(|e| status::of_grant(&e))?;
        match self.attempt(&bearer.grant).await {
            Err(Some(error))
                if error.class() == ErrorClass::Expired && bearer.freshness != Freshness::Fresh =>
            {
                let newer =
                    current(Some(bearer.grant.generation())).await.map_err(|e| status::of_grant(&e))?;
                self.attempt(&newer.grant).await
            }
            outcome => outcome,
        }
        .map_err(|error| match error {
            Some(error) => status::of_upstream(&error),
            None => {
                Status::unavailable(format!("Snowflake did not answer a login within {} s", LOGIN.as_secs()))
            }
        })
    }

    /// One login; no error means no answer in time.
    async fn attempt(&self, bearer: &Grant) -> Result<U::Session, Option<UpstreamError>> {
        let (grant, role, warehouse) = (self.permit.grant(), &self.role, &self.warehouse);
        let login = self.broker.upstreams.open_session(grant, bearer, role, warehouse);
        let outcome = timeout(LOGIN, login).await.map_err(|_| None)?;
        self.broker.metrics.upstream_call("open_session", &outcome);
        outcome.map_err(Some)
    }
}

/// A session that the caller uses.
struct Open<U: Upstreams> {
    broker: Arc<Broker<U>>,
    ask: Ask<U>,
    permit: Permit,
    target: Target,
    session: U::Session,
    answers: mpsc::Sender<Answer>,
    entry: Arc<Entry>,
}

impl<U: Upstreams> Open<U> {
    /// One line, then the token.
    async fn hand_over(&mut self) -> Result<(), Status> {
        let generation = self.session.grant().generation().to_owned();
        generation.clone_into(&mut self.ask.record.generation);
        self.ask.record.detail =
            format!("role {} warehouse {}", self.session.role(), self.session.warehouse());
        let audit_id = self.ask.granted().await?;
        self.entry.hands_over(generation);
        let message = wire::session(&self.session, &self.target, audit_id);
        match timeout(TAKE, self.answers.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Status::cancelled("the caller did not take the token")),
        }
    }

    /// Renews until the caller or the broker ends it; says which.
    async fn keep(&mut self) -> &'static str {
        let mut backoff = Backoff::default();
        let early = Allowance::new(EARLY_RENEWALS, EARLY_RENEWAL_EVERY);
        let mut rest = rest_at_renewal(self.session.grant(), self.broker.refresh_margin);
        // No attempt before this moment, whoever wants it: it keeps the pace after a success, and the pause
        // after a failure.
        let mut earliest = Instant::now();
        loop {
            let generation = self.session.grant().generation().to_owned();
            let (end, failed) = (End::of(self.session.grant().expires_at()), backoff.failures() > 0);
            let due = async {
                if let Some(end) = end.filter(|_| !failed) {
                    end.until_left(rest).await;
                }
            };
            tokio::select! {
                () = self.answers.closed() => return "the caller ended it",
                () = self.broker.stop.cancelled() => return "the broker stops",
                () = self.broker.withdrawn(&self.permit) => {
                    // A caller that is gone needs no status.
                    let _ = self.answers.try_send(Err(self.ask.withdrawn().await));
                    return "policy no longer allows it";
                }
                () = self.entry.refused() => {
                    if self.entry.generation() != generation {
                        continue;
                    }
                    if let Err(wait) = early.take() {
                        earliest = earliest.max(Instant::now() + wait);
                    }
                }
                () = due => {}
            }
            let renewal = async {
                tokio::time::sleep_until(earliest).await;
                timeout(RENEWAL, self.session.renew()).await
            };
            let renewal = tokio::select! {
                () = self.answers.closed() => return "the caller ended it",
                () = self.broker.stop.cancelled() => return "the broker stops",
                renewal = renewal => renewal,
            };
            if let Ok(outcome) = &renewal {
                self.broker.metrics.upstream_call("renew_session", outcome);
            }
            let status = match renewal {
                Ok(Ok(())) => {
                    backoff.reset();
                    earliest = Instant::now() + PACE;
                    rest = rest_at_renewal(self.session.grant(), self.broker.refresh_margin);
                    match self.hand_over().await {
                        Ok(()) => continue,
                        Err(status) => status,
                    }
                }
                Ok(Err(error)) if may_come_back(&error) && self.still_holds() => {
                    warn!(%error, "a session could not be renewed yet");
                    earliest = Instant::now() + backoff.after_failure(error.retry_after(), fastrand::f64());
                    continue;
                }
                Err(_) if self.still_holds() => {
                    earliest = Instant::now() + backoff.after_failure(None, fastrand::f64());
                    continue;
                }
                Ok(Err(error)) => self.ask.failed(status::of_upstream(&error)).await,
                Err(_) => {
                    self.ask.failed(Status::unavailable("Snowflake did not renew the session in time")).await
                }
            };
            // A caller that is gone needs no status.
            let _ = self.answers.try_send(Err(status));
            return "it could not be renewed";
        }
    }

    fn still_holds(&self) -> bool {
        End::of(self.session.grant().expires_at()).is_some()
    }

    async fn end(self, why: &'static str) {
        let closed = timeout(CLOSE, self.session.close()).await.is_ok();
        info!(why, closed, "session ended");
        let note = |record: &mut crate::audit::Record| {
            record.event = "SessionEnded";
            record.detail =
                if closed { why.to_owned() } else { format!("{why}; Snowflake was not told in time") };
        };
        if let Err(status) = self.ask.note(Outcome::Noted, note).await {
            warn!(status = status.message(), "the end of a session is not in the audit log");
        }
    }
}

/// False when the upstream refused, or when it no longer knows the session.
fn may_come_back(error: &UpstreamError) -> bool {
    !error.is_permanent() && error.class() != ErrorClass::Expired
}

/// How much of the token's life is left when its renewal is due.
fn rest_at_renewal(grant: &Grant, margin: Duration) -> Duration {
    let life = End::of(grant.expires_at()).map(|end| end.left()).unwrap_or_default();
    life.saturating_sub(schedule::renew_in(life, margin, fastrand::f64()))
}
