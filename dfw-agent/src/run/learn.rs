//! What is seen in audit: taken out of the kernel, given its names, added up, and kept for the next agent.
//!
//! An entry stays in the kernel until what it came to is on disk, so a crash loses nothing. What is known already waits
//! there for a while, and is counted by the kernel meanwhile.

mod keep;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dfw_common::{
    key::SeenKey,
    maps::SEEN_EACH,
    reason::Direction,
    value::{SeenQuota, SeenTimes, kind},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use self::keep::Keep;
use crate::{
    datapath::{
        load::LoadError,
        seen::{Reading, Sightings},
    },
    model::{Done, ForgetOrder, Inventory, Refused},
    policy::{Book, InForce, Learned, SeenPeer, Select, Sighting, Subject, Times, select_subjects},
    telemetry::{
        learned::{Forgetting, Memory},
        text,
    },
};

pub(crate) use self::keep::forget;

/// How often is looked for what is new.
const LOOK: Duration = Duration::from_secs(1);
/// How often what is known is counted.
const COUNT: Duration = Duration::from_secs(10);
/// Longest name of a project, service or container that is kept, in bytes.
const NAME_MAX: usize = 255;

/// Whose an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// A service's or a container's.
    Of(Subject),
    /// Nobody's whom a label could be given.
    Nobody,
}

/// Learns, on a thread that may wait for the disk.
pub(super) struct Learner {
    sightings: Arc<Sightings>,
    keep: Keep,
    book: Book,
    names: HashMap<u32, Name>,
    /// Who is there at present. Of others the names stay until what they did has been read.
    present: HashSet<u32>,
    in_force: Option<Arc<InForce>>,
    counted: Instant,
    /// Why the last attempt to keep it failed.
    unkept: Option<String>,
    published: watch::Sender<Arc<Learned>>,
}

/// Tells a learner to end once it has read and kept everything.
pub(super) struct Ending(oneshot::Sender<oneshot::Sender<()>>);

impl Ending {
    /// Waits for it; not for long.
    pub(super) async fn end(self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(done).is_ok() {
            let _ = tokio::time::timeout(2 * LOOK, is_done).await;
        }
    }
}

/// Begins to learn, beside what an earlier agent has learned.
pub(super) fn start(
    sightings: Arc<Sightings>,
    state: PathBuf,
    in_force: watch::Receiver<Option<Arc<InForce>>>,
) -> (Memory, Ending) {
    let keep = Keep::at(&state);
    let book = match keep.read() {
        Some(learned) => Book::open(learned),
        None => Book::new(now()),
    };
    let (published, learned) = watch::channel(Arc::default());
    let (forget, orders) = mpsc::channel(1);
    let (end, ending) = oneshot::channel();
    let mut learner = Learner {
        sightings,
        keep,
        book,
        names: HashMap::new(),
        present: HashSet::new(),
        in_force: None,
        counted: Instant::now(),
        unkept: None,
        published,
    };
    // Whether it can be is to be told before there is anything to keep.
    learner.keep();
    tokio::spawn(learner.follow(in_force, orders, ending));
    (Memory { learned, forget }, Ending(end))
}

impl Learner {
    async fn follow(
        mut self,
        mut in_force: watch::Receiver<Option<Arc<InForce>>>,
        mut orders: mpsc::Receiver<Forgetting>,
        mut ending: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (mut order, mut done) = (None, None);
            tokio::select! {
                biased;
                Ok(()) = in_force.changed() => {
                    let now = in_force.borrow_and_update().clone();
                    self.meet(now);
                    continue;
                }
                end = &mut ending => done = Some(end),
                Some(asked) = orders.recv() => order = Some(asked),
                _ = looks.tick() => {}
            }
            let hurry = order.is_some() || done.is_some();
            let work = move || {
                self.look(hurry);
                if let Some(Forgetting { order, answer }) = order {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.forget(&order));
                }
                self
            };
            match spawn_blocking(work).await {
                Ok(learner) => self = learner,
                Err(error) => {
                    tracing::error!(%error, "nothing is learned any more; everything else goes on");
                    return;
                }
            }
            if let Some(done) = done {
                let _ = done.map(|done| done.send(()));
                return;
            }
        }
    }

    /// Takes over the names of what is in force.
    fn meet(&mut self, in_force: Option<Arc<InForce>>) {
        if let Some(in_force) = &in_force {
            let names = names(&in_force.inventory);
            self.present = names.keys().copied().collect();
            self.names.extend(names);
        }
        self.in_force = in_force;
    }

    /// Reads what is there. What is known waits, unless there is a hurry.
    fn look(&mut self, hurry: bool) {
        // Nobody has a name before there is a policy.
        if self.in_force.is_none() {
            return;
        }
        let reading = match self.sightings.read() {
            Ok(reading) => reading,
            Err(error) => return tracing::warn!(%error, "what was seen in audit cannot be read"),
        };
        let is_leaving = self.names.len() > self.present.len();
        let is_due = hurry || is_leaving || self.counted.elapsed() >= COUNT;
        if is_due || self.is_news(&reading) {
            if let Err(error) = self.learn(&reading) {
                tracing::warn!(%error, "what was seen in audit cannot be taken out of the kernel");
            }
            self.counted = Instant::now();
            self.names
                .retain(|ifindex, _| self.present.contains(ifindex));
        }
    }

    /// Whether there is something that nobody knows, or soon no room for it in the kernel. What finds none in the book either is
    /// counted in its time: each look writes everything down.
    fn is_news(&self, reading: &Reading) -> bool {
        let is_filling = |quota: &SeenQuota| match self.names.get(&quota.ifindex) {
            Some(Name::Of(subject)) => quota.used > SEEN_EACH / 2 && self.book.has_room(subject),
            Some(Name::Nobody) | None => false,
        };
        let is_news = |key: &SeenKey| {
            let named = self.name(key);
            named.is_some_and(|(subject, sighting)| {
                sighting.is_some_and(|sighting| self.book.is_news(subject, &sighting))
            })
        };
        reading.quotas.values().any(is_filling) || reading.seen.keys().any(is_news)
    }

    fn learn(&mut self, reading: &Reading) -> Result<(), LoadError> {
        let is_empty = reading.seen.is_empty() && reading.quotas.is_empty();
        if is_empty && self.unkept.is_none() {
            return Ok(());
        }
        self.fold(reading);
        self.keep();
        let meanwhile = self.sightings.take(reading)?;
        self.fold(&meanwhile);
        Ok(())
    }

    fn fold(&mut self, reading: &Reading) {
        for (key, times) in &reading.seen {
            let named = self
                .name(key)
                .map(|(subject, sighting)| (subject.clone(), sighting));
            match named {
                Some((subject, Some(sighting))) => {
                    let times = self.times(times);
                    self.book.note(&subject, sighting, times);
                }
                Some((subject, None)) => self.book.miss(&subject, times.flows),
                None => self.miss(key.ifindex, times.flows),
            }
        }
        for quota in reading.quotas.values().filter(|quota| quota.missing > 0) {
            self.miss(quota.ifindex, quota.missing);
        }
    }

    /// What an interface's owner lacks.
    fn miss(&mut self, ifindex: u32, flows: u64) {
        match self.names.get(&ifindex) {
            Some(Name::Of(subject)) => self.book.miss(subject, flows),
            Some(Name::Nobody) => {}
            None => self.book.miss_somewhere(flows),
        }
    }

    /// Whose an entry is, and what it says by names; none where these are gone.
    fn name(&self, key: &SeenKey) -> Option<(&Subject, Option<Sighting>)> {
        let Some(Name::Of(subject)) = self.names.get(&key.ifindex) else {
            return None;
        };
        let peer = match u32::from(key.kind) {
            kind::HOST => Some(SeenPeer::Host),
            kind::WORLD => Some(SeenPeer::World(key.addr.to_ip())),
            kind::GROUP => Some(SeenPeer::Group(key.addr.to_ip())),
            kind::ENDPOINT => match self.names.get(&key.peer) {
                Some(Name::Of(peer)) => Some(SeenPeer::Subject(peer.clone())),
                Some(Name::Nobody) | None => None,
            },
            _ => None,
        };
        let direction = Direction::ALL.get(usize::from(key.direction));
        let sighting = peer.zip(direction).map(|(peer, direction)| Sighting {
            direction: *direction,
            peer,
            protocol: key.protocol,
            port: key.port,
        });
        Some((subject, sighting))
    }

    fn times(&self, times: &SeenTimes) -> Times {
        let now = now();
        let at = |jiffies| now.saturating_sub(self.sightings.age(jiffies).as_secs());
        Times {
            flows: times.flows,
            first: at(times.first),
            last: at(times.last),
        }
    }

    fn forget(&mut self, order: &ForgetOrder) -> Result<Done, Refused> {
        let refused = |message: String, hint: &str| Refused {
            is_config: false,
            message,
            hint: hint.to_owned(),
            findings: Vec::new(),
        };
        let Some(text) = &order.selector else {
            self.book = Book::new(now());
            self.keep();
            tracing::info!("everything that was learned is forgotten by a command");
            return Ok(Done {
                message: "everything that was learned is forgotten".to_owned(),
                ..Done::default()
            });
        };
        let select = Select::parse(text).map_err(|problems| {
            let first = problems.first().map(ToString::to_string);
            refused(first.unwrap_or_default(), "see `dfw suggest --help`")
        })?;
        let Some(in_force) = &self.in_force else {
            let hint = "wait until `dfw status` says ready";
            return Err(refused("nothing is in force yet".to_owned(), hint));
        };
        let InForce {
            inventory, options, ..
        } = &**in_force;
        let meant = select_subjects(&select, inventory, options, self.book.subjects())
            .map_err(|why| refused(why, "`dfw ls` shows who there is"))?;
        let forgotten = self.book.forget(|subject| meant.contains(subject), now());
        self.keep();
        tracing::info!(selector = %select, "what was learned is forgotten by a command");
        Ok(Done {
            message: format!("what was learned of {select} is forgotten"),
            containers: forgotten.iter().map(ToString::to_string).collect(),
            findings: Vec::new(),
        })
    }

    /// Writes it down, and tells who asks.
    fn keep(&mut self) {
        let mut learned = self.book.learned();
        let unkept = self
            .keep
            .write(&learned)
            .err()
            .map(|error| text::chain(&error));
        if unkept != self.unkept {
            match &unkept {
                Some(error) => tracing::warn!(error, "what is learned in audit cannot be kept"),
                None => tracing::info!("what is learned in audit is kept again"),
            }
        }
        self.unkept.clone_from(&unkept);
        learned.unkept = unkept;
        self.published.send_replace(Arc::new(learned));
    }
}

/// Whose each interface is.
fn names(inventory: &Inventory) -> HashMap<u32, Name> {
    let ids: HashSet<&str> = inventory
        .containers
        .iter()
        .map(|one| one.id.as_str())
        .collect();
    let endpoints = inventory.endpoints.iter().map(|endpoint| {
        let container = &endpoint.container;
        let is_known = ids.contains(container.id.as_str());
        let subject = Subject::from(&**container);
        let name = if is_known && fits(&subject) {
            Name::Of(subject)
        } else {
            Name::Nobody
        };
        (endpoint.ifindex, name)
    });
    endpoints.collect()
}

/// Whether a subject's names are no longer than is kept.
fn fits(subject: &Subject) -> bool {
    match subject {
        Subject::Service { project, service } => project.len().max(service.len()) <= NAME_MAX,
        Subject::Container(name) => name.len() <= NAME_MAX,
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
