//! The loader's command line.
fn main() {}
