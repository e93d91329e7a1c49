//! A Docker engine of the test's own, in a network namespace of its own: its iptables, sysctls and bridges are nobody
//! else's.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};

use crate::{
    Namespace, NetNs, image,
    process::{self, Daemon, Signal},
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
    scratch: Scratch,
    host: Namespace,
}

/// A container; it goes with its engine at the latest.
#[derive(Debug)]
pub struct Container<'engine> {
    engine: &'engine Engine,
    id: String,
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
        let directory = scratch.path();
        let containerd = start_containerd(&host, &scratch);
        scratch.file(CONFIG, &config(options, directory).to_string());
        runtime::install(&scratch);
        let engine = Self {
            dockerd: Mutex::new(start_dockerd(&host, &scratch)),
            containerd,
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
        *self.dockerd() = start_dockerd(&self.host, &self.scratch);
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

impl Container<'_> {
    /// Its full id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A field of `docker inspect`, as a Go template: `{{.State.Pid}}`.
    ///
    /// # Panics
    /// When it is gone, or there is no such field.
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        self.engine
            .docker(&["inspect", "--format", template, &self.id])
    }

    /// Its network namespace.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn netns(&self) -> NetNs {
        NetNs::of_process(
            self.inspect("{{.State.Pid}}")
                .parse()
                .expect("a process id"),
        )
    }

    /// Its addresses on a network; the default one is `bridge`. IPv6 only where the network has it.
    ///
    /// # Panics
    /// When it is not on that network.
    #[track_caller]
    pub fn addresses(&self, network: &str) -> (Ipv4Addr, Option<Ipv6Addr>) {
        let networks = self.inspect("{{json .NetworkSettings.Networks}}");
        let networks: Value = serde_json::from_str(&networks).expect("docker prints JSON");
        let field = |name: &str| networks[network][name].as_str().unwrap_or_default();
        let v4 = field("IPAddress").parse();
        let v4 = v4.unwrap_or_else(|_| panic!("{} is not on {network}: {networks}", self.id));
        (v4, field("GlobalIPv6Address").parse().ok())
    }

    /// Both its addresses on a network, with a port.
    ///
    /// # Panics
    /// When it is not on that network, or has no IPv6 there.
    #[track_caller]
    pub fn at(&self, network: &str, port: u16) -> [SocketAddr; 2] {
        let (v4, v6) = self.addresses(network);
        let v6 = v6.unwrap_or_else(|| panic!("{} has no IPv6 on {network}", self.id));
        [(v4, port).into(), (v6, port).into()]
    }

    /// Runs a command inside that must succeed, and returns what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> String {
        let mut exec = self.engine.command(&["exec", &self.id]);
        process::run(exec.args(command)).trim().to_owned()
    }

    /// Stops and removes it now.
    ///
    /// # Panics
    /// When the engine refuses.
    #[track_caller]
    pub fn remove(self) {
        self.engine.docker(&["rm", "--force", &self.id]);
    }
}

fn socket(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}

#[track_caller]
fn start_dockerd(host: &Namespace, scratch: &Scratch) -> Daemon {
    let mut command = host.command("dockerd");
    command
        .arg("--config-file")
        .arg(scratch.path().join(CONFIG));
    Daemon::start(&mut command, &scratch.path().join("dockerd.log"))
}

/// One of the engine's own: dockerd would else take that of the machine's own engine, if there is one.
#[track_caller]
fn start_containerd(host: &Namespace, scratch: &Scratch) -> Daemon {
    let directory = scratch.path().join("containerd");
    let address = directory.join("containerd.sock");
    let config = scratch.file(
        "containerd.toml",
        "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
    );
    let mut command = host.command("containerd");
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
