//! `dfw man`.

use std::io::Write;

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, Error};
use crate::exit::{ExitCode, Failure};

/// What stands at the foot of each page.
const SOURCE: &str = concat!("dfw ", env!("CARGO_PKG_VERSION"));

/// Print the manual pages, in roff
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw man | man -l -                    read all of it
  dfw man ls > dfw-ls.1                 the page of one command")]
pub(super) struct Args {
    /// Only the page of this command
    command: Option<String>,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let mut root = Cli::command();
        root.build();
        let pages = std::iter::once(&root).chain(
            root.get_subcommands()
                .filter(|sub| sub.get_name() != "help"),
        );
        let wanted = |name: &str| {
            self.command
                .as_deref()
                .is_none_or(|command| command == name)
        };
        let mut printed = false;
        for page in pages.filter(|page| wanted(page.get_name())) {
            Man::new(page.clone()).source(SOURCE).render(out)?;
            printed = true;
        }
        if printed {
            return Ok(ExitCode::Success);
        }
        let command = self.command.unwrap_or_default();
        let message = format!("there is no command {command}");
        Err(Failure::new(ExitCode::Usage, message, "`dfw --help` lists them").into())
    }
}
