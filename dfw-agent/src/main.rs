//! The binary `dfw`.

use clap::Parser;
use dfw_agent::{cli::Cli, exit::ExitCode};

fn main() -> std::process::ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.execute(),
        Err(error) => {
            // Where even this cannot be written there is nobody to tell.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Success
            }
        }
    }
    .into()
}
