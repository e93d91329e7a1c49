//! ARP, neighbour discovery and group membership: what must work without a rule, and nothing more
//! (docs/semantics.md section 8).

use crate::{
    addr::{Addr, Mac},
    decide::{Case, Hook, Judgement, Outcome},
    env::Env,
    packet::{Headers, Packet},
    parse::{ETHERNET, IPV6},
    policy::some_allowed,
    reason::{Direction, Reason},
    value::{Address, Endpoint, IDENTITY_OTHER, kind, mode},
};

/// ICMPv6 types (RFC 4861, RFC 2710, RFC 3810).
mod kind6 {
    pub(super) const LISTENER_QUERY: u16 = 130;
    pub(super) const LISTENER_REPORT: u16 = 131;
    pub(super) const LISTENER_DONE: u16 = 132;
    pub(super) const ROUTER_SOLICITATION: u16 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u16 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u16 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u16 = 136;
    pub(super) const REDIRECT: u16 = 137;
    pub(super) const LISTENER_REPORT_V2: u16 = 143;
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
            // An unspecified sender asks whether an address is free (RFC 5227).
            if !headers.source.is_unspecified() && !is_mine(&j.source, &case.me) {
                return case.guard(Reason::SpoofedNeighbour);
            }
            meet(env, case, &j.destination, j.source.identity)
        }
        Hook::To => from_neighbour(env, case, headers, &j.source, &j.destination),
    }
}

/// Judges an IGMP message.
#[inline(always)]
pub(crate) fn igmp(case: &Case, headers: &Headers) -> Outcome {
    let is_query = headers.destination_port == IGMP_QUERY;
    match case.hook {
        Hook::From if is_query => case.guard(Reason::GroupMembership),
        Hook::To if !case.is_from_host() => case.soft(Reason::GroupMembership),
        Hook::From | Hook::To => Outcome::PASS,
    }
}

/// Judges ND and multicast listener discovery.
#[inline(always)]
pub(crate) fn nd<E: Env, P: Packet>(
    env: &E,
    packet: &P,
    case: &Case,
    headers: &Headers,
    j: &Judgement,
) -> Outcome {
    match headers.destination_port {
        kind6::LISTENER_QUERY
        | kind6::LISTENER_REPORT
        | kind6::LISTENER_DONE
        | kind6::LISTENER_REPORT_V2 => {
            let is_query = headers.destination_port == kind6::LISTENER_QUERY;
            return match case.hook {
                Hook::From if is_query => case.guard(Reason::GroupMembership),
                Hook::To if !case.is_from_host() => case.soft(Reason::GroupMembership),
                Hook::From | Hook::To => Outcome::PASS,
            };
        }
        kind6::ROUTER_ADVERTISEMENT | kind6::REDIRECT => {
            return match case.hook {
                Hook::To if case.is_from_host() => Outcome::PASS,
                Hook::From | Hook::To => case.guard(Reason::RouterAdvertisement),
            };
        }
        kind6::ROUTER_SOLICITATION => {
            return match case.hook {
                Hook::From => Outcome::PASS,
                Hook::To if case.is_from_host() => Outcome::PASS,
                Hook::To => case.soft(Reason::Neighbour),
            };
        }
        kind6::NEIGHBOUR_SOLICITATION | kind6::NEIGHBOUR_ADVERTISEMENT => {}
        _ => return case.guard(Reason::Malformed),
    }
    // RFC 4861 section 7.1: hop limit 255, code 0; RFC 6980: no extension headers.
    if headers.hops != 255 || headers.flags != 0 || headers.extended {
        return case.guard(Reason::SpoofedNeighbour);
    }
    let is_solicitation = headers.destination_port == kind6::NEIGHBOUR_SOLICITATION;
    let Some(target) = target(packet) else {
        return case.guard(Reason::Malformed);
    };
    let target = env.classify(case.me.network, &target);
    match case.hook {
        Hook::From => {
            // Duplicate address detection has no source yet; like an advertisement it is about its own address only.
            let is_detection = headers.source.is_unspecified() && is_solicitation;
            let is_own =
                is_detection || (is_mine(&j.source, &case.me) && names_only(packet, &case.me.mac));
            let about_itself = is_detection || !is_solicitation;
            if !is_own || (about_itself && !is_mine(&target, &case.me)) {
                return case.guard(Reason::SpoofedNeighbour);
            }
            if about_itself {
                return Outcome::PASS;
            }
            meet(env, case, &target, j.source.identity)
        }
        Hook::To => {
            if headers.source.is_unspecified() {
                return Outcome::PASS;
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

/// The target address of a solicitation or advertisement.
#[inline(always)]
fn target<P: Packet>(packet: &P) -> Option<Addr> {
    let b = packet.load::<16>(ND + 8)?;
    let word = |i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
    Some(Addr::v6([word(0), word(4), word(8), word(12)]))
}

/// Whether every option of an ND message that can be read names this MAC.
#[inline(never)]
fn names_only<P: Packet>(packet: &P, mac: &Mac) -> bool {
    let mut offset = ND + 24;
    for _ in 0..OPTIONS {
        if offset as u32 >= packet.len() {
            return true;
        }
        let Some(option) = packet.load::<8>(offset) else {
            return false;
        };
        let named = Mac::new([
            option[2], option[3], option[4], option[5], option[6], option[7],
        ]);
        let names_other = matches!(option[0], 1 | 2) && named != *mac;
        if option[1] == 0 || names_other {
            return false;
        }
        offset += usize::from(option[1]) * 8;
    }
    offset as u32 >= packet.len()
}

#[inline(always)]
fn is_mine(class: &Address, me: &Endpoint) -> bool {
    class.kind == kind::ENDPOINT && class.ifindex == me.ifindex
}

/// What reaches an endpoint from a neighbour that asks for it or tells of itself.
#[inline(always)]
fn from_neighbour<E: Env>(
    env: &E,
    case: &Case,
    headers: &Headers,
    sender: &Address,
    own: &Address,
) -> Outcome {
    if sender.kind == kind::HOST || headers.source.is_unspecified() {
        return Outcome::PASS;
    }
    if sender.kind == kind::ENDPOINT && case.ingress != sender.ifindex {
        return case.guard(Reason::SpoofedNeighbour);
    }
    let identity = if is_mine(own, &case.me) {
        own.identity
    } else {
        IDENTITY_OTHER
    };
    meet(env, case, sender, identity)
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
            let may = reaches(env, &case.me, neighbour.identity, &peer, mine)
                || reaches(env, &peer, mine, &case.me, neighbour.identity);
            if may {
                Outcome::PASS
            } else {
                Outcome::deny(Reason::Neighbour)
            }
        }
        _ => case.soft(Reason::Neighbour),
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
    (from.mode != mode::ENFORCE || some_allowed(env, from.policy, to_identity, Direction::Egress))
        && (to.mode != mode::ENFORCE
            || some_allowed(env, to.policy, from_identity, Direction::Ingress))
}
