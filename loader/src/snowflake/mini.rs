//! A tiny HTTP/1.1 server for tests: one request for each connection, answered by a closure, all of them noted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A request as the server saw it; header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What the server does with a request.
pub(crate) enum Act {
    Respond { status: u16, headers: Vec<(&'static str, String)>, body: String },
    CutAfterReading,
    Hang,
}

impl Act {
    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self::Respond { status: 200, headers: vec![], body: body.to_string() }
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Respond { status, headers: vec![], body: body.to_owned() }
    }
}

/// Everything that was seen so far.
pub(crate) type Log = Arc<Mutex<Vec<Seen>>>;

/// Starts a server; `act` gets each request with its number, counted from 0.
pub(crate) async fn serve(act: impl Fn(usize, &Seen) -> Act + Send + 'static) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Log::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(request) = read_request(&mut stream).await else { continue };
            let number = {
                let mut log = log.lock().unwrap();
                log.push(request.clone());
                log.len() - 1
            };
            match act(number, &request) {
                Act::Respond { status, headers, body } => respond(&mut stream, status, &headers, &body).await,
                Act::CutAfterReading => drop(stream),
                Act::Hang => open.push(stream),
            }
        }
    });
    (address, seen)
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        read_more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let headers: HashMap<String, String> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        read_more(stream, &mut body).await?;
    }
    let mut first = head.split_whitespace();
    let method = first.next()?.to_owned();
    let url = url::Url::parse(&format!("http://x{}", first.next()?)).unwrap();
    let query = url.query_pairs().into_owned().collect();
    Some(Seen { method, path: url.path().to_owned(), query, headers, body })
}

async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut part = vec![0; 64 * 1024];
    match stream.read(&mut part).await.ok()? {
        0 => None,
        n => {
            bytes.extend_from_slice(&part[..n]);
            Some(())
        }
    }
}

async fn respond(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &str) {
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        head += name;
        head += ": ";
        head += value;
        head += "\r\n";
    }
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).await;
}
