use std::{mem::offset_of, time::Duration};

use dfw_common::{
    addr::Addr,
    value::{Event, PolicyEntry},
};
use proptest::prelude::*;

use super::*;
use crate::{
    model::{EndpointView, NetworkView, View},
    policy::RuleText,
};

const SHOP: u32 = 10;

fn endpoint(service: &str, network: &str, ifindex: u32, address: &str) -> EndpointView {
    EndpointView {
        container: format!("shop-{service}-1"),
        id: String::new(),
        project: "shop".to_owned(),
        service: service.to_owned(),
        network: network.to_owned(),
        interface: format!("veth{ifindex}"),
        ifindex,
        addresses: vec![address.parse().expect("address")],
        mac: String::new(),
        mode: "enforce".to_owned(),
        governed: true,
        state: "ready".to_owned(),
        rules: Vec::new(),
        ..EndpointView::default()
    }
}

pub(in crate::telemetry) fn view() -> View {
    View {
        endpoints: vec![
            endpoint("web", "shop", 20, "10.0.0.2"),
            endpoint("db", "shop", 21, "10.0.0.3"),
            endpoint("evil\n\x1b[2J", "shop", 22, "10.0.0.4"),
            endpoint("twin", "blue", 30, "10.0.0.3"),
            endpoint("far", "blue", 31, "10.9.0.1"),
        ],
        networks: vec![NetworkView {
            name: "shop".to_owned(),
            bridge: "br-shop".to_owned(),
            ifindex: SHOP,
            subnets: vec!["10.0.0.0/24".to_owned(), "fd00::/64".to_owned()],
            foreign_ports: Vec::new(),
        }],
        host_addresses: vec!["10.0.0.1".parse().expect("address")],
        ..View::default()
    }
}

fn names() -> Names {
    let rule = RuleText {
        ceiling: false,
        text: "deny tcp/5432 from service:web".to_owned(),
        label: "dfw.ingress".to_owned(),
        direction: Direction::Ingress,
        log: true,
    };
    Names::new(&view(), [(&(1, 2), &rule)])
}

fn event(source: &str, destination: &str) -> Event {
    let addr = |text: &str| text.parse::<IpAddr>().map_or(Addr::UNSPECIFIED, Addr::from);
    Event {
        time: 15_556_000_000,
        source: addr(source),
        destination: addr(destination),
        source_port: 43006,
        destination_port: 5432,
        network: SHOP,
        ifindex: 21,
        length: 74,
        rule: PolicyEntry::NO_RULE,
        ethertype: ETHERTYPE_IPV4,
        protocol: proto::TCP,
        direction: Direction::Ingress as u8,
        verdict: Verdict::Deny as u8,
        reason: Reason::NoRule as u8,
        policy: 1,
        pad: 0,
    }
}

/// As the kernel writes it.
fn bytes(event: &Event) -> Vec<u8> {
    let mut out = event.time.to_ne_bytes().to_vec();
    out.extend(
        [event.source, event.destination]
            .iter()
            .flat_map(|a| a.0)
            .flat_map(u32::to_ne_bytes),
    );
    out.extend(
        [event.source_port, event.destination_port]
            .iter()
            .flat_map(|n| n.to_ne_bytes()),
    );
    out.extend(
        [event.network, event.ifindex, event.length]
            .iter()
            .flat_map(|n| n.to_ne_bytes()),
    );
    out.extend(
        [event.rule, event.ethertype]
            .iter()
            .flat_map(|n| n.to_ne_bytes()),
    );
    out.extend([event.protocol, event.direction, event.verdict, event.reason]);
    out.extend(event.policy.to_ne_bytes());
    out.resize(size_of::<Event>(), 0);
    out
}

fn boot() -> SystemTime {
    // 12:50:00 UTC on some day.
    UNIX_EPOCH + Duration::from_secs(20_000 * 86_400 + 12 * 3600 + 50 * 60)
}

fn decode(event: &Event) -> FlowEvent {
    names().decode(&bytes(event), boot()).expect("valid")
}

/// web asks db, and nothing allows it.
pub(in crate::telemetry) fn flow() -> FlowEvent {
    decode(&event("10.0.0.2", "10.0.0.3"))
}

fn name(end: &End) -> Option<&str> {
    end.party.as_ref().map(|party| party.name.as_str())
}

fn line(event: &Event) -> String {
    decode(event).to_string()
}

#[test]
fn lines() {
    let tcp = event("10.0.0.2", "10.0.0.3");
    insta::assert_snapshot!(line(&tcp), @"12:50:15.556  shop/web:43006 -> shop/db:5432/tcp  DENIED  ingress  no-rule");

    let udp6 = Event {
        protocol: proto::UDP,
        ethertype: ETHERTYPE_IPV6,
        verdict: Verdict::Audit as u8,
        ..event("2001:db8::1", "fd00::3")
    };
    insta::assert_snapshot!(line(&udp6), @"12:50:15.556  [2001:db8::1]:43006 -> shop/db:5432/udp  AUDIT  ingress  no-rule");

    let ping = Event {
        protocol: proto::ICMP,
        destination_port: 8,
        ..tcp
    };
    insta::assert_snapshot!(line(&ping), @"12:50:15.556  shop/web -> shop/db icmp/8  DENIED  ingress  no-rule");

    let gre = Event {
        protocol: 47,
        ..tcp
    };
    insta::assert_snapshot!(line(&gre), @"12:50:15.556  shop/web -> shop/db proto-47  DENIED  ingress  no-rule");

    let mpls = Event {
        ethertype: 0x8847,
        ifindex: 20,
        direction: Direction::Egress as u8,
        reason: Reason::Ethertype as u8,
        ..event("", "")
    };
    insta::assert_snapshot!(line(&mpls), @"12:50:15.556  shop/web -> ? ethertype-0x8847  DENIED  egress  ethertype");
}

#[test]
fn the_judged_endpoint_is_known_by_its_interface() {
    let spoofed = Event {
        ifindex: 20,
        direction: Direction::Egress as u8,
        reason: Reason::SpoofedAddress as u8,
        ..event("10.0.0.3", "192.0.2.1")
    };
    insta::assert_snapshot!(line(&spoofed), @"12:50:15.556  shop/web:43006 -> 192.0.2.1:5432/tcp  DENIED  egress  spoofed-address");
}

#[test]
fn an_address_means_something_on_its_network() {
    assert_eq!(
        name(&decode(&event("10.9.0.1", "10.0.0.3")).source),
        Some("shop/far")
    );
    let elsewhere = Event {
        network: 99,
        ifindex: 0,
        ..event("10.0.0.3", "10.0.0.2")
    };
    let decoded = decode(&elsewhere);
    assert_eq!(
        name(&decoded.source),
        None,
        "two endpoints have it, none of them on that network"
    );
    assert_eq!(name(&decoded.destination), Some("shop/web"));
    assert_eq!(decoded.network, None);
}

#[test]
fn a_hostile_name_stays_on_its_line() {
    insta::assert_snapshot!(line(&event("10.0.0.4", "10.0.0.3")), @r"12:50:15.556  shop/evil\n\u{1b}[2J:43006 -> shop/db:5432/tcp  DENIED  ingress  no-rule");
}

#[test]
fn every_address_has_a_class() {
    for (address, class) in [
        ("10.0.0.2", Class::Endpoint),
        ("10.0.0.1", Class::Host),
        ("127.0.0.1", Class::Host),
        ("10.0.0.9", Class::Unknown),
        ("fd00::9", Class::Unknown),
        ("fe80::9", Class::Unknown),
        ("10.0.0.255", Class::Group),
        ("224.0.0.1", Class::Group),
        ("ff02::1", Class::Group),
        ("192.0.2.1", Class::World),
        ("2001:db8::1", Class::World),
    ] {
        let decoded = decode(&event(address, "10.0.0.3"));
        assert_eq!(decoded.source.class, Some(class), "{address}");
    }
    assert_eq!(decode(&event("", "10.0.0.3")).source.class, None);
}

#[test]
fn who_is_gone_since_keeps_its_name() {
    let gone = names();
    let now = Names::new(&View::default(), []).after(gone);
    let event = Event {
        rule: 2,
        ..event("10.0.0.2", "10.0.0.3")
    };
    let decoded = now.decode(&bytes(&event), boot()).expect("valid");
    assert_eq!(
        (name(&decoded.source), name(&decoded.destination)),
        (Some("shop/web"), Some("shop/db"))
    );
    assert!(decoded.rule.is_some() && decoded.network.is_some());
    let later = Names::new(&View::default(), []).after(now);
    let decoded = later.decode(&bytes(&event), boot()).expect("valid");
    assert_eq!(name(&decoded.source), None, "two views ago");
}

#[test]
fn json() {
    let event = Event {
        rule: 2,
        ..event("10.0.0.2", "10.0.0.3")
    };
    let json = serde_json::to_string(&decode(&event)).expect("JSON");
    insta::assert_snapshot!(json, @r#"{"time_ms":1728046215556,"source":{"name":"shop/web","container":"shop-web-1","project":"shop","service":"web","class":"endpoint","address":"10.0.0.2","port":43006},"destination":{"name":"shop/db","container":"shop-db-1","project":"shop","service":"db","class":"endpoint","address":"10.0.0.3","port":5432},"protocol":"tcp","direction":"ingress","verdict":"deny","reason":"no-rule","rule":{"label":"dfw.ingress","text":"deny tcp/5432 from service:web"},"network":"shop","length":74}"#);
    let outside = Event {
        ifindex: 0,
        network: 0,
        ethertype: ETHERTYPE_ARP,
        ..self::event("192.0.2.1", "")
    };
    let json = serde_json::to_string(&decode(&outside)).expect("JSON");
    insta::assert_snapshot!(json, @r#"{"time_ms":1728046215556,"source":{"class":"world","address":"192.0.2.1","port":null},"destination":{"class":null,"address":null,"port":null},"protocol":"arp","direction":"ingress","verdict":"deny","reason":"no-rule","rule":null,"network":null,"length":74}"#);
}

#[test]
fn names_and_texts_are_bounded() {
    let mut view = view();
    view.endpoints[0].project = "\u{1f980}".repeat(10_000);
    let rule = RuleText {
        ceiling: false,
        text: "x".repeat(10_000),
        label: "dfw.ingress".to_owned(),
        direction: Direction::Ingress,
        log: false,
    };
    let event = Event {
        rule: 2,
        ..event("10.0.0.2", "10.0.0.3")
    };
    let names = Names::new(&view, [(&(1, 2), &rule)]);
    let weight = names
        .decode(&bytes(&event), boot())
        .expect("valid")
        .weight();
    assert!((1_000..3_000).contains(&weight), "{weight} bytes");
    let usual = decode(&event).weight();
    assert!(usual < 768, "{usual} bytes");
}

#[test]
fn what_cannot_be_read_is_none() {
    let (names, good) = (names(), bytes(&event("10.0.0.2", "10.0.0.3")));
    for length in 0..good.len() {
        assert_eq!(
            names.decode(&good[..length], boot()),
            None,
            "{length} bytes"
        );
    }
    for field in ["direction", "verdict", "reason"] {
        let offset = match field {
            "direction" => offset_of!(Event, direction),
            "verdict" => offset_of!(Event, verdict),
            _ => offset_of!(Event, reason),
        };
        let mut bad = good.clone();
        bad[offset] = 200;
        assert_eq!(names.decode(&bad, boot()), None, "{field}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), skip in 0usize..8) {
        let unaligned = bytes.get(skip..).unwrap_or_default();
        if let Some(event) = names().decode(unaligned, boot()) {
            prop_assert!(!event.to_string().contains('\n'));
            prop_assert!(serde_json::to_string(&event).is_ok());
        }
    }

    /// But for what JSON does not have: fractions of a millisecond, and whether a rule logs.
    #[test]
    fn what_is_written_is_read(
        ports in any::<[u16; 2]>(),
        ethertype in prop::sample::select(vec![ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP, 0x8847]),
        protocol in any::<u8>(),
        rule in 0u16..4,
        reason in 0..Reason::ALL.len() as u8,
        source in prop::sample::select(vec!["", "10.0.0.2", "10.0.0.4", "192.0.2.1", "2001:db8::1"]),
    ) {
        let event = Event {
            source_port: ports[0],
            destination_port: ports[1],
            ethertype,
            protocol,
            rule,
            reason,
            ..event(source, "10.0.0.3")
        };
        let mut event = decode(&event);
        let json = serde_json::to_string(&event).expect("JSON");
        event.rule = event.rule.map(|rule| Arc::new(Rule { log: false, ..(*rule).clone() }));
        prop_assert_eq!(serde_json::from_str::<FlowEvent>(&json).expect("an event"), event);
    }
}
