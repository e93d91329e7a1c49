//! The machine on which the documents' commands are run as they stand: an engine with the shop of README.md and the veths of its
//! inventory, in network and mount namespaces of its own, where /run, /etc, /sys/fs/bpf and the working directory are its own
//! too.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use clap::CommandFactory as _;
use dfw_agent::cli::Cli;
use dfw_tests::{
    Bridge, Endpoint, Engine, EngineOptions, Namespace, compose, http,
    process::{self, Daemon, Signal},
    scratch::Scratch,
    wait,
};

use crate::{
    markdown::{Block, Document, root},
    sessions::{self, Session},
};

/// The longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a command that does not end by itself is watched.
const LOOK: Duration = Duration::from_secs(1);
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10339);
/// What is started for a command that asks the agent, before the document has a `dfw run`.
const AGENT: &str = "dfw run";
/// Commands that go on until they are interrupted.
const STREAMS: [&str; 3] = ["dfw observe", "docker logs --follow", "journalctl --follow"];
/// Who types what begins with `$ `.
const NOBODY: [&str; 5] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--",
];
/// Names that the test image goes by, besides those of README.md's compose file.
const IMAGES: [&str; 2] = ["redis", concat!("dfw:", env!("CARGO_PKG_VERSION"))];
/// The network of the shop.
const NETWORK: &str = "shop_default";
/// The directory that the reader is in. It names the project of a compose file that names none.
const WORK: &str = "shop";
/// The bridge of the inventory.
const BRIDGE: &str = "br-shop";
/// The interface that leads out of the host.
const UPLINK: &str = "eth0";
/// A second compose file, which README.md names and does not show.
const OVERRIDE: &str = "services:\n  web:\n    labels:\n      dfw.mode: enforce\n";

/// Makes the mounts, tells that it has, and keeps them. $1 is the machine's directory, $2 the engine's socket, $3 the binary, $4 the
/// workspace: whoever is not root sees them wherever they lie.
const MOUNTS: &str = r#"
touch "$1/bin/dfw"
mount --bind "$3" "$1/bin/dfw"
for shared in deploy docs; do mkdir "$1/shop/$shared"; mount --bind "$4/$shared" "$1/shop/$shared"; done
mount -t tmpfs dfw "$1/layers"
mkdir "$1/layers/upper" "$1/layers/work"
mount -t overlay dfw -o "lowerdir=/etc,upperdir=$1/layers/upper,workdir=$1/layers/work" /etc
rm -rf /etc/dfw && mkdir /etc/dfw
mount -t tmpfs dfw /run
touch /run/docker.sock
mount --bind "$2" /run/docker.sock
mount -t bpf dfw /sys/fs/bpf
echo ready
exec sleep infinity
"#;

/// The engine of all stages, with the images.
pub(crate) fn engine() -> Engine {
    let engine = Engine::start(EngineOptions::default());
    let readme = readme();
    let lines = readme.iter().filter(|block| block.language == "yaml");
    let lines = lines.flat_map(|block| &block.lines);
    let named = lines.filter_map(|line| line.trim().strip_prefix("image: "));
    let images: BTreeSet<&str> = named.chain(IMAGES).collect();
    for image in images {
        engine.load_image(image, &[r#"CMD ["sleep","2147483647"]"#]);
    }
    engine.network(NETWORK, 1);
    engine
}

fn readme() -> Vec<Block> {
    Document::read("README.md".to_owned()).blocks()
}

/// The machine, as a document finds it. Dropped, everything on it ends but the engine.
pub(crate) struct Stage<'engine> {
    // In the order in which they must end.
    agent: Option<Daemon>,
    keeper: Daemon,
    plugged: Vec<Endpoint>,
    _outside: Namespace,
    engine: &'engine Engine,
    scratch: Scratch,
    /// The last `dfw run` of the document.
    run: String,
    commands: u32,
}

impl<'engine> Stage<'engine> {
    pub(crate) fn new(engine: &'engine Engine) -> Self {
        let scratch = Scratch::new();
        for directory in ["layers", "bin", WORK] {
            fs::create_dir(scratch.path().join(directory)).expect("the directory is new");
        }
        let plugin = Path::new(env!("CARGO_BIN_EXE_docker-compose"));
        compose::docker_config(scratch.path(), plugin);
        let mut unshare = engine.host().command("unshare");
        unshare.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            MOUNTS,
            "sh",
        ]);
        unshare
            .arg(scratch.path())
            .arg(engine.socket().replace("unix://", ""));
        unshare.arg(dfw_tests::agent::binary()).arg(root());
        let mut keeper = Daemon::start(&mut unshare, &scratch.path().join("mounts.log"));
        let log = scratch.path().join("mounts.log");
        keeper.expect("the mounts are made", PATIENCE, || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.ends_with("ready\n").then_some(())
        });
        // As the inventory of README.md has it: 10.77.0.2 and 10.77.0.3.
        let plugged = {
            let mut bridge = Bridge::new(engine.host(), BRIDGE, 0);
            vec![bridge.plug("api"), bridge.plug("db")]
        };
        // An uplink, as every host has one.
        let outside = Namespace::new();
        engine.host().veth(UPLINK, &outside, "eth0");
        engine
            .host()
            .run(&format!("ip address add 203.0.113.1/24 dev {UPLINK}"));
        engine.host().run("ip route add default via 203.0.113.2");
        let stage = Self {
            agent: None,
            keeper,
            plugged,
            _outside: outside,
            engine,
            scratch,
            run: AGENT.to_owned(),
            commands: 0,
        };
        stage.set_up();
        stage
    }

    /// The files of README.md, and its shop.
    fn set_up(&self) {
        self.file("compose.prod.yaml", OVERRIDE);
        readme().iter().for_each(|block| self.place(block));
        self.shop();
    }

    /// The containers of the project in README.md, as `docker compose up` starts them.
    fn shop(&self) {
        let config = self.command("docker compose config --format json", &[]);
        let printed = self.output(config, "");
        let config: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        let project = config["name"].as_str().expect("a name");
        for (service, written) in config["services"].as_object().expect("services") {
            let mut options = vec![
                format!("--network={NETWORK}"),
                format!("--label=com.docker.compose.project={project}"),
                format!("--label=com.docker.compose.service={service}"),
            ];
            for (key, value) in written["labels"].as_object().into_iter().flatten() {
                options.push(format!("--label={key}={}", value.as_str().expect("a text")));
            }
            for port in written["ports"].as_array().into_iter().flatten() {
                let published = port["published"].as_str().unwrap_or_default();
                options.push(format!("--publish={published}:{}", port["target"]));
            }
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let image = written["image"].as_str().expect("an image");
            let name = format!("{project}-{service}-1");
            self.engine.container_of(image, &name, &options, &[]);
        }
    }

    /// Puts a block where its first line says, or where its kind belongs.
    pub(crate) fn place(&self, block: &Block) {
        let first = block.lines.first().and_then(|line| line.strip_prefix("# "));
        let named = first.and_then(|line| line.split_whitespace().next());
        let named = named.filter(|word| word.contains('.'));
        let place = match (block.language.as_str(), named) {
            ("toml" | "yaml", Some(path)) => path,
            ("yaml", None) => "compose.yaml",
            _ => return,
        };
        self.file(place, &(block.lines.join("\n") + "\n"));
    }

    fn file(&self, path: &str, text: &str) {
        self.output(
            self.command(&format!("mkdir -p $(dirname {path}) && cat > {path}"), &[]),
            text,
        );
    }

    /// Runs a command to its end, or as long as it takes to see that it goes on.
    pub(crate) fn run(&mut self, session: &Session) -> Result<(), String> {
        let command = &session.command;
        if command.starts_with("dfw run") {
            self.run = command.clone();
            return self.start_agent();
        }
        if command.starts_with("dfw init") {
            // It does not write over what README.md and its first run have left.
            self.output(self.command("rm -rf /etc/dfw", &[]), "");
            let done = self.see(session);
            readme().iter().for_each(|block| self.place(block));
            return done;
        }
        if self.agent.is_none() && asks_the_agent(command) {
            self.start_agent()?;
        }
        self.see(session)
    }

    /// Runs a command, and holds what it prints and its code against what is shown.
    fn see(&mut self, session: &Session) -> Result<(), String> {
        let Session {
            command,
            is_root,
            shown,
        } = session;
        let is_stream = STREAMS.iter().any(|stream| command.starts_with(stream));
        let mut running = self.start(command, *is_root);
        let patience = if is_stream { LOOK } else { PATIENCE };
        let ended = wait::until(patience, || running.ended());
        let code = match ended {
            Some(status) => status.code(),
            None if is_stream => {
                running.signal(Signal::INT);
                wait::until(PATIENCE, || running.ended()).map(|status| status.code().unwrap_or(0))
            }
            None => {
                return Err(format!(
                    "does not end within {PATIENCE:?}; if it should not, add it to STREAMS in tests/tests/documents/stage.rs\n{}",
                    running.log()
                ));
            }
        };
        let printed = running.log();
        if let Some(agent) = &mut self.agent
            && agent.ended().is_some()
        {
            self.agent = None;
        }
        if !shown.is_empty() && !sessions::is_shown(shown, &printed) {
            return Err(format!("prints, other than shown:\n{printed}"));
        }
        let is_answer = ["explain", "doctor", "suggest --diff"]
            .iter()
            .any(|name| command.contains(&format!("dfw {name}")));
        match code {
            Some(0) => Ok(()),
            // Findings, a difference, or a connection that is denied.
            Some(3) if is_answer || !shown.is_empty() => Ok(()),
            code => Err(format!(
                "ends with {code:?}; correct it, or if it cannot be run on the machine of tests/tests/documents/stage.rs, add it to the list in elsewhere.rs with the reason\n{printed}"
            )),
        }
    }

    /// Starts the agent as the document last did, in place of the one that runs.
    fn start_agent(&mut self) -> Result<(), String> {
        self.agent = None;
        let line = self.run.clone();
        let mut agent = self.start(&line, true);
        let ready = wait::until(PATIENCE, || {
            let answer = self.engine.host().enter(|| http::get(LISTEN, "/readyz"));
            let is_ready = answer.is_ok_and(|(status, _)| status == 200);
            (is_ready || agent.ended().is_some()).then_some(is_ready)
        });
        let tail = agent.log_tail();
        self.agent = Some(agent);
        match ready {
            Some(true) => Ok(()),
            _ => Err(format!("the agent is not ready\n{tail}")),
        }
    }

    fn start(&mut self, line: &str, is_root: bool) -> Daemon {
        self.commands += 1;
        let log = self.scratch.path().join(format!("{}.log", self.commands));
        let user = if is_root { &[][..] } else { &NOBODY[..] };
        Daemon::start(&mut self.command(line, user), &log)
    }

    /// A command line on the machine, through a wrapper.
    fn command(&self, line: &str, wrapper: &[&str]) -> Command {
        let directory = self.scratch.path();
        let work = if line.starts_with("cargo ") {
            root().to_owned()
        } else {
            directory.join(WORK)
        };
        let mut command = self.engine.host().command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.pid()));
        command
            .arg("--")
            .args(wrapper)
            .args(["env", "--chdir"])
            .arg(work);
        command.args(["bash", "-o", "pipefail", "-c", line]);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("DFW_") || name_text.starts_with("DOCKER_") {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env(
            "PATH",
            format!("{}:{path}", directory.join("bin").display()),
        );
        command.env("DOCKER_CONFIG", directory.join("docker-config"));
        command
    }

    /// What a command of the stage's own prints.
    fn output(&self, mut command: Command, input: &str) -> String {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("nsenter");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.agent = None;
        process::output(&mut self.command("dfw uninstall", &[]));
        let ids = process::output(&mut self.engine.command(&["ps", "--all", "--quiet"])).stdout;
        let ids = String::from_utf8_lossy(&ids);
        let mut remove = self.engine.command(&["rm", "--force", "--volumes"]);
        process::output(remove.args(ids.lines()));
        // The next stage has links of the same names, and the kernel takes a namespace down when it has time.
        let plugged = self.plugged.iter().map(|end| end.veth.as_str());
        for link in plugged.chain([BRIDGE, UPLINK]) {
            let mut ip = self.engine.host().command("ip");
            process::output(ip.args(["link", "delete", link]));
        }
    }
}

/// Whether a command speaks to a running agent, as `dfw` itself says by its flags.
fn asks_the_agent(command: &str) -> bool {
    let metrics = command.contains(&LISTEN.to_string());
    let name = command
        .split("dfw ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let cli = Cli::command();
    let known = name.and_then(|name| cli.find_subcommand(name));
    let is_offline = command.contains("explain -f");
    metrics
        || known.is_some_and(|known| {
            !is_offline
                && known
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some("socket"))
        })
}
