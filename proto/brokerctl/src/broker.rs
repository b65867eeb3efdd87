//! The calls: each with a deadline, each failure in words.

use std::time::Duration;

use keyferry_proto::{
    connect::{self, Client},
    v1::{
        GetSettingsRequest, GetTokenRequest, Token, WatchTokenRequest, WhoAmIRequest, WhoAmIResponse,
        settings::Settings,
    },
};
use tonic::{Response, Status, Streaming};

use crate::{failure::Failure, held::Held, link::Link};

/// How long the broker may take for an answer; it waits for its upstreams 25 s at the most.
const CALL: Duration = Duration::from_secs(40);

/// A connection to the broker.
pub(crate) struct Broker {
    client: Client,
    pipeline: String,
    run_id: String,
}

impl Broker {
    /// Dials the socket and checks who serves it.
    pub(crate) async fn connect(link: &Link) -> Result<Self, Failure> {
        let client = connect::connect(&link.address).await?;
        Ok(Self { client, pipeline: link.pipeline.clone(), run_id: link.run_id.clone() })
    }

    pub(crate) async fn whoami(&mut self) -> Result<WhoAmIResponse, Failure> {
        answered("ask who I am", self.client.who_am_i(WhoAmIRequest {})).await
    }

    /// A token that lives at least `min_ttl`, and not the one of generation `rejected`.
    pub(crate) async fn token(
        &mut self,
        grant: &str,
        min_ttl: Duration,
        rejected: Option<&str>,
    ) -> Result<Held, Failure> {
        let min_ttl = prost_types::Duration::try_from(min_ttl)
            .map_err(|_| Failure::Usage("--min-ttl is too long".to_owned()))?;
        let request = GetTokenRequest {
            grant: grant.to_owned(),
            pipeline: self.pipeline.clone(),
            run_id: self.run_id.clone(),
            min_ttl: Some(min_ttl),
            rejected_generation: rejected.unwrap_or_default().to_owned(),
        };
        answered("get a token", self.client.get_token(request)).await?.try_into()
    }

    /// The token held, then each new one.
    pub(crate) async fn watch(&mut self, grant: &str) -> Result<Tokens, Failure> {
        let request = WatchTokenRequest {
            grant: grant.to_owned(),
            pipeline: self.pipeline.clone(),
            run_id: self.run_id.clone(),
        };
        Ok(Tokens(answered(WATCH, self.client.watch_token(request)).await?))
    }

    /// Account, user and the like, which are no secret; none for a grant that has no such settings.
    pub(crate) async fn settings(&mut self, grant: &str) -> Result<Option<Settings>, Failure> {
        let request = GetSettingsRequest { grant: grant.to_owned(), pipeline: self.pipeline.clone() };
        Ok(answered("read the settings of the grant", self.client.get_settings(request)).await?.settings)
    }
}

const WATCH: &str = "watch a token";

/// The stream of a watch.
pub(crate) struct Tokens(Streaming<Token>);

impl Tokens {
    /// The next token, as long as it takes.
    pub(crate) async fn next(&mut self) -> Result<Held, Failure> {
        match self.0.message().await {
            Ok(Some(token)) => token.try_into(),
            Ok(None) => Err(Failure::Broken { attempted: WATCH }),
            Err(status) => Err(Failure::of_status(WATCH, &status)),
        }
    }
}

async fn answered<T>(
    attempted: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Failure::of_status(attempted, &status)),
        Err(_) => Err(Failure::Unavailable {
            attempted,
            reason: format!("the broker did not answer within {} s", CALL.as_secs()),
        }),
    }
}
