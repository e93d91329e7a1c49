//! The decision: what becomes of a packet at a hook, and whose side it is counted on.
//!
//! `From` is the hook where an endpoint sends (TCX ingress of its host-side veth), `To` where it receives (TCX egress).
//! docs/semantics.md says what the rules mean; the sections are named where they are carried out.

use crate::{
    conntrack::{
        is_expired, is_syn, key_of, may_open, next_state, place, state,
    },
    env::Env,
    key::{FlowKey, proto},
    neighbour,
    packet::{Headers, Packet, ethertype},
    parse::{Icmp, icmp, parse, quoted},
    policy::{Question, Ruling, ask, classify},
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

/// What is counted on one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Allow, deny or audit.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Number of the deciding rule, [`PolicyEntry::NO_RULE`] if none.
    pub rule: u16,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether it goes on.
    pub pass: bool,
    /// Whether it opened a flow.
    pub is_new: bool,
    /// What the hook's endpoint counts.
    pub own: Option<Tally>,
    /// What the receiver counts when its ingress side denied the packet at the sender's hook.
    pub peer: Option<Tally>,
    /// The receiver's ifindex, when `peer` is there.
    pub peer_ifindex: u32,
}

impl Outcome {
    /// Goes on and counts nowhere.
    pub const PASS: Self = Self { pass: true, is_new: false, own: None, peer: None, peer_ifindex: 0 };

    /// Dropped and counted.
    #[inline(always)]
    pub const fn deny(reason: Reason) -> Self {
        Self::counted(false, Verdict::Deny, reason)
    }

    #[inline(always)]
    const fn counted(pass: bool, verdict: Verdict, reason: Reason) -> Self {
        let tally = Tally { verdict, reason, rule: PolicyEntry::NO_RULE };
        Self { pass, is_new: false, own: Some(tally), peer: None, peer_ifindex: 0 }
    }
}

/// One packet at one hook, beyond its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) hook: Hook,
    pub(crate) ingress: u32,
    pub(crate) me: Endpoint,
    /// The receiver enforces, as far as the sender's hook knows.
    receiver_enforces: bool,
}

impl Case {
    /// A guard found something: dropped when either end enforces, else counted as audit (section 6).
    #[inline(always)]
    pub(crate) fn guard(&self, reason: Reason) -> Outcome {
        if self.me.mode == mode::ENFORCE || self.receiver_enforces {
            Outcome::deny(reason)
        } else {
            Outcome::counted(true, Verdict::Audit, reason)
        }
    }

    /// As [`Case::guard`], for what is nobody's fault (a neighbour's broadcast): not counted where it passes.
    #[inline(always)]
    pub(crate) fn soft(&self, reason: Reason) -> Outcome {
        if self.me.mode == mode::ENFORCE { Outcome::deny(reason) } else { Outcome::PASS }
    }

    /// Whether the packet comes from the host itself or through the bridge device, not from another port.
    #[inline(always)]
    pub(crate) fn is_from_host(&self) -> bool {
        self.ingress == 0 || self.ingress == self.me.network
    }
}

/// Judges a frame.
#[inline(always)]
pub fn decide<E: Env, P: Packet>(env: &mut E, packet: &P, place: &Place) -> Outcome {
    let Some(me) = env.endpoint(place.ifindex) else {
        return Outcome::deny(Reason::NotReady);
    };
    let mut case = Case { hook: place.hook, ingress: place.ingress, me, receiver_enforces: false };
    let headers = match parse(packet) {
        Ok(headers) => headers,
        Err(reason) => return case.guard(reason),
    };
    let is_bound = match case.hook {
        Hook::From => headers.source_mac == me.mac,
        Hook::To => headers.destination_mac == me.mac || headers.destination_mac.is_group(),
    };
    if headers.ethertype == ethertype::ARP {
        return match (is_bound, case.hook) {
            (true, _) => neighbour::arp(env, &case, &headers),
            (false, Hook::From) => case.guard(Reason::SpoofedMac),
            (false, Hook::To) => case.guard(Reason::WrongMac),
        };
    }
    if is_bound {
        if let Some(outcome) = established(env, &case, &headers, packet.len()) {
            return outcome;
        }
    }
    slow(env, packet, &mut case, &headers, is_bound)
}

/// The path of nearly every packet: one flow lookup, updated in place. None when anything has to be looked at.
#[inline(always)]
fn established<E: Env>(env: &mut E, case: &Case, headers: &Headers, length: u32) -> Option<Outcome> {
    let (key, source_is_low) = key_of(headers, case.me.network);
    let settings = env.settings();
    let now = env.now();
    let flow = env.flow(&key)?;
    let from_initiator = (flow.initiator_low != 0) == source_is_low;
    let sender = usize::from(!from_initiator);
    let my_end = match case.hook {
        Hook::From => sender,
        Hook::To => 1 - sender,
    };
    let (mine, my_ifindex, other_ifindex) = if my_end == 0 {
        (flow.sides[0], flow.ifindex[0], flow.ifindex[1])
    } else {
        (flow.sides[1], flow.ifindex[1], flow.ifindex[0])
    };
    // The stored ifindex is the anti-spoof check: the sender's address is its own, the receiver is who was meant.
    if my_ifindex != case.me.ifindex || is_expired(flow, headers.protocol, now, settings.hz) {
        return None;
    }
    // A SYN that is not the first packet of a flow that its sender opened may mean another flow.
    if is_syn(headers) && !(from_initiator && flow.state == state::NEW) {
        return None;
    }
    if case.me.mode != mode::OFF && !mine.is_current(settings.epoch) {
        return None;
    }
    match case.hook {
        Hook::From => {
            if from_initiator && other_ifindex != 0 && !flow.sides[1].is_current(settings.epoch) {
                return None;
            }
        }
        Hook::To => {
            let is_origin = if other_ifindex == 0 {
                case.ingress == flow.origin
            } else {
                case.ingress == other_ifindex || case.ingress == case.me.network
            };
            if !is_origin {
                return None;
            }
        }
    }
    flow.seen = now;
    flow.state = next_state(flow.state, headers, from_initiator);
    // Each packet once: at its sender's hook, or at the receiver's when the sender has none here.
    if matches!(case.hook, Hook::From) || other_ifindex == 0 {
        tally(flow, from_initiator, length);
    }
    Some(Outcome {
        pass: true,
        is_new: false,
        own: own_tally(&case.me, &mine, from_initiator),
        peer: None,
        peer_ifindex: 0,
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
fn own_tally(me: &Endpoint, mine: &Side, from_initiator: bool) -> Option<Tally> {
    if me.mode == mode::OFF {
        return None;
    }
    let verdict = if mine.verdict == Verdict::Audit as u8 { Verdict::Audit } else { Verdict::Allow };
    let reason = if from_initiator {
        Reason::from_u8(mine.reason).unwrap_or(Reason::Internal)
    } else {
        Reason::Reply
    };
    Some(Tally { verdict, reason, rule: mine.rule })
}

/// Everything that the established path leaves: guards, new flows, and flows judged under another epoch.
#[inline(never)]
fn slow<E: Env, P: Packet>(
    env: &mut E,
    packet: &P,
    case: &mut Case,
    headers: &Headers,
    is_bound: bool,
) -> Outcome {
    let source = classify(env, case.me.network, &headers.source);
    let destination = classify(env, case.me.network, &headers.destination);
    if let Hook::From = case.hook {
        if let Some(receiver) = neighbour_on(env, &case.me, &destination) {
            case.receiver_enforces = receiver.mode == mode::ENFORCE;
        }
    }
    if !is_bound {
        return match case.hook {
            Hook::From => case.guard(Reason::SpoofedMac),
            Hook::To => case.guard(Reason::WrongMac),
        };
    }
    let kind_of = icmp(headers);
    if matches!(kind_of, Icmp::Neighbour) {
        return neighbour::nd(env, packet, case, headers);
    }
    if headers.protocol == proto::IGMP {
        return neighbour::igmp(case, headers);
    }
    if let Some(reason) = misplaced(env, case, headers, &source, &destination) {
        return case.guard(reason);
    }
    if destination.kind == kind::GROUP {
        return group(env, case, headers, &source, &destination);
    }
    if matches!(kind_of, Icmp::Error) {
        return related(env, packet, case, headers);
    }
    let mut judgement = Judgement {
        peer: Endpoint::default(),
        source,
        destination,
        sides: [Side::default(); 2],
        settings: env.settings(),
        denied: None,
        is_clean: true,
        from_initiator: true,
    };
    flow(env, case, headers, packet.len(), &mut judgement)
}

/// The endpoint behind an address class, if it is on the same network as `me`.
#[inline(always)]
fn neighbour_on<E: Env>(env: &E, me: &Endpoint, class: &Address) -> Option<Endpoint> {
    if class.kind != kind::ENDPOINT || class.network != me.network || class.ifindex == me.ifindex {
        return None;
    }
    env.endpoint(class.ifindex)
}

/// Whether an address does not belong where it is seen (section 6).
#[inline(always)]
fn misplaced<E: Env>(
    env: &E,
    case: &Case,
    headers: &Headers,
    source: &Address,
    destination: &Address,
) -> Option<Reason> {
    let me = &case.me;
    match case.hook {
        Hook::From => {
            if source.kind != kind::ENDPOINT || source.ifindex != me.ifindex {
                return Some(Reason::SpoofedAddress);
            }
            let answers_dhcp = headers.protocol == proto::UDP
                && matches!((headers.source_port, headers.destination_port), (67, 68) | (547, 546));
            if answers_dhcp { Some(Reason::DhcpAnswer) } else { None }
        }
        Hook::To => {
            let is_mine = destination.kind == kind::ENDPOINT && destination.ifindex == me.ifindex;
            if !is_mine && destination.kind != kind::GROUP {
                return Some(Reason::WrongAddress);
            }
            let is_placed = match source.kind {
                // From its own port, or through the bridge it is on (routed, or translated on the way).
                kind::ENDPOINT => case.ingress == source.ifindex || case.ingress == source.network,
                // Made here, or translated to an address of the host on the way.
                kind::HOST => true,
                // Not made here, and not by a neighbour that claims it.
                _ => case.ingress != 0 && env.endpoint(case.ingress).is_none(),
            };
            if is_placed { None } else { Some(Reason::SpoofedAddress) }
        }
    }
}

/// Multicast and broadcast: judged at each end by itself, no flow (section 8).
#[inline(never)]
fn group<E: Env>(
    env: &E,
    case: &Case,
    headers: &Headers,
    source: &Address,
    destination: &Address,
) -> Outcome {
    let (peer, direction) = match case.hook {
        Hook::From => (destination, Direction::Egress),
        Hook::To => (source, Direction::Ingress),
    };
    if case.me.mode == mode::OFF {
        return Outcome::PASS;
    }
    let ruling = rule(env, &case.me, peer, direction, headers.protocol, headers.destination_port);
    let verdict = verdict_of(&ruling, case.me.mode);
    let tally = Tally { verdict, reason: ruling.reason, rule: ruling.rule };
    Outcome {
        pass: !matches!(verdict, Verdict::Deny),
        is_new: false,
        own: Some(tally),
        peer: None,
        peer_ifindex: 0,
    }
}

/// An ICMP error: passes when it quotes a packet of a flow of this network that its receiver is an end of (section 8).
#[inline(never)]
fn related<E: Env, P: Packet>(env: &mut E, packet: &P, case: &Case, headers: &Headers) -> Outcome {
    let settings = env.settings();
    let now = env.now();
    let is_related = match quoted(packet, headers) {
        // The error goes to who sent the quoted packet.
        Some(inner) if inner.source == headers.destination => {
            let (key, source_is_low) = key_of(&inner, case.me.network);
            match env.flow(&key) {
                Some(flow) if !is_expired(flow, inner.protocol, now, settings.hz) => {
                    let quoted_end = usize::from((flow.initiator_low != 0) != source_is_low);
                    let (receiver, other) = if quoted_end == 0 {
                        (flow.ifindex[0], flow.ifindex[1])
                    } else {
                        (flow.ifindex[1], flow.ifindex[0])
                    };
                    match case.hook {
                        Hook::To => receiver == case.me.ifindex,
                        // Only an end of the flow reports on it from inside the network.
                        Hook::From => other == case.me.ifindex,
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

/// What has to be found out about a flow.
struct Judgement {
    /// The other end, when it is an endpoint of this network; else all zero.
    peer: Endpoint,
    source: Address,
    destination: Address,
    sides: [Side; 2],
    settings: Settings,
    /// The enforced denial that ended the judgement, and at which end.
    denied: Option<(usize, Ruling)>,
    /// Whether every side that was asked allows.
    is_clean: bool,
    from_initiator: bool,
}

/// Finds or opens the flow of a packet and judges the sides that this hook answers for (sections 3 to 5).
#[inline(never)]
fn flow<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    length: u32,
    j: &mut Judgement,
) -> Outcome {
    let other = match case.hook {
        Hook::From => j.destination,
        Hook::To => j.source,
    };
    if let Some(peer) = neighbour_on(env, &case.me, &other) {
        j.peer = peer;
    }
    // Nobody to judge for. (No peer counts as off.)
    if case.me.mode == mode::OFF && j.peer.mode == mode::OFF {
        return Outcome::PASS;
    }
    let (key, source_is_low) = key_of(headers, case.me.network);
    let now = env.now();
    let hz = j.settings.hz;
    let mut is_known = false;
    let mut is_new = true;
    if let Some(flow) = env.flow(&key) {
        let from_initiator = (flow.initiator_low != 0) == source_is_low;
        let ends = ends(case, j, from_initiator);
        if flow.ifindex == ends && !is_expired(flow, headers.protocol, now, hz) {
            // A SYN is judged in its own orientation: from the other end it opens a flow of its own.
            is_known = from_initiator || !is_syn(headers);
            if is_known {
                j.from_initiator = from_initiator;
                j.sides = flow.sides;
                is_new = is_syn(headers) && flow.state > state::ESTABLISHED;
            }
        }
    }
    if !is_known && !may_open(headers) {
        if !is_adopting(headers, &j.settings, now) {
            return unopened(case, headers);
        }
        adopt(env, case, headers, j);
    } else {
        judge(env, case, headers, j);
    }
    if let Some((end, ruling)) = j.denied {
        return denied(case, j, end, ruling);
    }
    if !is_known {
        let initiator_low = source_is_low == j.from_initiator;
        if !open(env, case, headers, &key, length, j, initiator_low) {
            return if case.me.mode == mode::ENFORCE || j.peer.mode == mode::ENFORCE {
                Outcome::deny(Reason::FlowTableFull)
            } else {
                Outcome::counted(true, Verdict::Audit, Reason::FlowTableFull)
            };
        }
    } else if let Some(flow) = env.flow(&key) {
        refresh(flow, case, headers, length, j, now);
    }
    Outcome {
        pass: true,
        is_new,
        own: own_tally(&case.me, &j.sides[my_end(case.hook, j.from_initiator)], j.from_initiator),
        peer: None,
        peer_ifindex: 0,
    }
}

/// Which end of the flow the hook's endpoint is: 0 the initiator, 1 the responder.
#[inline(always)]
fn my_end(hook: Hook, from_initiator: bool) -> usize {
    usize::from(matches!(hook, Hook::From) != from_initiator)
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
fn refresh(flow: &mut Flow, case: &Case, headers: &Headers, length: u32, j: &Judgement, now: u32) {
    flow.sides = j.sides;
    flow.seen = now;
    if let Hook::To = case.hook {
        flow.origin = case.ingress;
    }
    let restarts = is_syn(headers) && flow.state > state::ESTABLISHED;
    flow.state = if restarts { state::NEW } else { next_state(flow.state, headers, j.from_initiator) };
    if matches!(case.hook, Hook::From) || j.peer.ifindex == 0 {
        tally(flow, j.from_initiator, length);
    }
}

/// Opens a flow at the expense of its initiator's quota, or of the receiver's where the initiator is no endpoint here.
/// False when there is no room.
#[inline(always)]
fn open<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    key: &FlowKey,
    length: u32,
    j: &Judgement,
    initiator_low: bool,
) -> bool {
    let is_mine = my_end(case.hook, j.from_initiator) == 0 || j.peer.ifindex == 0;
    let owner = if is_mine { &case.me } else { &j.peer };
    let now = env.now();
    let Some(position) = place(env, owner, key, now, j.settings.hz) else {
        return false;
    };
    let mut flow = Flow {
        sides: j.sides,
        ifindex: ends(case, j, j.from_initiator),
        seen: now,
        ring: position,
        packets: [0; 2],
        bytes: [0; 2],
        // From the sender's hook the answer's way is not known yet; no interface has this number.
        origin: if let Hook::To = case.hook { case.ingress } else { u32::MAX },
        initiator_low: u8::from(initiator_low),
        state: if may_open(headers) { state::NEW } else { state::ESTABLISHED },
        pad: [0; 2],
    };
    tally(&mut flow, j.from_initiator, length);
    env.insert_flow(key, &flow)
}

/// A packet that belongs to no flow and may not open one.
#[inline(always)]
fn unopened(case: &Case, headers: &Headers) -> Outcome {
    let reason = if headers.protocol == proto::TCP { Reason::NoSyn } else { Reason::NoFlow };
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
/// when every side of it allows. Otherwise the packet's own orientation says what is denied or audited.
#[inline(never)]
fn adopt<E: Env>(env: &mut E, case: &Case, headers: &Headers, j: &mut Judgement) {
    judge(env, case, headers, j);
    if !j.is_clean {
        let (sides, denied) = (j.sides, j.denied);
        turn(j);
        judge(env, case, headers, j);
        if !j.is_clean {
            turn(j);
            (j.sides, j.denied) = (sides, denied);
            return;
        }
    }
    for side in &mut j.sides {
        if side.epoch != 0 {
            side.reason = Reason::Adopted as u8;
        }
    }
}

/// The same packet, opened by the other end.
#[inline(always)]
fn turn(j: &mut Judgement) {
    j.from_initiator = !j.from_initiator;
    j.sides = [Side::default(); 2];
    j.denied = None;
    j.is_clean = true;
}

/// Judges the sides that this hook answers for and that were not judged in this epoch: its endpoint's own, and at the
/// sender's hook the receiver's too. Egress first; an enforced denial ends it.
#[inline(never)]
fn judge<E: Env>(env: &mut E, case: &Case, headers: &Headers, j: &mut Judgement) {
    let mine = my_end(case.hook, j.from_initiator);
    if mine == 0 && !judge_side(env, case, headers, j, 0) {
        return;
    }
    let is_receiver_here = matches!(case.hook, Hook::From) && mine == 0 && j.peer.ifindex != 0;
    if mine == 1 || is_receiver_here {
        judge_side(env, case, headers, j, 1);
    }
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
    let epoch = j.settings.epoch;
    if j.sides[end].is_current(epoch) {
        return true;
    }
    let who = if end == my_end(case.hook, j.from_initiator) { &case.me } else { &j.peer };
    if who.mode == mode::OFF {
        j.sides[end] = Side::judged(epoch, Verdict::Allow, Reason::Allowed as u8, PolicyEntry::NO_RULE);
        return true;
    }
    // The other end's address: the initiator is the packet's source, or its destination when the responder sends.
    let is_source = (end == 0) == j.from_initiator;
    let peer = if is_source { &j.destination } else { &j.source };
    let direction = if end == 0 { Direction::Egress } else { Direction::Ingress };
    let ruling = rule(env, who, peer, direction, headers.protocol, dialled(headers, j.from_initiator));
    let verdict = verdict_of(&ruling, who.mode);
    if !ruling.is_allowed() {
        j.is_clean = false;
    }
    if let Verdict::Deny = verdict {
        j.denied = Some((end, ruling));
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
        (false, Icmp::EchoReply) => if headers.protocol == proto::ICMP { 8 } else { 128 },
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
    ask(env, &Question { policy: who.policy, identity: peer.identity, direction, protocol, port })
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
fn denied(case: &Case, j: &Judgement, end: usize, ruling: Ruling) -> Outcome {
    let tally = Tally { verdict: Verdict::Deny, reason: ruling.reason, rule: ruling.rule };
    let mine = my_end(case.hook, j.from_initiator);
    let (own, peer) = if end == mine {
        (Some(tally), None)
    } else {
        (own_tally(&case.me, &j.sides[mine], j.from_initiator), Some(tally))
    };
    Outcome { pass: false, is_new: false, own, peer, peer_ifindex: j.peer.ifindex }
}
