//! The bytes that must not be found, in every form in which they could lie about.

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};

/// One long-lived secret.
#[derive(Clone)]
pub struct Needle {
    /// What it is, in words; safe to print.
    pub name: String,
    /// The secret itself.
    pub bytes: Vec<u8>,
}

/// One form of one secret.
pub struct Pattern {
    /// Index into the needles.
    pub needle: usize,
    /// The form's name.
    pub form: &'static str,
    /// The bytes to search for.
    pub bytes: Vec<u8>,
}

/// Shorter patterns would be found by chance.
const SHORTEST: usize = 8;

/// Every form of every needle: raw, hex, base64 at each alignment, URL, JSON-escaped, UTF-16.
pub fn patterns(needles: &[Needle]) -> Vec<Pattern> {
    let mut all = Vec::new();
    for (needle, secret) in needles.iter().enumerate() {
        for (form, bytes) in forms(&secret.bytes) {
            if bytes.len() >= SHORTEST {
                all.push(Pattern { needle, form, bytes });
            }
        }
    }
    all
}

fn forms(raw: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let lower = hex::encode(raw);
    let mut forms = vec![
        ("raw", raw.to_vec()),
        ("hex", lower.clone().into_bytes()),
        ("HEX", lower.to_uppercase().into_bytes()),
        ("UTF-16 of hex", utf16(&lower)),
    ];
    for skip in 0..3 {
        // Inside a longer base64 text the secret starts at any of three alignments; the first and
        // last characters then mix with the neighbours and are left out.
        let mut shifted = vec![0; skip];
        shifted.extend_from_slice(raw);
        let inner = |text: String| {
            let from = (skip * 4).div_ceil(3);
            let until = shifted.len() * 4 / 3;
            text.as_bytes()[from..until].to_vec()
        };
        forms.push(("base64", inner(BASE64_STANDARD.encode(&shifted))));
        forms.push(("base64url", inner(BASE64_URL_SAFE_NO_PAD.encode(&shifted))));
    }
    if let Ok(text) = std::str::from_utf8(raw) {
        forms.push(("UTF-16", utf16(text)));
        forms.push(("URL", url::form_urlencoded::byte_serialize(raw).collect::<String>().into_bytes()));
        let json = serde_json::Value::from(text).to_string();
        forms.push(("JSON", json.trim_matches('"').as_bytes().to_vec()));
    }
    forms.sort_by(|a, b| a.1.cmp(&b.1));
    forms.dedup_by(|a, b| a.1 == b.1);
    forms
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_inside_longer_base64_is_found_at_every_alignment() {
        let secret = b"correct horse battery staple".to_vec();
        let patterns = patterns(&[Needle { name: "x".to_owned(), bytes: secret.clone() }]);
        for lead in 0..5 {
            let mut message = vec![b'a'; lead];
            message.extend_from_slice(&secret);
            message.extend_from_slice(b"tail");
            let text = BASE64_STANDARD.encode(message).into_bytes();
            let found = patterns.iter().any(|p| text.windows(p.bytes.len()).any(|window| window == p.bytes));
            assert!(found, "after {lead} bytes");
        }
    }
}
