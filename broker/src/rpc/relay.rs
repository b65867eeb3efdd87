//! `Initiate`: one Kerberos exchange between a caller's SQL Server connection and the broker.
//!
//! Ticket and keys stay behind the upstreams' door; what passes here is a token for one connection attempt.
//! The context waits 30 s at most for the server, and the audit log says whether the server proved itself.

use std::{sync::Arc, time::Duration};

use keyferry_proto::v1::{GssBegin, GssClient, GssServer, gss_client::Message};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Answers, Broker, ask::Ask, status, wire};
use crate::{
    audit::Outcome,
    config::Use,
    issuer::{Exchange, Upstreams},
    upstream::RelayStep,
};

/// How long the caller may take to say what it wants.
const OPENING: Duration = Duration::from_secs(10);

/// How long the ticket for the service may take.
const TICKET: Duration = Duration::from_secs(20);

/// How long the context is kept, from its first token to the server's last.
const CONTEXT: Duration = Duration::from_secs(30);

/// An exchange with more rounds than this is none of Kerberos.
const ROUNDS: usize = 8;

type Sender = mpsc::Sender<Result<GssServer, Status>>;

/// Starts the exchange on a task of its own, so that the caller sees the stream before it says anything.
pub(super) fn relay<U: Upstreams>(
    broker: &Arc<Broker<U>>,
    ask: Ask<U>,
    incoming: Streaming<GssClient>,
) -> Answers<GssServer> {
    let (answers, stream) = mpsc::channel(1);
    let mut exchange =
        Conversation { broker: Arc::clone(broker), ask, incoming, answers: answers.clone(), over: false };
    let stop = broker.stop.clone();
    broker.tasks.spawn(async move {
        let outcome = tokio::select! {
            biased;
            outcome = exchange.run() => outcome,
            () = answers.closed() => exchange.ended("the caller left").await,
            () = stop.cancelled() => match exchange.ended("the broker stops").await {
                Ok(()) => Err(Status::unavailable("the broker is stopping; try again")),
                failed => failed,
            },
        };
        if let Err(status) = outcome {
            // A caller that is gone needs no status.
            let _ = timeout(OPENING, answers.send(Err(status))).await;
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

struct Conversation<U> {
    broker: Arc<Broker<U>>,
    ask: Ask<U>,
    incoming: Streaming<GssClient>,
    answers: Sender,
    /// The end is in the audit log, or on its way there.
    over: bool,
}

impl<U: Upstreams> Conversation<U> {
    async fn run(&mut self) -> Result<(), Status> {
        let begin = self.opening().await?;
        let permit = self.ask.permit(&begin.grant, &begin.pipeline, &begin.run_id, Some(Use::Relay)).await?;
        let Some(_place) = self.broker.relay_places.take(permit.caller().uid()) else {
            let most = self.broker.relay_places.most();
            let message = format!("this uid has {most} exchanges open, its share; let them end first");
            return Err(self.ask.denied("relays", Status::resource_exhausted(message)).await);
        };
        let _open = self.broker.metrics.relay_opened(permit.grant().as_str());
        let first = timeout(TICKET, self.broker.upstreams.begin_relay(permit.grant())).await;
        let Ok(first) = first else {
            let message = format!("no ticket for the service within {} s; check the KDC", TICKET.as_secs());
            return Err(self.ask.failed(Status::unavailable(message)).await);
        };
        self.broker.metrics.upstream_call("begin_relay", &first);
        match first {
            Ok((exchange, step)) => {
                let deadline = Instant::now() + CONTEXT;
                self.answer(step).await?;
                self.rounds(exchange, deadline).await
            }
            Err(error) => Err(self.ask.failed(status::of_upstream(&error)).await),
        }
    }

    async fn opening(&mut self) -> Result<GssBegin, Status> {
        match timeout(OPENING, self.incoming.message()).await {
            Ok(Ok(Some(GssClient { message: Some(Message::Begin(begin)) }))) => Ok(begin),
            Ok(Err(status)) => {
                self.ended("what came before `begin` is no message").await?;
                Err(status)
            }
            Ok(Ok(None)) => {
                self.ended("the caller ended it before `begin`").await?;
                Err(Status::invalid_argument("the first message must be `begin`"))
            }
            Ok(Ok(_)) => Err(self.ask.malformed("the first message must be `begin`").await),
            Err(_) => Err(self.ask.malformed("no `begin` came within 10 s").await),
        }
    }

    async fn rounds(&mut self, mut exchange: U::Exchange, deadline: Instant) -> Result<(), Status> {
        for _ in 0..ROUNDS {
            let Ok(message) = timeout_at(deadline, self.incoming.message()).await else {
                self.ended("the server's reply did not come within 30 s").await?;
                return Err(Status::unavailable(
                    "the context is gone: no reply of the server within 30 s; begin a new exchange",
                ));
            };
            let server_token = match message {
                Ok(Some(GssClient { message: Some(Message::ServerToken(token)) })) => token,
                Ok(Some(_)) => {
                    return Err(self
                        .ask
                        .malformed("each message after `begin` must be a `server_token`")
                        .await);
                }
                Ok(None) | Err(_) => return self.ended("the caller ended the exchange").await,
            };
            let step = timeout_at(deadline, exchange.step(&server_token)).await;
            let Ok(step) = step else {
                return Err(self
                    .ask
                    .failed(Status::unavailable("the context took too long; begin again"))
                    .await);
            };
            self.broker.metrics.upstream_call("relay_step", &step);
            match step {
                Ok(step) if step.complete && !step.mutual => {
                    let message = "the server did not prove itself; nothing was sent to it. Check its service \
                                   principal name and keytab";
                    return Err(self.ask.failed(Status::failed_precondition(message)).await);
                }
                Ok(step) => {
                    let complete = step.complete;
                    self.answer(step).await?;
                    if complete {
                        return Ok(());
                    }
                }
                Err(error) => return Err(self.ask.failed(status::of_upstream(&error)).await),
            }
        }
        Err(self.ask.malformed("the exchange has too many rounds").await)
    }

    /// One line, then one message.
    async fn answer(&mut self, step: RelayStep) -> Result<(), Status> {
        let complete = step.complete && step.mutual;
        self.ask.record.mutual = Some(step.mutual);
        let detail = if complete { "the server proved itself" } else { "token for one connection attempt" };
        detail.clone_into(&mut self.ask.record.detail);
        let audit_id = self.ask.granted().await?;
        let message = wire::gss(step, complete, audit_id);
        if let Ok(Ok(())) = timeout(OPENING, self.answers.send(Ok(message))).await {
            return Ok(());
        }
        self.ended("the caller did not take the token").await?;
        Err(Status::cancelled("the caller did not take the token"))
    }

    /// One line about an end before the exchange was complete, whichever cause comes first.
    async fn ended(&mut self, why: &str) -> Result<(), Status> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        self.ask.note(Outcome::Noted, |record| record.detail = format!("incomplete: {why}")).await.map(drop)
    }
}
