//! local_dev
fn main() {}
