//! How ports of one policy are laid out.

use dfw_common::{
    key::{PolicyKey, proto},
    reason::Direction::Ingress,
    value::{Address, PolicyEntry, kind},
};

use super::{
    kernel::{Judged, Kernel},
    node::{alone, container},
};
use crate::policy::Compiled;

fn compile(rules: &str) -> Compiled {
    alone(container("c", &[("dfw.ingress", rules)])).compile()
}

fn judge(compiled: &Compiled, identity: u32, flow: (u8, u16)) -> Judged {
    let peer = Address {
        kind: kind::WORLD,
        identity,
        ..Address::default()
    };
    Kernel(compiled).judge(compiled.endpoints[&100].policy, Ingress, peer, flow)
}

fn rule_text(compiled: &Compiled, judged: Judged) -> Option<&str> {
    let policy = compiled.endpoints[&100].policy;
    compiled
        .rules
        .get(&(policy, judged.rule))
        .map(|rule| rule.text.as_str())
}

#[test]
fn every_port_of_ranges_that_overlap() {
    let compiled = compile(
        "tcp/1000-2000,1500-3000,3001 from any; deny tcp/1900-2100 from any; udp from any; \
         deny udp/53 from any; sctp/65535,1 from any",
    );
    for port in 0..=u16::MAX {
        let tcp = (1000..=3001).contains(&port) && !(1900..=2100).contains(&port);
        assert_eq!(
            judge(&compiled, 0, (proto::TCP, port)).allowed,
            tcp,
            "tcp/{port}"
        );
        assert_eq!(
            judge(&compiled, 0, (proto::UDP, port)).allowed,
            port != 53,
            "udp/{port}"
        );
        let sctp = port == 1 || port == 65535;
        assert_eq!(
            judge(&compiled, 0, (proto::SCTP, port)).allowed,
            sctp,
            "sctp/{port}"
        );
    }
    assert!(!judge(&compiled, 0, (47, 0)).allowed);
}

#[test]
fn any_is_the_header_and_needs_no_entries() {
    let compiled = compile("any from any");
    assert_eq!(compiled.policy.len(), 1);
    let (key, header) = compiled.policy.first_key_value().expect("a header");
    assert_eq!(
        (key.length, key.identity, header.lengths),
        (PolicyKey::HEADER, 0, 0)
    );
    assert_eq!(header.flags, PolicyEntry::SOME_ALLOWED);
    let compiled = compile("any from any; deny any from any");
    assert_eq!(compiled.policy.len(), 1);
    assert_eq!(
        compiled.policy.values().next().map(|header| header.flags),
        Some(0)
    );
}

#[test]
fn deciding_rule_and_events() {
    let compiled =
        compile("tcp/80 from any; tcp/80-81 from any log; deny tcp/81 from any; udp from any");
    let decided = |flow| {
        let judged = judge(&compiled, 0, flow);
        (judged.allowed, rule_text(&compiled, judged), judged.log)
    };
    // Two allow: the first in canonical order decides, and either asks for an event.
    assert_eq!(
        decided((proto::TCP, 80)),
        (true, Some("tcp/80 from any"), true)
    );
    assert_eq!(
        decided((proto::TCP, 81)),
        (false, Some("deny tcp/81 from any"), false)
    );
    assert_eq!(decided((proto::TCP, 82)), (false, None, false));
    assert_eq!(
        decided((proto::UDP, 1)),
        (true, Some("udp from any"), false)
    );
}

#[test]
fn header_with_the_same_effect_is_left_out() {
    let same = compile("tcp/80 from any; udp/53 from world,any");
    assert!(same.policy.keys().all(|key| key.identity == 0));
    let world = compile("tcp/80 from any; udp/53 from world");
    let identities: Vec<u32> = world.policy.keys().map(|key| key.identity).collect();
    assert!(identities.contains(&0) && identities.iter().any(|identity| *identity != 0));
    // The specific header holds what is for everybody too.
    let identity = *identities.last().expect("an identity");
    assert!(judge(&world, identity, (proto::TCP, 80)).allowed);
    assert!(judge(&world, identity, (proto::UDP, 53)).allowed);
    assert!(!judge(&world, 0, (proto::UDP, 53)).allowed);
}

#[test]
fn whole_protocol_is_one_entry() {
    let compiled = compile("tcp,icmp,proto-47 from any");
    let lengths: Vec<(u8, u8)> = compiled
        .policy
        .keys()
        .map(|key| (key.protocol, key.length))
        .collect();
    assert_eq!(lengths, [(0, PolicyKey::HEADER), (1, 0), (6, 0), (47, 0)]);
}
