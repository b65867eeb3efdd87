//! What the demo proves, by code that shares nothing with the loader, the broker or the stand-ins'
//! own tables: rows compared as multisets, secrets searched for in a living process.

pub mod kerberos;
pub mod needles;
pub mod oracle;
pub mod scan;
