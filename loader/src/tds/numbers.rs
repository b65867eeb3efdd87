//! Exact numbers and identifiers: money, decimal, uniqueidentifier.

use std::io::Write as _;

/// `money`: two little-endian words, the high one first; the result counts 1/10000.
#[inline]
pub(super) fn money(bytes: [u8; 8]) -> i64 {
    u64::from_le_bytes(bytes).rotate_left(32) as i64
}

/// `decimal`: a sign byte (1 is positive) and a little-endian magnitude of 4, 8, 12 or 16 bytes.
#[inline]
pub(super) fn decimal(bytes: &[u8]) -> Option<i128> {
    let (&sign, magnitude) = bytes.split_first()?;
    let value = match magnitude.len() {
        4 => i128::from(u32::from_le_bytes(magnitude.try_into().ok()?)),
        8 => i128::from(u64::from_le_bytes(magnitude.try_into().ok()?)),
        12 | 16 => {
            let mut whole = [0; 16];
            whole[..magnitude.len()].copy_from_slice(magnitude);
            i128::try_from(u128::from_le_bytes(whole)).ok()?
        }
        _ => return None,
    };
    match sign {
        0 => Some(-value),
        1 => Some(value),
        _ => None,
    }
}

/// The first magnitude that this precision does not hold.
pub(super) fn limit(precision: u8) -> u128 {
    10u128.pow(u32::from(precision.min(38)))
}

/// Appends a decimal as SQL Server prints it: all digits of the scale, no exponent.
pub(super) fn push_decimal(out: &mut Vec<u8>, value: i128, scale: u8) {
    let magnitude = value.unsigned_abs();
    let unit = 10u128.pow(u32::from(scale.min(38)));
    let sign = if value < 0 { "-" } else { "" };
    let _ = write!(out, "{sign}{}", magnitude / unit);
    if scale > 0 {
        let _ = write!(out, ".{:0width$}", magnitude % unit, width = usize::from(scale));
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
/// The first three groups are little-endian numbers on the wire, the rest are bytes.
const GUID_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/// Appends a uniqueidentifier as SQL Server prints it, in upper case.
#[inline]
pub(super) fn push_guid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, &place) in GUID_ORDER.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(bytes[place] >> 4)];
        text[at + 1] = HEX[usize::from(bytes[place] & 15)];
        at += 2;
    }
    out.extend_from_slice(&text);
}

/// Appends `0x` and upper-case digits.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"0x");
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(value: i128, scale: u8) -> String {
        let mut out = Vec::new();
        push_decimal(&mut out, value, scale);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn money_has_its_high_word_first() {
        assert_eq!(money([0, 0, 0, 0, 1, 0, 0, 0]), 1);
        assert_eq!(money([1, 0, 0, 0, 0, 0, 0, 0]), 1 << 32);
        assert_eq!(money([0xFF; 8]), -1);
        assert_eq!(money([0, 0, 0, 0x80, 0, 0, 0, 0]), i64::MIN);
    }

    #[test]
    fn decimals_of_every_width_have_a_sign_byte() {
        assert_eq!(decimal(&[1, 57, 48, 0, 0]), Some(12345));
        assert_eq!(decimal(&[0, 57, 48, 0, 0, 0, 0, 0, 0]), Some(-12345));
        assert_eq!(decimal(&[0, 0, 0, 0, 0]), Some(0), "minus zero is zero");
        let most = 10i128.pow(38) - 1;
        let mut wire = vec![0];
        wire.extend_from_slice(&most.to_le_bytes());
        assert_eq!(decimal(&wire), Some(-most));
        assert_eq!(decimal(&[1; 17]).map(i128::is_positive), Some(true));
        assert_eq!(decimal(&[1, 2, 3]), None);
        assert_eq!(decimal(&[2, 0, 0, 0, 0]), None);
        let mut over = vec![1];
        over.extend_from_slice(&[0xFF; 16]);
        assert_eq!(decimal(&over), None);
    }

    #[test]
    fn decimals_print_every_digit_of_their_scale() {
        assert_eq!(printed(-12345, 2), "-123.45");
        assert_eq!(printed(5, 38), format!("0.{}5", "0".repeat(37)));
        assert_eq!(printed(-5, 4), "-0.0005");
        assert_eq!(printed(7, 0), "7");
    }

    #[test]
    fn a_uniqueidentifier_is_mixed_endian_and_upper_case() {
        let mut out = Vec::new();
        let wire =
            [0xFF, 0x19, 0x96, 0x6F, 0x86, 0x8B, 0x11, 0xD0, 0xB4, 0x2D, 0x00, 0xC0, 0x4F, 0xC9, 0x64, 0xFF];
        push_guid(&mut out, &wire);
        assert_eq!(out, b"6F9619FF-8B86-D011-B42D-00C04FC964FF");
    }
}
