//! A Docker engine of the test's own, in a network namespace of its own: its iptables, sysctls and bridges are nobody
//! else's. It is the machine's, or that of a [`Root`].

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};

use crate::{
    Container, Namespace, image,
    process::{self, Daemon, Signal},
    root::{Root, VARIABLE},
    runtime,
    scratch::Scratch,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Read instead of /etc/docker/daemon.json.
const CONFIG: &str = "daemon.json";

/// The toggles that change a packet's way.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Bridged frames pass iptables, as on most hosts (`net.bridge.bridge-nf-call-iptables` and its IPv6 twin).
    pub br_netfilter: bool,
    /// Published ports are served by `docker-proxy` too, as is the default.
    pub userland_proxy: bool,
    /// The default bridge has IPv6 (`fd77:d0c:0:1::/64`), and ip6tables is in use.
    pub ipv6: bool,
    /// Containers outlive dockerd.
    pub live_restore: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            br_netfilter: true,
            userland_proxy: true,
            ipv6: true,
            live_restore: false,
        }
    }
}

/// A running engine. Dropped, its containers, processes, mounts and files go.
#[derive(Debug)]
pub struct Engine {
    // In the order in which they must end.
    dockerd: Mutex<Daemon>,
    containerd: Daemon,
    /// None: that of the machine.
    root: Option<Root>,
    scratch: Scratch,
    host: Namespace,
}

impl Engine {
    /// Starts one and loads the test image.
    ///
    /// # Panics
    /// When it does not come up; shows its log.
    #[track_caller]
    pub fn start(options: EngineOptions) -> Self {
        let scratch = Scratch::new();
        let host = Namespace::new();
        let root = Root::wanted(&scratch);
        let containerd = start_containerd(command(&host, root.as_ref(), "containerd"), &scratch);
        let mut config = config(options, scratch.path());
        if root.is_some() {
            // Where it is on any host.
            let hosts = config["hosts"].as_array_mut().expect("a list");
            hosts.push("unix:///var/run/docker.sock".into());
        }
        scratch.file(CONFIG, &config.to_string());
        runtime::install(&scratch);
        let dockerd = start_dockerd(command(&host, root.as_ref(), "dockerd"), &scratch);
        let engine = Self {
            dockerd: Mutex::new(dockerd),
            containerd,
            root,
            scratch,
            host,
        };
        engine.expect_answering();
        let call = if options.br_netfilter { "1" } else { "0" };
        engine.host.sysctl("bridge/bridge-nf-call-iptables", call);
        engine.host.sysctl("bridge/bridge-nf-call-ip6tables", call);
        engine.load_image(image::NAME, &[]);
        engine
    }

    /// The network namespace that is this engine's host.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The root file system that is this engine's host.
    ///
    /// # Panics
    /// When that is the machine's own.
    #[track_caller]
    pub fn root(&self) -> &Root {
        let root = self.root.as_ref();
        root.unwrap_or_else(|| panic!("{VARIABLE} names no root: cargo xtask soak engines"))
    }

    /// Where it listens: `unix:///…`.
    pub fn socket(&self) -> String {
        socket(self.scratch.path())
    }

    /// Loads the test image under a name, with changes in the words of a Dockerfile: `LABEL dfw.mode=off`.
    ///
    /// # Panics
    /// When the engine refuses.
    #[track_caller]
    pub fn load_image(&self, name: &str, changes: &[&str]) {
        let directory = Scratch::new();
        let tar = image::tar(directory.path());
        let mut import = self.command(&["import"]);
        for change in ["ENV PATH=/bin"].iter().chain(changes) {
            import.args(["--change", change]);
        }
        process::run(import.arg(tar).arg(name));
    }

    /// A docker command that speaks to this engine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        // A context or a host of the user's own must not be spoken to.
        command
            .env_remove("DOCKER_CONTEXT")
            .args(["--host", &self.socket()])
            .args(arguments);
        command
    }

    /// Runs a docker command that must succeed, and returns what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails; shows what it said.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        process::run(&mut self.command(arguments)).trim().to_owned()
    }

    /// Starts a container of the test image in the background.
    ///
    /// `options` are those of `docker run`; `command` is what runs inside, `sleep` without end where it is empty.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn container(&self, name: &str, options: &[&str], command: &[&str]) -> Container<'_> {
        self.container_of(image::NAME, name, options, command)
    }

    /// As [`Engine::container`], of another image.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn container_of(
        &self,
        image: &str,
        name: &str,
        options: &[&str],
        command: &[&str],
    ) -> Container<'_> {
        let mut run = self.command(&["run", "--detach", "--name", name]);
        run.args(options).arg(image);
        run.args(if command.is_empty() {
            &["sleep", "2147483647"]
        } else {
            command
        });
        let id = process::run(&mut run).trim().to_owned();
        Container { engine: self, id }
    }

    /// A container that somebody else made, `docker compose` say, by its name or id.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn find(&self, name: &str) -> Container<'_> {
        let id = self.docker(&["inspect", "--format", "{{.Id}}", name]);
        Container { engine: self, id }
    }

    /// Makes a user-defined bridge network on both families; `subnet` is the N of `10.78.N.0/24` and `fd78:N::/64`.
    ///
    /// # Panics
    /// When the engine refuses.
    #[track_caller]
    pub fn network(&self, name: &str, subnet: u8) {
        let (v4, v6) = (
            format!("10.78.{subnet}.0/24"),
            format!("fd78:{subnet}::/64"),
        );
        self.docker(&[
            "network", "create", "--ipv6", "--subnet", &v4, "--subnet", &v6, name,
        ]);
    }

    /// The first number of its version.
    ///
    /// # Panics
    /// When it does not say one.
    #[track_caller]
    pub fn major_version(&self) -> u32 {
        let version = self.docker(&["version", "--format", "{{.Server.Version}}"]);
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        major.unwrap_or_else(|| panic!("no version: {version}"))
    }

    /// The process id of dockerd.
    pub fn pid(&self) -> u32 {
        self.dockerd().pid()
    }

    /// Sends dockerd a signal: SIGSTOP hangs it, SIGCONT lets it go on.
    pub fn signal(&self, signal: Signal) {
        self.dockerd().signal(signal);
    }

    /// Kills dockerd without warning. Containers go on with [`EngineOptions::live_restore`].
    pub fn kill(&self) {
        self.dockerd().kill();
    }

    /// Starts dockerd again after [`Engine::kill`], and waits until it answers.
    ///
    /// # Panics
    /// When it does not; shows its log.
    #[track_caller]
    pub fn start_again(&self) {
        let dockerd = command(&self.host, self.root.as_ref(), "dockerd");
        *self.dockerd() = start_dockerd(dockerd, &self.scratch);
        self.expect_answering();
    }

    #[track_caller]
    fn expect_answering(&self) {
        let mut version = self.command(&["version"]);
        self.dockerd().expect("dockerd answers", PATIENCE, || {
            process::output(&mut version).status.success().then_some(())
        });
    }

    /// A test that panicked left it as it was.
    fn dockerd(&self) -> MutexGuard<'_, Daemon> {
        self.dockerd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test may have ended while it hung.
        self.signal(Signal::CONT);
        let ids = process::output(&mut self.command(&["ps", "--all", "--quiet"])).stdout;
        let ids = String::from_utf8_lossy(&ids);
        let mut remove = self.command(&["rm", "--force", "--volumes"]);
        if !ids.trim().is_empty() && !process::output(remove.args(ids.lines())).status.success() {
            eprintln!(
                "not every container could be removed\n{}",
                self.dockerd().log_tail()
            );
        }
        self.dockerd().stop();
        self.containerd.stop();
        end_shims(self.scratch.path());
    }
}

fn command(host: &Namespace, root: Option<&Root>, program: &str) -> Command {
    match root {
        Some(root) => root.command(host, program),
        None => host.command(program),
    }
}

fn socket(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}

#[track_caller]
fn start_dockerd(mut command: Command, scratch: &Scratch) -> Daemon {
    command
        .arg("--config-file")
        .arg(scratch.path().join(CONFIG));
    Daemon::start(&mut command, &scratch.path().join("dockerd.log"))
}

/// One of the engine's own: dockerd would else take that of the machine's own engine, if there is one.
#[track_caller]
fn start_containerd(mut command: Command, scratch: &Scratch) -> Daemon {
    let directory = scratch.path().join("containerd");
    let address = directory.join("containerd.sock");
    let config = scratch.file(
        "containerd.toml",
        "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
    );
    command
        .arg("--config")
        .arg(config)
        .arg("--address")
        .arg(&address);
    command
        .arg("--root")
        .arg(directory.join("root"))
        .arg("--state")
        .arg(directory.join("state"));
    let mut containerd = Daemon::start(&mut command, &scratch.path().join("containerd.log"));
    containerd.expect("containerd listens", PATIENCE, || {
        address.exists().then_some(())
    });
    containerd
}

fn config(options: EngineOptions, directory: &Path) -> Value {
    let mut config = json!({
        "data-root": directory.join("data"),
        "exec-root": directory.join("exec"),
        "pidfile": directory.join("pid"),
        "hosts": [socket(directory)],
        "containerd": directory.join("containerd/containerd.sock"),
        "userland-proxy": options.userland_proxy,
        "shutdown-timeout": 5,
        "live-restore": options.live_restore,
        "runtimes": { runtime::NAME: { "path": directory.join(runtime::NAME) } },
    });
    if options.ipv6 {
        config["ipv6"] = true.into();
        config["fixed-cidr-v6"] = "fd77:d0c:0:1::/64".into();
        config["ip6tables"] = true.into();
        // Until Docker 27 ip6tables is an experiment.
        config["experimental"] = true.into();
    }
    config
}

/// Each container has a shim that outlives containerd; those that outlived their container too are ended here.
fn end_shims(directory: &Path) {
    let address = directory
        .join("containerd/containerd.sock")
        .display()
        .to_string();
    let shims = || {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter(|process| {
            let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            command.split('\0').any(|argument| argument == address)
        });
        pids.filter_map(|process| process.file_name().to_str()?.parse().ok())
            .collect::<Vec<i32>>()
    };
    let gone = wait::until(Duration::from_secs(3), || shims().is_empty().then_some(()));
    if gone.is_none() {
        for pid in shims().into_iter().filter_map(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
