//! What stands before policy: classes of the ends, guards, and packets that have no flow.

use super::{
    Case, Hook, Outcome, Scratch, Tally,
    flow::Judgement,
    judge::{rule, verdict_of},
    learn::{lesson, own_lesson},
};
use crate::{
    check::Check,
    conntrack::{is_expired, write_key},
    env::Env,
    key::{FlowKey, proto},
    neighbour,
    packet::{Headers, Packet, ethertype},
    parse::{Icmp, icmp, quoted},
    reason::{Direction, Reason, Verdict},
    value::{Address, Endpoint, kind, mode, opener},
};

/// What the established path leaves, up to the flow itself: classes, guards, and what has no flow. True when the flow is
/// still to be looked at, else the outcome is written. (A function of its own must return a plain number to the verifier.)
#[inline(never)]
pub(super) fn slow<E: Env, P: Packet>(env: &mut E, packet: &P, scratch: &mut Scratch) -> bool {
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
    j.lesson = lesson::NOTHING;
    let (other, claimed) = match case.hook {
        Hook::From => (&j.destination, &j.source),
        Hook::To => (&j.source, &j.destination),
    };
    if other.kind == kind::ENDPOINT
        && other.ifindex != case.me.ifindex
        && let Some(&found) = env.endpoint(other.ifindex)
    {
        // A guard protects an endpoint of another network too; a flow's other end is only one of this network.
        case.other_enforces = found.mode == mode::ENFORCE;
        if other.network == case.me.network {
            j.peer = found;
        }
    }
    // What is sent in its name, or would be read in its stead, harms it no less than what is sent to it.
    case.notice(Check::ClaimedAddress, env, claimed);
    if Check::Unparsed.finds(case.is_unreadable) {
        // Behind a tag nobody looks for whom the frame names, but hosts take tags off (CVE-2021-27853).
        let hides = matches!((case.hook, case.finding), (Hook::From, Reason::VlanTag));
        return Some(if Check::TagHides.finds(hides) {
            Outcome::deny(Reason::VlanTag)
        } else {
            case.guard(case.finding)
        });
    }
    match case.hook {
        Hook::From if Check::SourceMac.finds(!case.is_bound) => {
            // The bridge would learn that another is here; whose MAC it is, its link-local address tells.
            let owner = env.classify(case.me.network, &headers.source_mac.link_local());
            case.notice(Check::ClaimedMac, env, &owner);
            return Some(case.guard(Reason::SpoofedMac));
        }
        Hook::To if Check::DestinationMac.finds(!case.is_bound) => {
            return Some(case.guard(Reason::WrongMac));
        }
        Hook::From | Hook::To => {}
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
            let is_own = source.kind == kind::ENDPOINT && source.ifindex == me.ifindex;
            if Check::SourceAddress.finds(!is_own) {
                return Some(Reason::SpoofedAddress);
            }
            if Check::DhcpSent.finds(answers_dhcp) {
                Some(Reason::DhcpAnswer)
            } else {
                None
            }
        }
        Hook::To => {
            let is_mine = destination.kind == kind::ENDPOINT && destination.ifindex == me.ifindex;
            if Check::DestinationAddress.finds(!is_mine && destination.kind != kind::GROUP) {
                return Some(Reason::WrongAddress);
            }
            let is_placed = match source.kind {
                // From its own port, or through the bridge it is on (routed, or translated on the way); never back.
                kind::ENDPOINT => {
                    let by_its_way =
                        case.ingress == source.ifindex || case.ingress == source.network;
                    Check::OwnAddressBack.holds(source.ifindex != me.ifindex)
                        && Check::NeighbourOrigin.holds(by_its_way)
                }
                // Made here, or translated to an address of the host on the way; nobody translates what goes to a group.
                kind::HOST => {
                    Check::HostOrigin.holds(is_mine || env.endpoint(case.ingress).is_none())
                }
                // Not made here, and not by a neighbour that claims it.
                _ => {
                    Check::WorldNotHost.holds(case.ingress != 0)
                        && Check::WorldNotNeighbour.holds(env.endpoint(case.ingress).is_none())
                }
            };
            if !is_placed {
                Some(Reason::SpoofedAddress)
            } else if Check::DhcpReceived.finds(answers_dhcp && source.kind == kind::ENDPOINT) {
                Some(Reason::DhcpAnswer)
            } else {
                None
            }
        }
    }
}

/// Multicast and broadcast: judged at each end by itself, no flow (section 8).
#[inline(always)]
fn group<E: Env>(env: &E, case: &Case, headers: &Headers, j: &mut Judgement) -> Outcome {
    j.opener = opener::INITIATOR;
    j.from_initiator = true;
    j.is_new = true;
    j.lesson = own_lesson(case);
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
        pass: Check::GroupRules.holds(!matches!(verdict, Verdict::Deny)),
        own: Tally::new(verdict, ruling.reason, ruling.rule),
        ..Outcome::PASS
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
        true if Check::RelatedReceiver.holds(inner.source == headers.destination) => {
            let source_is_low = write_key(inner, case.me.network, key);
            match env.flow(key) {
                Some(flow)
                    if Check::RelatedExpiry.holds(!is_expired(
                        flow,
                        inner.protocol,
                        now,
                        settings.hz,
                    )) =>
                {
                    let quoted_end = usize::from((flow.initiator_low != 0) != source_is_low);
                    let (receiver, other) = if quoted_end == 0 {
                        (flow.ifindex[0], flow.ifindex[1])
                    } else {
                        (flow.ifindex[1], flow.ifindex[0])
                    };
                    // Only an end of the flow reports on it from inside the network.
                    let is_inside = from.kind == kind::ENDPOINT && from.network == case.me.network;
                    match case.hook {
                        Hook::From => Check::RelatedSender.holds(other == case.me.ifindex),
                        Hook::To => {
                            Check::RelatedEnd.holds(receiver == case.me.ifindex)
                                && Check::RelatedInside.holds(!is_inside || other == from.ifindex)
                        }
                    }
                }
                _ => Check::RelatedFlow.holds(false),
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
