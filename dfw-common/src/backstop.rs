//! The bridge device's own hooks: what passes between the host and a bridge must belong to a managed endpoint
//! (docs/semantics.md section 10). Never policy; only on a node that enforces.

use crate::{
    check::Check,
    decide::{Hook, Scratch},
    env::Env,
    key::NetworkId,
    packet::Packet,
    parse::parse,
    reason::Reason,
    value::kind,
};

/// Why a frame is dropped at the bridge device `network`; none when it goes on. `From` is towards the host. While no agent
/// runs, the maps name endpoints that are gone and whose address another may have been given: `exists` says whether there
/// is an interface of this number.
#[inline(always)]
pub fn backstop<E: Env, P: Packet>(
    env: &E,
    packet: &P,
    network: NetworkId,
    hook: Hook,
    scratch: &mut Scratch,
    exists: impl FnOnce(u32) -> bool,
) -> Option<Reason> {
    if env.settings().enforcing == 0 {
        return None;
    }
    let headers = &mut scratch.headers;
    let parsed = parse(packet, headers);
    let addr = match hook {
        Hook::From => headers.source,
        Hook::To => headers.destination,
    };
    if addr.is_unspecified() {
        return match (parsed, hook) {
            (Err(reason), _) if Check::BackstopUnparsed.finds(true) => Some(reason),
            (_, Hook::To) if Check::BackstopUnspecified.finds(true) => Some(Reason::Unmanaged),
            // Duplicate address detection and its like: has no address yet that could be answered.
            (_, Hook::From | Hook::To) => None,
        };
    }
    // A fragment, say, is for the guards of the endpoint whose it is.
    let class = env.classify(network, &addr);
    let is_managed = class.kind == kind::ENDPOINT
        && Check::BackstopNetwork.holds(class.network == network)
        && Check::BackstopGone.holds(exists(class.ifindex));
    let is_group = matches!(hook, Hook::To) && class.kind == kind::GROUP;
    if Check::BackstopManaged.holds(is_managed || is_group) {
        None
    } else {
        Some(Reason::Unmanaged)
    }
}
