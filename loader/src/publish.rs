//! Staging to target.
