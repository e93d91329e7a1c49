//! Entry points of dfw's BPF programs. Nothing is decided here: `dfw_common` decides, this carries it out.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod account;
mod ctx;
mod global;
mod maps;

use aya_ebpf::{
    bindings::{
        __sk_buff,
        tcx_action_base::{TCX_DROP, TCX_NEXT},
    },
    helpers::generated::{bpf_check_mtu, bpf_redirect_peer, bpf_skb_change_type},
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::trace;
use dfw_common::{
    backstop::backstop,
    check::Check,
    decide::{Hook, Place, decide},
    packet::Packet as _,
    reason::Direction,
};

use crate::{ctx::Frame, maps::Kernel};

/// The packet is for this host (linux/if_packet.h).
const PACKET_HOST: u32 = 0;

/// TCX ingress of a container's host-side veth: what the container sends.
#[classifier]
fn dfw_from_ep(ctx: TcContext) -> i32 {
    endpoint(&ctx, Hook::From)
}

/// TCX egress of a container's host-side veth: what the container gets.
#[classifier]
fn dfw_to_ep(ctx: TcContext) -> i32 {
    endpoint(&ctx, Hook::To)
}

/// TCX ingress of a bridge device: what its ports send to the host and beyond.
#[classifier]
fn dfw_from_br(ctx: TcContext) -> i32 {
    bridge(&ctx, Hook::From)
}

/// TCX egress of a bridge device: what the host sends to its ports.
#[classifier]
fn dfw_to_br(ctx: TcContext) -> i32 {
    bridge(&ctx, Hook::To)
}

/// Does nothing: what benchmarks subtract, and how the agent learns how fast jiffies run.
#[classifier]
fn dfw_empty(_ctx: TcContext) -> i32 {
    maps::jiffies() as i32
}

#[inline(always)]
fn endpoint(ctx: &TcContext, hook: Hook) -> i32 {
    let frame = Frame::new(ctx);
    let skb = skb(ctx);
    let place = Place {
        hook,
        ifindex: skb.ifindex,
        ingress: skb.ingress_ifindex,
    };
    // There is always one element; the verifier wants to see what would happen otherwise.
    let Some(scratch) = maps::scratch() else {
        return TCX_DROP;
    };
    let mut outcome = decide(&mut Kernel, &frame, &place, scratch);
    if outcome.redirect
        && !(has_fast_path() && Check::RedirectReach.holds(takes(ctx, outcome.peer_ifindex)))
    {
        outcome.over_the_bridge();
    }
    account::endpoint(frame.len(), &place, scratch.headers(), &outcome);
    if !outcome.pass {
        log_drop(
            ctx,
            skb.ifindex,
            skb.ingress_ifindex,
            outcome.own.reason as u8,
        );
    }
    match (outcome.pass, outcome.redirect) {
        (false, _) => TCX_DROP,
        (true, false) => TCX_NEXT,
        (true, true) if has_fast_path() => past_the_bridge(ctx, outcome.peer_ifindex),
        (true, true) => TCX_DROP,
    }
}

/// Whether the agent wants redirects (`--fast-path`). If not, the verifier sees that nothing of it can be reached, and a kernel
/// that lacks the helpers takes the programs all the same.
#[inline(always)]
fn has_fast_path() -> bool {
    // SAFETY: a whole, aligned word. The compiler must not know its value.
    unsafe { core::ptr::read_volatile(&raw const DFW_FAST_PATH) != 0 }
}

/// Patched before the object is loaded.
#[unsafe(no_mangle)]
static DFW_FAST_PATH: u32 = 0;

/// Gives the packet to the other end of a veth, as if that veth had carried it there.
#[inline(always)]
fn past_the_bridge(ctx: &TcContext, ifindex: u32) -> i32 {
    // Its MAC is not this interface's, so that the kernel has it for somebody else's.
    // SAFETY: a valid context; any packet may be told to be for its receiver.
    unsafe { bpf_skb_change_type(ctx.skb.skb, PACKET_HOST) };
    // SAFETY: takes numbers. What it returns is TCX_REDIRECT, or TCX_DROP.
    unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
}

/// Not there at all to the verifier unless the agent was started with `--log-level trace`. A function of its own for its
/// stack.
#[inline(never)]
fn log_drop(ctx: &TcContext, ifindex: u32, ingress: u32, reason: u8) {
    trace!(
        ctx,
        "dropped at interface {}, from interface {}, reason {}", ifindex, ingress, reason
    );
}

#[inline(always)]
fn bridge(ctx: &TcContext, hook: Hook) -> i32 {
    let frame = Frame::new(ctx);
    let Some(scratch) = maps::scratch() else {
        return TCX_DROP;
    };
    let exists = |ifindex| exists(ctx, ifindex);
    match backstop(&Kernel, &frame, skb(ctx).ifindex, hook, scratch, exists) {
        None => TCX_NEXT,
        Some(reason) => {
            let direction = match hook {
                Hook::From => Direction::Egress,
                Hook::To => Direction::Ingress,
            };
            account::backstop(frame.len(), scratch.headers(), direction, reason);
            TCX_DROP
        }
    }
}

/// Whether this namespace has an interface of this number.
#[inline(always)]
fn exists(ctx: &TcContext, ifindex: u32) -> bool {
    check_mtu(ctx, ifindex) >= 0
}

/// Whether there is an interface of this number, and the packet not larger than it takes. What is still to be cut into segments
/// may be larger, as for a bridge (`is_skb_forwardable` in net/core/dev.c).
#[inline(always)]
fn takes(ctx: &TcContext, ifindex: u32) -> bool {
    check_mtu(ctx, ifindex) == 0
}

/// Negative when there is no such interface, positive when the packet is too large. The kernel looks the interface up before
/// it compares anything with its MTU (`bpf_skb_check_mtu` in net/core/filter.c), and that is the cheapest way to ask.
#[inline(always)]
fn check_mtu(ctx: &TcContext, ifindex: u32) -> i64 {
    let mut mtu = 0;
    // SAFETY: a valid context, and a word that the kernel may write.
    unsafe { bpf_check_mtu(ctx.skb.skb.cast(), ifindex, &raw mut mtu, 0, 0) }
}

#[inline(always)]
fn skb(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the kernel passes a valid context for the program's whole run; the verifier checks each field read.
    unsafe { &*ctx.skb.skb }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
