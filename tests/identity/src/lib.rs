//! Identity stand-ins for one machine: a Vault, an Entra ID and a real MIT KDC in a throw-away folder.
//!
//! Each refuses what the real one refuses; none shares code with the broker that talks to it.

pub mod certs;
pub mod entra;
pub mod http;
pub mod kdc;
pub mod vault;
