//! Who is at the other end of a connection, as the kernel recorded it when it connected.

use tonic::transport::server::UdsConnectInfo;

/// A process at the socket: uid and gid at `connect()`.
///
/// The kernel's `pid` is never read: it is 0 across containers and reused everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    uid: u32,
    gid: u32,
}

impl Caller {
    /// A caller with these ids.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }

    /// The caller of a connection; none when the kernel gave no credentials.
    pub fn of(connection: &UdsConnectInfo) -> Option<Self> {
        let peer = connection.peer_cred?;
        Some(Self::new(peer.uid(), peer.gid()))
    }

    /// The uid at connect.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The gid at connect.
    pub fn gid(&self) -> u32 {
        self.gid
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_connection_without_credentials_is_nobody() {
        assert_eq!(Caller::of(&UdsConnectInfo { peer_addr: None, peer_cred: None }), None);
    }

    #[tokio::test]
    async fn a_caller_is_the_uid_and_gid_at_connect() {
        let (one, _other) = tokio::net::UnixStream::pair().unwrap();
        let peer = one.peer_cred().unwrap();
        let info = UdsConnectInfo { peer_addr: one.peer_addr().ok().map(Arc::new), peer_cred: Some(peer) };
        assert_eq!(Caller::of(&info), Some(Caller::new(peer.uid(), peer.gid())));
    }
}
