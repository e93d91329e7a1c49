//! The decision: what becomes of a packet at a hook, and whose side it is counted on.
//!
//! `From` is the hook where an endpoint sends (TCX ingress of its host-side veth), `To` where it receives (TCX egress).
//! docs/semantics.md says what the rules mean; the sections are named where they are carried out.

use crate::{
    addr::{Addr, Mac},
    conntrack::{is_expired, is_syn, key_of, may_open, next_state, state},
    env::Env,
    key::{FlowKey, proto},
    neighbour,
    packet::{Headers, Packet, ethertype},
    parse::{Icmp, icmp, parse, quoted},
    policy::{Question, Ruling},
    reason::{Direction, Reason, Verdict},
    value::{Address, Endpoint, Flow, PolicyEntry, Settings, Side, kind, mode},
};

/// Which hook of an endpoint sees the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// The endpoint sends.
    From,
    /// The endpoint receives.
    To,
}

/// Where a packet was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which hook.
    pub hook: Hook,
    /// Host-side ifindex of the hook's endpoint.
    pub ifindex: u32,
    /// The interface that the packet came into the host by, 0 if the host made it (`ingress_ifindex`).
    pub ingress: u32,
}

/// What is counted on one side. Neither an `Option` nor padded: the verifier refuses to copy what is left undefined.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Number of the deciding rule, [`PolicyEntry::NO_RULE`] if none.
    pub rule: u16,
    /// Allow, deny or audit.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Whether anything is counted; if not, the rest means nothing.
    pub is_counted: bool,
    /// Zero.
    pub pad: u8,
}

/// What becomes of a packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether it goes on.
    pub pass: bool,
    /// Whether it opened a flow.
    pub is_new: bool,
    /// Zero.
    pub pad: [u8; 2],
    /// What the hook's endpoint counts.
    pub own: Tally,
    /// What the receiver counts when its ingress side denied the packet at the sender's hook.
    pub peer: Tally,
    /// The receiver's ifindex, when `peer` is counted.
    pub peer_ifindex: u32,
}

impl Tally {
    /// Counted nowhere.
    pub const NONE: Self = Self {
        rule: PolicyEntry::NO_RULE,
        verdict: Verdict::Allow,
        reason: Reason::Allowed,
        is_counted: false,
        pad: 0,
    };

    /// Counted.
    #[inline(always)]
    pub const fn new(verdict: Verdict, reason: Reason, rule: u16) -> Self {
        Self {
            rule,
            verdict,
            reason,
            is_counted: true,
            pad: 0,
        }
    }
}

impl Outcome {
    /// Goes on and counts nowhere.
    pub const PASS: Self = Self {
        pass: true,
        is_new: false,
        own: Tally::NONE,
        peer: Tally::NONE,
        peer_ifindex: 0,
        pad: [0; 2],
    };

    /// Dropped and counted.
    #[inline(always)]
    pub const fn deny(reason: Reason) -> Self {
        Self::counted(false, Verdict::Deny, reason)
    }

    #[inline(always)]
    const fn counted(pass: bool, verdict: Verdict, reason: Reason) -> Self {
        let own = Tally::new(verdict, reason, PolicyEntry::NO_RULE);
        Self {
            pass,
            is_new: false,
            own,
            peer: Tally::NONE,
            peer_ifindex: 0,
            pad: [0; 2],
        }
    }
}

/// One packet at one hook, beyond its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) hook: Hook,
    pub(crate) ingress: u32,
    pub(crate) me: Endpoint,
    /// Length of the frame, bytes.
    length: u32,
    /// The other end is an endpoint that enforces.
    other_enforces: bool,
    /// The MAC of this hook's endpoint is where it has to be.
    is_bound: bool,
}

/// Room for a decision beyond the established path. A BPF program has 512 bytes of stack; this lies in a map.
pub struct Scratch {
    case: Case,
    pub(crate) headers: Headers,
    /// The tuple that an ICMP error quotes.
    quoted: Headers,
    judgement: Judgement,
    key: FlowKey,
    /// A flow about to be opened.
    fresh: Flow,
    outcome: Outcome,
}

impl Scratch {
    /// What it is at first. Every decision writes what it reads.
    pub const fn new() -> Self {
        let nobody = Endpoint {
            ifindex: 0,
            network: 0,
            mode: 0,
            policy: 0,
            ring_base: 0,
            ring_mask: 0,
            mac: Mac::new([0; 6]),
        };
        let nowhere = Address {
            kind: 0,
            identity: 0,
            ifindex: 0,
            network: 0,
        };
        let side = Side {
            epoch: 0,
            verdict: 0,
            reason: 0,
            rule: 0,
        };
        Self {
            case: Case {
                hook: Hook::From,
                ingress: 0,
                me: nobody,
                length: 0,
                other_enforces: false,
                is_bound: false,
            },
            headers: Headers::NONE,
            quoted: Headers::NONE,
            judgement: Judgement {
                peer: nobody,
                source: nowhere,
                destination: nowhere,
                sides: [side; 2],
                epoch: 0,
                is_denied: false,
                denial: Ruling::denied(Reason::Internal),
                is_denied_by_peer: false,
                is_clean: true,
                from_initiator: true,
            },
            key: FlowKey {
                low: Addr::UNSPECIFIED,
                high: Addr::UNSPECIFIED,
                low_port: 0,
                high_port: 0,
                network: 0,
                protocol: 0,
                asker: 0,
                pad: [0; 2],
            },
            fresh: Flow {
                sides: [side; 2],
                ifindex: [0; 2],
                seen: 0,
                ring: 0,
                packets: [0; 2],
                bytes: [0; 2],
                origin: 0,
                initiator_low: 0,
                state: 0,
                pad: [0; 2],
            },
            outcome: Outcome::PASS,
        }
    }
}

impl Scratch {
    /// The headers of the packet that was decided about last, as far as they could be read.
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Case {
    /// A guard found something: dropped when either end enforces, else counted as audit (section 6).
    #[inline(always)]
    pub(crate) fn guard(&self, reason: Reason) -> Outcome {
        if self.me.mode == mode::ENFORCE || self.other_enforces {
            Outcome::deny(reason)
        } else {
            Outcome::counted(true, Verdict::Audit, reason)
        }
    }

    /// As [`Case::guard`], for what is nobody's fault (a neighbour's broadcast): not counted where it passes.
    #[inline(always)]
    pub(crate) fn soft(&self, reason: Reason) -> Outcome {
        if self.me.mode == mode::ENFORCE {
            Outcome::deny(reason)
        } else {
            Outcome::PASS
        }
    }

    /// Whether the packet comes from the host itself or through the bridge device, not from another port.
    #[inline(always)]
    pub(crate) fn is_from_host(&self) -> bool {
        self.ingress == 0 || self.ingress == self.me.network
    }
}

/// Judges a frame.
#[inline(always)]
pub fn decide<E: Env, P: Packet>(
    env: &mut E,
    packet: &P,
    place: &Place,
    scratch: &mut Scratch,
) -> Outcome {
    let parsed = parse(packet, &mut scratch.headers);
    let Some(me) = env.endpoint(place.ifindex) else {
        return Outcome::deny(Reason::NotReady);
    };
    scratch.case = Case {
        hook: place.hook,
        ingress: place.ingress,
        me,
        length: packet.len(),
        other_enforces: false,
        is_bound: false,
    };
    let case = &mut scratch.case;
    let headers = &mut scratch.headers;
    if let Err(reason) = parsed {
        return case.guard(reason);
    }
    case.is_bound = match place.hook {
        Hook::From => headers.source_mac == me.mac,
        Hook::To => headers.destination_mac == me.mac || headers.destination_mac.is_group(),
    };
    if case.is_bound
        && headers.ethertype != ethertype::ARP
        && let Some(outcome) = established(env, place, &me, headers, packet.len(), &mut scratch.key)
    {
        return outcome;
    }
    // One after the other, not one in the other: each step has the stack to itself.
    if slow(env, packet, scratch) {
        env.flow_of(scratch);
    }
    scratch.outcome
}

/// The path of nearly every packet: one flow lookup, updated in place. None when anything has to be looked at.
#[inline(always)]
fn established<E: Env>(
    env: &mut E,
    place: &Place,
    me: &Endpoint,
    headers: &Headers,
    length: u32,
    key: &mut FlowKey,
) -> Option<Outcome> {
    let source_is_low;
    (*key, source_is_low) = key_of(headers, me.network);
    let settings = env.settings();
    let now = env.now();
    let flow = env.flow(key)?;
    let from_initiator = (flow.initiator_low != 0) == source_is_low;
    let sender = usize::from(!from_initiator);
    let my_end = match place.hook {
        Hook::From => sender,
        Hook::To => 1 - sender,
    };
    let (mine, my_ifindex, other_ifindex) = if my_end == 0 {
        (flow.sides[0], flow.ifindex[0], flow.ifindex[1])
    } else {
        (flow.sides[1], flow.ifindex[1], flow.ifindex[0])
    };
    // The stored ifindex is the anti-spoof check: the sender's address is its own, the receiver is who was meant.
    if my_ifindex != me.ifindex || is_expired(flow, headers.protocol, now, settings.hz) {
        return None;
    }
    // A SYN that is not the first packet of a flow that its sender opened may mean another flow.
    if is_syn(headers) && !(from_initiator && flow.state == state::NEW) {
        return None;
    }
    if me.mode != mode::OFF && !mine.is_current(settings.epoch) {
        return None;
    }
    match place.hook {
        Hook::From => {
            if from_initiator && other_ifindex != 0 && !flow.sides[1].is_current(settings.epoch) {
                return None;
            }
        }
        Hook::To => {
            let is_origin = if other_ifindex == 0 {
                place.ingress == flow.origin
            } else {
                place.ingress == other_ifindex || place.ingress == me.network
            };
            if !is_origin {
                return None;
            }
        }
    }
    flow.seen = now;
    flow.state = next_state(flow.state, headers, from_initiator);
    // Each packet once: at its sender's hook, or at the receiver's when the sender has none here.
    if matches!(place.hook, Hook::From) || other_ifindex == 0 {
        tally(flow, from_initiator, length);
    }
    Some(Outcome {
        pass: true,
        is_new: false,
        own: own_tally(me, &mine, from_initiator),
        peer: Tally::NONE,
        peer_ifindex: 0,
        pad: [0; 2],
    })
}

#[inline(always)]
fn tally(flow: &mut Flow, from_initiator: bool, length: u32) {
    if from_initiator {
        flow.packets[0] = flow.packets[0].wrapping_add(1);
        flow.bytes[0] = flow.bytes[0].wrapping_add(u64::from(length));
    } else {
        flow.packets[1] = flow.packets[1].wrapping_add(1);
        flow.bytes[1] = flow.bytes[1].wrapping_add(u64::from(length));
    }
}

/// What an endpoint counts for a packet of a judged side (section 11).
#[inline(always)]
fn own_tally(me: &Endpoint, mine: &Side, from_initiator: bool) -> Tally {
    if me.mode == mode::OFF {
        return Tally::NONE;
    }
    let verdict = if mine.verdict == Verdict::Audit as u8 {
        Verdict::Audit
    } else {
        Verdict::Allow
    };
    let reason = if from_initiator {
        Reason::from_u8(mine.reason).unwrap_or(Reason::Internal)
    } else {
        Reason::Reply
    };
    Tally::new(verdict, reason, mine.rule)
}

/// What the established path leaves, up to the flow itself: classes, guards, and what has no flow. True when the flow is
/// still to be looked at, else the outcome is written. (A function of its own must return a plain number to the verifier.)
#[inline(never)]
fn slow<E: Env, P: Packet>(env: &mut E, packet: &P, scratch: &mut Scratch) -> bool {
    match flowless(env, packet, scratch) {
        Some(outcome) => {
            scratch.outcome = outcome;
            false
        }
        None => true,
    }
}

#[inline(always)]
fn flowless<E: Env, P: Packet>(env: &mut E, packet: &P, scratch: &mut Scratch) -> Option<Outcome> {
    let Scratch {
        case,
        headers,
        quoted,
        judgement: j,
        key,
        ..
    } = scratch;
    j.source = env.classify(case.me.network, &headers.source);
    j.destination = env.classify(case.me.network, &headers.destination);
    j.peer = Endpoint::default();
    let other = match case.hook {
        Hook::From => &j.destination,
        Hook::To => &j.source,
    };
    if other.kind == kind::ENDPOINT
        && other.ifindex != case.me.ifindex
        && let Some(found) = env.endpoint(other.ifindex)
    {
        // A guard protects an endpoint of another network too; a flow's other end is only one of this network.
        case.other_enforces = found.mode == mode::ENFORCE;
        if other.network == case.me.network {
            j.peer = found;
        }
    }
    if !case.is_bound {
        return Some(match case.hook {
            Hook::From => case.guard(Reason::SpoofedMac),
            Hook::To => case.guard(Reason::WrongMac),
        });
    }
    if headers.ethertype == ethertype::ARP {
        return Some(neighbour::arp(env, case, headers, j));
    }
    let kind_of = icmp(headers);
    if matches!(kind_of, Icmp::Neighbour) {
        return Some(neighbour::nd(env, packet, case, headers, j));
    }
    // Sent to anything but a group, it is a packet like any other.
    let is_membership = headers.protocol == proto::IGMP || matches!(kind_of, Icmp::Membership);
    if is_membership && j.destination.kind == kind::GROUP {
        return Some(neighbour::membership(case, headers, j));
    }
    if let Some(reason) = misplaced(env, case, headers, j) {
        return Some(case.guard(reason));
    }
    if j.destination.kind == kind::GROUP {
        return Some(group(env, case, headers, j));
    }
    if matches!(kind_of, Icmp::Error) {
        let from = &j.source;
        return Some(related(env, packet, case, headers, from, quoted, key));
    }
    None
}

/// Whether an address does not belong where it is seen (section 6).
#[inline(always)]
fn misplaced<E: Env>(env: &E, case: &Case, headers: &Headers, j: &Judgement) -> Option<Reason> {
    let me = &case.me;
    let Judgement {
        source,
        destination,
        ..
    } = j;
    let answers_dhcp = headers.protocol == proto::UDP
        && matches!(
            (headers.source_port, headers.destination_port),
            (67, 68) | (547, 546)
        );
    match case.hook {
        Hook::From => {
            if source.kind != kind::ENDPOINT || source.ifindex != me.ifindex {
                return Some(Reason::SpoofedAddress);
            }
            if answers_dhcp {
                Some(Reason::DhcpAnswer)
            } else {
                None
            }
        }
        Hook::To => {
            let is_mine = destination.kind == kind::ENDPOINT && destination.ifindex == me.ifindex;
            if !is_mine && destination.kind != kind::GROUP {
                return Some(Reason::WrongAddress);
            }
            let is_placed = match source.kind {
                // From its own port, or through the bridge it is on (routed, or translated on the way); never back.
                kind::ENDPOINT => {
                    source.ifindex != me.ifindex
                        && (case.ingress == source.ifindex || case.ingress == source.network)
                }
                // Made here, or translated to an address of the host on the way; nobody translates what goes to a group.
                kind::HOST => is_mine || env.endpoint(case.ingress).is_none(),
                // Not made here, and not by a neighbour that claims it.
                _ => case.ingress != 0 && env.endpoint(case.ingress).is_none(),
            };
            if !is_placed {
                Some(Reason::SpoofedAddress)
            } else if answers_dhcp && source.kind == kind::ENDPOINT {
                Some(Reason::DhcpAnswer)
            } else {
                None
            }
        }
    }
}

/// Multicast and broadcast: judged at each end by itself, no flow (section 8).
#[inline(always)]
fn group<E: Env>(env: &E, case: &Case, headers: &Headers, j: &Judgement) -> Outcome {
    let (peer, direction) = match case.hook {
        Hook::From => (&j.destination, Direction::Egress),
        Hook::To => (&j.source, Direction::Ingress),
    };
    if case.me.mode == mode::OFF {
        return Outcome::PASS;
    }
    let ruling = rule(
        env,
        &case.me,
        peer,
        direction,
        headers.protocol,
        headers.destination_port,
    );
    let verdict = verdict_of(&ruling, case.me.mode);
    Outcome {
        pass: !matches!(verdict, Verdict::Deny),
        is_new: false,
        own: Tally::new(verdict, ruling.reason, ruling.rule),
        peer: Tally::NONE,
        peer_ifindex: 0,
        pad: [0; 2],
    }
}

/// An ICMP error: passes when it quotes a packet of a flow of this network that its receiver is an end of (section 8).
#[inline(always)]
fn related<E: Env, P: Packet>(
    env: &mut E,
    packet: &P,
    case: &Case,
    headers: &Headers,
    from: &Address,
    inner: &mut Headers,
    key: &mut FlowKey,
) -> Outcome {
    let settings = env.settings();
    let now = env.now();
    // The error goes to who sent the quoted packet.
    let is_related = match quoted(packet, headers, inner) {
        true if inner.source == headers.destination => {
            let source_is_low;
            (*key, source_is_low) = key_of(inner, case.me.network);
            match env.flow(key) {
                Some(flow) if !is_expired(flow, inner.protocol, now, settings.hz) => {
                    let quoted_end = usize::from((flow.initiator_low != 0) != source_is_low);
                    let (receiver, other) = if quoted_end == 0 {
                        (flow.ifindex[0], flow.ifindex[1])
                    } else {
                        (flow.ifindex[1], flow.ifindex[0])
                    };
                    // Only an end of the flow reports on it from inside the network.
                    let is_inside = from.kind == kind::ENDPOINT && from.network == case.me.network;
                    match case.hook {
                        Hook::From => other == case.me.ifindex,
                        Hook::To => {
                            receiver == case.me.ifindex && (!is_inside || other == from.ifindex)
                        }
                    }
                }
                _ => false,
            }
        }
        _ => false,
    };
    match (is_related, case.me.mode) {
        (_, mode::OFF) => Outcome::PASS,
        (true, _) => Outcome::counted(true, Verdict::Allow, Reason::Related),
        (false, mode::ENFORCE) => Outcome::deny(Reason::NoFlow),
        (false, _) => Outcome::counted(true, Verdict::Audit, Reason::NoFlow),
    }
}

/// What has to be found out about a packet and its flow.
pub(crate) struct Judgement {
    /// The other end, when it is an endpoint of this network; else all zero.
    peer: Endpoint,
    /// What the packet's source is; ARP: its sender.
    pub(crate) source: Address,
    /// What the packet's destination is; ARP: its target.
    pub(crate) destination: Address,
    sides: [Side; 2],
    /// The policy epoch of this judgement, read before any rule.
    epoch: u32,
    /// Whether an enforced denial ended the judgement, which, and whether it is the other end's.
    is_denied: bool,
    denial: Ruling,
    is_denied_by_peer: bool,
    /// Whether every side that was asked allows.
    is_clean: bool,
    from_initiator: bool,
}

/// Finds or opens the flow of a packet and judges the sides that this hook answers for (sections 3 to 5). The packet's
/// ends have been classified; writes the outcome.
#[inline(always)]
pub fn flow<E: Env>(env: &mut E, scratch: &mut Scratch) {
    scratch.outcome = judged(env, scratch);
}

#[inline(always)]
fn judged<E: Env>(env: &mut E, scratch: &mut Scratch) -> Outcome {
    let Scratch {
        case,
        headers,
        judgement: j,
        key,
        fresh,
        ..
    } = scratch;
    // Nobody to judge for. (No peer counts as off.)
    if case.me.mode == mode::OFF && j.peer.mode == mode::OFF {
        return Outcome::PASS;
    }
    let settings = env.settings();
    let now = env.now();
    j.epoch = settings.epoch;
    j.from_initiator = true;
    reset(j);
    let source_is_low;
    (*key, source_is_low) = key_of(headers, case.me.network);
    let mut is_known = false;
    let mut is_new = true;
    let mut is_adopted = false;
    if let Some(flow) = env.flow(key) {
        let from_initiator = (flow.initiator_low != 0) == source_is_low;
        let ends = ends(case, j, from_initiator);
        if flow.ifindex == ends && !is_expired(flow, headers.protocol, now, settings.hz) {
            // A SYN is judged in its own orientation: from the other end it opens a flow of its own.
            is_known = from_initiator || !is_syn(headers);
            if is_known {
                j.from_initiator = from_initiator;
                j.sides = flow.sides;
                is_new = is_syn(headers) && flow.state > state::ESTABLISHED;
            }
        }
    }
    if is_known || may_open(headers) {
        judge(env, case, headers, j);
    } else if is_adopting(headers, &settings, now) {
        is_adopted = adopt(env, case, headers, j);
    } else {
        return unopened(case, headers);
    }
    if j.is_denied {
        return denied(case, j);
    }
    if !is_known {
        fresh.initiator_low = u8::from(source_is_low == j.from_initiator);
        if !open(env, case, headers, key, j, fresh) {
            return if case.me.mode == mode::ENFORCE || j.peer.mode == mode::ENFORCE {
                Outcome::deny(Reason::FlowTableFull)
            } else {
                Outcome::counted(true, Verdict::Audit, Reason::FlowTableFull)
            };
        }
    } else if let Some(flow) = env.flow(key) {
        refresh(flow, case, headers, j, now);
    }
    let mut own = own_tally(&case.me, &my_side(case, j), j.from_initiator);
    if is_adopted {
        own.reason = Reason::Adopted;
    }
    Outcome {
        pass: true,
        is_new,
        own,
        peer: Tally::NONE,
        peer_ifindex: 0,
        pad: [0; 2],
    }
}

/// Which end of the flow the hook's endpoint is: 0 the initiator, 1 the responder.
#[inline(always)]
fn my_end(hook: Hook, from_initiator: bool) -> usize {
    usize::from(matches!(hook, Hook::From) != from_initiator)
}

/// The side of the hook's endpoint. Both are read: an index that the verifier cannot bound would be refused.
#[inline(always)]
fn my_side(case: &Case, j: &Judgement) -> Side {
    let [egress, ingress] = j.sides;
    if my_end(case.hook, j.from_initiator) == 0 {
        egress
    } else {
        ingress
    }
}

/// The ifindexes of initiator and responder.
#[inline(always)]
fn ends(case: &Case, j: &Judgement, from_initiator: bool) -> [u32; 2] {
    if my_end(case.hook, from_initiator) == 0 {
        [case.me.ifindex, j.peer.ifindex]
    } else {
        [j.peer.ifindex, case.me.ifindex]
    }
}

/// Writes what was found out about a known flow.
#[inline(always)]
fn refresh(flow: &mut Flow, case: &Case, headers: &Headers, j: &Judgement, now: u32) {
    flow.sides = j.sides;
    flow.seen = now;
    if let Hook::To = case.hook {
        flow.origin = case.ingress;
    }
    let restarts = is_syn(headers) && flow.state > state::ESTABLISHED;
    flow.state = if restarts {
        state::NEW
    } else {
        next_state(flow.state, headers, j.from_initiator)
    };
    if matches!(case.hook, Hook::From) || j.peer.ifindex == 0 {
        tally(flow, j.from_initiator, case.length);
    }
}

/// Opens a flow at the expense of its sender's quota, or of the receiver's where the sender is no endpoint here. False when
/// there is no room.
#[inline(always)]
fn open<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    key: &FlowKey,
    j: &Judgement,
    fresh: &mut Flow,
) -> bool {
    let is_mine = matches!(case.hook, Hook::From) || j.peer.ifindex == 0;
    let owner = if is_mine { &case.me } else { &j.peer };
    let now = env.now();
    let Some(position) = env.place(owner, key) else {
        return false;
    };
    *fresh = Flow {
        sides: j.sides,
        ifindex: ends(case, j, j.from_initiator),
        seen: now,
        ring: position,
        packets: [0; 2],
        bytes: [0; 2],
        // From the sender's hook the answer's way is not known yet; no interface has this number.
        origin: if let Hook::To = case.hook {
            case.ingress
        } else {
            u32::MAX
        },
        initiator_low: fresh.initiator_low,
        state: if may_open(headers) {
            state::NEW
        } else {
            state::ESTABLISHED
        },
        pad: [0; 2],
    };
    tally(fresh, j.from_initiator, case.length);
    env.insert_flow(key, fresh)
}

/// A packet that belongs to no flow and may not open one.
#[inline(always)]
fn unopened(case: &Case, headers: &Headers) -> Outcome {
    let reason = if headers.protocol == proto::TCP {
        Reason::NoSyn
    } else {
        Reason::NoFlow
    };
    match case.me.mode {
        mode::OFF => Outcome::PASS,
        mode::ENFORCE => Outcome::deny(reason),
        _ => Outcome::counted(true, Verdict::Audit, reason),
    }
}

/// Whether TCP packets without a flow are taken in: dfw has just come to a running node (section 4).
#[inline(always)]
fn is_adopting(headers: &Headers, settings: &Settings, now: u32) -> bool {
    headers.protocol == proto::TCP
        && settings.adopt_until != 0
        && (settings.adopt_until.wrapping_sub(now) as i32) > 0
}

/// Judges a packet of a connection that is older than dfw: nobody knows who opened it, so either orientation will do
/// when every side of it allows, and that is what is returned. Otherwise the packet's own orientation says what is
/// denied or audited.
#[inline(never)]
fn adopt<E: Env>(env: &mut E, case: &Case, headers: &Headers, j: &mut Judgement) -> bool {
    judge(env, case, headers, j);
    if !j.is_clean {
        turn(j);
        judge(env, case, headers, j);
    }
    if !j.is_clean {
        turn(j);
        judge(env, case, headers, j);
        return false;
    }
    for side in &mut j.sides {
        if side.epoch != 0 {
            side.reason = Reason::Adopted as u8;
        }
    }
    true
}

/// The same packet, opened by the other end.
#[inline(always)]
fn turn(j: &mut Judgement) {
    j.from_initiator = !j.from_initiator;
    reset(j);
}

/// Nothing judged yet.
#[inline(always)]
fn reset(j: &mut Judgement) {
    j.sides = [Side::default(); 2];
    j.is_denied = false;
    j.is_denied_by_peer = false;
    j.is_clean = true;
}

/// Judges the sides that this hook answers for and that were not judged in this epoch: its endpoint's own, and at the
/// sender's hook the receiver's too. Egress first; an enforced denial ends it. False when denied.
#[inline(never)]
fn judge<E: Env>(env: &mut E, case: &Case, headers: &Headers, j: &mut Judgement) -> bool {
    let mine = my_end(case.hook, j.from_initiator);
    if mine == 0 && !judge_side(env, case, headers, j, 0) {
        return false;
    }
    let is_receiver_here = matches!(case.hook, Hook::From) && mine == 0 && j.peer.ifindex != 0;
    if mine == 1 || is_receiver_here {
        return judge_side(env, case, headers, j, 1);
    }
    true
}

/// Judges one side; false when that denies the packet.
#[inline(always)]
fn judge_side<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    j: &mut Judgement,
    end: usize,
) -> bool {
    let epoch = j.epoch;
    if j.sides[end].is_current(epoch) {
        return true;
    }
    let is_mine = end == my_end(case.hook, j.from_initiator);
    let who = if is_mine { &case.me } else { &j.peer };
    if who.mode == mode::OFF {
        j.sides[end] = Side::judged(
            epoch,
            Verdict::Allow,
            Reason::Allowed as u8,
            PolicyEntry::NO_RULE,
        );
        return true;
    }
    // The other end's address: the initiator is the packet's source, or its destination when the responder sends.
    let is_source = (end == 0) == j.from_initiator;
    let peer = if is_source { &j.destination } else { &j.source };
    let direction = if end == 0 {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    let ruling = rule(
        env,
        who,
        peer,
        direction,
        headers.protocol,
        dialled(headers, j.from_initiator),
    );
    let verdict = verdict_of(&ruling, who.mode);
    if !ruling.is_allowed() {
        j.is_clean = false;
    }
    if let Verdict::Deny = verdict {
        j.is_denied = true;
        j.denial = ruling;
        j.is_denied_by_peer = !is_mine;
        return false;
    }
    j.sides[end] = Side::judged(epoch, verdict, ruling.reason as u8, ruling.rule);
    true
}

/// The port that the initiator dialled; ICMP: the type of what it sent.
#[inline(always)]
fn dialled(headers: &Headers, from_initiator: bool) -> u16 {
    match (from_initiator, icmp(headers)) {
        (true, _) => headers.destination_port,
        (false, Icmp::EchoReply) => {
            if headers.protocol == proto::ICMP {
                8
            } else {
                128
            }
        }
        (false, _) => headers.source_port,
    }
}

/// Asks the rules of an endpoint about a peer. `unknown` is always denied.
#[inline(always)]
fn rule<E: Env>(
    env: &E,
    who: &Endpoint,
    peer: &Address,
    direction: Direction,
    protocol: u8,
    port: u16,
) -> Ruling {
    if peer.kind == kind::UNKNOWN {
        return Ruling::denied(Reason::UnknownPeer);
    }
    env.ask(&Question {
        policy: who.policy,
        identity: peer.identity,
        direction,
        protocol,
        port,
    })
}

#[inline(always)]
fn verdict_of(ruling: &Ruling, mode: u32) -> Verdict {
    match (ruling.is_allowed(), mode) {
        (true, _) => Verdict::Allow,
        (false, mode::AUDIT) => Verdict::Audit,
        (false, _) => Verdict::Deny,
    }
}

/// A packet that one side denied. When that is the receiver's, the sender's own side has been judged and counts too.
#[inline(always)]
fn denied(case: &Case, j: &Judgement) -> Outcome {
    let ruling = j.denial;
    let tally = Tally::new(Verdict::Deny, ruling.reason, ruling.rule);
    let (own, peer) = if j.is_denied_by_peer {
        (
            own_tally(&case.me, &my_side(case, j), j.from_initiator),
            tally,
        )
    } else {
        (tally, Tally::NONE)
    };
    Outcome {
        pass: false,
        is_new: false,
        own,
        peer,
        peer_ifindex: j.peer.ifindex,
        pad: [0; 2],
    }
}
