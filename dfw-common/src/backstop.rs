//! The bridge device's own hooks: what passes between the host and a bridge must belong to a managed endpoint
//! (docs/semantics.md section 10). Never policy; only on a node that enforces.

use crate::{
    decide::Hook,
    env::Env,
    key::NetworkId,
    packet::Packet,
    parse::parse,
    policy::classify,
    reason::Reason,
    value::kind,
};

/// Why a frame is dropped at the bridge device `network`; none when it goes on. `From` is towards the host.
#[inline(always)]
pub fn backstop<E: Env, P: Packet>(
    env: &E,
    packet: &P,
    network: NetworkId,
    hook: Hook,
) -> Option<Reason> {
    if env.settings().enforcing == 0 {
        return None;
    }
    let headers = match parse(packet) {
        Ok(headers) => headers,
        Err(reason) => return Some(reason),
    };
    let class = match hook {
        // Duplicate address detection and its like: has no address yet that could be answered.
        Hook::From if headers.source.is_unspecified() => return None,
        Hook::From => classify(env, network, &headers.source),
        Hook::To => classify(env, network, &headers.destination),
    };
    let is_managed = class.kind == kind::ENDPOINT && class.network == network;
    let is_group = matches!(hook, Hook::To) && class.kind == kind::GROUP;
    if is_managed || is_group { None } else { Some(Reason::Unmanaged) }
}
