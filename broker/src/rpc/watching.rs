//! `WatchToken`: the token that is held, then each new one for as long as the caller listens.
//!
//! A watch asks no issuer for anything: it is told what the renewal task gets anyway. Each token that it hands
//! over has a line of its own in the audit log, written before the token leaves.

use std::{sync::Arc, time::Duration};

use keyferry_proto::v1::{Token, WatchTokenRequest};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::warn;

use super::{Answers, Broker, ask::Ask, status, wire};
use crate::{
    audit::Outcome,
    config::Use,
    grants::{Demand, Served},
    issuer::Upstreams,
    policy::Permit,
};

/// How long the caller may leave a token lying.
const TAKE: Duration = Duration::from_secs(20);

type Answer = Result<Token, Status>;

/// Checks the request and finds the first token; the rest is a task of its own.
pub(super) async fn watch<U: Upstreams>(
    broker: &Arc<Broker<U>>,
    mut ask: Ask<U>,
    request: WatchTokenRequest,
) -> Result<Answers<Token>, Status> {
    let permit = ask.permit(&request.grant, &request.pipeline, &request.run_id, Some(Use::Token)).await?;
    let Some(place) = broker.watch_places.take(permit.caller().uid()) else {
        let most = broker.watch_places.most();
        let message = format!("this uid watches {most} tokens, its share; end one first");
        return Err(ask.denied("watches", Status::resource_exhausted(message)).await);
    };
    let first = match broker.grants.current(&permit, Demand::default()).await {
        Ok(served) => served,
        Err(error) => return Err(ask.failed(status::of_grant(&error)).await),
    };
    let (answers, stream) = mpsc::channel(1);
    let mut watch = Watch { broker: Arc::clone(broker), ask, permit, answers };
    // The channel is empty: this waits for the audit log only.
    watch.hand_over(&first).await?;
    broker.tasks.spawn(async move {
        watch.keep(first).await;
        drop(place);
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

struct Watch<U> {
    broker: Arc<Broker<U>>,
    ask: Ask<U>,
    permit: Permit,
    answers: mpsc::Sender<Answer>,
}

impl<U: Upstreams> Watch<U> {
    /// Hands over each new token until the caller leaves or the broker stops.
    async fn keep(mut self, mut held: Served) {
        let why = loop {
            let next = tokio::select! {
                () = self.answers.closed() => break "the caller ended it",
                () = self.broker.withdrawn(&self.permit) => {
                    // A caller that is gone needs no status.
                    let _ = self.answers.try_send(Err(self.ask.withdrawn().await));
                    break "policy no longer allows it";
                }
                () = self.broker.draining.cancelled() => {
                    let status = Status::unavailable("the broker is stopping; call again");
                    // A caller that is gone needs no status.
                    let _ = timeout(TAKE, self.answers.send(Err(status))).await;
                    break "the broker stops";
                }
                next = self.broker.grants.after(&self.permit, held.grant.generation()) => next,
            };
            let handed = match next {
                Ok(next) => {
                    held = next;
                    self.hand_over(&held).await
                }
                Err(error) => Err(self.ask.failed(status::of_grant(&error)).await),
            };
            if let Err(status) = handed {
                let _ = self.answers.try_send(Err(status));
                break "nothing more could be handed over";
            }
        };
        let note = |record: &mut crate::audit::Record| {
            record.event = "WatchEnded";
            why.clone_into(&mut record.detail);
        };
        if let Err(status) = self.ask.note(Outcome::Noted, note).await {
            warn!(status = status.message(), "the end of a watch is not in the audit log");
        }
    }

    /// One line, then the token.
    async fn hand_over(&mut self, served: &Served) -> Result<(), Status> {
        served.grant.generation().clone_into(&mut self.ask.record.generation);
        let audit_id = self.ask.granted().await?;
        let message = wire::token(served, audit_id);
        match timeout(TAKE, self.answers.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Status::cancelled("the caller did not take the token")),
        }
    }
}
