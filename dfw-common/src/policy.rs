//! Looking a verdict up in the compiled entries.

use crate::{
    check::Check,
    env::Env,
    key::{ANY_NETWORK, AddressKey, PolicyKey, PrefixKey},
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
        Self {
            reason,
            rule: PolicyEntry::NO_RULE,
        }
    }

    /// Whether the rules allow it.
    #[inline(always)]
    pub fn is_allowed(&self) -> bool {
        matches!(self.reason, Reason::Allowed)
    }
}

/// What the rules are asked: one direction of one policy, about one peer, protocol and port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The policy.
    pub policy: u32,
    /// The peer's identity.
    pub identity: u32,
    /// The port as dialled; ICMP: the type.
    pub port: u16,
    /// The side.
    pub direction: Direction,
    /// IP protocol.
    pub protocol: u8,
}

/// What an address is, as seen on a network (docs/semantics.md section 2). At most two exact and two prefix lookups. What
/// is asked is spent: a copy would cost stack.
#[inline(always)]
pub fn classify<E: Env>(env: &E, who: &mut AddressKey) -> Address {
    if let Some(found) = env.address(who) {
        return found;
    }
    let network = who.network;
    who.network = ANY_NETWORK;
    if let Some(found) = env.address(who) {
        return found;
    }
    let prefix = match env.prefix(PrefixKey::new(network, who.addr)) {
        Some(found) => Some(found),
        None => env.prefix(PrefixKey::new(ANY_NETWORK, who.addr)),
    };
    match prefix {
        Some(found) => Address {
            kind: found.kind,
            identity: found.identity,
            ifindex: 0,
            network: 0,
        },
        None => Address {
            kind: if Check::UnknownAddress.finds(true) {
                kind::UNKNOWN
            } else {
                kind::WORLD
            },
            identity: IDENTITY_OTHER,
            ifindex: 0,
            network: 0,
        },
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

/// The header for a peer; its key is left with the identity under which the entries stand. No header is the same as one that
/// denies.
#[inline(always)]
fn header<E: Env>(env: &E, key: &mut PolicyKey) -> PolicyEntry {
    if let Some(found) = env.policy(key) {
        return found;
    }
    key.identity = IDENTITY_OTHER;
    env.policy(key).unwrap_or(PolicyEntry::NOTHING)
}

/// Whether some rule lets the two talk at all, in this direction: what address resolution needs to know.
#[inline(never)]
pub fn some_allowed<E: Env>(env: &E, policy: u32, identity: u32, direction: Direction) -> bool {
    let mut key = header_key(policy, identity, direction);
    header(env, &mut key).flags & PolicyEntry::SOME_ALLOWED != 0
}

/// Asks the rules. One header and as many exact probes as there are port prefix lengths in use; the number of rules,
/// peers and endpoints does not matter.
#[inline(always)]
pub fn ask<E: Env>(env: &E, question: &Question) -> Ruling {
    let mut key = header_key(question.policy, question.identity, question.direction);
    let header = header(env, &mut key);
    let mut found = header;
    key.protocol = question.protocol;
    // Entries are disjoint, so the order of the probes does not matter; exact ports are the commonest.
    for step in 0..=16u32 {
        let length = 16 - step;
        // This length and all shorter ones.
        if header.lengths & ((2 << length) - 1) == 0 {
            break;
        }
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
    } else if Check::DefaultDeny.finds(found.rule == PolicyEntry::NO_RULE) {
        Reason::NoRule
    } else if Check::DenyRule.finds(found.rule != PolicyEntry::NO_RULE) {
        Reason::DenyRule
    } else {
        Reason::Allowed
    };
    Ruling {
        reason,
        rule: found.rule,
    }
}
