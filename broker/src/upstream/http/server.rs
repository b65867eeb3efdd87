//! A small HTTPS server for tests: says what it is told to say, and remembers what it was asked.

use std::{
    convert::Infallible,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header::HeaderMap,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// One request, as it came.
#[derive(Clone)]
pub(in crate::upstream) struct Seen {
    pub(in crate::upstream) method: String,
    /// Path and query.
    pub(in crate::upstream) target: String,
    pub(in crate::upstream) headers: HeaderMap,
    pub(in crate::upstream) body: Vec<u8>,
}

impl Seen {
    pub(in crate::upstream) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(in crate::upstream) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What to answer.
pub(in crate::upstream) enum Reply {
    Json(u16, Value),
    /// Status, one header, body.
    With(u16, (&'static str, String), Value),
    /// A body that never ends.
    Endless,
    /// No answer at all.
    Silence,
    /// Less than was announced.
    CutOff,
}

/// The server. It stops when dropped.
pub(in crate::upstream) struct Server {
    pub(in crate::upstream) url: String,
    ca: tempfile::NamedTempFile,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(in crate::upstream) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(certificate(|_| ()), answer).await
    }

    /// A server whose certificate is not as it should be.
    pub(in crate::upstream) async fn with_certificate(
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Self {
        Self::with(certificate(change), |_| Reply::Json(200, serde_json::json!({}))).await
    }

    async fn with(
        (acceptor, ca): (TlsAcceptor, tempfile::NamedTempFile),
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<dyn Fn(&Seen) -> Reply + Send + Sync> = Arc::new(answer);
        let notes = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, answer, notes) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&notes));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(socket).await else { return };
                    let service =
                        service_fn(move |request| serve(request, Arc::clone(&answer), Arc::clone(&notes)));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        Self { url, ca, seen, task }
    }

    pub(in crate::upstream) fn ca(&self) -> &Path {
        self.ca.path()
    }

    pub(in crate::upstream) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The paths that were asked for, in order.
    pub(in crate::upstream) fn paths(&self) -> Vec<String> {
        self.seen().iter().map(|s| s.target.split('?').next().unwrap().to_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

async fn serve(
    request: Request<Incoming>,
    answer: Arc<dyn Fn(&Seen) -> Reply + Send + Sync>,
    notes: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    };
    notes.lock().unwrap().push(seen.clone());
    let build = |status: u16| Response::builder().status(status).header("content-type", "application/json");
    let full =
        |value: &Value| Full::new(Bytes::from(value.to_string())).map_err(|e| match e {}).boxed_unsync();
    Ok(match answer(&seen) {
        Reply::Json(status, value) => build(status).body(full(&value)).unwrap(),
        Reply::With(status, (name, text), value) => {
            build(status).header(name, text).body(full(&value)).unwrap()
        }
        Reply::Endless => {
            let frames = stream::repeat_with(|| Ok(Frame::data(Bytes::from(vec![b' '; 65_536]))));
            build(200).body(BodyExt::boxed_unsync(StreamBody::new(frames))).unwrap()
        }
        Reply::Silence => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            build(200).body(full(&Value::Null)).unwrap()
        }
        Reply::CutOff => {
            let frames = stream::iter([
                Ok(Frame::data(Bytes::from_static(b"{\"auth\":"))),
                Err(std::io::Error::other("cut")),
            ])
            .then(|frame| async {
                // Time for what came before to be sent.
                tokio::time::sleep(Duration::from_millis(30)).await;
                frame
            });
            let body = BodyExt::boxed_unsync(StreamBody::new(frames));
            build(200).header("content-length", "1000").body(body).unwrap()
        }
    })
}

fn certificate(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (TlsAcceptor, tempfile::NamedTempFile) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut leaf);
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(authority, authority_key)).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}
