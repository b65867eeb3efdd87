//! Digests of single values, in the terms of each side. They are added up, so that the order of rows does not matter.
//!
//! The source digests text as UTF-16, after its own conversion from the column's code page, and the loader digests
//! what it decoded: a wrong code page shows, which a digest of the wire's bytes would not.

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use md5::{Digest as _, Md5};

/// The first eight bytes of SHA-256 over the UTF-16LE form of a text, signed, big-endian.
pub(super) fn source_text(text: &str) -> i128 {
    const UNITS: usize = 256;
    let mut context = Context::new(&SHA256);
    let mut buffer = [0_u8; UNITS * 2];
    let mut filled = 0;
    for unit in text.encode_utf16() {
        buffer[filled..filled + 2].copy_from_slice(&unit.to_le_bytes());
        filled += 2;
        if filled == buffer.len() {
            context.update(&buffer);
            filled = 0;
        }
    }
    context.update(&buffer[..filled]);
    head(&context.finish())
}

/// The same over bytes.
pub(super) fn source_bytes(bytes: &[u8]) -> i128 {
    head(&digest(&SHA256, bytes))
}

fn head(digest: &Digest) -> i128 {
    let head = digest.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    i128::from(head as i64)
}

/// The last eight bytes of MD5 over a text's UTF-8, unsigned, big-endian: `MD5_NUMBER_LOWER64`.
pub(crate) fn target_text(text: &str) -> i128 {
    tail(Md5::digest(text.as_bytes()).as_slice())
}

/// The same over the upper-case hexadecimal form of bytes.
pub(super) fn target_bytes(bytes: &[u8]) -> i128 {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut digest = Md5::new();
    for part in bytes.chunks(256) {
        let mut text = [0_u8; 512];
        for (pair, byte) in text.chunks_exact_mut(2).zip(part) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digest.update(&text[..part.len() * 2]);
    }
    tail(digest.finalize().as_slice())
}

fn tail(digest: &[u8]) -> i128 {
    digest.iter().skip(8).fold(0_i128, |number, byte| number << 8 | i128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_vendors() {
        // Snowflake's documentation of MD5_NUMBER_LOWER64, and SHA-256 of "abc" in UTF-16LE and as bytes.
        assert_eq!(target_text("Snowflake"), 9_203_306_159_527_282_910);
        assert_eq!(source_text("abc"), i128::from(0x13E2_2856_7E82_49FC_u64 as i64));
        assert_eq!(source_bytes(b"abc"), i128::from(0xBA78_16BF_8F01_CFEA_u64 as i64));
        assert_eq!(target_bytes(&[0x0f, 0xa0]), target_text("0FA0"));
    }

    #[test]
    fn long_values_are_digested_in_pieces() {
        let text = "aЖ😀".repeat(1000);
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(source_text(&text), source_bytes(&units));
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        assert_eq!(target_bytes(&bytes), target_text(&hex::encode_upper(&bytes)));
    }
}
