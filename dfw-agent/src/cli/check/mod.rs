//! `dfw check`.

mod compose;
mod input;
mod inspect;
mod lines;
mod ports;

use std::io::{self, Write};

use self::input::Input;
use super::{Error, Format, OutputArgs, count, findings, write_json};
use crate::{
    config,
    exit::ExitCode,
    model::{Container, Finding, LABEL_PROJECT},
    policy::{self, NodePolicy},
};

/// Check labels or a policy file before they are deployed, without an agent
///
/// Reads a policy file (FILE.toml), a compose file (by `docker compose`, which has to be installed), what `docker compose config --format json` or
/// `docker inspect` prints, or lines of KEY=VALUE or KEY: VALUE. Ends with 3 when there is something to say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw check compose.yaml
  dfw check /etc/dfw/policy.toml
  docker compose config --format json | dfw check -
  docker inspect $(docker ps -q) | dfw check -
  echo 'dfw.ingress: tcp/5432 from service:api' | dfw check --project shop -")]
pub(super) struct Args {
    /// What to check; `-` reads standard input
    file: String,

    /// Compose project of labels that do not name theirs
    #[arg(long, value_name = "NAME")]
    project: Option<String>,

    /// Prefix of the labels that are rules [default: dfw.]
    #[arg(
        long,
        env = "DFW_LABEL_PREFIX",
        hide_env_values = true,
        value_name = "PREFIX"
    )]
    label_prefix: Option<String>,

    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let prefix = config::label_prefix(self.label_prefix)?;
        let input = Input::read(&self.file)?;
        if self.file.ends_with(".toml") {
            return check_policy(out, self.output.output, &input);
        }
        let mut containers = input.containers()?;
        if let Some(project) = self.project {
            for container in containers
                .iter_mut()
                .filter(|container| container.project().is_none())
            {
                container
                    .labels
                    .insert(LABEL_PROJECT.to_owned(), project.clone());
            }
        }
        let findings: Vec<Finding> = containers
            .iter()
            .flat_map(|container| policy::check_container(container, &prefix))
            .collect();
        match self.output.output {
            Format::Table => print(out, &containers, &findings, &prefix)?,
            Format::Json => write_json(out, &findings)?,
        }
        Ok(if findings.is_empty() {
            ExitCode::Success
        } else {
            ExitCode::Findings
        })
    }
}

/// A policy file is right or wrong as a whole, whoever is there.
fn check_policy(out: &mut impl Write, format: Format, input: &Input) -> Result<ExitCode, Error> {
    let read = NodePolicy::parse(&input.name, &input.text);
    let findings = read.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    match (format, &read) {
        (Format::Json, _) => write_json(out, &findings)?,
        (Format::Table, Ok(node)) => {
            writeln!(out, "ok: {} for the node", count(node.len(), "rule"))?
        }
        (Format::Table, Err(mistakes)) => {
            for mistake in mistakes {
                findings::print(out, mistake)?;
                writeln!(out)?;
            }
            writeln!(
                out,
                "{}: the file would change nothing",
                findings::summary(mistakes)
            )?;
        }
    }
    Ok(if findings.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Findings
    })
}

/// Whether the container may change addresses and routes in its namespace.
fn is_net_admin(capabilities: &[String]) -> bool {
    let names = ["NET_ADMIN", "CAP_NET_ADMIN", "ALL"];
    capabilities
        .iter()
        .any(|given| names.iter().any(|name| given.eq_ignore_ascii_case(name)))
}

fn print(
    out: &mut impl Write,
    containers: &[Container],
    findings: &[Finding],
    prefix: &str,
) -> io::Result<()> {
    for finding in findings {
        findings::print(out, finding)?;
        writeln!(out)?;
    }
    let of = count(containers.len(), "container");
    let has_rules =
        |container: &&Container| container.labels.keys().any(|key| key.starts_with(prefix));
    let with_rules = containers.iter().filter(has_rules).count();
    let summary = if findings.is_empty() {
        "ok".to_owned()
    } else {
        findings::summary(findings)
    };
    writeln!(out, "{summary}: {of}, {with_rules} with {prefix} labels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::tests::{finding, plain};

    #[test]
    fn what_it_says() {
        let mut with = Container::default();
        with.labels
            .insert("dfw.ingress".to_owned(), "tcp/0 from any".to_owned());
        let containers = [with, Container::default()];
        insta::assert_snapshot!(plain(|out| print(out, &containers, &[finding()], "dfw.")), @r"
        error[bad-rule]: a port is 1 to 65535
          --> shop/db  dfw.ingress
           |
           | tcp/0 from any
           |     ^

        1 error: 2 containers, 1 with dfw. labels
        ");
        insta::assert_snapshot!(plain(|out| print(out, &containers[1..], &[], "dfw.")), @"ok: 1 container, 0 with dfw. labels");
    }
}
