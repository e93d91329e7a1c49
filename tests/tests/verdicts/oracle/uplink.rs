//! Section 17: what is dropped at an uplink. Where several rows of its table fit, the page leaves open which is told.

use std::net::IpAddr;

use super::{
    Mode, Node, Reasons,
    class::{Class, Ruling, covers},
    read::{self, Frame, Packet, Payload, Upper},
};

/// What may become of a frame at an uplink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AtUplink {
    pub(crate) may_pass: bool,
    /// Each for which it may be dropped.
    pub(crate) reasons: Reasons,
}

impl Node {
    /// What may become of a frame that comes from outside, with a deny list of prefixes.
    pub(crate) fn at_uplink(&self, denied: &[(IpAddr, u8)], frame: &[u8]) -> AtUplink {
        let frame = untagged(frame);
        let (addresses, whole, faults) = match read::frame(&frame) {
            Ok(Frame {
                payload: Payload::Ip(packet),
                ..
            }) if !is_discovery(&packet) => {
                let addresses = (packet.source, packet.destination);
                (Some(addresses), Some(packet), Vec::new())
            }
            Ok(_) => return AtUplink::dropped_for(Vec::new()),
            Err(broken) => (broken.addresses, None, broken.faults),
        };
        // Resolution of addresses is let be, and other ethertypes.
        if !matches!(frame.get(12..14), Some([8, 0] | [0x86, 0xdd])) {
            return AtUplink::dropped_for(Vec::new());
        }
        let is_malformed = faults.contains(&"malformed");
        let mut reasons = Vec::new();
        if let Some((source, _)) = addresses {
            if !is_somebodys_lan(source) && is_within(denied, source) {
                reasons.push("deny-list");
            }
            if self.is_in_subnet(source) {
                reasons.push("spoofed-address");
            }
        }
        if let Some(packet) = whole {
            reasons.extend(self.inside(&packet));
        }
        let mut answer = AtUplink::dropped_for(reasons);
        if is_malformed {
            answer.reasons.push("malformed");
            // Behind a fragment's header or one that is refused there need not be headers that could contradict it.
            answer.may_pass &= faults.iter().any(|fault| *fault != "malformed");
        }
        answer
    }

    /// What is for a container's subnet.
    fn inside(&self, packet: &Packet<'_>) -> Option<&'static str> {
        let (source, destination) = (packet.source, packet.destination);
        let is_own = |(_, own): &(Option<u32>, IpAddr)| *own == destination;
        if !self.is_in_subnet(destination) || self.known.host.iter().any(is_own) {
            return None;
        }
        let mut ports = self.known.ports.iter();
        let Some(port) = ports.find(|port| port.addresses.contains(&destination)) else {
            return self.known.enforces.then_some("unmanaged");
        };
        if port.mode != Mode::Enforce {
            return None;
        }
        match self.class(port.network, source) {
            Class::Host => Some("spoofed-address"),
            Class::World if !is_error(packet) && !self.may_meet(port.ifindex, source) => {
                Some("no-rule")
            }
            Class::World | Class::Group | Class::Endpoint(_) | Class::Unknown => None,
        }
    }

    /// Whether a rule of `owner` lets somebody of the world in, or lets it talk to him, and none beats it.
    fn may_meet(&self, owner: u32, peer: IpAddr) -> bool {
        let mut rules = self.known.rules.iter().filter(|rule| rule.owner == owner);
        rules.any(|rule| {
            let what = (rule.protocol, rule.port);
            self.ask(owner, rule.is_ingress, (Class::World, peer), what) == Ruling::Allowed
        })
    }

    fn is_in_subnet(&self, address: IpAddr) -> bool {
        let mut subnets = self.known.subnets.iter();
        subnets.any(|(_, base, bits)| covers(*base, *bits, address))
    }
}

impl AtUplink {
    fn dropped_for(reasons: Reasons) -> Self {
        Self {
            may_pass: reasons.is_empty(),
            reasons,
        }
    }
}

/// Two tags are looked behind.
fn untagged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..2 {
        if frame.len() >= 18 && matches!(frame[12..14], [0x81 | 0x91, 0] | [0x88, 0xa8]) {
            frame.drain(12..16);
        }
    }
    frame
}

fn is_discovery(packet: &Packet<'_>) -> bool {
    matches!((packet.protocol, packet.upper), (58, Upper::Icmp { kind, .. }) if (133..=137).contains(&kind))
}

fn is_error(packet: &Packet<'_>) -> bool {
    match (packet.protocol, packet.upper) {
        (1, Upper::Icmp { kind, .. }) => [3, 4, 11, 12].contains(&kind),
        (58, Upper::Icmp { kind, .. }) => (1..=4).contains(&kind),
        _ => false,
    }
}

fn is_within(nets: &[(IpAddr, u8)], address: IpAddr) -> bool {
    nets.iter()
        .any(|(base, bits)| covers(*base, *bits, address))
}

/// Whom no list denies.
fn is_somebodys_lan(address: IpAddr) -> bool {
    let lans = [
        ("0.0.0.0", 8),
        ("10.0.0.0", 8),
        ("100.64.0.0", 10),
        ("127.0.0.0", 8),
        ("169.254.0.0", 16),
        ("172.16.0.0", 12),
        ("192.168.0.0", 16),
    ];
    let parsed = |text: &str| text.parse().expect("an address");
    match address {
        IpAddr::V4(_) => is_within(&lans.map(|(base, bits)| (parsed(base), bits)), address),
        IpAddr::V6(_) => !covers(parsed("2000::"), 3, address),
    }
}
