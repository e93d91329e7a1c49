//! `dfw top`.

mod figures;
mod frame;
mod screen;

use std::{
    io::{IsTerminal as _, Write},
    thread,
    time::{Duration, Instant},
};

use self::{figures::Figures, frame::Frame};
use super::{AgentArgs, Error, Format, OutputArgs, client::Client, write_json};
use crate::{
    exit::ExitCode,
    model::View,
    telemetry::{events::FlowEvent, history::Entry, observe::Query},
};

/// Watch services, packet rates, denials and flows
///
/// Refreshed until q or Ctrl-C. Without a terminal, with --once or as JSON it prints one interval and ends. Rates are packets a
/// second; each side of a packet is counted once, at the endpoint that was judged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw top                       worth leaving open
  dfw top --once                one interval, for a log
  dfw top -o json | jq '.services[] | select(.per_second.deny > 0)'")]
pub(super) struct Args {
    /// Print once and end
    #[arg(long)]
    once: bool,

    /// Seconds between two looks
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "2",
        value_parser = clap::value_parser!(u16).range(1..=3600)
    )]
    interval: u16,

    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// So many of the last denials are shown.
const DENIALS: usize = 5;

/// Everything that the agent says at one moment.
struct Look {
    at: Instant,
    view: View,
    figures: Figures,
    denials: Vec<FlowEvent>,
}

impl Look {
    fn at(client: &Client) -> Result<Self, Error> {
        let view = client.view()?;
        let figures = Figures::read(&client.metrics()?);
        Ok(Self {
            at: Instant::now(),
            view,
            figures,
            denials: denials(client)?,
        })
    }

    /// What happened since an earlier look.
    fn since(&self, earlier: &Self) -> Frame {
        let time = self.at.duration_since(earlier.at);
        Frame::new(
            &self.view,
            [&earlier.figures, &self.figures],
            time,
            &self.denials,
        )
    }
}

fn denials(client: &Client) -> Result<Vec<FlowEvent>, Error> {
    let query = Query {
        verdicts: vec!["deny".to_owned()],
        last: Some(DENIALS),
        ..Query::default()
    };
    let mut found = Vec::new();
    let asked = client.observe(&query, |lines| {
        for entry in client.entries(lines) {
            if let Entry::Flow(event) = entry? {
                found.push(event);
            }
        }
        Ok(())
    });
    match asked {
        // An agent without a history, or one that serves as many observers as it can, has all other figures.
        Ok(()) | Err(Error::Failure(_)) => Ok(found),
        Err(error) => Err(error),
    }
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, _) = self.agent.load()?;
        let interval = Duration::from_secs(self.interval.into());
        let first = Look::at(&client)?;
        let is_table = self.output.output == Format::Table;
        if is_table && !self.once && std::io::stdout().is_terminal() {
            screen::run(&client, first, interval)?;
        } else {
            thread::sleep(interval);
            let frame = Look::at(&client)?.since(&first);
            if is_table {
                frame.print(out)?;
            } else {
                write_json(out, &frame)?;
            }
        }
        Ok(ExitCode::Success)
    }
}
