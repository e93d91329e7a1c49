//! `dfw check`.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{Error, Format, OutputArgs, count, findings, offline, write_json};
use crate::{
    config,
    exit::ExitCode,
    model::{Container, Finding},
    policy::{self, NodePolicy, Options},
    source::deny,
};

/// Check labels or a policy file before they are deployed, without an agent
///
/// Reads a policy file (FILE.toml), compose files (by `docker compose`, which has to be installed), what
/// `docker compose config --format json` or `docker inspect` prints, or lines of KEY=VALUE or KEY: VALUE. Of a compose project
/// it also tells which ends do not let each other. Ends with 3 when there is something to say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw check compose.yaml
  dfw check -f compose.yaml -f compose.prod.yaml
  dfw check /etc/dfw/policy.toml
  docker compose config --format json | dfw check -
  docker inspect $(docker ps -q) | dfw check -
  echo 'dfw.ingress: tcp/5432 from service:api' | dfw check --project shop -")]
pub(super) struct Args {
    /// What to check; `-` reads standard input, several compose files are one project
    #[arg(value_name = "FILE", required_unless_present = "file")]
    files: Vec<String>,

    /// The same, as `docker compose` takes it
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,

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
        let files = [self.file, self.files].concat();
        if let [file] = &files[..]
            && file.ends_with(".toml")
        {
            return check_policy(out, self.output.output, &offline::Input::read(file)?);
        }
        let mut offline = offline::read(&files)?;
        if let Some(project) = self.project {
            offline.put_into(&project);
        }
        let findings = if offline.is_whole {
            let options = Options {
                prefix: prefix.clone(),
                ..Options::default()
            };
            policy::check_project(offline::inventory(&offline), options)
        } else {
            let alone = |container| policy::check_container(container, &prefix);
            offline.containers.iter().flat_map(alone).collect()
        };
        let containers = &offline.containers;
        match self.output.output {
            Format::Table => print(out, containers, &findings, &prefix)?,
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
fn check_policy(
    out: &mut impl Write,
    format: Format,
    input: &offline::Input,
) -> Result<ExitCode, Error> {
    let read = NodePolicy::parse(&input.name, &input.text).and_then(|node| {
        let denied = deny::read(&node, Path::new(&input.name))?;
        Ok((node, denied.prefixes()))
    });
    let findings = read.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    match (format, &read) {
        (Format::Json, _) => write_json(out, &findings)?,
        (Format::Table, Ok((node, denied))) => {
            let denied = match denied {
                0 => String::new(),
                1 => ", 1 prefix denied".to_owned(),
                more => format!(", {more} prefixes denied"),
            };
            writeln!(
                out,
                "ok: {} for the node{denied}",
                count(node.len(), "rule")
            )?
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
