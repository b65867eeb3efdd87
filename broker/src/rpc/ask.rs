//! One call on its way: who asks, what policy says, and the line in the audit log before the answer.

use std::{sync::Arc, time::SystemTime};

use keyferry_proto::{METADATA_KEY, METADATA_VALUE, SERVICE_ACCOUNT_KEY};
use tonic::{Request, Status, metadata::MetadataMap, transport::server::UdsConnectInfo};

use super::{Broker, status};
use crate::{
    audit::{Outcome, Record},
    caller::Caller,
    codes,
    config::{GrantName, PipelineName, RunId, Use},
    issuer::Upstreams,
    limits::Pass,
    policy::{Denied, Permit},
    service_account::TokenError,
};

/// The longest generation or upstream code that a caller may send back, in bytes.
pub(super) const MAX_WORD: usize = 128;

/// True for a short printable text on one line.
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= MAX_WORD && text.chars().all(|c| c.is_ascii_graphic())
}

/// A call that was admitted. It ends with exactly one of the methods that write the audit log.
pub(super) struct Ask<U> {
    broker: Arc<Broker<U>>,
    caller: Caller,
    pub(super) record: Record,
}

impl<U: Upstreams> Ask<U> {
    /// Finds out who calls, and refuses calls without the metadata key or beyond the rate.
    pub(super) async fn admit<T>(
        broker: &Arc<Broker<U>>,
        event: &'static str,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        let caller = request.extensions().get::<UdsConnectInfo>().and_then(Caller::of).ok_or_else(|| {
            broker.metrics.refused("no_credentials");
            Status::unauthenticated("the kernel told no uid for this connection; connect to the Unix socket")
        })?;
        let record = Record {
            uid: Some(caller.uid()),
            gid: Some(caller.gid()),
            ..Record::new(event, Outcome::Denied)
        };
        let ask = Self { broker: Arc::clone(broker), caller, record };
        match broker.rate.pass(ask.caller.uid()) {
            Pass::Yes => {}
            Pass::FirstRefused => return Err(ask.denied("rate", too_many()).await),
            Pass::Refused => {
                broker.metrics.refused("rate");
                return Err(too_many());
            }
        }
        let version = request.metadata().get(METADATA_KEY);
        if version.is_none_or(|value| value != METADATA_VALUE) {
            let status =
                Status::unauthenticated("the metadata key `keyferry: 1` is missing; use a Keyferry client");
            return Err(ask.denied("no_metadata", status).await);
        }
        ask.with_service_account(request.metadata()).await
    }

    /// A call may prove a service account; one that tries and fails gets nothing, whatever its uid may have.
    async fn with_service_account(mut self, metadata: &MetadataMap) -> Result<Self, Status> {
        let mut tokens = metadata.get_all(SERVICE_ACCOUNT_KEY).iter();
        let Some(token) = tokens.next() else { return Ok(self) };
        let outcome = match (&self.broker.accounts, token.to_str(), tokens.next()) {
            (_, _, Some(_)) => Err(TokenError::Several),
            (None, ..) => Err(TokenError::NotConfigured),
            (Some(accounts), Ok(token), None) => accounts.verify(token, SystemTime::now()),
            (Some(_), Err(_), None) => Err(TokenError::Form("it is no text")),
        };
        match outcome {
            Ok(account) => {
                account.as_str().clone_into(&mut self.record.service_account);
                self.caller = self.caller.proved(account);
                Ok(self)
            }
            Err(error) => {
                Err(self.denied("service_account", Status::unauthenticated(error.to_string())).await)
            }
        }
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Reads the names of the request and asks policy. Without a use any use of the grant is enough.
    pub(super) async fn permit(
        &mut self,
        grant: &str,
        pipeline: &str,
        run_id: &str,
        wanted: Option<Use>,
    ) -> Result<Permit, Status> {
        let names = Names::read(grant, pipeline, run_id);
        let Names { grant, pipeline, run_id } = match names {
            Ok(names) => names,
            Err(problem) => return Err(self.malformed(&problem).await),
        };
        grant.as_str().clone_into(&mut self.record.grant);
        self.record.pipeline = pipeline.as_ref().map(ToString::to_string).unwrap_or_default();
        self.record.run_id = run_id.map(|id| id.to_string()).unwrap_or_default();
        let policy = self.broker.policy();
        let decision = match wanted {
            Some(wanted) => policy.authorize(&self.caller, pipeline.as_ref(), &grant, wanted),
            None => policy.authorize_any(&self.caller, pipeline.as_ref(), &grant),
        };
        match decision {
            Ok(permit) => {
                permit.pipeline().as_str().clone_into(&mut self.record.pipeline);
                Ok(permit)
            }
            Err(denied) => {
                let status = match denied {
                    Denied::AmbiguousPipeline { .. } => Status::invalid_argument(denied.to_string()),
                    _ => Status::permission_denied(denied.to_string()),
                };
                Err(self.denied(denied.reason(), status).await)
            }
        }
    }

    /// Refuses what policy allowed before.
    pub(super) async fn withdrawn(&self) -> Status {
        let status = Status::permission_denied("policy has changed and no longer allows this grant");
        self.denied("withdrawn", status).await
    }

    /// Refuses a request that cannot be right.
    pub(super) async fn malformed(&self, problem: &str) -> Status {
        self.denied("malformed", Status::invalid_argument(problem)).await
    }

    /// Refuses; `status` tells the caller why.
    pub(super) async fn denied(&self, reason: &'static str, status: Status) -> Status {
        self.broker.metrics.refused(reason);
        let detail = format!("{reason}: {}", status.message());
        let status = match codes::of_refusal(reason) {
            Some(entry) => status::coded(&status, entry),
            None => status,
        };
        self.answer(Record { outcome: Outcome::Denied, detail, ..self.record.clone() }, status).await
    }

    /// Policy allowed it, and it could not be given.
    pub(super) async fn failed(&self, status: Status) -> Status {
        self.broker.metrics.answered(&self.record.grant, self.record.event, "failed");
        let detail = status.message().to_owned();
        self.answer(Record { outcome: Outcome::Failed, detail, ..self.record.clone() }, status).await
    }

    async fn answer(&self, record: Record, status: Status) -> Status {
        match self.broker.audit.record(record).await {
            Ok(_) => status,
            Err(error) => status::of_audit(&error),
        }
    }

    /// Writes that the grant is given. The id goes into the answer; without one there is no answer.
    pub(super) async fn granted(&self) -> Result<String, Status> {
        let id = self.note(Outcome::Granted, |_| ()).await?;
        self.broker.metrics.answered(&self.record.grant, self.record.event, "granted");
        Ok(id)
    }

    /// Writes one line.
    pub(super) async fn note(
        &self,
        outcome: Outcome,
        fill: impl FnOnce(&mut Record),
    ) -> Result<String, Status> {
        let mut record = Record { outcome, ..self.record.clone() };
        fill(&mut record);
        self.broker.audit.record(record).await.map_err(|error| {
            self.broker.metrics.refused("audit");
            status::of_audit(&error)
        })
    }
}

fn too_many() -> Status {
    Status::resource_exhausted("too many calls a second for this uid; slow down and try again")
}

struct Names {
    grant: GrantName,
    pipeline: Option<PipelineName>,
    run_id: Option<RunId>,
}

impl Names {
    fn read(grant: &str, pipeline: &str, run_id: &str) -> Result<Self, String> {
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            grant: grant.parse().map_err(|e| format!("`grant`: {e}"))?,
            pipeline: optional(pipeline)
                .map(PipelineName::try_from)
                .transpose()
                .map_err(|e| format!("`pipeline`: {e}"))?,
            run_id: optional(run_id)
                .map(RunId::try_from)
                .transpose()
                .map_err(|e| format!("`run_id`: {e}"))?,
        })
    }
}
