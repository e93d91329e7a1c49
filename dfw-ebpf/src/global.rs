//! Functions of their own to the verifier: it checks each once, for any arguments, instead of once for each path to it
//! (global functions, kernel commit 51c39bb1d5d1; pointers to them, e5069b9c23b3). Hence the raw pointers and the checks.

use dfw_common::{
    addr::Addr,
    conntrack,
    decide::{self, Scratch},
    key::{AddressKey, FlowKey},
    policy::{self, Question},
    reason::Reason,
    uplink,
    value::{Address, List},
};

use crate::maps::{self, Kernel};

/// [`policy::ask`]: the reason in the low byte, the rule in the high half.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_ask(question: *const Question) -> u32 {
    if question.is_null() {
        return Reason::Internal as u32;
    }
    // SAFETY: not null, and the verifier has checked that every caller passes a whole `Question`.
    let ruling = policy::ask(&Kernel, unsafe { &*question });
    (u32::from(ruling.rule) << 16) | ruling.reason as u32
}

/// [`policy::classify`], written to `class`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_classify(who: *mut AddressKey, class: *mut Address) -> u32 {
    if who.is_null() || class.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier has checked that every caller passes whole objects.
    unsafe { *class = policy::classify(&Kernel, &mut *who) };
    1
}

/// [`decide::flow`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_flow(scratch: *mut Scratch) -> u32 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier has checked that every caller passes a whole `Scratch`, its own.
    decide::flow(&mut Kernel, unsafe { &mut *scratch });
    1
}

/// [`decide::learn`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_learn(scratch: *mut Scratch) -> u32 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: as in `dfw_flow`.
    decide::learn(&mut Kernel, unsafe { &mut *scratch });
    1
}

/// [`conntrack::place`]; `u64::MAX` when there is no place.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_place(owner: u32, base: u32, mask: u32) -> u64 {
    conntrack::place(&mut Kernel, owner, base, mask).map_or(u64::MAX, u64::from)
}

/// [`maps::find`]; `u64::MAX` when there is no such flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_find(key: *const FlowKey) -> u64 {
    if key.is_null() {
        return u64::MAX;
    }
    // SAFETY: not null, and the verifier has checked that every caller passes a whole key.
    maps::find(unsafe { &*key }).map_or(u64::MAX, u64::from)
}

/// [`uplink::covers`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn dfw_covers(list: *const List, addr: *const Addr) -> u32 {
    if list.is_null() || addr.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier has checked that every caller passes whole objects.
    u32::from(unsafe { uplink::covers(&Kernel, &*list, &*addr) })
}
