//! File formats: what `FILE_FORMAT = (…)` says, checked.

use super::{
    csv::CsvFormat,
    options::{Options, Setting},
};
use crate::{
    query::Run,
    reply::Refusal,
    stages::{Location, qualify},
};

/// How the bytes of a file are read.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Parquet(ParquetFormat),
    Csv(CsvFormat),
}

/// What changes the meaning of a Parquet file's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParquetFormat {
    /// Logical types are honoured: nanoseconds are timestamps, `isAdjustedToUTC` makes them LTZ.
    pub(crate) logical: bool,
    /// Byte arrays without a logical type are UTF-8 text.
    pub(crate) binary_as_text: bool,
    /// What is no UTF-8 in such text becomes U+FFFD instead of an error.
    pub(crate) replace_invalid: bool,
}

/// `FILE_FORMAT = (…)` of a statement, a named format resolved. Empty where it says nothing.
pub(crate) fn file_format(run: &Run<'_>, options: &Options) -> Result<Options, Refusal> {
    let named = |name: &str| run.server.stages.format(&qualify(name, run.sql.identity())?);
    match options.get("FILE_FORMAT") {
        None => Ok(Options::default()),
        Some(Setting::Plain(name)) => named(name),
        Some(Setting::Group(group)) => match group.plain("FORMAT_NAME") {
            Some(name) => named(name),
            None => Ok(group.clone()),
        },
        Some(Setting::List(names)) if names.is_empty() => Ok(Options::default()),
        Some(Setting::List(_)) => Err(Refusal::syntax("FILE_FORMAT must be (TYPE = …) or a format's name.")),
    }
}

/// The format of a COPY: its own, otherwise the stage's, otherwise CSV.
pub(super) fn copy_format(run: &Run<'_>, options: &Options, location: &Location) -> Result<Format, Refusal> {
    let own = file_format(run, options)?;
    read(if own.0.is_empty() { &location.stage.format } else { &own })
}

/// Reads a format's options; unknown ones are refused.
pub(super) fn read(options: &Options) -> Result<Format, Refusal> {
    match options.plain("TYPE").unwrap_or("CSV").to_uppercase().as_str() {
        "PARQUET" => parquet(options).map(Format::Parquet),
        "CSV" => CsvFormat::read(options).map(Format::Csv),
        other => Err(Refusal::new("002099", "0A000", format!("Files of TYPE = {other} are not carried."))),
    }
}

fn parquet(options: &Options) -> Result<ParquetFormat, Refusal> {
    options.only(&[
        "TYPE",
        "COMPRESSION",
        "SNAPPY_COMPRESSION",
        "BINARY_AS_TEXT",
        "USE_LOGICAL_TYPE",
        "USE_VECTORIZED_SCANNER",
        "TRIM_SPACE",
        "REPLACE_INVALID_CHARACTERS",
        "NULL_IF",
    ])?;
    if options.flag("TRIM_SPACE")? == Some(true) {
        return Err(Refusal::new("002099", "0A000", "TRIM_SPACE = TRUE is not carried for Parquet."));
    }
    // The vectorized scanner decides both of the others, whatever they say.
    let vectorized = options.flag("USE_VECTORIZED_SCANNER")?.unwrap_or(false);
    Ok(ParquetFormat {
        logical: vectorized || options.flag("USE_LOGICAL_TYPE")?.unwrap_or(false),
        replace_invalid: options.flag("REPLACE_INVALID_CHARACTERS")?.unwrap_or(false),
        binary_as_text: !vectorized && options.flag("BINARY_AS_TEXT")?.unwrap_or(true),
    })
}
