//! `dfw observe`.

use std::{
    io::{self, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use clap::{
    ArgAction, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser},
};
use dfw_common::reason::{self, Reason};

use super::{AgentArgs, Error, Format, OutputArgs, duration};
use crate::{
    exit::ExitCode,
    telemetry::{
        events::{FlowEvent, TimeOfDay},
        history::{By, Entry, Lost},
        observe::{PortFilter, Query},
        text,
    },
};

/// Watch new and denied flows, with names, reason and rule
///
/// One line for each new flow, of the side that was judged first (egress: the sender's, ingress: the receiver's), and one for
/// each packet that is denied, of the side that denies it. Without --since or --last from now on. Several values of a flag mean any of them; different flags must all be true. A name is that of a
/// container, a service or a project, or PROJECT/SERVICE; an address, a CIDR, host and world go as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw observe                              every new or denied flow, as it happens
  dfw observe --denied --to shop/db        what is dropped on its way to a service
  dfw observe --since 5m --from world      the last five minutes first, then go on
  dfw observe --last 20 --verdict audit    the last 20 that would be denied, and end
  dfw observe --denied -o json | jq -r .reason")]
pub(super) struct Args {
    /// Only what is dropped, as --verdict deny
    #[arg(long)]
    denied: bool,

    /// Who sends
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    from: Vec<String>,

    /// Who receives
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    to: Vec<String>,

    /// Port of either end: 443, 8000-8100, udp/53
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<PortFilter>,

    /// What became of it
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    verdict: Vec<Verdict>,

    /// Why
    #[arg(long, value_name = "REASON", value_delimiter = ',', value_parser = reasons())]
    reason: Vec<String>,

    /// Begin with what happened in this time before now: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    since: Option<Duration>,

    /// Of the past only the last N, and end unless --follow is given too
    #[arg(long, value_name = "N")]
    last: Option<usize>,

    /// Go on with what happens [default: true without --last]
    #[arg(
        short,
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    follow: Option<bool>,

    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// As in [`reason::Verdict`], with the words of other tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Verdict {
    /// Allowed by policy
    #[value(aliases = ["allowed", "forwarded"])]
    Allow,
    /// Denied and dropped
    #[value(aliases = ["denied", "drop", "dropped"])]
    Deny,
    /// Would be denied; passed because the endpoint audits
    #[value(alias = "audited")]
    Audit,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Allow => reason::Verdict::Allow,
            Self::Deny => reason::Verdict::Deny,
            Self::Audit => reason::Verdict::Audit,
        }
        .name()
    }
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let query = self.query();
        let (client, _) = self.agent.load()?;
        client.observe(&query, |lines| {
            match self.output.output {
                Format::Json => out.write_all(lines)?,
                Format::Table => {
                    for entry in client.entries(lines) {
                        print(out, &entry?)?;
                    }
                }
            }
            // Whoever reads waits for it.
            Ok(out.flush()?)
        })?;
        Ok(ExitCode::Success)
    }

    fn query(&self) -> Query {
        let denied = self.denied.then_some(Verdict::Deny);
        let verdicts = self.verdict.iter().copied().chain(denied);
        let millis = |since: Duration| u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Query {
            from: self.from.clone(),
            to: self.to.clone(),
            ports: self.port.clone(),
            verdicts: verdicts.map(|verdict| verdict.name().to_owned()).collect(),
            reasons: self.reason.clone(),
            since_ms: self.since.map(millis),
            last: self.last,
            follow: self.follow.unwrap_or(self.last.is_none()),
        }
    }
}

fn reasons() -> PossibleValuesParser {
    let reasons = Reason::ALL.iter();
    PossibleValuesParser::new(
        reasons.map(|reason| PossibleValue::new(reason.name()).help(reason.describe())),
    )
}

/// Reads `30s`, `5m`, `2h` or `1d`.
fn print(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Flow(event) => flow(out, event),
        Entry::Lost(lost) => missing(out, lost),
    }
}

fn flow(out: &mut impl Write, event: &FlowEvent) -> io::Result<()> {
    let style = match event.verdict {
        reason::Verdict::Allow => Style::new(),
        reason::Verdict::Deny => AnsiColor::Red.on_default(),
        reason::Verdict::Audit => AnsiColor::Yellow.on_default(),
    };
    write!(out, "{style}{event}{style:#}")?;
    if let Some(rule) = &event.rule {
        let (label, rule) = (text::escape(&rule.label), text::escape(&rule.text));
        write!(out, "  {label}: \"{rule}\"")?;
    }
    writeln!(out)
}

fn missing(out: &mut impl Write, lost: &Lost) -> io::Result<()> {
    let Lost { time, lost, by } = lost;
    let events = format!("{lost} event{}", if *lost == 1 { "" } else { "s" });
    let what = match by {
        By::Kernel => format!("{events} lost: they came faster than the agent takes them"),
        By::Observer => format!("{events} missed: they came faster than this observer reads them"),
        By::History if *lost == 0 => "the agent's history begins here".to_owned(),
        By::History => format!("the agent's history begins here: up to {events} before are gone"),
    };
    let style = AnsiColor::Yellow.on_default().bold();
    writeln!(out, "{}  {style}{what}{style:#}", TimeOfDay(*time))
}

#[cfg(test)]
mod tests;
