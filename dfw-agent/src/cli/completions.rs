//! `dfw completions`.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Error};
use crate::exit::ExitCode;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw completions bash > /etc/bash_completion.d/dfw
  dfw completions zsh > ~/.zfunc/_dfw
  dfw completions fish > ~/.config/fish/completions/dfw.fish")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        // The generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "dfw", &mut script);
        out.write_all(&script)?;
        Ok(ExitCode::Success)
    }
}
