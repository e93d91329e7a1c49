//! What is seen in audit: who opened what to whom, for the labels that would allow it.
//!
//! One entry for each side and kind of flow, written when the flow is judged and passes. Nothing on the established path,
//! nothing where nobody audits.

use super::{
    Case, Hook, Scratch,
    flow::Judgement,
    judge::{dialled, is_receiver_here},
};
use crate::{
    addr::Addr,
    check::Check,
    conntrack::may_open,
    env::Env,
    key::{SeenKey, proto},
    maps::SEEN_EACH,
    packet::Headers,
    reason::Direction,
    value::{SeenTimes, kind, mode, opener},
};

/// Of which sides something is to be learned, as numbers in [`Judgement::lesson`].
pub(super) mod lesson {
    /// Of none.
    pub(in crate::decide) const NOTHING: u8 = 0;
    /// Of the side of this hook's endpoint.
    pub(in crate::decide) const OWN: u8 = 1;
    /// Of the receiver's too, which is judged where the packet is sent.
    pub(in crate::decide) const BOTH: u8 = 2;
}

/// Where the kernel takes the ports of clients from, unless it is told otherwise (`ip_local_port_range`).
const CLIENTS: u16 = 32_768;

/// That of a packet which each hook looks at by itself.
#[inline(always)]
pub(super) const fn own_lesson(case: &Case) -> u8 {
    if case.me.mode == mode::AUDIT {
        lesson::OWN
    } else {
        lesson::NOTHING
    }
}

/// That of a packet whose sides this hook has judged.
#[inline(always)]
pub(super) fn lesson_of(case: &Case, j: &Judgement) -> u8 {
    if j.peer.mode == mode::AUDIT && is_receiver_here(case, j) {
        lesson::BOTH
    } else {
        own_lesson(case)
    }
}

/// Who opened the flow of this packet, which is its first as far as dfw knows. A SYN tells, and so does ICMP, of which each
/// packet is asked about by its own type. Anything else may be an answer to what is older than dfw, or than the flow table
/// remembers; then the ports tell, if one of them is a server's and the other a client's.
#[inline(always)]
pub(super) fn opener_of(headers: &Headers, is_young: bool, from_initiator: bool) -> u8 {
    let (sender, receiver) = if from_initiator {
        (opener::INITIATOR, opener::RESPONDER)
    } else {
        (opener::RESPONDER, opener::INITIATOR)
    };
    let is_tcp = headers.protocol == proto::TCP;
    let tells =
        (is_tcp && may_open(headers)) || matches!(headers.protocol, proto::ICMP | proto::ICMP6);
    if tells {
        return sender;
    }
    let is_older = is_tcp || is_young;
    let serves = (
        headers.source_port < CLIENTS,
        headers.destination_port < CLIENTS,
    );
    match serves {
        (false, true) => sender,
        (true, false) if is_older => receiver,
        (true, true) | (false, false) if !is_older => sender,
        _ => opener::UNKNOWN,
    }
}

/// Takes down what has passed, for each side that is to learn and audits.
#[inline(always)]
pub fn learn<E: Env>(env: &mut E, scratch: &mut Scratch) {
    let (me, peer) = (scratch.case.me, scratch.judgement.peer);
    if me.mode == mode::AUDIT {
        see(env, scratch, me.ifindex, true);
    }
    if scratch.judgement.lesson == lesson::BOTH {
        see(env, scratch, peer.ifindex, false);
    }
}

#[inline(never)]
fn see<E: Env>(env: &mut E, scratch: &mut Scratch, who: u32, is_mine: bool) {
    let Scratch {
        case,
        headers,
        judgement: j,
        sight,
        times,
        ..
    } = scratch;
    if j.opener == opener::UNKNOWN {
        if j.is_new {
            env.miss(who);
        }
        return;
    }
    let is_sent_by_opener = (j.opener == opener::INITIATOR) == j.from_initiator;
    // This hook's endpoint sends at one hook and receives at the other.
    let is_sender = is_mine == matches!(case.hook, Hook::From);
    let (class, addr) = if is_sender {
        (&j.destination, headers.destination)
    } else {
        (&j.source, headers.source)
    };
    let has_addr = matches!(class.kind, kind::WORLD | kind::GROUP);
    let direction = if is_sender == is_sent_by_opener {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    *sight = SeenKey {
        addr: if has_addr { addr } else { Addr::UNSPECIFIED },
        ifindex: who,
        peer: class.ifindex,
        port: dialled(headers, is_sent_by_opener),
        kind: class.kind as u8,
        protocol: headers.protocol,
        direction: direction as u8,
        pad: [0; 3],
    };
    let now = env.now();
    if let Some(seen) = env.seen(sight) {
        seen.flows = seen.flows.wrapping_add(u64::from(j.is_new));
        seen.last = now;
        return;
    }
    *times = SeenTimes {
        flows: 1,
        first: now,
        last: now,
    };
    // At the expense of who sends, as a flow is: nobody fills another's room.
    let owner = if matches!(case.hook, Hook::To) && j.source.kind == kind::ENDPOINT {
        j.source.ifindex
    } else {
        case.me.ifindex
    };
    let used = env.seen_by(owner).unwrap_or(SEEN_EACH);
    if Check::SeenRoom.finds(used >= SEEN_EACH) || !env.insert_seen(owner, sight, times) {
        // Told of whoever does too much, if it is itself in audit.
        let owner = match env.endpoint(owner) {
            Some(found) if found.mode == mode::AUDIT => owner,
            _ => who,
        };
        env.miss(owner);
    }
}
