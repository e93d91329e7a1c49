//! The path of nearly every packet, and what a packet adds to its flow and its endpoint's counters.

use super::{
    Case, Hook, Outcome, Tally,
    redirect::{is_fit, may_redirect},
};
use crate::{
    check::Check,
    conntrack::{is_expired, is_syn, key_of, next_state, state},
    env::Env,
    key::FlowKey,
    packet::Headers,
    reason::{Reason, Verdict},
    value::{Endpoint, Flow, Side, mode},
};

/// The path of nearly every packet: one flow lookup, updated in place. None when anything has to be looked at.
#[inline(always)]
pub(super) fn established<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    key: &mut FlowKey,
) -> Option<Outcome> {
    let me = &case.me;
    let source_is_low;
    (*key, source_is_low) = key_of(headers, me.network);
    let settings = env.settings();
    let now = env.now();
    let flow = env.flow(key)?;
    let from_initiator = (flow.initiator_low != 0) == source_is_low;
    let sender = usize::from(!from_initiator);
    let my_end = match case.hook {
        Hook::From => sender,
        Hook::To => 1 - sender,
    };
    let (mine, theirs, my_ifindex, other_ifindex) = if my_end == 0 {
        let [mine, theirs] = flow.sides;
        (mine, theirs, flow.ifindex[0], flow.ifindex[1])
    } else {
        let [theirs, mine] = flow.sides;
        (mine, theirs, flow.ifindex[1], flow.ifindex[0])
    };
    // The stored ifindex is the anti-spoof check: the sender's address is its own, the receiver is who was meant.
    Check::EstablishedPort.demand(my_ifindex == me.ifindex)?;
    Check::EstablishedExpiry.demand(!is_expired(flow, headers.protocol, now, settings.hz))?;
    // A SYN that is not the first packet of a flow that its sender opened may mean another flow.
    let is_first = from_initiator && flow.state == state::NEW;
    Check::EstablishedSyn.demand(is_first || !is_syn(headers))?;
    let is_judged = me.mode == mode::OFF || mine.is_current(settings.epoch);
    Check::EstablishedEpoch.demand(is_judged)?;
    match case.hook {
        Hook::From => {
            let has_receiver = from_initiator && other_ifindex != 0;
            let is_judged = !has_receiver || theirs.is_current(settings.epoch);
            Check::EstablishedPeerEpoch.demand(is_judged)?;
        }
        Hook::To if other_ifindex == 0 => {
            Check::EstablishedOrigin.demand(case.ingress == flow.origin)?;
        }
        Hook::To => {
            let is_placed = case.ingress == other_ifindex || case.ingress == me.network;
            Check::EstablishedNeighbour.demand(is_placed)?;
        }
    }
    flow.seen = now;
    flow.state = next_state(flow.state, headers, from_initiator);
    // Each packet once: at its sender's hook, or at the receiver's when the sender has none here.
    if matches!(case.hook, Hook::From) || other_ifindex == 0 {
        tally(flow, from_initiator, case.length);
    }
    if from_initiator {
        flow.bridged = u8::from(matches!(case.hook, Hook::To));
    }
    let may_redirect = matches!(case.hook, Hook::From) && may_redirect(me, flow.bridged);
    let mut outcome = Outcome {
        own: own_tally(me, &mine, from_initiator),
        ..Outcome::PASS
    };
    if may_redirect
        && let Some(peer) = env.endpoint(other_ifindex)
        && is_fit(me, peer, [&mine, &theirs], settings.epoch, headers)
    {
        outcome.redirect_to(peer, &theirs, from_initiator);
    }
    Some(outcome)
}

#[inline(always)]
pub(super) fn tally(flow: &mut Flow, from_initiator: bool, length: u32) {
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
pub(super) fn own_tally(me: &Endpoint, mine: &Side, from_initiator: bool) -> Tally {
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
