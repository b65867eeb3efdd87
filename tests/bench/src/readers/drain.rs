//! No client at all: the answer's bytes are read from the socket and dropped. Nobody can be faster than this.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{LOGIN, PASSWORD, Reading};
use crate::usage::{Measured, Meter};

const HEADER: usize = 8;
const PACKET: u32 = 32_767;
const PRELOGIN: u8 = 0x12;
const LOGIN7: u8 = 0x10;
const BATCH: u8 = 0x01;
/// The final DONE of an answer.
const DONE: usize = 13;

pub(super) fn read(reading: &Reading) -> Result<Measured> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, reading.port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    // VERSION and ENCRYPTION (2: not supported).
    let prelogin = [0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 9, 0, 0, 0, 0, 0, 2];
    send(&mut socket, PRELOGIN, &prelogin)?;
    answer(&mut socket)?;
    send(&mut socket, LOGIN7, &login(&reading.database))?;
    let said = answer(&mut socket)?;
    ensure!(said.tail[..1] == [0xFD], "the login was refused");

    let mut batch = Vec::new();
    batch.extend(22_u32.to_le_bytes());
    batch.extend(18_u32.to_le_bytes());
    batch.extend(2_u16.to_le_bytes());
    batch.extend(0_u64.to_le_bytes());
    batch.extend(1_u32.to_le_bytes());
    batch.extend(utf16(&reading.sql));
    let meter = Meter::start()?;
    send(&mut socket, BATCH, &batch)?;
    let drained = answer(&mut socket)?;
    let [token, status, _, _, _, count @ ..] = drained.tail;
    ensure!(token == 0xFD && status & 0x10 != 0, "the answer does not end with a count of rows");
    let measured = meter.stop(u64::from_le_bytes(count))?;
    Ok(Measured { wire_bytes: drained.bytes, versions: "read() into one buffer".to_owned(), ..measured })
}

struct Answer {
    bytes: u64,
    tail: [u8; DONE],
}

/// Reads one message; only the packets' headers are looked at.
fn answer(socket: &mut TcpStream) -> Result<Answer> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, mut header, mut have, mut left, mut last) = (0, [0; HEADER], 0, 0, false);
    let mut tail = [0; DONE];
    loop {
        let count = socket.read(&mut buffer)?;
        ensure!(count > 0, "the server hung up");
        bytes += count as u64;
        let mut at = 0;
        while at < count {
            if left == 0 {
                let take = (HEADER - have).min(count - at);
                header[have..have + take].copy_from_slice(&buffer[at..at + take]);
                (have, at) = (have + take, at + take);
                if have == HEADER {
                    left = usize::from(u16::from_be_bytes([header[2], header[3]])) - HEADER;
                    last = header[1] & 1 != 0;
                    have = 0;
                }
            } else {
                let take = left.min(count - at);
                if take >= DONE {
                    tail.copy_from_slice(&buffer[at + take - DONE..at + take]);
                } else {
                    tail.copy_within(take.., 0);
                    tail[DONE - take..].copy_from_slice(&buffer[at..at + take]);
                }
                (left, at) = (left - take, at + take);
            }
        }
        if last && left == 0 && have == 0 {
            return Ok(Answer { bytes, tail });
        }
    }
}

fn send(socket: &mut TcpStream, kind: u8, body: &[u8]) -> Result<()> {
    ensure!(body.len() + HEADER <= 4096, "one packet is enough here");
    let mut packet = vec![kind, 1];
    packet.extend(((body.len() + HEADER) as u16).to_be_bytes());
    packet.extend([0, 0, 1, 0]);
    packet.extend_from_slice(body);
    Ok(socket.write_all(&packet)?)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// LOGIN7 (MS-TDS 2.2.6.4) with a name and a password.
fn login(database: &str) -> Vec<u8> {
    const FIXED: usize = 94;
    let mut password = utf16(PASSWORD);
    for byte in &mut password {
        *byte = byte.rotate_left(4) ^ 0xA5;
    }
    // Host, user, password, application, server, unused, library, language, database.
    let fields = [
        utf16("bench"),
        utf16(LOGIN),
        password,
        utf16("drain"),
        utf16("localhost"),
        vec![],
        vec![],
        vec![],
        utf16(database),
    ];
    let mut body = vec![0; 4];
    body.extend(0x7400_0004_u32.to_le_bytes());
    body.extend(PACKET.to_le_bytes());
    body.extend([0; 12]); // program version, pid, connection
    body.extend([0xE0, 0x03, 0, 0]);
    body.extend([0; 8]); // time zone, locale
    let mut data = Vec::new();
    for field in &fields {
        body.extend(((FIXED + data.len()) as u16).to_le_bytes());
        body.extend(((field.len() / 2) as u16).to_le_bytes());
        data.extend_from_slice(field);
    }
    body.extend([0; 6]); // client id
    for _ in 0..3 {
        body.extend(((FIXED + data.len()) as u16).to_le_bytes());
        body.extend(0_u16.to_le_bytes());
    }
    body.extend([0; 4]);
    body.extend(data);
    let length = (body.len() as u32).to_le_bytes();
    body[..4].copy_from_slice(&length);
    body
}
