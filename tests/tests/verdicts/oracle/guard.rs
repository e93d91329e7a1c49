//! Sections 6 to 8: what stands before policy.

use std::net::IpAddr;

use super::{
    Answer, Mode, Node, Port, Reasons, Spot, Verdict,
    class::{Class, Ruling},
    read::{self, Packet, Payload, Upper},
};

/// What a hook knows of one packet.
pub(super) struct Scene<'a> {
    pub(super) me: &'a Port,
    /// None at the sender's hook, else where the packet came from.
    pub(super) ingress: Option<u32>,
    /// Classes of source and destination (ARP: of sender and target) with their addresses.
    pub(super) source: (Class, IpAddr),
    pub(super) destination: (Class, IpAddr),
    pub(super) other_enforces: bool,
    /// The frame's destination MAC and its length.
    pub(super) to: [u8; 6],
    pub(super) length: usize,
}

impl Scene<'_> {
    pub(super) fn sends(&self) -> bool {
        self.ingress.is_none()
    }

    /// By the host's own hand or through the bridge device.
    pub(super) fn is_from_host(&self) -> bool {
        self.ingress == Some(0) || self.ingress == Some(self.me.network)
    }

    pub(super) fn is_mine(&self, class: Class) -> bool {
        class == Class::Endpoint(self.me.ifindex)
    }

    /// The end of the packet that is not this hook's.
    pub(super) fn other(&self) -> (Class, IpAddr) {
        match self.sends() {
            true => self.destination,
            false => self.source,
        }
    }

    /// Section 6: dropped when the hook's endpoint or another that the frame names enforces, else counted as what would
    /// have been.
    pub(super) fn guard(&self, reason: &'static str) -> Answer {
        guarded(
            self.me.mode == Mode::Enforce || self.other_enforces,
            vec![reason],
        )
    }

    /// What a bystander gets: not for it when it enforces, otherwise not worth a count.
    pub(super) fn hidden(&self, reason: &'static str) -> Answer {
        match self.me.mode {
            Mode::Enforce => Answer::denied(reason),
            Mode::Off | Mode::Audit => Answer::silent(),
        }
    }
}

fn guarded(drops: bool, reasons: Reasons) -> Answer {
    let verdict = if drops { Verdict::Deny } else { Verdict::Audit };
    Answer::counted(verdict, reasons)
}

impl Node {
    /// At a hook of a port that has an identity.
    pub(super) fn at_port(&mut self, me: &Port, spot: Spot, bytes: &[u8]) -> Answer {
        let frame = match read::frame(bytes) {
            Ok(frame) => frame,
            Err(broken) => {
                let named = broken
                    .addresses
                    .map(|(source, destination)| [source, destination]);
                let named = named.into_iter().flatten();
                let is_protected = named
                    .map(|address| self.class(me.network, address))
                    .any(|class| self.protects(me, class));
                // Behind a tag nobody looks for whom a frame names.
                let hides = matches!(spot, Spot::Sends(_)) && broken.faults.contains(&"vlan-tag");
                let drops = me.mode == Mode::Enforce || is_protected || hides;
                return guarded(drops, broken.faults);
            }
        };
        let ingress = match spot {
            Spot::Receives { ingress, .. } => Some(ingress),
            Spot::Sends(_) | Spot::Up(_) | Spot::Down(_) => None,
        };
        let (source, destination) = frame.addresses();
        let mut scene = Scene {
            me,
            ingress,
            source: (self.class(me.network, source), source),
            destination: (self.class(me.network, destination), destination),
            other_enforces: false,
            to: frame.destination,
            length: bytes.len(),
        };
        scene.other_enforces =
            self.protects(me, scene.source.0) || self.protects(me, scene.destination.0);
        if scene.sends() {
            if frame.source != me.mac {
                let owner = self
                    .known
                    .ports
                    .iter()
                    .find(|port| port.network == me.network && port.mac == frame.source);
                scene.other_enforces |=
                    owner.is_some_and(|owner| self.protects(me, Class::Endpoint(owner.ifindex)));
                return scene.guard("spoofed-mac");
            }
        } else if frame.destination[0] & 1 == 0 && frame.destination != me.mac {
            return scene.guard("wrong-mac");
        }
        match &frame.payload {
            Payload::Arp { sender, .. } => self.arp(&scene, sender.is_unspecified()),
            Payload::Ip(packet) => self.ip(&mut scene, packet),
        }
    }

    /// Section 6: whether a frame at the hook of `me` names another endpoint that enforces.
    pub(super) fn protects(&self, me: &Port, named: Class) -> bool {
        match named {
            Class::Endpoint(ifindex) if ifindex != me.ifindex => self
                .port(ifindex)
                .is_some_and(|port| port.mode == Mode::Enforce),
            Class::Group | Class::Host | Class::Endpoint(_) | Class::Unknown | Class::World => {
                false
            }
        }
    }

    fn ip(&mut self, scene: &mut Scene<'_>, packet: &Packet<'_>) -> Answer {
        let is_group = scene.destination.0 == Class::Group;
        match packet.upper {
            Upper::Icmp { kind, code, .. }
                if packet.protocol == 58 && (133..=137).contains(&kind) =>
            {
                return self.discovery(scene, packet, kind, code);
            }
            Upper::Icmp { kind, .. }
                if is_group && packet.protocol == 58 && matches!(kind, 130..=132 | 143) =>
            {
                return membership(scene, kind == 130);
            }
            Upper::Igmp { kind } if is_group => return membership(scene, kind == 0x11),
            Upper::Tcp { .. }
            | Upper::Ports { .. }
            | Upper::Icmp { .. }
            | Upper::Igmp { .. }
            | Upper::Other => {}
        }
        // What belongs to a flow was held against this when the flow was opened; nothing that it asks for changes later.
        if let Some(reason) = self.misplaced(scene) {
            return scene.guard(reason);
        }
        if answers_dhcp(packet) && self.is_ruled_by_guard(scene) && !self.has_flow(scene, packet) {
            return scene.guard("dhcp-answer");
        }
        if is_group {
            return self.group(scene, packet);
        }
        if is_error(packet) {
            return self.related(scene, packet);
        }
        self.tracked(scene, packet)
    }

    /// Whether an address is not where it belongs (sections 3, 6 and 7).
    fn misplaced(&self, scene: &Scene<'_>) -> Option<&'static str> {
        let Some(ingress) = scene.ingress else {
            return (!scene.is_mine(scene.source.0)).then_some("spoofed-address");
        };
        let is_for_me = scene.is_mine(scene.destination.0);
        if !is_for_me && scene.destination.0 != Class::Group {
            return Some("wrong-address");
        }
        let from_port = self.port(ingress).is_some();
        let is_placed = match scene.source.0 {
            Class::Endpoint(sender) if sender == scene.me.ifindex => false,
            Class::Endpoint(sender) => {
                let bridge = self.port(sender).map(|port| port.network);
                ingress == sender || Some(ingress) == bridge
            }
            // Translated to the host's address inside the bridge it may come by a port; not to a group.
            Class::Host => is_for_me || !from_port,
            Class::World | Class::Unknown | Class::Group => ingress != 0 && !from_port,
        };
        (!is_placed).then_some("spoofed-address")
    }

    /// DHCP answers: none from a container; the host's are a matter of policy.
    fn is_ruled_by_guard(&self, scene: &Scene<'_>) -> bool {
        scene.sends() || matches!(scene.source.0, Class::Endpoint(_))
    }

    /// Section 8: each end by itself, no entry.
    fn group(&self, scene: &Scene<'_>, packet: &Packet<'_>) -> Answer {
        let me = scene.me;
        if me.mode == Mode::Off {
            return Answer::silent();
        }
        let dialled = (packet.protocol, dialled(&packet.upper));
        match self.ask(me.ifindex, !scene.sends(), scene.other(), dialled) {
            Ruling::Allowed => Answer::counted(Verdict::Allow, vec!["allowed"]),
            Ruling::Denied(reason) if me.mode == Mode::Audit => {
                Answer::counted(Verdict::Audit, vec![reason])
            }
            Ruling::Denied(reason) => Answer::denied(reason),
        }
    }
}

/// Section 8: reports reach the bridge only, queries are the host's.
fn membership(scene: &Scene<'_>, is_query: bool) -> Answer {
    let (class, address) = scene.source;
    if !scene.sends() {
        return match scene.is_from_host() {
            true => Answer::silent(),
            false => scene.hidden("group-membership"),
        };
    }
    if is_query {
        scene.guard("group-membership")
    } else if !address.is_unspecified() && !scene.is_mine(class) {
        scene.guard("spoofed-address")
    } else {
        Answer::silent()
    }
}

/// The port that a packet dials; ICMP and IGMP: the type.
pub(super) fn dialled(upper: &Upper) -> u16 {
    match upper {
        Upper::Tcp { destination, .. } | Upper::Ports { destination, .. } => *destination,
        Upper::Icmp { kind, .. } | Upper::Igmp { kind } => u16::from(*kind),
        Upper::Other => 0,
    }
}

fn answers_dhcp(packet: &Packet<'_>) -> bool {
    match packet.upper {
        Upper::Ports {
            source,
            destination,
        } => packet.protocol == 17 && matches!((source, destination), (67, 68) | (547, 546)),
        Upper::Tcp { .. } | Upper::Icmp { .. } | Upper::Igmp { .. } | Upper::Other => false,
    }
}

fn is_error(packet: &Packet<'_>) -> bool {
    match packet.upper {
        Upper::Icmp { kind, .. } if packet.protocol == 1 => matches!(kind, 3 | 4 | 11 | 12),
        Upper::Icmp { kind, .. } => matches!(kind, 1..=4),
        Upper::Tcp { .. } | Upper::Ports { .. } | Upper::Igmp { .. } | Upper::Other => false,
    }
}
