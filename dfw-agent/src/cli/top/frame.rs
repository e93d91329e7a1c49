//! One picture of the node, from two looks at it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use dfw_common::reason::{Reason, Verdict};
use serde::Serialize;

use super::figures::Figures;
use crate::{
    cli::{count, table},
    model::View,
    telemetry::{events::FlowEvent, ledger::Owner, text},
};

/// What happened in an interval.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    version: String,
    /// Why the agent is not ready.
    not_ready: Option<&'static str>,
    /// Length of the interval.
    seconds: f64,
    per_second: Rates,
    reasons: Vec<ReasonRow>,
    flows: u64,
    flows_capacity: u64,
    events_per_second: f64,
    /// In the interval, and since the programs were loaded.
    events_lost: u64,
    events_lost_total: u64,
    services: Vec<ServiceRow>,
    denials: Vec<FlowEvent>,
}

/// Packets a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Rates {
    allow: f64,
    deny: f64,
    audit: f64,
}

#[derive(Debug, Serialize)]
struct ReasonRow {
    verdict: &'static str,
    reason: &'static str,
    per_second: f64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct ServiceRow {
    project: String,
    service: String,
    /// Its ports at present; none of a service that is gone.
    endpoints: usize,
    /// Their modes.
    modes: Vec<String>,
    per_second: Rates,
    ingress_per_second: f64,
    egress_per_second: f64,
    denied_total: u64,
    audited_total: u64,
}

const PACKETS: &str = "dfw_packets_total";
const OF_SERVICE: &str = "dfw_endpoint_packets_total";

/// Figures of an interval.
struct Interval<'a> {
    looks: [&'a Figures; 2],
    seconds: f64,
}

impl Interval<'_> {
    /// How much a counter gained; nothing when it began anew.
    fn gain(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let [before, after] = self.looks.map(|figures| figures.sum(name, labels));
        (after - before).max(0.0)
    }

    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.gain(name, labels) / self.seconds
    }

    fn total(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.looks[1].sum(name, labels) as u64
    }

    fn rates(&self, name: &str, labels: &[(&str, &str)]) -> Rates {
        let rate = |verdict: Verdict| {
            let labels = [labels, &[("verdict", verdict.name())]].concat();
            self.rate(name, &labels)
        };
        Rates {
            allow: rate(Verdict::Allow),
            deny: rate(Verdict::Deny),
            audit: rate(Verdict::Audit),
        }
    }

    fn service(&self, (project, service): (&str, &str), modes: &[&str]) -> ServiceRow {
        let own = [("project", project), ("service", service)];
        let with = |more: (&'static str, &'static str)| [&own[..], &[more]].concat();
        ServiceRow {
            project: project.to_owned(),
            service: service.to_owned(),
            endpoints: modes.len(),
            modes: BTreeSet::from_iter(modes)
                .into_iter()
                .map(|mode| (*mode).to_owned())
                .collect(),
            per_second: self.rates(OF_SERVICE, &own),
            ingress_per_second: self.rate(OF_SERVICE, &with(("direction", "ingress"))),
            egress_per_second: self.rate(OF_SERVICE, &with(("direction", "egress"))),
            denied_total: self.total(OF_SERVICE, &with(("verdict", "deny"))),
            audited_total: self.total(OF_SERVICE, &with(("verdict", "audit"))),
        }
    }

    fn reasons(&self) -> Vec<ReasonRow> {
        let verdicts = [Verdict::Deny, Verdict::Audit];
        let pairs = verdicts
            .into_iter()
            .flat_map(|verdict| Reason::ALL.iter().map(move |reason| (verdict, reason)));
        let mut rows: Vec<ReasonRow> = pairs
            .map(|(verdict, reason)| {
                let labels = [("verdict", verdict.name()), ("reason", reason.name())];
                ReasonRow {
                    verdict: verdict.name(),
                    reason: reason.name(),
                    per_second: self.rate(PACKETS, &labels),
                    total: self.total(PACKETS, &labels),
                }
            })
            .filter(|row| row.total > 0)
            .collect();
        rows.sort_by(|a, b| {
            let rates = b.per_second.total_cmp(&a.per_second);
            rates.then_with(|| b.total.cmp(&a.total))
        });
        rows
    }
}

impl Frame {
    pub(super) fn new(
        view: &View,
        looks: [&Figures; 2],
        time: Duration,
        denials: &[FlowEvent],
    ) -> Self {
        let seconds = time.as_secs_f64().max(0.001);
        let interval = Interval { looks, seconds };
        let mut modes: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
        for endpoint in &view.endpoints {
            // As the metrics name it.
            let owner = Owner::new(&endpoint.project, &endpoint.service);
            let owner = (owner.project().to_owned(), owner.service().to_owned());
            modes.entry(owner).or_default().push(&endpoint.mode);
        }
        for sample in looks[1].of(OF_SERVICE) {
            let owner = (
                sample.label("project").to_owned(),
                sample.label("service").to_owned(),
            );
            modes.entry(owner).or_default();
        }
        let mut services: Vec<ServiceRow> = modes
            .iter()
            .map(|((project, service), modes)| interval.service((project, service), modes))
            .collect();
        services.sort_by(|a, b| {
            let (a, b) = (&a.per_second, &b.per_second);
            let denied = b.deny.total_cmp(&a.deny);
            let denied = denied.then_with(|| b.audit.total_cmp(&a.audit));
            denied.then_with(|| b.allow.total_cmp(&a.allow))
        });
        Self {
            version: view.version.clone(),
            not_ready: view.not_ready(),
            seconds,
            per_second: interval.rates(PACKETS, &[]),
            reasons: interval.reasons(),
            flows: interval.total("dfw_flows", &[]),
            flows_capacity: interval.total("dfw_map_capacity", &[("map", "FLOWS")]),
            events_per_second: interval.rate("dfw_events_total", &[]),
            events_lost: interval.gain("dfw_events_lost_total", &[]) as u64,
            events_lost_total: interval.total("dfw_events_lost_total", &[]),
            services,
            denials: denials.to_vec(),
        }
    }

    /// All of it.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let state = self
            .not_ready
            .map_or("ready".to_owned(), |why| format!("not ready: {why}"));
        let endpoints: usize = self.services.iter().map(|row| row.endpoints).sum();
        writeln!(
            out,
            "dfw {}, {state}, {}, over {:.0} s",
            text::escape(&self.version),
            count(endpoints, "endpoint"),
            self.seconds
        )?;
        let Rates { allow, deny, audit } = self.per_second;
        write!(out, "packets/s  {} allowed, ", number(allow))?;
        strong(
            out,
            deny > 0.0,
            AnsiColor::Red,
            &format!("{} denied", number(deny)),
        )?;
        write!(out, ", ")?;
        strong(
            out,
            audit > 0.0,
            AnsiColor::Yellow,
            &format!("{} would be denied", number(audit)),
        )?;
        writeln!(out)?;
        let Self {
            flows,
            flows_capacity,
            ..
        } = self;
        let full = flows * 100 / (*flows_capacity).max(1);
        writeln!(out, "flows      {flows} of {flows_capacity}, {full} %")?;
        write!(out, "events/s   {}, ", number(self.events_per_second))?;
        let lost = format!(
            "{} lost, {} so far",
            self.events_lost, self.events_lost_total
        );
        strong(out, self.events_lost > 0, AnsiColor::Red, &lost)?;
        writeln!(out)?;
        let reasons = self.reasons.iter().take(4).map(|row| {
            format!(
                "{} {} {}/s ({})",
                row.verdict,
                row.reason,
                number(row.per_second),
                row.total
            )
        });
        let reasons: Vec<String> = reasons.collect();
        let none = || "nothing was denied".to_owned();
        let reasons = Some(reasons.join(", ")).filter(|text| !text.is_empty());
        writeln!(out, "reasons    {}", reasons.unwrap_or_else(none))?;
        if !self.denials.is_empty() {
            writeln!(out, "\nLast denials:")?;
        }
        for event in &self.denials {
            writeln!(out, "{event}")?;
        }
        writeln!(out)?;
        let header = [
            "SERVICE",
            "ENDPOINTS",
            "MODE",
            "IN/S",
            "OUT/S",
            "DENIED/S",
            "AUDIT/S",
            "DENIED",
            "AUDIT",
        ];
        table::write(out, header, self.services.iter().map(ServiceRow::cells))
    }
}

impl ServiceRow {
    fn cells(&self) -> [Cow<'_, str>; 9] {
        let name = if self.project.is_empty() {
            Cow::from(&self.service)
        } else {
            format!("{}/{}", self.project, self.service).into()
        };
        let mode = if self.endpoints == 0 {
            "gone".to_owned()
        } else {
            self.modes.join(" ")
        };
        [
            name,
            self.endpoints.to_string().into(),
            mode.into(),
            number(self.ingress_per_second).into(),
            number(self.egress_per_second).into(),
            number(self.per_second.deny).into(),
            number(self.per_second.audit).into(),
            self.denied_total.to_string().into(),
            self.audited_total.to_string().into(),
        ]
    }
}

/// A rate in few characters: what is less than ten with its tenths.
fn number(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

fn strong(out: &mut impl Write, is_strong: bool, color: AnsiColor, text: &str) -> io::Result<()> {
    let style = if is_strong {
        color.on_default().bold()
    } else {
        Style::new()
    };
    write!(out, "{style}{text}{style:#}")
}

#[cfg(test)]
mod tests;
