//! Corruption on purpose, for tests: with the feature `failpoints` the first rows that pass are changed as
//! `KEYFERRY_CORRUPT` says, once in the process's life. Without the feature nothing is ever changed.
//!
//! `decode`: a number, before the loader adds it up. `encode`: the same, after that. `text`: a character, by another of
//! as many bytes, after that. `shift-time`: the timestamps of a batch, by an hour, after that. `drop-row`: the last row
//! of a batch, after that. `code-page`: a column is decoded by another code page.

#[cfg(feature = "failpoints")]
mod arrays;

use arrow_array::RecordBatch;

use crate::extract::Decoded;

/// Whether this kind is to be done now: at the first passage where it can be done.
#[cfg(feature = "failpoints")]
fn armed(kind: &str) -> bool {
    use std::sync::atomic::Ordering;
    !DONE.load(Ordering::SeqCst) && std::env::var("KEYFERRY_CORRUPT").is_ok_and(|wanted| wanted == kind)
}

#[cfg(feature = "failpoints")]
static DONE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Says that it was done; false when another thread was first.
#[cfg(feature = "failpoints")]
fn done(kind: &str, first_value: &str) -> bool {
    if DONE.swap(true, std::sync::atomic::Ordering::SeqCst) {
        return false;
    }
    tracing::warn!("put in on purpose: {kind} in the row <{first_value}>");
    true
}

/// What was decoded, before the loader's witness sees it.
#[cfg(feature = "failpoints")]
pub(crate) fn decoded(mut decoded: Decoded) -> Decoded {
    if armed("decode")
        && let Some((batch, row)) = arrays::another_number(&decoded.batch)
        && done("decode", &row)
    {
        decoded.batch = batch;
    }
    decoded
}

/// What goes to the encoder, after the loader's witness has seen it.
#[cfg(feature = "failpoints")]
pub(crate) fn encoded(batch: RecordBatch) -> RecordBatch {
    type Change = fn(&RecordBatch) -> Option<(RecordBatch, String)>;
    let changes: [(&str, Change); 4] = [
        ("encode", arrays::another_number),
        ("text", arrays::another_character),
        ("shift-time", arrays::an_hour_later),
        ("drop-row", arrays::without_the_last),
    ];
    for (kind, change) in changes {
        if armed(kind)
            && let Some((changed, row)) = change(&batch)
            && done(kind, &row)
        {
            return changed;
        }
    }
    batch
}

/// The code page by which a column is decoded.
#[cfg(feature = "failpoints")]
pub(crate) fn code_page(page: u16) -> u16 {
    // Letters above 127 take two bytes of UTF-8 in both.
    if page == 1251 && armed("code-page") && done("code-page", "-") { 1252 } else { page }
}

/// Nothing: this build changes nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn decoded(decoded: Decoded) -> Decoded {
    decoded
}

/// Nothing: this build changes nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn encoded(batch: RecordBatch) -> RecordBatch {
    batch
}

/// Nothing: this build changes nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn code_page(page: u16) -> u16 {
    page
}
