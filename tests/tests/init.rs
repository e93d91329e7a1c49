//! `dfw init` on a host with running containers: what it writes, and that nothing is dropped.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use dfw_agent::{config::Settings, policy::NodePolicy};
use dfw_tests::{
    Agent, Container, Engine, EngineOptions, agent, http::Metrics, process, scratch::Scratch,
};

/// An engine with images that people know, and a place for the files.
struct Host {
    engine: Engine,
    scratch: Scratch,
}

impl Host {
    fn start() -> Self {
        let engine = Engine::start(EngineOptions::default());
        for image in ["postgres:16", "nginx:1.27"] {
            engine.load_image(image, &[]);
        }
        engine.network("shop", 1);
        Self {
            engine,
            scratch: Scratch::new(),
        }
    }

    /// db, web and a stranger.
    fn shop(&self) -> [Container<'_>; 3] {
        let service = |service: &str, image: &str, more: &[&str], port: &str| {
            let name = format!("--label=com.docker.compose.service={service}");
            let project = "--label=com.docker.compose.project=shop";
            let options = [&[&name, project, "--network=shop"], more].concat();
            let listen = ["dfw-probe", "listen", port];
            let name = format!("shop-{service}-1");
            self.engine.container_of(image, &name, &options, &listen)
        };
        [
            service("db", "postgres:16", &[], "tcp/5432"),
            service("web", "nginx:1.27", &["--publish=8080:80"], "tcp/80"),
            self.engine.container("stranger", &["--network=shop"], &[]),
        ]
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("etc")
    }

    fn init(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.host().command(&agent::binary());
        command.args(["init", "--docker-host", &self.engine.socket()]);
        command
            .arg("--directory")
            .arg(self.directory())
            .args(arguments);
        command
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).expect(name)
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn check(file: &Path) -> String {
    process::run(Command::new(agent::binary()).arg("check").arg(file))
}

#[test]
fn from_running_containers_to_an_agent_in_audit() {
    let host = Host::start();
    let [db, web, stranger] = host.shop();
    let shown = process::run(&mut host.init(&["--dry-run", "--agent=none"]));
    assert!(shown.contains("preset = \"postgresql\""), "{shown}");
    assert!(!host.directory().exists(), "a dry run writes nothing");

    let shown = process::run(&mut host.init(&["--yes", "--draft", "--agent=none"]));
    for line in [
        "Published beyond this host",
        "dfw status",
        "0.0.0.0:8080->80/tcp",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let policy = host.directory().join("policy.toml");
    assert_eq!(check(&policy), "ok: 3 rules for the node\n");
    let configuration = host.directory().join("dfw.toml");
    let settings = Settings::load(Some(&configuration)).expect("right");
    assert_eq!(settings.policy.as_ref(), Some(&policy));
    assert_eq!(settings.docker_host, Some(host.engine.socket()));

    let agent = Agent::start(
        host.engine.host(),
        &["--config", &configuration.display().to_string()],
    );
    agent.expect_ready("the shop", 3);
    let stranger = stranger.netns();
    let before = agent.metrics();
    for (service, port) in [(db, 5432), (web, 80)] {
        for to in service.at("shop", port) {
            stranger.assert_reaches("in audit", to, true);
        }
    }
    let explained = said(&agent.command(&["explain", "shop/web", "shop/db", "tcp/5432"]));
    let rule = "preset postgresql: \"tcp/5432 from project:shop\"";
    assert!(explained.contains(rule), "{explained}");
    let after = agent.metrics();
    assert!(
        after.sum("dfw_packets_total", &["verdict=\"deny\""]) < 1.0,
        "dropped"
    );
    let audited = ["verdict=\"audit\"", "reason=\"no-rule\""];
    let audited = |metrics: &Metrics| metrics.sum("dfw_packets_total", &audited);
    assert!(
        audited(&after) > audited(&before),
        "the stranger would be denied"
    );
}

#[test]
fn what_is_there_stays_unless_it_is_forced() {
    let host = Host::start();
    let _shop = host.shop();
    process::run(&mut host.init(&["--yes", "--agent=compose", "--no-start"]));
    assert!(
        NodePolicy::parse("p", &host.read("policy.toml")).is_ok_and(|policy| policy.is_empty())
    );
    let mount = format!("- {}:/etc/dfw:ro", host.directory().display());
    assert!(host.read("compose.yaml").contains(&mount));
    let mine = "# mine\nunlabelled = \"enforce\"\n";
    fs::write(host.directory().join("policy.toml"), mine).expect("written");
    let output = process::output(&mut host.init(&["--yes", "--agent=compose", "--no-start"]));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("policy.toml is there already"),
        "{}",
        said(&output)
    );
    assert_eq!(host.read("policy.toml"), mine);
    let forced = [
        "--yes",
        "--draft",
        "--agent=compose",
        "--no-start",
        "--force",
    ];
    process::run(&mut host.init(&forced));
    assert!(host.read("policy.toml").contains("preset = \"http,https\""));

    // The other way needs the file under another name.
    let output = process::output(&mut host.init(&["--yes", "--agent=none", "--force"]));
    assert!(
        said(&output).contains("names the policy file"),
        "{}",
        said(&output)
    );
}

/// Answers on a terminal of its own, as a person types them: each when its question is there. Returns the exit code and what was shown.
fn typed(host: &Host, dialogue: &[(&str, &str)]) -> (Option<i32>, String) {
    let (binary, socket) = (agent::binary(), host.engine.socket());
    let directory = host.directory();
    let line = format!(
        "{binary} init --docker-host {socket} --directory {}",
        directory.display()
    );
    let mut script = host.engine.host().command("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is there");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let mut shown = Vec::new();
    let mut questions = dialogue.iter();
    let mut question = questions.next();
    let mut read = [0; 1024];
    // What is not asked is never typed, so it comes to an end.
    while let Ok(count @ 1..) = stdout.read(&mut read) {
        shown.extend_from_slice(&read[..count]);
        let text = String::from_utf8_lossy(&shown);
        while let Some((_, keys)) = question.filter(|(asked, _)| text.contains(asked)) {
            stdin.write_all(keys.as_bytes()).expect("it reads");
            question = questions.next();
        }
    }
    let status = child.wait().expect("it is ours");
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(question.is_none(), "{question:?} was not asked\n{shown}");
    (status.code(), shown)
}

#[test]
fn a_person_is_asked_and_nothing_is_written_before_the_end() {
    let host = Host::start();
    let _shop = host.shop();
    let (way, draft, write) = ("[none] ", "Shall this draft count", "Write these files?");
    let (interrupt, end) = ("\u{3}", "\u{4}");
    for (dialogue, code) in [
        (&[(way, interrupt)][..], 130),
        (&[(way, "\n"), (draft, "y\n"), (write, interrupt)], 130),
        (&[(way, "none\n"), (draft, "n\n"), (write, "n\n")], 1),
        (&[(way, "none\n"), (draft, end)], 1),
    ] {
        let (ended, shown) = typed(&host, dialogue);
        assert_eq!(ended, Some(code), "{dialogue:?}\n{shown}");
        let says = shown.contains("nothing was written");
        assert_eq!(says, code == 1, "{dialogue:?}\n{shown}");
        assert!(!host.directory().exists(), "{dialogue:?}\n{shown}");
    }
    let again = "one of unit, compose, none, please";
    let dialogue = [
        (way, "x\n"),
        (again, "none\n"),
        (draft, "no\n"),
        (write, "\n"),
    ];
    let (ended, shown) = typed(&host, &dialogue);
    assert_eq!(ended, Some(0), "{shown}");
    assert!(host.read("policy.toml").contains("\n#[[rules]]\n"));
}

/// It starts the agent by compose, and waits until that is ready.
#[test]
fn it_starts_what_it_has_written() {
    let host = Host::start();
    let _shop = host.shop();
    host.engine
        .load_image(concat!("dfw:", env!("CARGO_PKG_VERSION")), &[]);
    if host.engine.major_version() < 23 {
        let output = process::output(&mut host.init(&["--yes", "--agent=compose"]));
        assert!(
            said(&output).contains("does not know CAP_BPF"),
            "{}",
            said(&output)
        );
        assert!(
            said(&output).contains("written; start the agent"),
            "{}",
            said(&output)
        );
        return;
    }
    let agent = Agent::start(
        host.engine.host(),
        &["--docker-host", &host.engine.socket()],
    );
    fs::create_dir(host.directory()).expect("new");
    let socket = format!("socket = {:?}\n", agent.socket());
    fs::write(host.directory().join("dfw.toml"), socket).expect("written");
    let bin = host.scratch.path().join("bin");
    fs::create_dir(&bin).expect("new");
    let log = host.scratch.path().join("log");
    let docker = format!("#!/bin/sh\necho \"$DOCKER_HOST $*\" >> {}\n", log.display());
    let fake = host.scratch.file("bin/docker", &docker);
    fs::set_permissions(fake, fs::Permissions::from_mode(0o755)).expect("mine");
    let mut init = host.init(&["--yes", "--agent=compose"]);
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let shown = process::run(init.env("PATH", path));
    assert!(
        shown.contains("the agent runs: 3 endpoints, in audit"),
        "{shown}"
    );
    let compose = host.directory().join("compose.yaml");
    let up = format!(
        "{} compose --file {} up --detach\n",
        host.engine.socket(),
        compose.display()
    );
    let called = fs::read_to_string(log).expect("it was called");
    assert!(called.ends_with(&up), "{called}");
}
