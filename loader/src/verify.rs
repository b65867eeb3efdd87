//! Source against target.
