//! Sections 3 to 5: flows, and the sides that a hook answers for.

use std::net::IpAddr;

use super::{
    Answer, Count, Mode, Node, Port, Verdict,
    class::{Class, Ruling},
    guard::{Scene, dialled},
    read::{self, Packet, Upper},
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The largest frame that an interface of the scenario takes.
const LARGEST: usize = 1514;

/// One conversation on one network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    /// Both ends, the smaller first.
    Ports(u32, u8, (IpAddr, u16), (IpAddr, u16)),
    /// Who asks, who is asked, and the id.
    Echo(u32, u8, IpAddr, IpAddr, u16),
    /// An ICMP message that has no answer: sender, receiver and type.
    Message(u32, u8, IpAddr, IpAddr, u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    Established,
    Closing,
    Closed,
}

/// A side that was judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Side {
    epoch: u64,
    verdict: Verdict,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    initiator: (IpAddr, u16),
    /// Of initiator and responder, where they are endpoints of this network.
    ports: [Option<u32>; 2],
    sides: [Option<Side>; 2],
    state: State,
    seen: u64,
    /// The initiator's last packet came to the receiver by the bridge.
    is_bridged: bool,
}

/// What judging a packet's sides comes to.
enum Judged {
    Passes { is_clean: bool },
    Denied { by_me: bool, reason: &'static str },
}

/// A packet in one orientation.
#[derive(Clone, Copy)]
struct Turn {
    sender_is_initiator: bool,
    sides: [Option<Side>; 2],
}

impl Node {
    /// A packet that guards have let through: finds or opens its flow.
    pub(super) fn tracked(&mut self, scene: &Scene<'_>, packet: &Packet<'_>) -> Answer {
        let me = scene.me;
        let peer = self.peer(scene).cloned();
        let peer_mode = peer.as_ref().map_or(Mode::Off, |peer| peer.mode);
        let key = key(me.network, packet);
        let sender = sender(packet);
        let held = self.held(scene, packet);
        let syn = is_syn(packet);
        let known = held.filter(|entry| entry.initiator == sender || !syn);
        if me.mode == Mode::Off && peer_mode == Mode::Off {
            // Nobody to judge for: what was judged before they were switched off goes on, and nothing is opened.
            if let Some(entry) = known {
                let state = after(entry.state, packet, entry.initiator == sender);
                let seen = self.now;
                let is_bridged = is_bridged(scene, Some(&entry), sender);
                self.flows.insert(
                    key,
                    Entry {
                        state,
                        seen,
                        is_bridged,
                        ..entry
                    },
                );
            }
            return Answer::silent();
        }
        let mut turn = match known {
            Some(entry) => Turn {
                sender_is_initiator: entry.initiator == sender,
                sides: entry.sides,
            },
            None => fresh(true),
        };
        let mut is_adopted = false;
        let judged = if known.is_some() || may_open(packet) {
            self.judge_sides(scene, packet, peer.as_ref(), &mut turn)
        } else if is_tcp(packet) && self.known.adopts {
            let (judged, adopted) = self.adopt(scene, packet, peer.as_ref(), &mut turn);
            is_adopted = adopted;
            judged
        } else {
            let reason = if is_tcp(packet) { "no-syn" } else { "no-flow" };
            return match me.mode {
                Mode::Off => Answer::silent(),
                Mode::Audit => Answer::counted(Verdict::Audit, vec![reason]),
                Mode::Enforce => Answer::denied(reason),
            };
        };
        match judged {
            Judged::Denied {
                by_me: true,
                reason,
            } => return Answer::denied(reason),
            Judged::Denied {
                by_me: false,
                reason,
            } => {
                return Answer {
                    passes: false,
                    own: own(scene, &turn),
                    peer: peer.map(|peer| (peer.ifindex, vec![reason])),
                    past: None,
                };
            }
            Judged::Passes { .. } => {}
        }
        let other = peer.as_ref().map(|peer| peer.ifindex);
        let ports = match is_my_side_first(scene, &turn) {
            true => [Some(me.ifindex), other],
            false => [other, Some(me.ifindex)],
        };
        let initiator = match turn.sender_is_initiator {
            true => sender,
            false => receiver(packet),
        };
        let before = match known {
            Some(entry) => entry.state,
            None if may_open(packet) => State::New,
            None => State::Established,
        };
        let entry = Entry {
            initiator,
            ports,
            sides: turn.sides,
            state: after(before, packet, turn.sender_is_initiator || known.is_none()),
            seen: self.now,
            is_bridged: is_bridged(scene, known.as_ref(), sender),
        };
        self.flows.insert(key, entry);
        let mut own = own(scene, &turn);
        if let Some(own) = &mut own
            && is_adopted
        {
            own.reasons = vec!["adopted"];
        }
        Answer {
            passes: true,
            own,
            peer: None,
            past: peer.and_then(|peer| self.past(scene, &peer, &turn, entry.is_bridged)),
        }
    }

    /// Section 12: whether a packet that passes goes to its receiver at once, and what the receiver counts then.
    fn past(
        &self,
        scene: &Scene<'_>,
        peer: &Port,
        turn: &Turn,
        is_bridged: bool,
    ) -> Option<(u32, Count)> {
        let ends = [scene.me, peer];
        let is_allowed = |side: &Option<Side>| {
            side.is_some_and(|side| side.epoch == self.epoch && side.verdict == Verdict::Allow)
        };
        let goes = scene.sends()
            && !is_bridged
            && ends
                .iter()
                .all(|end| end.is_open && end.mode == Mode::Enforce)
            && scene.to == peer.mac
            && scene.length <= LARGEST
            && turn.sides.iter().all(is_allowed);
        let theirs = turn.sides[usize::from(is_my_side_first(scene, turn))]?;
        let reason = match turn.sender_is_initiator {
            true => theirs.reason,
            false => "reply",
        };
        goes.then(|| {
            let count = Count {
                verdict: Verdict::Allow,
                reasons: vec![reason],
            };
            (peer.ifindex, count)
        })
    }

    /// The other end, where it is an endpoint of this network and not this one.
    fn peer(&self, scene: &Scene<'_>) -> Option<&Port> {
        match scene.other().0 {
            Class::Endpoint(other) if other != scene.me.ifindex => {
                let port = self.port(other)?;
                (port.network == scene.me.network).then_some(port)
            }
            Class::Group | Class::Host | Class::Endpoint(_) | Class::Unknown | Class::World => None,
        }
    }

    /// The packet's flow, if it is not over and its ends are where the packet's are.
    fn held(&self, scene: &Scene<'_>, packet: &Packet<'_>) -> Option<Entry> {
        let entry = *self.flows.get(&key(scene.me.network, packet))?;
        if self.is_over(&entry, packet.protocol) {
            return None;
        }
        let turn = fresh(entry.initiator == sender(packet));
        let mine = usize::from(!is_my_side_first(scene, &turn));
        let peer = self.peer(scene).map(|peer| peer.ifindex);
        let fits = entry.ports[mine] == Some(scene.me.ifindex) && entry.ports[1 - mine] == peer;
        fits.then_some(entry)
    }

    /// Whether the packet belongs to a flow all of whose sides that this hook answers for are judged.
    pub(super) fn has_flow(&self, scene: &Scene<'_>, packet: &Packet<'_>) -> bool {
        self.held(scene, packet).is_some_and(|entry| {
            let turn = fresh(entry.initiator == sender(packet));
            let mine = usize::from(!is_my_side_first(scene, &turn));
            let is_current = |side: Option<Side>| side.is_some_and(|side| side.epoch == self.epoch);
            let needs_peer = scene.sends() && mine == 0 && entry.ports[1].is_some();
            (scene.me.mode == Mode::Off || is_current(entry.sides[mine]))
                && (!needs_peer || is_current(entry.sides[1]))
        })
    }

    /// Silence ends a flow.
    fn is_over(&self, entry: &Entry, protocol: u8) -> bool {
        let seconds = match (protocol, entry.state) {
            (6, State::New) => 60,
            (6, State::Established) => 5 * 86_400,
            (6, State::Closing) => 120,
            (6, State::Closed) => 10,
            (17, State::New) => 30,
            (17, _) => 180,
            (1 | 58, _) | (_, State::New) => 60,
            _ => 600,
        };
        self.now - entry.seen > seconds * 1000
    }

    /// Egress first; the receiver's side too where the sender's hook knows it. What is current is not asked again.
    fn judge_sides(
        &self,
        scene: &Scene<'_>,
        packet: &Packet<'_>,
        peer: Option<&Port>,
        turn: &mut Turn,
    ) -> Judged {
        let me = scene.me;
        let my_side = usize::from(!is_my_side_first(scene, turn));
        let mut answers_for = vec![(my_side, me)];
        if let Some(peer) = peer
            && scene.sends()
            && my_side == 0
        {
            answers_for.push((1, peer));
        }
        let mut is_clean = true;
        for (side, who) in answers_for {
            if turn.sides[side].is_some_and(|side| side.epoch == self.epoch) {
                continue;
            }
            let ruling = self.side(scene, packet, side == 1, who, turn.sender_is_initiator);
            let (verdict, reason) = match (ruling, who.mode) {
                (Ruling::Allowed, _) => (Verdict::Allow, "allowed"),
                (Ruling::Denied(reason), Mode::Audit) => (Verdict::Audit, reason),
                (Ruling::Denied(reason), _) => {
                    let by_me = who.ifindex == me.ifindex;
                    return Judged::Denied { by_me, reason };
                }
            };
            is_clean &= verdict == Verdict::Allow;
            turn.sides[side] = Some(Side {
                epoch: self.epoch,
                verdict,
                reason,
            });
        }
        Judged::Passes { is_clean }
    }

    /// What the rules of one side's endpoint say.
    fn side(
        &self,
        scene: &Scene<'_>,
        packet: &Packet<'_>,
        is_ingress: bool,
        who: &Port,
        sender_is_initiator: bool,
    ) -> Ruling {
        if who.mode == Mode::Off {
            return Ruling::Allowed;
        }
        // The initiator's egress is asked about the responder, the responder's ingress about the initiator.
        let peer = match is_ingress == sender_is_initiator {
            true => scene.source,
            false => scene.destination,
        };
        let port = match (sender_is_initiator, packet.upper) {
            (true, upper) => dialled(&upper),
            (false, Upper::Tcp { source, .. } | Upper::Ports { source, .. }) => source,
            (false, Upper::Icmp { .. }) if packet.protocol == 1 => 8,
            (false, Upper::Icmp { .. }) => 128,
            (false, Upper::Igmp { .. } | Upper::Other) => 0,
        };
        self.ask(who.ifindex, is_ingress, peer, (packet.protocol, port))
    }

    /// Section 4: a connection that is older than dfw; whoever opened it, one orientation must be allowed altogether.
    fn adopt(
        &self,
        scene: &Scene<'_>,
        packet: &Packet<'_>,
        peer: Option<&Port>,
        turn: &mut Turn,
    ) -> (Judged, bool) {
        for sender_is_initiator in [true, false] {
            let mut tried = fresh(sender_is_initiator);
            let judged = self.judge_sides(scene, packet, peer, &mut tried);
            if matches!(judged, Judged::Passes { is_clean: true }) {
                let adopted = |side| Side {
                    reason: "adopted",
                    ..side
                };
                tried.sides = tried.sides.map(|side| side.map(adopted));
                *turn = tried;
                return (judged, true);
            }
        }
        *turn = fresh(true);
        (self.judge_sides(scene, packet, peer, turn), false)
    }

    /// Section 8: an ICMP error about a packet of a flow, to who sent that packet.
    pub(super) fn related(&self, scene: &Scene<'_>, packet: &Packet<'_>) -> Answer {
        let is_related = self.is_related(scene, packet).unwrap_or(false);
        match (scene.me.mode, is_related) {
            (Mode::Off, _) => Answer::silent(),
            (_, true) => Answer::counted(Verdict::Allow, vec!["related"]),
            (Mode::Audit, false) => Answer::counted(Verdict::Audit, vec!["no-flow"]),
            (Mode::Enforce, false) => Answer::denied("no-flow"),
        }
    }

    fn is_related(&self, scene: &Scene<'_>, packet: &Packet<'_>) -> Option<bool> {
        let (source, destination, protocol, upper) = read::quoted(packet)?;
        if source != packet.destination {
            return None;
        }
        let inner = Packet {
            source,
            destination,
            protocol,
            upper,
            ..packet.clone()
        };
        let entry = self.flows.get(&key(scene.me.network, &inner))?;
        if self.is_over(entry, protocol) {
            return None;
        }
        let (receiver, other) = match entry.initiator == sender(&inner) {
            true => (entry.ports[0], entry.ports[1]),
            false => (entry.ports[1], entry.ports[0]),
        };
        let me = Some(scene.me.ifindex);
        if scene.sends() {
            return Some(other == me);
        }
        let reporter = match scene.source.0 {
            Class::Endpoint(ifindex) => self.port(ifindex),
            Class::Group | Class::Host | Class::Unknown | Class::World => None,
        };
        let reporter = reporter.filter(|port| port.network == scene.me.network);
        Some(receiver == me && reporter.is_none_or(|port| other == Some(port.ifindex)))
    }
}

/// Whether the initiator's last packet came by the bridge, after one of `sender`. One that opens a flow is the initiator's.
fn is_bridged(scene: &Scene<'_>, known: Option<&Entry>, sender: (IpAddr, u16)) -> bool {
    match known {
        Some(entry) if entry.initiator != sender => entry.is_bridged,
        Some(_) | None => !scene.sends(),
    }
}

fn fresh(sender_is_initiator: bool) -> Turn {
    Turn {
        sender_is_initiator,
        sides: [None; 2],
    }
}

/// Whether the hook's endpoint is the initiator, so that its side is the egress side.
fn is_my_side_first(scene: &Scene<'_>, turn: &Turn) -> bool {
    scene.sends() == turn.sender_is_initiator
}

/// Section 11: what the hook's endpoint counts for a packet that its own side let pass.
fn own(scene: &Scene<'_>, turn: &Turn) -> Option<Count> {
    if scene.me.mode == Mode::Off {
        return None;
    }
    let side = turn.sides[usize::from(!is_my_side_first(scene, turn))]?;
    let reason = match turn.sender_is_initiator {
        true => side.reason,
        false => "reply",
    };
    Some(Count {
        verdict: side.verdict,
        reasons: vec![reason],
    })
}

fn is_tcp(packet: &Packet<'_>) -> bool {
    matches!(packet.upper, Upper::Tcp { .. })
}

fn flags(packet: &Packet<'_>) -> u8 {
    match packet.upper {
        Upper::Tcp { flags, .. } => flags,
        Upper::Ports { .. } | Upper::Icmp { .. } | Upper::Igmp { .. } | Upper::Other => 0,
    }
}

fn is_syn(packet: &Packet<'_>) -> bool {
    flags(packet) & (SYN | ACK) == SYN
}

/// TCP by SYN without ACK, RST or FIN; ICMP by anything but an echo reply or an error; others by any packet.
fn may_open(packet: &Packet<'_>) -> bool {
    match packet.upper {
        Upper::Tcp { flags, .. } => flags & (SYN | ACK | RST | FIN) == SYN,
        Upper::Icmp { kind, .. } if packet.protocol == 1 => kind != 0,
        Upper::Icmp { kind, .. } => kind != 129,
        Upper::Ports { .. } | Upper::Igmp { .. } | Upper::Other => true,
    }
}

/// The state after a packet.
fn after(before: State, packet: &Packet<'_>, is_of_initiator: bool) -> State {
    let flags = flags(packet);
    if flags & RST != 0 {
        State::Closed
    } else if flags & FIN != 0 {
        State::Closing
    } else if is_syn(packet) && matches!(before, State::Closing | State::Closed) {
        // The port is used again.
        State::New
    } else if before == State::New && !is_of_initiator {
        State::Established
    } else {
        before
    }
}

/// Whether an ICMP message is an echo request, or the answer to one.
fn echo(packet: &Packet<'_>) -> Option<bool> {
    match (packet.protocol, packet.upper) {
        (1, Upper::Icmp { kind: 8, .. }) | (58, Upper::Icmp { kind: 128, .. }) => Some(true),
        (1, Upper::Icmp { kind: 0, .. }) | (58, Upper::Icmp { kind: 129, .. }) => Some(false),
        _ => None,
    }
}

fn key(network: u32, packet: &Packet<'_>) -> Key {
    let (source, destination, protocol) = (packet.source, packet.destination, packet.protocol);
    match packet.upper {
        Upper::Icmp { kind, id, .. } => match echo(packet) {
            Some(true) => Key::Echo(network, protocol, source, destination, id),
            Some(false) => Key::Echo(network, protocol, destination, source, id),
            None => Key::Message(network, protocol, source, destination, kind),
        },
        Upper::Tcp { .. } | Upper::Ports { .. } | Upper::Igmp { .. } | Upper::Other => {
            let (one, two) = (sender(packet), receiver(packet));
            Key::Ports(network, protocol, one.min(two), one.max(two))
        }
    }
}

/// The packet's source as an end of its flow. An echo and its answer have the same two.
fn sender(packet: &Packet<'_>) -> (IpAddr, u16) {
    let port = match packet.upper {
        Upper::Tcp { source, .. } | Upper::Ports { source, .. } => source,
        Upper::Icmp { .. } | Upper::Igmp { .. } | Upper::Other => 0,
    };
    (packet.source, port)
}

fn receiver(packet: &Packet<'_>) -> (IpAddr, u16) {
    let port = match packet.upper {
        Upper::Tcp { destination, .. } | Upper::Ports { destination, .. } => destination,
        // IGMP that is sent to one has no answer.
        Upper::Igmp { kind } => u16::from(kind),
        Upper::Icmp { .. } | Upper::Other => 0,
    };
    (packet.destination, port)
}
