//! The task that follows the engine: listing, then events, each answered by reading anew only what they are about.
//!
//! Events say *that* something changed, never what: of an event only type, action and id are taken, for a container's
//! labels are copied over its attributes. Reading is idempotent, so events may come twice, late or in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::models::{EventMessage, EventMessageTypeEnum};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};

use super::{
    Published,
    cache::Cache,
    convert::{self, Meta, NetworkState, Powers},
    engine::{Engine, EngineError},
};
use crate::model::{Finding, Level};

/// A full listing corrects whatever an event missed.
const RESYNC: Duration = Duration::from_secs(60);
/// What failed for one container or network is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The engine drops events for a reader that does not read. So late was the last look at the clock when this process stood
/// still for a while, and events may be lost.
const STANDSTILL: Duration = Duration::from_secs(1);
/// The longest pause is short, for it adds to the time until an engine that is back is heard.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Calls at a time. Inspections have a limit of their own, for those of starting containers take as long as the start.
const READS: usize = 8;
const INSPECTIONS: usize = 16;

/// What is to be read. The order is that of urgency: what leads to an endpoint comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    /// Everything, by listing.
    All,
    /// One network and who is on it. During a start this is the only place that knows a container's MAC.
    Network(String),
    /// One container as listed: labels.
    List(String),
    /// Labels of one image.
    Image(String),
    /// One container in full: state and powers.
    Inspect(String),
}

impl Job {
    /// Inspections add to what the others tell, and may take long: those of a starting container as long as the start.
    const fn is_inspection(&self) -> bool {
        matches!(self, Self::Inspect(_))
    }
}

/// What was read, with the id of what it is about. None: there is no such thing.
enum Answer {
    All {
        containers: Vec<(String, Meta)>,
        networks: Vec<String>,
    },
    Network(String, Option<NetworkState>),
    List(String, Option<Meta>),
    Image(String, Option<BTreeMap<String, String>>),
    Inspect(String, Option<(Meta, Powers)>),
}

/// Numbers that change too often to wake anybody.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) events: AtomicU64,
    pub(super) resyncs: AtomicU64,
}

pub(super) struct Follower {
    engine: Engine,
    cache: Cache,
    wanted: BTreeSet<Job>,
    running: BTreeSet<Job>,
    /// What the first listing leads to, step by step, and is still to be answered. What events ask for is not waited for:
    /// while containers come and go there may never be a moment without.
    first: Option<BTreeSet<Job>>,
    failed: BTreeMap<Job, String>,
    /// When the engine last reported an event, ns since 1970.
    seen: i64,
    connected: bool,
    synced: bool,
    lost: Option<String>,
    counters: Arc<Counters>,
    publish: watch::Sender<Arc<Published>>,
}

impl Follower {
    pub(super) fn new(
        engine: Engine,
        prefix: String,
        counters: Arc<Counters>,
        publish: watch::Sender<Arc<Published>>,
    ) -> Self {
        // One second back: nothing that happens from here on is missed, and what comes twice does no harm.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seen =
            i64::try_from(now.saturating_sub(Duration::from_secs(1)).as_nanos()).unwrap_or(0);
        Self {
            engine,
            cache: Cache::new(prefix),
            wanted: BTreeSet::new(),
            running: BTreeSet::new(),
            first: None,
            failed: BTreeMap::new(),
            seen,
            connected: false,
            synced: false,
            lost: None,
            counters,
            publish,
        }
    }

    /// Follows the engine until nobody listens any more.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        while !self.publish.is_closed() {
            let error = self.session().await;
            if self.connected {
                backoff = BACKOFF.0;
            }
            tracing::warn!(%error, "lost the engine; the last policy stays in force");
            self.connected = false;
            self.lost = Some(error.to_string());
            self.publish(true);
            time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Listens and reads until the engine fails to answer.
    async fn session(&mut self) -> EngineError {
        let mut events = pin!(self.engine.events(self.seen));
        let mut jobs = FuturesUnordered::new();
        let mut resync = time::interval(RESYNC);
        let mut retry = time::interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.wanted.clear();
        self.running.clear();
        self.first = None;
        loop {
            while let Some(job) = self.next_job() {
                jobs.push(read(self.engine.clone(), job));
            }
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.note(&event),
                    Some(Err(error)) => return error,
                    None => return EngineError::EventsEnded,
                },
                Some((job, answer)) = jobs.next(), if !jobs.is_empty() => {
                    self.running.remove(&job);
                    let is_first = self.first.as_mut().is_some_and(|first| first.remove(&job));
                    match answer {
                        Ok(answer) => {
                            self.failed.remove(&job);
                            let before = is_first.then(|| self.wanted.clone());
                            self.take_in(answer);
                            if let Some((first, before)) = self.first.as_mut().zip(before) {
                                let new = self.wanted.difference(&before);
                                first.extend(new.filter(|job| !job.is_inspection()).cloned());
                            }
                        }
                        // A container that takes long to start holds up its inspection, not the engine.
                        Err(error) if error.is_answer() || job.is_inspection() => {
                            self.failed.insert(job, error.to_string());
                        }
                        Err(error) => return error,
                    }
                }
                _ = resync.tick() => {
                    self.wanted.insert(Job::All);
                }
                due = retry.tick() => {
                    self.wanted.extend(self.failed.keys().cloned());
                    if due.elapsed() > STANDSTILL {
                        self.wanted.insert(Job::All);
                    }
                }
            }
            self.synced |= self.first.as_ref().is_some_and(BTreeSet::is_empty);
            self.publish(false);
        }
    }

    /// The most urgent job that may start now. A job that is wanted while it runs starts again afterwards, for its answer
    /// may be older than the wish.
    fn next_job(&mut self) -> Option<Job> {
        let inspections = self.running.iter().filter(|job| job.is_inspection());
        let inspections = inspections.count();
        let reads = self.running.len() - inspections;
        let may_start = |job: &&Job| {
            let room = if job.is_inspection() {
                inspections < INSPECTIONS
            } else {
                reads < READS
            };
            room && !self.running.contains(job)
        };
        let job = self.wanted.iter().find(may_start)?.clone();
        self.wanted.remove(&job);
        self.running.insert(job.clone());
        Some(job)
    }

    fn note(&mut self, event: &EventMessage) {
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        self.seen = event
            .time_nano
            .map_or(self.seen, |time| time.max(self.seen));
        let Some(actor) = &event.actor else { return };
        let Some(id) = actor.id.as_ref().filter(|id| is_name(id)) else {
            return;
        };
        match event.typ {
            Some(EventMessageTypeEnum::CONTAINER) if convert::is_id(id) => {
                if !self.cache.knows_container(id) {
                    self.wanted.insert(Job::List(id.clone()));
                }
                self.wanted.insert(Job::Inspect(id.clone()));
            }
            Some(EventMessageTypeEnum::NETWORK) => {
                self.wanted.insert(Job::Network(id.clone()));
            }
            _ => {}
        }
    }

    fn take_in(&mut self, answer: Answer) {
        match answer {
            Answer::All {
                containers,
                networks,
            } => self.take_in_all(containers, networks),
            Answer::Network(id, state) => {
                self.cache.set_network(&id, state);
                let unknown = self
                    .cache
                    .on_network(&id)
                    .filter(|id| !self.cache.knows_container(id));
                self.wanted.extend(unknown.cloned().map(Job::List));
            }
            Answer::List(id, Some(meta)) => {
                self.take_in_container(&id, meta);
                if self.cache.lacks_powers(&id) {
                    self.wanted.insert(Job::Inspect(id));
                }
            }
            Answer::Image(id, labels) => self.cache.set_image(&id, labels),
            Answer::Inspect(id, Some((meta, powers))) => {
                self.take_in_container(&id, meta);
                self.cache.set_powers(&id, powers);
            }
            Answer::List(id, None) | Answer::Inspect(id, None) => self.cache.forget_container(&id),
        }
    }

    fn take_in_all(&mut self, containers: Vec<(String, Meta)>, networks: Vec<String>) {
        // What is known and not listed is asked for: it may have come since the listing began.
        self.wanted.extend(
            self.cache
                .network_ids()
                .into_iter()
                .chain(networks)
                .map(Job::Network),
        );
        let listed: BTreeSet<String> = containers.iter().map(|(id, _)| id.clone()).collect();
        let missing = self
            .cache
            .container_ids()
            .into_iter()
            .filter(|id| !listed.contains(id));
        self.wanted.extend(missing.map(Job::Inspect));
        for (id, meta) in containers {
            let live = meta.live;
            // A listing lags when a container ends, and may be older than what an event brought: what differs is asked for.
            if self.take_in_container(&id, meta) || (live && self.cache.lacks_powers(&id)) {
                self.wanted.insert(Job::Inspect(id));
            }
        }
        self.cache.prune_images();
        if !self.synced {
            let leading = self.wanted.iter().chain(&self.running);
            let leading = leading.filter(|job| !job.is_inspection());
            self.first = Some(leading.cloned().collect());
        }
        self.counters.resyncs.fetch_add(1, Ordering::Relaxed);
        if self.lost.take().is_some() {
            tracing::info!("the engine answers again");
        }
        self.connected = true;
    }

    /// Whether it was known and differs.
    fn take_in_container(&mut self, id: &str, meta: Meta) -> bool {
        let differs = self.cache.set_meta(id, meta);
        self.wanted.extend(
            self.cache
                .lacks_image(id)
                .map(|image| Job::Image(image.to_owned())),
        );
        differs
    }

    /// Nothing is shown before everything was read once: half a listing would look like containers that are gone.
    fn publish(&mut self, anyway: bool) {
        let before = Arc::clone(&self.publish.borrow());
        let status = (self.connected, self.synced);
        let findings = self.findings();
        let news = self.cache.take_changed()
            || status != (before.connected, before.synced)
            || findings != before.findings;
        if !news || !(self.synced || anyway) {
            return;
        }
        let snapshot = if self.synced {
            self.cache.snapshot()
        } else {
            before.snapshot.clone()
        };
        self.publish.send_replace(Arc::new(Published {
            snapshot,
            findings,
            connected: self.connected,
            synced: self.synced,
        }));
    }

    fn findings(&self) -> Vec<Finding> {
        let lost = self.lost.iter().map(|error| {
            let what = format!(
                "the engine does not answer ({error}); the last good policy stays in force"
            );
            Finding::new(Level::Error, "engine-lost", "", what)
        });
        let failed = self.failed.iter().map(|(job, error)| {
            let (level, what, id) = match job {
                Job::All => (Level::Error, "the listing", ""),
                Job::Network(id) => (Level::Error, "network", id.as_str()),
                Job::List(id) => (Level::Error, "container", id.as_str()),
                Job::Image(id) => (Level::Error, "image", id.as_str()),
                // It only adds to what the listing says, and waits for a start that takes long.
                Job::Inspect(id) => (Level::Warning, "container", id.as_str()),
            };
            let what = format!("the engine cannot tell about {what} {id}: {error}; what it said before stays in force");
            Finding::new(level, "engine-answer", "", what)
        });
        lost.chain(failed).chain(self.cache.findings()).collect()
    }
}

/// Whether an id can stand in the path of a request.
fn is_name(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

async fn read(engine: Engine, job: Job) -> (Job, Result<Answer, EngineError>) {
    let answer = match job.clone() {
        Job::All => read_all(&engine).await,
        Job::Network(id) => engine
            .network(&id)
            .await
            .map(|found| Answer::Network(id, found.and_then(convert::network))),
        Job::List(id) => engine.list(Some(&id)).await.map(|list| {
            let found = list
                .into_iter()
                .filter_map(convert::listed)
                .find(|(listed, _)| *listed == id);
            Answer::List(id, found.map(|(_, meta)| meta))
        }),
        Job::Image(id) => engine
            .image_labels(&id)
            .await
            .map(|labels| Answer::Image(id, labels)),
        Job::Inspect(id) => engine
            .container(&id)
            .await
            .map(|found| Answer::Inspect(id, found.map(convert::inspected))),
    };
    (job, answer)
}

async fn read_all(engine: &Engine) -> Result<Answer, EngineError> {
    let containers = engine.list(None).await?;
    let networks = engine.networks().await?;
    Ok(Answer::All {
        containers: containers.into_iter().filter_map(convert::listed).collect(),
        networks,
    })
}
