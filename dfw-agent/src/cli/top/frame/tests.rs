use super::*;
use crate::{cli::findings::tests::plain, cli::ls::tests::view};

const BEFORE: &str = r#"dfw_packets_total{direction="ingress",verdict="allow",reason="allowed"} 100
dfw_packets_total{direction="ingress",verdict="deny",reason="no-rule"} 10
dfw_endpoint_packets_total{project="shop",service="db",direction="ingress",verdict="allow"} 100
dfw_endpoint_packets_total{project="shop",service="db",direction="ingress",verdict="deny"} 10
dfw_events_total 10
dfw_events_lost_total 5
"#;

const AFTER: &str = r#"dfw_packets_total{direction="ingress",verdict="allow",reason="allowed"} 1100
dfw_packets_total{direction="egress",verdict="allow",reason="reply"} 20
dfw_packets_total{direction="ingress",verdict="deny",reason="no-rule"} 15
dfw_packets_total{direction="egress",verdict="audit",reason="spoofed-mac"} 3
dfw_endpoint_packets_total{project="shop",service="db",direction="ingress",verdict="allow"} 1100
dfw_endpoint_packets_total{project="shop",service="db",direction="egress",verdict="allow"} 20
dfw_endpoint_packets_total{project="shop",service="db",direction="ingress",verdict="deny"} 15
dfw_endpoint_packets_total{project="",service="other",direction="egress",verdict="audit"} 3
dfw_endpoint_packets_total{project="shop",service="gone\n",direction="egress",verdict="allow"} 7
dfw_flows 456
dfw_map_capacity{map="FLOWS"} 131072
dfw_events_total 30
dfw_events_lost_total 9
"#;

fn frame(before: &str, after: &str) -> Frame {
    let looks = [before, after].map(Figures::read);
    let flow = r#"{"time_ms":15556,"source":{"name":"shop/db","container":"shop-db-1","project":"shop","service":"db","class":"endpoint","address":"172.18.0.2","port":40000},"destination":{"class":"world","address":"192.0.2.1","port":443},"protocol":"tcp","direction":"egress","verdict":"deny","reason":"no-rule","rule":null,"network":"shop_default","length":74}"#;
    let flow = serde_json::from_str(flow).expect("an event");
    Frame::new(
        &view(),
        [&looks[0], &looks[1]],
        Duration::from_secs(2),
        &[flow],
    )
}

#[test]
fn a_picture() {
    insta::assert_snapshot!(plain(|out| frame(BEFORE, AFTER).print(out)), @r"
    dfw 1.2.3, ready, 2 endpoints, over 2 s
    packets/s  510 allowed, 2.5 denied, 1.5 would be denied
    flows      456 of 131072, 0 %
    events/s   10, 4 lost, 9 so far
    reasons    deny no-rule 2.5/s (15), audit spoofed-mac 1.5/s (3)

    Last denials:
    00:00:15.556  shop/db:40000 -> 192.0.2.1:443/tcp  DENIED  egress  no-rule

    SERVICE      ENDPOINTS  MODE     IN/S  OUT/S  DENIED/S  AUDIT/S  DENIED  AUDIT
    shop/db      1          enforce  502   10     2.5       0        15      0
    other        1          audit    0     1.5    0         1.5      0       3
    shop/gone\n  0          gone     0     3.5    0         0        0       0
    ");
}

#[test]
fn nothing_happens() {
    let view = View::default();
    let none = Figures::default();
    let frame = Frame::new(&view, [&none, &none], Duration::ZERO, &[]);
    insta::assert_snapshot!(plain(|out| frame.print(out)), @"
    dfw , not ready: the containers were not read in full yet, 0 endpoints, over 0 s
    packets/s  0 allowed, 0 denied, 0 would be denied
    flows      0 of 0, 0 %
    events/s   0, 0 lost, 0 so far
    reasons    nothing was denied

    SERVICE  ENDPOINTS  MODE  IN/S  OUT/S  DENIED/S  AUDIT/S  DENIED  AUDIT
    ");
}

#[test]
fn a_counter_that_began_anew_gives_no_rate() {
    let frame = frame(AFTER, BEFORE);
    assert!(frame.per_second.allow.abs() < f64::EPSILON);
    assert_eq!(frame.events_lost, 0);
}

#[test]
fn json() {
    let frame = serde_json::to_value(frame(BEFORE, AFTER)).expect("JSON");
    insta::assert_snapshot!(frame["services"][0], @r#"{"audited_total":0,"denied_total":15,"egress_per_second":10.0,"endpoints":1,"ingress_per_second":502.5,"modes":["enforce"],"per_second":{"allow":510.0,"audit":0.0,"deny":2.5},"project":"shop","service":"db"}"#);
    insta::assert_snapshot!(frame["per_second"], @r#"{"allow":510.0,"audit":1.5,"deny":2.5}"#);
    insta::assert_snapshot!(frame["reasons"][0], @r#"{"per_second":2.5,"reason":"no-rule","total":15,"verdict":"deny"}"#);
    assert_eq!(frame["denials"][0]["reason"], "no-rule");
}
