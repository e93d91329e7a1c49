//! `dfw check` on what people get wrong: each message as it is printed, with its place and remedy.

use serde_json::json;

use super::{
    code,
    mistakes::{LABELS, labels, project, projects},
    run_with_input, stderr, stdout,
};

/// What the command prints of this input, and that it found something, and where.
fn said(input: &str) -> String {
    let output = run_with_input(&["check", "-"], input);
    let printed = stdout(&output);
    let ended = (code(&output), stderr(&output));
    assert_eq!(ended, (3, String::new()), "{input}: {printed}");
    assert!(printed.contains("\n  --> "), "no place: {input}: {printed}");
    printed
}

#[test]
fn sets_of_labels() {
    let said = LABELS.map(said);
    insta::assert_snapshot!(said.join("\n---\n\n"));
}

#[test]
fn compose_projects() {
    let said: Vec<String> = projects().iter().map(|project| said(project)).collect();
    insta::assert_snapshot!(said.join("\n---\n\n"));
}

/// What is right is not talked about.
#[test]
fn nothing_to_say() {
    let fine = [
        // Another project's service, which is not at hand; a peer without rules; both ends; a closed end that says so.
        project(&json!({ "db": labels(&[("ingress", "tcp/5432 from service:other/api,group:ops,container:x,net:y,label:k=v")]) })),
        project(&json!({ "db": labels(&[("ingress", "tcp/5432 from service:web")]), "web": {} })),
        project(&json!({
            "db": labels(&[("ingress", "tcp/5432 from service:web"), ("mode", "audit")]),
            "web": labels(&[("ingress", ""), ("egress", "tcp/5432 to service:db; udp/53 to any")]),
        })),
        project(&json!({
            "db": labels(&[("ingress", "any from project:shop; deny tcp/22 from service:web")]),
            "web": labels(&[("ingress", ""), ("egress", "tcp/1-65535,udp/53 to service:db")]),
        })),
        json!({ "services": { "web": { "labels": { "dfw.ingress": "tcp/80 from 203.0.113.0/24" }, "ports": [{ "target": 80, "published": "80" }] } } }).to_string(),
    ];
    for project in fine {
        let output = run_with_input(&["check", "-"], &project);
        assert_eq!(code(&output), 0, "{project}: {}", stdout(&output));
    }
}
