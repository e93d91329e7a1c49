//! What dfw is measured against (`cargo xtask bench`), never shipped: two hooks that each do a Cilium-like datapath's work for
//! IPv4: identity by longest prefix, connection tracking by reverse and forward tuple in an LRU table, policy by longest prefix
//! for every packet that is no reply.

#![no_std]
#![no_main]

use core::ptr;

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST,
        tcx_action_base::{TCX_DROP, TCX_NEXT},
    },
    helpers::generated::bpf_ktime_get_ns,
    macros::{classifier, map},
    maps::{LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
    programs::TcContext,
};

/// Addresses to identities.
#[map]
static IDENTITIES: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(4096, 1);
/// Identity, direction, protocol and port to 1.
#[map]
static RIVAL_POLICY: LpmTrie<[u8; 8], u32> = LpmTrie::with_max_entries(4096, 1);
#[map]
static CONNECTIONS: LruHashMap<Tuple, Connection> = LruHashMap::with_max_entries(131_072, 0);
/// Packets that passed.
#[map]
static PASSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Who sends to whom, as seen at one of the hooks.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tuple {
    source: [u8; 4],
    destination: [u8; 4],
    ports: [[u8; 2]; 2],
    protocol: u8,
    hook: u8,
    pad: [u8; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Connection {
    seen: u64,
    packets: u64,
    bytes: u64,
}

const EGRESS: u8 = 0;
const INGRESS: u8 = 1;

/// TCX ingress of a veth: the peer is the destination.
#[classifier]
fn rival_from_ep(ctx: TcContext) -> i32 {
    judge(&ctx, EGRESS)
}

/// TCX egress of a veth: the peer is the source.
#[classifier]
fn rival_to_ep(ctx: TcContext) -> i32 {
    judge(&ctx, INGRESS)
}

#[inline(always)]
fn judge(ctx: &TcContext, hook: u8) -> i32 {
    let Some(tuple) = tuple(ctx, hook) else {
        // ARP, and what this does not measure.
        return TCX_NEXT;
    };
    let peer = if hook == EGRESS {
        tuple.destination
    } else {
        tuple.source
    };
    let identity = IDENTITIES.get(&Key::new(32, peer)).copied().unwrap_or(2);
    if !is_reply(ctx, &tuple) {
        let is_known = note(ctx, &tuple);
        if !is_allowed(identity, &tuple) {
            return TCX_DROP;
        }
        if !is_known {
            let connection = Connection {
                seen: 0,
                packets: 1,
                bytes: u64::from(ctx.len()),
            };
            // A full table makes room by itself; somebody else may have been quicker.
            let _ = CONNECTIONS.insert(&tuple, &connection, u64::from(BPF_NOEXIST));
        }
    }
    if let Some(passed) = PASSED.get_ptr_mut(0) {
        // SAFETY: of this processor alone, while bottom halves are off.
        unsafe { *passed += 1 };
    }
    TCX_NEXT
}

#[inline(always)]
fn is_reply(ctx: &TcContext, tuple: &Tuple) -> bool {
    let reverse = Tuple {
        source: tuple.destination,
        destination: tuple.source,
        ports: [tuple.ports[1], tuple.ports[0]],
        // Opened by the other side, as this hook has seen it.
        hook: 1 - tuple.hook,
        ..*tuple
    };
    note(ctx, &reverse)
}

/// Counts a packet of a known connection.
#[inline(always)]
fn note(ctx: &TcContext, tuple: &Tuple) -> bool {
    let Some(connection) = CONNECTIONS.get_ptr_mut(tuple) else {
        return false;
    };
    // SAFETY: an element stays readable during the program's run; counts that race are lost.
    unsafe {
        (*connection).seen = bpf_ktime_get_ns();
        (*connection).packets += 1;
        (*connection).bytes += u64::from(ctx.len());
    }
    true
}

#[inline(always)]
fn is_allowed(identity: u32, tuple: &Tuple) -> bool {
    let [a, b, c, d] = identity.to_be_bytes();
    let [high, low] = tuple.ports[1];
    let key = Key::new(64, [a, b, c, d, tuple.hook, tuple.protocol, high, low]);
    RIVAL_POLICY.get(&key).is_some()
}

/// Of IPv4 without options that carries TCP or UDP.
#[inline(always)]
fn tuple(ctx: &TcContext, hook: u8) -> Option<Tuple> {
    const ETHERTYPE: usize = 12;
    const IP: usize = 14;
    const PORTS: usize = IP + 20;
    if read::<[u8; 2]>(ctx, ETHERTYPE)? != [8, 0] || read::<u8>(ctx, IP)? != 0x45 {
        return None;
    }
    let protocol = read::<u8>(ctx, IP + 9)?;
    if protocol != 6 && protocol != 17 {
        return None;
    }
    Some(Tuple {
        source: read(ctx, IP + 12)?,
        destination: read(ctx, IP + 16)?,
        ports: read(ctx, PORTS)?,
        protocol,
        hook,
        pad: [0; 2],
    })
}

#[inline(always)]
fn read<T: Copy>(ctx: &TcContext, offset: usize) -> Option<T> {
    let at = ctx.data() + offset;
    if at + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet, as was just seen; every byte pattern is a value of these types.
    Some(unsafe { ptr::read_unaligned(at as *const T) })
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
