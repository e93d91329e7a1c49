//! `dfw status`.

use std::io::{self, Write};

use super::{AgentArgs, Error, Format, OutputArgs, count, findings, write_json};
use crate::{
    exit::ExitCode,
    model::{Detour, EndpointView, Unprotected, View},
    telemetry::text,
};

/// Show the node at a glance
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw status                    what is managed, what is not, what is wrong
  dfw status -o json | jq .findings")]
pub(super) struct Args {
    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, _) = self.agent.load()?;
        let view = client.view()?;
        match self.output.output {
            Format::Table => print(out, &view)?,
            Format::Json => write_json(out, &view)?,
        }
        Ok(ExitCode::Success)
    }
}

fn print(out: &mut impl Write, view: &View) -> io::Result<()> {
    let mut line = |key: &str, value: &str| writeln!(out, "{key:<13}{}", text::escape(value));
    let readiness = view
        .not_ready()
        .map_or("ready".to_owned(), |why| format!("not ready: {why}"));
    line("agent", &format!("{}, {readiness}", view.version))?;
    let connected = if view.connected {
        "connected"
    } else {
        "not connected"
    };
    let resyncs = view.resyncs as usize;
    let (listings, events) = (
        count(resyncs, "listing"),
        count(view.source_events as usize, "event"),
    );
    line(
        "source",
        &format!("{}, {connected}, {listings}, {events}", view.source),
    )?;
    line("unlabelled", &view.unlabelled)?;
    let modes = ["enforce", "audit", "off"].map(|mode| {
        (
            view.endpoints
                .iter()
                .filter(|endpoint| endpoint.mode == mode)
                .count(),
            mode,
        )
    });
    line("endpoints", &split(view.endpoints.len(), modes))?;
    line("fast path", &fast_path(view))?;
    if !view.overrides.is_empty() {
        let switched = view.endpoints.iter().filter(|one| one.overridden).count();
        let orders = count(view.overrides.len(), "order");
        line(
            "switched",
            &format!("{switched} by {orders}, see `dfw mode`"),
        )?;
    }
    if let Some(audited) = audited(&view.endpoints) {
        line("would deny", &audited)?;
    }
    line("networks", &view.networks.len().to_string())?;
    let reasons = Unprotected::ALL.map(|why| {
        (
            view.unprotected
                .iter()
                .filter(|container| container.why == why)
                .count(),
            why.name(),
        )
    });
    line("unprotected", &split(view.unprotected.len(), reasons))?;
    line("findings", &findings::summary(&view.findings))?;
    if let Some(error) = &view.error {
        line("last error", error)?;
    }
    view.findings.iter().try_for_each(|finding| {
        writeln!(out)?;
        findings::print(out, finding)
    })
}

/// For how many endpoints it is on, and what keeps the others on their bridge.
pub(super) fn fast_path(view: &View) -> String {
    if let Some(detour) = view.fast_path {
        return match detour {
            Detour::Off => "off".to_owned(),
            other => format!("off: {}", other.describe()),
        };
    }
    let of = |detour| {
        let endpoints = view.endpoints.iter();
        endpoints.filter(|one| one.detour == detour).count()
    };
    if view.endpoints.is_empty() {
        return "on".to_owned();
    }
    let all = count(view.endpoints.len(), "endpoint");
    let on = format!("on for {} of {all}", of(None));
    let kept = Detour::ALL.map(|detour| (of(Some(detour)), detour.describe()));
    parts(kept).map_or(on.clone(), |kept| format!("{on}; {kept}"))
}

/// Most endpoints that are named where there may be many.
const NAMED: usize = 5;

/// What the endpoints in audit have let through that they would deny in mode enforce; none when there is nothing.
fn audited(endpoints: &[EndpointView]) -> Option<String> {
    let in_audit = endpoints.iter().filter(|one| one.mode == "audit");
    let mut found: Vec<&EndpointView> = in_audit.filter(|one| one.audited > 0).collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.audited));
    let total: u64 = found.iter().map(|one| one.audited).sum();
    let names = found.iter().take(NAMED);
    let mut names: Vec<String> = names
        .map(|one| format!("{} {}", one.display_name(), one.audited))
        .collect();
    if found.len() > NAMED {
        names.push("…".to_owned());
    }
    (total > 0).then(|| {
        let packets = count(total as usize, "packet");
        let endpoints = count(found.len(), "endpoint");
        format!("{packets} of {endpoints} in audit: {}", names.join(", "))
    })
}

/// `4: 3 enforce, 1 audit`, without what is not there.
fn split<const N: usize>(total: usize, of: [(usize, &str); N]) -> String {
    parts(of).map_or(total.to_string(), |parts| format!("{total}: {parts}"))
}

fn parts<const N: usize>(of: [(usize, &str); N]) -> Option<String> {
    let there = of.iter().filter(|(n, _)| *n != 0);
    let parts: Vec<String> = there.map(|(n, what)| format!("{n} {what}")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{findings::tests::plain, ls::tests::view},
        model::OverrideView,
    };

    #[test]
    fn a_node() {
        insta::assert_snapshot!(plain(|out| print(out, &view())), @r"
        agent        1.2.3, ready
        source       docker, connected, 1 listing, 40 events
        unlabelled   audit
        endpoints    2: 1 enforce, 1 audit
        fast path    on for 1 of 2 endpoints; 1 in audit or off
        networks     1
        unprotected  1: 1 host-network
        findings     1 error

        error[bad-rule]: a port is 1 to 65535
          --> shop/db  dfw.ingress
           |
           | tcp/0 from any
           |     ^
        ");
    }

    #[test]
    fn what_enforce_would_deny_and_what_is_switched() {
        let one = |container: &str, mode: &str, audited| EndpointView {
            container: container.to_owned(),
            mode: mode.to_owned(),
            audited,
            overridden: audited == 7,
            ..EndpointView::default()
        };
        let all = ["a", "b\n", "c", "d", "e", "f"].map(|name| one(name, "audit", 7));
        let more = [
            one("g", "audit", 0),
            one("h", "enforce", 9),
            one("i", "audit", 70),
        ];
        assert_eq!(audited(&more[..2]), None);
        let view = View {
            endpoints: all.into_iter().chain(more).collect(),
            fast_path: Some(Detour::Off),
            overrides: vec![OverrideView {
                selector: "any".to_owned(),
                mode: "audit".to_owned(),
                until: None,
            }],
            ..View::default()
        };
        let printed = plain(|out| print(out, &view));
        let lines: Vec<&str> = printed.lines().skip(3).take(4).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        endpoints    9: 1 enforce, 8 audit
        fast path    off
        switched     6 by 1 order, see `dfw mode`
        would deny   112 packets of 7 endpoints in audit: i 70, a 7, b\n 7, c 7, d 7, …
        ");
    }

    #[test]
    fn a_node_that_is_not_well() {
        let view = View {
            version: "1.2.3".to_owned(),
            source: "docker".to_owned(),
            unlabelled: "enforce".to_owned(),
            error: Some("map POLICY is full\nforged".to_owned()),
            ..View::default()
        };
        insta::assert_snapshot!(plain(|out| print(out, &view)), @r"
        agent        1.2.3, not ready: the containers were not read in full yet
        source       docker, not connected, 0 listings, 0 events
        unlabelled   enforce
        endpoints    0
        fast path    on
        networks     0
        unprotected  0
        findings     none
        last error   map POLICY is full\nforged
        ");
    }
}
