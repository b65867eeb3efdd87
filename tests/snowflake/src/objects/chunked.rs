//! Bodies in chunks with a checksum behind them: `STREAMING-UNSIGNED-PAYLOAD-TRAILER`, as AWS SDKs send streams.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use hyper::http::request::Parts;

/// How `x-amz-content-sha256` announces such a body.
pub(super) const ANNOUNCED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The bytes that the chunks hold; the S3 error code when they are not what was announced.
pub(super) fn decoded(parts: &Parts, body: &Bytes) -> Result<Bytes, &'static str> {
    let (data, trailer) = chunks(body).ok_or("IncompleteBody")?;
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let length: Option<usize> = header("x-amz-decoded-content-length").and_then(|text| text.parse().ok());
    if length != Some(data.len()) {
        return Err("IncompleteBody");
    }
    let given = trailer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-amz-checksum-crc32").then(|| value.trim().to_owned())
    });
    let mut sum = flate2::Crc::new();
    sum.update(&data);
    match given {
        Some(given) if given != STANDARD.encode(sum.sum().to_be_bytes()) => Err("BadDigest"),
        _ => Ok(data),
    }
}

/// The data of all chunks, and the trailer behind the last one.
fn chunks(body: &[u8]) -> Option<(Bytes, String)> {
    let mut data = BytesMut::with_capacity(body.len());
    let mut rest = body;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let head = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(head.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some((data.freeze(), String::from_utf8_lossy(rest).into_owned()));
        }
        data.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_a_cut_one_is_noticed() {
        let (data, trailer) =
            chunks(b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n").unwrap();
        assert_eq!((&data[..], trailer.trim()), (&b"abcde"[..], "x-amz-checksum-crc32:AAAA"));
        assert!(chunks(b"3\r\nab").is_none());
        assert!(chunks(b"ffffffffffffffff\r\nab").is_none());
        assert!(chunks(b"").is_none());
    }
}
