//! What is wrong with a configuration file, where, and what to write instead.

use std::{fmt, io, path::PathBuf};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; check the path given with --config and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} has {found} bytes; a configuration has at most {max}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The largest size read, in bytes.
        max: u64,
    },
    /// Something in the file is wrong.
    #[error("{}:{place}: {problem}", file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// Line and column, counted from 1.
        place: Place,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// A line and a column, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// ` (did you mean ...?)`, when one of the candidates is near enough to be what was meant.
pub(super) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| distance <= 2.max(candidate.len() / 3))
        .map(|(_, candidate)| format!("; did you mean `{candidate}`?"))
        .unwrap_or_default()
}

/// The YAML reader's error in the words of this module.
pub(super) fn describe(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    let unknown = |kind: &str, name: &str, expected: &[&'static str]| {
        let hint = nearest(name, expected.iter().copied());
        let name: String = name.chars().take(64).collect();
        format!("unknown {kind} {name:?}{hint} (here: {})", expected.join(", "))
    };
    match error {
        E::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        E::SerdeUnknownVariant { variant, expected, .. } => unknown("choice", variant, expected),
        E::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here; add it"),
        E::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is given twice; keep one"),
        E::DuplicateMappingKey { key: None, .. } => "a key is given twice; keep one".to_owned(),
        E::AliasError { error, .. } => describe(error),
        E::Message { msg, .. } => msg.clone(),
        E::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => {
            format!("a whole number ({ty}) is expected here; write one, without quotes")
        }
        E::InvalidScalar { ty, .. } => format!("a {ty} is expected here"),
        E::Unexpected { expected, .. } => {
            format!("{expected} is expected here; check braces and indentation")
        }
        E::Eof { .. } => "the file ends too early; is it empty?".to_owned(),
        other => {
            let text = other.without_snippet().to_string();
            match text.rfind(" at line ") {
                Some(end) if other.location().is_some() => text[..end].to_owned(),
                _ => text,
            }
        }
    }
}
