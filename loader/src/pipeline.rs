//! The wiring and every capacity.
