//! COLLATION: which code page the bytes of a char or varchar column are in (MS-TDS 2.2.5.1.2).
//!
//! The five bytes hold a Windows locale, flags (one of them UTF-8) and, for the old SQL collations, a sort
//! order. The column's own collation decides, not the database's.

use std::fmt;

use encoding_rs::Encoding;

use super::cursor::{Cursor, Parsed};

/// A collation as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Collation {
    info: u32,
    sort_id: u8,
}

const UTF8_FLAG: u32 = 1 << 26;
/// The number that Windows gives UTF-8.
pub(super) const UTF_8: u16 = 65001;

impl Collation {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        let info = cursor.u32()?;
        let sort_id = cursor.u8()?;
        Ok(Self { info, sort_id })
    }

    fn lcid(self) -> u32 {
        self.info & 0x000F_FFFF
    }

    /// The code page, or `None` for a collation without one (Unicode only) or an unknown one.
    pub(super) fn code_page(self) -> Option<u16> {
        if self.info & UTF8_FLAG != 0 {
            Some(UTF_8)
        } else if self.sort_id != 0 {
            of_sort_order(self.sort_id)
        } else {
            of_locale((self.lcid() & 0xFFFF) as u16)
        }
    }
}

impl fmt::Display for Collation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a collation of locale 0x{:04x} and sort order {}", self.lcid(), self.sort_id)
    }
}

/// The sort orders of the SQL collations, as `sys.fn_helpcollations` and `COLLATIONPROPERTY` give them.
fn of_sort_order(id: u8) -> Option<u16> {
    Some(match id {
        30..=35 => 437,
        40..=45 | 49 | 55..=61 => 850,
        50..=54 | 71..=75 | 183..=186 | 210..=217 => 1252,
        80..=98 => 1250,
        104..=108 => 1251,
        112..=114 | 120..=122 | 124 => 1253,
        128..=130 => 1254,
        136..=138 => 1255,
        144..=146 => 1256,
        152..=160 => 1257,
        192 | 193 | 200 => 932,
        194 | 195 | 201 => 949,
        196 | 197 | 202 => 950,
        198 | 199 | 203 => 936,
        204..=206 => 874,
        _ => return None,
    })
}

/// The ANSI code page of a Windows locale (MS-LCID): the low ten bits are the language, the rest the place.
fn of_locale(id: u16) -> Option<u16> {
    Some(match id {
        // Places that differ from their language's usual page.
        0x0404 | 0x0C04 | 0x1404 => 950,
        0x0804 | 0x1004 => 936,
        // Serbian, Bosnian, Azeri and Uzbek in Cyrillic.
        0x0C1A | 0x1C1A | 0x201A | 0x082C | 0x0843 => 1251,
        // Bengali of Bangladesh, Maltese and the Indic languages have no code page.
        _ => match id & 0x03FF {
            0x01 | 0x20 | 0x29 | 0x80 | 0x8C => 1256,
            0x02 | 0x19 | 0x22 | 0x23 | 0x28 | 0x2F | 0x3F | 0x40 | 0x44 | 0x50 | 0x6D | 0x85 => 1251,
            0x05 | 0x0E | 0x15 | 0x18 | 0x1A | 0x1B | 0x1C | 0x24 | 0x42 => 1250,
            0x08 => 1253,
            0x0D => 1255,
            0x11 => 932,
            0x12 => 949,
            0x1E => 874,
            0x1F | 0x2C | 0x43 => 1254,
            0x25..=0x27 => 1257,
            0x2A => 1258,
            0x03
            | 0x06
            | 0x07
            | 0x09..=0x0C
            | 0x0F
            | 0x10
            | 0x13
            | 0x14
            | 0x16
            | 0x17
            | 0x1D
            | 0x21
            | 0x2B
            | 0x2D
            | 0x2E
            | 0x32
            | 0x34..=0x38
            | 0x3B
            | 0x3C
            | 0x3E
            | 0x41
            | 0x52
            | 0x56
            | 0x5D..=0x5F
            | 0x62
            | 0x64
            | 0x68
            | 0x6A..=0x6C
            | 0x6E..=0x70
            | 0x78
            | 0x7A
            | 0x7C
            | 0x7E
            | 0x82..=0x84
            | 0x86..=0x88 => 1252,
            _ => return None,
        },
    })
}

/// How the bytes of one code page become text.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextDecoder {
    /// The bytes are already UTF-8.
    Utf8,
    /// As the web has it, which is as Windows has it.
    Web(&'static Encoding),
    /// As the web has it, but only the pairs of lead and trail byte that Windows has.
    WebPairs(&'static Encoding, fn(u8, u8) -> bool),
    /// One byte, one character: the upper half.
    Table(&'static [char; 128]),
}

/// Whether char and varchar columns of this code page can be decoded.
pub fn carries_code_page(code_page: u16) -> bool {
    TextDecoder::of(code_page).is_some()
}

impl TextDecoder {
    /// The decoder of a code page, if it is one that is carried.
    pub(super) fn of(code_page: u16) -> Option<Self> {
        Some(match code_page {
            UTF_8 => Self::Utf8,
            437 => Self::Table(&CP437),
            850 => Self::Table(&CP850),
            874 => Self::Web(encoding_rs::WINDOWS_874),
            1250 => Self::Web(encoding_rs::WINDOWS_1250),
            1251 => Self::Web(encoding_rs::WINDOWS_1251),
            1252 => Self::Web(encoding_rs::WINDOWS_1252),
            1253 => Self::Web(encoding_rs::WINDOWS_1253),
            1254 => Self::Web(encoding_rs::WINDOWS_1254),
            1255 => Self::Web(encoding_rs::WINDOWS_1255),
            1256 => Self::Web(encoding_rs::WINDOWS_1256),
            1257 => Self::Web(encoding_rs::WINDOWS_1257),
            1258 => Self::Web(encoding_rs::WINDOWS_1258),
            932 => Self::Web(encoding_rs::SHIFT_JIS),
            949 => Self::Web(encoding_rs::EUC_KR),
            // The web's GBK has four-byte sequences, which the code page does not.
            936 => Self::WebPairs(encoding_rs::GBK, |_, trail| trail >= 0x40),
            // The web's Big5 has Hong Kong's characters where the code page has the user's own.
            950 => Self::WebPairs(encoding_rs::BIG5, |lead, trail| {
                (0xA1..=0xF9).contains(&lead)
                    && !(matches!(lead, 0xC7 | 0xC8) || (lead == 0xC6 && trail >= 0xA1))
            }),
            _ => return None,
        })
    }

    /// Appends the text of `bytes` to `out` as UTF-8; false, with `out` as it was, if a byte has no meaning.
    #[inline]
    pub(super) fn append(self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        if bytes.is_ascii() {
            out.extend_from_slice(bytes);
            return true;
        }
        self.append_beyond_ascii(bytes, out)
    }

    fn append_beyond_ascii(self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Utf8 => {
                let valid = std::str::from_utf8(bytes).is_ok();
                if valid {
                    out.extend_from_slice(bytes);
                }
                valid
            }
            Self::Web(encoding) => append_decoded(encoding, bytes, out),
            Self::WebPairs(encoding, legal) => {
                pairs_are(legal, bytes) && append_decoded(encoding, bytes, out)
            }
            Self::Table(upper) => {
                let mut utf8 = [0; 4];
                for &byte in bytes {
                    let c = if byte < 0x80 { char::from(byte) } else { upper[usize::from(byte - 0x80)] };
                    out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
                }
                true
            }
        }
    }
}

/// Whether each byte above 0x80 is followed by one that makes a legal pair.
fn pairs_are(legal: fn(u8, u8) -> bool, bytes: &[u8]) -> bool {
    let mut rest = bytes.iter();
    while let Some(&lead) = rest.next() {
        if lead > 0x80 && !rest.next().is_some_and(|&trail| legal(lead, trail)) {
            return false;
        }
    }
    true
}

fn append_decoded(encoding: &'static Encoding, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let Some(most) = decoder.max_utf8_buffer_length_without_replacement(bytes.len()) else { return false };
    out.resize(start + most, 0);
    let (result, read, written) = decoder.decode_to_utf8_without_replacement(bytes, &mut out[start..], true);
    let whole = result == encoding_rs::DecoderResult::InputEmpty && read == bytes.len();
    out.truncate(if whole { start + written } else { start });
    whole
}

/// Appends UTF-16LE as UTF-8; false, with `out` as it was, on a lone surrogate or an odd number of bytes.
pub(super) fn append_utf16(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return false;
    }
    let all = pairs.iter().fold(0u16, |seen, pair| seen | u16::from_le_bytes(*pair));
    if all < 0x80 {
        out.extend(pairs.iter().map(|pair| pair[0]));
        return true;
    }
    append_decoded(encoding_rs::UTF_16LE, bytes, out)
}

/// IBM's page of the first PCs, upper half.
#[rustfmt::skip]
const CP437: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å',
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ',
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»',
    '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐',
    '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧',
    '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀',
    'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩',
    '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', '\u{a0}',
];

/// DOS Latin 1, upper half.
#[rustfmt::skip]
const CP850: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å',
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', 'ø', '£', 'Ø', '×', 'ƒ',
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '®', '¬', '½', '¼', '¡', '«', '»',
    '░', '▒', '▓', '│', '┤', 'Á', 'Â', 'À', '©', '╣', '║', '╗', '╝', '¢', '¥', '┐',
    '└', '┴', '┬', '├', '─', '┼', 'ã', 'Ã', '╚', '╔', '╩', '╦', '╠', '═', '╬', '¤',
    'ð', 'Ð', 'Ê', 'Ë', 'È', 'ı', 'Í', 'Î', 'Ï', '┘', '┌', '█', '▄', '¦', 'Ì', '▀',
    'Ó', 'ß', 'Ô', 'Ò', 'õ', 'Õ', 'µ', 'þ', 'Þ', 'Ú', 'Û', 'Ù', 'ý', 'Ý', '¯', '´',
    '\u{ad}', '±', '‗', '¾', '¶', '§', '÷', '¸', '°', '¨', '·', '¹', '³', '²', '■', '\u{a0}',
];
