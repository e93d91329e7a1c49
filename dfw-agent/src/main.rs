//! The binary `dfw`.

fn main() {}
