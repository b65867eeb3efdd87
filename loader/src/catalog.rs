//! What the source's catalog says about a table.
