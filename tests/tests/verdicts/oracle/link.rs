//! Section 8: ARP and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use super::{Answer, Mode, Node, Port, class::Class, guard::Scene, read::Packet};

const SPOOFED: &str = "spoofed-neighbour";
const NEIGHBOUR: &str = "neighbour";

impl Node {
    /// An ARP message; its sender may be unspecified, who asks whether the target is free.
    pub(super) fn arp(&self, scene: &Scene<'_>, is_probe: bool) -> Answer {
        if !scene.sends() {
            return self.received(scene, is_probe, scene.destination);
        }
        let claimed = if is_probe {
            scene.destination
        } else {
            scene.source
        };
        if !scene.is_mine(claimed.0) {
            return scene.guard(SPOOFED);
        }
        self.meets(scene, scene.destination)
    }

    /// An ND message: ICMPv6 133 to 137.
    pub(super) fn discovery(
        &self,
        scene: &mut Scene<'_>,
        packet: &Packet<'_>,
        kind: u8,
        code: u8,
    ) -> Answer {
        if matches!(kind, 134 | 137) {
            return match scene.is_from_host() {
                true => Answer::silent(),
                false => scene.guard("router-advertisement"),
            };
        }
        if packet.hops != 255 || code != 0 {
            return scene.guard(SPOOFED);
        }
        // Whom it names cannot be told, so it may be one who enforces.
        if packet.is_extended {
            return Answer::denied(SPOOFED);
        }
        if kind == 133 {
            return solicits_router(scene, packet);
        }
        let Some(target) = packet
            .rest
            .get(8..24)
            .and_then(|bytes| bytes.first_chunk::<16>())
        else {
            return scene.guard("malformed");
        };
        let target = IpAddr::from(Ipv6Addr::from(*target));
        let target = (self.class(scene.me.network, target), target);
        scene.other_enforces |= self.protects(scene.me, target.0);
        let is_solicitation = kind == 135;
        let is_unspecified = scene.source.1.is_unspecified();
        if !scene.sends() {
            let of_endpoint = matches!(scene.source.0, Class::Endpoint(_));
            if !is_solicitation && of_endpoint && target.0 != scene.source.0 {
                return scene.guard(SPOOFED);
            }
            let about = if scene.is_mine(target.0) {
                target
            } else {
                scene.destination
            };
            return self.received(scene, is_unspecified, about);
        }
        let is_detection = is_unspecified && is_solicitation;
        if !is_detection && !is_of_sender(scene, packet, 24) {
            return scene.guard(SPOOFED);
        }
        let is_about_sender = is_detection || !is_solicitation;
        if is_about_sender && !scene.is_mine(target.0) {
            return scene.guard(SPOOFED);
        }
        let sent = self.sent(scene);
        if is_about_sender || !sent.passes {
            return sent;
        }
        self.meets(scene, target)
    }

    /// Whether a message of the link may go to its destination at all.
    fn sent(&self, scene: &Scene<'_>) -> Answer {
        let me = scene.me;
        match scene.destination.0 {
            Class::Group => Answer::silent(),
            Class::World if me.mode == Mode::Enforce => {
                let some = [false, true]
                    .map(|is_ingress| self.allows_some(me.ifindex, is_ingress, scene.destination));
                match some {
                    [false, false] => Answer::denied(NEIGHBOUR),
                    _ => Answer::silent(),
                }
            }
            Class::Host | Class::Endpoint(_) | Class::Unknown | Class::World => {
                self.meets(scene, scene.destination)
            }
        }
    }

    /// What comes from another: `about` is what it calls this endpoint, if it means this one.
    fn received(&self, scene: &Scene<'_>, is_probe: bool, about: (Class, IpAddr)) -> Answer {
        let Some(ingress) = scene.ingress else {
            return Answer::silent();
        };
        let is_placed = match scene.source.0 {
            Class::Endpoint(sender) => ingress == sender,
            Class::Group | Class::Host | Class::Unknown | Class::World => {
                is_probe || self.port(ingress).is_none()
            }
        };
        if !is_placed {
            return scene.guard(SPOOFED);
        }
        let is_meant = scene.is_mine(about.0);
        if is_probe {
            return match is_meant && !scene.is_from_host() {
                true => scene.guard(SPOOFED),
                false => Answer::silent(),
            };
        }
        // A bystander of a neighbour's broadcast.
        if !is_meant && matches!(scene.source.0, Class::Endpoint(_)) {
            return scene.hidden(NEIGHBOUR);
        }
        self.meets(scene, scene.source)
    }

    /// Whether this endpoint may know of another.
    fn meets(&self, scene: &Scene<'_>, (class, address): (Class, IpAddr)) -> Answer {
        let me = scene.me;
        match class {
            Class::Host | Class::World => Answer::silent(),
            Class::Endpoint(ifindex) if ifindex == me.ifindex => Answer::silent(),
            Class::Endpoint(ifindex) => match self.port(ifindex) {
                Some(peer) if peer.network == me.network => {
                    let neither = me.mode != Mode::Enforce && peer.mode != Mode::Enforce;
                    // One of its addresses stands for all: rules name endpoints.
                    let mine = (Class::Endpoint(me.ifindex), me.link_local);
                    let theirs = (class, address);
                    let may = neither
                        || self.may_dial((me, mine), (peer, theirs))
                        || self.may_dial((peer, theirs), (me, mine));
                    match may {
                        true => Answer::silent(),
                        false => Answer::denied(NEIGHBOUR),
                    }
                }
                _ => scene.hidden(NEIGHBOUR),
            },
            Class::Group | Class::Unknown => scene.hidden(NEIGHBOUR),
        }
    }

    /// Whether each of the two that enforces allows something from the one to the other.
    fn may_dial(
        &self,
        (from, from_address): (&Port, (Class, IpAddr)),
        (to, to_address): (&Port, (Class, IpAddr)),
    ) -> bool {
        let sender =
            from.mode != Mode::Enforce || self.allows_some(from.ifindex, false, to_address);
        let receiver = to.mode != Mode::Enforce || self.allows_some(to.ifindex, true, from_address);
        sender && receiver
    }
}

fn solicits_router(scene: &Scene<'_>, packet: &Packet<'_>) -> Answer {
    if !scene.sends() {
        return match scene.is_from_host() {
            true => Answer::silent(),
            false => scene.hidden(NEIGHBOUR),
        };
    }
    let is_own = scene.source.1.is_unspecified() || is_of_sender(scene, packet, 8);
    match (is_own, scene.destination.0) {
        (true, Class::Group | Class::Host) => Answer::silent(),
        _ => scene.guard(SPOOFED),
    }
}

/// Whether a message has its sender's address and names no other MAC; `options` is where options begin. They fill the
/// frame; four are walked.
fn is_of_sender(scene: &Scene<'_>, packet: &Packet<'_>, options: usize) -> bool {
    if !scene.is_mine(scene.source.0) {
        return false;
    }
    let Some(mut left) = packet.rest.get(options..) else {
        return false;
    };
    for _ in 0..4 {
        let [kind, length, mac @ ..] = left else {
            return left.is_empty();
        };
        let Some(next) = left.get(usize::from(*length) * 8..) else {
            return false;
        };
        if *length == 0 || (matches!(kind, 1 | 2) && mac[..6] != scene.me.mac) {
            return false;
        }
        left = next;
    }
    left.is_empty()
}
