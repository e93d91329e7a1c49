//! The demo tells its story on an engine and on namespaces, and leaves nothing behind.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use dfw_tests::{
    process,
    scratch::{self, Scratch},
};

/// Said on either stage.
const KEY_LINES: [&str; 11] = [
    "✔ web, api and db are open to it, over IPv4 and IPv6",
    "✔ not one of 18 tries got any answer, over IPv4 or IPv6",
    "✔ web -> api over IPv4 and IPv6",
    "✔ api -> db over IPv4 and IPv6",
    "✔ web -> db is denied",
    r#"dfw_packets_total{direction="ingress",verdict="deny",reason="no-rule"}"#,
    r#"dfw_endpoint_packets_total{project="shop",service="db",direction="ingress",verdict="deny"}"#,
    "✔ attacker -> legacy:9100 passes over IPv4 and IPv6",
    r#"dfw_endpoint_packets_total{project="other",service="legacy",direction="ingress",verdict="audit"}"#,
    "✔ dfw ls answers",
    "checks hold.",
];

#[test]
fn on_an_engine() {
    let printed = demo(&Scratch::new(), &[]);
    assert!(
        printed.contains("stage: containers on a Docker engine"),
        "{printed}"
    );
}

#[test]
fn on_namespaces() {
    let printed = demo(&Scratch::new(), &["--namespaces"]);
    assert!(printed.contains("stage: network namespaces"), "{printed}");
}

#[test]
fn what_is_kept_can_be_removed() {
    let temporary = Scratch::new();
    let printed = run(&temporary, &["--namespaces", "--keep"]);
    let namespace = printed
        .split("nsenter --net=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("it names a namespace to enter");
    assert!(Path::new(namespace).exists(), "{printed}");
    let socket = printed
        .split("--socket ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .expect("it names the agent's socket");
    let mut status = Command::new(dfw_tests::agent::binary());
    process::run(status.args(["status", "--socket", socket]));

    run(&temporary, &["--clean"]);
    assert!(!Path::new(namespace).exists());
    assert_empty(&temporary);
}

#[track_caller]
fn demo(temporary: &Scratch, arguments: &[&str]) -> String {
    let printed = run(temporary, arguments);
    for line in KEY_LINES {
        assert!(printed.contains(line), "{line}: not in\n{printed}");
    }
    assert!(!printed.contains('\x1b'), "no colours without a terminal");
    assert_empty(temporary);
    printed
}

/// Runs it with a directory for temporary files of its own, so that what it leaves there is seen.
#[track_caller]
fn run(temporary: &Scratch, arguments: &[&str]) -> String {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.args(arguments).env("TMPDIR", temporary.path());
    let child = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the demo is built");
    let prefix = scratch::prefix(child.id());
    let output = child.wait_with_output().expect("the child is ours");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{printed}{said}",
        output.status
    );
    if !arguments.contains(&"--keep") {
        let left: Vec<_> = fs::read_dir("/run/netns")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}\n{printed}{said}");
    }
    printed
}

/// Neither files nor anything mounted; a process that goes on would have its log, its socket or its root there.
#[track_caller]
fn assert_empty(temporary: &Scratch) {
    let left: Vec<_> = fs::read_dir(temporary.path())
        .expect("the directory is the test's own")
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
