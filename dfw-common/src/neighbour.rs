//! ARP, neighbour discovery and group membership: what must work without a rule, and nothing more
//! (docs/semantics.md section 8).

use crate::{
    addr::{Addr, Mac},
    check::Check,
    decide::{Case, Hook, Judgement, Outcome},
    env::Env,
    key::proto,
    packet::{Headers, Packet},
    parse::{ETHERNET, IPV6},
    policy::some_allowed,
    reason::{Direction, Reason},
    value::{Address, Endpoint, kind, mode},
};

/// ICMPv6 types (RFC 4861, RFC 2710).
mod kind6 {
    pub(super) const LISTENER_QUERY: u16 = 130;
    pub(super) const ROUTER_SOLICITATION: u16 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u16 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u16 = 135;
    pub(super) const REDIRECT: u16 = 137;
}

/// IGMP membership query (RFC 3376 section 4.1).
const IGMP_QUERY: u16 = 0x11;
/// Where a neighbour discovery message starts: it has no extension headers (RFC 6980).
const ND: usize = ETHERNET + IPV6;
/// Options of a neighbour discovery message that are walked before giving up (RFC 4861 section 4.6).
const OPTIONS: usize = 4;

/// Judges an ARP message; `j.source` is its sender, `j.destination` its target.
#[inline(always)]
pub(crate) fn arp<E: Env>(env: &E, case: &Case, headers: &Headers, j: &Judgement) -> Outcome {
    match case.hook {
        Hook::From => {
            // An unspecified sender asks whether its own address is free (RFC 5227).
            let claimed = if headers.source.is_unspecified() {
                &j.destination
            } else {
                &j.source
            };
            if Check::ArpClaim.finds(!is_mine(claimed, &case.me)) {
                return case.guard(Reason::SpoofedNeighbour);
            }
            meet(env, case, &j.destination, j.source.identity)
        }
        Hook::To => from_neighbour(env, case, headers, &j.source, &j.destination),
    }
}

/// Judges an IGMP or MLD message to a group: reports go to the bridge, queries come from the host.
#[inline(always)]
pub(crate) fn membership(case: &Case, headers: &Headers, j: &Judgement) -> Outcome {
    let query = if headers.protocol == proto::IGMP {
        IGMP_QUERY
    } else {
        kind6::LISTENER_QUERY
    };
    match case.hook {
        Hook::From if Check::MembershipQuery.finds(headers.destination_port == query) => {
            case.guard(Reason::GroupMembership)
        }
        // Reports are sent before there is an address, too (RFC 3376 section 4.2.13, RFC 3590).
        Hook::From
            if Check::MembershipSource
                .finds(!headers.source.is_unspecified() && !is_mine(&j.source, &case.me)) =>
        {
            case.guard(Reason::SpoofedAddress)
        }
        Hook::To if Check::MembershipReceived.finds(!case.is_from_host()) => {
            case.soft(Reason::GroupMembership)
        }
        Hook::From | Hook::To => Outcome::PASS,
    }
}

/// Judges a neighbour discovery message.
#[inline(always)]
pub(crate) fn nd<E: Env, P: Packet>(
    env: &E,
    packet: &P,
    case: &mut Case,
    headers: &Headers,
    j: &Judgement,
) -> Outcome {
    let message = headers.destination_port;
    if matches!(message, kind6::ROUTER_ADVERTISEMENT | kind6::REDIRECT) {
        return match case.hook {
            Hook::To if case.is_from_host() => Outcome::PASS,
            Hook::From | Hook::To if Check::RouterAdvertisement.finds(true) => {
                case.guard(Reason::RouterAdvertisement)
            }
            Hook::From | Hook::To => Outcome::PASS,
        };
    }
    // RFC 4861 section 7.1: hop limit 255, code 0; RFC 6980: no extension headers.
    if Check::DiscoveryHops.finds(headers.hops != 255)
        || Check::DiscoveryCode.finds(headers.flags != 0)
    {
        return case.guard(Reason::SpoofedNeighbour);
    }
    // Receivers take it, and whom it names is not where it is looked for.
    if Check::DiscoveryExtended.finds(headers.extended) {
        return Outcome::deny(Reason::SpoofedNeighbour);
    }
    if message == kind6::ROUTER_SOLICITATION {
        return router_solicitation(packet, case, headers, j);
    }
    let is_solicitation = message == kind6::NEIGHBOUR_SOLICITATION;
    let Some(target) = target(packet) else {
        return case.guard(Reason::Malformed);
    };
    let target = env.classify(case.me.network, &target);
    case.notice(Check::ClaimedTarget, env, &target);
    match case.hook {
        Hook::From => {
            // Duplicate address detection has no source yet; like an advertisement it is about its own address only.
            let is_detection = headers.source.is_unspecified() && is_solicitation;
            let is_own = is_detection || is_own(packet, case, j, ND + 24);
            let about_itself = is_detection || !is_solicitation;
            if Check::DiscoveryOwn.finds(!is_own)
                || Check::DiscoveryTarget.finds(about_itself && !is_mine(&target, &case.me))
            {
                return case.guard(Reason::SpoofedNeighbour);
            }
            let sent = sent(env, case, &j.destination, j.source.identity);
            if about_itself || Check::DiscoverySent.finds(!sent.pass) {
                return sent;
            }
            meet(env, case, &target, j.source.identity)
        }
        Hook::To => {
            let is_of_sender = is_solicitation
                || j.source.kind != kind::ENDPOINT
                || (target.kind == kind::ENDPOINT && target.ifindex == j.source.ifindex);
            if Check::AdvertisesSender.finds(!is_of_sender) {
                return case.guard(Reason::SpoofedNeighbour);
            }
            // A solicitation is about this endpoint, an advertisement is addressed to it.
            let own = if is_mine(&target, &case.me) {
                &target
            } else {
                &j.destination
            };
            from_neighbour(env, case, headers, &j.source, own)
        }
    }
}

/// A router solicitation teaches the router its sender's MAC (RFC 4861 section 6.2.6), hence its content is bound too.
#[inline(always)]
fn router_solicitation<P: Packet>(
    packet: &P,
    case: &Case,
    headers: &Headers,
    j: &Judgement,
) -> Outcome {
    match case.hook {
        Hook::From => {
            let is_own = headers.source.is_unspecified() || is_own(packet, case, j, ND + 8);
            let is_to_router = matches!(j.destination.kind, kind::GROUP | kind::HOST);
            if Check::SolicitsOwn.holds(is_own) && Check::SolicitsRouter.holds(is_to_router) {
                Outcome::PASS
            } else {
                case.guard(Reason::SpoofedNeighbour)
            }
        }
        Hook::To if Check::SolicitsReceived.holds(case.is_from_host()) => Outcome::PASS,
        Hook::To => case.soft(Reason::Neighbour),
    }
}

/// Whether a message is from the endpoint's address and names its MAC alone; `options` is where its options start.
#[inline(always)]
fn is_own<P: Packet>(packet: &P, case: &Case, j: &Judgement, options: usize) -> bool {
    is_mine(&j.source, &case.me) && names_only(packet, options, &case.me.mac)
}

/// The target address of a solicitation or advertisement.
#[inline(always)]
fn target<P: Packet>(packet: &P) -> Option<Addr> {
    let b = packet.load::<16>(ND + 8)?;
    let word = |i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
    Some(Addr::v6([word(0), word(4), word(8), word(12)]))
}

/// Whether every option of an ND message that can be read names this MAC.
#[inline(never)]
fn names_only<P: Packet>(packet: &P, start: usize, mac: &Mac) -> bool {
    let mut offset = start;
    for _ in 0..OPTIONS {
        if offset as u32 == packet.len() {
            return true;
        }
        let Some(option) = packet.load::<8>(offset) else {
            return false;
        };
        let named = Mac::new([
            option[2], option[3], option[4], option[5], option[6], option[7],
        ]);
        let names_other = matches!(option[0], 1 | 2) && named != *mac;
        if Check::OptionMac.finds(names_other) {
            return false;
        }
        offset += usize::from(option[1]) * 8;
    }
    Check::OptionWalk.holds(offset as u32 == packet.len())
}

#[inline(always)]
fn is_mine(class: &Address, me: &Endpoint) -> bool {
    class.kind == kind::ENDPOINT && class.ifindex == me.ifindex
}

/// What reaches an endpoint from a neighbour that asks for it or tells of itself; `own` is what it calls the endpoint.
#[inline(always)]
fn from_neighbour<E: Env>(
    env: &E,
    case: &Case,
    headers: &Headers,
    sender: &Address,
    own: &Address,
) -> Outcome {
    let is_placed = match sender.kind {
        kind::ENDPOINT => Check::NeighbourPort.holds(case.ingress == sender.ifindex),
        // What is no endpoint's does not come by an endpoint's port, except the question of who has no address yet.
        _ => Check::NeighbourNone
            .holds(headers.source.is_unspecified() || env.endpoint(case.ingress).is_none()),
    };
    if !is_placed {
        return case.guard(Reason::SpoofedNeighbour);
    }
    if headers.source.is_unspecified() {
        // Somebody asks whether an address is free. This endpoint's is not: the question would make it give it up.
        let is_questioned = is_mine(own, &case.me) && !case.is_from_host();
        return if Check::DetectionReceived.finds(is_questioned) {
            case.guard(Reason::SpoofedNeighbour)
        } else {
            Outcome::PASS
        };
    }
    if Check::MeetBystander.finds(sender.kind == kind::ENDPOINT && !is_mine(own, &case.me)) {
        return case.soft(Reason::Neighbour);
    }
    meet(env, case, sender, own.identity)
}

/// Whether an endpoint may send a message of the link there: what routers pass on must be allowed by some rule, or it
/// would be a way out.
#[inline(always)]
fn sent<E: Env>(env: &E, case: &Case, destination: &Address, mine: u32) -> Outcome {
    let (me, who) = (&case.me, destination.identity);
    match destination.kind {
        kind::GROUP => Outcome::PASS,
        kind::WORLD if me.mode == mode::ENFORCE => {
            let may = some_allowed(env, me.policy, who, Direction::Egress)
                || some_allowed(env, me.policy, who, Direction::Ingress);
            if Check::DiscoveryWorld.holds(may) {
                Outcome::PASS
            } else {
                Outcome::deny(Reason::Neighbour)
            }
        }
        _ => meet(env, case, destination, mine),
    }
}

/// Whether the endpoint may see, or be seen by, this neighbour.
#[inline(always)]
fn meet<E: Env>(env: &E, case: &Case, neighbour: &Address, mine: u32) -> Outcome {
    match neighbour.kind {
        kind::HOST | kind::WORLD => Outcome::PASS,
        kind::ENDPOINT if is_mine(neighbour, &case.me) => Outcome::PASS,
        kind::ENDPOINT if neighbour.network == case.me.network => {
            let Some(peer) = env.endpoint(neighbour.ifindex) else {
                return case.soft(Reason::Neighbour);
            };
            if case.me.mode != mode::ENFORCE && peer.mode != mode::ENFORCE {
                return Outcome::PASS;
            }
            let may = reaches(env, &case.me, neighbour.identity, peer, mine)
                || reaches(env, peer, mine, &case.me, neighbour.identity);
            if Check::MeetRules.holds(may) {
                Outcome::PASS
            } else {
                Outcome::deny(Reason::Neighbour)
            }
        }
        _ if Check::MeetUnknown.finds(true) => case.soft(Reason::Neighbour),
        _ => Outcome::PASS,
    }
}

/// Whether some rule lets `from` open a flow to `to`, given each other's identities.
#[inline(always)]
fn reaches<E: Env>(
    env: &E,
    from: &Endpoint,
    to_identity: u32,
    to: &Endpoint,
    from_identity: u32,
) -> bool {
    let may_dial = from.mode != mode::ENFORCE
        || some_allowed(env, from.policy, to_identity, Direction::Egress);
    let may_be_dialled =
        to.mode != mode::ENFORCE || some_allowed(env, to.policy, from_identity, Direction::Ingress);
    Check::ReachEgress.holds(may_dial) && Check::ReachIngress.holds(may_be_dialled)
}
