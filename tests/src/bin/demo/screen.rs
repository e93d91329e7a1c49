//! What is printed.

use std::{
    env,
    io::{self, IsTerminal as _},
};

/// Steps, check marks and output of commands, on standard output.
pub(crate) struct Screen {
    colour: bool,
    step: u32,
    checked: u32,
    failed: u32,
}

impl Screen {
    /// In colours where that is a terminal and `NO_COLOR` is not set.
    pub(crate) fn new() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colour: wanted && io::stdout().is_terminal(),
            step: 0,
            checked: 0,
            failed: 0,
        }
    }

    /// A line.
    pub(crate) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// A line in the background.
    pub(crate) fn note(&self, text: &str) {
        println!("  {}", self.painted("2", text));
    }

    /// The title of the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        println!(
            "\n{}",
            self.painted("1", &format!("{}. {title}", self.step))
        );
    }

    /// Lines of a command, a file or a table.
    pub(crate) fn show(&self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    /// Something that must be so.
    pub(crate) fn check(&mut self, is_so: bool, claim: &str) {
        self.checked += 1;
        let mark = if is_so {
            self.painted("32", "✔")
        } else {
            self.failed += 1;
            self.painted("31", "✘ NOT SO:")
        };
        println!("  {mark} {claim}");
    }

    /// The sum; whether everything was so.
    pub(crate) fn end(&self) -> bool {
        let (checked, failed) = (self.checked, self.failed);
        let text = if failed == 0 {
            self.painted("32", &format!("All {checked} checks hold."))
        } else {
            self.painted("31", &format!("{failed} of {checked} checks do not hold."))
        };
        println!("\n{text}");
        failed == 0
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
