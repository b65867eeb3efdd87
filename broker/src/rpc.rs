//! The gRPC service: the only place where a grant becomes a wire message.
//!
//! Every call goes the same way: who calls (`ask`), what policy says, what the upstreams or the tokens
//! held give, one line in the audit log, and only then the answer.

mod ask;
mod relay;
mod session;
mod status;
mod watching;
mod wire;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use keyferry_proto::{
    MAX_MESSAGE_BYTES,
    v1::{
        self, GetSettingsRequest, GetTokenRequest, GssClient, GssServer, OpenSessionRequest,
        ReportOutcomeRequest, ReportOutcomeResponse, Settings, SnowflakeSession, Token, WatchTokenRequest,
        WhoAmIRequest, WhoAmIResponse,
        credentials_server::{Credentials, CredentialsServer},
    },
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::{ask::Ask, session::Sessions};
use crate::{
    audit::{AuditLog, Outcome},
    config::{Limits, Use},
    grants::{Demand, Grants},
    issuer::Upstreams,
    limits::{PerUid, Rate},
    metrics::Metrics,
    policy::{Permit, Policy},
    service_account::Verifier,
    socket::Connection,
};

/// Streams that one connection may have open.
const STREAMS: u32 = 128;

/// All that a call needs.
pub struct Broker<U> {
    /// The upstreams, logged in.
    pub upstreams: Arc<U>,
    /// Who may have what, now.
    policy: watch::Sender<Arc<Policy>>,
    /// Who proves a service account, when tokens are checked.
    pub(crate) accounts: Option<Verifier>,
    /// The bearer tokens held now.
    pub grants: Arc<Grants>,
    /// Where decisions are written.
    pub audit: AuditLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Renew no later than this before the end of a session token.
    pub refresh_margin: Duration,
    /// Sessions and exchanges that outlive their call run here.
    pub tasks: TaskTracker,
    /// Ends what is still open.
    pub stop: CancellationToken,
    /// Ends what only waits for the next token; comes before [`stop`](Self::stop), or with it.
    pub draining: CancellationToken,
    rate: Rate,
    session_places: PerUid,
    relay_places: PerUid,
    watch_places: PerUid,
    sessions: Sessions,
}

impl<U: Upstreams> Broker<U> {
    /// A broker that has not served anybody yet.
    pub fn new(
        upstreams: Arc<U>,
        (policy, accounts): (Policy, Option<Verifier>),
        grants: Arc<Grants>,
        audit: AuditLog,
        metrics: Arc<Metrics>,
        limits: &Limits,
        stop: CancellationToken,
    ) -> Self {
        Self {
            upstreams,
            policy: watch::Sender::new(Arc::new(policy)),
            accounts,
            grants,
            audit,
            metrics,
            refresh_margin: limits.refresh_margin,
            tasks: TaskTracker::new(),
            draining: stop.child_token(),
            stop,
            rate: Rate::new(limits.calls_per_second),
            session_places: PerUid::new(limits.sessions_per_uid),
            relay_places: PerUid::new(limits.relays_per_uid),
            watch_places: PerUid::new(limits.watches_per_uid),
            sessions: Sessions::default(),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Puts another policy in force; what it no longer allows ends.
    pub fn replace_policy(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }

    /// Waits until the policy in force does not allow this any more.
    async fn withdrawn(&self, permit: &Permit) {
        // The sender lives as long as this broker.
        let _ = self.policy.subscribe().wait_for(|policy| !policy.still_allows(permit)).await;
    }
}

/// Serves until `shutdown`, then lets open calls end: no connection is accepted any more.
///
/// Every limit of HTTP/2 is stated here; an unset one would be the library's choice of the day.
pub async fn serve<U: Upstreams>(
    broker: Arc<Broker<U>>,
    connections: impl Stream<Item = io::Result<Connection>>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = CredentialsServer::new(Service(broker))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(MAX_MESSAGE_BYTES as u32)
        .initial_connection_window_size(1 << 20)
        .max_frame_size(16 * 1024)
        .http2_max_header_list_size(16 * 1024)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(64))
        .http2_adaptive_window(Some(false))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .accept_http1(false)
        .add_service(service)
        .serve_with_incoming_shutdown(connections.map(|c| c), shutdown.cancelled_owned())
        .await
}

/// The generated trait, on what a call needs.
struct Service<U>(Arc<Broker<U>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<U: Upstreams> Credentials for Service<U> {
    type InitiateStream = Answers<GssServer>;
    type OpenSessionStream = Answers<SnowflakeSession>;
    type WatchTokenStream = Answers<Token>;

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let ask = Ask::admit(&self.0, "WhoAmI", &request).await?;
        let caller = ask.caller();
        let pipelines = wire::rights(self.0.policy().rights(caller), &self.0.grants);
        let audit_id = ask.note(Outcome::Granted, |_| ()).await?;
        Ok(Response::new(WhoAmIResponse {
            uid: caller.uid(),
            gid: caller.gid(),
            service_account: caller.service_account().map(ToString::to_string).unwrap_or_default(),
            pipelines,
            broker_version: env!("CARGO_PKG_VERSION").to_owned(),
            audit_id,
        }))
    }

    async fn get_token(&self, request: Request<GetTokenRequest>) -> Result<Response<Token>, Status> {
        let mut ask = Ask::admit(&self.0, "GetToken", &request).await?;
        let request = request.into_inner();
        let permit = ask.permit(&request.grant, &request.pipeline, &request.run_id, Some(Use::Token)).await?;
        let min_ttl = match request.min_ttl.map(Duration::try_from).transpose() {
            Ok(ttl) => ttl.unwrap_or_default(),
            Err(_) => return Err(ask.malformed("`min_ttl` is negative or out of range").await),
        };
        let rejected = request.rejected_generation.as_str();
        if rejected.len() > ask::MAX_WORD {
            return Err(ask.malformed("`rejected_generation` is no generation of this broker").await);
        }
        let demand = Demand { min_ttl, rejected: (!rejected.is_empty()).then_some(rejected) };
        let served = match self.0.grants.current(&permit, demand).await {
            Ok(served) => served,
            Err(error) => return Err(ask.failed(status::of_grant(&error)).await),
        };
        served.grant.generation().clone_into(&mut ask.record.generation);
        let audit_id = ask.granted().await?;
        Ok(Response::new(wire::token(&served, audit_id)))
    }

    async fn watch_token(
        &self,
        request: Request<WatchTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        let ask = Ask::admit(&self.0, "WatchToken", &request).await?;
        Ok(Response::new(watching::watch(&self.0, ask, request.into_inner()).await?))
    }

    async fn initiate(
        &self,
        request: Request<Streaming<GssClient>>,
    ) -> Result<Response<Self::InitiateStream>, Status> {
        let ask = Ask::admit(&self.0, "Initiate", &request).await?;
        Ok(Response::new(relay::relay(&self.0, ask, request.into_inner())))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let ask = Ask::admit(&self.0, "OpenSession", &request).await?;
        Ok(Response::new(session::open(&self.0, ask, request.into_inner()).await?))
    }

    async fn get_settings(&self, request: Request<GetSettingsRequest>) -> Result<Response<Settings>, Status> {
        let mut ask = Ask::admit(&self.0, "GetSettings", &request).await?;
        let request = request.into_inner();
        let permit = ask.permit(&request.grant, &request.pipeline, "", None).await?;
        match self.0.upstreams.settings(permit.grant()) {
            Ok(settings) => {
                let audit_id = ask.granted().await?;
                Ok(Response::new(wire::settings(settings, audit_id)))
            }
            Err(error) => Err(ask.failed(status::of_upstream(&error)).await),
        }
    }

    async fn report_outcome(
        &self,
        request: Request<ReportOutcomeRequest>,
    ) -> Result<Response<ReportOutcomeResponse>, Status> {
        let mut ask = Ask::admit(&self.0, "ReportOutcome", &request).await?;
        let outcome = request.get_ref().outcome();
        let request = request.into_inner();
        let permit = ask.permit(&request.grant, &request.pipeline, "", None).await?;
        if !ask::is_word(&request.generation) || request.generation.is_empty() {
            return Err(ask.malformed("`generation` is no generation of this broker").await);
        }
        if !ask::is_word(&request.code) {
            return Err(ask.malformed("`code` is no upstream's code").await);
        }
        let rejected = match outcome {
            v1::Outcome::Accepted => false,
            v1::Outcome::Rejected => true,
            v1::Outcome::Unspecified => return Err(ask.malformed("`outcome` is not said").await),
        };
        let renewing = rejected && self.refuse(&permit, &request.generation);
        let audit_id = ask
            .note(Outcome::Noted, |record| {
                let word = if rejected { "rejected" } else { "accepted" };
                format!("{word} {}", request.code).trim_end().clone_into(&mut record.detail);
                record.generation = request.generation;
            })
            .await?;
        Ok(Response::new(ReportOutcomeResponse { renewing, audit_id }))
    }
}

impl<U: Upstreams> Service<U> {
    /// Renews what carries this generation: a session of this caller, or the bearer token if this caller
    /// may hold it.
    fn refuse(&self, permit: &Permit, generation: &str) -> bool {
        let broker = &self.0;
        if broker.sessions.refuse(permit, generation) {
            return true;
        }
        let holds_tokens =
            broker.policy().authorize(permit.caller(), Some(permit.pipeline()), permit.grant(), Use::Token);
        holds_tokens.is_ok_and(|permit| broker.grants.renew(&permit, generation))
    }
}

#[cfg(test)]
mod tests;
