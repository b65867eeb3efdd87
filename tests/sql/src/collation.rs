//! SQL Server's collations: code page, wire form, and how text compares.

use std::{borrow::Cow, cmp::Ordering, fmt};

use encoding_rs::{
    BIG5, EUC_KR, Encoding, GBK, SHIFT_JIS, UTF_8, WINDOWS_874, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252,
    WINDOWS_1253, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256, WINDOWS_1257, WINDOWS_1258,
};

use crate::text::Text;

/// A collation: a language, how it compares, and a code page. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Collation {
    language: u8,
    order: Order,
    accent_insensitive: bool,
    kana_sensitive: bool,
    width_sensitive: bool,
    supplementary: bool,
    utf8: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    CaseInsensitive,
    CaseSensitive,
    Binary,
    CodePoint,
}

struct Language {
    name: &'static str,
    lcid: u32,
    code_page: u16,
    version: u8,
    /// `SortIds` of a SQL collation: case-insensitive, case-sensitive, case- and accent-insensitive, binary.
    sort_ids: [u8; 4],
}

const fn windows(name: &'static str, lcid: u32, code_page: u16, version: u8) -> Language {
    Language { name, lcid, code_page, version, sort_ids: [0; 4] }
}

const fn sql(name: &'static str, lcid: u32, code_page: u16, sort_ids: [u8; 4]) -> Language {
    Language { name, lcid, code_page, version: 0, sort_ids }
}

/// Longer names first where one begins with another.
const LANGUAGES: &[Language] = &[
    sql("SQL_Latin1_General_CP1250", 0x0409, 1250, [82, 81, 0, 80]),
    sql("SQL_Latin1_General_CP1251", 0x0409, 1251, [106, 105, 0, 104]),
    sql("SQL_Latin1_General_CP1253", 0x0408, 1253, [114, 113, 124, 112]),
    sql("SQL_Latin1_General_CP1254", 0x041F, 1254, [130, 129, 0, 128]),
    sql("SQL_Latin1_General_CP1255", 0x040D, 1255, [138, 137, 0, 136]),
    sql("SQL_Latin1_General_CP1256", 0x0401, 1256, [146, 145, 0, 144]),
    sql("SQL_Latin1_General_CP1257", 0x0427, 1257, [154, 153, 0, 152]),
    sql("SQL_Latin1_General_CP1", 0x0409, 1252, [52, 51, 54, 0]),
    windows("Latin1_General_100", 0x0409, 1252, 2),
    windows("Latin1_General", 0x0409, 1252, 0),
    windows("Cyrillic_General_100", 0x0419, 1251, 2),
    windows("Cyrillic_General", 0x0419, 1251, 0),
    windows("Greek_100", 0x0408, 1253, 2),
    windows("Greek", 0x0408, 1253, 0),
    windows("Turkish_100", 0x041F, 1254, 2),
    windows("Turkish", 0x041F, 1254, 0),
    windows("Hebrew_100", 0x040D, 1255, 2),
    windows("Hebrew", 0x040D, 1255, 0),
    windows("Arabic_100", 0x0401, 1256, 2),
    windows("Arabic", 0x0401, 1256, 0),
    windows("Polish_100", 0x0415, 1250, 2),
    windows("Polish", 0x0415, 1250, 0),
    windows("Czech_100", 0x0405, 1250, 2),
    windows("Czech", 0x0405, 1250, 0),
    windows("Hungarian_100", 0x040E, 1250, 2),
    windows("Hungarian", 0x040E, 1250, 0),
    windows("Lithuanian_100", 0x0427, 1257, 2),
    windows("Lithuanian", 0x0427, 1257, 0),
    windows("Vietnamese_100", 0x042A, 1258, 2),
    windows("Vietnamese", 0x042A, 1258, 0),
    windows("Thai_100", 0x041E, 874, 2),
    windows("Thai", 0x041E, 874, 0),
    windows("Japanese_XJIS_140", 0x0411, 932, 3),
    windows("Japanese_XJIS_100", 0x0411, 932, 2),
    windows("Japanese_90", 0x0411, 932, 1),
    windows("Japanese", 0x0411, 932, 0),
    windows("Chinese_PRC_90", 0x0804, 936, 1),
    windows("Chinese_PRC", 0x0804, 936, 0),
    windows("Chinese_Simplified_Pinyin_100", 0x0804, 936, 2),
    windows("Chinese_Taiwan_Stroke_90", 0x0404, 950, 1),
    windows("Chinese_Taiwan_Stroke", 0x0404, 950, 0),
    windows("Korean_100", 0x0412, 949, 2),
    windows("Korean_90", 0x0412, 949, 1),
    windows("Korean_Wansung", 0x0412, 949, 0),
    windows("French_100", 0x040C, 1252, 2),
    windows("French", 0x040C, 1252, 0),
    windows("German_PhoneBook_100", 0x0001_0407, 1252, 2),
    windows("German_PhoneBook", 0x0001_0407, 1252, 0),
    windows("Finnish_Swedish_100", 0x040B, 1252, 2),
    windows("Finnish_Swedish", 0x040B, 1252, 0),
    windows("Danish_Norwegian", 0x0406, 1252, 0),
    windows("Modern_Spanish", 0x0C0A, 1252, 0),
];

impl Default for Collation {
    /// `SQL_Latin1_General_CP1_CI_AS`, what SQL Server is installed with.
    fn default() -> Self {
        Self {
            language: 7,
            order: Order::CaseInsensitive,
            accent_insensitive: false,
            kana_sensitive: false,
            width_sensitive: false,
            supplementary: false,
            utf8: false,
        }
    }
}

impl Collation {
    /// Reads a collation's name, as in `Latin1_General_100_CI_AS_SC_UTF8`. None if it is not known here.
    pub fn parse(name: &str) -> Option<Self> {
        let (index, language) = LANGUAGES.iter().enumerate().find(|(_, language)| {
            name.get(..language.name.len()).is_some_and(|head| head.eq_ignore_ascii_case(language.name))
                && name.as_bytes().get(language.name.len()) == Some(&b'_')
        })?;
        let mut collation = Self { language: index as u8, order: Order::CaseSensitive, ..Self::default() };
        for part in name[language.name.len() + 1..].split('_') {
            match part.to_ascii_uppercase().as_str() {
                "CI" => collation.order = Order::CaseInsensitive,
                "CS" => collation.order = Order::CaseSensitive,
                "BIN" => collation.order = Order::Binary,
                "BIN2" => collation.order = Order::CodePoint,
                "AI" => collation.accent_insensitive = true,
                "AS" => collation.accent_insensitive = false,
                "KS" => collation.kana_sensitive = true,
                "WS" => collation.width_sensitive = true,
                "SC" => collation.supplementary = true,
                "UTF8" => collation.utf8 = true,
                _ => return None,
            }
        }
        Some(collation)
    }

    fn language(self) -> &'static Language {
        &LANGUAGES[usize::from(self.language)]
    }

    /// The code page of char and varchar under this collation; 65001 for UTF-8.
    pub fn code_page(self) -> u16 {
        if self.utf8 { 65001 } else { self.language().code_page }
    }

    /// The locale identifier.
    pub fn lcid(self) -> u32 {
        self.language().lcid
    }

    /// The five bytes of MS-TDS 2.2.5.1.2: LCID, flags and version in 32 bits, then the `SortId`.
    pub fn tds(self) -> [u8; 5] {
        let language = self.language();
        let binary = matches!(self.order, Order::Binary | Order::CodePoint);
        let mut bits = language.lcid & 0xF_FFFF;
        let flags = [
            (!binary && self.order == Order::CaseInsensitive, 20),
            (!binary && self.accent_insensitive, 21),
            (!binary && !self.kana_sensitive, 22),
            (!binary && !self.width_sensitive, 23),
            (self.order == Order::Binary, 24),
            (self.order == Order::CodePoint, 25),
            (self.utf8, 26),
        ];
        for (set, bit) in flags {
            bits |= u32::from(set) << bit;
        }
        bits |= u32::from(language.version) << 28;
        let sort_id = match (self.order, self.accent_insensitive) {
            (Order::CaseInsensitive, false) => language.sort_ids[0],
            (Order::CaseSensitive, _) => language.sort_ids[1],
            (Order::CaseInsensitive, true) => language.sort_ids[2],
            (Order::Binary | Order::CodePoint, _) => language.sort_ids[3],
        };
        let [a, b, c, d] = bits.to_le_bytes();
        [a, b, c, d, sort_id]
    }

    fn encoding(self) -> &'static Encoding {
        match self.code_page() {
            874 => WINDOWS_874,
            932 => SHIFT_JIS,
            936 => GBK,
            949 => EUC_KR,
            950 => BIG5,
            1250 => WINDOWS_1250,
            1251 => WINDOWS_1251,
            1253 => WINDOWS_1253,
            1254 => WINDOWS_1254,
            1255 => WINDOWS_1255,
            1256 => WINDOWS_1256,
            1257 => WINDOWS_1257,
            1258 => WINDOWS_1258,
            65001 => UTF_8,
            _ => WINDOWS_1252,
        }
    }

    /// The bytes of a text in this collation's code page; `?` for what the code page lacks.
    pub fn encode(self, text: &Text) -> Cow<'_, [u8]> {
        let encoding = self.encoding();
        if let Some(text) = text.as_str()
            && (encoding == UTF_8 || text.is_ascii())
        {
            return Cow::Borrowed(text.as_bytes());
        }
        let text = text.lossy();
        if encoding == UTF_8 {
            return Cow::Owned(text.into_owned().into_bytes());
        }
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            let mut buffer = [0; 4];
            let (encoded, _, unmappable) = encoding.encode(character.encode_utf8(&mut buffer));
            if unmappable {
                // SQL Server writes one `?` per UTF-16 unit that it cannot convert.
                bytes.extend(std::iter::repeat_n(b'?', character.len_utf16()));
            } else {
                bytes.extend_from_slice(&encoded);
            }
        }
        Cow::Owned(bytes)
    }

    /// The text of bytes in this collation's code page; U+FFFD where they are malformed.
    pub fn decode(self, bytes: &[u8]) -> Text {
        let (text, _) = self.encoding().decode_without_bom_handling(bytes);
        Text::new(&text)
    }

    /// Whether equal texts must be equal bytes (but for trailing blanks).
    pub fn is_binary(self) -> bool {
        matches!(self.order, Order::Binary | Order::CodePoint)
    }

    /// A text that is equal for all texts that this collation holds equal.
    pub fn fold(self, text: &str) -> Cow<'_, str> {
        let text = text.trim_end_matches(' ');
        if self.order != Order::CaseInsensitive && !self.accent_insensitive {
            return Cow::Borrowed(text);
        }
        if text.is_ascii() {
            return match self.order {
                Order::CaseInsensitive if text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                    Cow::Owned(text.to_ascii_lowercase())
                }
                _ => Cow::Borrowed(text),
            };
        }
        let folded = text.chars().flat_map(|character| {
            let character = if self.accent_insensitive { base_letter(character) } else { character };
            let lower = (self.order == Order::CaseInsensitive).then(|| character.to_lowercase());
            lower.into_iter().flatten().chain((self.order != Order::CaseInsensitive).then_some(character))
        });
        Cow::Owned(folded.collect())
    }

    /// Compares two texts: trailing blanks do not count; letters before case; digits before letters.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        let (a, b) = (a.trim_end_matches(' '), b.trim_end_matches(' '));
        if self.is_binary() {
            return a.encode_utf16().cmp(b.encode_utf16()).then(Ordering::Equal);
        }
        let primary = |text: &str| -> Vec<(u8, char)> {
            text.chars().flat_map(|c| base_letter(c).to_lowercase().map(|c| (class(c), c))).collect()
        };
        let by_letter = if a.is_ascii() && b.is_ascii() {
            let weight = |byte: u8| {
                let byte = byte.to_ascii_lowercase();
                (class(char::from(byte)), byte)
            };
            a.bytes().map(weight).cmp(b.bytes().map(weight))
        } else {
            primary(a).cmp(&primary(b))
        };
        by_letter
            .then_with(|| {
                if self.accent_insensitive {
                    return Ordering::Equal;
                }
                let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
                if a.is_ascii() && b.is_ascii() { Ordering::Equal } else { lower(a).cmp(&lower(b)) }
            })
            .then_with(|| {
                if self.order == Order::CaseInsensitive {
                    return Ordering::Equal;
                }
                // Lower case before upper case at the first difference.
                a.chars()
                    .map(char::is_uppercase)
                    .cmp(b.chars().map(char::is_uppercase))
                    .then_with(|| a.cmp(b))
            })
    }
}

/// Blanks and controls, then punctuation and symbols, then digits, then letters.
fn class(character: char) -> u8 {
    if character.is_whitespace() || character.is_control() {
        0
    } else if character.is_alphabetic() {
        3
    } else if character.is_numeric() {
        2
    } else {
        1
    }
}

/// The letter without its accent, for Latin letters up to U+017F.
fn base_letter(character: char) -> char {
    const LATIN1: &str = "AAAAAAÆCEEEEIIIIÐNOOOOO×OUUUUYÞßaaaaaaæceeeeiiiiðnooooo÷ouuuuyþy";
    const EXTENDED: &str = "AaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIiĲĳJjKkĸLlLlLlLlLlNnNnNnŉŊŋOoOoOoŒœRrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZzZzZzſ";
    match u32::from(character) {
        code @ 0xC0..=0xFF => LATIN1.chars().nth((code - 0xC0) as usize).unwrap_or(character),
        code @ 0x100..=0x17F => EXTENDED.chars().nth((code - 0x100) as usize).unwrap_or(character),
        _ => character,
    }
}

impl fmt::Display for Collation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.language().name)?;
        match self.order {
            Order::Binary => f.write_str("_BIN")?,
            Order::CodePoint => f.write_str("_BIN2")?,
            Order::CaseInsensitive => f.write_str("_CI")?,
            Order::CaseSensitive => f.write_str("_CS")?,
        }
        if !self.is_binary() {
            f.write_str(if self.accent_insensitive { "_AI" } else { "_AS" })?;
        }
        for (set, suffix) in [
            (self.kana_sensitive, "_KS"),
            (self.width_sensitive, "_WS"),
            (self.supplementary, "_SC"),
            (self.utf8, "_UTF8"),
        ] {
            if set {
                f.write_str(suffix)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_give_the_wire_form() {
        for name in [
            "SQL_Latin1_General_CP1_CI_AS",
            "Latin1_General_100_CI_AS_SC_UTF8",
            "Latin1_General_BIN2",
            "Japanese_CI_AS",
            "Greek_100_CS_AI",
            "Cyrillic_General_CI_AS_KS_WS",
        ] {
            assert_eq!(Collation::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Collation::default().tds(), [0x09, 0x04, 0xD0, 0x00, 0x34]);
        assert_eq!(Collation::parse("Klingon_CI_AS"), None);
    }

    #[test]
    fn the_default_collation_ignores_case_and_trailing_blanks_but_not_accents() {
        let collation = Collation::default();
        assert_eq!(collation.compare("Straße  ", "straße"), Ordering::Equal);
        assert_eq!(collation.fold("ÄB "), "äb");
        assert_ne!(collation.compare("Ä", "A"), Ordering::Equal);
        assert_eq!(collation.compare("Ä", "B"), Ordering::Less);
        assert_eq!(collation.compare("9", "a"), Ordering::Less);
        let binary = Collation::parse("Latin1_General_BIN2").unwrap();
        assert_eq!(binary.compare("a", "B"), Ordering::Greater);
    }

    #[test]
    fn code_pages_encode_and_replace() {
        let cyrillic = Collation::parse("Cyrillic_General_CI_AS").unwrap();
        let text = Text::new("Жук");
        assert_eq!(cyrillic.encode(&text).as_ref(), [0xC6, 0xF3, 0xEA]);
        assert_eq!(cyrillic.decode(&[0xC6, 0xF3, 0xEA]), text);
        assert_eq!(Collation::default().encode(&text).as_ref(), b"???");
    }
}
