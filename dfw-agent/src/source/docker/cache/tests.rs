use dfw_common::addr::Mac;

use super::{super::convert::EndpointRecord, *};

const WEB: &str = "web-id";

fn cache() -> Cache {
    Cache::new("dfw.".to_owned())
}

fn meta(name: &str, live: bool) -> Meta {
    Meta {
        name: name.into(),
        image: "image".into(),
        live,
        running: live,
        ..Meta::default()
    }
}

fn network(kind: NetworkKind, members: &[(&str, u8)]) -> NetworkState {
    let record = |n| EndpointRecord {
        mac: Some(Mac::new([2, 0, 0, 0, 0, n])),
        addresses: vec![[10, 0, 0, n].into()],
    };
    NetworkState {
        kind,
        endpoints: members
            .iter()
            .map(|(id, n)| ((*id).to_owned(), record(*n)))
            .collect(),
    }
}

fn bridge(id: &str, members: &[(&str, u8)]) -> NetworkState {
    let network_of = Network {
        id: id.into(),
        name: id.into(),
        project: None,
        short_name: None,
        filtered: false,
        bridge: format!("br-{id}"),
        subnets: Vec::new(),
    };
    network(NetworkKind::Bridge(network_of), members)
}

fn names(cache: &mut Cache) -> Vec<String> {
    cache
        .snapshot()
        .containers
        .iter()
        .map(|container| container.name.clone())
        .collect()
}

#[test]
fn a_container_waits_for_the_labels_of_its_image() {
    let mut cache = cache();
    cache.set_meta(WEB, meta("web", true));
    assert_eq!(cache.lacks_image(WEB), Some("image"));
    assert_eq!(names(&mut cache), [""; 0]);
    cache.set_image("image", Some(BTreeMap::new()));
    assert_eq!(cache.lacks_image(WEB), None);
    assert_eq!(names(&mut cache), ["web"]);
    assert_eq!(cache.findings(), []);

    cache.set_image("image", None);
    assert_eq!(names(&mut cache), ["web"]);
    assert_eq!(cache.findings()[0].code, "image-gone");
}

/// Its endpoint is there long before the engine says that it runs.
#[test]
fn a_stopped_container_is_back_with_its_endpoint() {
    let mut cache = cache();
    cache.set_image("image", Some(BTreeMap::new()));
    cache.set_meta(WEB, meta("web", false));
    cache.set_network("n", Some(bridge("n", &[])));
    assert_eq!(names(&mut cache), [""; 0]);
    cache.set_network("n", Some(bridge("n", &[(WEB, 2)])));
    let snapshot = cache.snapshot();
    assert_eq!(
        snapshot.containers[0].attachments[0].mac,
        Some(Mac::new([2, 0, 0, 0, 0, 2]))
    );
    assert!(!snapshot.containers[0].running);
    cache.set_network("n", None);
    assert_eq!(names(&mut cache), [""; 0]);
}

#[test]
fn what_did_not_change_is_the_same_value() {
    let mut cache = cache();
    cache.set_image("image", Some(BTreeMap::new()));
    cache.set_meta(WEB, meta("web", true));
    cache.set_meta("other", meta("other", true));
    cache.set_network("n", Some(bridge("n", &[(WEB, 2), ("other", 3)])));
    let before = cache.snapshot();
    assert!(cache.take_changed());

    assert!(!cache.set_meta(WEB, meta("web", true)));
    cache.set_network("n", Some(bridge("n", &[(WEB, 2), ("other", 3)])));
    assert!(!cache.take_changed());

    assert!(cache.set_meta("other", meta("renamed", true)));
    cache.set_powers(
        "other",
        Powers {
            privileged: true,
            net_admin: false,
        },
    );
    assert!(cache.take_changed());
    let after = cache.snapshot();
    let find = |snapshot: &Snapshot, id: &str| {
        Arc::clone(
            snapshot
                .containers
                .iter()
                .find(|container| container.id == id)
                .expect("listed"),
        )
    };
    assert!(Arc::ptr_eq(&find(&before, WEB), &find(&after, WEB)));
    let other = find(&after, "other");
    assert_eq!(
        (other.name.as_str(), other.unprotected.as_slice()),
        ("renamed", &[Unprotected::Privileged][..])
    );
    assert_eq!(other.attachments.len(), 1);
}

#[test]
fn why_a_container_is_not_protected() {
    let mut cache = cache();
    cache.set_image("image", Some(BTreeMap::new()));
    cache.set_meta(WEB, meta("web", true));
    cache.set_meta(
        "joiner",
        Meta {
            joined: Some("web".into()),
            ..meta("joiner", true)
        },
    );
    cache.set_meta(
        "host",
        Meta {
            host_network: true,
            ..meta("host", true)
        },
    );
    let kinds = [
        ("o", NetworkKind::Unprotected(Unprotected::Overlay)),
        ("m", NetworkKind::Unprotected(Unprotected::Macvlan)),
        ("0", NetworkKind::Null),
    ];
    for (id, kind) in kinds {
        cache.set_network(id, Some(network(kind, &[(WEB, 2)])));
    }
    let snapshot = cache.snapshot();
    assert_eq!(snapshot.networks, []);
    let found: Vec<(&str, &[Unprotected], Option<&str>)> = snapshot
        .containers
        .iter()
        .map(|container| {
            (
                container.name.as_str(),
                container.unprotected.as_slice(),
                container.shares.as_deref(),
            )
        })
        .collect();
    let expected: [(&str, &[Unprotected], Option<&str>); 3] = [
        ("host", &[Unprotected::HostNetwork], None),
        ("joiner", &[Unprotected::Shared], Some(WEB)),
        ("web", &[Unprotected::Macvlan, Unprotected::Overlay], None),
    ];
    assert_eq!(found, expected);
}
