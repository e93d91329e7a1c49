//! The decision: what becomes of a packet at a hook, and whose side it is counted on.
//!
//! `From` is the hook where an endpoint sends (TCX ingress of its host-side veth), `To` where it receives (TCX egress).
//! docs/semantics.md says what the rules mean; the sections are named where they are carried out.

mod established;
mod flow;
mod guards;
mod judge;
mod learn;
mod redirect;

use self::{
    established::{Passage, established},
    guards::slow,
};
use crate::{
    addr::{Addr, Mac},
    check::Check,
    env::Env,
    key::{FlowKey, SeenKey},
    packet::{Headers, Packet, ethertype},
    parse::parse,
    policy::Ruling,
    reason::{Reason, Verdict},
    value::{Address, Endpoint, Flow, PolicyEntry, SeenTimes, Side, kind, mode, opener},
};

pub(crate) use self::flow::Judgement;
pub use self::{flow::flow, learn::learn};

/// Which hook of an endpoint sees the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// The endpoint sends.
    From,
    /// The endpoint receives.
    To,
}

/// Where a packet was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which hook.
    pub hook: Hook,
    /// Host-side ifindex of the hook's endpoint.
    pub ifindex: u32,
    /// The interface that the packet came into the host by, 0 if the host made it (`ingress_ifindex`).
    pub ingress: u32,
}

/// What is counted on one side. Neither an `Option` nor padded: the verifier refuses to copy what is left undefined.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Number of the deciding rule, [`PolicyEntry::NO_RULE`] if none.
    pub rule: u16,
    /// Allow, deny or audit.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Whether anything is counted; if not, the rest means nothing.
    pub is_counted: bool,
    /// Zero.
    pub pad: u8,
}

/// What becomes of a packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether it goes on.
    pub pass: bool,
    /// Whether it opened a flow.
    pub is_new: bool,
    /// Whether it goes to the receiver at once, past the bridge and the receiver's own hook.
    pub redirect: bool,
    /// Zero.
    pub pad: u8,
    /// What the hook's endpoint counts.
    pub own: Tally,
    /// What the receiver counts when its hook does not see the packet: denied at the sender's, or redirected from there.
    pub peer: Tally,
    /// The receiver's ifindex, when `peer` is counted or the packet redirected.
    pub peer_ifindex: u32,
}

impl Tally {
    /// Counted nowhere.
    pub const NONE: Self = Self {
        rule: PolicyEntry::NO_RULE,
        verdict: Verdict::Allow,
        reason: Reason::Allowed,
        is_counted: false,
        pad: 0,
    };

    /// Counted.
    #[inline(always)]
    pub const fn new(verdict: Verdict, reason: Reason, rule: u16) -> Self {
        Self {
            rule,
            verdict,
            reason,
            is_counted: true,
            pad: 0,
        }
    }
}

impl Outcome {
    /// Goes on and counts nowhere.
    pub const PASS: Self = Self {
        pass: true,
        is_new: false,
        redirect: false,
        pad: 0,
        own: Tally::NONE,
        peer: Tally::NONE,
        peer_ifindex: 0,
    };

    /// Goes over the bridge after all: the receiver cannot be reached past it.
    #[inline(always)]
    pub fn over_the_bridge(&mut self) {
        self.redirect = false;
        self.peer = Tally::NONE;
    }

    /// Dropped and counted.
    #[inline(always)]
    pub const fn deny(reason: Reason) -> Self {
        Self::counted(false, Verdict::Deny, reason)
    }

    #[inline(always)]
    const fn counted(pass: bool, verdict: Verdict, reason: Reason) -> Self {
        Self {
            pass,
            own: Tally::new(verdict, reason, PolicyEntry::NO_RULE),
            ..Self::PASS
        }
    }
}

/// One packet at one hook, beyond its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) hook: Hook,
    pub(crate) ingress: u32,
    pub(crate) me: Endpoint,
    /// Length of the frame, bytes.
    length: u32,
    /// Another endpoint that enforces is named, at whichever end.
    other_enforces: bool,
    /// The frame could not be read to its end, and why.
    is_unreadable: bool,
    finding: Reason,
    /// The MAC of this hook's endpoint is where it has to be.
    is_bound: bool,
    /// It was looked for, and there is no flow with its key.
    has_no_flow: bool,
}

/// Room for a decision beyond the established path. A BPF program has 512 bytes of stack; this lies in a map.
pub struct Scratch {
    case: Case,
    pub(crate) headers: Headers,
    /// The tuple that an ICMP error quotes.
    quoted: Headers,
    judgement: Judgement,
    key: FlowKey,
    /// A flow about to be opened.
    fresh: Flow,
    /// What is about to be seen.
    sight: SeenKey,
    times: SeenTimes,
    outcome: Outcome,
}

impl Scratch {
    /// What it is at first. Every decision writes what it reads.
    pub const fn new() -> Self {
        let nobody = Endpoint {
            ifindex: 0,
            network: 0,
            mode: 0,
            policy: 0,
            ring_base: 0,
            ring_mask: 0,
            mac: Mac::new([0; 6]),
            redirects: 0,
            pad: 0,
        };
        let nowhere = Address {
            kind: 0,
            identity: 0,
            ifindex: 0,
            network: 0,
        };
        Self {
            case: Case {
                hook: Hook::From,
                ingress: 0,
                me: nobody,
                length: 0,
                other_enforces: false,
                is_unreadable: false,
                finding: Reason::Internal,
                is_bound: false,
                has_no_flow: false,
            },
            headers: Headers::NONE,
            quoted: Headers::NONE,
            judgement: Judgement {
                peer: nobody,
                source: nowhere,
                destination: nowhere,
                sides: [Side::NONE; 2],
                epoch: 0,
                is_denied: false,
                denial: Ruling::denied(Reason::Internal),
                is_denied_by_peer: false,
                is_clean: true,
                from_initiator: true,
                opener: opener::UNKNOWN,
                lesson: learn::lesson::NOTHING,
                is_new: false,
                is_adopted: false,
                bridged: 0,
                stale: Judgement::NOWHERE,
            },
            key: FlowKey::NONE,
            fresh: Flow::NONE,
            sight: SeenKey {
                addr: Addr::UNSPECIFIED,
                ifindex: 0,
                peer: 0,
                port: 0,
                kind: 0,
                protocol: 0,
                direction: 0,
                pad: [0; 3],
            },
            times: SeenTimes {
                flows: 0,
                first: 0,
                last: 0,
            },
            outcome: Outcome::PASS,
        }
    }
}

impl Scratch {
    /// The headers of the packet that was decided about last, as far as they could be read.
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// What was decided last. A BPF program reads it here: a copy would cost stack.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Sends the packet that was decided about last over the bridge after all: the receiver cannot be reached past it.
    #[inline(always)]
    pub fn over_the_bridge(&mut self) {
        self.outcome.over_the_bridge();
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Case {
    /// A guard found something: dropped when either end enforces, else counted as audit (section 6).
    #[inline(always)]
    pub(crate) fn guard(&self, reason: Reason) -> Outcome {
        if Check::GuardOwn.finds(self.me.mode == mode::ENFORCE)
            || Check::GuardOther.finds(self.other_enforces)
        {
            Outcome::deny(reason)
        } else {
            Outcome::counted(true, Verdict::Audit, reason)
        }
    }

    /// An endpoint that the packet names: one that enforces is protected.
    #[inline(always)]
    pub(crate) fn notice<E: Env>(&mut self, check: Check, env: &E, named: &Address) {
        let is_another = named.kind == kind::ENDPOINT && named.ifindex != self.me.ifindex;
        if check.finds(is_another && !self.other_enforces)
            && let Some(found) = env.endpoint(named.ifindex)
        {
            self.other_enforces = found.mode == mode::ENFORCE;
        }
    }

    /// As [`Case::guard`], for what is nobody's fault (a neighbour's broadcast): not counted where it passes.
    #[inline(always)]
    pub(crate) fn soft(&self, reason: Reason) -> Outcome {
        if Check::GuardSoft.finds(self.me.mode == mode::ENFORCE) {
            Outcome::deny(reason)
        } else {
            Outcome::PASS
        }
    }

    /// Whether the packet comes from the host itself or through the bridge device, not from another port.
    #[inline(always)]
    pub(crate) fn is_from_host(&self) -> bool {
        self.ingress == 0 || self.ingress == self.me.network
    }
}

/// Judges a frame.
#[inline(always)]
pub fn decide<E: Env, P: Packet>(
    env: &mut E,
    packet: &P,
    place: &Place,
    scratch: &mut Scratch,
) -> Outcome {
    let parsed = parse(packet, &mut scratch.headers);
    let Some(me) = env.endpoint(place.ifindex) else {
        scratch.outcome = match Check::NotReady.finds(true) {
            true => Outcome::deny(Reason::NotReady),
            false => Outcome::PASS,
        };
        return scratch.outcome;
    };
    let Scratch {
        case,
        headers,
        key,
        outcome,
        ..
    } = scratch;
    case.me = *me;
    case.is_bound = match place.hook {
        Hook::From => headers.source_mac == case.me.mac,
        Hook::To => headers.destination_mac == case.me.mac || headers.destination_mac.is_group(),
    };
    case.has_no_flow = false;
    if Check::EstablishedMac.holds(case.is_bound)
        && Check::EstablishedReadable.holds(parsed.is_ok())
        && Check::EstablishedArp.holds(headers.ethertype != ethertype::ARP)
    {
        match established(env, place, &case.me, packet.len(), headers, key, outcome) {
            Passage::Open => return scratch.outcome,
            Passage::Closed => {}
            Passage::Unknown => case.has_no_flow = true,
        }
    }
    // Not before: the path of nearly every packet does without.
    case.hook = place.hook;
    case.ingress = place.ingress;
    case.length = packet.len();
    case.other_enforces = false;
    case.is_unreadable = parsed.is_err();
    case.finding = match parsed {
        Ok(()) => Reason::Internal,
        Err(reason) => reason,
    };
    // One after the other, not one in the other: each step has the stack to itself.
    if slow(env, packet, scratch) {
        env.flow_of(scratch);
    }
    if scratch.outcome.pass && scratch.judgement.lesson != learn::lesson::NOTHING {
        env.learn_from(scratch);
    }
    scratch.outcome
}
