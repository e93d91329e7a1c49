//! `dfw doctor`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::{
    AgentArgs, BpffsArgs, Error, Format, OutputArgs,
    client::{Client, ClientError},
    count, findings, status, write_json,
};
use crate::{
    datapath::load,
    exit::{ExitCode, Failure},
    model::{Detour, Level, View},
    telemetry::text,
};

/// Check kernel, agent and engine, and list what is not protected
///
/// Works with and without an agent, changes nothing, and names the remedy for what is wrong. Exits with 3 when something
/// is broken; what is only worth knowing does not count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw doctor
  dfw doctor -o json | jq '.[] | select(.state != \"ok\")'")]
pub(super) struct Args {
    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    bpffs: BpffsArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was seen, one sentence.
    seen: String,
    /// The particulars, one a line.
    details: Vec<String>,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, file) = self.agent.load()?;
        let bpffs = self.bpffs.over(file);
        let checks = examine(&client, &bpffs);
        match self.output.output {
            Format::Table => print(out, &checks)?,
            Format::Json => write_json(out, &checks)?,
        }
        let is_broken = checks.iter().any(|check| check.state == State::Broken);
        Ok(if is_broken {
            ExitCode::Findings
        } else {
            ExitCode::Success
        })
    }
}

fn examine(client: &Client, bpffs: &Path) -> Vec<Check> {
    let mut checks = vec![
        kernel(),
        result("bpffs", load::check_bpffs(bpffs), || {
            format!("{} is on a BPF file system", bpffs.display())
        }),
    ];
    match client.view() {
        Ok(view) => {
            checks.push(agent(&view));
            checks.extend(node(&view));
        }
        Err(error) => {
            // Without an agent the next question is whether one could be started from here.
            let is_absent = matches!(error, ClientError::Absent(_));
            let failure = Failure::from(error);
            checks.push(Check {
                details: vec![failure.hint],
                ..Check::new("agent", State::Broken, failure.message)
            });
            if is_absent {
                checks.push(result("capabilities", load::check_capabilities(), || {
                    "enough to start an agent".to_owned()
                }));
            }
        }
    }
    checks
}

impl Check {
    fn new(name: &'static str, state: State, seen: impl Into<String>) -> Self {
        Self {
            name,
            state,
            seen: seen.into(),
            details: Vec::new(),
        }
    }

    /// Something that is fine while there is none of it.
    fn of(name: &'static str, worst: State, what: &str, details: Vec<String>) -> Self {
        let state = if details.is_empty() { State::Ok } else { worst };
        Self {
            details,
            ..Self::new(name, state, what)
        }
    }
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    result("kernel", load::check_kernel(release), || {
        format!("Linux {release} has TCX")
    })
}

fn result<E: std::error::Error>(
    name: &'static str,
    result: Result<(), E>,
    good: impl FnOnce() -> String,
) -> Check {
    match result {
        Ok(()) => Check::new(name, State::Ok, good()),
        Err(error) => Check::new(name, State::Broken, text::chain(&error)),
    }
}

fn agent(view: &View) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    match (view.not_ready(), &view.error) {
        (Some(why), _) => Check::new("agent", State::Broken, format!("not ready: {why}")),
        (None, Some(error)) => Check::new(
            "agent",
            State::Broken,
            format!("the last good policy is in force: {error}"),
        ),
        (None, None) if view.version != own => Check::new(
            "agent",
            State::Warning,
            format!("{} runs, this command is {own}", view.version),
        ),
        (None, None) => Check::new("agent", State::Ok, format!("{own} runs and is ready")),
    }
}

/// What the agent knows of its node.
fn node(view: &View) -> Vec<Check> {
    let source = match (view.connected, view.source.as_str()) {
        (true, name) => Check::new("source", State::Ok, format!("{name} answers")),
        (false, name) => Check::new(
            "source",
            State::Broken,
            format!("{name} does not answer; the last good policy is in force"),
        ),
    };
    let unprotected: Vec<String> = view
        .unprotected
        .iter()
        .map(|container| format!("{}: {}", container.container, container.why.name()))
        .collect();
    let coverage = count(unprotected.len(), "container");
    let foreign: Vec<String> = view
        .networks
        .iter()
        .filter(|network| !network.foreign_ports.is_empty())
        .map(|network| format!("{}: {}", network.name, network.foreign_ports.join(", ")))
        .collect();
    let ports = count(foreign.len(), "network");
    let kept: Vec<String> = view
        .endpoints
        .iter()
        .filter_map(|one| Some((one, one.detour.filter(|detour| *detour != Detour::Mode)?)))
        .map(|(one, detour)| {
            let (name, describe) = (one.display_name(), detour.describe());
            format!("{name} on {}: {describe}", one.network)
        })
        .collect();
    let fast_path = Check {
        // One word says it when it is off for all.
        details: if view.fast_path.is_none() {
            kept
        } else {
            Vec::new()
        },
        ..Check::new(
            "fast path",
            match view.fast_path {
                Some(Detour::Kernel) => State::Warning,
                _ => State::Ok,
            },
            status::fast_path(view),
        )
    };
    let of_level = |level| -> Vec<String> {
        let of_level = view
            .findings
            .iter()
            .filter(|finding| finding.level == level);
        of_level.map(findings::line).collect()
    };
    let (errors, warnings) = (of_level(Level::Error), of_level(Level::Warning));
    let (wrong, doubtful) = (
        count(errors.len(), "error"),
        count(warnings.len(), "warning"),
    );
    vec![
        source,
        Check::of(
            "coverage",
            State::Warning,
            &format!("{coverage} not, or less, protected"),
            unprotected,
        ),
        Check::of(
            "ports",
            State::Warning,
            &format!("{ports} with ports that are no containers"),
            foreign,
        ),
        fast_path,
        Check::of("errors", State::Broken, &wrong, errors),
        Check::of("warnings", State::Warning, &doubtful, warnings),
    ]
}

fn print(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    for check in checks {
        let (word, colour) = match check.state {
            State::Ok => ("ok", AnsiColor::Green),
            State::Warning => ("warning", AnsiColor::Yellow),
            State::Broken => ("broken", AnsiColor::Red),
        };
        let style: Style = colour.on_default().bold();
        writeln!(
            out,
            "{style}{word:<8}{style:#}{:<13}{}",
            check.name,
            text::escape(&check.seen)
        )?;
        for detail in &check.details {
            writeln!(out, "{:21}{}", "", text::escape(detail))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{findings::tests::plain, ls::tests::view};

    fn shown(view: &View) -> String {
        let checks: Vec<Check> = std::iter::once(agent(view)).chain(node(view)).collect();
        plain(|out| print(out, &checks))
    }

    #[test]
    fn a_node() {
        insta::assert_snapshot!(shown(&view()), @r"
        warning agent        1.2.3 runs, this command is 0.1.0
        ok      source       docker answers
        warning coverage     1 container not, or less, protected
                             node-exporter\r: host-network
        ok      ports        0 networks with ports that are no containers
        ok      fast path    on for 1 of 2 endpoints; 1 in audit or off
        broken  errors       1 error
                             [bad-rule] shop/db dfw.ingress: a port is 1 to 65535
        ok      warnings     0 warnings
        ");
    }

    #[test]
    fn a_node_that_is_not_well() {
        let view = View {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source: "docker".to_owned(),
            synced: true,
            attached: true,
            error: Some("map POLICY is full".to_owned()),
            ..View::default()
        };
        insta::assert_snapshot!(shown(&view), @r"
        broken  agent        the last good policy is in force: map POLICY is full
        broken  source       docker does not answer; the last good policy is in force
        ok      coverage     0 containers not, or less, protected
        ok      ports        0 networks with ports that are no containers
        ok      fast path    on
        ok      errors       0 errors
        ok      warnings     0 warnings
        ");
    }
}
