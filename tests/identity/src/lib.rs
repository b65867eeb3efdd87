//! Stand-in part; see the crate description.
