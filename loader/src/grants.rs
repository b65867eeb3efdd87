//! What the broker gives.
