use std::time::{Duration, UNIX_EPOCH};

use dfw_common::reason::{Reason, Verdict};
use futures_util::StreamExt as _;

use super::*;
use crate::telemetry::{
    events::{
        Class, End, FlowEvent, Protocol,
        tests::{flow, view},
    },
    history::{By, Limits},
};

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn history(count: usize) -> Arc<History> {
    let limits = Limits {
        count,
        bytes: usize::MAX,
    };
    Arc::new(History::new(limits, at(0)))
}

/// web asks db at a port, at a time.
fn asks(second: u64, port: u16) -> FlowEvent {
    let mut event = flow();
    event.time = at(second);
    event.destination.port = Some(port);
    event
}

fn ask(history: &Arc<History>, query: &Query) -> impl Stream<Item = String> + Unpin + use<> {
    let lines = answer(query, history, &view(), at(100)).expect("an answer");
    Box::pin(lines.map(|chunk| {
        let chunk = chunk.expect("never fails");
        String::from_utf8(chunk.to_vec()).expect("UTF-8")
    }))
}

/// The seconds of the flows that an observer sees, and a word for each loss.
async fn past(history: &Arc<History>, query: Query) -> Vec<String> {
    let text: Vec<String> = ask(history, &query).collect().await;
    let entries = text.iter().flat_map(|chunk| chunk.lines()).map(|line| {
        let entry: Entry = serde_json::from_str(line).expect("an entry");
        let second = entry
            .time()
            .duration_since(UNIX_EPOCH)
            .expect("after")
            .as_secs();
        match entry {
            Entry::Flow(_) => second.to_string(),
            Entry::Lost(Lost { lost, by, .. }) => format!("{lost} {by:?}"),
        }
    });
    entries.collect()
}

#[tokio::test]
async fn the_past_is_what_was_asked_for() {
    let history = history(100);
    history.append((90..100).map(|second| Entry::Flow(asks(second, 80))));
    let now = Query::default();
    assert_eq!(past(&history, now.clone()).await, [""; 0]);
    let since = Query {
        since_ms: Some(3_000),
        ..now.clone()
    };
    assert_eq!(past(&history, since.clone()).await, ["97", "98", "99"]);
    let last = |last| Query {
        last: Some(last),
        ..now.clone()
    };
    assert_eq!(past(&history, last(2)).await, ["98", "99"]);
    assert_eq!(past(&history, last(0)).await, [""; 0]);
    assert_eq!(past(&history, last(1000)).await.len(), 10);
    let both = Query {
        last: Some(2),
        ..since
    };
    assert_eq!(past(&history, both).await, ["98", "99"]);
}

#[tokio::test]
async fn the_last_ones_are_those_that_match() {
    let history = history(100);
    history
        .append((0..10).map(|second| Entry::Flow(asks(second, if second < 5 { 80 } else { 81 }))));
    let query = Query {
        ports: vec!["80".parse().expect("a port")],
        last: Some(2),
        ..Query::default()
    };
    assert_eq!(past(&history, query).await, ["3", "4"]);
}

#[tokio::test]
async fn the_live_ones_follow_the_past_without_a_gap_or_a_repeat() {
    let history = history(100);
    history.append([Entry::Flow(asks(99, 80))]);
    let query = Query {
        since_ms: Some(5_000),
        follow: true,
        ..Query::default()
    };
    let mut lines = ask(&history, &query);
    // Between the question and the first look.
    history.append([Entry::Flow(asks(100, 80))]);
    let first = lines.next().await.expect("the past");
    assert_eq!(first.lines().count(), 2, "{first}");
    let later = Arc::clone(&history);
    tokio::spawn(async move { later.append([Entry::Flow(asks(101, 80))]) });
    let second = lines.next().await.expect("live");
    assert!(second.contains("\"time_ms\":101000"), "{second}");
}

#[tokio::test]
async fn losses_are_told_to_everybody() {
    let history = history(3);
    let query = Query {
        ports: vec!["9".parse().expect("a port")],
        follow: true,
        ..Query::default()
    };
    let mut lines = ask(&history, &query);
    let lost = Lost {
        time: at(1),
        lost: 5,
        by: By::Kernel,
    };
    history.append([Entry::Flow(asks(1, 80)), Entry::Lost(lost)]);
    let told = lines.next().await.expect("a loss");
    assert_eq!(told, "{\"time_ms\":1000,\"lost\":5,\"by\":\"kernel\"}\n");
    // Slower than the history is long.
    history.append((0..10).map(|second| Entry::Flow(asks(second, 80))));
    let told = lines.next().await.expect("a loss");
    assert!(told.contains("\"lost\":7,\"by\":\"observer\""), "{told}");
    let since = Query {
        since_ms: Some(200_000),
        ..Query::default()
    };
    assert_eq!(past(&history, since).await, ["13 History", "7", "8", "9"]);
}

#[tokio::test]
async fn a_long_history_comes_in_pieces() {
    let history = history(10_000);
    history.append((0..5_000).map(|second| Entry::Flow(asks(second, 80))));
    let query = Query {
        last: Some(5_000),
        ..Query::default()
    };
    let chunks: Vec<String> = ask(&history, &query).collect().await;
    assert!(chunks.iter().all(|chunk| chunk.len() < 2 * CHUNK));
    let lines: usize = chunks.iter().map(|chunk| chunk.lines().count()).sum();
    assert_eq!(lines, 5_000);
    let none = Query {
        reasons: vec!["fragment".to_owned()],
        ..query
    };
    assert_eq!(past(&history, none).await, [""; 0]);
}

#[tokio::test]
async fn observers_are_counted_until_they_leave() {
    let history = history(10);
    let follow = Query {
        follow: true,
        ..Query::default()
    };
    let mut all: Vec<_> = (0..history.seats.available_permits())
        .map(|_| ask(&history, &follow))
        .collect();
    let refused = answer(&follow, &history, &view(), at(0))
        .err()
        .expect("no room");
    assert!(refused.message.contains("as many observers"), "{refused:?}");
    all.pop();
    drop(ask(&history, &follow));
    drop(all);
    assert_eq!(history.observers(), 0);
}

fn matches(query: &Query, event: &FlowEvent) -> bool {
    let history = history(10);
    history.append([Entry::Flow(event.clone())]);
    let ring = history.ring();
    let filter = Filter::new(query, &view(), &ring).expect("a filter");
    filter.matches(event)
}

#[test]
fn ends_are_found_by_every_name() {
    let mut event = flow();
    let from = |word: &str| Query {
        from: vec![word.to_owned()],
        ..Query::default()
    };
    let to = |word: &str| Query {
        to: vec![word.to_owned()],
        ..Query::default()
    };
    for word in [
        "web",
        "shop-web-1",
        "shop",
        "shop/web",
        "10.0.0.2",
        "10.0.0.0/30",
    ] {
        assert!(matches(&from(word), &event), "{word}");
    }
    for word in [
        "db",
        "twin",
        "host",
        "world",
        "10.0.0.3",
        "::/0",
        "10.0.0.0/31",
    ] {
        assert!(!matches(&from(word), &event), "{word}");
    }
    assert!(matches(&to("shop/db"), &event));
    assert!(!matches(&to("web"), &event));
    for (class, word) in [(Class::Host, "host"), (Class::World, "world")] {
        event.source = End {
            party: None,
            class: Some(class),
            address: Some("fd00::1".parse().expect("address")),
            port: None,
        };
        assert!(matches(&from(word), &event), "{word}");
        assert!(matches(&from("fd00::/8"), &event));
        assert!(!matches(&from("shop"), &event));
    }
}

#[test]
fn values_of_a_flag_are_any_and_flags_are_all() {
    let event = flow();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let query = Query {
        from: words(&["db", "web"]),
        verdicts: words(&["deny", "audit"]),
        reasons: words(&["no-rule"]),
        ..Query::default()
    };
    assert!(matches(&query, &event));
    let other = FlowEvent {
        verdict: Verdict::Allow,
        ..event.clone()
    };
    assert!(!matches(&query, &other));
    let other = FlowEvent {
        reason: Reason::DenyRule,
        ..event
    };
    assert!(!matches(&query, &other));
}

#[test]
fn ports_are_those_of_either_end() {
    let mut event = flow();
    let port = |text: &str| Query {
        ports: vec![text.parse().expect("ports")],
        ..Query::default()
    };
    for text in ["5432", "tcp/5432", "5000-6000", "43006", "tcp/1-65535"] {
        assert!(matches(&port(text), &event), "{text}");
    }
    for text in ["5433", "udp/5432", "5433-6000", "sctp/1-65535"] {
        assert!(!matches(&port(text), &event), "{text}");
    }
    event.protocol = Protocol::Icmp(8);
    event.source.port = None;
    event.destination.port = None;
    assert!(!matches(&port("1-65535"), &event));
}

#[test]
fn wrong_ports_get_the_right_word() {
    let said = |text: &str| text.parse::<PortFilter>().expect_err(text);
    assert_eq!(said("tpc/80"), "did you mean `tcp/80`?");
    assert_eq!(said("90-80"), "did you mean `80-90`?");
    assert_eq!(said("icmp/8"), "only tcp, udp and sctp have ports");
    for text in [
        "", "http", "0", "65536", "80-", "-80", "1-2-3", "tcp/", "tcp/x", "+80",
    ] {
        assert!(said(text).starts_with("write a port"), "{text}");
    }
    for text in ["443-443", "udp/53-53", "sctp/1-65535"] {
        assert_eq!(text.parse::<PortFilter>().expect("ports").to_string(), text);
    }
}

#[test]
fn a_name_that_nobody_has_gets_the_nearest_one() {
    let history = history(10);
    let mut event = flow();
    let gone = crate::telemetry::events::Party {
        container: "once".to_owned(),
        ..Default::default()
    };
    event.source.party = Some(Arc::new(gone));
    history.append([Entry::Flow(event)]);
    let refused = |word: &str| {
        let query = Query {
            to: vec![word.to_owned()],
            ..Query::default()
        };
        Filter::new(&query, &view(), &history.ring()).err()
    };
    let hint = |word| refused(word).expect(word).hint;
    assert_eq!(hint("wbe"), "did you mean `web`?");
    assert_eq!(hint("shop/bd"), "did you mean `shop/db`?");
    assert_eq!(hint("wolrd"), "did you mean `world`?");
    assert!(hint("nobody-like-that").starts_with("`dfw ls` has the names"));
    assert!(
        refused("once").is_none(),
        "who is gone is still in the history"
    );
    assert_eq!(
        refused("evil\u{1b}[2J").expect("nobody").message,
        "nobody here is called `evil\\u{1b}[2J`"
    );
    assert!(refused("").is_some());
}

#[test]
fn a_question_of_another_version_is_refused() {
    let query: Result<Query, _> = serde_json::from_str(r#"{"from":["web"],"colour":"red"}"#);
    assert!(query.is_err());
    let query = Query {
        verdicts: vec!["maybe".to_owned()],
        ..Query::default()
    };
    let refused = Filter::new(&query, &view(), &history(1).ring()).expect_err("no such verdict");
    assert_eq!(refused.hint, "use the `dfw` of the agent's version");
}
