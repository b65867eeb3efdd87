//! stand_in
fn main() {}
