//! Who is governed, in which mode, and what a bad label does: docs/semantics.md section 1.

use std::sync::Arc;

use dfw_common::key::proto::TCP;

use super::node::{Node, alone, codes, container, options, service};
use crate::{
    model::{Container, Level, Published, Unprotected},
    policy::{Compiled, CompiledEndpoint, Compiler, Held, Mode, State},
};

type Labels = &'static [(&'static str, &'static str)];

fn endpoint(labels: &[(&str, &str)], unlabelled: Mode) -> CompiledEndpoint {
    let node = alone(container("c", labels));
    let compiled = Compiler::new(1, Held::default()).compile(&node.0, &options(unlabelled));
    compiled.endpoints[&100].clone()
}

#[test]
fn table_of_labels() {
    // Labels, governed, mode, whether a policy of its own.
    let table: [(Labels, bool, Mode, bool); 9] = [
        (&[], false, Mode::Audit, false),
        (&[("dfw.group", "g")], false, Mode::Audit, false),
        (&[("dfw.ingress", "")], true, Mode::Enforce, false),
        (&[("dfw.egress.x", "any to any")], true, Mode::Enforce, true),
        (
            &[("dfw.ingress", "any from any"), ("dfw.mode", "audit")],
            true,
            Mode::Audit,
            true,
        ),
        (&[("dfw.mode", "enforce")], true, Mode::Enforce, false),
        (&[("dfw.mode", "audit")], true, Mode::Audit, false),
        (&[("dfw.mode", "off")], true, Mode::Off, false),
        (
            &[("dfw.ingress", "any from any"), ("dfw.mode", "off")],
            true,
            Mode::Off,
            false,
        ),
    ];
    for (labels, governed, mode, policy) in table {
        let endpoint = endpoint(labels, Mode::Audit);
        assert_eq!(
            (endpoint.governed, endpoint.mode),
            (governed, mode),
            "{labels:?}"
        );
        assert_eq!(endpoint.policy != 0, policy, "{labels:?}");
        assert_eq!(endpoint.state, State::Ready);
    }
}

#[test]
fn unlabelled_follows_the_node() {
    for mode in Mode::ALL {
        let endpoint = endpoint(&[("dfw.group", "g")], mode);
        assert_eq!(
            (endpoint.mode, endpoint.policy, endpoint.governed),
            (mode, 0, false)
        );
    }
}

#[test]
fn prefix_is_changeable() {
    let node = alone(container(
        "c",
        &[("fw/ingress", "any from any"), ("dfw.ingress", "bad")],
    ));
    let options = crate::policy::Options {
        unlabelled: Mode::Audit,
        prefix: "fw/".to_owned(),
        ..crate::policy::Options::default()
    };
    let compiled = Compiler::new(1, Held::default()).compile(&node.0, &options);
    assert_eq!(
        compiled.endpoints[&100].rules,
        ["fw/ingress: \"any from any\""]
    );
    assert_eq!(compiled.findings, []);
}

#[test]
fn bad_label_allows_nothing_and_its_mode_counts() {
    let table: [(Labels, Mode); 5] = [
        (&[("dfw.ingress", "bad")], Mode::Enforce),
        (
            &[("dfw.ingress", "bad"), ("dfw.mode", "audit")],
            Mode::Audit,
        ),
        (&[("dfw.ingress", "bad"), ("dfw.mode", "off")], Mode::Off),
        (&[("dfw.mode", "audits")], Mode::Enforce),
        (&[("dfw.ingres", "any from any")], Mode::Enforce),
    ];
    for (labels, mode) in table {
        let endpoint = endpoint(labels, Mode::Audit);
        assert_eq!((endpoint.mode, endpoint.policy), (mode, 0), "{labels:?}");
        assert_eq!((endpoint.state, endpoint.governed), (State::Error, true));
    }
}

#[test]
fn bad_label_is_an_error_of_that_container_alone() {
    let bad = Arc::new(container("bad", &[("dfw.ingress", "tcp/80 from nobody:x")]));
    let good = Arc::new(container("good", &[("dfw.ingress", "tcp/80 from any")]));
    let node = Node::default()
        .network(10, "lan", &["10.0.0.0/24"])
        .endpoint(100, 10, &bad, &["10.0.0.2"])
        .endpoint(101, 10, &good, &["10.0.0.3"]);
    let compiled = node.compile();
    assert_eq!(compiled.endpoints[&101].state, State::Ready);
    assert_ne!(compiled.endpoints[&101].policy, 0);
    let subjects: Vec<&str> = compiled
        .findings
        .iter()
        .map(|f| f.subject.as_str())
        .collect();
    assert_eq!(subjects, ["bad"]);
}

#[test]
fn last_good_policy_stays_until_the_container_is_gone() {
    let mut compiler = Compiler::new(1, Held::default());
    let mut compile = |labels: &[(&str, &str)]| -> Compiled {
        compiler.compile(&alone(container("c", labels)).0, &options(Mode::Audit))
    };
    let good = compile(&[
        ("dfw.ingress", "tcp/80 from any"),
        ("dfw.mode", "audit"),
        ("dfw.group", "g"),
    ]);
    let bad = compile(&[("dfw.ingress", "tcp/x from any"), ("dfw.mode", "enforce")]);
    let (before, after) = (&good.endpoints[&100], &bad.endpoints[&100]);
    assert_eq!((after.policy, &after.rules), (before.policy, &before.rules));
    assert_eq!((after.mode, after.state), (Mode::Enforce, State::Error));
    assert_eq!(after.service, "g");
    // A mode that cannot be read stays what it was.
    let bad_mode = compile(&[("dfw.ingress", "tcp/80 from any"), ("dfw.mode", "x")]);
    assert_eq!(bad_mode.endpoints[&100].mode, Mode::Audit);
    // Its labels were taken away: nothing is kept for a later mistake.
    compile(&[]);
    assert_eq!(compile(&[("dfw.ingress", "bad")]).endpoints[&100].policy, 0);

    compile(&[("dfw.ingress", "tcp/80 from any")]);
    compiler.compile(&Node::default().0, &options(Mode::Audit));
    let again = alone(container("c", &[("dfw.ingress", "bad")]));
    let again = compiler.compile(&again.0, &options(Mode::Audit));
    assert_eq!(again.endpoints[&100].policy, 0);
}

#[test]
fn joiner_has_no_rules_and_is_no_peer() {
    let owner = Arc::new(container(
        "owner",
        &[("dfw.ingress", "any from group:joined")],
    ));
    let joiner = Arc::new(Container {
        shares: Some("id-owner".to_owned()),
        ..container(
            "joiner",
            &[("dfw.egress", "any to any"), ("dfw.group", "joined")],
        )
    });
    let node = Node::default().network(10, "lan", &["10.0.0.0/24"]);
    let compiled = node
        .endpoint(100, 10, &owner, &["10.0.0.2"])
        .with(&joiner)
        .compile();
    assert_eq!(
        codes(&compiled.findings),
        ["no-such-peer", "rules-on-joiner"]
    );
    let error = &compiled.findings[1];
    assert_eq!(
        (error.level, error.subject.as_str()),
        (Level::Error, "joiner")
    );
    assert_eq!(error.label, "dfw.egress");
}

#[test]
fn image_labels_are_reported() {
    let mut image = container("c", &[]);
    image.image_labels = vec!["dfw.mode".to_owned()];
    let findings = alone(image).compile().findings;
    assert_eq!(codes(&findings), ["image-label"]);
    assert_eq!(
        (findings[0].label.as_str(), findings[0].level),
        ("dfw.mode", Level::Warning)
    );
}

#[test]
fn from_host_meets_a_port_published_beyond_loopback() {
    let published = |rule: &str, host_ip: &str, protocol| {
        let mut web = container("web", &[("dfw.ingress", rule)]);
        let host_ip = super::node::ip(host_ip);
        web.published = vec![Published {
            host_ip,
            host_port: 8080,
            container_port: 80,
            protocol,
        }];
        alone(web).compile().findings
    };
    let findings = published("udp/53 from any; tcp/80 from group:g,host", "0.0.0.0", TCP);
    assert_eq!(codes(&findings), ["host-is-world", "no-such-peer"]);
    assert_eq!(findings[0].span, Some((37, 41)));
    let quiet = [
        published("tcp/80 from host", "127.0.0.1", TCP),
        published("tcp/80 from host", "0.0.0.0", 17),
        published("tcp/81 from host", "0.0.0.0", TCP),
        published("tcp/80 from host,world", "0.0.0.0", TCP),
        published("deny tcp/80 from host", "0.0.0.0", TCP),
    ];
    for findings in quiet {
        assert_eq!(findings, []);
    }
}

#[test]
fn rules_that_do_not_reach_their_container_are_reported() {
    let mut host = container("c", &[("dfw.mode", "enforce")]);
    host.unprotected = vec![Unprotected::Privileged, Unprotected::HostNetwork];
    let node = Node::default().with(&Arc::new(host));
    assert_eq!(codes(&node.compile().findings), ["not-enforced"]);
}

#[test]
fn service_of_the_metrics() {
    let name = |container: Container| {
        let compiled = alone(container).compile();
        let endpoint = &compiled.endpoints[&100];
        (endpoint.project.clone(), endpoint.service.clone())
    };
    let text = |project: &str, service: &str| (project.to_owned(), service.to_owned());
    assert_eq!(
        name(service("shop", "db", &[("dfw.group", "g")])),
        text("shop", "db")
    );
    let swarm = [
        ("com.docker.swarm.service.name", "s_web"),
        ("com.docker.stack.namespace", "s"),
    ];
    assert_eq!(name(container("c", &swarm)), text("s", "s_web"));
    assert_eq!(name(container("c", &[("dfw.group", "z,a")])), text("", "z"));
    assert_eq!(name(container("c", &[])), text("", "other"));
}
