//! Docker: the only place that speaks to the engine.

mod cache;
mod convert;
mod engine;
mod follow;
mod labels;
mod survey;

use std::{
    panic,
    sync::{Arc, atomic::Ordering},
};

use tokio::{sync::watch, task::JoinHandle};

use self::{
    engine::Engine,
    follow::{Counters, Follower},
};
pub use self::{
    engine::{ConnectError, DEFAULT_HOST, EngineError},
    survey::{Survey, survey},
};
use super::{Source, SourceStatus};
use crate::model::{Finding, Snapshot};

/// The containers and networks of an engine, followed by a task of its own.
#[derive(Debug)]
pub struct DockerSource {
    now: Arc<Published>,
    news: watch::Receiver<Arc<Published>>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

/// What the task shows the others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Published {
    snapshot: Snapshot,
    findings: Vec<Finding>,
    connected: bool,
    synced: bool,
}

impl DockerSource {
    /// Connects to the engine at `unix://PATH`, `tcp://ADDRESS:PORT`, or where Docker listens by default, and begins to
    /// follow it. `prefix` is that of dfw's labels, with its dot. Needs a tokio runtime.
    pub async fn connect(host: Option<&str>, prefix: &str) -> Result<Self, ConnectError> {
        let engine = Engine::connect(host).await?;
        let counters = Arc::new(Counters::default());
        let (publish, news) = watch::channel(Arc::new(Published::default()));
        let follower = Follower::new(engine, prefix.to_owned(), Arc::clone(&counters), publish);
        Ok(Self {
            now: Arc::default(),
            news,
            counters,
            task: tokio::spawn(follower.run()),
        })
    }
}

impl Drop for DockerSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source for DockerSource {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // The task ends by a panic alone while this end lives.
            match (&mut self.task).await {
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                ended => unreachable!("the follower ended: {ended:?}"),
            }
        }
        self.now = Arc::clone(&self.news.borrow_and_update());
    }

    fn snapshot(&self) -> &Snapshot {
        &self.now.snapshot
    }

    fn findings(&self) -> &[Finding] {
        &self.now.findings
    }

    fn status(&self) -> SourceStatus {
        SourceStatus {
            connected: self.now.connected,
            synced: self.now.synced,
            events: self.counters.events.load(Ordering::Relaxed),
            resyncs: self.counters.resyncs.load(Ordering::Relaxed),
        }
    }
}
