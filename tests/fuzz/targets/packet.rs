//! Any bytes as a frame: the parser never panics, and what it accepts it can look into again.

#![no_main]

use dfw_common::{packet::Packet, parse};
use libfuzzer_sys::fuzz_target;

struct Frame<'a> {
    bytes: &'a [u8],
    is_tagged: bool,
}

impl Packet for Frame<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("the fuzzer's inputs are small")
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..)?.first_chunk().copied()
    }

    fn is_tagged(&self) -> bool {
        self.is_tagged
    }
}

fuzz_target!(|input: (bool, &[u8])| {
    let (is_tagged, bytes) = input;
    let frame = Frame { bytes, is_tagged };
    let parsed = parse::parse(&frame);
    assert!(
        !(is_tagged && parsed.is_ok()),
        "a tagged frame was accepted"
    );
    if let Ok(headers) = parsed {
        let _ = parse::icmp(&headers);
        let _ = parse::quoted(&frame, &headers);
    }
});
