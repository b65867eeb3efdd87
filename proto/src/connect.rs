//! Dial the broker's Unix socket: check who owns it, retry with jitter while nobody serves it.

use std::{
    io,
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tokio::{net::UnixStream, time::Instant};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    MAX_MESSAGE_BYTES, METADATA_KEY, METADATA_VALUE, SERVICE_ACCOUNT_KEY,
    v1::credentials_client::CredentialsClient,
};

/// A client whose calls carry the required metadata.
pub type Client = CredentialsClient<InterceptedService<Channel, CallMetadata>>;

/// The longest service-account token that is sent, in bytes.
const LONGEST_TOKEN: u64 = 8 * 1024;

/// Adds the contract's version to each call, and the service-account token as its file has it now.
#[derive(Clone, Debug, Default)]
pub struct CallMetadata {
    service_account_token: Option<Arc<Path>>,
}

impl Interceptor for CallMetadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(METADATA_KEY, MetadataValue::from_static(METADATA_VALUE));
        if let Some(path) = &self.service_account_token {
            let token = service_account_token(path).map_err(|problem| {
                Status::failed_precondition(format!(
                    "cannot send the service-account token of {}: {problem}; mount a projected token there",
                    path.display()
                ))
            })?;
            request.metadata_mut().insert(SERVICE_ACCOUNT_KEY, token);
        }
        Ok(request)
    }
}

/// The kubelet replaces the file ahead of its end, so it is read for each call; it lies in memory.
fn service_account_token(path: &Path) -> Result<MetadataValue<Ascii>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LONGEST_TOKEN {
        return Err(format!("{size} bytes are no token"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut token = MetadataValue::try_from(text.trim()).map_err(|_| "it holds no token".to_owned())?;
    token.set_sensitive(true);
    if token.is_empty() { Err("it is empty".to_owned()) } else { Ok(token) }
}

/// Where the broker is, and who must be serving there.
#[derive(Clone, Debug)]
pub struct Address {
    /// The socket's path. Abstract names are not accepted.
    pub socket: PathBuf,
    /// The uid that must own the serving process, as the kernel saw it at `listen()`.
    pub server_uid: u32,
    /// How long to wait for a socket that nobody serves yet.
    pub patience: Duration,
    /// In Kubernetes the file of the projected service-account token, which each call then carries.
    pub service_account_token: Option<PathBuf>,
}

/// Why the broker cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing lies at the path, or nobody listens there.
    #[error(
        "cannot reach the broker at {}: {source}; is it running (`broker run`), and is the socket's directory mounted here?",
        path.display()
    )]
    Unreachable {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said last.
        source: io::Error,
    },
    /// The path is something else than a socket.
    #[error("{} is not a socket; point `broker.socket` at the broker's own", path.display())]
    NotASocket {
        /// The path that was tried.
        path: PathBuf,
    },
    /// Another user serves the socket: nothing was sent to it.
    #[error(
        "the socket {} is served by uid {found}, not by the broker's uid {expected}; nothing was sent. \
         Set `broker.server_uid` to the broker's uid, or find out who replaced the socket",
        path.display()
    )]
    WrongServer {
        /// The socket's path.
        path: PathBuf,
        /// The uid that serves it.
        found: u32,
        /// The uid that the configuration names.
        expected: u32,
    },
    /// HTTP/2 could not be set up on the connection.
    #[error("the broker at {} does not speak gRPC: {source}", path.display())]
    Handshake {
        /// The socket's path.
        path: PathBuf,
        /// What the transport said.
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// The same error once more, for a caller that has it behind a reference; none for one of the transport.
    pub fn again(&self) -> Option<Self> {
        Some(match self {
            Self::Unreachable { path, source } => Self::Unreachable {
                path: path.clone(),
                source: source
                    .raw_os_error()
                    .map_or_else(|| source.kind().into(), io::Error::from_raw_os_error),
            },
            Self::NotASocket { path } => Self::NotASocket { path: path.clone() },
            Self::WrongServer { path, found, expected } => {
                Self::WrongServer { path: path.clone(), found: *found, expected: *expected }
            }
            Self::Handshake { .. } => return None,
        })
    }
}

/// Connects and checks the server's uid on this and on every later connection of the channel.
pub async fn connect(address: &Address) -> Result<Client, ConnectError> {
    let deadline = Instant::now() + address.patience;
    // The first connection is made here so that its error can be named exactly.
    drop(dial_until(address, deadline).await?);
    let metadata =
        CallMetadata { service_account_token: address.service_account_token.as_deref().map(Arc::from) };
    let target = address.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let target = target.clone();
        async move {
            let stream = dial(&target).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://broker.keyferry")
        .connect_timeout(Duration::from_secs(5))
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Handshake { path: address.socket.clone(), source })?;
    Ok(CredentialsClient::with_interceptor(channel, metadata)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

async fn dial_until(address: &Address, deadline: Instant) -> Result<UnixStream, ConnectError> {
    let mut pause = Duration::from_millis(50);
    loop {
        match dial(address).await {
            Err(ConnectError::Unreachable { .. }) if Instant::now() + pause < deadline => {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            outcome => return outcome,
        }
    }
}

async fn dial(address: &Address) -> Result<UnixStream, ConnectError> {
    let path = &address.socket;
    refuse_other_files(path)?;
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| ConnectError::Unreachable { path: path.clone(), source })?;
    let found = getsockopt(&stream.as_fd(), PeerCredentials)
        .map_err(|e| ConnectError::Unreachable { path: path.clone(), source: e.into() })?
        .uid();
    if found == address.server_uid {
        Ok(stream)
    } else {
        Err(ConnectError::WrongServer { path: path.clone(), found, expected: address.server_uid })
    }
}

fn refuse_other_files(path: &Path) -> Result<(), ConnectError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => Ok(()),
        Ok(_) => Err(ConnectError::NotASocket { path: path.to_owned() }),
        Err(source) => Err(ConnectError::Unreachable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(socket: PathBuf, server_uid: u32) -> Address {
        Address { socket, server_uid, patience: Duration::ZERO, service_account_token: None }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = connect(&address(dir.path().join("broker.sock"), 1)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }));
        assert!(error.to_string().contains("broker run"), "{error}");
    }

    #[test]
    fn the_service_account_token_is_read_for_each_call_and_never_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut metadata = CallMetadata { service_account_token: Some(Arc::from(file.path())) };
        let refused = metadata.call(Request::new(())).unwrap_err();
        assert!(refused.message().contains("it is empty"), "{refused:?}");
        for token in ["first.token.a\n", "second.token.b"] {
            std::fs::write(file.path(), token).unwrap();
            let request = metadata.call(Request::new(())).unwrap();
            let value = request.metadata().get(SERVICE_ACCOUNT_KEY).unwrap();
            assert_eq!(value.to_str().unwrap(), token.trim());
            assert!(!format!("{:?}", request.metadata()).contains("token."), "it is printed");
        }
        std::fs::write(file.path(), "a".repeat(9000)).unwrap();
        assert!(metadata.call(Request::new(())).is_err());
    }

    #[tokio::test]
    async fn a_plain_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = connect(&address(file.path().to_owned(), 1)).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotASocket { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_server_with_another_uid_is_refused_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let someone_else = nix::unistd::getuid().as_raw() + 1;
        let error = connect(&address(path, someone_else)).await.unwrap_err();
        assert!(matches!(error, ConnectError::WrongServer { .. }), "{error}");
        drop(listener);
    }
}
