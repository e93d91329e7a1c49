//! The agent as a container.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use dfw_tests::{Container, Engine, EngineOptions, http, process, scratch::Scratch, wait};
use yaml_rust2::Yaml;

use crate::{stripped, words, xtask, yaml};

const PATIENCE: Duration = Duration::from_secs(30);
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10339);
/// What the agent says where the engine's filter keeps bpf(2) from it.
const FILTERED: &str = "a system call filter";

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
    fn run(&self, service: &Yaml) -> Container<'_> {
        let flags = self.flags(service);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let image = service["image"].as_str().expect("an image");
        self.engine.container_of(image, "dfw", &flags, &["run"])
    }

    fn flags(&self, service: &Yaml) -> Vec<String> {
        flags(service, |source| self.place(source))
    }

    /// What lies on this test's host in place of a path of the machine.
    fn place(&self, source: &str) -> String {
        let own = |name: &str| self.scratch.path().join(name).display().to_string();
        match source {
            "/sys/fs/bpf" => own("bpf"),
            "/run/dfw" => own("run"),
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
    let agent = host.run(service);
    host.expect_ready();
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

/// The line of the compose file about seccomp is there for the engines that need it.
#[test]
fn an_engine_before_23_keeps_bpf_from_the_agent_without_the_option() {
    let host = Host::start();
    let file = yaml("compose.yaml");
    let Yaml::Hash(mut service) = file["services"]["dfw"].clone() else {
        panic!("a service")
    };
    let options = Yaml::from_str("security_opt");
    let mut list = words(&service[&options]);
    list.retain(|option| !option.starts_with("seccomp"));
    let list = list
        .into_iter()
        .map(|option| Yaml::String(option.to_owned()));
    let list = Yaml::Array(list.collect());
    service.insert(options, list);
    let agent = host.run(&Yaml::Hash(service));
    let version = host
        .engine
        .docker(&["version", "--format", "{{.Server.Version}}"]);
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    let is_kept: bool = major.is_some_and(|major: u32| major < 23);
    let ended = || (agent.inspect("{{.State.Running}}") == "false").then_some(());
    let outcome = wait::until(PATIENCE, || {
        ended()
            .map(|()| true)
            .or_else(|| host.is_ready().then_some(false))
    });
    assert_eq!(outcome, Some(is_kept), "Docker {version}\n{}", host.log());
    if is_kept {
        assert_eq!(agent.inspect("{{.State.ExitCode}}"), "77", "{}", host.log());
        assert!(host.log().contains(FILTERED), "{}", host.log());
    } else {
        agent.exec(&["dfw", "uninstall"]);
    }
}

#[test]
fn a_binary_that_needs_a_c_library_is_not_shipped() {
    let output = process::output(&mut xtask("image", Path::new("/usr/bin/gzip")));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("linked dynamically"), "{said}");
}
