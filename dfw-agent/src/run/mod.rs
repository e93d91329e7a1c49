//! `dfw run`: builds the agent from its configuration and drives it until it is told to stop.
//!
//! Two threads: this one serves metrics, commands and events, and never waits for the kernel; the other follows the source
//! and the links and reconciles, and may be busy with a bulk attach.

mod events;
mod follow;
mod learn;
mod modes;
mod privileges;

use std::{sync::Arc, thread, time::SystemTime};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, oneshot, watch},
};

use self::{
    follow::{
        Published, Ready, Seed,
        orders::{self, Desk},
    },
    modes::Modes,
};
use crate::{
    config::{Config, FastPath},
    datapath::{
        self,
        load::{self, LoadError},
        memory,
    },
    exit::{ExitCode, Failure},
    model::View,
    policy::{NodePolicy, RuleTexts},
    reconcile::Edge,
    source::{docker::ConnectError, inventory::InventoryError},
    telemetry::{
        history::{History, Limits},
        http, listen,
        log::Level,
        orders::{Asked, Order, Orders},
    },
};

pub(crate) use self::{learn::forget as forget_learned, modes::forget as forget_modes};

/// Environment variables for tests: smaller maps, to see what happens when one is full.
const TEST_POLICY_ENTRIES: &str = "DFW_TEST_POLICY_ENTRIES";
/// See [`TEST_POLICY_ENTRIES`]; a power of two, at least 1 024.
const TEST_FLOWS: &str = "DFW_TEST_FLOWS";
/// For tests too: another version of the map layout.
const TEST_VERSION: &str = "DFW_TEST_ABI_VERSION";

/// Runs the agent until SIGTERM, SIGINT or `POST /v1/stop`. Enforcement stays in place afterwards.
///
/// # Errors
/// What is missing or taken, with the remedy. Nothing was touched then that was in force before.
pub fn run(config: Config) -> Result<(), Failure> {
    memory::hold_little();
    let runtime = runtime()?;
    // Everything that can be refused comes before the first touch of the kernel.
    let tcp = runtime.block_on(listen::bind_tcp(config.listen))?;
    let (unix, socket_file) = {
        let _entered = runtime.enter();
        listen::bind_unix(&config.socket)?
    };
    privileges::give_up()?;
    // With the rights that a reload will have.
    let (node, lists) = match config.policy.clone() {
        Some(file) => orders::read(file)?,
        None => (NodePolicy::default(), Ok(Arc::default())),
    };
    // A list that came from elsewhere and is broken keeps nobody from his firewall: the kernel may still have the last good one.
    let (denied, findings) = match lists {
        Ok(denied) => (Some(denied), Vec::new()),
        Err(error) => {
            tracing::error!(%error, "the deny lists are not taken over; those in force stay");
            (None, error.findings())
        }
    };
    let (view, views) = watch::channel(Arc::new(View::default()));
    let (rules, rule_texts) = watch::channel(RuleTexts::default());
    let (in_force, policies) = watch::channel(None);
    let (orders, arriving) = mpsc::channel(1);
    let (stop, halt) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ready, is_ready) = oneshot::channel();
    let seed = Seed {
        origin: config.origin,
        bpffs: config.bpffs,
        marker: datapath::marker(&config.socket),
        load: load_options(config.log_level == Level::Trace, config.fast_path),
        desk: Desk {
            orders: arriving,
            modes: Modes::open(modes::file(&config.socket)),
            file: config.policy,
            unlabelled: config.unlabelled.map(Into::into),
            prefix: config.label_prefix,
            node: Arc::new(node),
            edge: Edge {
                uplinks: config.uplinks,
                denied,
            },
            findings,
        },
        views: views.clone(),
        published: Published {
            view,
            rules,
            in_force,
        },
        halt: Arc::clone(&halt),
    };
    let (follower, has_ended) = spawn(seed, ready)?;
    let outcome = runtime.block_on(async {
        // Without a word it has panicked, which is told below.
        let Ok(ready) = is_ready.await else {
            return Ok(());
        };
        let ready = ready?;
        let history = Arc::new(History::new(Limits::AGENT, SystemTime::now()));
        let (memory, ending) = learn::start(ready.sightings, config.state, policies.clone());
        let shared = http::Shared {
            view: views.clone(),
            metrics: ready.metrics,
            in_force: policies,
            history: Arc::clone(&history),
            stop: Arc::clone(&stop),
            orders: orders.clone(),
            memory,
        };
        let forever = std::future::pending;
        tokio::spawn(http::serve(tcp, http::public(shared.clone()), forever()));
        tokio::spawn(http::serve(unix, http::commands(shared), forever()));
        let reader = events::Reader::new(history, ready.kernel, views, rule_texts);
        tokio::spawn(reader.read(ready.events));
        if let Some(traces) = ready.traces {
            tokio::spawn(events::trace(traces));
        }
        tracing::info!(listen = %config.listen, socket = %config.socket.display(), "ready");
        let told = until_told(&stop, &orders, has_ended).await;
        ending.end().await;
        told
    });
    halt.notify_one();
    let ended = follower.join();
    drop(socket_file);
    ended.map_err(|_| {
        Failure::new(
            ExitCode::Failure,
            "the reconciling thread panicked",
            "enforcement stays in place; start dfw again and report the log above",
        )
    })?;
    outcome?;
    tracing::info!(
        "stopped; enforcement stays in place until `dfw run` takes over or `dfw uninstall` removes it"
    );
    Ok(())
}

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                ExitCode::Failure,
                format!("cannot start the runtime: {error}"),
                "see the limits of processes and descriptors (ulimit -a)",
            )
        })
}

/// Starts the reconciling thread. The receiver ends when the thread does, however that comes.
fn spawn(
    seed: Seed,
    ready: oneshot::Sender<Result<Ready, Failure>>,
) -> Result<(thread::JoinHandle<()>, oneshot::Receiver<()>), Failure> {
    let runtime = runtime()?;
    let (alive, has_ended) = oneshot::channel();
    let body = move || {
        let _alive: oneshot::Sender<()> = alive;
        runtime.block_on(seed.run(ready));
    };
    thread::Builder::new()
        .name("reconcile".to_owned())
        .spawn(body)
        .map(|thread| (thread, has_ended))
        .map_err(|error| {
            Failure::new(
                ExitCode::Failure,
                format!("cannot start a thread: {error}"),
                "see the limits of processes (ulimit -u)",
            )
        })
}

async fn until_told(
    stop: &Notify,
    orders: &Orders,
    mut has_ended: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(
                ExitCode::Failure,
                format!("cannot wait for signals: {error}"),
                "report this with the kernel's version",
            )
        })
    };
    let (mut terminate, mut interrupt, mut hang_up) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
        listen(SignalKind::hangup())?,
    );
    let by = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hang_up.recv() => {
                let (order, (answer, _)) = (Order::Reload, oneshot::channel());
                // What comes of it is logged; one that waits already will do.
                let _ = orders.try_send(Asked { order, answer });
            }
            () = stop.notified() => break "a command",
            _ = &mut has_ended => break "the end of its other thread",
        }
    };
    tracing::info!("told to stop by {by}");
    Ok(())
}

fn load_options(traces: bool, fast_path: FastPath) -> load::Options {
    let read = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse().ok())
    };
    load::Options {
        policy_entries: read(TEST_POLICY_ENTRIES),
        flows: read(TEST_FLOWS),
        version: read(TEST_VERSION),
        traces,
        fast_path: fast_path == FastPath::On,
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let code = if error.is_capability() {
            ExitCode::Capability
        } else {
            ExitCode::Failure
        };
        let message = crate::telemetry::text::chain(&error);
        Self::new(
            code,
            message,
            "enforcement that was in place stays as it was",
        )
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::NoSocket { .. } | ConnectError::Unsupported { .. } => ExitCode::Config,
            ConnectError::Denied { .. } => ExitCode::Capability,
            ConnectError::Refused { .. }
            | ConnectError::NotAnEngine { .. }
            | ConnectError::TooOld { .. } => ExitCode::Failure,
        };
        Self::new(
            code,
            error.to_string(),
            "enforcement that was in place stays as it was",
        )
    }
}

impl From<InventoryError> for Failure {
    fn from(error: InventoryError) -> Self {
        let hint = "README.md, \"Without Docker\", has a whole file";
        Self::new(ExitCode::Config, error.to_string(), hint)
    }
}
