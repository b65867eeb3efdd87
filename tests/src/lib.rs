//! The whole system on one machine, for people and for tests.
//!
//! [`world`] starts everything around broker and loader, [`sample`] makes tables for it, [`process`]
//! runs the two programs under users of their own, and [`proof`] checks what the product promises with
//! code that shares nothing with them.

pub mod demo;
pub mod process;
pub mod proof;
pub mod redteam;
pub mod results;
pub mod sample;
pub mod world;
