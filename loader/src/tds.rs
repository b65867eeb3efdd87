//! The SQL Server wire.
