//! The packet as the kernel hands it over. The only unsafe that touches packet bytes.

use aya_ebpf::programs::TcContext;
use dfw_common::packet::Packet;

/// Bytes that are made linear before parsing: Ethernet, IPv6 with extension headers, and the start of the upper layer.
const PULL: u32 = 192;

/// A frame of which the headers are linear.
pub(crate) struct Frame {
    data: usize,
    end: usize,
    length: u32,
    is_tagged: bool,
}

impl Frame {
    /// Looks at the packet of a program's context. Invalidates pointers into it that were taken before.
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        let length = ctx.len();
        let (mut data, mut end) = (ctx.data(), ctx.data_end());
        let linear = end.wrapping_sub(data) as u32;
        if linear < length && linear < PULL {
            // When it fails, the headers that are missing read as truncated and the packet is dropped.
            let _ = ctx.pull_data(if length < PULL { length } else { PULL });
            (data, end) = (ctx.data(), ctx.data_end());
        }
        // SAFETY: the context is valid for the program's whole run.
        let is_tagged = unsafe { (*ctx.skb.skb).vlan_present } != 0;
        Self { data, end, length, is_tagged }
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
        if start + N > self.end {
            return None;
        }
        // SAFETY: start..start + N lies within data..data_end, which the verifier checks too; any alignment will do.
        Some(unsafe { core::ptr::read_unaligned(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        self.is_tagged
    }
}
