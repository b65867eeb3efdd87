//! A door before a server that can be shut: what is open is cut, and whoever comes is turned away.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// A TCP proxy on a free loopback port. It ends when it is dropped.
pub struct Gate {
    address: SocketAddr,
    shut: watch::Sender<bool>,
    turned_away: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Gate {
    /// Opens before the server at `https://ADDRESS`.
    pub async fn before(url: &str) -> Result<Self> {
        let server = url.strip_prefix("https://").context("an https URL")?.parse::<SocketAddr>()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen before a server")?;
        let address = listener.local_addr()?;
        let (shut, _) = watch::channel(false);
        let turned_away = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, server, shut.clone(), Arc::clone(&turned_away)));
        Ok(Self { address, shut, turned_away, _task: AbortOnDropHandle::new(task) })
    }

    /// `https://ADDRESS`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts what is open and turns away whoever comes, until it is opened.
    pub fn shut(&self, shut: bool) {
        self.shut.send_replace(shut);
    }

    /// How many connections found it shut.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    shut: watch::Sender<bool>,
    turned_away: Arc<AtomicU64>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *shut.borrow() {
            turned_away.fetch_add(1, Ordering::SeqCst);
            // Without lingering a close is a reset, as from a host that is not there.
            drop(client.set_zero_linger());
            continue;
        }
        let mut door = shut.subscribe();
        connections.spawn(async move {
            tokio::select! {
                () = pass(client, server) => {}
                _ = door.wait_for(|shut| *shut) => {}
            }
        });
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // However it ends, both sides are closed.
    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
}
