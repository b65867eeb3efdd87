//! Catalog to chunks, types and statements.
