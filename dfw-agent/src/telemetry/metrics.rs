//! `/metrics`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dfw_common::reason::Verdict;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, Registry, TextEncoder,
    process_collector::ProcessCollector,
};
use tokio::sync::watch;

use super::{
    collector::Figures,
    kernel::{Kernel, KernelFigures},
    ledger::{Ledger, owners},
};
use crate::model::View;

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds of `dfw_attach_seconds`. One attach waits for an RCU grace period, 8 to 16 ms, or well under 1 ms when
/// these are expedited; the aim from link to policy is 40 ms.
const ATTACH_BUCKETS: [f64; 12] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5, 2.0,
];
/// Upper bounds of `dfw_reconcile_seconds`. The aims are 50 ms for a change and 2 s for 1000 containers.
const RECONCILE_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.0, 10.0,
];

/// Handle to the metrics of the process; clones are the same metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    attach: Histogram,
    reconcile: Histogram,
    tamper_repairs: IntCounter,
    view: watch::Receiver<Arc<View>>,
    kernel: Arc<dyn Kernel>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Metrics {
    /// Metrics that read the view and the kernel at each scrape.
    pub fn new(view: watch::Receiver<Arc<View>>, kernel: Arc<dyn Kernel>) -> Self {
        let registry = Registry::new();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let attach = histogram(
            "dfw_attach_seconds",
            "Time to attach one program to a link.",
            &ATTACH_BUCKETS,
        );
        let reconcile = histogram(
            "dfw_reconcile_seconds",
            "Time of one reconcile pass.",
            &RECONCILE_BUCKETS,
        );
        let tamper_repairs = IntCounter::new(
            "dfw_tamper_repairs_total",
            "Times that something foreign had changed the programs or maps and it was put right.",
        )
        .expect("a valid name");
        let figures = Figures::new(view.clone(), Arc::clone(&kernel), Arc::clone(&ledger));
        let collectors: [Box<dyn prometheus::core::Collector>; 5] = [
            Box::new(attach.clone()),
            Box::new(reconcile.clone()),
            Box::new(tamper_repairs.clone()),
            Box::new(figures),
            Box::new(ProcessCollector::for_self()),
        ];
        for collector in collectors {
            registry
                .register(collector)
                .expect("every name is registered once");
        }
        Self {
            registry,
            attach,
            reconcile,
            tamper_repairs,
            view,
            kernel,
            ledger,
        }
    }

    /// One program was attached to a link.
    pub fn observe_attach(&self, took: Duration) {
        self.attach.observe(took.as_secs_f64());
    }

    /// One reconcile pass ended.
    pub fn observe_reconcile(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// Something foreign had changed the programs or maps, and it was put right.
    pub fn tamper_repair(&self) {
        self.tamper_repairs.inc();
    }

    /// Takes the last figures of endpoints that are about to go. To be called while the view still knows them and before
    /// their counters are zeroed; blocks while it reads the kernel.
    pub fn retire(&self, ifindexes: &[u32]) {
        let view = Arc::clone(&self.view.borrow());
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match self.kernel.read() {
            Ok(figures) => ledger.update(&figures.endpoints, owners(&view)),
            Err(error) => {
                tracing::warn!(%error, "the last packets of removed endpoints are not counted")
            }
        }
        for ifindex in ifindexes {
            ledger.retire(*ifindex);
        }
    }

    /// The view, with what each endpoint has counted as audited. Blocks while it reads the kernel; what cannot be read is
    /// told as nothing, and logged.
    pub fn counted(&self) -> View {
        let mut view = View::clone(&self.view.borrow());
        let figures = self.kernel.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "the counters of endpoints cannot be read");
            KernelFigures::default()
        });
        let mut audited: HashMap<u32, u64> = HashMap::new();
        for counter in figures.endpoints {
            if counter.verdict == Verdict::Audit {
                let sum = audited.entry(counter.ifindex).or_default();
                *sum = sum.saturating_add(counter.packets);
            }
        }
        for endpoint in &mut view.endpoints {
            endpoint.audited = audited.remove(&endpoint.ifindex).unwrap_or(0);
        }
        view
    }

    /// Everything in Prometheus' text format. Blocks while it reads the kernel.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    Histogram::with_opts(options).expect("a valid name and rising buckets")
}

#[cfg(test)]
mod tests;
