//! How much of a campaign a run does: a small fixed fraction in the test suite, all of it in `cargo xtask soak`.

use std::env;

/// Set to anything but nothing by `cargo xtask soak`.
pub const VARIABLE: &str = "DFW_CAMPAIGN";

/// `all` in a campaign, else `fraction`.
pub fn scale<T>(fraction: T, all: T) -> T {
    if env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
        all
    } else {
        fraction
    }
}
