//! `/health`, `/metrics` and `/prometheus` (the same) over plain HTTP, meant for loopback. Nothing here is secret, and nothing here
//! can be changed.

mod health;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::health::{Health, health};
use crate::{issuer::Upstreams, rpc::Broker};

/// Connections served at once.
const CONNECTIONS: usize = 32;

/// One connection asks, is answered and goes within this time.
const CONNECTION: Duration = Duration::from_secs(10);

/// Binds the address; port 0 takes a free one.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    if !listen.ip().is_loopback() {
        warn!(%listen, "health and metrics are served beyond loopback, as configured");
    }
    TcpListener::bind(listen).await
}

/// Serves until `shutdown`. `draining` turns health to 503 so that nobody new is sent here.
pub async fn serve<U: Upstreams>(
    broker: Arc<Broker<U>>,
    listener: TcpListener,
    draining: CancellationToken,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection for health and metrics");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        // Without a place the connection is closed unanswered.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (broker, draining) = (Arc::clone(&broker), draining.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&broker, &request, draining.is_cancelled());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .max_buf_size(16 * 1024)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A probe that hangs up early is no concern of ours.
            let _ = timeout(CONNECTION, connection).await;
            drop(place);
        });
    }
    connections.shutdown().await;
}

fn answer<U: Upstreams>(
    broker: &Broker<U>,
    request: &Request<Incoming>,
    draining: bool,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".to_owned());
    }
    match request.uri().path() {
        "/health" => {
            let health = health(broker, draining);
            let status = if health.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            page(status, "application/json", health.to_json())
        }
        "/metrics" | "/prometheus" => {
            look(broker);
            let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            page(StatusCode::OK, format, broker.metrics.encode())
        }
        _ => page(
            StatusCode::NOT_FOUND,
            "text/plain",
            "here are /health, /metrics and /prometheus\n".to_owned(),
        ),
    }
}

/// Sets what is only known by looking: lives, states, versions.
fn look<U: Upstreams>(broker: &Broker<U>) {
    for slot in broker.grants.slots() {
        let left = slot.state().left.unwrap_or_default();
        broker.metrics.expires_in(slot.name().as_str(), left.as_secs());
    }
    for status in broker.upstreams.status() {
        broker.metrics.upstream_state(&status, health::left(&status));
    }
    let secret = broker.upstreams.secret_status();
    broker.metrics.secret_versions(secret.version_in_use, secret.newest_version);
    broker.metrics.audit_state(&broker.audit);
}

fn page(status: StatusCode, format: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(format));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
