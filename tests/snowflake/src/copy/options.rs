//! `NAME = value` lists: file formats and copy options.

use crate::{
    lexer::{Kind, Token, tokens},
    reply::Refusal,
};

/// The value of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// A word, a number or a string.
    Plain(String),
    /// `('a', 'b')`.
    List(Vec<String>),
    /// `(NAME = value …)`.
    Group(Options),
}

/// Options in the order of the text, names in upper case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(pub(crate) Vec<(String, Setting)>);

impl Options {
    /// The setting with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, setting)| setting)
    }

    /// A setting with one value.
    pub(crate) fn plain(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Setting::Plain(value)) => Some(value),
            _ => None,
        }
    }

    /// A setting that is TRUE or FALSE.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.plain(name).map(str::to_uppercase).as_deref() {
            None => Ok(None),
            Some("TRUE") => Ok(Some(true)),
            Some("FALSE") => Ok(Some(false)),
            Some(other) => Err(Refusal::syntax(format!("invalid value [{other}] for parameter '{name}'"))),
        }
    }

    /// These options over others: what is set here wins.
    pub(crate) fn over(&self, below: &Self) -> Self {
        Self(below.0.iter().chain(&self.0).cloned().collect())
    }

    /// Refuses a name that is not in `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Refusal::syntax(format!("invalid parameter '{name}'"))),
            None => Ok(()),
        }
    }
}

/// Reads `NAME = value …` to the end of the text.
pub(crate) fn parse(text: &str) -> Result<Options, Refusal> {
    let all = tokens(text);
    let mut at = 0;
    let options = group(&all, &mut at)?;
    match all.get(at) {
        None => Ok(options),
        Some(token) => Err(unexpected(token)),
    }
}

pub(crate) fn unexpected(token: &Token<'_>) -> Refusal {
    Refusal::syntax(format!("syntax error line 1 at position {} unexpected '{}'.", token.start, token.text))
}

/// Options up to a closing parenthesis or the end.
fn group(all: &[Token<'_>], at: &mut usize) -> Result<Options, Refusal> {
    let mut options = Vec::new();
    while let Some(name) = all.get(*at).filter(|token| !token.is(")")) {
        if name.is(",") {
            *at += 1;
            continue;
        }
        if name.kind != Kind::Word || !all.get(*at + 1).is_some_and(|token| token.is("=")) {
            return Err(unexpected(name));
        }
        *at += 2;
        if all.get(*at).is_some_and(|token| token.is(">")) {
            *at += 1;
        }
        let setting = setting(all, at)?;
        options.push((name.value(), setting));
    }
    Ok(Options(options))
}

fn setting(all: &[Token<'_>], at: &mut usize) -> Result<Setting, Refusal> {
    let end = || Refusal::syntax("syntax error: unexpected '<EOF>'.");
    let token = all.get(*at).ok_or_else(end)?;
    *at += 1;
    match token.kind {
        Kind::Word | Kind::Number | Kind::Text | Kind::Stage | Kind::Quoted => {
            let mut value = if token.kind == Kind::Quoted { token.text.to_owned() } else { token.value() };
            // A dotted name.
            while all.get(*at).is_some_and(|dot| dot.is(".")) {
                let part = all.get(*at + 1).ok_or_else(end)?;
                value.push('.');
                value.push_str(part.text);
                *at += 2;
            }
            Ok(Setting::Plain(value))
        }
        Kind::Punct if token.is("(") => {
            let is_group = all.get(*at).is_some_and(|token| token.kind == Kind::Word)
                && all.get(*at + 1).is_some_and(|token| token.is("="));
            let inner =
                if is_group { Setting::Group(group(all, at)?) } else { Setting::List(list(all, at)?) };
            match all.get(*at) {
                Some(close) if close.is(")") => *at += 1,
                Some(other) => return Err(unexpected(other)),
                None => return Err(end()),
            }
            Ok(inner)
        }
        _ => Err(unexpected(token)),
    }
}

fn list(all: &[Token<'_>], at: &mut usize) -> Result<Vec<String>, Refusal> {
    let mut values = Vec::new();
    while let Some(token) = all.get(*at).filter(|token| !token.is(")")) {
        match token.kind {
            Kind::Text | Kind::Word | Kind::Number => values.push(token.value()),
            _ if token.is(",") => {}
            _ => return Err(unexpected(token)),
        }
        *at += 1;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lists_and_words_are_told_apart() {
        let options =
            parse("FILES = ('a', 'b''c') FILE_FORMAT=(TYPE=PARQUET, NULL_IF=('')) on_error = skip_file")
                .unwrap();
        assert_eq!(options.get("FILES"), Some(&Setting::List(vec!["a".into(), "b'c".into()])));
        let Some(Setting::Group(format)) = options.get("FILE_FORMAT") else { panic!() };
        assert_eq!(format.plain("TYPE"), Some("PARQUET"));
        assert_eq!(options.plain("ON_ERROR"), Some("SKIP_FILE"));
        assert!(parse("FILES = (").is_err());
        assert!(parse("FILES 'a'").is_err());
    }
}
