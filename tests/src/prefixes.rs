//! Prefixes as deny lists have them, for measurements of what their number costs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Prefixes of both families together, half of them IPv4.
pub const PREFIXES: u32 = 100_000;

/// So many prefixes; the first one is IPv4, the second one IPv6.
pub fn many(random: &mut Random) -> Vec<IpNet> {
    let numbers = 0..PREFIXES;
    numbers.map(|number| net(random, number % 2 == 0)).collect()
}

/// As feeds have them: most are single addresses and customers' networks, of all lengths some.
fn net(random: &mut Random, is_v4: bool) -> IpNet {
    let bits = match (is_v4, random.below(10)) {
        (true, 0..=5) => 32,
        (true, 6 | 7) => 24,
        (true, _) => 12 + random.below(20) as u8,
        (false, 0..=2) => 128,
        (false, 3..=5) => 64,
        (false, 6 | 7) => 48,
        (false, _) => 24 + random.below(40) as u8,
    };
    IpNet::new_assert(address(random, is_v4), bits).trunc()
}

/// An address of the public Internet.
pub fn address(random: &mut Random, is_v4: bool) -> IpAddr {
    let high = random.next();
    if is_v4 {
        // From 32.0.0.0 to 95.255.255.255: nothing there is anybody's private network.
        return Ipv4Addr::from((high as u32 & 0x3fff_ffff) + (32 << 24)).into();
    }
    let address = (u128::from(high) << 64) | u128::from(random.next());
    Ipv6Addr::from((address >> 3) | (1 << 125)).into()
}

/// splitmix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
