//! Catalog to chunks, types and statements.

pub mod sql;
