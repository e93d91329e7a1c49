//! `dfw explain`.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use dfw_common::reason::Direction;

use super::{AgentArgs, Error, Format, OutputArgs, offline, write_json};
use crate::{
    config::{self, Unlabelled},
    exit::{ExitCode, Failure},
    model::Unanswerable,
    policy::{self, Explanation, InForce, Names, Options, Peer, Question, Side},
    telemetry::text,
};

/// Tell what becomes of a connection, which rule decides, and what is missing
///
/// FROM and TO are a container, PROJECT/SERVICE, a service, an address, `host` or `world`; container:NAME and service:NAME
/// tell the one from the other. Ends with 3 when it is denied.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw explain shop/web shop/db tcp/5432
  dfw explain world web tcp/80
  dfw explain 10.0.0.7 shop-web-1 icmp -o json
  dfw explain -f compose.yaml web db tcp/5432")]
pub(super) struct Args {
    /// Who opens the connection
    from: String,

    /// Whom it goes to
    to: String,

    /// Protocol and port, as in a label
    #[arg(value_name = "PROTO/PORT")]
    ports: String,

    /// Compose files to ask instead of the agent, as `dfw check` reads them
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,

    /// With --file: mode of containers without rules
    #[arg(
        long,
        env = "DFW_UNLABELLED",
        hide_env_values = true,
        value_name = "MODE",
        default_value = "audit"
    )]
    unlabelled: Unlabelled,

    /// With --file: prefix of the labels [default: dfw.]
    #[arg(
        long,
        env = "DFW_LABEL_PREFIX",
        hide_env_values = true,
        value_name = "PREFIX"
    )]
    label_prefix: Option<String>,

    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let question = Question {
            from: self.from,
            to: self.to,
            ports: self.ports,
        };
        let explanation = if self.file.is_empty() {
            let (client, _) = self.agent.load()?;
            client.explain(&question)?
        } else {
            let options = Options {
                unlabelled: self.unlabelled.into(),
                prefix: config::label_prefix(self.label_prefix)?,
                ..Options::default()
            };
            let planned = planned(&self.file, options)?;
            let explanation = policy::explain(&planned, &question).map_err(Failure::from)?;
            told_of(&planned, explanation)
        };
        match self.output.output {
            Format::Table => print(out, &explanation)?,
            Format::Json => write_json(out, &explanation)?,
        }
        Ok(if explanation.passes {
            ExitCode::Success
        } else {
            ExitCode::Findings
        })
    }
}

/// What would be in force if the project ran here.
fn planned(files: &[String], options: Options) -> Result<InForce, Failure> {
    let offline = offline::read(files)?;
    if !offline.is_whole {
        return Err(Failure::new(
            ExitCode::Config,
            format!(
                "{} is no compose project, which says who is on which network",
                files.join(" and ")
            ),
            "name compose files, or what `docker compose config --format json` prints",
        ));
    }
    Ok(InForce::planned(offline::inventory(&offline), options))
}

/// With a word about what nobody can know beforehand.
fn told_of(planned: &InForce, mut explanation: Explanation) -> Explanation {
    let InForce {
        inventory, options, ..
    } = planned;
    let labels = inventory.containers.iter().flat_map(|one| &one.labels);
    let mut peers = labels.flat_map(|(key, value)| {
        let key = key
            .strip_prefix(options.prefix.as_str())
            .unwrap_or_default();
        let side = Direction::ALL
            .into_iter()
            .find(|side| key.starts_with(side.name()));
        let rules = side.and_then(|side| policy::parse_rules(side, value).ok());
        rules.into_iter().flatten().flat_map(|rule| rule.peers)
    });
    if peers.any(|peer| matches!(peer, Peer::Cidr(_))) {
        let note = "addresses are invented, so rules by address may say otherwise once it runs";
        explanation.notes.push(note.to_owned());
    }
    explanation
}

impl From<Unanswerable> for Failure {
    fn from(refusal: Unanswerable) -> Self {
        Self::new(ExitCode::Usage, refusal.message, refusal.hint)
    }
}

/// Pairs that one line names.
const PAIRS: usize = 3;

fn print(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    let Explanation { paths, notes, .. } = explanation;
    let sides = || paths.iter().flat_map(|path| &path.sides);
    let width = sides().map(|side| text::escape(&side.endpoint).chars().count());
    let width = width.max().unwrap_or_default();
    for (number, path) in paths.iter().enumerate() {
        if paths.len() > 1 {
            if number > 0 {
                writeln!(out)?;
            }
            writeln!(out, "{}", heading(&path.pairs))?;
        }
        for side in &path.sides {
            print_side(out, side, width)?;
        }
        print_hints(out, &path.sides)?;
    }
    for note in notes {
        writeln!(out, "note: {}", text::one_line(note))?;
    }
    Ok(())
}

fn print_side(out: &mut impl Write, side: &Side, width: usize) -> io::Result<()> {
    let colour = match side.verdict.as_str() {
        "allow" => AnsiColor::Green.on_default(),
        "deny" => AnsiColor::Red.on_default(),
        "audit" => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    };
    let name = text::escape(&side.endpoint);
    let why = text::one_line(&side.why);
    let verdict = text::escape(&side.verdict);
    writeln!(
        out,
        "{:<8} {name:<width$}   {colour}{verdict:<5}{colour:#}   {why}",
        text::escape(&side.direction)
    )
}

fn print_hints(out: &mut impl Write, sides: &[Side]) -> io::Result<()> {
    for hint in sides.iter().filter_map(|side| side.hint.as_ref()) {
        let on = text::escape(&hint.on);
        writeln!(out, "hint: on {on}   {}", text::one_line(&hint.text))?;
    }
    Ok(())
}

/// Which pairs the lines below are about.
fn heading(pairs: &[Names]) -> String {
    let line = |names: &Names| {
        let Names { from, to, family } = names;
        format!(
            "{} -> {} ({})",
            text::escape(from),
            text::escape(to),
            text::escape(family)
        )
    };
    let shown: Vec<String> = pairs.iter().take(PAIRS).map(line).collect();
    match pairs.len().saturating_sub(PAIRS) {
        0 => format!("{}:", shown.join(", ")),
        more => format!("{} and {more} more:", shown.join(", ")),
    }
}
