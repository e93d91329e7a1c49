//! `dfw run`: builds the agent from its configuration and drives it until it is told to stop.

use crate::{
    config::Config,
    exit::{ExitCode, Failure},
};

/// Runs the agent until SIGTERM, SIGINT or `POST /v1/stop`. Enforcement stays in place afterwards.
pub fn run(_config: Config) -> Result<(), Failure> {
    Err(Failure::new(
        ExitCode::Failure,
        "this build cannot run the agent yet",
        "use a build that has the datapath",
    ))
}
