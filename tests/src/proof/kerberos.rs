//! Learns a realm's live keys from the wire, so that a leak scan knows what to look for.
//!
//! The broker's ticket lives only in its memory. A TCP proxy before the KDC records the exchanges;
//! with the client's keytab the replies open (RFC 4120 messages, RFC 3962 AES encryption), and out
//! come the ticket-granting ticket, its session key and the keys of the service tickets.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use aes::{
    Aes128, Aes256,
    cipher::{Array, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use anyhow::{Context as _, Result, bail, ensure};
use hmac::{Hmac, Mac as _};
use sha1::{Digest as _, Sha1};

/// What one reply revealed.
#[derive(Clone, Debug)]
pub struct Revealed {
    /// What it is, in words.
    pub what: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The first byte of a reply that carries a ticket-granting ticket.
const AS_REP: u8 = 0x6b;

/// A request and its reply, without their length prefixes.
type Exchange = (Vec<u8>, Vec<u8>);

/// A recording TCP proxy before a KDC.
pub struct Recorder {
    address: SocketAddr,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Recorder {
    /// Listens on a free loopback port and passes everything on to `kdc`.
    pub fn start(kdc: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen before the KDC")?;
        let address = listener.local_addr()?;
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&exchanges);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let sink = Arc::clone(&sink);
                thread::spawn(move || {
                    if let Ok(exchange) = pass_on(client, kdc) {
                        sink.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
                    }
                });
            }
        });
        Ok(Self { address, exchanges })
    }

    /// Where the client's `krb5.conf` should point.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many ticket-granting tickets the KDC has given.
    pub fn tickets(&self) -> usize {
        let exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges.iter().filter(|(_, reply)| reply.first() == Some(&AS_REP)).count()
    }

    /// Opens everything recorded so far with the client's keys.
    pub fn reveal(&self, client_keys: &[Vec<u8>]) -> Result<Vec<Revealed>> {
        let exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = Vec::new();
        let mut session_keys: Vec<Vec<u8>> = Vec::new();
        for (request, reply) in &exchanges {
            match reply.first() {
                Some(&AS_REP) => reveal_login(reply, client_keys, &mut session_keys, &mut found)?,
                Some(0x6d) => reveal_service(request, reply, &session_keys, &mut found)?,
                _ => {}
            }
        }
        Ok(found)
    }
}

fn pass_on(mut client: TcpStream, kdc: SocketAddr) -> Result<Exchange> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = frame(&mut client)?;
    let mut server = TcpStream::connect(kdc)?;
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    server.write_all(&request)?;
    let reply = frame(&mut server)?;
    client.write_all(&reply)?;
    drop(client.shutdown(Shutdown::Write));
    Ok((request[4..].to_vec(), reply[4..].to_vec()))
}

fn frame(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    ensure!(length < 1 << 20, "a KDC message of {length} bytes");
    bytes.resize(4 + length, 0);
    stream.read_exact(&mut bytes[4..])?;
    Ok(bytes)
}

/// AS-REP: `[APPLICATION 11] SEQUENCE { …, [5] ticket, [6] enc-part }`, sealed under the client's key, usage 3.
fn reveal_login(
    reply: &[u8],
    client_keys: &[Vec<u8>],
    sessions: &mut Vec<Vec<u8>>,
    found: &mut Vec<Revealed>,
) -> Result<()> {
    let ticket = Der(reply).path(&[0x6b, 0x30, 0xa5])?;
    let sealed = Der(reply).path(&[0x6b, 0x30, 0xa6, 0x30, 0xa2, 0x04])?;
    let plain = client_keys
        .iter()
        .find_map(|key| unseal(key, 3, sealed).ok())
        .context("no key of the keytab opens the KDC's AS-REP")?;
    let key = session_key(&plain)?;
    found.push(Revealed { what: "TGT", bytes: ticket_cipher(ticket)? });
    found.push(Revealed { what: "TGT session key", bytes: key.clone() });
    sessions.push(key);
    Ok(())
}

/// TGS-REP: like an AS-REP, but sealed under the authenticator's subkey (usage 9) or the TGT's session key (usage 8).
fn reveal_service(
    request: &[u8],
    reply: &[u8],
    sessions: &[Vec<u8>],
    found: &mut Vec<Revealed>,
) -> Result<()> {
    let sealed = Der(reply).path(&[0x6d, 0x30, 0xa6, 0x30, 0xa2, 0x04])?;
    // TGS-REQ → padata → PA-TGS-REQ's AP-REQ → authenticator.
    let ap_req = Der(request).path(&[0x6c, 0x30, 0xa3, 0x30, 0x30, 0xa2, 0x04])?;
    let authenticator = Der(ap_req).path(&[0x6e, 0x30, 0xa4, 0x30, 0xa2, 0x04])?;
    for session in sessions {
        let Ok(plain) = unseal(session, 7, authenticator) else { continue };
        let subkey = Der(&plain).path(&[0x62, 0x30, 0xa6, 0x30, 0xa1, 0x04]).ok();
        let opened = match subkey {
            Some(subkey) => {
                found.push(Revealed { what: "TGS subkey", bytes: subkey.to_vec() });
                unseal(subkey, 9, sealed)
                    .or_else(|_| unseal(&strengthened(reply, subkey, session)?, 9, sealed))?
            }
            None => unseal(session, 8, sealed)?,
        };
        found.push(Revealed { what: "service session key", bytes: session_key(&opened)? });
        return Ok(());
    }
    bail!("no session key opens a TGS-REQ that went to the KDC")
}

/// FAST (RFC 6113): the reply key is combined with one that travels under the armor key, usage 52.
fn strengthened(reply: &[u8], subkey: &[u8], session: &[u8]) -> Result<Vec<u8>> {
    const PA_FX_FAST: [u8; 2] = [0x00, 0x88];
    let armor = combine(subkey, session, b"subkeyarmor", b"ticketarmor")?;
    let mut rest = Der(reply).path(&[0x6d, 0x30, 0xa2, 0x30])?;
    while let Some((_, padata, tail)) = element(rest) {
        rest = tail;
        if Der(padata).path(&[0xa1, 0x02])? == PA_FX_FAST {
            let value = Der(padata).path(&[0xa2, 0x04])?;
            let sealed = Der(value).path(&[0xa0, 0x30, 0xa0, 0x30, 0xa2, 0x04])?;
            let response = unseal(&armor, 52, sealed)?;
            let strength = Der(&response).path(&[0x30, 0xa1, 0x30, 0xa1, 0x04])?;
            return combine(strength, subkey, b"strengthenkey", b"replykey");
        }
    }
    bail!("a TGS-REP that neither its subkey nor FAST explains")
}

/// KRB-FX-CF2 of RFC 6113.
fn combine(a: &[u8], b: &[u8], pepper_a: &[u8], pepper_b: &[u8]) -> Result<Vec<u8>> {
    let (a, b) = (prf_plus(a, pepper_a)?, prf_plus(b, pepper_b)?);
    Ok(a.iter().zip(b).map(|(a, b)| a ^ b).collect())
}

fn prf_plus(key: &[u8], pepper: &[u8]) -> Result<Vec<u8>> {
    let derived = derive_from(key, b"prf")?;
    let mut out = Vec::new();
    for counter in 1_u8.. {
        if out.len() >= key.len() {
            break;
        }
        let hash = Sha1::new().chain_update([counter]).chain_update(pepper).finalize();
        let block: [u8; 16] = std::array::from_fn(|at| hash[at]);
        out.extend_from_slice(&encrypt_block(&derived, block)?);
    }
    out.truncate(key.len());
    Ok(out)
}

/// EncKDCRepPart: `[APPLICATION 25|26] SEQUENCE { [0] EncryptionKey { [0] type, [1] OCTET STRING }, … }`.
fn session_key(plain: &[u8]) -> Result<Vec<u8>> {
    let tag = *plain.first().context("an empty reply part")?;
    ensure!(tag == 0x79 || tag == 0x7a, "unexpected tag {tag:#x} in a reply part");
    Ok(Der(plain).path(&[tag, 0x30, 0xa0, 0x30, 0xa1, 0x04])?.to_vec())
}

/// The encrypted part of a ticket: what makes the ticket worth stealing.
fn ticket_cipher(ticket: &[u8]) -> Result<Vec<u8>> {
    Ok(Der(ticket).path(&[0x61, 0x30, 0xa3, 0x30, 0xa2, 0x04])?.to_vec())
}

/// The keys in a keytab file (format 0x0502), newest last.
pub fn keytab_keys(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    ensure!(file.starts_with(&[5, 2]), "not a keytab of version 2");
    let mut keys = Vec::new();
    let mut rest = &file[2..];
    while rest.len() >= 4 {
        let size = i32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
        let length = size.unsigned_abs() as usize;
        let entry = rest.get(4..4 + length).context("a keytab entry is cut off")?;
        rest = &rest[4 + length..];
        if size > 0 {
            keys.push(keytab_key(entry).context("a keytab entry is malformed")?);
        }
    }
    Ok(keys)
}

fn keytab_key(entry: &[u8]) -> Option<Vec<u8>> {
    let short = |at: usize| Some(usize::from(u16::from_be_bytes([*entry.get(at)?, *entry.get(at + 1)?])));
    let components = short(0)?;
    let mut at = 2;
    for _ in 0..=components {
        at += 2 + short(at)?;
    }
    at += 4 + 4 + 1; // name type, timestamp, kvno
    let length = short(at + 2)?;
    entry.get(at + 4..at + 4 + length).map(<[u8]>::to_vec)
}

/// Walks DER by tags; looks through the siblings at each level for the wanted one.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn path(&self, tags: &[u8]) -> Result<&'a [u8]> {
        let mut inside = self.0;
        for tag in tags {
            let mut rest = inside;
            inside = loop {
                ensure!(!rest.is_empty(), "no element {tag:#x}");
                let (found, value, tail) = element(rest).context("malformed DER")?;
                if found == *tag {
                    break value;
                }
                rest = tail;
            };
        }
        Ok(inside)
    }
}

fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let length = rest
            .get(..count)?
            .iter()
            .try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
        (length, &rest[count..])
    };
    Some((tag, rest.get(..length)?, &rest[length..]))
}

/// Opens an aesN-cts-hmac-sha1-96 message: checks its HMAC and drops the confounder.
fn unseal(key: &[u8], usage: u32, sealed: &[u8]) -> Result<Vec<u8>> {
    ensure!(sealed.len() > 16 + 12, "a sealed part of {} bytes", sealed.len());
    let (body, tag) = sealed.split_at(sealed.len() - 12);
    let plain = cts_decrypt(&derive(key, usage, 0xaa)?, body)?;
    let mut mac = <Hmac<Sha1> as hmac::KeyInit>::new_from_slice(&derive(key, usage, 0x55)?)?;
    mac.update(&plain);
    ensure!(mac.finalize().into_bytes().starts_with(tag), "the key does not open this message");
    Ok(plain[16..].to_vec())
}

/// The key for one usage: encryption (0xaa) or integrity (0x55).
fn derive(key: &[u8], usage: u32, kind: u8) -> Result<Vec<u8>> {
    let mut constant = usage.to_be_bytes().to_vec();
    constant.push(kind);
    derive_from(key, &constant)
}

/// RFC 3961 DK: encrypts the folded constant until there are enough bytes.
fn derive_from(key: &[u8], constant: &[u8]) -> Result<Vec<u8>> {
    let mut block: [u8; 16] = fold(constant, 16).try_into().ok().context("fold")?;
    let mut out = Vec::new();
    while out.len() < key.len() {
        block = encrypt_block(key, block)?;
        out.extend_from_slice(&block);
    }
    out.truncate(key.len());
    Ok(out)
}

fn encrypt_block(key: &[u8], block: [u8; 16]) -> Result<[u8; 16]> {
    let mut block = Array::from(block);
    match key.len() {
        16 => Aes128::new_from_slice(key)?.encrypt_block(&mut block),
        32 => Aes256::new_from_slice(key)?.encrypt_block(&mut block),
        other => bail!("an AES key of {other} bytes"),
    }
    Ok(block.into())
}

fn decrypt_block(key: &[u8], block: [u8; 16]) -> Result<[u8; 16]> {
    let mut block = Array::from(block);
    match key.len() {
        16 => Aes128::new_from_slice(key)?.decrypt_block(&mut block),
        32 => Aes256::new_from_slice(key)?.decrypt_block(&mut block),
        other => bail!("an AES key of {other} bytes"),
    }
    Ok(block.into())
}

/// CBC with ciphertext stealing, the last two blocks swapped (CS3), zero IV.
fn cts_decrypt(key: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let blocks: Vec<&[u8]> = sealed.chunks(16).collect();
    let whole = |bytes: &[u8]| -> [u8; 16] { std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)) };
    let xor = |a: [u8; 16], b: [u8; 16]| -> [u8; 16] { std::array::from_fn(|i| a[i] ^ b[i]) };
    if blocks.len() == 1 {
        return Ok(decrypt_block(key, whole(blocks[0]))?.to_vec());
    }
    let mut plain = Vec::with_capacity(sealed.len());
    let mut previous = [0; 16];
    for block in &blocks[..blocks.len() - 2] {
        plain.extend_from_slice(&xor(decrypt_block(key, whole(block))?, previous));
        previous = whole(block);
    }
    let (swapped, last) = (blocks[blocks.len() - 2], blocks[blocks.len() - 1]);
    let middle = decrypt_block(key, whole(swapped))?;
    let tail: Vec<u8> = last.iter().zip(middle).map(|(a, b)| a ^ b).collect();
    let mut stolen = middle;
    stolen[..last.len()].copy_from_slice(last);
    plain.extend_from_slice(&xor(decrypt_block(key, stolen)?, previous));
    plain.extend_from_slice(&tail);
    Ok(plain)
}

/// RFC 3961 n-fold: copies rotated right by 13 bits each, added in one's complement.
fn fold(input: &[u8], size: usize) -> Vec<u8> {
    let lcm = input.len() * size / gcd(input.len(), size);
    let bits = input.len() * 8;
    let mut long = Vec::with_capacity(lcm);
    for copy in 0..lcm / input.len() {
        let shift = 13 * copy % bits;
        for byte in 0..input.len() {
            let mut value = 0_u8;
            for bit in 0..8 {
                let source = (byte * 8 + bit + bits - shift) % bits;
                value = value << 1 | (input[source / 8] >> (7 - source % 8) & 1);
            }
            long.push(value);
        }
    }
    let mut out = vec![0_u8; size];
    let mut carry = 0_u32;
    for chunk in long.chunks(size) {
        for at in (0..size).rev() {
            let sum = u32::from(out[at]) + u32::from(chunk[at]) + carry;
            out[at] = sum as u8;
            carry = sum >> 8;
        }
    }
    while carry > 0 {
        for at in (0..size).rev() {
            let sum = u32::from(out[at]) + carry;
            out[at] = sum as u8;
            carry = sum >> 8;
        }
    }
    out
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_agrees_with_the_vectors_of_rfc_3961() {
        assert_eq!(hex::encode(fold(b"012345", 8)), "be072631276b1955");
        assert_eq!(hex::encode(fold(b"password", 7)), "78a07b6caf85fa");
        assert_eq!(hex::encode(fold(b"kerberos", 16)), "6b65726265726f737b9b5b2b93132b93");
    }

    #[test]
    fn stealing_agrees_with_the_vectors_of_rfc_3962() {
        let plain = b"I would like the General Gau's Chicken, please, and wonton soup.";
        let first = "97687268d6ecccc0c07b25e25ecfe584";
        for (length, sealed) in [
            (17, "c6353568f2bf8cb4d8a580362da7ff7f97".to_owned()),
            (31, format!("fc00783e0efdb2c1d445d4c8eff7ed22{}", &first[..30])),
            (32, format!("39312523a78662d5be7fcbcc98ebf5a8{first}")),
            (47, format!("{first}b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5")),
        ] {
            let opened = cts_decrypt(b"chicken teriyaki", &hex::decode(sealed).unwrap()).unwrap();
            assert_eq!(opened, &plain[..length], "{length} bytes");
        }
    }
}
