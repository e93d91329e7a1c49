//! Counters and events.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use dfw_common::{
    decide::{Hook, Outcome, Place, Tally},
    maps as layout,
    packet::Headers,
    reason::{Direction, Reason, Verdict},
    value::{Event, PolicyEntry},
};

use crate::maps::{COUNTERS, ENDPOINT_COUNTERS, EVENT_BUDGET, EVENTS, Kernel, jiffies, slot_of};

/// Counts an endpoint's packet on the sides it was judged on, and makes an event of what is new or denied.
#[inline(always)]
pub(crate) fn endpoint(length: u32, place: &Place, headers: &Headers, outcome: &Outcome) {
    let direction = match place.hook {
        Hook::From => Direction::Egress,
        Hook::To => Direction::Ingress,
    };
    let (own, peer) = (&outcome.own, &outcome.peer);
    if own.is_counted {
        count(place.ifindex, direction, own, length);
        if outcome.is_new || matches!(own.verdict, Verdict::Deny) {
            event(length, headers, place.ifindex, direction, own);
        }
    }
    // The receiver's side, whose hook does not see the packet.
    if peer.is_counted {
        count(outcome.peer_ifindex, Direction::Ingress, peer, length);
        if matches!(peer.verdict, Verdict::Deny) {
            event(
                length,
                headers,
                outcome.peer_ifindex,
                Direction::Ingress,
                peer,
            );
        }
    }
}

/// Counts a packet that the bridge's backstop drops.
#[inline(always)]
pub(crate) fn backstop(length: u32, headers: &Headers, direction: Direction, reason: Reason) {
    let tally = Tally::new(Verdict::Deny, reason, PolicyEntry::NO_RULE);
    count(0, direction, &tally, length);
    event(length, headers, 0, direction, &tally);
}

#[inline(always)]
fn count(ifindex: u32, direction: Direction, tally: &Tally, length: u32) {
    let index = layout::counter_index(direction, tally.verdict, tally.reason);
    if let Some(count) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's element, and a program is never interrupted by another of the same kind on its CPU.
        unsafe {
            (*count).packets = (*count).packets.wrapping_add(1);
            (*count).bytes = (*count).bytes.wrapping_add(u64::from(length));
        }
    }
    if let Some((slot, _)) = slot_of(ifindex) {
        let index = layout::endpoint_counter_index(slot, direction, tally.verdict);
        if let Some(count) = ENDPOINT_COUNTERS.get_ptr_mut(index) {
            // SAFETY: as above.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }
}

/// Sends an event unless this CPU has spent its second's budget; counts what is not sent.
#[inline(never)]
fn event(length: u32, headers: &Headers, ifindex: u32, direction: Direction, tally: &Tally) {
    use dfw_common::env::Env as _;
    let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's element.
    let budget = unsafe { &mut *budget };
    let settings = Kernel.settings();
    let second = jiffies().checked_div(settings.hz).unwrap_or(0);
    if budget.second != second {
        budget.second = second;
        budget.spent = 0;
    }
    if budget.spent >= settings.event_rate {
        budget.lost = budget.lost.wrapping_add(1);
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        budget.lost = budget.lost.wrapping_add(1);
        return;
    };
    budget.spent += 1;
    budget.sent = budget.sent.wrapping_add(1);
    let (mut network, mut policy) = (0, 0);
    if let Some((_, found)) = slot_of(ifindex) {
        (network, policy) = (found.network, found.policy);
    }
    entry.write(Event {
        // SAFETY: takes nothing.
        time: unsafe { bpf_ktime_get_ns() },
        source: headers.source,
        destination: headers.destination,
        source_port: headers.source_port,
        destination_port: headers.destination_port,
        network,
        ifindex,
        length,
        rule: tally.rule,
        ethertype: headers.ethertype,
        protocol: headers.protocol,
        direction: direction as u8,
        verdict: tally.verdict as u8,
        reason: tally.reason as u8,
        policy,
        pad: 0,
    });
    entry.submit(0);
}
