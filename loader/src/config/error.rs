//! One error: where, what was found, what to write instead.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_saphyr::Location;

/// Why a pipeline file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the pipeline file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's text is wrong.
    #[error("{}, line {line}, column {column}: {message}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Counted from 1.
        column: u64,
        /// What was found and what to write instead.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn at(file: &Path, location: Location, message: impl Into<String>) -> Self {
        Self::Invalid {
            file: file.to_owned(),
            line: location.line(),
            column: location.column(),
            message: message.into(),
        }
    }
}

/// Translates the reader's error: the nearest right key for a wrong one, plain words for the rest.
pub(super) fn from_yaml(file: &Path, error: &serde_saphyr::Error) -> ConfigError {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let message = match error {
        Yaml::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Yaml::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        Yaml::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here"),
        Yaml::SerdeInvalidType { unexpected, expected, .. }
        | Yaml::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("found {unexpected} where {expected} belongs")
        }
        Yaml::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` stands here a second time; keep one")
        }
        other => plain(&without_place(&other.to_string())),
    };
    ConfigError::at(file, error.location().unwrap_or(Location::UNKNOWN), message)
}

/// "unknown key `x`; did you mean `y`?", or the whole list when nothing is near.
pub(super) fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    match nearest(found, known.iter().copied()) {
        Some(near) => format!("unknown {what} `{found}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{found}`; known here: {}", known.join(", ")),
    }
}

/// The nearest of some names, if any is near enough to be a slip.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = found.to_lowercase();
    known
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The reader names Rust's types; a user knows numbers.
fn plain(text: &str) -> String {
    match text.strip_prefix("invalid ") {
        Some("u16") => "a whole number from 0 to 65535 belongs here".into(),
        Some("u32" | "u64") => "a whole number, 0 or more, belongs here".into(),
        _ => text.to_owned(),
    }
}

/// The reader's own words without the place, which stands in front already.
fn without_place(text: &str) -> String {
    let first = text.lines().next().unwrap_or(text);
    let end = first.find(" at line ").unwrap_or(first.len());
    let start = if first.starts_with("error: ") { "error: ".len() } else { 0 };
    first.get(start..end).unwrap_or(first).to_owned()
}
