//! Text and bytes that come in pieces, cut anywhere: each piece is decoded as it comes, straight behind the
//! pieces before it. What a cut leaves over (half a UTF-16 unit, half a surrogate pair, a lead byte) waits here.

use std::fmt;

use encoding_rs::{Decoder, DecoderResult, Encoding};

use super::collation::{TextDecoder, append_utf16};

/// How the pieces of one column's values become the bytes that Arrow holds.
pub(super) struct Pieces {
    form: Form,
    /// Where the value that is under way begins.
    start: usize,
}

enum Form {
    Binary,
    Utf16 {
        /// The first byte of a unit.
        odd: Option<u8>,
        /// The first unit of a surrogate pair.
        high: Option<[u8; 2]>,
    },
    /// Checked when the value is whole.
    Utf8,
    /// One byte, one character.
    Single(TextDecoder),
    /// Lead and trail bytes.
    Double {
        encoding: &'static Encoding,
        legal: Option<fn(u8, u8) -> bool>,
        decoder: Decoder,
        lead: Option<u8>,
    },
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("start", &self.start).finish_non_exhaustive()
    }
}

/// The bytes have no meaning in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaningless;

impl Pieces {
    /// The bytes as they are.
    pub(super) fn binary() -> Self {
        Self { form: Form::Binary, start: 0 }
    }

    /// UTF-16, little-endian.
    pub(super) fn utf16() -> Self {
        Self { form: Form::Utf16 { odd: None, high: None }, start: 0 }
    }

    /// A code page.
    pub(super) fn encoded(decoder: TextDecoder) -> Self {
        let double = |encoding: &'static Encoding, legal| Form::Double {
            encoding,
            legal,
            decoder: encoding.new_decoder_without_bom_handling(),
            lead: None,
        };
        let form = match decoder {
            TextDecoder::Utf8 => Form::Utf8,
            TextDecoder::Web(encoding) if !encoding.is_single_byte() => double(encoding, None),
            TextDecoder::WebPairs(encoding, legal) => double(encoding, Some(legal)),
            single => Form::Single(single),
        };
        Self { form, start: 0 }
    }

    /// Begins a value behind what `out` holds.
    pub(super) fn begin(&mut self, out: &[u8]) {
        self.start = out.len();
        match &mut self.form {
            Form::Utf16 { odd, high } => (*odd, *high) = (None, None),
            Form::Double { encoding, decoder, lead, .. } => {
                *decoder = encoding.new_decoder_without_bom_handling();
                *lead = None;
            }
            Form::Binary | Form::Utf8 | Form::Single(_) => {}
        }
    }

    /// Appends the next piece of the value.
    pub(super) fn add(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Meaningless> {
        let meaningful = match &mut self.form {
            Form::Binary | Form::Utf8 => {
                out.extend_from_slice(piece);
                true
            }
            Form::Single(decoder) => decoder.append(piece, out),
            Form::Utf16 { odd, high } => add_utf16(odd, high, piece, out),
            Form::Double { legal, decoder, lead, .. } => {
                legal.is_none_or(|legal| pairs_go_on(legal, lead, piece))
                    && decode(decoder, piece, out, false)
            }
        };
        if meaningful { Ok(()) } else { Err(Meaningless) }
    }

    /// Ends the value: nothing may be left over.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Meaningless> {
        let meaningful = match &mut self.form {
            Form::Binary | Form::Single(_) => true,
            Form::Utf8 => std::str::from_utf8(&out[self.start..]).is_ok(),
            Form::Utf16 { odd, high } => odd.is_none() && high.is_none(),
            Form::Double { decoder, lead, .. } => lead.is_none() && decode(decoder, &[], out, true),
        };
        if meaningful { Ok(()) } else { Err(Meaningless) }
    }

    /// Bytes of the value so far, of what `out` holds.
    pub(super) fn held(&self, out: &[u8]) -> usize {
        out.len() - self.start
    }
}

fn add_utf16(odd: &mut Option<u8>, high: &mut Option<[u8; 2]>, piece: &[u8], out: &mut Vec<u8>) -> bool {
    let mut piece = piece;
    if let Some(first) = *odd {
        let Some((second, rest)) = piece.split_first() else { return true };
        *odd = None;
        if !add_units(high, &[first, *second], out) {
            return false;
        }
        piece = rest;
    }
    let (units, rest) = piece.split_at(piece.len() & !1);
    *odd = rest.first().copied();
    add_units(high, units, out)
}

/// Whole units; the first half of a pair at the end waits for the second.
fn add_units(high: &mut Option<[u8; 2]>, units: &[u8], out: &mut Vec<u8>) -> bool {
    let mut units = units;
    if let Some([low, up]) = *high {
        let Some((second, rest)) = units.split_first_chunk::<2>() else { return true };
        *high = None;
        if !append_utf16(&[low, up, second[0], second[1]], out) {
            return false;
        }
        units = rest;
    }
    if let Some((before, last)) = units.split_last_chunk::<2>()
        && (0xD8..=0xDB).contains(&last[1])
    {
        *high = Some(*last);
        units = before;
    }
    append_utf16(units, out)
}

fn pairs_go_on(legal: fn(u8, u8) -> bool, lead: &mut Option<u8>, piece: &[u8]) -> bool {
    piece.iter().all(|&byte| {
        if let Some(first) = lead.take() {
            return legal(first, byte);
        }
        *lead = (byte > 0x80).then_some(byte);
        true
    })
}

fn decode(decoder: &mut Decoder, piece: &[u8], out: &mut Vec<u8>, last: bool) -> bool {
    let Some(most) = decoder.max_utf8_buffer_length_without_replacement(piece.len()) else { return false };
    let start = out.len();
    out.resize(start + most, 0);
    let (result, read, written) = decoder.decode_to_utf8_without_replacement(piece, &mut out[start..], last);
    out.truncate(start + written);
    result == DecoderResult::InputEmpty && read == piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(mut pieces: Pieces, bytes: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Meaningless> {
        let mut out = b"before".to_vec();
        pieces.begin(&out);
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            pieces.add(&bytes[from..cut], &mut out)?;
            from = cut;
        }
        pieces.end(&mut out)?;
        assert_eq!(pieces.held(&out), out.len() - 6);
        Ok(out.split_off(6))
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn page(number: u16) -> Pieces {
        Pieces::encoded(TextDecoder::of(number).unwrap())
    }

    #[test]
    fn a_text_cut_anywhere_twice_is_the_same_text() {
        type Sample = (fn() -> Pieces, Vec<u8>, &'static str);
        let samples: [Sample; 6] = [
            (Pieces::utf16, utf16("aż日🦀𝄞z\0"), "aż日🦀𝄞z\0"),
            (|| page(65001), "aż日🦀".into(), "aż日🦀"),
            (|| page(1251), vec![0x61, 0xC6, 0xE8], "aЖи"),
            (|| page(932), vec![0x61, 0x93, 0xFA, 0xB1, 0x96, 0x7B], "a日ｱ本"),
            (|| page(936), vec![0x61, 0xC8, 0xD5, 0x80, 0xB1, 0xBE], "a日€本"),
            (|| page(850), vec![0x61, 0x9B], "aø"),
        ];
        for (make, bytes, text) in samples {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let found =
                        in_pieces(make(), &bytes, &[first, second]).map(|b| String::from_utf8(b).unwrap());
                    assert_eq!(found.as_deref(), Ok(text), "cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn what_is_left_over_at_the_end_is_an_error() {
        let crab = utf16("🦀");
        for (name, make, bytes) in [
            ("an odd byte", Pieces::utf16 as fn() -> Pieces, utf16("ab")[..3].to_vec()),
            ("the first half of a pair", Pieces::utf16, crab[..2].to_vec()),
            ("the second half of a pair", Pieces::utf16, crab[2..].to_vec()),
            ("two first halves", Pieces::utf16, [&crab[..2], &crab[..2]].concat()),
            ("half a character of UTF-8", || page(65001), "ż".as_bytes()[..1].to_vec()),
            ("a lead byte", || page(932), vec![0x61, 0x93]),
            ("a lead byte of pairs", || page(936), vec![0x61, 0xC8]),
            ("an undefined byte", || page(1253), vec![0xD2]),
        ] {
            for cut in 0..=bytes.len() {
                assert_eq!(in_pieces(make(), &bytes, &[cut]), Err(Meaningless), "{name}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_value_begins_afresh_after_a_broken_one() {
        let mut pieces = Pieces::utf16();
        let mut out = Vec::new();
        pieces.begin(&out);
        pieces.add(&utf16("🦀")[..3], &mut out).unwrap();
        pieces.begin(&out);
        pieces.add(&utf16("a"), &mut out).unwrap();
        assert_eq!(pieces.end(&mut out), Ok(()));
    }
}
