//! The broker: owns every long-lived secret and serves short-lived grants over a Unix socket.

pub mod config;
