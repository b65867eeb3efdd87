//! A bare tonic server on a Unix socket: it answers GetToken with a token of the usual size and does nothing else.

use std::{os::unix::fs::PermissionsExt as _, path::Path, pin::Pin, time::SystemTime};

use anyhow::Result;
use futures_util::Stream;
use keyferry_proto::v1::{
    GetSettingsRequest, GetTokenRequest, GssClient, GssServer, OpenSessionRequest, ReportOutcomeRequest,
    ReportOutcomeResponse, Settings, SnowflakeSession, Token, WatchTokenRequest, WhoAmIRequest,
    WhoAmIResponse,
    credentials_server::{Credentials, CredentialsServer},
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

struct Echo(Token);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn none() -> Status {
    Status::unimplemented("the echo has no such call")
}

#[tonic::async_trait]
impl Credentials for Echo {
    type InitiateStream = Answers<GssServer>;
    type OpenSessionStream = Answers<SnowflakeSession>;
    type WatchTokenStream = Answers<Token>;

    async fn get_token(&self, _: Request<GetTokenRequest>) -> Result<Response<Token>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Err(none())
    }

    async fn initiate(
        &self,
        _: Request<Streaming<GssClient>>,
    ) -> Result<Response<Self::InitiateStream>, Status> {
        Err(none())
    }

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        Err(none())
    }

    async fn watch_token(
        &self,
        _: Request<WatchTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        Err(none())
    }

    async fn get_settings(&self, _: Request<GetSettingsRequest>) -> Result<Response<Settings>, Status> {
        Err(none())
    }

    async fn report_outcome(
        &self,
        _: Request<ReportOutcomeRequest>,
    ) -> Result<Response<ReportOutcomeResponse>, Status> {
        Err(none())
    }
}

/// Serves until the process is ended. `bytes` is the size of the token.
pub async fn serve(socket: &Path, bytes: usize) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    // The callers are another user.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    let token = Token {
        value: vec![b'x'; bytes],
        expires_at: Some(SystemTime::now().into()),
        generation: "generation-of-an-echo-01".to_owned(),
        audit_id: uuid::Uuid::new_v4().simple().to_string(),
        ..Token::default()
    };
    let incoming = UnixListenerStream::new(listener);
    Server::builder().add_service(CredentialsServer::new(Echo(token))).serve_with_incoming(incoming).await?;
    Ok(())
}
