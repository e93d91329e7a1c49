//! `dfw run`: builds the agent from its configuration and drives it until it is told to stop.
//!
//! Two threads: this one serves metrics, commands and events, and never waits for the kernel; the other follows the source
//! and the links and reconciles, and may be busy with a bulk attach.

mod events;
mod follow;

use std::{sync::Arc, thread, time::Instant};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{Notify, oneshot, watch},
};

use self::follow::{Published, Rules};
use crate::{
    config::{Config, Unlabelled},
    datapath::{
        Datapath,
        load::{self, LoadError},
    },
    exit::{ExitCode, Failure},
    model::View,
    policy::{Compiler, Mode, Options},
    reconcile::Reconciler,
    source::{docker::ConnectError, inventory::InventoryError},
    telemetry::{Metrics, http, listen, log::Level},
};

/// Environment variables for tests: smaller maps, to see what happens when one is full.
const TEST_POLICY_ENTRIES: &str = "DFW_TEST_POLICY_ENTRIES";
/// See [`TEST_POLICY_ENTRIES`]; a power of two, at least 1 024.
const TEST_FLOWS: &str = "DFW_TEST_FLOWS";

/// Runs the agent until SIGTERM, SIGINT or `POST /v1/stop`. Enforcement stays in place afterwards.
///
/// # Errors
/// What is missing or taken, with the remedy. Nothing was touched then that was in force before.
pub fn run(config: Config) -> Result<(), Failure> {
    let runtime = runtime()?;
    // Everything that can be refused comes before the first touch of the kernel.
    let tcp = runtime.block_on(listen::bind_tcp(config.listen))?;
    let (unix, socket_file) = {
        let _entered = runtime.enter();
        listen::bind_unix(&config.socket)?
    };
    let traces = config.log_level == Level::Trace;
    let mut datapath = Datapath::open(&config.bpffs, load_options(traces))?;
    let events = datapath.events()?;
    let tracer = traces.then(|| {
        let _entered = runtime.enter();
        datapath.traces()
    });
    let is_first = datapath.is_first();
    let figures = datapath.figures();
    tracing::info!(
        bpffs = %config.bpffs.display(),
        "{}",
        if is_first { "programs loaded" } else { "programs loaded, took over what was in force" }
    );

    let (view, views) = watch::channel(Arc::new(View::default()));
    let (rules, rule_texts) = watch::channel(Rules::default());
    let metrics = Metrics::new(views.clone(), figures);
    let stop = Arc::new(Notify::new());
    let halt = Arc::new(Notify::new());
    let (ready, is_ready) = oneshot::channel();
    let (first, held) = datapath.held();
    let options = Options {
        unlabelled: mode(config.unlabelled),
        prefix: config.label_prefix.clone(),
    };
    let follower = follow::Follower {
        origin: config.origin,
        prefix: config.label_prefix,
        reconciler: Reconciler::new(datapath, Compiler::new(first, held), options),
        adopts: is_first,
        metrics: metrics.clone(),
        published: Published { view, rules },
        halt: Arc::clone(&halt),
        reread: Instant::now(),
    };
    let follower = spawn(follower, ready)?;

    let shared = http::Shared {
        view: views.clone(),
        metrics,
        stop: Arc::clone(&stop),
    };
    let outcome = runtime.block_on(async {
        if let Ok(Err(failure)) = is_ready.await {
            return Err(failure);
        }
        tokio::spawn(http::serve(
            tcp,
            http::public(shared.clone()),
            std::future::pending(),
        ));
        tokio::spawn(http::serve(
            unix,
            http::commands(shared),
            std::future::pending(),
        ));
        tokio::spawn(events::log(events, views, rule_texts));
        match tracer {
            Some(Ok(tracer)) => drop(tokio::spawn(events::trace(tracer))),
            Some(Err(error)) => tracing::warn!(%error, "what the programs log cannot be read"),
            None => {}
        }
        tracing::info!(listen = %config.listen, socket = %config.socket.display(), "ready");
        until_told(&stop).await
    });
    halt.notify_one();
    let ended = follower.join();
    drop(socket_file);
    outcome?;
    ended.map_err(|_| {
        Failure::new(
            ExitCode::Failure,
            "the reconciling thread panicked",
            "enforcement stays in place; start dfw again and report the log above",
        )
    })?;
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

fn spawn(
    follower: follow::Follower,
    ready: oneshot::Sender<Result<(), Failure>>,
) -> Result<thread::JoinHandle<()>, Failure> {
    let runtime = runtime()?;
    let body = move || runtime.block_on(follower.run(ready));
    thread::Builder::new()
        .name("reconcile".to_owned())
        .spawn(body)
        .map_err(|error| {
            Failure::new(
                ExitCode::Failure,
                format!("cannot start a thread: {error}"),
                "see the limits of processes (ulimit -u)",
            )
        })
}

async fn until_told(stop: &Notify) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(
                ExitCode::Failure,
                format!("cannot wait for signals: {error}"),
                "report this with the kernel's version",
            )
        })
    };
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let by = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stop.notified() => "a command",
    };
    tracing::info!("told to stop by {by}");
    Ok(())
}

fn mode(unlabelled: Unlabelled) -> Mode {
    match unlabelled {
        Unlabelled::Audit => Mode::Audit,
        Unlabelled::Enforce => Mode::Enforce,
        Unlabelled::Off => Mode::Off,
    }
}

fn load_options(traces: bool) -> load::Options {
    let read = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse().ok())
    };
    load::Options {
        policy_entries: read(TEST_POLICY_ENTRIES),
        flows: read(TEST_FLOWS),
        traces,
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
        let hint = "docs/inventory in README.md shows a whole file";
        Self::new(ExitCode::Config, error.to_string(), hint)
    }
}
