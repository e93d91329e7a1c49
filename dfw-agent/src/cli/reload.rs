//! `dfw reload`.

use std::io::Write;

use super::{AgentArgs, Error, Format, OutputArgs, mode, write_json};
use crate::{exit::ExitCode, model::Done};

/// Read the node's policy file anew
///
/// The file that the agent was started with (--policy) is taken over as a whole, for running containers and live
/// connections too; SIGHUP does the same. A file with a mistake changes nothing, and each mistake is shown with its place.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw reload
  dfw reload -o json | jq .findings")]
pub(super) struct Args {
    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, _) = self.agent.load()?;
        let done: Done = match client.order("/v1/reload", &())? {
            Ok(done) => done,
            Err(refused) => return mode::tell(out, self.output.output, &refused),
        };
        match self.output.output {
            Format::Table => mode::print(out, &done)?,
            Format::Json => write_json(out, &done)?,
        }
        Ok(ExitCode::Success)
    }
}
