//! The loop that follows source and links, and reconciles.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::sleep_until,
};

use crate::{
    config::Origin,
    datapath::{Datapath, Events, Traces, load},
    exit::{ExitCode, Failure},
    model::View,
    policy::{Compiler, Options, RuleText},
    reconcile::{Observer, Reconciler},
    source::{
        Source,
        docker::DockerSource,
        inventory::InventorySource,
        netlink::{LinkChange, LinkError, LinkWatcher},
    },
    telemetry::Metrics,
};

/// A pass over everything even when nothing seems to have changed: puts right what was lost or tampered with.
const PERIOD: Duration = Duration::from_secs(30);
/// Least time between two passes; a burst of events makes one.
const PAUSE: Duration = Duration::from_millis(5);
/// How often flows that nobody will miss are removed.
const SWEEP: Duration = Duration::from_secs(300);
/// After a netlink error.
const RETRY: Duration = Duration::from_millis(200);

/// Text of each rule in force, by policy and number.
pub(super) type Rules = Arc<BTreeMap<(u32, u16), RuleText>>;

/// Where a pass is published.
pub(super) struct Published {
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) rules: watch::Sender<Rules>,
}

/// What the reconciling thread starts from.
pub(super) struct Seed {
    pub(super) origin: Origin,
    pub(super) bpffs: PathBuf,
    pub(super) load: load::Options,
    pub(super) policy: Options,
    pub(super) views: watch::Receiver<Arc<View>>,
    pub(super) published: Published,
    pub(super) halt: Arc<Notify>,
}

/// What the serving thread gets when the other has started.
pub(super) struct Ready {
    pub(super) metrics: Metrics,
    pub(super) events: Events,
    /// When the programs were loaded with traces.
    pub(super) traces: Option<Traces>,
}

impl Seed {
    /// Says once whether it could start, then follows until it is told to halt. The kernel is touched last: whatever else
    /// is missing or wrong, what was in force stays as it was.
    pub(super) async fn run(self, ready: oneshot::Sender<Result<Ready, Failure>>) {
        // First, because what is missing shows up as other errors elsewhere.
        if let Err(error) = load::preflight(&self.bpffs) {
            return drop(ready.send(Err(error.into())));
        }
        let links = match LinkWatcher::open().await {
            Ok(links) => links,
            Err(error) => return drop(ready.send(Err(error.into()))),
        };
        match self.origin.clone() {
            Origin::Docker { host } => {
                match DockerSource::connect(Some(&host), &self.policy.prefix).await {
                    Ok(source) => self.start(source, links, ready).await,
                    Err(error) => drop(ready.send(Err(error.into()))),
                }
            }
            Origin::Inventory { file } => match InventorySource::open(file) {
                Ok(source) => self.start(source, links, ready).await,
                Err(error) => drop(ready.send(Err(error.into()))),
            },
        }
    }

    async fn start<S: Source>(
        self,
        source: S,
        links: LinkWatcher,
        ready: oneshot::Sender<Result<Ready, Failure>>,
    ) {
        match self.grow() {
            Ok((follower, seen)) => {
                // Nobody waits for it any more when the process is about to end.
                if ready.send(Ok(seen)).is_ok() {
                    follower.follow(source, links).await;
                }
            }
            Err(error) => drop(ready.send(Err(error.into()))),
        }
    }

    fn grow(self) -> Result<(Follower, Ready), load::LoadError> {
        let mut datapath = Datapath::open(&self.bpffs, self.load)?;
        let adopts = datapath.is_first();
        tracing::info!(
            bpffs = %self.bpffs.display(),
            "{}",
            if adopts { "programs loaded" } else { "programs loaded, took over what was in force" }
        );
        let metrics = Metrics::new(self.views, datapath.figures());
        let ready = Ready {
            metrics: metrics.clone(),
            events: datapath.events()?,
            traces: if self.load.traces {
                Some(datapath.traces()?)
            } else {
                None
            },
        };
        let (first, held) = datapath.held();
        let compiler = Compiler::new(first, held);
        let follower = Follower {
            reconciler: Reconciler::new(datapath, compiler, self.policy),
            adopts,
            metrics,
            published: self.published,
            halt: self.halt,
            reread: Instant::now(),
        };
        Ok((follower, ready))
    }
}

/// Everything that the reconciling thread owns.
struct Follower {
    reconciler: Reconciler<Datapath>,
    /// Nobody was here before: connections that are open are taken in.
    adopts: bool,
    metrics: Metrics,
    published: Published,
    halt: Arc<Notify>,
    /// When the kernel's maps were last read in full.
    reread: Instant,
}

impl Follower {
    async fn follow<S: Source>(mut self, mut source: S, mut links: LinkWatcher) {
        let mut due: Option<Instant> = None;
        let mut last = Instant::now();
        let mut swept = Instant::now();
        loop {
            let wait = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => pending().await,
                }
            };
            let soon = last + PAUSE;
            tokio::select! {
                biased;
                () = self.halt.notified() => return,
                change = links.changed() => match change {
                    Ok(LinkChange::Appeared { ifindex, bridge, name }) => {
                        let seen = Instant::now();
                        match self.reconciler.appeared(ifindex, bridge, seen) {
                            Ok(()) => {
                                let milliseconds = seen.elapsed().as_secs_f64() * 1e3;
                                tracing::debug!(ifindex, milliseconds, "port closed until it is known");
                            }
                            Err(error) => {
                                tracing::warn!(%error, interface = name, "not attached yet");
                            }
                        }
                        due = earlier(due, soon);
                    }
                    Ok(LinkChange::Other | LinkChange::Overrun) => due = earlier(due, soon),
                    Err(error) => {
                        self.recover(&mut links, &error).await;
                        due = earlier(due, soon);
                    }
                },
                () = source.changed() => due = earlier(due, soon),
                () = wait => {
                    if source.status().synced {
                        due = self.pass(&source, &mut links).await;
                    } else {
                        due = None;
                    }
                    last = Instant::now();
                    due = earlier(due, last + PERIOD);
                    if last.duration_since(swept) >= SWEEP {
                        swept = last;
                        self.sweep();
                    }
                }
            }
        }
    }

    /// One pass. Returns when the next one is due by time alone.
    async fn pass<S: Source>(&mut self, source: &S, links: &mut LinkWatcher) -> Option<Instant> {
        let began = Instant::now();
        if began.duration_since(self.reread) >= PERIOD {
            self.reread = began;
            if let Err(error) = self.reconciler.reread() {
                tracing::error!(%error, "the kernel's maps cannot be read");
            }
        }
        // Before any program is attached: the first packet of an open connection must find the window open.
        if self.adopts {
            self.adopts = false;
            if let Err(error) = self.reconciler.datapath().begin_adoption() {
                tracing::warn!(%error, "open connections are not taken in");
            }
        }
        let mut watcher = Watcher {
            metrics: self.metrics.clone(),
        };
        let mut pass = self
            .reconciler
            .pass(source.snapshot(), links.links(), &mut watcher, began);
        for ifindex in &pass.bound {
            links.pin_peer(*ifindex);
        }
        let mut due = pass.due;
        for ifindex in &pass.unclaimed {
            match links.refresh_peer(*ifindex).await {
                // Whose port it is may be known by now.
                Ok(true) => due = earlier(due, Instant::now() + PAUSE),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, ifindex, "the other end cannot be read"),
            }
        }
        let status = source.status();
        pass.view.source = source.name().to_owned();
        pass.view.connected = status.connected;
        pass.view.synced = status.synced;
        pass.view.resyncs = status.resyncs;
        pass.view.source_events = status.events;
        pass.view.findings.extend(source.findings().iter().cloned());
        self.tell(&pass.view);
        self.published.rules.send_replace(Arc::new(pass.rules));
        self.published.view.send_replace(Arc::new(pass.view));
        self.metrics.observe_reconcile(began.elapsed());
        due
    }

    /// Logs what is new since the last pass.
    fn tell(&self, view: &View) {
        let before = Arc::clone(&self.published.view.borrow());
        if let Some(error) = &view.error
            && before.error.as_ref() != Some(error)
        {
            tracing::error!(
                error,
                "policy not applied; the last good one stays in force"
            );
        }
        let known: BTreeSet<_> = before.findings.iter().collect();
        for finding in view
            .findings
            .iter()
            .filter(|finding| !known.contains(finding))
        {
            let crate::model::Finding {
                subject,
                label,
                message,
                text,
                code,
                ..
            } = finding;
            match finding.level {
                crate::model::Level::Error => {
                    tracing::error!(subject, label, text, code, "{message}");
                }
                crate::model::Level::Warning => {
                    tracing::warn!(subject, label, text, code, "{message}");
                }
            }
        }
        let modes = |view: &View| -> BTreeMap<u32, (String, String)> {
            let endpoints = view.endpoints.iter();
            endpoints
                .map(|e| (e.ifindex, (e.mode.clone(), e.state.clone())))
                .collect()
        };
        let known = modes(&before);
        for endpoint in &view.endpoints {
            let now = (endpoint.mode.clone(), endpoint.state.clone());
            if known.get(&endpoint.ifindex) != Some(&now) {
                tracing::info!(
                    endpoint = endpoint.display_name(),
                    network = endpoint.network,
                    interface = endpoint.interface,
                    mode = endpoint.mode,
                    state = endpoint.state,
                    "endpoint"
                );
            }
        }
    }

    fn sweep(&mut self) {
        match self.reconciler.datapath().sweep() {
            Ok(removed) => tracing::debug!(removed, "swept the flow table"),
            Err(error) => tracing::warn!(%error, "the flow table cannot be swept"),
        }
    }

    async fn recover(&self, links: &mut LinkWatcher, error: &LinkError) {
        tracing::warn!(%error, "links cannot be followed; trying again");
        tokio::time::sleep(RETRY).await;
        match LinkWatcher::open().await {
            Ok(opened) => *links = opened,
            Err(error) => tracing::warn!(%error, "links cannot be read"),
        }
    }
}

fn earlier(due: Option<Instant>, at: Instant) -> Option<Instant> {
    Some(due.map_or(at, |due| due.min(at)))
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        let hint = "run dfw in the host's network namespace (docker: --network host)";
        Self::new(ExitCode::Capability, error.to_string(), hint)
    }
}

/// Tells metrics what the reconciler sees.
struct Watcher {
    metrics: Metrics,
}

impl Observer for Watcher {
    fn retire(&mut self, ifindexes: &[u32]) {
        self.metrics.retire(ifindexes);
    }

    fn governed(&mut self, ifindex: u32, after: Duration) {
        self.metrics.observe_attach(after);
        tracing::debug!(
            ifindex,
            milliseconds = after.as_secs_f64() * 1e3,
            "policy in force"
        );
    }
}
