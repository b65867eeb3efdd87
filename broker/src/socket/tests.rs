use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::*;
use crate::{config::Mode, metrics::Metrics};

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
    dir
}

fn config(path: PathBuf) -> SocketConfig {
    SocketConfig { path, group: None, mode: Mode::default() }
}

fn listen(config: &SocketConfig) -> Result<Socket, SocketError> {
    Socket::listen(&Arc::new(Place::claim(&config.path)?), config)
}

#[tokio::test]
async fn a_socket_has_the_mode_that_was_asked_and_goes_with_the_broker() {
    let dir = folder();
    let config = config(dir.path().join("broker.sock"));
    let socket = listen(&config).unwrap();
    assert_eq!(fs::metadata(socket.path()).unwrap().permissions().mode() & 0o7777, 0o660);
    UnixStream::connect(socket.path()).await.unwrap();
    drop(socket);
    assert!(!config.path.exists());
}

#[tokio::test]
async fn a_socket_gets_the_group_that_was_asked_and_an_unknown_group_is_named() {
    let dir = folder();
    let gid = nix::unistd::getegid().as_raw();
    let mut config = config(dir.path().join("broker.sock"));
    config.group = Some(Group::Id(gid));
    let socket = listen(&config).unwrap();
    assert_eq!(fs::metadata(socket.path()).unwrap().gid(), gid);
    drop(socket);
    config.group = Some(Group::Name("no-such-group".to_owned()));
    assert!(matches!(listen(&config), Err(SocketError::NoSuchGroup(_))));
}

#[tokio::test]
async fn a_second_broker_is_turned_away_and_the_first_goes_on() {
    let dir = folder();
    let config = config(dir.path().join("broker.sock"));
    let first = listen(&config).unwrap();
    assert!(matches!(listen(&config), Err(SocketError::AnotherBroker { .. })));
    UnixStream::connect(first.path()).await.unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = folder();
    let path = dir.path().join("broker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = listen(&config(path)).unwrap();
    UnixStream::connect(socket.path()).await.unwrap();
}

/// Lays out one hostile folder and returns the socket path in it.
type Layout = fn(&Path) -> PathBuf;

#[tokio::test]
async fn hostile_layouts_are_refused() {
    let layouts: [(&str, Layout); 9] = [
        ("anybody can write the folder", |dir| {
            fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
            dir.join("s")
        }),
        ("the group can write the folder", |dir| {
            fs::set_permissions(dir, Permissions::from_mode(0o770)).unwrap();
            dir.join("s")
        }),
        ("a sticky folder is no place of one's own", |dir| {
            fs::set_permissions(dir, Permissions::from_mode(0o1777)).unwrap();
            dir.join("s")
        }),
        ("anybody can write the folder above", |dir| {
            fs::create_dir(dir.join("in")).unwrap();
            fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
            dir.join("in/s")
        }),
        ("the folder is a link", |dir| {
            fs::create_dir(dir.join("real")).unwrap();
            symlink(dir.join("real"), dir.join("link")).unwrap();
            dir.join("link/s")
        }),
        ("a folder above is a link", |dir| {
            fs::create_dir_all(dir.join("real/in")).unwrap();
            symlink(dir.join("real"), dir.join("link")).unwrap();
            dir.join("link/in/s")
        }),
        ("the folder is a file", |dir| {
            fs::write(dir.join("file"), "").unwrap();
            dir.join("file/s")
        }),
        ("the folder is absent", |dir| dir.join("absent/s")),
        ("the path climbs", |dir| dir.join("../s")),
    ];
    for (what, layout) in layouts {
        let dir = folder();
        let path = layout(dir.path());
        let error = listen(&config(path)).err().unwrap_or_else(|| panic!("served although {what}"));
        assert!(matches!(error, SocketError::Folder { .. }), "{what}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_stale_socket_is_left_alone() {
    let layouts: [Layout; 3] = [
        |dir| {
            fs::write(dir.join("s"), "precious").unwrap();
            dir.join("s")
        },
        |dir| {
            fs::create_dir(dir.join("s")).unwrap();
            dir.join("s")
        },
        |dir| {
            symlink("/dev/null", dir.join("s")).unwrap();
            dir.join("s")
        },
    ];
    for layout in layouts {
        let dir = folder();
        let path = layout(dir.path());
        assert!(matches!(listen(&config(path.clone())), Err(SocketError::InTheWay { .. })));
        assert!(path.symlink_metadata().is_ok(), "it is still there");
    }
}

#[tokio::test]
async fn a_uid_has_no_more_connections_than_its_share() {
    let dir = folder();
    let socket = listen(&config(dir.path().join("s"))).unwrap();
    let path = socket.path().to_owned();
    let mut accepted = incoming(socket, 2, Arc::new(Metrics::default()));
    let first = UnixStream::connect(&path).await.unwrap();
    let held = [accepted.next().await, {
        let _second = UnixStream::connect(&path).await.unwrap();
        accepted.next().await
    }];
    let mut third = UnixStream::connect(&path).await.unwrap();
    let served = tokio::time::timeout(Duration::from_millis(100), accepted.next()).await;
    assert!(served.is_err(), "the third is not served");
    assert_eq!(third.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
    drop(held);
    let _fourth = UnixStream::connect(&path).await.unwrap();
    assert!(accepted.next().await.is_some(), "there is room again");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_drips_is_closed() {
    let dir = folder();
    let socket = listen(&config(dir.path().join("s"))).unwrap();
    let path = socket.path().to_owned();
    let mut accepted = incoming(socket, 2, Arc::new(Metrics::default()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    let mut server = accepted.next().await.unwrap().unwrap();
    let drip = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if client.write_all(b"P").await.is_err() {
                return;
            }
        }
    });
    let mut got = Vec::new();
    let error = server.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(server);
    drip.await.unwrap();
}
