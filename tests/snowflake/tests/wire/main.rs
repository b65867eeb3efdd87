//! The stand-in over its own wire, as a client made by hand sees it.

mod copy;
mod faults;
mod login;
mod objects;
mod s3;
mod sessions;
mod statements;
mod world;
