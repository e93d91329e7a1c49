//! The agent as a container.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use dfw_tests::{Container, Engine, EngineOptions, http, process, runtime, scratch::Scratch, wait};
use yaml_rust2::Yaml;

use crate::{stripped, words, xtask, yaml};

const PATIENCE: Duration = Duration::from_secs(30);
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10339);
/// The first Docker that knows CAP_BPF and CAP_PERFMON.
const KNOWS_BPF: u32 = 23;
/// A filter that keeps bpf(2) from the agent, whatever it may do.
const NO_BPF: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{ "names": ["bpf"], "action": "SCMP_ACT_ERRNO" }]
}"#;

/// An engine with the image, and what its host gives the agent.
struct Host {
    engine: Engine,
    scratch: Scratch,
}

impl Host {
    fn start() -> Self {
        let engine = Engine::start(EngineOptions::default());
        let scratch = Scratch::new();
        scratch.bpffs();
        let mut build = xtask("image", &stripped(&scratch));
        // Not the user's own context.
        build.env_remove("DOCKER_CONTEXT");
        process::run(build.env("DOCKER_HOST", engine.socket()));
        Self { engine, scratch }
    }

    /// Starts the service `dfw` of compose.yaml by `docker run`.
    fn run(&self, service: &Yaml, more: &[&str]) -> Container<'_> {
        let flags = self.flags(service);
        let flags: Vec<&str> = flags
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        let image = service["image"].as_str().expect("an image");
        self.engine.container_of(image, "dfw", &flags, &["run"])
    }

    /// The flags of `docker run` that are the service; on an engine that does not know two of the capabilities, with the runtime
    /// that does.
    fn flags(&self, service: &Yaml) -> Vec<String> {
        let mut flags = flags(service, |source| self.place(source));
        if self.engine.major_version() < KNOWS_BPF {
            let before = flags.len();
            flags.retain(|flag| !["--cap-add=BPF", "--cap-add=PERFMON"].contains(&flag.as_str()));
            assert_eq!(flags.len(), before - 2, "the file grants both");
            flags.push(format!("--runtime={}", runtime::NAME));
            flags.push(format!("--cap-add={}", runtime::STANDS_FOR_BPF));
        }
        flags
    }

    /// What lies on this test's host in place of a path of the machine.
    fn place(&self, source: &str) -> String {
        let own = |name: &str| self.scratch.path().join(name).display().to_string();
        match source {
            "/sys/fs/bpf" => own("bpf"),
            "/run/dfw" => own("run"),
            "/var/lib/dfw" => own("lib"),
            "/var/run/docker.sock" => self.engine.socket().replace("unix://", ""),
            "/sys/kernel/rcu_expedited" => source.to_owned(),
            other => panic!("the agent needs no {other}"),
        }
    }

    fn is_ready(&self) -> bool {
        let answer = self.engine.host().enter(|| http::get(LISTEN, "/readyz"));
        answer.is_ok_and(|(status, _)| status == 200)
    }

    #[track_caller]
    fn expect_ready(&self) {
        let ready = wait::until(PATIENCE, || self.is_ready().then_some(()));
        assert!(ready.is_some(), "not ready\n{}", self.log());
    }

    fn log(&self) -> String {
        let output = process::output(&mut self.engine.command(&["logs", "dfw"]));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The flags of `docker run` that are a compose service. One that is not known here is an error, so that the agent runs with
/// all that the file says.
fn flags(service: &Yaml, place: impl Fn(&str) -> String) -> Vec<String> {
    let mut flags = Vec::new();
    for (key, value) in service.as_hash().expect("a service") {
        let each = |flag: &str| -> Vec<String> {
            let values = words(value).into_iter();
            values.map(|value| format!("--{flag}={value}")).collect()
        };
        match key.as_str().expect("a word") {
            // What is run, under which name, how often and until when: not what it may do.
            "image" | "pull_policy" | "container_name" | "restart" | "healthcheck" => {}
            "network_mode" => flags.push(format!("--network={}", value.as_str().expect("a word"))),
            "read_only" => flags.push(format!(
                "--read-only={}",
                value.as_bool().expect("yes or no")
            )),
            "cap_drop" => flags.extend(each("cap-drop")),
            "cap_add" => flags.extend(each("cap-add")),
            "security_opt" => flags.extend(each("security-opt")),
            "environment" => {
                for (name, value) in value.as_hash().expect("a map") {
                    let (name, value) = (name.as_str(), value.as_str());
                    let (name, value) = (name.expect("a word"), value.expect("a word"));
                    flags.push(format!("--env={name}={value}"));
                }
            }
            "volumes" => {
                for volume in words(value) {
                    let (source, target) = volume.split_once(':').expect("source:target");
                    flags.push(format!("--volume={}:{target}", place(source)));
                }
            }
            other => panic!("nobody knows how to check {other}: teach tests/tests/ship/image.rs"),
        }
    }
    flags
}

#[test]
fn the_image_enforces_with_what_the_compose_file_grants() {
    let host = Host::start();
    let file = yaml("compose.yaml");
    let service = &file["services"]["dfw"];
    let (engine, own) = (&host.engine, host.engine.host());
    engine.network("shop", 1);
    let container = |name: &str, options: &[&str], command: &[&str]| {
        let options = [&["--network=shop"], options].concat();
        engine.container(name, &options, command)
    };
    let rule = "--label=dfw.ingress=tcp/80 from container:friend";
    let server = container("server", &[rule], &["dfw-probe", "listen", "tcp/80"]);
    let (friend, stranger) = (
        container("friend", &[], &[]),
        container("stranger", &[], &[]),
    );
    let assert_enforced = |when: &str, is_enforced: bool| {
        for to in server.at("shop", 80) {
            friend.netns().assert_reaches(when, to, true);
            stranger.netns().assert_reaches(when, to, !is_enforced);
            own.assert_reaches(when, to, !is_enforced);
        }
    };
    assert_enforced("without an agent", false);
    let agent = host.run(service, &[]);
    host.expect_ready();
    assert_granted(&agent);
    assert_enforced("with the agent", true);

    let health = words(&service["healthcheck"]["test"]);
    let [kind, check @ ..] = &health[..] else {
        panic!("a health check: {health:?}")
    };
    assert_eq!(*kind, "CMD", "there is no shell in the image");
    let said = agent.exec(check);
    assert!(said.contains("ready"), "{said}");

    engine.docker(&["stop", "dfw"]);
    assert_eq!(agent.inspect("{{.State.ExitCode}}"), "0", "{}", host.log());
    assert_enforced("after the agent was stopped", true);
    engine.docker(&["start", "dfw"]);
    host.expect_ready();
    assert_enforced("with the agent again", true);
    let socket = host.scratch.path().join("run/dfw.sock");
    assert!(socket.exists(), "the host's own dfw finds the agent");
    // As the document says: an agent that ends would be started again.
    engine.docker(&["rm", "--force", "dfw"]);
    let flags = host.flags(service);
    let image = service["image"].as_str().expect("an image");
    let mut uninstall = engine.command(&["run", "--rm"]);
    process::run(uninstall.args(flags).args([image, "uninstall"]));
    assert_enforced("uninstalled", false);
}

/// What the process itself has, whatever the engine was asked for: the three capabilities, a filter, no new privileges.
fn assert_granted(agent: &Container<'_>) {
    let pid = agent.inspect("{{.State.Pid}}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let bounding = format!("{:016x}", 1_u64 << 12 | 1 << 38 | 1 << 39);
    for line in [
        format!("CapBnd:\t{bounding}"),
        "NoNewPrivs:\t1".to_owned(),
        // The engine's, and the agent's own.
        "Seccomp_filters:\t2".to_owned(),
    ] {
        assert!(status.contains(&line), "{line}\n{status}");
    }
}

#[test]
fn an_agent_that_a_filter_keeps_from_bpf_says_so() {
    let host = Host::start();
    let filter = host.scratch.file("filter.json", NO_BPF);
    let option = format!("--security-opt=seccomp={}", filter.display());
    let agent = host.run(&yaml("compose.yaml")["services"]["dfw"], &[&option]);
    let ended = wait::until(PATIENCE, || {
        (agent.inspect("{{.State.Running}}") == "false").then_some(())
    });
    assert!(ended.is_some(), "it goes on\n{}", host.log());
    assert_eq!(agent.inspect("{{.State.ExitCode}}"), "77", "{}", host.log());
    assert!(
        host.log().contains("a system call filter"),
        "{}",
        host.log()
    );
}

/// Why docs/deploy.md sends those with an older Docker to the unit.
#[test]
fn an_engine_knows_the_capabilities_from_23_on() {
    let engine = Engine::start(EngineOptions::default());
    let mut run = engine.command(&["run", "--rm", "--cap-add=BPF", "--cap-add=PERFMON"]);
    let output = process::output(run.args(["dfwt", "true"]));
    let said = String::from_utf8_lossy(&output.stderr);
    let is_old = engine.major_version() < KNOWS_BPF;
    assert_eq!(said.contains("unknown capability"), is_old, "{said}");
}

#[test]
fn a_binary_that_needs_a_c_library_is_not_shipped() {
    let output = process::output(&mut xtask("image", Path::new("/usr/bin/gzip")));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("linked dynamically"), "{said}");
}
