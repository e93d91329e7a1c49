//! Finding, opening and refreshing the flow of a packet.

use super::{
    Case, Hook, Outcome, Scratch,
    established::{own_tally, tally},
    judge::{adopt, denied, judge, reset},
    learn::{lesson_of, opener_of, own_lesson},
    redirect::{is_fit, may_redirect},
};
use crate::{
    check::Check,
    conntrack::{is_expired, is_syn, may_open, next_state, state, write_key},
    env::Env,
    key::{FlowKey, proto},
    packet::{Headers, tcp},
    policy::Ruling,
    reason::{Reason, Verdict},
    value::{Address, Endpoint, Flow, Settings, Side, mode, opener},
};

/// What has to be found out about a packet and its flow.
pub(crate) struct Judgement {
    /// The other end, when it is an endpoint of this network; else all zero.
    pub(super) peer: Endpoint,
    /// What the packet's source is; ARP: its sender.
    pub(crate) source: Address,
    /// What the packet's destination is; ARP: its target.
    pub(crate) destination: Address,
    pub(super) sides: [Side; 2],
    /// The policy epoch of this judgement, read before any rule.
    pub(super) epoch: u32,
    /// Whether an enforced denial ended the judgement, which, and whether it is the other end's.
    pub(super) is_denied: bool,
    pub(super) denial: Ruling,
    pub(super) is_denied_by_peer: bool,
    /// Whether every side that was asked allows.
    pub(super) is_clean: bool,
    pub(super) from_initiator: bool,
    /// Who opened the flow: [`crate::value::opener`] as a number.
    pub(super) opener: u8,
    /// What is to be learned of the packet if it passes, and whether it opened a flow.
    pub(super) lesson: u8,
    pub(super) is_new: bool,
    /// Whether it is of a connection that is older than dfw, and taken in.
    pub(super) is_adopted: bool,
    /// As [`Flow::bridged`], after this packet.
    pub(super) bridged: u8,
    /// Where in the ring a flow lies that has the key and is none any more, or [`Judgement::NOWHERE`].
    pub(super) stale: u32,
}

impl Judgement {
    /// No position of the ring.
    pub(super) const NOWHERE: u32 = u32::MAX;
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
    let settings = env.settings();
    let now = env.now();
    j.epoch = settings.epoch;
    j.from_initiator = true;
    j.bridged = u8::from(matches!(case.hook, Hook::To));
    j.stale = Judgement::NOWHERE;
    reset(j);
    let source_is_low = write_key(headers, case.me.network, key);
    j.is_new = true;
    j.is_adopted = false;
    let mut is_known = false;
    if !case.has_no_flow
        && let Some(flow) = env.flow(key)
    {
        let from_initiator = (flow.initiator_low != 0) == source_is_low;
        let ends = ends(case, j, from_initiator);
        if Check::FlowEnds.holds(flow.ifindex == ends)
            && Check::FlowExpiry.holds(!is_expired(flow, headers.protocol, now, settings.hz))
        {
            // A SYN is judged in its own orientation: from the other end it opens a flow of its own.
            is_known = Check::FlowSyn.holds(from_initiator || !is_syn(headers));
            if is_known {
                j.from_initiator = from_initiator;
                j.sides = flow.sides;
                j.opener = flow.opener;
                if !from_initiator {
                    j.bridged = flow.bridged;
                }
                j.is_new = restarts(flow, headers);
            }
        }
        if !is_known {
            j.stale = flow.ring;
        }
    }
    // Nobody to judge for: what is known goes on, and nothing is opened. (No peer counts as off.)
    if case.me.mode == mode::OFF && j.peer.mode == mode::OFF {
        if is_known && let Some(flow) = env.flow(key) {
            refresh(flow, case, headers, j, now);
        }
        return Outcome::PASS;
    }
    let is_young = is_young(&settings, now);
    if is_known || may_open(headers) {
        judge(env, case, headers, j);
    } else if Check::AdoptTcp.holds(headers.protocol == proto::TCP)
        && Check::AdoptWindow.holds(is_young)
    {
        j.is_adopted = adopt(env, case, headers, j);
    } else {
        return unopened(case, headers, j);
    }
    // A SYN tells, whatever was thought of the flow before.
    if !is_known || is_syn(headers) {
        j.opener = opener_of(headers, is_young, j.from_initiator);
    }
    j.lesson = lesson_of(case, j);
    if Check::Denied.finds(j.is_denied) {
        return denied(case, j);
    }
    let [mine, theirs] = my_sides(case, j);
    if !is_known {
        fresh.initiator_low = u8::from(source_is_low == j.from_initiator);
        if Check::FlowRoom.finds(!open(env, case, headers, key, j, fresh)) {
            return if case.me.mode == mode::ENFORCE || j.peer.mode == mode::ENFORCE {
                Outcome::deny(Reason::FlowTableFull)
            } else {
                Outcome::counted(true, Verdict::Audit, Reason::FlowTableFull)
            };
        }
    } else if let Some(flow) = env.flow(key) {
        refresh(flow, case, headers, j, now);
    }
    let mut outcome = Outcome {
        is_new: j.is_new,
        own: own_tally(&case.me, &mine, j.from_initiator),
        ..Outcome::PASS
    };
    if j.is_adopted {
        outcome.own.reason = Reason::Adopted;
    }
    if matches!(case.hook, Hook::From)
        && may_redirect(&case.me, j.bridged)
        && is_fit(&case.me, &j.peer, [&mine, &theirs], j.epoch, headers)
    {
        outcome.redirect_to(&j.peer, &theirs, j.from_initiator);
    }
    outcome
}

/// Which end of the flow the hook's endpoint is: 0 the initiator, 1 the responder.
#[inline(always)]
pub(super) fn my_end(hook: Hook, from_initiator: bool) -> usize {
    usize::from(matches!(hook, Hook::From) != from_initiator)
}

/// The side of the hook's endpoint, and the other end's. An index that the verifier cannot bound would be refused.
#[inline(always)]
pub(super) fn my_sides(case: &Case, j: &Judgement) -> [Side; 2] {
    let [egress, ingress] = j.sides;
    if my_end(case.hook, j.from_initiator) == 0 {
        [egress, ingress]
    } else {
        [ingress, egress]
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

/// Whether the ports of a flow that is over are used again.
#[inline(always)]
fn restarts(flow: &Flow, headers: &Headers) -> bool {
    headers.protocol == proto::TCP && flow.state > state::ESTABLISHED && may_open(headers)
}

/// Writes what was found out about a known flow.
#[inline(always)]
fn refresh(flow: &mut Flow, case: &Case, headers: &Headers, j: &Judgement, now: u32) {
    flow.sides = j.sides;
    flow.bridged = j.bridged;
    flow.seen = now;
    flow.opener = j.opener;
    if let Hook::To = case.hook {
        flow.origin = case.ingress;
    }
    flow.state = if restarts(flow, headers) {
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
    let Some(position) = env.place(owner) else {
        return false;
    };
    if j.stale != Judgement::NOWHERE {
        env.evict(j.stale);
    }
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
            next_state(state::ESTABLISHED, headers, true)
        },
        opener: j.opener,
        bridged: j.bridged,
    };
    tally(fresh, j.from_initiator, case.length);
    env.insert_flow(key, fresh)
}

/// A packet that belongs to no flow and may not open one.
#[inline(always)]
fn unopened(case: &Case, headers: &Headers, j: &mut Judgement) -> Outcome {
    let reason = if headers.protocol == proto::TCP {
        // A connection that slept while dfw came, say. Who enforces drops it. Only who dialled is believed that he did: anybody
        // may send what looks like a server's answer, and gets a RST from a client's port.
        j.opener = opener_of(headers, true, true);
        let is_own_word = j.opener == opener::INITIATOR && headers.flags & tcp::RST == 0;
        if Check::SeenOpener.finds(!is_own_word) {
            j.opener = opener::UNKNOWN;
        }
        j.is_new = false;
        if j.peer.mode != mode::ENFORCE {
            j.lesson = own_lesson(case);
        }
        Reason::NoSyn
    } else {
        Reason::NoFlow
    };
    match case.me.mode {
        mode::OFF => Outcome::PASS,
        mode::ENFORCE if Check::Unopened.finds(true) => Outcome::deny(reason),
        _ => Outcome::counted(true, Verdict::Audit, reason),
    }
}

/// Whether dfw has just come to a running node: TCP packets without a flow are taken in (section 4).
#[inline(always)]
const fn is_young(settings: &Settings, now: u32) -> bool {
    settings.adopt_until != 0 && (settings.adopt_until.wrapping_sub(now) as i32) > 0
}
