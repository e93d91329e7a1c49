//! One test for each row of docs/semantics.md section 13.

use dfw_common::{
    key::proto::{ICMP, ICMP6, TCP, UDP},
    reason::Direction::{Egress, Ingress},
    value::Address,
};

use super::{
    kernel::Kernel,
    node::{alone, codes, container, ip, labels, service},
};
use crate::{
    model::{Finding, Level},
    policy::{Compiled, DEFAULT_PREFIX, Mode, check_labels, parse_rules},
};

/// Findings of `dfw.ingress` with this value, in compose project `shop`.
fn check(value: &str) -> Vec<Finding> {
    check_labels(
        &labels(&[("dfw.ingress", value)]),
        Some("shop"),
        DEFAULT_PREFIX,
    )
}

/// The only error, as code and the text at its place.
fn error(value: &str) -> (String, String) {
    let findings = check(value);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].level, Level::Error);
    let (start, end) = findings[0].span.expect("a place");
    (
        findings[0].code.clone(),
        findings[0].text[start..end].to_owned(),
    )
}

fn compile(value: &str) -> Compiled {
    alone(container("c", &[("dfw.ingress", value)])).compile()
}

/// Whether a peer of the world may enter.
fn enters(compiled: &Compiled, flow: (u8, u16)) -> bool {
    let kernel = Kernel(compiled);
    let world: Address = kernel.class(10, ip("198.51.100.1"));
    kernel
        .judge(compiled.endpoints[&100].policy, Ingress, world, flow)
        .allowed
}

#[test]
fn empty_ingress_governs_and_nobody_may_enter() {
    let compiled = compile("");
    let endpoint = &compiled.endpoints[&100];
    assert!(endpoint.governed && endpoint.mode == Mode::Enforce && endpoint.policy == 0);
    assert!(compiled.policy.is_empty() && compiled.findings.is_empty());
    assert!(!enters(&compiled, (TCP, 80)));
}

#[test]
fn bare_port_is_an_error() {
    assert_eq!(
        error("80 from any"),
        ("no-protocol".to_owned(), "80".to_owned())
    );
    assert!(check("80 from any")[0].message.contains("write tcp/80"));
}

#[test]
fn bare_port_takes_the_protocol_before_it() {
    let compiled = compile("tcp/80,53 from any");
    assert!(enters(&compiled, (TCP, 80)) && enters(&compiled, (TCP, 53)));
    assert!(!enters(&compiled, (UDP, 53)) && !enters(&compiled, (TCP, 54)));
}

#[test]
fn protocol_alone_is_all_its_ports_and_one_semicolon_may_trail() {
    for text in ["tcp from any;", "tcp\nfrom any", "tcp from any ;\n"] {
        let compiled = compile(text);
        assert_eq!(compiled.findings, []);
        assert!(enters(&compiled, (TCP, 0)) && enters(&compiled, (TCP, 65535)));
        assert!(!enters(&compiled, (UDP, 80)));
    }
    assert_eq!(
        error("tcp from any;;"),
        ("empty-rule".to_owned(), ";".to_owned())
    );
}

#[test]
fn any_takes_no_port() {
    assert_eq!(
        error("any/80 from any"),
        ("any-with-port".to_owned(), "any/80".to_owned())
    );
}

#[test]
fn icmp_is_ipv4_with_a_warning_on_dual_stack() {
    let node = |rule: &str, addresses: &[&str]| {
        let mut node = alone(container("c", &[("dfw.ingress", rule)]));
        node.0.endpoints[0].addresses = addresses.iter().map(|address| ip(address)).collect();
        node.compile()
    };
    let dual = node("icmp from any", &["10.0.0.2", "fd00::2"]);
    assert_eq!(codes(&dual.findings), ["icmp-v4-only"]);
    assert!(enters(&dual, (ICMP, 8)) && !enters(&dual, (ICMP6, 128)));
    let none: [&str; 0] = [];
    assert_eq!(
        codes(&node("icmp from any", &["10.0.0.2", "fe80::2"]).findings),
        none
    );
    for meant in [
        "icmp,icmp6 from any",
        "icmp from any; icmp6 from any",
        "icmp from 10.0.0.0/8",
    ] {
        assert_eq!(
            codes(&node(meant, &["10.0.0.2", "fd00::2"]).findings),
            none,
            "{meant}"
        );
    }
    let icmp6 = node("icmp6 from any", &["10.0.0.2", "fd00::2"]);
    assert!(enters(&icmp6, (ICMP6, 128)) && !enters(&icmp6, (ICMP, 8)));
}

#[test]
fn port_ranges_have_limits() {
    for text in [
        "tcp/90-80 from any",
        "tcp/0 from any",
        "icmp/256 from any",
        "udp/65536 from any",
    ] {
        assert_eq!(error(text).0, "port-range", "{text}");
    }
}

#[test]
fn service_outside_compose_must_name_its_project() {
    let pairs = labels(&[("dfw.ingress", "tcp/80 from service:db")]);
    let findings = check_labels(&pairs, None, DEFAULT_PREFIX);
    assert_eq!(codes(&findings), ["outside-compose"]);
    assert_eq!(findings[0].span, Some((12, 22)));
    assert!(
        findings[0]
            .message
            .contains("name the project, service:PROJECT/db")
    );
    assert_eq!(check("tcp/80 from service:db"), []);
    let compiled = compile("tcp/80 from service:db");
    assert_eq!(codes(&compiled.findings), ["outside-compose"]);
    assert_eq!(compiled.endpoints[&100].policy, 0);
    let named = labels(&[("dfw.ingress", "tcp/80 from service:shop/db")]);
    assert_eq!(check_labels(&named, None, DEFAULT_PREFIX), []);
}

#[test]
fn host_bits_are_an_error_and_a_bare_address_is_one_address() {
    assert_eq!(
        error("tcp/80 from 10.0.0.1/8"),
        ("host-bits".to_owned(), "10.0.0.1/8".to_owned())
    );
    for (bare, full) in [
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::7", "2001:db8::7/128"),
    ] {
        let parse = |peer: &str| parse_rules(Ingress, &format!("any from {peer}"));
        assert_eq!(parse(bare), parse(full));
        assert!(parse(bare).is_ok());
    }
}

#[test]
fn peer_that_does_not_exist_is_valid_and_matches_nobody_yet() {
    let node = alone(service(
        "shop",
        "db",
        &[("dfw.ingress", "tcp/80 from service:apii")],
    ))
    .with(&std::sync::Arc::new(service("shop", "api", &[])));
    let compiled = node.compile();
    assert_eq!(codes(&compiled.findings), ["no-such-peer"]);
    let finding = &compiled.findings[0];
    assert_eq!(
        (finding.level, finding.span),
        (Level::Warning, Some((12, 24)))
    );
    assert_eq!(
        finding.message,
        "`service:apii` matches nobody at present: did you mean `service:api`?"
    );
    assert_ne!(compiled.endpoints[&100].policy, 0);
    assert!(compiled.policy.is_empty());
}

#[test]
fn names_of_rule_labels() {
    let check = |pairs: &[(&str, &str)]| check_labels(&labels(pairs), None, DEFAULT_PREFIX);
    assert_eq!(
        codes(&check(&[("dfw.ingress.", "any from any")])),
        ["empty-name"]
    );
    assert_eq!(
        codes(&check(&[("dfw.ingress.a/b", "any from any")])),
        ["bad-name"]
    );
    assert_eq!(check(&[("dfw.ingress.A-z_0.9", "any from any")]), []);
    let twice = check(&[
        ("dfw.ingress", "tcp/80 from any"),
        ("dfw.ingress.web", "tcp/80 from any"),
    ]);
    assert_eq!(codes(&twice), ["duplicate-rule"]);
    assert_eq!(
        (twice[0].level, twice[0].label.as_str()),
        (Level::Warning, "dfw.ingress.web")
    );
}

#[test]
fn other_protocols_by_number_and_quoted_label_values() {
    let compiled = compile("proto-47 from label:team=\"a,b\",world");
    assert!(enters(&compiled, (47, 0)) && !enters(&compiled, (TCP, 80)));
    assert!(
        compiled.findings[0]
            .message
            .contains("`label:team=\"a,b\"` matches nobody")
    );
}

#[test]
fn egress_rules_without_dns_are_a_warning() {
    let check =
        |egress: &str| check_labels(&labels(&[("dfw.egress", egress)]), None, DEFAULT_PREFIX);
    assert_eq!(codes(&check("tcp/443 to world")), ["no-dns"]);
    assert_eq!(check("tcp/443 to world")[0].level, Level::Warning);
    for fine in [
        "",
        "udp/53,tcp/443 to world",
        "tcp/1-100 to any",
        "any to host",
        "deny any to any",
    ] {
        assert_eq!(check(fine), [], "{fine}");
    }
    assert!(parse_rules(Egress, "tcp/443 to world").is_ok());
}
