//! A caller that uses the whole contract and keeps every byte that crossed the socket.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use keyferry_proto::{
    connect::CallMetadata,
    v1::{
        GetSettingsRequest, GetTokenRequest, GssBegin, GssClient, OpenSessionRequest, WatchTokenRequest,
        WhoAmIRequest, credentials_client::CredentialsClient, gss_client,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tonic::transport::{Endpoint, Uri};

/// Calls every method as this very user and writes what the broker sent to `out`, raw.
pub async fn record(socket: &Path, out: &Path) -> Result<()> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (socket, sink) = (socket.to_owned(), Arc::clone(&heard));
    let connector = tower::service_fn(move |_: Uri| {
        let (socket, heard) = (socket.clone(), Arc::clone(&sink));
        async move { Ok::<_, io::Error>(TokioIo::new(Tap { inner: UnixStream::connect(socket).await?, heard })) }
    });
    let channel = Endpoint::from_static("http://broker.keyferry").connect_with_connector(connector).await?;
    let mut client = CredentialsClient::with_interceptor(channel, CallMetadata::default());
    let run_id = "wire-check".to_owned();
    client.who_am_i(WhoAmIRequest {}).await?;
    for grant in ["sales-sql", "analytics"] {
        client.get_settings(GetSettingsRequest { grant: grant.to_owned(), pipeline: String::new() }).await?;
    }
    // Policy allows this caller no token; the refusal's bytes count too.
    let refused = client
        .get_token(GetTokenRequest {
            grant: "analytics".to_owned(),
            run_id: run_id.clone(),
            ..Default::default()
        })
        .await;
    anyhow::ensure!(refused.is_err(), "a token was given to a caller that policy allows only sessions");
    let watch = WatchTokenRequest { grant: "analytics".to_owned(), ..Default::default() };
    anyhow::ensure!(
        client.watch_token(watch).await.is_err(),
        "a caller without the use `token` may watch one"
    );
    let begin = GssBegin { grant: "sales-sql".to_owned(), pipeline: String::new(), run_id: run_id.clone() };
    let messages = tokio_stream::iter([GssClient { message: Some(gss_client::Message::Begin(begin)) }]);
    let mut relay = client.initiate(messages).await?.into_inner();
    relay.message().await?.context("no GSS token")?;
    let request = OpenSessionRequest { grant: "analytics".to_owned(), run_id, ..Default::default() };
    let mut sessions = client.open_session(request).await?.into_inner();
    sessions.message().await?.context("no session")?;
    // The renewed session token crosses too, when it comes soon.
    drop(tokio::time::timeout(Duration::from_secs(5), sessions.message()).await);
    let bytes = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    std::fs::write(out, bytes)?;
    Ok(())
}

/// Keeps a copy of every byte that is read.
struct Tap {
    inner: UnixStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&buffer.filled()[before..]);
        outcome
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
