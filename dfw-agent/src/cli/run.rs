//! `dfw run`.

use super::{Error, FileArgs};
use crate::{config::Settings, exit::ExitCode, telemetry};

/// Start the agent of this node
///
/// Reads containers and their labels, fills the kernel's maps and keeps them true until it is told to stop. Enforcement
/// stays in place when it ends; `dfw uninstall` removes it. What is set here wins over the environment, and that over the
/// configuration file, whose keys are these flags without the dashes in front.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw run                                  watch the local Docker engine
  dfw run --unlabelled enforce             zero trust for the whole node
  dfw run --uplink eth0                    drop spoofed, malformed and denied packets at the edge
  dfw run --inventory /etc/dfw/ports.toml  plain veths, no Docker needed
  dfw run --log-format json --log-level debug")]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,

    #[command(flatten)]
    file: FileArgs,
}

impl Args {
    pub(super) fn perform(self) -> Result<ExitCode, Error> {
        let config = self.settings.over(self.file.load()?).resolve()?;
        telemetry::log::init(config.log_format, config.log_level);
        crate::run::run(config)?;
        Ok(ExitCode::Success)
    }
}
