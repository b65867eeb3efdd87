//! One Snowflake session at a time, opened when it is needed and replaced when it is gone.

use super::{Failure, retry};
use crate::{
    config::Pipeline,
    grants::Broker,
    snowflake::{Session, SessionOptions},
};

/// A place for one session.
#[derive(Debug)]
pub(crate) struct Sessions {
    broker: Broker,
    options: SessionOptions,
    most_failures: u32,
    open: Option<Session>,
}

impl Sessions {
    /// Nothing is opened yet.
    pub(crate) fn new(broker: &Broker, pipeline: &Pipeline) -> Self {
        let target = &pipeline.target;
        let mut query_tag = format!("keyferry pipeline={}", pipeline.name);
        for (key, value) in &target.tags {
            query_tag.extend([" ", key, "=", value]);
        }
        let mut options = SessionOptions {
            query_tag,
            ca_file: target.ca_file.clone(),
            stage_endpoint_allow: target.stage_endpoint_allow.clone(),
            ..SessionOptions::new(&target.grant, &target.role, &target.warehouse)
        };
        // A session that waits longer than the run would is of no use.
        options.patience = options.patience.min(pipeline.limits.patience);
        let most_failures = retry::most_failures(pipeline.limits.patience);
        Self { broker: broker.clone(), options, most_failures, open: None }
    }

    /// Another place with the same options.
    pub(crate) fn sibling(&self) -> Self {
        let (broker, options) = (self.broker.clone(), self.options.clone());
        Self { broker, options, most_failures: self.most_failures, open: None }
    }

    /// The session, opened if there is none or the last one is poisoned.
    pub(crate) async fn current(&mut self) -> Result<&mut Session, Failure> {
        if self.open.as_ref().is_some_and(Session::is_poisoned) {
            self.discard().await;
        }
        let session = match self.open.take() {
            Some(session) => session,
            None => Session::open(&self.broker, &self.options).await?,
        };
        Ok(self.open.insert(session))
    }

    /// Gives the session up: the next statement gets a new one.
    pub(crate) async fn discard(&mut self) {
        if let Some(session) = self.open.take() {
            session.close().await;
        }
    }

    /// Gives the session up after a failure in passing, and waits. `None` when it failed too often or not in passing.
    pub(crate) async fn again(&mut self, error: &Failure, failures: &mut u32) -> bool {
        *failures += 1;
        if !error.is_transient() || *failures >= self.most_failures {
            return false;
        }
        tracing::warn!(%error, failures, "trying again in a new Snowflake session");
        self.discard().await;
        tokio::time::sleep(retry::pause(*failures)).await;
        true
    }
}

/// Runs work on a session, in a new one after each failure in passing, a bounded number of times. Only for work
/// that may be done twice.
macro_rules! persist {
    ($sessions:expr, $session:ident => $work:expr) => {{
        let mut failures = 0;
        loop {
            let outcome = match $sessions.current().await {
                Ok($session) => $work.await.map_err($crate::pipeline::Failure::from),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(value) => break Ok(value),
                Err(error) => {
                    if !$sessions.again(&error, &mut failures).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
pub(crate) use persist;
