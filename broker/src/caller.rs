//! Who is at the other end: the ids that the kernel recorded when it connected, and the service account that a call proves.

use tonic::transport::server::UdsConnectInfo;

use crate::config::ServiceAccountName;

/// A process at the socket: uid and gid at `connect()`, and the service account whose token its call carried.
///
/// The kernel's `pid` is never read: it is 0 across containers and reused everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    uid: u32,
    gid: u32,
    service_account: Option<ServiceAccountName>,
}

impl Caller {
    /// A caller with these ids.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, service_account: None }
    }

    /// The same caller, which has proved that it runs as this service account.
    #[must_use]
    pub fn proved(self, service_account: ServiceAccountName) -> Self {
        Self { service_account: Some(service_account), ..self }
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

    /// The service account that this call proved.
    pub fn service_account(&self) -> Option<&ServiceAccountName> {
        self.service_account.as_ref()
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
