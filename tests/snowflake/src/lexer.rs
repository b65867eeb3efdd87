//! Words, strings and stage references of Snowflake's SQL, for the statements that are not the evaluator's.

use std::fmt::Write as _;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bare word, keyword or `$1`.
    Word,
    /// `"…"`.
    Quoted,
    /// `'…'` or `$$…$$`.
    Text,
    /// Digits.
    Number,
    /// `@stage/path`.
    Stage,
    /// `?`.
    Parameter,
    /// One other character.
    Punct,
}

/// One token and where it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

impl Token<'_> {
    /// Where the token ends.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether this is the keyword, in any case.
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Punct) && self.text.eq_ignore_ascii_case(word)
    }

    /// The value of a string, the name of an identifier (upper case unless quoted), otherwise the text itself.
    pub(crate) fn value(&self) -> String {
        match self.kind {
            Kind::Text => unquote_text(self.text),
            Kind::Quoted => self.text[1..self.text.len().saturating_sub(1).max(1)].replace("\"\"", "\""),
            Kind::Word => self.text.to_uppercase(),
            _ => self.text.to_owned(),
        }
    }
}

/// Splits a text into tokens; comments and blanks are left out. An unterminated string ends with the text.
pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql[at..];
        let first = bytes[at];
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let in_url = at > 0 && matches!(bytes[at - 1], b':' | b'/');
        if rest.starts_with("--") || (rest.starts_with("//") && !in_url) {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
            continue;
        }
        let (kind, length) = match first {
            b'\'' => (Kind::Text, text_length(rest)),
            b'"' => (Kind::Quoted, quoted_length(rest)),
            b'$' if rest.starts_with("$$") => {
                (Kind::Text, rest[2..].find("$$").map_or(rest.len(), |end| end + 4))
            }
            b'@' => (Kind::Stage, stage_length(rest)),
            b'?' => (Kind::Parameter, 1),
            b'0'..=b'9' => (Kind::Number, number_length(rest)),
            _ if is_word(first) => {
                (Kind::Word, rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len()))
            }
            _ => (Kind::Punct, 1),
        };
        found.push(Token { kind, text: &sql[at..at + length], start: at });
        at += length;
    }
    found
}

/// The statement with words in upper case and one space between tokens: for comparing beginnings.
pub(crate) fn canonical(sql: &str) -> String {
    let mut out = String::new();
    for token in tokens(sql) {
        let word = if token.kind == Kind::Word { token.text.to_uppercase() } else { token.text.to_owned() };
        let _ = write!(out, "{}{word}", if out.is_empty() { "" } else { " " });
    }
    out
}

/// A string literal that evaluates to this text.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn number_length(rest: &str) -> usize {
    rest.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'.')).unwrap_or(rest.len())
}

fn text_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' if bytes.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn stage_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at += quoted_length(&rest[at..]),
            byte if byte.is_ascii_whitespace() || b"(),;'".contains(&byte) => break,
            _ => at += 1,
        }
    }
    at
}

fn unquote_text(raw: &str) -> String {
    if let Some(inner) = raw.strip_prefix("$$") {
        return inner.strip_suffix("$$").unwrap_or(inner).to_owned();
    }
    let inner = raw.strip_prefix('\'').unwrap_or(raw);
    let inner = inner.strip_suffix('\'').unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                out.push('\'');
            }
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some('b') => out.push('\u{8}'),
                Some('f') => out.push('\u{c}'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_vanish_and_stages_stay_whole() {
        let sql = "copy /* x */ into t -- y\n from @\"D B\".\"S\".st/p/a.parquet files = ('it''s', 'b')";
        let found: Vec<_> = tokens(sql).iter().map(|token| token.text).collect();
        assert_eq!(
            found,
            [
                "copy",
                "into",
                "t",
                "from",
                "@\"D B\".\"S\".st/p/a.parquet",
                "files",
                "=",
                "(",
                "'it''s'",
                ",",
                "'b'",
                ")"
            ]
        );
        assert_eq!(tokens("'it''s \\'n\\' $'")[0].value(), "it's 'n' $");
        assert_eq!(canonical("copy\n into /* */ T"), "COPY INTO T");
    }

    #[test]
    fn a_file_url_is_not_a_comment() {
        assert!(canonical("PUT file:///tmp/x @s").ends_with("@s"));
    }

    #[test]
    fn any_text_is_tokenised_without_panic() {
        for text in ["'", "\"", "$$", "@", "@\"", "'\\", "/*", "é'ü", "1.2e", "--"] {
            for token in tokens(text) {
                let _ = token.value();
            }
        }
    }
}
