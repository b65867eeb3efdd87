//! One relayed exchange: the caller carries the tokens, the broker keeps the context.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::task::JoinHandle;

use super::{
    RelayStep,
    error::{ErrorClass, UpstreamError, UpstreamName},
    kerberos::{Exchange, Step},
    status::Board,
    ticket::Kerberos,
};

/// A context waits no longer than this for the server's answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// No Kerberos token is near this size: Active Directory's tickets end at 65,535 bytes.
const LARGEST_TOKEN: usize = 65_535;

/// One Kerberos exchange; it waits at most 30 seconds for the server's answer.
pub struct Relay {
    kerberos: Arc<Kerberos>,
    service: String,
    exchange: Arc<Mutex<Option<Exchange>>>,
    ticket_expires_at: SystemTime,
    patience: JoinHandle<()>,
}

impl Relay {
    /// Makes the first token for `service`.
    pub(super) async fn begin(
        kerberos: Arc<Kerberos>,
        board: &Board,
        grant: &str,
        service: &str,
    ) -> Result<(Self, RelayStep), UpstreamError> {
        Self::begin_with_patience(kerberos, board, grant, service, PATIENCE).await
    }

    pub(super) async fn begin_with_patience(
        kerberos: Arc<Kerberos>,
        board: &Board,
        grant: &str,
        service: &str,
        patience: Duration,
    ) -> Result<(Self, RelayStep), UpstreamError> {
        let ticket = kerberos.ticket()?;
        let ticket_expires_at = ticket.expires_at();
        // Without a realm the library would take the profile's default one, or stop for want of it.
        let target = match kerberos.realm() {
            Some(realm) if !service.contains('@') => format!("{service}@{realm}"),
            _ => service.to_owned(),
        };
        let attempted = format!("making a token for {service}");
        let begun = kerberos
            .call(&attempted, move || {
                let mut exchange = Exchange::new(ticket, &target)?;
                let step = exchange.step(None)?;
                Ok((exchange, step))
            })
            .await;
        match &begun {
            Ok(_) => board.succeeded(UpstreamName::Kerberos, Some(grant), None),
            Err(error) => board.failed(Some(grant), error),
        }
        let (exchange, step) = begun?;
        let exchange = Arc::new(Mutex::new(Some(exchange)));
        let forgotten = Arc::clone(&exchange);
        let patience = tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            take(&forgotten);
        });
        let relay = Self { kerberos, service: service.to_owned(), exchange, ticket_expires_at, patience };
        let step = relay.report(step)?;
        Ok((relay, step))
    }

    /// Takes what the server sent. A call after the exchange is complete, or after 30 seconds, is an error.
    pub async fn step(&mut self, server_token: &[u8]) -> Result<RelayStep, UpstreamError> {
        let attempted = format!("reading the answer of {}", self.service);
        let refuse = |class, found: &str, advice: &str| {
            Err(UpstreamError::new(UpstreamName::Kerberos, class, &attempted, found, advice))
        };
        if server_token.is_empty() || server_token.len() > LARGEST_TOKEN {
            let advice = "relay the token of the server's login answer, whole";
            return refuse(ErrorClass::Configuration, "a token of an impossible length", advice);
        }
        let Some(mut exchange) = take(&self.exchange) else {
            let advice = "begin a new exchange for a new connection";
            return refuse(ErrorClass::Expired, "the exchange is over, or waited 30 s", advice);
        };
        let received = server_token.to_vec();
        let stepped = self
            .kerberos
            .call(&attempted, move || {
                let step = exchange.step(Some(&received))?;
                Ok((exchange, step))
            })
            .await;
        // Not noted for health: an answer that is wrong says nothing about the KDC.
        let (exchange, step) = stepped?;
        if !step.complete && !self.patience.is_finished() {
            *self.exchange.lock().unwrap_or_else(PoisonError::into_inner) = Some(exchange);
        }
        self.report(step)
    }

    fn report(&self, step: Step) -> Result<RelayStep, UpstreamError> {
        if step.complete && !step.mutual {
            return Err(UpstreamError::new(
                UpstreamName::Kerberos,
                ErrorClass::Denied,
                format!("finishing the exchange with {}", self.service),
                "the server did not prove itself",
                "close this connection: the server holds no key of its service principal name",
            ));
        }
        let ticket_expires_at = match step.remaining {
            Some(remaining) => self.ticket_expires_at.min(SystemTime::now() + remaining),
            None => self.ticket_expires_at,
        };
        Ok(RelayStep { token: step.token, complete: step.complete, mutual: step.mutual, ticket_expires_at })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.patience.abort();
    }
}

fn take(exchange: &Mutex<Option<Exchange>>) -> Option<Exchange> {
    exchange.lock().unwrap_or_else(PoisonError::into_inner).take()
}
