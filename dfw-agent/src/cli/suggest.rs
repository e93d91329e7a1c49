//! `dfw suggest`.

mod date;
mod print;
mod text;

use std::{
    io::{self, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::ValueEnum;

use self::print::Sheet;
use super::{AgentArgs, Error, Format, OutputArgs, count, duration, mode, write_json};
use crate::{
    exit::{ExitCode, Failure},
    model::ForgetOrder,
    policy::{Form, Suggestions, Wish},
    telemetry::text::one_line,
};

/// Suggest labels from what was seen in audit
///
/// Prints the smallest set of rules that allows what was seen of whom the selector selects, without one of all that are in
/// audit, with how often and when. Labels with the same keys are replaced; what labels with other names and the policy file
/// allow stays and is not said again. Nothing is opened that was not seen, but for addresses of the world: more than
/// --world-after different ones on one port become `world`.
///
/// The rules are enforced as soon as they are applied, unless --mode audit is given: then `dfw suggest --diff` tells
/// whether anything is missing. It ends with 3 when something is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw suggest project:shop > dfw.override.yaml     then: docker compose -f compose.yaml -f dfw.override.yaml up -d
  dfw suggest project:shop --mode audit            the same, and go on looking
  dfw suggest container:cache --format labels      for docker run
  dfw suggest --format policy                      for the policy file: nothing is recreated
  dfw suggest --diff                               what in force is missing, or too much
  dfw suggest service:shop/web --forget            look anew, after a change")]
pub(super) struct Args {
    /// Which containers: service:PROJECT/N, project:N, group:N, container:N, net:N, label:K=V or any; all of several with
    /// blanks between
    #[arg(value_parser = mode::selector)]
    selector: Option<String>,

    /// What to write: an override file of one compose project, options of docker run, or entries of a policy file
    #[arg(long, value_name = "FORM", default_value = "compose")]
    format: Shape,

    /// Say the mode too; without it, rules are enforced unless a label or the policy file says otherwise
    #[arg(long, value_name = "MODE")]
    mode: Option<Judged>,

    /// How many addresses of the world on one port are named before they become `world`
    #[arg(long, value_name = "N", default_value_t = 8)]
    world_after: usize,

    /// Show only what differs from what is in force
    #[arg(long)]
    diff: bool,

    /// Forget what was seen of them and begin anew
    #[arg(long, conflicts_with_all = ["format", "mode", "world_after", "diff"])]
    forget: bool,

    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Form of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// A compose file over another
    Compose,
    /// Options of docker run
    Labels,
    /// Entries of the node's policy file
    Policy,
}

/// A mode in which there is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Judged {
    /// Count what would be denied
    Audit,
    /// Drop it
    Enforce,
}

/// What was looked at for a shorter time than this lacks what happens once a day.
const SHORT: Duration = Duration::from_secs(24 * 60 * 60);

impl Args {
    pub(super) fn perform(self, out: &mut impl io::Write) -> Result<ExitCode, Error> {
        let (client, _) = self.agent.load()?;
        if self.forget {
            let order = ForgetOrder {
                selector: self.selector,
            };
            return match client.order("/v1/forget", &order)? {
                Ok(done) => match self.output.output {
                    Format::Table => Ok(mode::print(out, &done).map(|()| ExitCode::Success)?),
                    Format::Json => Ok(write_json(out, &done).map(|()| ExitCode::Success)?),
                },
                Err(refused) => mode::tell(out, self.output.output, &refused),
            };
        }
        let wish = Wish {
            selector: self.selector,
            form: match self.format {
                Shape::Compose | Shape::Labels => Form::Labels,
                Shape::Policy => Form::Policy,
            },
            world_after: self.world_after,
        };
        let answer = client.suggest(&wish)?;
        if self.output.output == Format::Table {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let warnings = warnings(&answer, now);
            let sheet = Sheet {
                warnings: &warnings,
                mode: self.mode,
                now: now.as_secs(),
            };
            let printed = if self.diff {
                print::diff(out, &answer)?;
                Vec::new()
            } else {
                match self.format {
                    Shape::Compose => {
                        let (project, left_out) = one_project(&answer)?;
                        sheet.compose(out, project, &answer)?;
                        left_out
                    }
                    Shape::Labels => sheet.labels(out, &answer)?,
                    Shape::Policy => sheet.policy(out, &answer)?,
                }
            };
            out.flush()?;
            for warning in warnings.iter().chain(&printed) {
                // Where stderr is closed they are in the output all the same.
                let _ = writeln!(anstream::stderr(), "dfw: warning: {}", one_line(warning));
            }
        } else {
            write_json(out, &answer)?;
        }
        let lines = answer.suggestions.iter().flat_map(|one| &one.lines);
        Ok(
            if self.diff && lines.into_iter().any(|line| !line.is_same) {
                ExitCode::Findings
            } else {
                ExitCode::Success
            },
        )
    }
}

/// Why less was seen than there is.
fn warnings(answer: &Suggestions, now: Duration) -> Vec<String> {
    let mut warnings = answer.notes.clone();
    let incomplete = |missing: u64, whose: &str| {
        let flows = count(usize::try_from(missing).unwrap_or(usize::MAX), "flow");
        format!("INCOMPLETE: {flows} of {whose} had no room or no name, and may be denied")
    };
    if answer.missing > 0 {
        warnings.push(incomplete(
            answer.missing,
            "containers that nobody knows any more",
        ));
    }
    for one in answer.suggestions.iter().filter(|one| one.missing > 0) {
        warnings.push(incomplete(one.missing, &text::name(&one.subject)));
    }
    let since = answer.suggestions.iter().map(|one| one.since).max();
    let looked = now.as_secs().saturating_sub(since.unwrap_or_default());
    if looked < SHORT.as_secs() {
        let looked = duration::shown(looked);
        warnings.push(format!("looked at for {looked} only: what happens more seldom is not in it, and would be denied"));
    }
    for one in &answer.suggestions {
        let name = text::name(&one.subject);
        warnings.extend(one.notes.iter().map(|note| format!("{name}: {note}")));
    }
    warnings
}

/// The project that an override file is for, and what is to be said of everybody else.
fn one_project(answer: &Suggestions) -> Result<(&str, Vec<String>), Failure> {
    let (inside, outside): (Vec<_>, Vec<_>) =
        answer.suggestions.iter().partition(|one| one.is_compose);
    let mut projects: Vec<&str> = inside
        .iter()
        .filter_map(|one| text::project(&one.subject))
        .collect();
    projects.dedup();
    let names: Vec<String> = outside.iter().map(|one| text::name(&one.subject)).collect();
    match projects[..] {
        [project] if outside.is_empty() => Ok((project, Vec::new())),
        [project] => Ok((
            project,
            vec![format!(
                "no compose file has {}, so they are left out: --format labels or policy has them",
                names.join(", ")
            )],
        )),
        [] => Err(Failure::new(
            ExitCode::Usage,
            format!("{} is of no compose project", names.join(", ")),
            "ask for --format labels, or for --format policy",
        )),
        [first, ..] => Err(Failure::new(
            ExitCode::Usage,
            format!(
                "{} are several projects, and a compose file is of one",
                projects.join(", ")
            ),
            format!("select one, as in `dfw suggest project:{first}`, or ask for --format policy"),
        )),
    }
}

#[cfg(test)]
mod tests;
