//! The stand-in over its own wire, as a client made by hand sees it.

// Functions that tests share may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod copy;
mod faults;
mod login;
mod objects;
mod s3;
mod sessions;
mod statements;
mod world;
