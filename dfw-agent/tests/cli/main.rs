//! The binary as a user meets it: exit codes, messages, precedence, and the commands against a served socket.

mod check;
mod explain;
mod live;
mod served;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use dfw_agent::model::{EndpointView, Refused, View};

use self::served::{Served, view};

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
    let wrong: [&[&str]; 13] = [
        &["mode", "service:shop/db"],
        &["mode", "world", "off"],
        &["mode", "service:db", "off"],
        &["mode", "any", "of"],
        &["mode", "any", "off", "--clear"],
        &["mode", "any", "off", "--for", "10"],
        &["mode", "any", "--clear", "--for", "10m"],
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
    let commands: [&[&str]; 8] = [
        &["status"],
        &["ls"],
        &["observe"],
        &["top"],
        &["explain", "web", "db", "tcp/5432"],
        &["reload"],
        &["mode"],
        &["mode", "any", "off"],
    ];
    for command in commands {
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
    dfw: error: FILE:2:1: unknown field `sockets`, expected one of `docker-host`, `inventory`, `unlabelled`, `policy`, `label-prefix`, `listen`, `socket`, `bpffs`, `fast-path`, `log-format`, `log-level`
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
        "observe",
        "top",
        "check",
        "explain",
        "reload",
        "mode",
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
fn a_policy_file_is_checked_before_it_is_taken_over() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("policy.toml");
    let place = file.to_str().expect("UTF-8");
    let check = |text: &str| {
        fs::write(&file, text).expect("written");
        let output = run(&["check", place]);
        (
            code(&output),
            stdout(&output).replace(place, "FILE") + &stderr(&output),
        )
    };
    let right = "[[rules]]\nfor = \"any\"\ningress = \"tcp/80 from any; tcp/81 from host\"\n";
    assert_eq!(check(right), (0, "ok: 2 rules for the node\n".to_owned()));
    let (code, said) = check(&right.replace("host", "hosts"));
    assert_eq!(code, 3);
    insta::assert_snapshot!(said, @r"
    error[unknown-peer]: unknown peer `hosts`: did you mean `host`?
      --> FILE:3:41
       |
       | tcp/80 from any; tcp/81 from hosts
       |                              ^^^^^

    1 error: the file would change nothing
    ");
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

#[test]
fn an_order_that_is_refused_says_why() {
    let served = Served::new(view());
    let output = served.run(&["reload"]);
    assert_eq!(code(&output), 78);
    insta::assert_snapshot!(stdout(&output) + &stderr(&output), @r"
    error[port-range]: 0 is out of range
      --> /etc/dfw/policy.toml:3:11
       |
       | tcp/0 from any
       | ^^^^^

    dfw: error: Reload
    hint: put that right
    ");
    let output = served.run(&["mode", "service:shop/dbb", "off", "--for", "10m"]);
    assert_eq!(code(&output), 1);
    insta::assert_snapshot!(stdout(&output) + &stderr(&output), @r#"
    dfw: error: Switch(SwitchOrder { selector: "service:shop/dbb", mode: Some("off"), seconds: Some(600) })
    hint: put that right
    "#);
    let output = served.run(&["mode", "any", "--clear", "-o", "json"]);
    assert_eq!(code(&output), 1);
    serde_json::from_slice::<Refused>(&output.stdout).expect("JSON");
}

#[test]
fn a_selector_or_mode_that_is_misspelt_is_told() {
    let said = |arguments: &[&str]| {
        let said = stderr(&run(arguments));
        said.lines().next().unwrap_or_default().to_owned()
    };
    insta::assert_snapshot!(said(&["mode", "servce:shop/db", "off"]), @"error: invalid value 'servce:shop/db' for '[SELECTOR]': unknown peer `servce:shop/db`: did you mean `service:`?");
    insta::assert_snapshot!(said(&["mode", "shop/db", "off"]), @"error: invalid value 'shop/db' for '[SELECTOR]': unknown peer `shop/db`: did you mean `service:shop/db`?");
    insta::assert_snapshot!(said(&["mode", "service:db", "off"]), @"error: invalid value 'service:db' for '[SELECTOR]': `service:db` names no project, and there is none here to take: write service:PROJECT/db");
    insta::assert_snapshot!(said(&["mode", "any", "enforced"]), @"error: invalid value 'enforced' for '[MODE]': did you mean `enforce`?");
    insta::assert_snapshot!(said(&["mode", "any", "off", "--for", "10 minutes"]), @"error: invalid value '10 minutes' for '--for <TIME>': write a number and a unit: 30s, 5m, 2h, 1d");
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
