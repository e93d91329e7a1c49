//! The links of the host as the messages of the kernel tell them. Pure: messages in, changes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use dfw_common::addr::Mac;
use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    tc::TcMessage,
};

use super::{LinkChange, watched};
use crate::model::{Detour, HostAddress, Link, LinkKind, Links, Peer};

/// When the other end of a veth is looked at for the last time, after its MAC became final: who gives it an IPv4 address
/// mostly gives it an IPv6 one a moment later, and no news of that reach the host's namespace.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// Links, and what is not for others to see: where the other end of each veth is.
#[derive(Debug, Default)]
pub(super) struct Cache {
    links: Links,
    far: BTreeMap<u32, Far>,
    unread: BTreeSet<u32>,
    last_looks: BTreeSet<(Instant, u32)>,
    queues: watched::Queues,
}

/// The other end of a veth, in another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FarEnd {
    /// Id of that namespace in the host's (IFLA_LINK_NETNSID).
    pub(super) netnsid: i32,
    /// Its ifindex there (IFLA_LINK).
    pub(super) ifindex: u32,
}

#[derive(Debug)]
struct Far {
    end: FarEnd,
    stage: Stage,
}

/// How much of the other end is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing; it is looked at whenever there is news of the veth.
    Open,
    /// Its MAC; its addresses will be after one more look.
    Pinned,
    /// Everything.
    Settled,
}

/// What one look at the other end of a veth gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// MAC and addresses.
    pub(super) peer: Peer,
    /// Whether it is up. Engines set MAC and addresses before.
    pub(super) up: bool,
}

impl Cache {
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Takes in a message; none if nothing that matters changed.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum of all of rtnetlink"
    )]
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) -> Option<LinkChange> {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.new_link(link),
            RouteNetlinkMessage::DelLink(link) => self.del_link(link),
            RouteNetlinkMessage::NewAddress(address) => {
                let address = host_address(address)?;
                self.set_address(address, true)
            }
            RouteNetlinkMessage::DelAddress(address) => {
                let address = host_address(address)?;
                self.set_address(address, false)
            }
            RouteNetlinkMessage::NewQueueDiscipline(queue) => self.set_queue(queue, true),
            RouteNetlinkMessage::DelQueueDiscipline(queue) => self.set_queue(queue, false),
            _ => None,
        }
    }

    /// Takes in a full dump: what it does not name is gone. Peers stay as they were first seen.
    pub(super) fn replace(&mut self, dump: &[RouteNetlinkMessage]) {
        let old = std::mem::take(self);
        for message in dump {
            if let RouteNetlinkMessage::NewLink(link) = message
                && let Some(before) = old.links.links.get(&link.header.index)
            {
                self.links.links.insert(before.ifindex, before.clone());
            }
        }
        self.far = old.far;
        self.far
            .retain(|ifindex, _| self.links.links.contains_key(ifindex));
        self.last_looks = old.last_looks;
        self.last_looks
            .retain(|(_, ifindex)| self.far.contains_key(ifindex));
        for message in dump {
            let _: Option<LinkChange> = self.apply(message);
        }
    }

    /// A veth whose other end should be looked at now.
    pub(super) fn next_look(&self, now: Instant) -> Option<(u32, FarEnd)> {
        let last = self
            .last_looks
            .first()
            .filter(|(due, _)| *due <= now)
            .map(|(_, ifindex)| ifindex);
        let &ifindex = self.unread.first().or(last)?;
        Some((ifindex, self.far.get(&ifindex)?.end))
    }

    /// When the next last look is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.last_looks.first().map(|(due, _)| *due)
    }

    /// Asks for another look; none comes of it once the MAC is final.
    pub(super) fn look_again(&mut self, ifindex: u32) {
        if self
            .far
            .get(&ifindex)
            .is_some_and(|far| far.stage == Stage::Open)
        {
            self.unread.insert(ifindex);
        }
    }

    /// The MAC at the other end is final.
    pub(super) fn pin(&mut self, ifindex: u32, now: Instant) {
        if let Some(far) = self
            .far
            .get_mut(&ifindex)
            .filter(|far| far.stage == Stage::Open)
        {
            far.stage = Stage::Pinned;
            self.unread.remove(&ifindex);
            self.last_looks.insert((now + LAST_LOOK, ifindex));
        }
    }

    /// Takes in a look at the other end; whether it changed anything. An end that is up and has an address was configured by
    /// its engine: from then on only the container itself would change its MAC, and that is not learned.
    pub(super) fn sighted(
        &mut self,
        ifindex: u32,
        end: FarEnd,
        sight: Option<Sight>,
        now: Instant,
    ) -> bool {
        self.unread.remove(&ifindex);
        let (Some(link), Some(far)) = (
            self.links.links.get_mut(&ifindex),
            self.far.get_mut(&ifindex),
        ) else {
            return false;
        };
        if far.end != end || far.stage == Stage::Settled {
            return false;
        }
        if far.stage == Stage::Pinned {
            far.stage = Stage::Settled;
            self.last_looks.retain(|(_, pinned)| *pinned != ifindex);
        }
        let Some(Sight { mut peer, up }) = sight else {
            return false;
        };
        if far.stage == Stage::Settled
            && let Some(before) = &link.peer
        {
            peer.mac = before.mac;
        }
        let configured = up
            && peer
                .addresses
                .iter()
                .any(|address| !is_link_local(*address));
        let changed = link.peer.as_ref() != Some(&peer);
        link.peer = Some(peer);
        if configured {
            self.pin(ifindex, now);
        }
        changed
    }

    fn new_link(&mut self, message: &LinkMessage) -> Option<LinkChange> {
        // The bridge repeats news of its ports as messages of its own family, with less in them.
        if message.header.interface_family == AddressFamily::Bridge {
            return self.set_detour(message.header.index, watched::told_by_bridge(message));
        }
        let (mut link, far) = describe(message)?;
        link.detour = link.detour.or(self.queues.detour(link.ifindex));
        let before = self.links.links.get(&link.ifindex);
        if let Some(far) = far {
            let known = self.far.entry(link.ifindex).or_insert(Far {
                end: far,
                stage: Stage::Open,
            });
            if known.end != far && known.stage == Stage::Open {
                known.end = far;
            } else {
                link.peer = before.and_then(|before| before.peer.clone());
            }
            if known.stage == Stage::Open {
                self.unread.insert(link.ifindex);
            }
        } else {
            link.peer = before.and_then(|before| before.peer.clone());
        }
        if before == Some(&link) {
            return None;
        }
        let change = match link.bridge {
            Some(bridge)
                if link.kind == LinkKind::Veth
                    && before.is_none_or(|before| before.bridge != link.bridge) =>
            {
                LinkChange::Appeared {
                    ifindex: link.ifindex,
                    name: link.name.clone(),
                    bridge,
                }
            }
            _ => LinkChange::Other,
        };
        self.links.links.insert(link.ifindex, link);
        Some(change)
    }

    /// Takes in what a bridge says of its port, or a queue of its interface.
    fn set_detour(&mut self, ifindex: u32, found: Option<Detour>) -> Option<LinkChange> {
        let link = self.links.links.get_mut(&ifindex)?;
        let detour = found.or(self.queues.detour(ifindex));
        let differs = link.detour != detour;
        link.detour = detour;
        differs.then_some(LinkChange::Other)
    }

    fn set_queue(&mut self, queue: &TcMessage, present: bool) -> Option<LinkChange> {
        let ifindex = self.queues.set(queue, present)?;
        let link = self.links.links.get(&ifindex)?;
        let of_link = link.detour.filter(|detour| *detour != Detour::Queue);
        self.set_detour(ifindex, of_link)
    }

    fn del_link(&mut self, message: &LinkMessage) -> Option<LinkChange> {
        // In the bridge's own family it says only that the link is no port any more; an ordinary message follows.
        if message.header.interface_family == AddressFamily::Bridge {
            return None;
        }
        let ifindex = message.header.index;
        self.far.remove(&ifindex);
        self.unread.remove(&ifindex);
        self.queues.forget(ifindex);
        // A look that is due and cannot be taken would be due for ever.
        self.last_looks.retain(|(_, gone)| *gone != ifindex);
        self.links
            .host_addresses
            .retain(|address| address.ifindex != ifindex);
        self.links.links.remove(&ifindex).map(|_| LinkChange::Other)
    }

    fn set_address(&mut self, address: HostAddress, present: bool) -> Option<LinkChange> {
        let addresses = &mut self.links.host_addresses;
        match (addresses.binary_search(&address), present) {
            (Ok(_), true) | (Err(_), false) => return None,
            (Ok(at), false) => drop(addresses.remove(at)),
            (Err(at), true) => addresses.insert(at, address),
        }
        Some(LinkChange::Other)
    }
}

/// What a link message says, and where the other end of a veth is if it is elsewhere.
fn describe(message: &LinkMessage) -> Option<(Link, Option<FarEnd>)> {
    let (mut name, mut kind, mut controller, mut port_of_bridge) =
        (None, LinkKind::Other, None, false);
    let (mut other_end, mut netnsid, mut detour) = (None, None, None);
    for attribute in &message.attributes {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of every link attribute"
        )]
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Controller(ifindex) => controller = Some(*ifindex),
            LinkAttribute::Link(ifindex) => {
                other_end = Some(*ifindex).filter(|ifindex| *ifindex != 0)
            }
            LinkAttribute::LinkNetNsId(id) => netnsid = Some(*id).filter(|id| *id >= 0),
            LinkAttribute::LinkInfo(infos) => {
                detour = watched::told_by_link(infos);
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Veth) => kind = LinkKind::Veth,
                        LinkInfo::Kind(InfoKind::Bridge) => kind = LinkKind::Bridge,
                        LinkInfo::PortKind(InfoPortKind::Bridge) => port_of_bridge = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let other_end = other_end.filter(|_| kind == LinkKind::Veth);
    let link = Link {
        ifindex: message.header.index,
        name: name?,
        kind,
        up: message.header.flags.contains(LinkFlags::Up),
        bridge: controller.filter(|_| port_of_bridge),
        peer_here: other_end.filter(|_| netnsid.is_none()),
        peer: None,
        detour,
    };
    let far = other_end
        .zip(netnsid)
        .map(|(ifindex, netnsid)| FarEnd { netnsid, ifindex });
    Some((link, far))
}

/// What the other end of a veth says of itself, with its addresses. None if it is not that veth's other end: a namespace id
/// may have been given away since.
pub(super) fn sight(
    link: &LinkMessage,
    addresses: &[RouteNetlinkMessage],
    host_ifindex: u32,
) -> Option<Sight> {
    let mut mac = None;
    let mut leads_back = false;
    for attribute in &link.attributes {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of every link attribute"
        )]
        match attribute {
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac::new),
            LinkAttribute::Link(ifindex) => leads_back = *ifindex == host_ifindex,
            _ => {}
        }
    }
    let mut addresses: Vec<IpAddr> = addresses
        .iter()
        .filter_map(|message| {
            if let RouteNetlinkMessage::NewAddress(address) = message {
                host_address(address)
            } else {
                None
            }
        })
        .filter(|address| address.ifindex == link.header.index)
        .map(|address| address.net.addr())
        .collect();
    addresses.sort();
    addresses.dedup();
    let up = link.header.flags.contains(LinkFlags::Up);
    mac.filter(|_| leads_back).map(|mac| Sight {
        peer: Peer { mac, addresses },
        up,
    })
}

/// An address with its on-link prefix. On a point-to-point link IFA_LOCAL is the own address and IFA_ADDRESS the other's.
fn host_address(message: &AddressMessage) -> Option<HostAddress> {
    let (mut address, mut local) = (None, None);
    for attribute in &message.attributes {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of every address attribute"
        )]
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(HostAddress {
        ifindex: message.header.index,
        net,
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port of a bridge whose other end is in another namespace.
    fn port(ifindex: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes = vec![
            LinkAttribute::IfName(format!("veth{ifindex}")),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::PortKind(InfoPortKind::Bridge),
            ]),
            LinkAttribute::Controller(1),
            LinkAttribute::Link(2),
            LinkAttribute::LinkNetNsId(0),
        ];
        message
    }

    fn with_last_look(now: Instant) -> Cache {
        let mut cache = Cache::default();
        let appeared = cache.apply(&RouteNetlinkMessage::NewLink(port(7)));
        assert!(
            matches!(appeared, Some(LinkChange::Appeared { .. })),
            "{appeared:?}"
        );
        cache.pin(7, now);
        assert!(cache.next_due().is_some());
        cache
    }

    #[test]
    fn a_link_that_is_gone_is_not_looked_at() {
        let mut cache = with_last_look(Instant::now());
        cache.apply(&RouteNetlinkMessage::DelLink(port(7)));
        assert_eq!(cache.next_due(), None);
    }

    #[test]
    fn reading_anew_keeps_the_last_looks_of_what_is_there() {
        let now = Instant::now();
        let mut cache = with_last_look(now);
        cache.replace(&[RouteNetlinkMessage::NewLink(port(7))]);
        assert_eq!(cache.next_due(), Some(now + LAST_LOOK));
        cache.replace(&[]);
        assert_eq!(cache.next_due(), None);
    }
}
