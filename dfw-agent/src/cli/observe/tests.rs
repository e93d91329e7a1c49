use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command, findings::tests::plain};

fn query(arguments: &[&str]) -> Query {
    let command = [&["dfw", "observe"], arguments].concat();
    let parsed = Cli::try_parse_from(command).expect("a command line");
    let Command::Observe(args) = parsed.command else {
        panic!("{parsed:?}");
    };
    args.query()
}

fn wrong(arguments: &[&str]) -> String {
    let command = [&["dfw", "observe"], arguments].concat();
    let error = Cli::try_parse_from(command).expect_err("a wrong command line");
    error.to_string()
}

#[test]
fn flags_become_a_question() {
    assert_eq!(
        query(&[]),
        Query {
            follow: true,
            ..Query::default()
        }
    );
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|w| (*w).to_owned()).collect() };
    let all = query(&[
        "--from",
        "shop/web,host",
        "--from",
        "10.0.0.0/8",
        "--to=db",
        "--port",
        "udp/53,443",
        "--denied",
        "--verdict",
        "audit",
        "--reason",
        "no-rule,no-syn",
        "--since",
        "5m",
    ]);
    assert_eq!(
        all,
        Query {
            from: words(&["shop/web", "host", "10.0.0.0/8"]),
            to: words(&["db"]),
            ports: ["udp/53", "443"]
                .map(|port| port.parse().expect("a port"))
                .to_vec(),
            verdicts: words(&["audit", "deny"]),
            reasons: words(&["no-rule", "no-syn"]),
            since_ms: Some(300_000),
            last: None,
            follow: true,
        }
    );
    for (flag, name) in [
        ("dropped", "deny"),
        ("forwarded", "allow"),
        ("audited", "audit"),
    ] {
        assert_eq!(query(&["--verdict", flag]).verdicts, [name]);
    }
}

#[test]
fn it_follows_unless_the_last_ones_are_wanted() {
    for (arguments, follow) in [
        (&["--since", "1h"][..], true),
        (&["--last", "20"], false),
        (&["--last", "20", "--follow"], true),
        (&["--last", "20", "-f"], true),
        (&["--since", "1h", "--follow=false"], false),
    ] {
        assert_eq!(query(arguments).follow, follow, "{arguments:?}");
    }
}

#[test]
fn what_is_wrong_gets_the_right_word() {
    for (arguments, said) in [
        (["--reason", "no-rules"], "'no-rule'"),
        (["--verdict", "denyed"], "'deny'"),
        (["--port", "tpc/80"], "did you mean `tcp/80`?"),
        (["--since", "5min"], "did you mean `5m`?"),
        (["--since", "5"], "write a number and a unit"),
        (["--since", "m"], "write a number and a unit"),
        (["--since", "yesterday"], "write a number and a unit"),
        (
            ["--since", "99999999999999999999d"],
            "write a number and a unit",
        ),
        (["--last", "-1"], "'-1'"),
    ] {
        let error = wrong(&arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn lines() {
    let line = |json: &str| {
        let entry: Entry = serde_json::from_str(json).expect("an entry");
        plain(|out| print(out, &entry))
    };
    let flow = r#"{"time_ms":1728046215556,"source":{"name":"shop/web","container":"c","project":"shop","service":"web","class":"endpoint","address":"10.0.0.2","port":43006},"destination":{"name":"shop/d\u001bb","container":"d","project":"shop","service":"db","class":"endpoint","address":"10.0.0.3","port":5432},"protocol":"tcp","direction":"ingress","verdict":"deny","reason":"deny-rule","rule":{"label":"dfw.ingress","text":"deny tcp/5432\n from any"},"network":"shop","length":74}"#;
    insta::assert_snapshot!(line(flow), @r#"12:50:15.556  shop/web:43006 -> shop/d\u{1b}b:5432/tcp  DENIED  ingress  deny-rule  dfw.ingress: "deny tcp/5432\n from any""#);
    let lost = |by: &str, lost: u64| {
        line(&format!(
            r#"{{"time_ms":1728046215556,"lost":{lost},"by":"{by}"}}"#
        ))
    };
    insta::assert_snapshot!(lost("kernel", 12), @"12:50:15.556  12 events lost: they came faster than the agent takes them");
    insta::assert_snapshot!(lost("observer", 1), @"12:50:15.556  1 event missed: they came faster than this observer reads them");
    insta::assert_snapshot!(lost("history", 12), @"12:50:15.556  the agent's history begins here: up to 12 events before are gone");
    insta::assert_snapshot!(lost("history", 0), @"12:50:15.556  the agent's history begins here");
}
