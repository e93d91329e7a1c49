//! The packet as the kernel hands it over. The only unsafe that touches packet bytes.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use dfw_common::{
    check::Check,
    key::proto,
    packet::Packet,
    parse::{ETHERNET, IPV6},
};

/// Bytes that are made linear before parsing where they may be needed: Ethernet, IPv6 with extension headers, and the start
/// of the upper layer.
const PULL: u32 = 192;

/// A frame of which the headers are linear.
pub(crate) struct Frame {
    data: usize,
    end: usize,
    length: u32,
    is_tagged: bool,
}

impl Frame {
    /// The frame of an XDP program; none when its headers are not linear, which no driver known does with a first buffer
    /// of more than that.
    #[inline(always)]
    pub(crate) fn of_xdp(ctx: &XdpContext) -> Option<Self> {
        let (data, end) = (ctx.data(), ctx.data_end());
        // SAFETY: a valid context.
        let length = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) } as u32;
        let linear = end.wrapping_sub(data) as u32;
        (linear == length || linear >= PULL).then_some(Self {
            data,
            end,
            length,
            is_tagged: false,
        })
    }

    /// Looks at the packet of a program's context. Invalidates pointers into it that were taken before.
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        // SAFETY: the context is valid for the program's whole run.
        let is_tagged = Check::TagInMetadata.finds(unsafe { (*ctx.skb.skb).vlan_present } != 0);
        let mut frame = Self {
            data: ctx.data(),
            end: ctx.data_end(),
            length: ctx.len(),
            is_tagged,
        };
        let linear = frame.end.wrapping_sub(frame.data) as u32;
        if linear < frame.length && linear < PULL && !frame.is_plain() {
            // When it fails, the headers that are missing read as truncated and the packet is dropped.
            let _ = ctx.pull_data(if frame.length < PULL {
                frame.length
            } else {
                PULL
            });
            (frame.data, frame.end) = (ctx.data(), ctx.data_end());
        }
        frame
    }

    /// Whether all that is read of the frame is linear: TCP or UDP right behind an IP header without options. TCP's sender
    /// keeps headers apart from data, and a clone of each packet until it is acknowledged: to pull any data in would copy
    /// the whole packet, which costs more than the whole decision.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        let (at, upper) = match self.load::<4>(12) {
            Some([0x08, 0x00, 0x45, _]) => (ETHERNET + 9, ETHERNET + 20),
            Some([0x86, 0xdd, ..]) => (ETHERNET + 6, ETHERNET + IPV6),
            _ => return false,
        };
        let linear = self.end.wrapping_sub(self.data);
        match self.load::<1>(at) {
            Some([proto::TCP]) => linear >= upper + 20,
            Some([proto::UDP]) => linear >= upper + 8,
            _ => false,
        }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The verifier wants an upper bound on every offset.
        if offset > 0x3fff {
            return None;
        }
        let start = self.data + offset;
        if end_of::<N>(start) > self.end {
            return None;
        }
        let mut bytes = [0; N];
        let mut at = 0;
        while at + 4 <= N {
            // SAFETY: start..start + N lies within data..data_end, which the verifier checks too.
            let word = unsafe { word(start + at) }.to_ne_bytes();
            (bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]) =
                (word[0], word[1], word[2], word[3]);
            at += 4;
        }
        while at < N {
            // SAFETY: as above.
            bytes[at] = unsafe { *((start + at) as *const u8) };
            at += 1;
        }
        Some(bytes)
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        self.is_tagged
    }
}

/// `start + N`, without the compiler's knowing: it would move the sum to the other side of a comparison, and the verifier
/// forbids arithmetic on `data_end`.
#[inline(always)]
fn end_of<const N: usize>(start: usize) -> usize {
    let mut end = start;
    // SAFETY: an addition.
    unsafe {
        core::arch::asm!(
            "{end} += {size}",
            end = inout(reg) end,
            size = const N,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    end
}

/// Four bytes of a packet, as they lie in memory. Headers are not aligned, and the compiler would load them byte by byte;
/// the kernel takes an unaligned word where the architecture does (it fixes it up elsewhere).
///
/// # Safety
/// `address..address + 4` must lie within the packet.
#[inline(always)]
unsafe fn word(address: usize) -> u32 {
    let mut value: u64;
    // SAFETY: reads the caller's four bytes and nothing else.
    unsafe {
        core::arch::asm!(
            "{value} = *(u32 *)({address} + 0)",
            address = in(reg) address,
            value = out(reg) value,
            options(readonly, nostack, preserves_flags),
        );
    }
    value as u32
}
