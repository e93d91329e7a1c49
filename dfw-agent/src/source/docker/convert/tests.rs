//! Answers in the engine's own words, as engines of several versions give them.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

const ID: &str = "8f08a3a937e70123456789abcdef0123456789abcdef0123456789abcdef0123";

fn said<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("the engine's words")
}

#[test]
fn containers_as_listed() {
    let summary = |state: &str, mode: &str| {
        json!({
            "Id": ID, "Names": ["/other/alias", "/web"], "ImageID": "sha256:1", "State": state,
            "Labels": { "dfw.mode": "audit" }, "HostConfig": { "NetworkMode": mode },
            "Ports": [
                { "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" },
                { "IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" },
                { "PrivatePort": 53, "Type": "udp" },
            ],
        })
    };
    let (id, meta) = listed(said(summary("running", "bridge"))).expect("a container");
    assert_eq!(
        (id.as_str(), meta.name.as_str(), meta.image.as_str()),
        (ID, "web", "sha256:1")
    );
    assert_eq!(
        meta.labels,
        BTreeMap::from([("dfw.mode".to_owned(), "audit".to_owned())])
    );
    let ports: Vec<String> = meta
        .published
        .iter()
        .map(|p| format!("{} {}", p.host_ip, p.host_port))
        .collect();
    assert_eq!(ports, ["0.0.0.0 8080", ":: 8080"]);
    assert!(!meta.host_network && meta.joined.is_none());

    for (state, live, running) in [
        ("created", true, false),
        ("running", true, true),
        ("paused", true, true),
        ("restarting", true, false),
        ("exited", false, false),
        ("dead", false, false),
        ("removing", false, false),
    ] {
        let (_, meta) = listed(said(summary(state, "default"))).expect("a container");
        assert_eq!((meta.live, meta.running), (live, running), "{state}");
    }
    let meta = |mode| {
        listed(said(summary("running", mode)))
            .expect("a container")
            .1
    };
    assert!(meta("host").host_network);
    assert_eq!(meta("container:abc").joined.as_deref(), Some("abc"));
    assert_eq!(listed(said(json!({ "Id": "../../etc" }))), None);
}

#[test]
fn containers_as_inspected() {
    let answer = |host: Value| {
        said(json!({
            "Id": ID, "Name": "/web", "Image": "sha256:1", "State": { "Status": "running" },
            "Config": { "Labels": { "a": "b" } }, "HostConfig": host,
            "NetworkSettings": { "Ports": {
                "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080" }, { "HostIp": "", "HostPort": "81" }],
                "53/udp": null, "9/icmp": [{ "HostIp": "", "HostPort": "9" }],
            } },
        }))
    };
    let (meta, powers) = inspected(answer(json!({ "NetworkMode": "shop" })));
    assert_eq!(
        (meta.name.as_str(), meta.running, powers),
        ("web", true, Powers::default())
    );
    let ports: Vec<String> = meta
        .published
        .iter()
        .map(|p| format!("{}:{}", p.host_ip, p.host_port))
        .collect();
    assert_eq!(ports, ["0.0.0.0:81", "127.0.0.1:8080"]);

    assert!(
        inspected(answer(json!({ "Privileged": true })))
            .1
            .privileged
    );
    for (capability, expected) in [
        ("NET_ADMIN", true),
        ("CAP_NET_ADMIN", true),
        ("ALL", true),
        ("NET_RAW", false),
    ] {
        let powers = inspected(answer(json!({ "CapAdd": [capability] }))).1;
        assert_eq!(powers.net_admin, expected, "{capability}");
    }
}

#[test]
fn networks() {
    let answer = |name: &str, driver: &str, options: Value| {
        network(said(json!({
            "Id": "232bc114a04d5566", "Name": name, "Driver": driver, "Options": options,
            "IPAM": { "Config": [{ "Subnet": "10.1.0.0/16" }, { "Subnet": "fd00:9::/64" }] },
            "Labels": { "com.docker.compose.project": "shop", "com.docker.compose.network": "backend" },
            "Containers": {
                ID: { "MacAddress": "02:42:ac:12:00:02", "IPv4Address": "10.1.0.2/16", "IPv6Address": "fd00:9::2/64" },
                "ep-1bdd": { "MacAddress": "02:42:ac:12:00:03", "IPv4Address": "", "IPv6Address": "" },
            },
        })))
        .expect("a network")
    };
    let state = answer("shop_backend", "bridge", json!({}));
    let NetworkKind::Bridge(shop) = &state.kind else {
        panic!("{state:?}")
    };
    assert_eq!(
        (
            shop.bridge.as_str(),
            shop.project.as_deref(),
            shop.short_name.as_deref()
        ),
        ("br-232bc114a04d", Some("shop"), Some("backend"))
    );
    assert_eq!(
        shop.subnets
            .iter()
            .map(IpNet::to_string)
            .collect::<Vec<_>>(),
        ["10.1.0.0/16", "fd00:9::/64"]
    );
    let endpoint = EndpointRecord {
        mac: Some(Mac::new([2, 0x42, 0xac, 0x12, 0, 2])),
        addresses: vec![
            "10.1.0.2".parse().expect("address"),
            "fd00:9::2".parse().expect("address"),
        ],
    };
    assert_eq!(state.endpoints, BTreeMap::from([(ID.to_owned(), endpoint)]));

    let bridge = |name, options| {
        let kind = answer(name, "bridge", options).kind;
        if let NetworkKind::Bridge(network) = kind {
            network
        } else {
            panic!("{kind:?}")
        }
    };
    assert_eq!(bridge("bridge", json!({})).bridge, "docker0");
    let named = json!({ "com.docker.network.bridge.name": "shop0" });
    assert_eq!(bridge("shop", named).bridge, "shop0");
    assert!(!bridge("shop", json!({})).filtered);
    for (icc, filtered) in [("true", false), ("1", false), ("false", true), ("?", true)] {
        let options = json!({ "com.docker.network.bridge.enable_icc": icc });
        assert_eq!(bridge("shop", options).filtered, filtered, "{icc}");
    }

    for (name, driver, why) in [
        ("docker_gwbridge", "bridge", Unprotected::Overlay),
        ("ingress", "overlay", Unprotected::Overlay),
        ("host", "host", Unprotected::HostNetwork),
        ("x", "macvlan", Unprotected::Macvlan),
        ("x", "ipvlan", Unprotected::Ipvlan),
        ("x", "weave", Unprotected::OtherDriver),
    ] {
        assert_eq!(
            answer(name, driver, json!({})).kind,
            NetworkKind::Unprotected(why),
            "{name} {driver}"
        );
    }
    assert_eq!(answer("none", "null", json!({})).kind, NetworkKind::Null);
}
