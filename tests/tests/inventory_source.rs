//! The inventory file and the links together: endpoints without Docker.

use std::{fs, net::IpAddr, time::Duration};

use dfw_agent::{
    model::{Inventory, bind},
    source::{Source, inventory::InventorySource, netlink::LinkWatcher},
};
use dfw_tests::{Bridge, Endpoint, Namespace, scratch::Scratch};
use tokio::time::Instant;

fn entry(name: &str) -> String {
    format!("[[endpoint]]\nname = \"{name}\"\ninterface = \"veth-{name}\"\nnetwork = \"shop\"\n")
}

async fn until(
    source: &mut InventorySource,
    links: &mut LinkWatcher,
    what: &str,
    met: impl Fn(&Inventory) -> bool,
) -> Inventory {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let inventory = bind(source.snapshot(), links.links());
        for endpoint in &inventory.endpoints {
            links.pin_peer(endpoint.ifindex);
        }
        if met(&inventory) {
            return inventory;
        }
        tokio::select! {
            () = source.changed() => {}
            change = links.changed() => drop(change.expect("links")),
            // No news of an address inside reach the host: the agent's periodic pass looks again.
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                for (ifindex, _) in inventory.unclaimed {
                    links.refresh_peer(ifindex).await.expect("links");
                }
            }
            () = tokio::time::sleep_until(deadline) => panic!("waits in vain until {what}: {inventory:#?}"),
        }
    }
}

fn has_both(inventory: &Inventory, name: &str, endpoint: &Endpoint) -> bool {
    let bound = inventory
        .endpoints
        .iter()
        .find(|bound| bound.container.name == name);
    let own: [IpAddr; 2] = [endpoint.v4.into(), endpoint.v6.into()];
    bound.is_some_and(|bound| {
        own.iter().all(|address| bound.addresses.contains(address)) && bound.addresses.len() == 3
    })
}

#[test]
fn endpoints_of_a_file_are_bound_on_both_families() {
    let host = Namespace::new();
    let scratch = Scratch::new();
    let mut bridge = Bridge::new(&host, "br0", 9);
    let web = bridge.plug("web");
    let file = scratch.file("inventory.toml", &(entry("web") + &entry("late")));
    host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut links = LinkWatcher::open().await.expect("links");
            let mut source = InventorySource::open(&file).expect("valid");
            let (source, links) = (&mut source, &mut links);
            let first = until(source, links, "web is bound", |i| has_both(i, "web", &web)).await;
            let codes: Vec<&str> = first
                .findings
                .iter()
                .map(|finding| finding.code.as_str())
                .collect();
            assert_eq!(codes, ["no-interface"], "{:?}", first.findings);
            let subnets: Vec<String> = first.networks[0]
                .network
                .subnets
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(
                (first.networks[0].network.bridge.as_str(), subnets),
                (
                    "br0",
                    vec!["10.77.9.0/24".to_owned(), "fd77:9::/64".to_owned()]
                )
            );

            // Its veth is up before it has addresses, and these come one by one.
            let late = bridge.plug("late");
            let both = until(source, links, "late is bound", |i| {
                has_both(i, "late", &late)
            })
            .await;
            assert_eq!((both.endpoints.len(), both.findings.len()), (2, 0));

            fs::write(&file, entry("late")).expect("the file can be written");
            let last = until(source, links, "web is nobody's", |i| i.endpoints.len() == 1).await;
            assert_eq!(last.unclaimed.len(), 1);
        });
    });
}
