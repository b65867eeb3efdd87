//! Which chunks are durably loaded.
