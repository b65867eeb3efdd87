//! Aggregates that both sides can recompute.
