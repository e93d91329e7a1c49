//! The path of nearly every packet, and what a packet adds to its flow and its endpoint's counters.

use super::{
    Hook, Outcome, Place, Tally,
    redirect::{is_fit, may_redirect},
};
use crate::{
    check::Check,
    conntrack::{is_expired, is_syn, next_state, state, write_key},
    env::Env,
    key::FlowKey,
    packet::Headers,
    reason::{Reason, Verdict},
    value::{Endpoint, Flow, Side, mode},
};

/// What the path of nearly every packet makes of one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// It passes, and the outcome is written.
    Open,
    /// Something has to be looked at.
    Closed,
    /// As before; and there is no flow with its key.
    Unknown,
}

/// The path of nearly every packet: one flow lookup, updated in place.
#[inline(always)]
pub(super) fn established<E: Env>(
    env: &mut E,
    place: &Place,
    me: &Endpoint,
    length: u32,
    headers: &Headers,
    key: &mut FlowKey,
    outcome: &mut Outcome,
) -> Passage {
    let source_is_low = write_key(headers, me.network, key);
    let settings = env.settings();
    let now = env.now();
    let Some(flow) = env.flow(key) else {
        return Passage::Unknown;
    };
    let from_initiator = (flow.initiator_low != 0) == source_is_low;
    let sender = usize::from(!from_initiator);
    let my_end = match place.hook {
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
    let is_own = Check::EstablishedPort.holds(my_ifindex == me.ifindex);
    let is_over =
        Check::EstablishedExpiry.finds(is_expired(flow, headers.protocol, now, settings.hz));
    // A SYN that is not the first packet of a flow that its sender opened may mean another flow.
    let is_first = from_initiator && flow.state == state::NEW;
    let is_plain = Check::EstablishedSyn.holds(is_first || !is_syn(headers));
    let is_judged =
        Check::EstablishedEpoch.holds(me.mode == mode::OFF || mine.is_current(settings.epoch));
    let is_placed = match place.hook {
        Hook::From => {
            let has_receiver = from_initiator && other_ifindex != 0;
            Check::EstablishedPeerEpoch.holds(!has_receiver || theirs.is_current(settings.epoch))
        }
        Hook::To if other_ifindex == 0 => {
            Check::EstablishedOrigin.holds(place.ingress == flow.origin)
        }
        Hook::To => Check::EstablishedNeighbour
            .holds(place.ingress == other_ifindex || place.ingress == me.network),
    };
    if !is_own || is_over || !is_plain || !is_judged || !is_placed {
        return Passage::Closed;
    }
    flow.seen = now;
    flow.state = next_state(flow.state, headers, from_initiator);
    // Each packet once: at its sender's hook, or at the receiver's when the sender has none here.
    if matches!(place.hook, Hook::From) || other_ifindex == 0 {
        tally(flow, from_initiator, length);
    }
    if from_initiator {
        flow.bridged = u8::from(matches!(place.hook, Hook::To));
    }
    let may_redirect = matches!(place.hook, Hook::From) && may_redirect(me, flow.bridged);
    *outcome = Outcome {
        own: own_tally(me, &mine, from_initiator),
        ..Outcome::PASS
    };
    if may_redirect
        && let Some(peer) = env.endpoint(other_ifindex)
        && is_fit(me, peer, [&mine, &theirs], settings.epoch, headers)
    {
        outcome.redirect_to(peer, &theirs, from_initiator);
    }
    Passage::Open
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
