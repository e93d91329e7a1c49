//! An agent's command socket without an agent.

use std::{
    error::Error,
    path::PathBuf,
    process::Output,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::SystemTime,
};

use dfw_agent::{
    model::{EndpointView, Finding, Level, Refused, View},
    policy::InForce,
    telemetry::{
        Kernel, KernelFigures, Metrics,
        history::{History, Limits},
        http,
        learned::Memory,
        listen,
        orders::{Asked, Order},
    },
};
use tokio::sync::{Notify, watch};

use super::dfw;

/// A kernel on which nothing happens.
struct Idle;

impl Kernel for Idle {
    fn read(&self) -> Result<KernelFigures, Box<dyn Error + Send + Sync>> {
        Ok(KernelFigures::default())
    }

    fn events_lost(&self) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(0)
    }
}

/// The command socket with a fixed view; ends when told to stop, as the agent does.
pub(super) struct Served {
    _directory: tempfile::TempDir,
    pub(super) socket: PathBuf,
    pub(super) history: Arc<History>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(super) fn new(view: View) -> Self {
        Self::with(view, None)
    }

    pub(super) fn with(view: View, in_force: Option<InForce>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("dfw.sock");
        let stop = Arc::new(Notify::new());
        let history = Arc::new(History::new(Limits::AGENT, SystemTime::UNIX_EPOCH));
        let shown = Arc::clone(&history);
        let (ready, is_ready) = mpsc::channel();
        let (path, told) = (socket.clone(), Arc::clone(&stop));
        let (orders, arriving) = tokio::sync::mpsc::channel(1);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let (listener, _file) = listen::bind_unix(&path).expect("bound");
                let (_sender, view) = watch::channel(Arc::new(view));
                let metrics = Metrics::new(view.clone(), Arc::new(Idle));
                let shared = http::Shared {
                    view,
                    metrics,
                    in_force: watch::channel(in_force.map(Arc::new)).1,
                    history: shown,
                    stop: Arc::clone(&told),
                    orders,
                    memory: Memory {
                        learned: watch::channel(Arc::default()).1,
                        forget: tokio::sync::mpsc::channel(1).0,
                    },
                };
                tokio::spawn(refuse(arriving));
                ready.send(()).expect("somebody waits");
                http::serve(listener, http::commands(shared), told.notified()).await;
            });
        });
        is_ready.recv().expect("it starts");
        Self {
            _directory: directory,
            socket,
            history,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        dfw(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .expect("the binary runs")
    }
}

/// Refuses what it is told, as an agent does that was started with a bad file or knows nobody.
async fn refuse(mut arriving: tokio::sync::mpsc::Receiver<Asked>) {
    while let Some(Asked { order, answer }) = arriving.recv().await {
        let is_config = matches!(order, Order::Reload);
        let finding = Finding {
            label: "/etc/dfw/policy.toml:3:11".to_owned(),
            text: "tcp/0 from any".to_owned(),
            span: Some((0, 5)),
            ..Finding::new(
                Level::Error,
                "port-range",
                "",
                "0 is out of range".to_owned(),
            )
        };
        let refused = Refused {
            is_config,
            message: format!("{order:?}"),
            hint: "put that right".to_owned(),
            findings: if is_config { vec![finding] } else { Vec::new() },
        };
        answer.send(Err(refused)).expect("somebody waits");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.notify_one();
        let thread = self.thread.take().expect("joined once");
        assert!(thread.join().is_ok() || thread::panicking());
    }
}

pub(super) fn view() -> View {
    View {
        version: "1.2.3".to_owned(),
        source: "docker".to_owned(),
        connected: true,
        synced: true,
        attached: true,
        unlabelled: "audit".to_owned(),
        endpoints: vec![EndpointView {
            container: "shop-db-1\u{1b}[2J".to_owned(),
            id: "0123".to_owned(),
            project: "shop".to_owned(),
            service: "db".to_owned(),
            network: "shop_default".to_owned(),
            interface: "veth0007".to_owned(),
            ifindex: 7,
            addresses: vec!["172.18.0.2".parse().expect("address")],
            mac: "02:42:ac:12:00:02".to_owned(),
            mode: "enforce".to_owned(),
            governed: true,
            state: "ready".to_owned(),
            rules: vec!["tcp/5432 from service:api".to_owned()],
            ..EndpointView::default()
        }],
        ..View::default()
    }
}
