//! VARIANT as JSON text, and back.

use std::{fmt::Write, sync::Arc};

use crate::{
    cast::{Cast, scalar_type, strings::to_text},
    decimal::Decimal,
    types::{DataType, Dialect},
    value::{Value, Variant},
};

/// Compact JSON, as `TO_JSON` and a cast to VARCHAR show it.
pub(crate) fn text_of(variant: &Variant) -> String {
    let mut text = String::new();
    write_variant(&mut text, variant);
    text
}

fn write_variant(text: &mut String, variant: &Variant) {
    match variant {
        Variant::Scalar(Value::Null) => text.push_str("null"),
        Variant::Scalar(
            value @ (Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Float(_) | Value::Real(_)),
        ) => {
            text.push_str(&plain(value));
        }
        Variant::Scalar(value) => write_text(text, &plain(value)),
        Variant::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_variant(text, item);
            }
            text.push(']');
        }
        Variant::Object(members) => {
            text.push('{');
            for (at, (name, item)) in members.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_text(text, name);
                text.push(':');
                write_variant(text, item);
            }
            text.push('}');
        }
    }
}

fn plain(value: &Value) -> String {
    let ty = scalar_type(value);
    let string = DataType::String { length: DataType::SNOWFLAKE_TEXT };
    to_text(&Cast::explicit(Dialect::Snowflake), value, &ty, &string)
        .map_or_else(|_| String::new(), |text| text.lossy().into_owned())
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads JSON; the error is what is wrong and where.
pub(crate) fn parse(text: &str) -> Result<Variant, String> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let value = parser.value()?;
    parser.blank();
    if parser.at == text.len() {
        Ok(value)
    } else {
        Err(format!("unexpected text at position {}", parser.at))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl Parser<'_> {
    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn value(&mut self) -> Result<Variant, String> {
        self.blank();
        self.depth += 1;
        if self.depth > 200 {
            return Err("more than 200 levels".to_owned());
        }
        let value = match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Ok(Variant::Scalar(Value::text(self.string()?))),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take("true") => Ok(Variant::Scalar(Value::Bool(true))),
            _ if self.take("false") => Ok(Variant::Scalar(Value::Bool(false))),
            _ if self.take("null") => Ok(Variant::Scalar(Value::Null)),
            _ => Err(format!("no value at position {}", self.at)),
        };
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Variant, String> {
        self.at += 1;
        let mut members: Vec<(Arc<str>, Variant)> = Vec::new();
        loop {
            self.blank();
            if self.take("}") {
                // Objects are unordered; like Snowflake, show them by name.
                members.sort_by(|a, b| a.0.cmp(&b.0));
                return Ok(Variant::Object(members));
            }
            if !members.is_empty() && !self.take(",") {
                return Err(format!("missing comma at position {}", self.at));
            }
            self.blank();
            let name = self.string()?;
            self.blank();
            if !self.take(":") {
                return Err(format!("missing colon at position {}", self.at));
            }
            let value = self.value()?;
            members.push((Arc::from(name), value));
        }
    }

    fn array(&mut self) -> Result<Variant, String> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.blank();
            if self.take("]") {
                return Ok(Variant::Array(items));
            }
            if !items.is_empty() && !self.take(",") {
                return Err(format!("missing comma at position {}", self.at));
            }
            items.push(self.value()?);
        }
    }

    fn number(&mut self) -> Result<Variant, String> {
        let start = self.at;
        while self.peek().is_some_and(|byte| b"+-.eE0123456789".contains(&byte)) {
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        if !digits.contains(['e', 'E'])
            && let Some(number) = Decimal::parse(digits)
        {
            return Ok(Variant::Scalar(Value::Decimal(number)));
        }
        digits
            .parse()
            .map(|number| Variant::Scalar(Value::Float(number)))
            .map_err(|_| format!("no number at position {start}"))
    }

    fn string(&mut self) -> Result<String, String> {
        if !self.take("\"") {
            return Err(format!("missing quote at position {}", self.at));
        }
        let mut out = String::new();
        loop {
            let Some(character) = self.text[self.at..].chars().next() else {
                return Err("a string without end".to_owned());
            };
            self.at += character.len_utf8();
            match character {
                '"' => return Ok(out),
                '\\' => out.push(self.escape()?),
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let bad = || "an unknown escape".to_owned();
        let code = self.peek().ok_or_else(bad)?;
        self.at += 1;
        Ok(match code {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'u' => {
                let high = self.hex4()?;
                if (0xD800..0xDC00).contains(&high) && self.take("\\u") {
                    let low = self.hex4()?;
                    let code = 0x10000 + ((high - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                    char::from_u32(code).unwrap_or('\u{FFFD}')
                } else {
                    char::from_u32(high).unwrap_or('\u{FFFD}')
                }
            }
            b'"' | b'\\' | b'/' => char::from(code),
            _ => return Err(bad()),
        })
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let digits = self.text.get(self.at..self.at + 4).ok_or("a cut escape")?;
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| "an unknown escape".to_owned())
    }
}
