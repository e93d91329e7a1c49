//! The exact words of every problem, with its place.

use std::fmt::Write;

use dfw_common::reason::Direction;

use super::node::labels;
use crate::policy::{DEFAULT_PREFIX, check_labels, parse_rules};

/// `code at span "text there": message`, one a line.
fn problems(direction: Direction, texts: &[&str]) -> String {
    let mut out = String::new();
    for text in texts {
        let problems = parse_rules(direction, text).expect_err(text);
        for problem in problems {
            let place = &text[problem.span.clone()];
            let code = problem.what.code();
            writeln!(out, "{code} {:?} {place:?}: {problem}", problem.span).expect("a string");
        }
    }
    out
}

fn checked(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for pair in pairs {
        for finding in check_labels(&labels(&[*pair]), None, DEFAULT_PREFIX) {
            let (code, span, message) = (finding.code, finding.span, finding.message);
            writeln!(out, "{code} {span:?}: {message}").expect("a string");
        }
    }
    out
}

#[test]
fn of_the_rule() {
    let texts = [
        ";",
        "any from any;;any from any",
        "tcp/80",
        "tcp/80 form any",
        "tcp/80 to any",
        "from any",
        "tcp/80 from",
        "tcp/80 from any,",
        "tcp/80,,udp/53 from any",
        "alow tcp/80 from any",
        "tcp 80 from any",
        "tcp/80 from any lgo",
        "tcp/80 from any udp/53 from any",
        "tcp/80 from any\u{1b}[31m",
        "tcp/80 from label:k=\"a",
        "\"tcp/80 from any\"",
    ];
    insta::assert_snapshot!(problems(Direction::Ingress, &texts), @r##"
    empty-rule 0..1 ";": there is no rule before this `;`: remove it
    empty-rule 13..14 ";": there is no rule before this `;`: remove it
    no-peers 0..6 "tcp/80": the rule does not say who: add `from PEER`, or `from any` for everybody
    no-peers 7..11 "form": the rule does not say who: did you mean `from` for `form`?
    wrong-preposition 7..9 "to": `to` belongs to egress: write `from` in an ingress label
    no-ports 0..4 "from": the rule names no ports: write `any`, or for example `tcp/80`, before this word
    no-peers 7..11 "from": the rule does not say who: add a peer after this word, or `any` for everybody
    empty-item 15..16 ",": nothing stands beside this `,`: remove it
    empty-item 7..8 ",": nothing stands beside this `,`: remove it
    unexpected-word 0..4 "alow": unexpected `alow`: did you mean `allow`?
    unexpected-word 4..6 "80": unexpected `80`: write `,` between ports, then `from` and the peers
    unexpected-word 16..19 "lgo": unexpected `lgo`: did you mean `log`, at the end of the rule?
    unexpected-word 16..22 "udp/53": unexpected `udp/53`: write `,` between peers and `;` between rules
    control-character 15..16 "\u{1b}": control character U+001B: remove it
    open-quote 20..22 "\"a": the quote is not closed: add `"` where the value ends
    stray-quote 0..17 "\"tcp/80 from any\"": a quote may only enclose the value of label:K="V": remove it
    "##);
}

#[test]
fn of_ports() {
    let texts = [
        "tpc/80 from any",
        "quic/443 from any",
        "80 from any",
        "any/80 from any",
        "any,tcp/80 from any",
        "tcp/http from any",
        "tcp/ from any",
        "tcp/90-80 from any",
        "tcp/0,65536 from any",
        "icmp/256 from any",
        "icmpv6 from any",
        "proto-47/80 from any",
        "proto-256 from any",
        "tcp/\"80\" from any",
        "tpc/80,443 from any",
    ];
    insta::assert_snapshot!(problems(Direction::Ingress, &texts), @r##"
    unknown-protocol 0..6 "tpc/80": unknown protocol `tpc`: did you mean `tcp`?
    unknown-protocol 0..8 "quic/443": unknown protocol `quic`: use tcp, udp, sctp, icmp, icmp6, or proto-N with N from 0 to 255
    no-protocol 0..2 "80": port 80 has no protocol: write tcp/80 or udp/80
    any-with-port 0..6 "any/80": `any` takes no port: write tcp/80 or udp/80
    any-not-alone 0..3 "any": `any` already means every protocol and port: let it stand alone, or remove it
    bad-port 0..8 "tcp/http": `http` is not a port: write a number, or a range such as 8000-8100
    bad-port 0..4 "tcp/": `` is not a port: write a number, or a range such as 8000-8100
    port-range 0..9 "tcp/90-80": the range ends before it begins: write 80-90
    port-range 0..5 "tcp/0": `0` is out of range: ports go from 1 to 65535
    port-range 0..8 "icmp/256": `256` is out of range: ICMP types go from 0 to 255
    unknown-protocol 0..6 "icmpv6": unknown protocol `icmpv6`: did you mean `icmp6`?
    portless-protocol 0..11 "proto-47/80": proto-47 has no ports: write proto-47 alone
    unknown-protocol 0..9 "proto-256": unknown protocol `proto-256`: use tcp, udp, sctp, icmp, icmp6, or proto-N with N from 0 to 255
    stray-quote 0..8 "tcp/\"80\"": a quote may only enclose the value of label:K="V": remove it
    unknown-protocol 0..6 "tpc/80": unknown protocol `tpc`: did you mean `tcp`?
    "##);
}

#[test]
fn of_peers() {
    let texts = [
        "any to servce:db",
        "any to pod:db",
        "any to db",
        "any to wrold",
        "any to service:",
        "any to service:a/b/c",
        "any to group:ä",
        "any to label:k",
        "any to label:k=",
        "any to label:k=a\"b",
        "any to label:k=\"a\\n\"",
        "any to 10.0.0.1/8",
        "any to 10.0.0.0/33",
        "any to 10.0.0.256",
        "any to 2001:db8::1/32",
        "any to ::ffff:10.0.0.1",
        "any to any\u{200b}",
    ];
    insta::assert_snapshot!(problems(Direction::Egress, &texts), @r##"
    unknown-peer 7..16 "servce:db": unknown peer `servce:db`: did you mean `service:`?
    unknown-peer 7..13 "pod:db": unknown peer `pod:db`: a peer is service:N, project:N, group:N, container:N, net:N, label:K=V, a CIDR, host, world or any
    peer-without-kind 7..9 "db": `db` does not say what it names: write service:NAME, container:NAME or another kind of peer
    unknown-peer 7..12 "wrold": unknown peer `wrold`: did you mean `world`?
    bad-name 7..15 "service:": `` is not a name: names are made of A-Z, a-z, 0-9, `_`, `.` and `-`
    bad-name 7..20 "service:a/b/c": `b/c` is not a name: names are made of A-Z, a-z, 0-9, `_`, `.` and `-`
    bad-name 7..15 "group:ä": `ä` is not a name: names are made of A-Z, a-z, 0-9, `_`, `.` and `-`
    bad-label-peer 7..14 "label:k": a label peer is written label:KEY=VALUE, an empty value as label:KEY=""
    bad-label-peer 7..15 "label:k=": a label peer is written label:KEY=VALUE, an empty value as label:KEY=""
    open-quote 16..18 "\"b": the quote is not closed: add `"` where the value ends
    bad-escape 7..20 "label:k=\"a\\n\"": a backslash in quotes is written before `"` or `\` only: write `\\` for one backslash
    host-bits 7..17 "10.0.0.1/8": `10.0.0.1/8` has host bits set: write 10.0.0.0/8, or 10.0.0.1 for the one address
    bad-address 7..18 "10.0.0.0/33": `10.0.0.0/33` is not an address: write for example 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32
    bad-address 7..17 "10.0.0.256": `10.0.0.256` is not an address: write for example 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32
    host-bits 7..21 "2001:db8::1/32": `2001:db8::1/32` has host bits set: write 2001:db8::/32, or 2001:db8::1 for the one address
    mapped-address 7..22 "::ffff:10.0.0.1": `::ffff:10.0.0.1` is a v4-mapped address: write it as IPv4
    unknown-peer 7..13 "any\u{200b}": unknown peer `any\u{200b}`: a peer is service:N, project:N, group:N, container:N, net:N, label:K=V, a CIDR, host, world or any
    "##);
}

#[test]
fn of_keys_modes_and_groups() {
    let pairs = [
        ("dfw.ingres", ""),
        ("dfw.Mode", "audit"),
        ("dfw.egres.web", ""),
        ("dfw.policy", ""),
        ("dfw.", ""),
        ("dfw.ingress.", "any from any"),
        ("dfw.egress.a b", "any to any"),
        ("dfw.mode", "enforced"),
        ("dfw.mode", "permissive"),
        ("dfw.mode", ""),
        ("dfw.group", ""),
        ("dfw.group", "a,b c,d"),
        ("dfw.ingress", "tcp/80 from service:db"),
        ("dfw.x\ny", ""),
    ];
    insta::assert_snapshot!(checked(&pairs), @r##"
    unknown-key Some((0, 10)): unknown label `dfw.ingres`: did you mean `dfw.ingress`?
    unknown-key Some((0, 8)): unknown label `dfw.Mode`: did you mean `dfw.mode`?
    unknown-key Some((0, 13)): unknown label `dfw.egres.web`: did you mean `dfw.egress`?
    unknown-key Some((0, 10)): unknown label `dfw.policy`: there are dfw.mode, dfw.group, dfw.ingress[.NAME] and dfw.egress[.NAME]
    unknown-key Some((0, 4)): unknown label `dfw.`: there are dfw.mode, dfw.group, dfw.ingress[.NAME] and dfw.egress[.NAME]
    empty-name Some((0, 12)): empty name after `dfw.ingress.`: drop the final dot, or name the rules after it
    bad-name Some((0, 14)): `a b` is not a name: names are made of A-Z, a-z, 0-9, `_`, `.` and `-`
    unknown-mode Some((0, 8)): unknown mode `enforced`: did you mean `enforce`?
    unknown-mode Some((0, 10)): unknown mode `permissive`: a mode is enforce, audit or off
    unknown-mode Some((0, 0)): unknown mode ``: a mode is enforce, audit or off
    no-group Some((0, 0)): no group is named: write dfw.group=NAME[,NAME], or remove the label
    bad-name Some((2, 5)): `b c` is not a name: names are made of A-Z, a-z, 0-9, `_`, `.` and `-`
    outside-compose Some((12, 22)): `service:db` means a service of the same compose project, and this container is in none: name the project, service:PROJECT/db
    unknown-key Some((0, 7)): unknown label `dfw.x\ny`: there are dfw.mode, dfw.group, dfw.ingress[.NAME] and dfw.egress[.NAME]
    "##);
}

#[test]
fn every_problem_of_a_label_is_told() {
    let text = "tpc/80,443,any from servce:db, 10.0.0.1/8; any/80 to any; 80 from any";
    insta::assert_snapshot!(problems(Direction::Ingress, &[text]), @r##"
    unknown-protocol 0..6 "tpc/80": unknown protocol `tpc`: did you mean `tcp`?
    any-not-alone 11..14 "any": `any` already means every protocol and port: let it stand alone, or remove it
    unknown-peer 20..29 "servce:db": unknown peer `servce:db`: did you mean `service:`?
    host-bits 31..41 "10.0.0.1/8": `10.0.0.1/8` has host bits set: write 10.0.0.0/8, or 10.0.0.1 for the one address
    any-with-port 43..49 "any/80": `any` takes no port: write tcp/80 or udp/80
    wrong-preposition 50..52 "to": `to` belongs to egress: write `from` in an ingress label
    no-protocol 58..60 "80": port 80 has no protocol: write tcp/80 or udp/80
    "##);
}
