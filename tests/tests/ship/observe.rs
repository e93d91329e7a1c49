//! The alert rules and the dashboard.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use dfw_tests::{
    Agent, Attempt, Bridge, Inventory, Listener, Namespace, Prometheus, Protocol, process,
};
use serde_json::Value;

use crate::{deploy, read, yaml};

const DASHBOARD: &str = "grafana-dashboard.json";

#[test]
fn promtool_accepts_configuration_and_alert_rules() {
    let mut promtool = Command::new("promtool");
    let config = deploy("prometheus.yaml");
    let said = process::run(promtool.args(["check", "config"]).arg(config));
    assert!(
        said.contains("8 rules found"),
        "it reads the rules too: {said}"
    );
}

/// Each of them fires for what it is for, and none for a node that is well.
#[test]
fn alerts_fire_for_what_they_are_for() {
    let cases = deploy("../tests/tests/ship/alerts.yaml");
    let mut promtool = Command::new("promtool");
    process::run(promtool.args(["test", "rules"]).arg(cases));
    let tried = read("../tests/tests/ship/alerts.yaml");
    for alert in alerts() {
        assert!(tried.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
}

fn alerts() -> Vec<String> {
    let file = yaml("prometheus-rules.yaml");
    let rules = file["groups"][0]["rules"].as_vec().expect("rules");
    let names = rules.iter().map(|rule| rule["alert"].as_str());
    names.map(|name| name.expect("a name").to_owned()).collect()
}

/// What is done about each is in the page that the rules name.
#[test]
fn every_alert_has_its_remedy() {
    let page = read("../docs/troubleshooting.md");
    for alert in alerts() {
        assert!(page.contains(&format!("`{alert}`")), "{alert}");
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// The queries of the panels, and those of the variables as selectors, with what Grafana would put in.
fn queries() -> BTreeMap<String, String> {
    let dashboard = dashboard();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let mut queries = BTreeMap::new();
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().expect("a title").to_owned();
        for target in list(&panel["targets"]) {
            let name = format!("{title} {}", target["refId"].as_str().expect("a letter"));
            let query = target["expr"].as_str().expect("a query").to_owned();
            assert!(
                queries.insert(name, query).is_none(),
                "{title} is there twice"
            );
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        let name = variable["name"].as_str().expect("a name");
        if variable["type"] == "query" {
            let query = variable["query"].as_str().expect("a query");
            let values = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(&format!(", {name})")));
            let values = values.expect("the values of the label of the same name");
            queries.insert(format!("${name}"), format!("count by ({name}) ({values})"));
        }
    }
    let filled = |query: String| {
        let query = query
            .replace("$__rate_interval", "10s")
            .replace("$__range", "1h");
        ["instance", "project", "service"]
            .into_iter()
            .fold(query, |query, name| {
                query.replace(&format!("${name}"), ".*")
            })
    };
    queries
        .into_iter()
        .map(|(name, query)| (name, filled(query)))
        .collect()
}

#[test]
fn each_query_of_the_dashboard_finds_data() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 41);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    let _listener = server
        .netns
        .enter(|| Listener::start(&[80], &[]))
        .expect("the port is free");
    let mut inventory = Inventory::new();
    let of = |service| {
        [
            ("com.docker.compose.project", "lab"),
            ("com.docker.compose.service", service),
        ]
    };
    inventory.set("client", &client, "lab", &of("client"));
    let rule = ("dfw.ingress", "tcp/80 from service:client");
    inventory.set(
        "server",
        &server,
        "lab",
        &[&of("server")[..], &[rule]].concat(),
    );
    inventory.write();
    let _agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    let mut prometheus = Prometheus::start(&host);
    // One packet of each verdict at least: allowed, denied, and what the client's audit would deny.
    for to in server.at(80).into_iter().chain(server.at(81)) {
        let attempt = Attempt::new(Protocol::Tcp, to).expecting(to.port() == 80);
        client
            .netns
            .enter(|| attempt.run())
            .expect("the attempt is possible");
    }
    let queries = queries();
    assert!(queries.len() > 20, "{queries:#?}");
    for (name, query) in &queries {
        let found =
            |prometheus: &Prometheus<'_>| (!prometheus.query(query).is_empty()).then_some(());
        prometheus.expect(&format!("{name}: {query}"), found);
    }
    // And what it found is what it is about: a panel of everything would pass the loop above too.
    for (name, label) in [
        ("Denied by service A", ["project", "service"]),
        ("Denied by reason A", ["direction", "reason"]),
    ] {
        prometheus.expect(name, |prometheus| {
            let series = prometheus.query(&queries[name]);
            let labels = series.iter().map(|series| &series["metric"]);
            let mut labels =
                labels.filter(|metric| label.iter().all(|label| metric[*label].is_string()));
            labels.next().is_some().then_some(())
        });
    }
}

/// Panels do not overlap, and whoever opens it chooses where the data is.
#[test]
fn the_dashboard_fits_any_grafana() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut cells = BTreeSet::new();
    for panel in panels {
        let number = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        for x in number("x")..number("x") + number("w") {
            assert!(x < 24, "{}", panel["title"]);
            for y in number("y")..number("y") + number("h") {
                assert!(cells.insert((x, y)), "{} overlaps", panel["title"]);
            }
        }
        assert_eq!(
            panel["datasource"]["uid"], "${datasource}",
            "{}",
            panel["title"]
        );
    }
}
