//! `dfw mode`.

use std::{
    borrow::Cow,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use super::{AgentArgs, Error, Format, OutputArgs, count, duration, findings, table, write_json};
use crate::{
    exit::{ExitCode, Failure},
    model::{Done, OverrideView, Refused, SwitchOrder},
    policy::{Mode, Select},
    telemetry::text,
};

/// Switch the mode of containers at once, for a while
///
/// Goes before what labels and the policy file say, for whoever the selector selects meanwhile. With --for it ends by
/// itself, also when the agent was killed and started again; in any case it ends with the next start of the host. Without
/// arguments, list what is switched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw mode                                       what is switched, and for how long
  dfw mode service:shop/web audit --for 10m      let it through and count, for ten minutes
  dfw mode 'project:shop group:batch' enforce    those that are both
  dfw mode service:shop/web --clear              labels and file hold again")]
pub(super) struct Args {
    /// Which containers: service:PROJECT/N, project:N, group:N, container:N, net:N, label:K=V or any; all of several with
    /// blanks between
    #[arg(value_parser = selector, requires = "what")]
    selector: Option<String>,

    /// enforce, audit or off
    #[arg(value_parser = mode, group = "what", requires = "selector")]
    mode: Option<Mode>,

    /// Go back after this time: 90s, 10m, 2h, 1d
    #[arg(long = "for", value_parser = time, value_name = "TIME", requires = "mode", conflicts_with = "clear")]
    lasts: Option<Duration>,

    /// Let labels and file hold again
    #[arg(long, group = "what", requires = "selector")]
    clear: bool,

    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, _) = self.agent.load()?;
        let Some(selector) = self.selector else {
            let overrides = client.view()?.overrides;
            match self.output.output {
                Format::Table => list(out, &overrides, SystemTime::now())?,
                Format::Json => write_json(out, &overrides)?,
            }
            return Ok(ExitCode::Success);
        };
        let order = SwitchOrder {
            selector,
            mode: self.mode.map(|mode| mode.to_string()),
            seconds: self.lasts.map(|lasts| lasts.as_secs()),
        };
        let done = match client.order("/v1/mode", &order)? {
            Ok(done) => done,
            Err(refused) => return tell(out, self.output.output, &refused),
        };
        match self.output.output {
            Format::Table => print(out, &done)?,
            Format::Json => write_json(out, &done)?,
        }
        Ok(ExitCode::Success)
    }
}

/// A selector in its canonical words.
pub(super) fn selector(text: &str) -> Result<String, String> {
    let select = Select::parse(text);
    select.map(|select| select.to_string()).map_err(|problems| {
        problems
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    })
}

fn mode(word: &str) -> Result<Mode, String> {
    word.parse().map_err(|hint| format!("{hint}"))
}

/// At most a year: longer is for good.
fn time(text: &str) -> Result<Duration, String> {
    let lasts = duration::parse(text)?;
    if (1..=365 * 24 * 60 * 60).contains(&lasts.as_secs()) {
        Ok(lasts)
    } else {
        Err("choose a time from 1s to 365d".to_owned())
    }
}

/// An order that was refused: each mistake with its place, then why and what to do.
pub(super) fn tell(
    out: &mut impl Write,
    format: Format,
    refused: &Refused,
) -> Result<ExitCode, Error> {
    match format {
        Format::Table => print_findings(out, &refused.findings)?,
        Format::Json => write_json(out, refused)?,
    }
    let code = if refused.is_config {
        ExitCode::Config
    } else {
        ExitCode::Failure
    };
    out.flush()?;
    Err(Failure::new(code, refused.message.as_str(), refused.hint.as_str()).into())
}

/// What an order came to.
pub(super) fn print(out: &mut impl Write, done: &Done) -> io::Result<()> {
    write!(out, "{}", text::escape(&done.message))?;
    if done.containers.is_empty() {
        writeln!(out)?;
    } else {
        let names = done.containers.join(", ");
        let containers = count(done.containers.len(), "container");
        writeln!(out, ": {containers}, {}", text::escape(&names))?;
    }
    print_findings(out, &done.findings)
}

fn print_findings(out: &mut impl Write, list: &[crate::model::Finding]) -> io::Result<()> {
    list.iter().try_for_each(|finding| {
        findings::print(out, finding)?;
        writeln!(out)
    })
}

fn list(out: &mut impl Write, overrides: &[OverrideView], now: SystemTime) -> io::Result<()> {
    if overrides.is_empty() {
        return writeln!(out, "nothing is switched: labels and policy file hold");
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let rows = overrides.iter().map(|one| row(one, now));
    table::write(out, ["SELECTOR", "MODE", "HOLDS"], rows)
}

fn row(one: &OverrideView, now: u64) -> [Cow<'_, str>; 3] {
    let holds = match one.until {
        Some(until) => format!("for {} more", duration::shown(until.saturating_sub(now))),
        None => "until cleared, or the host starts anew".to_owned(),
    };
    [Cow::from(&one.selector), Cow::from(&one.mode), holds.into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::tests::plain;

    #[test]
    fn times() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("10m", 600),
            ("2h", 7200),
            ("365d", 31_536_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "10",
            "0s",
            "+1s",
            "-1s",
            "1.5h",
            "366d",
            "1w",
            "99999999999999999999s",
            "1 m",
            "1ß",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_switched() {
        let one = |selector: &str, until| OverrideView {
            selector: selector.to_owned(),
            mode: "audit".to_owned(),
            until,
        };
        let overrides = [
            one("service:shop/web", Some(1598)),
            one("label:x=\"\x1b[31m\"", None),
            one("any", Some(1000 + 86_400 + 61)),
            one("group:late", Some(900)),
        ];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        insta::assert_snapshot!(plain(|out| list(out, &overrides, now)), @r#"
        SELECTOR              MODE   HOLDS
        service:shop/web      audit  for 9m 58s more
        label:x="\u{1b}[31m"  audit  until cleared, or the host starts anew
        any                   audit  for 1d 1m more
        group:late            audit  for 0s more
        "#);
        insta::assert_snapshot!(plain(|out| list(out, &[], now)), @"nothing is switched: labels and policy file hold");
    }
}
