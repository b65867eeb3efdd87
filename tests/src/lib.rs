//! The whole system on one machine, for people and for tests.
//!
//! [`world`] starts the stand-ins, [`sample`] makes tables for them, [`proof`] checks what the product
//! promises with code of its own.

pub mod proof;
pub mod sample;
