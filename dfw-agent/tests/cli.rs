//! The binary as a user meets it: exit codes, messages, precedence, and the commands against a served socket.

use std::{
    error::Error,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use dfw_agent::{
    model::{
        BoundNetwork, Container, Endpoint, EndpointView, Inventory, LABEL_PROJECT, LABEL_SERVICE,
        Network, View,
    },
    policy::{Compiler, Held, InForce, Mode, Options},
    telemetry::{Kernel, KernelFigures, Metrics, http, listen},
};
use tokio::sync::{Notify, watch};

/// The binary, with nothing of this process's configuration.
fn dfw(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfw"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DFW_")) {
        command.env_remove(name);
    }
    command.env_remove("DOCKER_HOST");
    command
}

fn run(arguments: &[&str]) -> Output {
    dfw(arguments).output().expect("the binary runs")
}

fn run_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = dfw(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn help_and_version_are_results() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["--version"],
        &["ls", "--help"],
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    let wrong: [&[&str]; 6] = [
        &[],
        &["nonsense"],
        &["ls", "--output", "xml"],
        &["run", "--unlabelled", "maybe"],
        &["run", "--listen", "10339"],
        &["man", "nonsense"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn no_agent_is_69_with_the_remedy() {
    for command in [
        &["status"][..],
        &["ls"],
        &["explain", "web", "db", "tcp/5432"],
    ] {
        let output = run(&[command, &["--socket", "/nonexistent/dfw.sock"]].concat());
        assert_eq!(code(&output), 69);
        insta::allow_duplicates! {
            insta::assert_snapshot!(stderr(&output), @r"
            dfw: error: no agent answers on /nonexistent/dfw.sock
            hint: start it with `dfw run`, or name its socket with --socket
            ");
        }
        assert!(output.stdout.is_empty());
    }
}

/// The kernel and the file system are the machine's own, so only the agent's part is known beforehand.
#[test]
fn doctor_needs_no_agent_and_says_that_there_is_none() {
    let output = run(&["doctor", "--socket", "/nonexistent/dfw.sock", "-o", "json"]);
    assert_eq!(code(&output), 3);
    assert!(output.stderr.is_empty());
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = checks.as_array().expect("a list");
    let named = |name| checks.iter().find(|check| check["name"] == name);
    insta::assert_snapshot!(named("agent").expect("looked at"), @r#"{"details":["start it with `dfw run`, or name its socket with --socket"],"name":"agent","seen":"no agent answers on /nonexistent/dfw.sock","state":"broken"}"#);
    for name in ["kernel", "bpffs", "capabilities"] {
        assert!(named(name).is_some(), "{name} in {checks:#?}");
    }
}

#[test]
fn a_wrong_configuration_is_78_with_its_place() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("dfw.toml");
    fs::write(&file, "unlabelled = \"audit\"\nsockets = 1\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let output = run(&["run", "--config", file]);
    assert_eq!(code(&output), 78);
    insta::assert_snapshot!(stderr(&output).replace(file, "FILE"), @r#"
    dfw: error: FILE:2:1: unknown field `sockets`, expected one of `docker-host`, `inventory`, `unlabelled`, `label-prefix`, `listen`, `socket`, `bpffs`, `log-format`, `log-level`
    hint: the keys are the flags of `dfw run --help` without the dashes in front, as in label-prefix = "dfw."
    "#);

    let output = run(&["run", "--config", "/nonexistent/dfw.toml"]);
    assert_eq!(code(&output), 78);
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: cannot read the configuration /nonexistent/dfw.toml: No such file or directory (os error 2)
    hint: name a file that exists and that this user may read with --config
    ");

    let output = run(&["run", "--listen", "0.0.0.0:10339"]);
    assert_eq!(code(&output), 78);
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: listen address 0.0.0.0:10339 is not a loopback address
    hint: metrics are served without TLS or authentication: use 127.0.0.1 or [::1] and let a proxy that has both publish them
    ");

    let output = run(&["check", "--label-prefix", "dfw", "-"]);
    assert_eq!(code(&output), 78);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("dfw.toml");
    fs::write(&file, "socket = \"/nonexistent/file\"\n").expect("written");
    let asked = |flag: Option<&str>, variable: Option<&str>| {
        let mut command = dfw(&["status"]);
        command
            .env("DFW_CONFIG", &file)
            .args(flag.map(|path| format!("--socket={path}")));
        command.envs(variable.map(|path| ("DFW_SOCKET", path)));
        stderr(&command.output().expect("the binary runs"))
    };
    let (flag, variable) = ("/nonexistent/flag", "/nonexistent/variable");
    assert!(asked(Some(flag), Some(variable)).contains(flag));
    assert!(asked(None, Some(variable)).contains(variable));
    assert!(asked(None, None).contains("/nonexistent/file"));
}

#[test]
fn nobody_reading_is_no_error() {
    let mut child = dfw(&["man"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn the_manual_and_the_completions_know_every_command() {
    let commands = [
        "run",
        "status",
        "ls",
        "check",
        "explain",
        "uninstall",
        "completions",
        "man",
    ];
    let manual = stdout(&run(&["man"]));
    for command in commands {
        assert!(manual.contains(&format!(".TH dfw-{command} ")), "{command}");
        let page = stdout(&run(&["man", command]));
        assert!(
            page.starts_with(".ie") && page.matches(".TH ").count() == 1,
            "{command}: {page}"
        );
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&run(&["completions", shell]));
        assert!(
            commands.iter().all(|command| script.contains(command)),
            "{shell}"
        );
    }
}

#[test]
fn check_reads_what_it_is_given() {
    let output = run_with_input(&["check", "-"], "dfw.ingress: tcp/5432 from cidr\n");
    assert!([0, 3].contains(&code(&output)), "{}", stderr(&output));

    let output = run_with_input(&["check", "-"], "no label");
    assert_eq!((code(&output), stdout(&output).as_str()), (78, ""));

    let output = run(&["check", "/nonexistent/compose.json"]);
    assert_eq!(code(&output), 1);
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: cannot read /nonexistent/compose.json: No such file or directory (os error 2)
    hint: name a text file, or `-` for standard input
    ");

    let output = run_with_input(&["check", "-"], "services:\n  db:\n    image: x\n");
    assert_eq!(code(&output), 78);
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: cannot make sense of stdin: YAML is read by docker compose only
    hint: pipe it in: `docker compose config --format json | dfw check -`
    ");

    let project = r#"{"name":"shop","services":{"db":{"labels":{"dfw.mode":"audit"}},"web":{}}}"#;
    let output = run_with_input(&["check", "-"], project);
    assert_eq!(stdout(&output), "ok: 2 containers, 1 with dfw. labels\n");
    let output = run_with_input(&["check", "-o", "json", "-"], project);
    assert_eq!(stdout(&output), "[]\n");
}

#[test]
fn a_compose_file_goes_through_docker_compose() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("compose.yaml");
    fs::write(&file, "services: {}\n").expect("written");
    let docker = directory.path().join("docker");
    let check = |script: Option<&str>| {
        let _ = fs::remove_file(&docker);
        if let Some(script) = script {
            fs::write(&docker, format!("#!/bin/sh\n{script}\n")).expect("written");
            fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("ours");
        }
        let mut command = dfw(&["check"]);
        let output = command.arg(&file).env("PATH", directory.path()).output();
        let output = output.expect("the binary runs");
        let place = file.to_str().expect("UTF-8");
        (
            code(&output),
            stdout(&output) + &stderr(&output).replace(place, "FILE"),
        )
    };

    let answer = r#"[ "$*" = "compose --file $3 config --format json" ] || exit 9
        echo '{"name":"shop","services":{"db":{}}}'"#;
    assert_eq!(
        check(Some(answer)),
        (0, "ok: 1 container, 0 with dfw. labels\n".to_owned())
    );

    let mut command = dfw(&["check", "-f", "a.yaml", "b.yml", "c.json"]);
    command
        .current_dir(directory.path())
        .env("PATH", directory.path());
    fs::write(directory.path().join("a.yaml"), "").expect("written");
    fs::write(directory.path().join("b.yml"), "").expect("written");
    let alone = r#"{"name":"other","services":{"api":{}}}"#;
    fs::write(directory.path().join("c.json"), alone).expect("written");
    let merge = r#"[ "$*" = "compose --file a.yaml --file b.yml config --format json" ] || exit 9
        echo '{"name":"shop","services":{"db":{},"web":{}}}'"#;
    fs::write(&docker, format!("#!/bin/sh\n{merge}\n")).expect("written");
    let output = command.output().expect("the binary runs");
    assert_eq!(
        stdout(&output),
        "ok: 3 containers, 0 with dfw. labels\n",
        "{}",
        stderr(&output)
    );

    for absent in [
        None,
        Some("echo unknown command: docker compose >&2; exit 1"),
    ] {
        let (code, said) = check(absent);
        assert_eq!(code, 78);
        insta::allow_duplicates! {
            insta::assert_snapshot!(said, @r"
            dfw: error: cannot make sense of FILE: YAML is read by `docker compose`, which is not installed
            hint: pipe it in: `docker compose config --format json | dfw check -`
            ");
        }
    }

    let (code, said) = check(Some(
        "[ $2 = version ] && exit 0; echo level=warning TAG is not set >&2; echo services must be a mapping >&2; exit 1",
    ));
    assert_eq!(code, 78);
    insta::assert_snapshot!(said, @r"
    dfw: error: cannot make sense of FILE: services must be a mapping
    hint: put right what docker compose says of it
    ");
}

/// A kernel on which nothing happens.
struct Idle;

impl Kernel for Idle {
    fn read(&self) -> Result<KernelFigures, Box<dyn Error + Send + Sync>> {
        Ok(KernelFigures::default())
    }
}

/// The command socket with a fixed view; ends when told to stop, as the agent does.
struct Served {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn new(view: View) -> Self {
        Self::with(view, None)
    }

    fn with(view: View, in_force: Option<InForce>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("dfw.sock");
        let stop = Arc::new(Notify::new());
        let (ready, is_ready) = mpsc::channel();
        let (path, told) = (socket.clone(), Arc::clone(&stop));
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
                    stop: Arc::clone(&told),
                };
                ready.send(()).expect("somebody waits");
                http::serve(listener, http::commands(shared), told.notified()).await;
            });
        });
        is_ready.recv().expect("it starts");
        Self {
            _directory: directory,
            socket,
            stop,
            thread: Some(thread),
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        dfw(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .expect("the binary runs")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.notify_one();
        let thread = self.thread.take().expect("joined once");
        assert!(thread.join().is_ok() || thread::panicking());
    }
}

fn view() -> View {
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
        }],
        ..View::default()
    }
}

#[test]
fn status_and_ls_ask_the_agent() {
    let served = Served::new(view());
    let output = served.run(&["ls"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    insta::assert_snapshot!(stdout(&output), @r"
    ENDPOINT  CONTAINER           NETWORK       INTERFACE  ADDRESSES   MODE     STATE  RULES
    shop/db   shop-db-1\u{1b}[2J  shop_default  veth0007   172.18.0.2  enforce  ready  1
    ");
    let endpoints: Vec<EndpointView> =
        serde_json::from_slice(&served.run(&["ls", "-o", "json"]).stdout).expect("JSON");
    assert_eq!(endpoints, view().endpoints);

    let output = served.run(&["status"]);
    assert!(
        stdout(&output).starts_with("agent        1.2.3, ready\n"),
        "{}",
        stdout(&output)
    );
    let seen: View =
        serde_json::from_slice(&served.run(&["status", "-o", "json"]).stdout).expect("JSON");
    assert_eq!(seen, view());
}

/// A shop of web and db on one network; web may go to db, which lets nobody in.
fn shop() -> InForce {
    let service = |name: &str, number: u8, label: (&str, &str)| Endpoint {
        ifindex: number.into(),
        interface: format!("veth{number}"),
        network: 5,
        container: Arc::new(Container {
            id: name.to_owned(),
            name: format!("shop-{name}-1"),
            labels: [(LABEL_PROJECT, "shop"), (LABEL_SERVICE, name), label]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Container::default()
        }),
        mac: format!("02:00:00:00:00:0{number}").parse().expect("MAC"),
        addresses: vec![[172, 18, 0, number].into()],
    };
    let network = Network {
        id: "net".to_owned(),
        name: "shop_default".to_owned(),
        project: Some("shop".to_owned()),
        short_name: Some("default".to_owned()),
        bridge: "br-0".to_owned(),
        subnets: vec!["172.18.0.0/16".parse().expect("net")],
    };
    let inventory = Inventory {
        endpoints: vec![
            service("web", 2, ("dfw.egress", "any to service:db")),
            service("db", 3, ("dfw.mode", "enforce")),
            service("cron\u{1b}[2J", 4, ("dfw.mode", "audit")),
        ],
        networks: vec![BoundNetwork {
            ifindex: 5,
            network,
            foreign_ports: Vec::new(),
        }],
        ..Inventory::default()
    };
    let options = Options {
        unlabelled: Mode::Audit,
        prefix: "dfw.".to_owned(),
    };
    let compiled = Compiler::new(1, Held::default()).compile(&inventory, &options);
    InForce {
        inventory,
        compiled,
        prefix: options.prefix,
    }
}

#[test]
fn explain_tells_what_is_denied_and_what_is_missing() {
    let served = Served::with(view(), Some(shop()));
    let output = served.run(&["explain", "shop/web", "shop/db", "tcp/5432"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (3, ""));
    insta::assert_snapshot!(stdout(&output), @r#"
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress: "tcp/5432 from service:web"
    "#);

    let output = served.run(&["explain", "cron\u{1b}[2J", "172.18.0.99", "udp/53"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    insta::assert_snapshot!(stdout(&output), @r"egress   shop/cron\u{1b}[2J   audit   the peer's address belongs to a managed network, but to no known endpoint; passes all the same, for dfw.mode is audit");

    let output = served.run(&["explain", "web", "db", "tcp/5432", "-o", "json"]);
    assert_eq!(code(&output), 3);
    insta::assert_snapshot!(stdout(&output), @r#"{"passes":false,"paths":[{"pairs":[{"from":"shop-web-1","to":"shop-db-1","family":"IPv4"}],"passes":false,"sides":[{"direction":"egress","endpoint":"shop/web","mode":"enforce","governed":true,"verdict":"allow","reason":"allowed","rule":{"label":"dfw.egress","text":"any to service:db"},"why":"dfw.egress: \"any to service:db\"","hint":null},{"direction":"ingress","endpoint":"shop/db","mode":"enforce","governed":true,"verdict":"deny","reason":"no-rule","rule":null,"why":"nothing allows it","hint":{"on":"db","text":"dfw.ingress: \"tcp/5432 from service:web\""}}]}],"notes":[]}"#);

    let output = served.run(&["explain", "wbe", "db", "tcp/5432"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (2, ""));
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: nobody here is called `wbe`
    hint: did you mean `web`?
    ");

    let long = "a".repeat(5000);
    let output = served.run(&["explain", &long, "db", "tcp/5432"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (2, ""));
}

/// Without an agent, of what is only planned.
#[test]
fn explain_reads_compose_files() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("compose.json");
    let project = r#"{"name":"shop","networks":{"back":{"enable_ipv6":true},"lan":{"driver":"macvlan"}},"services":{
        "web":{"labels":{"dfw.egress":"any to service:db"},"networks":{"back":null}},
        "db":{"labels":{"dfw.ingress":"tcp/5432 from service:api"},"networks":{"back":{"ipv4_address":"172.18.0.9"}}},
        "cron":{"networks":["back"]},
        "printer":{"networks":["lan"]},
        "probe":{"network_mode":"service:db"}}}"#;
    fs::write(&file, project).expect("written");
    let file = file.to_str().expect("UTF-8");
    let explain = |arguments: &[&str]| {
        let output = run(&[&["explain", "-f", file], arguments].concat());
        let said = stdout(&output) + &stderr(&output);
        (code(&output), said.replace(file, "FILE"))
    };
    let (code, said) = explain(&["web", "db", "tcp/5432"]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(said, @r#"
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress.web: "tcp/5432 from service:web"
    "#);
    let (code, said) = explain(&["web", "172.18.0.9", "tcp/5432", "-o", "json"]);
    assert_eq!(code, 3);
    assert!(
        said.contains(r#""to":"db","family":"IPv4""#)
            && !said.contains("IPv6")
            && said.ends_with("\"notes\":[]}\n"),
        "{said}"
    );
    let (code, said) = explain(&["web", "probe", "tcp/5432"]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(said, @r#"
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress.web: "tcp/5432 from service:web"
    note: `shop/probe` shares the network of `shop/db`, whose rules govern it
    "#);
    let (code, said) = explain(&["cron", "host", "udp/53"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(said, @"egress   shop/cron   audit   nothing allows it; passes all the same, for it has no rules, and the node's --unlabelled is audit");
    let (code, _) = explain(&["cron", "host", "udp/53", "--unlabelled", "enforce"]);
    assert_eq!(code, 3);
    let (code, said) = explain(&["printer", "db", "tcp/5432"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(said, @r"
    dfw: error: `printer` has no port that is governed: macvlan
    hint: name somebody whom `dfw ls` lists
    ");
    let (code, said) = explain(&["web", "dbb", "tcp/5432"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(said, @r"
    dfw: error: nobody here is called `dbb`
    hint: did you mean `db`?
    ");

    let by_address = project.replace("service:api", "172.16.0.0/12");
    fs::write(file, by_address).expect("written");
    let (code, said) = explain(&["web", "db", "tcp/5432"]);
    assert_eq!(code, 3, "IPv6 is not in that net");
    insta::assert_snapshot!(said, @r#"
    web -> db (IPv4):
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    allow   dfw.ingress: "tcp/5432 from 172.16.0.0/12"

    web -> db (IPv6):
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress.web: "tcp/5432 from service:web"
    note: addresses are invented, so rules by address may say otherwise once it runs
    "#);

    let labels = directory.path().join("labels");
    fs::write(&labels, "dfw.ingress: tcp/80 from any").expect("written");
    let labels = labels.to_str().expect("UTF-8");
    let output = run(&["explain", "-f", labels, "a", "b", "tcp/80"]);
    assert_eq!(self::code(&output), 78);
    insta::assert_snapshot!(stderr(&output).replace(labels, "FILE"), @r"
    dfw: error: FILE is no compose project, which says who is on which network
    hint: name compose files, or what `docker compose config --format json` prints
    ");
    let output = run(&["explain", "-f", file, "--socket", "/x", "a", "b", "tcp/80"]);
    assert_eq!(self::code(&output), 2);
}

#[test]
fn explain_waits_for_what_is_in_force() {
    let served = Served::new(view());
    let output = served.run(&["explain", "web", "db", "tcp/5432"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (69, ""));
    let socket = served.socket.to_str().expect("UTF-8");
    insta::assert_snapshot!(stderr(&output).replace(socket, "SOCKET"), @r"
    dfw: error: the agent on SOCKET has put nothing in force yet
    hint: ask again in a moment; `dfw status` tells what it waits for
    ");
}

#[test]
fn uninstall_ends_the_agent_first_and_may_be_repeated() {
    let served = Served::new(view());
    let bpffs = tempfile::tempdir().expect("directory");
    let bpffs = bpffs.path().to_str().expect("UTF-8");
    let uninstall = || {
        let output = served.run(&["uninstall", "--bpffs", bpffs, "-o", "json"]);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
        let done: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        done["stopped_agent"].as_bool().expect("told")
    };
    assert!(uninstall());
    assert!(
        !Path::new(&served.socket).exists(),
        "the agent took its socket along"
    );
    assert!(!uninstall());
}

#[test]
fn what_is_not_an_agent_is_69() {
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let other = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream
            .write_all(b"220 mail.example.com ESMTP\r\n")
            .expect("written");
    });
    let output = run(&["status", "--socket", socket.to_str().expect("UTF-8")]);
    other.join().expect("it ends");
    assert_eq!(code(&output), 69, "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: "), "{}", stderr(&output));
}
