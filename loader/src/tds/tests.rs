//! The reader against bytes written by hand from MS-TDS, and against a server of a few lines.

mod framing;
mod hostile;
mod login;
mod pieces;
mod section4;
mod server;
mod split;
mod statements;
mod tls;
mod values;
mod wire;
