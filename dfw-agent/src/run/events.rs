//! Flow events of the kernel, into history and log.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::unix::AsyncFd,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    datapath::{self, Events, Traces},
    model::View,
    policy::RuleTexts,
    telemetry::{
        Kernel,
        events::{FlowEvent, Names},
        history::{By, Entry, History, Lost},
    },
};

/// Events are read so often, many at a time: to be woken for each costs more than everything else. An endpoint's first
/// packets are a little older than its name in the view, too.
const PAUSE: Duration = Duration::from_millis(20);
/// Events read in one go: what comes faster than this many in a pause is lost in the kernel, which counts it. A flood
/// keeps this thread neither from its other work nor busy.
const BURST: usize = 512;
/// How often is looked whether events were lost.
const LOOK: Duration = Duration::from_secs(1);
/// How long events of the time before this agent wait for the names of those who are there.
const NAMES: Duration = Duration::from_secs(5);

/// Reads what the kernel sends, whether somebody observes or not, or its buffer would fill.
pub(super) struct Reader {
    history: Arc<History>,
    losses: Losses,
    views: watch::Receiver<Arc<View>>,
    rules: watch::Receiver<RuleTexts>,
    /// Of which view and rules `names` are.
    known: (Arc<View>, RuleTexts),
    names: Names,
}

impl Reader {
    pub(super) fn new(
        history: Arc<History>,
        kernel: Arc<dyn Kernel>,
        views: watch::Receiver<Arc<View>>,
        rules: watch::Receiver<RuleTexts>,
    ) -> Self {
        Self {
            history,
            losses: Losses::new(kernel),
            views,
            rules,
            known: Default::default(),
            names: Names::default(),
        }
    }

    /// Reads until the process ends.
    pub(super) async fn read(mut self, events: Events) {
        let _ = timeout(NAMES, self.views.wait_for(|view| view.synced)).await;
        if let Err(error) = self.follow(events).await {
            tracing::error!(%error, "flow events cannot be read; everything else goes on");
        }
    }

    async fn follow(&mut self, events: Events) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut events = datapath::readable(events)?;
        let mut is_empty = true;
        loop {
            // Nobody is woken for more than what has been read. Where nothing comes something may have been lost all the same.
            if is_empty && let Ok(ready) = timeout(LOOK, ready(&mut events)).await {
                ready?;
            }
            sleep(PAUSE).await;
            self.learn();
            let boot = boot_time();
            let mut batch = Vec::new();
            let mut unread = 0;
            is_empty = false;
            for _ in 0..BURST {
                let Some(item) = events.get_mut().next() else {
                    is_empty = true;
                    break;
                };
                match self.names.decode(&item, boot) {
                    Some(event) => {
                        tell(&event);
                        batch.push(Entry::Flow(event));
                    }
                    None => unread += 1,
                }
            }
            batch.extend(self.losses.look(unread, Instant::now()).map(Entry::Lost));
            if !batch.is_empty() {
                self.history.append(batch);
            }
        }
    }

    /// Takes over the names of a new view.
    fn learn(&mut self) {
        let now = (
            Arc::clone(&self.views.borrow()),
            Arc::clone(&self.rules.borrow()),
        );
        if !Arc::ptr_eq(&now.0, &self.known.0) || !Arc::ptr_eq(&now.1, &self.known.1) {
            let names = Names::new(&now.0, now.1.iter());
            self.names = names.after(std::mem::take(&mut self.names));
            self.known = now;
        }
    }
}

/// Waits until there is something to read.
async fn ready(events: &mut AsyncFd<Events>) -> std::io::Result<()> {
    events.readable_mut().await?.clear_ready();
    Ok(())
}

/// What the kernel did not send, and what could not be read.
struct Losses {
    kernel: Arc<dyn Kernel>,
    /// By the kernel's count, which an earlier agent began.
    told: Option<u64>,
    unread: u64,
    last: Option<Instant>,
}

impl Losses {
    fn new(kernel: Arc<dyn Kernel>) -> Self {
        let told = kernel.events_lost().ok();
        Self {
            kernel,
            told,
            unread: 0,
            last: None,
        }
    }

    /// What is to be told now: once in [`LOOK`] at most, for a flood makes losses all the time.
    fn look(&mut self, unread: u64, now: Instant) -> Option<Lost> {
        self.unread += unread;
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < LOOK)
        {
            return None;
        }
        // A map that cannot be read is told by each scrape of the metrics.
        let count = self.kernel.events_lost().ok()?;
        let lost = count.saturating_sub(self.told.unwrap_or(count)) + self.unread;
        self.told = Some(count);
        if lost == 0 {
            return None;
        }
        self.unread = 0;
        self.last = Some(now);
        Some(Lost {
            time: SystemTime::now(),
            lost,
            by: By::Kernel,
        })
    }
}

/// Passes on what the programs themselves log.
pub(super) async fn trace(traces: Traces) {
    let mut tracer = match datapath::readable(traces) {
        Ok(tracer) => tracer,
        Err(error) => {
            tracing::error!(%error, "what the programs log cannot be read");
            return;
        }
    };
    loop {
        match tracer.readable_mut().await {
            Ok(mut guard) => {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
            Err(error) => {
                tracing::error!(%error, "what the programs log cannot be read any more");
                return;
            }
        }
    }
}

/// Logs at debug level, at info level where the deciding rule says `log`.
fn tell(event: &FlowEvent) {
    let rule = event.rule.as_deref();
    let (text, label) = rule.map_or(("", ""), |rule| (&rule.text, &rule.label));
    if rule.is_some_and(|rule| rule.log) {
        tracing::info!(target: "dfw::flow", rule = text, label, "{event}");
    } else {
        tracing::debug!(target: "dfw::flow", rule = text, label, "{event}");
    }
}

/// The wall-clock time at which CLOCK_MONOTONIC was zero; it moves when the clock is set or the host sleeps.
fn boot_time() -> SystemTime {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let since = Duration::new(
        u64::try_from(uptime.tv_sec).unwrap_or(0),
        u32::try_from(uptime.tv_nsec).unwrap_or(0),
    );
    SystemTime::now()
        .checked_sub(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
