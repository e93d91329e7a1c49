//! Addresses as both sides see them: one form for IPv4 and IPv6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address, 16 bytes in network order; IPv4 is v4-mapped (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
///
/// Kept as four words that hold the wire bytes as they stand in memory, so that a BPF program loads and compares words and
/// never loops over bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr(pub [u32; 4]);

/// The third word of a v4-mapped address, `00 00 ff ff` on the wire.
const V4_MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// `::`, which also stands for "no address".
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// From the four bytes of an IPv4 address as on the wire.
    #[inline(always)]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self([0, 0, V4_MAPPED, u32::from_ne_bytes(bytes)])
    }

    /// From the four words of an IPv6 address, each as its wire bytes lie in memory.
    #[inline(always)]
    pub const fn v6(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == V4_MAPPED
    }

    /// Whether this is `::` or `0.0.0.0`.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.0[0] == 0
            && self.0[1] == 0
            && self.0[3] == 0
            && (self.0[2] == 0 || self.0[2] == V4_MAPPED)
    }

    /// Whether this is a multicast address of either family, or the limited broadcast `255.255.255.255`.
    /// The broadcast address of a subnet is data, not form: the agent writes it to the prefix map.
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        if self.is_v4() {
            self.0[3] == u32::MAX || self.0[3].to_ne_bytes()[0] & 0xf0 == 0xe0
        } else {
            self.0[0].to_ne_bytes()[0] == 0xff
        }
    }

    /// Whether this is an IPv6 link-local unicast address, `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local_v6(&self) -> bool {
        let b = self.0[0].to_ne_bytes();
        b[0] == 0xfe && b[1] & 0xc0 == 0x80
    }

    /// The 16 bytes in network order.
    pub const fn bytes(&self) -> [u8; 16] {
        let mut out = [0; 16];
        let mut i = 0;
        while i < 4 {
            let word = self.0[i].to_ne_bytes();
            let mut j = 0;
            while j < 4 {
                out[i * 4 + j] = word[j];
                j += 1;
            }
            i += 1;
        }
        out
    }

    /// The address for people: IPv4 in dotted form.
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from(self.0[3].to_ne_bytes()))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.bytes()))
        }
    }

    /// Both halves as numbers.
    #[inline(always)]
    pub const fn halves(&self) -> (u64, u64) {
        let [a, b, c, d] = self.0;
        (
            (a.to_be() as u64) << 32 | b.to_be() as u64,
            (c.to_be() as u64) << 32 | d.to_be() as u64,
        )
    }

    /// Whether this is an address of some local network, or of none: IPv4's private, shared, link-local, loopback and "this
    /// network" (RFC 1918, 6598, 3927, 1122); of IPv6 all but global unicast `2000::/3` (RFC 4291 section 2.4).
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        if !self.is_v4() {
            return self.0[0].to_ne_bytes()[0] >> 5 != 1;
        }
        let [a, b, ..] = self.0[3].to_ne_bytes();
        match a {
            0 | 10 | 127 => true,
            100 => b & 0xc0 == 64,
            169 => b == 254,
            172 => b & 0xf0 == 16,
            192 => b == 168,
            _ => false,
        }
    }

    /// Position in the total order that makes a flow key the same in both directions.
    #[inline(always)]
    pub fn is_before(&self, other: &Self) -> bool {
        if self.0[3] != other.0[3] {
            return self.0[3] < other.0[3];
        }
        if self.0[2] != other.0[2] {
            return self.0[2] < other.0[2];
        }
        if self.0[1] != other.0[1] {
            return self.0[1] < other.0[1];
        }
        self.0[0] < other.0[0]
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => {
                let b = v6.octets();
                let word = |i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
                Self([word(0), word(4), word(8), word(12)])
            }
        }
    }
}

impl core::fmt::Debug for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.to_ip(), f)
    }
}

/// A MAC address: its six wire bytes and two of zero, held in one word, so that a BPF program compares words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Mac(u64);

impl Mac {
    /// From six bytes in wire order.
    #[inline(always)]
    pub const fn new(m: [u8; 6]) -> Self {
        Self(u64::from_ne_bytes([
            m[0], m[1], m[2], m[3], m[4], m[5], 0, 0,
        ]))
    }

    /// The six bytes in wire order.
    #[inline(always)]
    pub const fn octets(&self) -> [u8; 6] {
        let m = self.0.to_ne_bytes();
        [m[0], m[1], m[2], m[3], m[4], m[5]]
    }

    /// Whether the group bit is set: multicast or broadcast (IEEE 802, first bit on the wire).
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        self.octets()[0] & 1 != 0
    }

    /// The link-local address that the kernel makes of this MAC (modified EUI-64, RFC 4291 appendix A).
    #[inline(always)]
    pub const fn link_local(&self) -> Addr {
        let m = self.octets();
        Addr([
            u32::from_ne_bytes([0xfe, 0x80, 0, 0]),
            0,
            u32::from_ne_bytes([m[0] ^ 2, m[1], m[2], 0xff]),
            u32::from_ne_bytes([0xfe, m[3], m[4], m[5]]),
        ])
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let m = self.octets();
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl PartialOrd for Mac {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mac {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.octets().cmp(&other.octets())
    }
}

/// A text that is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacError;

impl core::fmt::Display for MacError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a MAC address is six bytes in hex, like 02:42:ac:11:00:02")
    }
}

impl core::error::Error for MacError {}

impl core::str::FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut out = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut out {
            let part = parts.next().ok_or(MacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        match parts.next() {
            None => Ok(Self::new(out)),
            Some(_) => Err(MacError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let v4: Addr = "10.1.2.3".parse::<IpAddr>().expect("address").into();
        assert!(v4.is_v4() && !v4.is_group() && !v4.is_unspecified());
        assert_eq!(v4.to_ip().to_string_lossless(), "10.1.2.3");
        for group in ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1"] {
            assert!(
                Addr::from(group.parse::<IpAddr>().expect("address")).is_group(),
                "{group}"
            );
        }
        for single in [
            "223.255.255.255",
            "240.0.0.1",
            "fe80::1",
            "::1",
            "10.0.0.255",
        ] {
            assert!(
                !Addr::from(single.parse::<IpAddr>().expect("address")).is_group(),
                "{single}"
            );
        }
        assert!(Addr::from("febf::1".parse::<IpAddr>().expect("address")).is_link_local_v6());
        assert!(!Addr::from("fec0::1".parse::<IpAddr>().expect("address")).is_link_local_v6());
        assert!(Addr::from("0.0.0.0".parse::<IpAddr>().expect("address")).is_unspecified());
        for local in [
            "0.0.0.0",
            "10.255.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.255.1",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
        ] {
            assert!(
                Addr::from(local.parse::<IpAddr>().expect("address")).is_local(),
                "{local}"
            );
        }
        for global in [
            "1.0.0.0",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "192.169.0.1",
            "2000::",
            "3fff::1",
        ] {
            assert!(
                !Addr::from(global.parse::<IpAddr>().expect("address")).is_local(),
                "{global}"
            );
        }
        let mac: Mac = "02:42:ac:11:00:02".parse().expect("MAC");
        assert_eq!(
            mac.link_local().to_ip().to_string_lossless(),
            "fe80::42:acff:fe11:2"
        );
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(MacError), "{bad}");
        }
    }

    trait Text {
        fn to_string_lossless(&self) -> std::string::String;
    }
    impl Text for IpAddr {
        fn to_string_lossless(&self) -> std::string::String {
            std::format!("{self}")
        }
    }
}
