//! Which addresses an endpoint is bound to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::is_link_local;
use crate::model::{Attachment, Container, Endpoint, Finding, Level, Link, Peer};

/// An endpoint before its addresses were held against its neighbours'.
pub(super) struct Draft {
    /// The endpoint; its addresses come last.
    pub(super) endpoint: Endpoint,
    /// What the engine or the file says, and the link-local address that follows from the MAC.
    own: BTreeSet<IpAddr>,
    /// What was only seen at first sight in the container.
    seen: BTreeSet<IpAddr>,
}

impl Draft {
    /// The engine (or the file) decides; the kernel's first sight fills in what it leaves open, and differences are
    /// reported.
    pub(super) fn new(
        container: &Arc<Container>,
        attachment: &Attachment,
        bridge: u32,
        link: &Link,
        findings: &mut Vec<Finding>,
    ) -> Option<Self> {
        let peer = link.peer.as_ref();
        let Some(mac) = attachment.mac.or(peer.map(|peer| peer.mac)) else {
            findings.push(Finding::new(
                Level::Warning,
                "no-address",
                &container.name,
                format!(
                    "the other end of {} is not in another namespace, so its MAC cannot be read; write mac and ip",
                    link.name
                ),
            ));
            return None;
        };
        let (local, global): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = peer
            .iter()
            .flat_map(|peer| &peer.addresses)
            .partition(|address| is_link_local(**address));
        let recorded: BTreeSet<IpAddr> = attachment.addresses.iter().copied().collect();
        if recorded.is_empty() && global.is_empty() {
            findings.push(Finding::new(
                Level::Warning,
                "no-address",
                &container.name,
                format!(
                    "the other end of {} has no address yet; set one, or write ip",
                    link.name
                ),
            ));
            return None;
        }
        if let Some(peer) = peer {
            findings.extend(difference(container, attachment, peer, &recorded, &global));
        }

        let mut own = recorded;
        let mut seen = local;
        if own.is_empty() {
            seen.extend(global);
        }
        own.insert(mac.link_local().to_ip());
        seen.retain(|address| !own.contains(address));
        let endpoint = Endpoint {
            ifindex: link.ifindex,
            interface: link.name.clone(),
            network: bridge,
            container: Arc::clone(container),
            mac,
            addresses: Vec::new(),
        };
        Some(Self {
            endpoint,
            own,
            seen,
        })
    }
}

fn difference(
    container: &Container,
    attachment: &Attachment,
    peer: &Peer,
    recorded: &BTreeSet<IpAddr>,
    global: &BTreeSet<IpAddr>,
) -> Option<Finding> {
    let mac = attachment.mac.filter(|mac| *mac != peer.mac);
    let addresses = !recorded.is_empty() && !global.is_empty() && recorded != global;
    if mac.is_none() && !addresses {
        return None;
    }
    let list = |set: &BTreeSet<IpAddr>| {
        set.iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let what = match mac {
        Some(mac) => format!(
            "its MAC is {}, but {mac} is recorded, and only that may be used",
            peer.mac
        ),
        None => format!(
            "it has {}, but {} is recorded, and only that may be used",
            list(global),
            list(recorded)
        ),
    };
    Some(Finding::new(
        Level::Warning,
        "address-differs",
        &container.name,
        what,
    ))
}

/// Gives each address of a network to one endpoint: a record beats what was only seen, and where two records or two sights
/// meet nobody gets it.
pub(super) fn settle(drafts: Vec<Draft>, findings: &mut Vec<Finding>) -> Vec<Endpoint> {
    let mut holders: BTreeMap<(u32, IpAddr), Holders> = BTreeMap::new();
    for draft in &drafts {
        let Endpoint {
            network, ifindex, ..
        } = draft.endpoint;
        for &address in &draft.own {
            holders
                .entry((network, address))
                .or_default()
                .own
                .push(ifindex);
        }
        for &address in &draft.seen {
            holders
                .entry((network, address))
                .or_default()
                .seen
                .push(ifindex);
        }
    }
    drafts
        .into_iter()
        .map(|Draft { mut endpoint, own, seen }| {
            for address in own.into_iter().chain(seen) {
                if holders[&(endpoint.network, address)].winner() == Some(endpoint.ifindex) {
                    endpoint.addresses.push(address);
                } else {
                    findings.push(Finding::new(
                        Level::Error,
                        "address-conflict",
                        &endpoint.container.name,
                        format!("another endpoint of its network has {address} too; it may not use it"),
                    ));
                }
            }
            endpoint
        })
        .collect()
}

#[derive(Default)]
struct Holders {
    own: Vec<u32>,
    seen: Vec<u32>,
}

impl Holders {
    fn winner(&self) -> Option<u32> {
        match (self.own.as_slice(), self.seen.as_slice()) {
            (&[one], _) | (&[], &[one]) => Some(one),
            _ => None,
        }
    }
}
