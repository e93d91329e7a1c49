//! Any text as a label: the parser never panics, and an error has at least one problem to tell.

#![no_main]

use dfw_agent::policy::parse_rules;
use dfw_common::reason::Direction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for direction in Direction::ALL {
        if let Err(problems) = parse_rules(direction, text) {
            assert!(!problems.is_empty(), "an error without a problem");
        }
    }
});
