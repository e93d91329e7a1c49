//! The loop that follows source and links, and reconciles.

pub(super) mod orders;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, oneshot, watch},
    task::yield_now,
    time::{MissedTickBehavior, interval, sleep_until},
};

use self::orders::Desk;
use crate::{
    config::Origin,
    datapath::{Datapath, Events, Traces, load, memory, seen::Sightings},
    exit::{ExitCode, Failure},
    model::View,
    policy::{Compiler, InForce, RuleTexts},
    reconcile::{Attached, Observer, Progress, Reconciler},
    source::{
        Source,
        docker::DockerSource,
        inventory::InventorySource,
        netlink::{LinkChange, LinkError, LinkWatcher},
    },
    telemetry::{Kernel, Metrics, orders::Asked},
};

/// A pass over everything even when nothing seems to have changed, and a look at every map entry.
const PERIOD: Duration = Duration::from_secs(30);
/// How often is looked whether others changed programs, pins or the small maps: docs/security.md promises a repair within
/// a second.
const WATCH: Duration = Duration::from_millis(250);
/// Least time between two passes; a burst of events makes one.
const PAUSE: Duration = Duration::from_millis(5);
/// How often flows that nobody will miss are removed.
const SWEEP: Duration = Duration::from_secs(300);
/// So much news is taken in between two steps of closing ports: none of them waits for a link that is never quiet.
const NEWS_A_STEP: usize = 256;
/// After a netlink error.
const RETRY: Duration = Duration::from_millis(200);

/// Where a pass is published.
pub(super) struct Published {
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) rules: watch::Sender<RuleTexts>,
    pub(super) in_force: watch::Sender<Option<Arc<InForce>>>,
}

/// What the reconciling thread starts from.
pub(super) struct Seed {
    pub(super) origin: Origin,
    pub(super) bpffs: PathBuf,
    /// Where it is written down that a switch of the host must be put back.
    pub(super) marker: PathBuf,
    pub(super) load: load::Options,
    pub(super) desk: Desk,
    pub(super) views: watch::Receiver<Arc<View>>,
    pub(super) published: Published,
    pub(super) halt: Arc<Notify>,
}

/// What the serving thread gets when the other has started.
pub(super) struct Ready {
    pub(super) metrics: Metrics,
    pub(super) events: Events,
    /// Says how many events were lost.
    pub(super) kernel: Arc<dyn Kernel>,
    /// What is seen in audit.
    pub(super) sightings: Arc<Sightings>,
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
                match DockerSource::connect(Some(&host), &self.desk.prefix).await {
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
        let mut datapath = Datapath::open(&self.bpffs, self.marker, self.load)?;
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
            kernel: datapath.figures(),
            sightings: datapath.sightings(),
            traces: if self.load.traces {
                Some(datapath.traces()?)
            } else {
                None
            },
        };
        let (first, held) = datapath.held();
        let compiler = Compiler::new(first, held);
        let mut reconciler = Reconciler::new(datapath, compiler, self.desk.options());
        reconciler.set_edge(self.desk.edge.clone());
        let follower = Follower {
            reconciler,
            desk: self.desk,
            adopts,
            metrics,
            published: self.published,
            halt: self.halt,
        };
        Ok((follower, ready))
    }
}

/// What the loop goes on with.
enum Next {
    /// News of links.
    Link(Result<LinkChange, LinkError>),
    /// News of the source.
    Source,
    /// An order over the command socket, or by SIGHUP.
    Order(Asked),
    /// A pass.
    Due,
}

/// Everything that the reconciling thread owns.
struct Follower {
    reconciler: Reconciler<Datapath>,
    desk: Desk,
    /// Nobody was here before: connections that are open are taken in.
    adopts: bool,
    metrics: Metrics,
    published: Published,
    halt: Arc<Notify>,
}

impl Follower {
    async fn follow<S: Source>(mut self, mut source: S, mut links: LinkWatcher) {
        let mut due: Option<Instant> = None;
        let mut last = Instant::now();
        let mut swept = Instant::now();
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reread = Instant::now();
        loop {
            let soon = last + PAUSE;
            // A look at programs and pins comes between, and must not begin anew what is being asked of netlink: after an
            // overrun that may take longer than to the next look.
            let next = {
                let mut changed = pin!(links.changed());
                loop {
                    let wait = async {
                        match due {
                            Some(due) => sleep_until(due.into()).await,
                            None => pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = self.halt.notified() => return,
                        // Before the news, of which there may be no end.
                        _ = watch.tick() => {
                            let now = Instant::now();
                            let thorough = now.duration_since(reread) >= PERIOD;
                            if thorough {
                                reread = now;
                            }
                            let mut watcher = self.watcher();
                            let mut is_news = self.reconciler.watch(thorough, &mut watcher, now);
                            if self.desk.modes.expire() {
                                self.reconciler.set_options(self.desk.options());
                                is_news = true;
                            }
                            if is_news {
                                due = earlier(due, soon);
                            }
                        }
                        Some(asked) = self.desk.orders.recv() => break Next::Order(asked),
                        change = &mut changed => break Next::Link(change),
                        () = source.changed() => break Next::Source,
                        () = wait => break Next::Due,
                    }
                }
            };
            match next {
                Next::Link(change) => {
                    let change = match change {
                        Ok(change) => self.close(change, &mut links).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = change {
                        self.recover(&mut links, &error).await;
                    }
                    due = earlier(due, soon);
                }
                Next::Source => due = earlier(due, soon),
                Next::Order(asked) => {
                    due = self.obey(asked, &source, &mut links).await;
                    last = Instant::now();
                    due = earlier(due, last + PERIOD);
                }
                Next::Due => {
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

    /// Closes ports as they appear. Each step waits for the kernel, so whoever appeared meanwhile is looked for before the
    /// next one: the sender's side of a newcomer comes before the receiver's side of those that were there first.
    async fn close(
        &mut self,
        change: LinkChange,
        links: &mut LinkWatcher,
    ) -> Result<(), LinkError> {
        self.note(&change);
        loop {
            // The task that reads the socket takes its turn.
            yield_now().await;
            for _ in 0..NEWS_A_STEP {
                match links.told() {
                    Some(change) => self.note(&change?),
                    None => break,
                }
            }
            let Some(step) = self.reconciler.close_next() else {
                return Ok(());
            };
            self.tell_step(step, links);
        }
    }

    fn note(&mut self, change: &LinkChange) {
        match change {
            LinkChange::Appeared {
                ifindex, bridge, ..
            } => self.reconciler.appeared(*ifindex, *bridge, Instant::now()),
            LinkChange::Other | LinkChange::Overrun => {}
        }
    }

    fn tell_step(&self, step: Attached<load::LoadError>, links: &LinkWatcher) {
        let ifindex = step.ifindex;
        match step.progress {
            Ok(Progress::One) => {}
            Ok(Progress::Both) => {
                if let Some(born) = self.reconciler.born(ifindex) {
                    let milliseconds = born.elapsed().as_secs_f64() * 1e3;
                    tracing::debug!(ifindex, milliseconds, "port closed until it is known");
                }
            }
            Err(error) => {
                let link = links.links().links.get(&ifindex);
                let interface = link.map(|link| link.name.as_str()).unwrap_or_default();
                tracing::warn!(%error, interface, "not attached yet");
            }
        }
    }

    /// One pass. Returns when the next one is due by time alone.
    async fn pass<S: Source>(&mut self, source: &S, links: &mut LinkWatcher) -> Option<Instant> {
        let began = Instant::now();
        // Before any program is attached: the first packet of an open connection must find the window open.
        if self.adopts {
            self.adopts = false;
            if let Err(error) = self.reconciler.datapath().begin_adoption() {
                tracing::warn!(%error, "open connections are not taken in");
            }
        }
        let mut watcher = self.watcher();
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
        pass.view.findings.extend(self.desk.notes());
        pass.view.overrides = self.desk.modes.view();
        self.tell(&pass.view);
        self.published.rules.send_replace(pass.rules);
        if let Some(in_force) = pass.in_force {
            self.published
                .in_force
                .send_replace(Some(Arc::new(in_force)));
        }
        self.published.view.send_replace(Arc::new(pass.view));
        self.metrics.observe_reconcile(began.elapsed());
        memory::give_back();
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
                level,
                code,
                message,
                ..
            } = finding;
            // What concerns the node has no subject, what concerns no label no text.
            let [subject, label, text] = [&finding.subject, &finding.label, &finding.text]
                .map(|field| Some(field.as_str()).filter(|field| !field.is_empty()));
            match level {
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

    fn watcher(&self) -> Watcher {
        Watcher {
            metrics: self.metrics.clone(),
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

    fn repaired(&mut self) {
        self.metrics.tamper_repair();
    }
}
