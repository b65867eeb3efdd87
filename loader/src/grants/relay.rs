//! The Kerberos relay: carries GSS tokens between SQL Server's login and the broker, which alone holds ticket and keys.

use keyferry_proto::v1::{GssBegin, GssClient, GssServer, gss_client::Message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Broker, GrantError, LOGIN_DEADLINE, bounded};
use crate::tds::{Relay, RelayError, RelayStep};

const ATTEMPTED: &str = "make a Kerberos exchange with";

/// One exchange at a time, each for one connection attempt. None is ever retried: a GSS token serves once.
#[derive(Debug)]
pub struct BrokerRelay {
    broker: Broker,
    grant: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Open { to_broker: mpsc::Sender<GssClient>, from_broker: Box<Streaming<GssServer>> },
}

impl BrokerRelay {
    pub(super) fn new(broker: Broker, grant: &str) -> Self {
        Self { broker, grant: grant.to_owned(), state: State::Idle }
    }

    /// Starts a new exchange, giving up one that is under way, and returns the first token, for LOGIN7.
    async fn first_token(&mut self) -> Result<GssServer, GrantError> {
        self.state = State::Idle;
        let begin = GssBegin {
            grant: self.grant.clone(),
            pipeline: self.broker.pipeline.clone(),
            run_id: self.broker.run_id.clone(),
        };
        let (to_broker, requests) = mpsc::channel(1);
        // The queue is empty and holds one: this cannot fail.
        let _ = to_broker.try_send(GssClient { message: Some(Message::Begin(begin)) });
        let mut client = self.broker.client.clone();
        let call = client.initiate(ReceiverStream::new(requests));
        let from_broker = Box::new(bounded(ATTEMPTED, &self.grant, LOGIN_DEADLINE, call).await?);
        self.state = State::Open { to_broker, from_broker };
        self.receive().await
    }

    /// Hands over what SQL Server sent and returns what the broker says to it.
    async fn next_token(&mut self, server_token: &[u8]) -> Result<GssServer, GrantError> {
        let State::Open { to_broker, .. } = &self.state else {
            return Err(self.misuse("a server token outside an exchange"));
        };
        let message = GssClient { message: Some(Message::ServerToken(server_token.to_vec())) };
        if to_broker.send(message).await.is_err() {
            tracing::debug!("the broker ended the exchange before the server's token");
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Result<GssServer, GrantError> {
        let State::Open { from_broker, .. } = &mut self.state else {
            return Err(self.misuse("an answer outside an exchange"));
        };
        let next = async { from_broker.message().await.map(tonic::Response::new) };
        let reply = match bounded(ATTEMPTED, &self.grant, LOGIN_DEADLINE, next).await {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                self.state = State::Idle;
                return Err(self.misuse("a stream that ended before the exchange was complete"));
            }
            Err(error) => {
                self.state = State::Idle;
                return Err(error);
            }
        };
        if reply.complete {
            self.state = State::Idle;
        }
        Ok(reply)
    }

    fn misuse(&self, found: &str) -> GrantError {
        GrantError::Protocol { attempted: ATTEMPTED, grant: self.grant.clone(), found: found.to_owned() }
    }
}

impl Relay for BrokerRelay {
    async fn begin(&mut self) -> Result<Vec<u8>, RelayError> {
        self.first_token().await.map(|reply| reply.token).map_err(into_relay_error)
    }

    async fn step(&mut self, server_token: &[u8]) -> Result<RelayStep, RelayError> {
        let reply = self.next_token(server_token).await.map_err(into_relay_error)?;
        Ok(RelayStep { token: reply.token, complete: reply.complete })
    }
}

#[allow(clippy::needless_pass_by_value)] // the shape of map_err
fn into_relay_error(error: GrantError) -> RelayError {
    RelayError::new(error.to_string(), error.is_permanent())
}
