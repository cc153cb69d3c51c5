//! process
fn main() {}
