//! Judging the sides of a flow that a hook answers for.

use super::{
    Case, Hook, Outcome, Tally,
    established::own_tally,
    flow::{Judgement, my_end, my_sides},
};
use crate::{
    check::Check,
    env::Env,
    key::proto,
    packet::Headers,
    parse::{Icmp, icmp},
    policy::{Question, Ruling},
    reason::{Direction, Reason, Verdict},
    value::{Address, Endpoint, PolicyEntry, Side, kind, mode},
};

/// Judges a packet of a connection that is older than dfw: nobody knows who opened it, so either orientation will do
/// when every side of it allows, and that is what is returned. Otherwise the packet's own orientation says what is
/// denied or audited.
#[inline(never)]
pub(super) fn adopt<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    j: &mut Judgement,
) -> bool {
    judge(env, case, headers, j);
    if !j.is_clean {
        turn(j);
        judge(env, case, headers, j);
    }
    if Check::AdoptRules.finds(!j.is_clean) {
        turn(j);
        judge(env, case, headers, j);
        return false;
    }
    for side in &mut j.sides {
        if side.epoch != 0 {
            side.reason = Reason::Adopted as u8;
        }
    }
    true
}

/// The same packet, opened by the other end.
#[inline(always)]
fn turn(j: &mut Judgement) {
    j.from_initiator = !j.from_initiator;
    reset(j);
}

/// Nothing judged yet.
#[inline(always)]
pub(super) fn reset(j: &mut Judgement) {
    j.sides = [Side::default(); 2];
    j.is_denied = false;
    j.is_denied_by_peer = false;
    j.is_clean = true;
}

/// Judges the sides that this hook answers for and that were not judged in this epoch: its endpoint's own, and at the
/// sender's hook the receiver's too. Egress first; an enforced denial ends it. False when denied.
#[inline(never)]
pub(super) fn judge<E: Env>(
    env: &mut E,
    case: &Case,
    headers: &Headers,
    j: &mut Judgement,
) -> bool {
    let mine = my_end(case.hook, j.from_initiator);
    if Check::JudgeEgress.finds(mine == 0) && !judge_side(env, case, headers, j, 0) {
        return false;
    }
    let is_receiver_here = matches!(case.hook, Hook::From) && mine == 0 && j.peer.ifindex != 0;
    if Check::JudgeIngress.finds(mine == 1) || Check::JudgePeer.finds(is_receiver_here) {
        return judge_side(env, case, headers, j, 1);
    }
    true
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
    let epoch = j.epoch;
    if Check::SideEpoch.holds(j.sides[end].is_current(epoch)) {
        return true;
    }
    let is_mine = end == my_end(case.hook, j.from_initiator);
    let who = if is_mine { &case.me } else { &j.peer };
    if who.mode == mode::OFF {
        j.sides[end] = Side::judged(
            epoch,
            Verdict::Allow,
            Reason::Allowed as u8,
            PolicyEntry::NO_RULE,
        );
        return true;
    }
    // The other end's address: the initiator is the packet's source, or its destination when the responder sends.
    let is_source = (end == 0) == j.from_initiator;
    let peer = if is_source { &j.destination } else { &j.source };
    let direction = if end == 0 {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    let ruling = rule(
        env,
        who,
        peer,
        direction,
        headers.protocol,
        dialled(headers, j.from_initiator),
    );
    let verdict = verdict_of(&ruling, who.mode);
    if !ruling.is_allowed() {
        j.is_clean = false;
    }
    if let Verdict::Deny = verdict {
        j.is_denied = true;
        j.denial = ruling;
        j.is_denied_by_peer = !is_mine;
        if Check::DeniedSide.finds(true) {
            return false;
        }
    }
    j.sides[end] = Side::judged(epoch, verdict, ruling.reason as u8, ruling.rule);
    true
}

/// The port that the initiator dialled; ICMP: the type of what it sent.
#[inline(always)]
fn dialled(headers: &Headers, from_initiator: bool) -> u16 {
    match (from_initiator, icmp(headers)) {
        (true, _) => headers.destination_port,
        (false, Icmp::EchoReply) => {
            if headers.protocol == proto::ICMP {
                8
            } else {
                128
            }
        }
        (false, _) => headers.source_port,
    }
}

/// Asks the rules of an endpoint about a peer. `unknown` is always denied.
#[inline(always)]
pub(super) fn rule<E: Env>(
    env: &E,
    who: &Endpoint,
    peer: &Address,
    direction: Direction,
    protocol: u8,
    port: u16,
) -> Ruling {
    if Check::UnknownPeer.finds(peer.kind == kind::UNKNOWN) {
        return Ruling::denied(Reason::UnknownPeer);
    }
    env.ask(&Question {
        policy: who.policy,
        identity: peer.identity,
        direction,
        protocol,
        port,
    })
}

#[inline(always)]
pub(super) fn verdict_of(ruling: &Ruling, mode: u32) -> Verdict {
    match (ruling.is_allowed(), mode) {
        (true, _) => Verdict::Allow,
        (false, mode) if Check::VerdictEnforced.finds(mode != mode::AUDIT) => Verdict::Deny,
        (false, _) => Verdict::Audit,
    }
}

/// A packet that one side denied. When that is the receiver's, the sender's own side has been judged and counts too.
#[inline(always)]
pub(super) fn denied(case: &Case, j: &Judgement) -> Outcome {
    let ruling = j.denial;
    let tally = Tally::new(Verdict::Deny, ruling.reason, ruling.rule);
    let (own, peer) = if j.is_denied_by_peer {
        (
            own_tally(&case.me, &my_sides(case, j)[0], j.from_initiator),
            tally,
        )
    } else {
        (tally, Tally::NONE)
    };
    Outcome {
        pass: false,
        own,
        peer,
        peer_ifindex: j.peer.ifindex,
        ..Outcome::PASS
    }
}
