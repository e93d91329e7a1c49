//! The metrics that are read when they are asked for: from the view, the kernel and the ledger.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use dfw_common::reason::{Direction, Reason, Verdict};
use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use tokio::sync::watch;

use super::{
    kernel::{Kernel, KernelFigures},
    ledger::{Ledger, owners},
};
use crate::model::{Level, Unprotected, View};

/// One metric: its name, help, kind and the names of its labels.
struct Family(
    &'static str,
    &'static str,
    MetricType,
    &'static [&'static str],
);

const BUILD_INFO: Family = Family(
    "dfw_build_info",
    "The running agent, always 1.",
    MetricType::GAUGE,
    &["version"],
);
const ENDPOINTS: Family = Family(
    "dfw_endpoints",
    "Container ports that dfw manages, by mode.",
    MetricType::GAUGE,
    &["mode"],
);
const UNPROTECTED: Family = Family(
    "dfw_unprotected_containers",
    "Containers that dfw does not protect, or protects less, by reason.",
    MetricType::GAUGE,
    &["why"],
);
const DOCKER_CONNECTED: Family = Family(
    "dfw_docker_connected",
    "1 while the source of containers answers, else 0.",
    MetricType::GAUGE,
    &[],
);
const DOCKER_EVENTS: Family = Family(
    "dfw_docker_events_total",
    "Events received from the source of containers.",
    MetricType::COUNTER,
    &[],
);
const DOCKER_RESYNCS: Family = Family(
    "dfw_docker_resyncs_total",
    "Full listings of the source of containers.",
    MetricType::COUNTER,
    &[],
);
const LABEL_ERRORS: Family = Family(
    "dfw_label_errors",
    "Labels that are rejected at present.",
    MetricType::GAUGE,
    &[],
);
const PACKETS: Family = Family(
    "dfw_packets_total",
    "Judged packets, each side of a packet counted once.",
    MetricType::COUNTER,
    &["direction", "verdict", "reason"],
);
const BYTES: Family = Family(
    "dfw_bytes_total",
    "Bytes of judged Ethernet frames, each side of a packet counted once.",
    MetricType::COUNTER,
    &["direction", "verdict", "reason"],
);
const ENDPOINT_PACKETS: Family = Family(
    "dfw_endpoint_packets_total",
    "Judged packets by the service whose side was judged, removed containers included.",
    MetricType::COUNTER,
    &["project", "service", "direction", "verdict"],
);
const FLOWS: Family = Family(
    "dfw_flows",
    "Entries of the flow table.",
    MetricType::GAUGE,
    &[],
);
const MAP_ENTRIES: Family = Family(
    "dfw_map_entries",
    "Entries of a map in use.",
    MetricType::GAUGE,
    &["map"],
);
const MAP_CAPACITY: Family = Family(
    "dfw_map_capacity",
    "Entries a map has room for.",
    MetricType::GAUGE,
    &["map"],
);
const EVENTS: Family = Family(
    "dfw_events_total",
    "Flow events that the kernel sent.",
    MetricType::COUNTER,
    &[],
);
const EVENTS_LOST: Family = Family(
    "dfw_events_lost_total",
    "Flow events that were not sent: over the rate, or no room in the buffer.",
    MetricType::COUNTER,
    &[],
);

const ALL: [&Family; 15] = [
    &BUILD_INFO,
    &ENDPOINTS,
    &UNPROTECTED,
    &DOCKER_CONNECTED,
    &DOCKER_EVENTS,
    &DOCKER_RESYNCS,
    &LABEL_ERRORS,
    &PACKETS,
    &BYTES,
    &ENDPOINT_PACKETS,
    &FLOWS,
    &MAP_ENTRIES,
    &MAP_CAPACITY,
    &EVENTS,
    &EVENTS_LOST,
];

/// The values of `dfw_endpoints{mode}`.
const MODES: [&str; 3] = ["enforce", "audit", "off"];

/// The collector.
pub(super) struct Figures {
    descriptions: Vec<Desc>,
    view: watch::Receiver<Arc<View>>,
    kernel: Arc<dyn Kernel>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Figures {
    pub(super) fn new(
        view: watch::Receiver<Arc<View>>,
        kernel: Arc<dyn Kernel>,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        let descriptions = ALL.iter().map(|family| family.describe()).collect();
        Self {
            descriptions,
            view,
            kernel,
            ledger,
        }
    }
}

impl Collector for Figures {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let view = Arc::clone(&self.view.borrow());
        let mut families = of_view(&view);
        // Locked before reading: an older reading after a newer one would look like a counter that was zeroed.
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match self.kernel.read() {
            Ok(figures) => {
                ledger.update(&figures.endpoints, owners(&view));
                families.extend(of_kernel(&figures));
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel's figures are missing from this scrape")
            }
        }
        families.push(of_ledger(&ledger));
        families
    }
}

fn of_view(view: &View) -> Vec<MetricFamily> {
    let count = |n: usize| n as f64;
    let in_mode = |mode| {
        view.endpoints
            .iter()
            .filter(|endpoint| endpoint.mode == mode)
            .count()
    };
    let because = |why| {
        view.unprotected
            .iter()
            .filter(|container| container.why == why)
            .count()
    };
    let label_errors = view
        .findings
        .iter()
        .filter(|finding| finding.level == Level::Error && !finding.label.is_empty())
        .count();
    vec![
        BUILD_INFO.with([([view.version.as_str()], 1.0)]),
        ENDPOINTS.with(MODES.map(|mode| ([mode], count(in_mode(mode))))),
        UNPROTECTED.with(Unprotected::ALL.map(|why| ([why.name()], count(because(why))))),
        DOCKER_CONNECTED.with([([], f64::from(view.connected))]),
        DOCKER_EVENTS.with([([], view.source_events as f64)]),
        DOCKER_RESYNCS.with([([], view.resyncs as f64)]),
        LABEL_ERRORS.with([([], count(label_errors))]),
    ]
}

fn of_kernel(figures: &KernelFigures) -> Vec<MetricFamily> {
    let mut counters: HashMap<_, _> = possible().map(|series| (series, (0, 0))).collect();
    for counter in &figures.counters {
        if counter.packets != 0 || counter.bytes != 0 {
            let series = (counter.direction, counter.verdict, counter.reason);
            counters.insert(series, (counter.packets, counter.bytes));
        }
    }
    let labels = |(direction, verdict, reason): &(Direction, Verdict, Reason)| {
        [direction.name(), verdict.name(), reason.name()]
    };
    vec![
        PACKETS.with(
            counters
                .iter()
                .map(|(series, (packets, _))| (labels(series), *packets as f64)),
        ),
        BYTES.with(
            counters
                .iter()
                .map(|(series, (_, bytes))| (labels(series), *bytes as f64)),
        ),
        FLOWS.with([([], figures.flows as f64)]),
        MAP_ENTRIES.with(
            figures
                .maps
                .iter()
                .map(|map| ([map.name], map.entries as f64)),
        ),
        MAP_CAPACITY.with(
            figures
                .maps
                .iter()
                .map(|map| ([map.name], map.capacity as f64)),
        ),
        EVENTS.with([([], figures.events as f64)]),
        EVENTS_LOST.with([([], figures.events_lost as f64)]),
    ]
}

fn of_ledger(ledger: &Ledger) -> MetricFamily {
    ENDPOINT_PACKETS.with(ledger.totals().map(|(owner, direction, verdict, packets)| {
        (
            [
                owner.project(),
                owner.service(),
                direction.name(),
                verdict.name(),
            ],
            packets as f64,
        )
    }))
}

/// The series that are there from the start at zero, so that the first packet shows in a rate.
fn possible() -> impl Iterator<Item = (Direction, Verdict, Reason)> {
    Direction::ALL.into_iter().flat_map(|direction| {
        Reason::ALL.iter().flat_map(move |&reason| {
            let allows = matches!(
                reason,
                Reason::Allowed | Reason::Reply | Reason::Related | Reason::Adopted
            );
            let verdicts: &[Verdict] = if allows {
                &[Verdict::Allow]
            } else {
                &[Verdict::Deny, Verdict::Audit]
            };
            verdicts
                .iter()
                .map(move |&verdict| (direction, verdict, reason))
        })
    })
}

impl Family {
    fn describe(&self) -> Desc {
        let Self(name, help, _, labels) = self;
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(
            (*name).to_owned(),
            (*help).to_owned(),
            labels,
            HashMap::new(),
        )
        .expect("valid names")
    }

    fn with<'a, const N: usize>(
        &self,
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> MetricFamily {
        let Self(name, help, kind, names) = self;
        let metric = |(values, sample): ([&str; N], f64)| {
            let labels = names
                .iter()
                .zip(values)
                .map(|(name, value)| label(name, value))
                .collect();
            let mut metric = Metric::from_label(labels);
            if *kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(sample);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(sample);
                metric.set_gauge(gauge);
            }
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name((*name).to_owned());
        family.set_help((*help).to_owned());
        family.set_field_type(*kind);
        family.set_metric(samples.into_iter().map(metric).collect());
        family
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}
