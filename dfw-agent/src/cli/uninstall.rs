//! `dfw uninstall`.

use std::{
    io::{self, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    AgentArgs, BpffsArgs, Error, Format, OutputArgs, StateArgs,
    client::{Client, ClientError},
    count, write_json,
};
use crate::{
    config::DEFAULT_STATE,
    datapath,
    exit::{ExitCode, Failure},
    run,
};

/// How long the agent may take to end.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Stop the agent and remove everything that it put into the kernel, and what it has learned
///
/// Afterwards nothing is enforced. Doing it twice does no harm. Whatever restarts the agent (systemd, a restart policy)
/// has to be told first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw uninstall
  systemctl disable --now dfw && dfw uninstall
  dfw uninstall --bpffs /sys/fs/bpf/other --socket /run/other.sock")]
pub(super) struct Args {
    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    bpffs: BpffsArgs,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done<'a> {
    stopped_agent: bool,
    links: usize,
    maps: usize,
    bpffs: &'a Path,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, file) = self.agent.load()?;
        let state = self.state.state.or_else(|| file.state.clone());
        let state = state.unwrap_or_else(|| DEFAULT_STATE.into());
        let bpffs = self.bpffs.over(file);
        let stopped_agent = stop(&client)?;
        let report = datapath::uninstall(&bpffs, datapath::marker(client.socket()))
            .map_err(|error| cannot_remove(&error, &bpffs))?;
        run::forget_modes(client.socket())
            .map_err(|error| cannot_remove(&error, client.socket()))?;
        run::forget_learned(&state).map_err(|error| cannot_remove(&error, &state))?;
        let done = Done {
            stopped_agent,
            links: report.links,
            maps: report.maps,
            bpffs: &bpffs,
        };
        match self.output.output {
            Format::Table => print(out, &done)?,
            Format::Json => write_json(out, &done)?,
        }
        Ok(ExitCode::Success)
    }
}

/// Ends the agent if there is one, and tells whether there was.
fn stop(client: &Client) -> Result<bool, Failure> {
    match client.stop() {
        Ok(()) => {}
        Err(ClientError::Absent(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + STOP_TIME;
    while !client.is_gone() {
        if Instant::now() >= deadline {
            return Err(Failure::new(
                ExitCode::Failure,
                format!(
                    "the agent on {} was told to stop and still answers after {} s",
                    client.socket().display(),
                    STOP_TIME.as_secs()
                ),
                "if something restarts it, stop that first; nothing was removed",
            ));
        }
        thread::sleep(STOP_POLL);
    }
    Ok(true)
}

fn cannot_remove(error: &io::Error, place: &Path) -> Failure {
    let message = format!("cannot remove what belongs to {}: {error}", place.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        Failure::new(ExitCode::Capability, message, "run this as root")
    } else {
        Failure::new(
            ExitCode::Failure,
            message,
            "put that right and run it again",
        )
    }
}

fn print(out: &mut impl Write, done: &Done<'_>) -> io::Result<()> {
    if done.stopped_agent {
        writeln!(out, "stopped the agent")?;
    }
    let place = done.bpffs.display();
    if done.links == 0 && done.maps == 0 {
        writeln!(out, "nothing to remove under {place}")
    } else {
        let (links, maps) = (count(done.links, "link"), count(done.maps, "map"));
        writeln!(
            out,
            "removed {links} and {maps} under {place}; nothing is enforced any more"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::tests::plain;

    #[test]
    fn says_what_it_did() {
        let bpffs = Path::new("/sys/fs/bpf/dfw");
        let done = Done {
            stopped_agent: true,
            links: 12,
            maps: 1,
            bpffs,
        };
        insta::assert_snapshot!(plain(|out| print(out, &done)), @r"
        stopped the agent
        removed 12 links and 1 map under /sys/fs/bpf/dfw; nothing is enforced any more
        ");
        let done = Done {
            stopped_agent: false,
            links: 0,
            maps: 0,
            bpffs,
        };
        insta::assert_snapshot!(plain(|out| print(out, &done)), @"nothing to remove under /sys/fs/bpf/dfw");
    }
}
