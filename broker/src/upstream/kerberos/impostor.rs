//! Tests: a KDC that answers everything with one error, and keeps what it was asked.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

pub(super) struct Impostor {
    address: String,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    ending: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Impostor {
    /// Takes the place of a KDC that was stopped.
    pub(super) fn start(address: &str, code: u8, text: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (asked, ending) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (notes, end, answer) = (Arc::clone(&asked), Arc::clone(&ending), error(code, text));
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                if let Some(request) = stream.ok().and_then(|stream| serve(stream, &answer)) {
                    notes.lock().unwrap().push(request);
                }
            }
        });
        Self { address: address.to_owned(), asked, ending, serving: Some(serving) }
    }

    /// True when a request holds this text, which may be part of a name.
    pub(super) fn was_asked_for(&self, text: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|request| request.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
        drop(self.serving.take().map(JoinHandle::join));
    }
}

/// One request and its answer, each with its length in front (RFC 4120, section 7.2.2).
fn serve(mut stream: TcpStream, answer: &[u8]) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut request = vec![0; u32::from_be_bytes(length).min(1 << 20) as usize];
    stream.read_exact(&mut request).ok()?;
    stream.write_all(&(answer.len() as u32).to_be_bytes()).ok()?;
    stream.write_all(answer).ok()?;
    Some(request)
}

/// KRB-ERROR (RFC 4120, section 5.9.1).
fn error(code: u8, text: &str) -> Vec<u8> {
    let (integer, sequence, time, string) = (0x02, 0x30, 0x18, 0x1B);
    let name = [der(string, b"krbtgt"), der(string, b"KEYFERRY.TEST")].concat();
    let name = [der(0xA0, &der(integer, &[2])), der(0xA1, &der(sequence, &name))].concat();
    let fields = [
        der(0xA0, &der(integer, &[5])),
        der(0xA1, &der(integer, &[30])),
        der(0xA4, &der(time, b"20260101000000Z")),
        der(0xA5, &der(integer, &[0])),
        der(0xA6, &der(integer, &[code])),
        der(0xA9, &der(string, b"KEYFERRY.TEST")),
        der(0xAA, &der(sequence, &name)),
        der(0xAB, &der(string, text.as_bytes())),
    ];
    der(0x7E, &der(sequence, &fields.concat()))
}

/// One value with its tag and length.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=127 => out.push(length as u8),
        128..=255 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}
