//! Looking a verdict up in the compiled entries.

use crate::{
    env::Env,
    key::{ANY_NETWORK, AddressKey, NetworkId, PolicyKey, PrefixKey},
    addr::Addr,
    reason::{Direction, Reason},
    value::{Address, IDENTITY_OTHER, PolicyEntry, kind},
};

/// What the rules say of one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// `allowed`, or why not.
    pub reason: Reason,
    /// Number of the deciding rule, [`PolicyEntry::NO_RULE`] if none.
    pub rule: u16,
}

impl Ruling {
    /// Denied without a rule that says so.
    #[inline(always)]
    pub const fn denied(reason: Reason) -> Self {
        Self { reason, rule: PolicyEntry::NO_RULE }
    }

    /// Whether the rules allow it.
    #[inline(always)]
    pub fn is_allowed(&self) -> bool {
        matches!(self.reason, Reason::Allowed)
    }
}

/// What the rules are asked: one direction of one policy, about one peer, protocol and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The policy.
    pub policy: u32,
    /// The peer's identity.
    pub identity: u32,
    /// The side.
    pub direction: Direction,
    /// IP protocol.
    pub protocol: u8,
    /// The port as dialled; ICMP: the type.
    pub port: u16,
}

/// What an address is, as seen on a network (docs/semantics.md section 2). At most two exact and two prefix lookups.
#[inline(never)]
pub fn classify<E: Env>(env: &E, network: NetworkId, addr: &Addr) -> Address {
    let mut key = AddressKey { network, addr: *addr };
    if let Some(found) = env.address(&key) {
        return found;
    }
    key.network = ANY_NETWORK;
    if let Some(found) = env.address(&key) {
        return found;
    }
    let prefix = match env.prefix(PrefixKey::new(network, *addr)) {
        Some(found) => Some(found),
        None => env.prefix(PrefixKey::new(ANY_NETWORK, *addr)),
    };
    match prefix {
        Some(found) => {
            Address { kind: found.kind, identity: found.identity, ifindex: 0, network: 0 }
        }
        None => Address { kind: kind::UNKNOWN, identity: IDENTITY_OTHER, ifindex: 0, network: 0 },
    }
}

#[inline(always)]
fn header_key(policy: u32, identity: u32, direction: Direction) -> PolicyKey {
    PolicyKey {
        policy,
        identity,
        port: 0,
        direction: direction as u8,
        protocol: 0,
        length: PolicyKey::HEADER,
        pad: [0; 3],
    }
}

/// The header for a peer, and the identity under which its entries stand.
#[inline(always)]
fn header<E: Env>(
    env: &E,
    policy: u32,
    identity: u32,
    direction: Direction,
) -> Option<(PolicyEntry, u32)> {
    if let Some(found) = env.policy(&header_key(policy, identity, direction)) {
        return Some((found, identity));
    }
    let other = env.policy(&header_key(policy, IDENTITY_OTHER, direction))?;
    Some((other, IDENTITY_OTHER))
}

/// Whether some rule lets the two talk at all, in this direction: what address resolution needs to know.
#[inline(never)]
pub fn some_allowed<E: Env>(env: &E, policy: u32, identity: u32, direction: Direction) -> bool {
    match header(env, policy, identity, direction) {
        Some((found, _)) => found.flags & PolicyEntry::SOME_ALLOWED != 0,
        None => false,
    }
}

/// Asks the rules. One header and as many exact probes as there are port prefix lengths in use; the number of rules,
/// peers and endpoints does not matter.
#[inline(never)]
pub fn ask<E: Env>(env: &E, question: &Question) -> Ruling {
    let Some((header, identity)) =
        header(env, question.policy, question.identity, question.direction)
    else {
        return Ruling::denied(Reason::NoRule);
    };
    let mut found = header;
    let mut key = header_key(question.policy, identity, question.direction);
    key.protocol = question.protocol;
    // Entries are disjoint, so the order of the probes does not matter; exact ports are the commonest.
    for step in 0..=16u32 {
        let length = 16 - step;
        if header.lengths & (1 << length) == 0 {
            continue;
        }
        key.length = length as u8;
        key.port = ((u32::from(question.port) >> step) << step) as u16;
        if let Some(entry) = env.policy(&key) {
            found = entry;
            break;
        }
    }
    let reason = if found.verdict == PolicyEntry::ALLOW {
        Reason::Allowed
    } else if found.rule == PolicyEntry::NO_RULE {
        Reason::NoRule
    } else {
        Reason::DenyRule
    };
    Ruling { reason, rule: found.rule }
}
