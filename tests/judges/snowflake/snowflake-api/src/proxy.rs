//! An HTTP proxy on loopback that brings every CONNECT to one address, whatever name it asks for.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// The longest head of a request.
const LONGEST_HEAD: usize = 8192;

/// Listens, and answers where.
pub fn start(target: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || tunnel(client, target));
        }
    });
    Ok(address)
}

fn tunnel(mut client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"CONNECT s3.") {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    }
    let server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (from_client, to_client) = (client.try_clone()?, client);
    let (from_server, to_server) = (server.try_clone()?, server);
    let up = thread::spawn(move || copy(from_client, to_server));
    copy(from_server, to_client);
    drop(up.join());
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    drop(std::io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Both));
}
