//! Counters and events.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use dfw_common::{
    addr::Addr,
    decide::{Hook, Outcome, Place, Tally},
    maps as layout,
    packet::{Headers, Packet},
    parse::parse,
    reason::{Direction, Reason, Verdict},
    value::{Event, PolicyEntry},
};

use crate::maps::{COUNTERS, ENDPOINT_COUNTERS, EVENT_BUDGET, EVENTS, Kernel, jiffies, slot_of};

/// Counts an endpoint's packet on the sides it was judged on, and makes an event of what is new or denied.
#[inline(always)]
pub(crate) fn endpoint<P: Packet>(packet: &P, place: &Place, outcome: &Outcome) {
    let direction = match place.hook {
        Hook::From => Direction::Egress,
        Hook::To => Direction::Ingress,
    };
    let length = packet.len();
    if let Some(own) = &outcome.own {
        count(place.ifindex, direction, own, length);
        if outcome.is_new || matches!(own.verdict, Verdict::Deny) {
            event(packet, place.ifindex, direction, own);
        }
    }
    // The receiver's side, denied where the packet was sent.
    if let Some(peer) = &outcome.peer {
        count(outcome.peer_ifindex, Direction::Ingress, peer, length);
        event(packet, outcome.peer_ifindex, Direction::Ingress, peer);
    }
}

/// Counts a packet that the bridge's backstop drops.
#[inline(always)]
pub(crate) fn backstop<P: Packet>(packet: &P, direction: Direction, reason: Reason) {
    let tally = Tally { verdict: Verdict::Deny, reason, rule: PolicyEntry::NO_RULE };
    count(0, direction, &tally, packet.len());
    event(packet, 0, direction, &tally);
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
#[cold]
#[inline(never)]
fn event<P: Packet>(packet: &P, ifindex: u32, direction: Direction, tally: &Tally) {
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
    let headers: Option<Headers> = parse(packet).ok();
    let endpoint = slot_of(ifindex).map(|(_, endpoint)| endpoint).unwrap_or_default();
    let (source, destination) = match &headers {
        Some(headers) => (headers.source, headers.destination),
        None => (Addr::UNSPECIFIED, Addr::UNSPECIFIED),
    };
    entry.write(Event {
        // SAFETY: takes nothing.
        time: unsafe { bpf_ktime_get_ns() },
        source,
        destination,
        source_port: headers.map_or(0, |headers| headers.source_port),
        destination_port: headers.map_or(0, |headers| headers.destination_port),
        network: endpoint.network,
        ifindex,
        length: packet.len(),
        rule: tally.rule,
        ethertype: headers.map_or(0, |headers| headers.ethertype),
        protocol: headers.map_or(0, |headers| headers.protocol),
        direction: direction as u8,
        verdict: tally.verdict as u8,
        reason: tally.reason as u8,
        policy: endpoint.policy,
    });
    entry.submit(0);
}
