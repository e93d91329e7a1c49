//! Who plays: an attacker, a victim, a friend of both, and the host that they are on. Wherever they live, the same
//! frames are sent and the same is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU16, Ordering},
};

use dfw_common::reason::Reason;
use dfw_tests::{
    Agent, NetNs, Tap,
    frame::{self, Ip, Mac, Upper, arp, ethernet, protocol, udp},
    oracle::{Flow, Oracle},
    tap,
};

/// The one port that victim and friend open to each other and to the attacker, by UDP.
pub(crate) const OPEN: u16 = 7;
/// The same by TCP.
pub(crate) const OPEN_TCP: u16 = 70;
/// The attacker opens it to the victim, by TCP.
pub(crate) const DIALLED_TCP: u16 = 71;
/// Nobody opens it.
pub(crate) const CLOSED: u16 = 9;
/// How often each frame is sent.
const ROUNDS: usize = 2;

pub(crate) const BROADCAST: Mac = [0xff; 6];

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Protocol, and types of an echo request and its reply.
    pub(crate) const fn echo(self) -> (u8, u8, u8) {
        match self {
            Self::V4 => (protocol::ICMP, 8, 0),
            Self::V6 => (protocol::ICMP6, 128, 129),
        }
    }

    /// Protocol and type of "destination unreachable".
    pub(crate) const fn unreachable(self) -> (u8, u8) {
        match self {
            Self::V4 => (protocol::ICMP, 3),
            Self::V6 => (protocol::ICMP6, 1),
        }
    }

    /// An address beyond the host.
    pub(crate) fn world(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(198, 51, 100, 9).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into(),
        }
    }
}

/// Somebody with an interface.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) netns: NetNs,
    pub(crate) interface: String,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

impl Party {
    pub(crate) fn new(netns: NetNs, interface: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        let mac = tap::mac(&netns, interface);
        let interface = interface.to_owned();
        Self {
            netns,
            interface,
            mac,
            v4,
            v6,
        }
    }

    /// The same once more.
    pub(crate) fn again(&self) -> Self {
        Self {
            netns: self.netns.again(),
            interface: self.interface.clone(),
            ..*self
        }
    }

    pub(crate) fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    pub(crate) fn link_local(&self) -> Ipv6Addr {
        frame::link_local(self.mac)
    }

    pub(crate) fn tap(&self) -> Tap {
        Tap::open(&self.netns, &self.interface)
    }
}

/// A frame that must not arrive.
pub(crate) struct Attack<'a> {
    pub(crate) name: String,
    pub(crate) frame: Vec<u8>,
    /// Where it would arrive.
    pub(crate) at: &'a Party,
    /// Why it is dropped: where the attacker enforces, and where only the other ends do.
    pub(crate) reasons: [Reason; 2],
}

impl<'a> Attack<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        at: &'a Party,
        frame: impl Into<Vec<u8>>,
        reason: Reason,
    ) -> Self {
        Self {
            name: name.into(),
            frame: frame.into(),
            at,
            reasons: [reason; 2],
        }
    }

    /// Whether this is what a capture has of it. A kernel moves the outer tag from the frame to its metadata.
    fn is(&self, captured: &[u8]) -> bool {
        captured.len() + 4 >= self.frame.len()
            && captured[..12] == self.frame[..12]
            && self.frame[12..].ends_with(&captured[12..])
    }
}

/// What the attacker's own labels say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attacker {
    /// It enforces, and may send whatever it likes.
    Enforces = 0,
    /// It does not: the others must be protected from it all the same.
    IsFree = 1,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) attacker: Party,
    pub(crate) victim: Party,
    pub(crate) friend: Party,
    /// The host, by its bridge.
    pub(crate) gateway: Party,
}

impl Stage {
    /// A packet from the attacker to somebody on the link; whatever is to be wrong about it is changed afterwards.
    pub(crate) fn packet(&self, family: Family, to: &Party, upper: Upper) -> Ip {
        packet(family, &self.attacker, to, upper)
    }

    /// Without dfw everything arrives: else it would show nothing that it does not with dfw.
    #[track_caller]
    pub(crate) fn assert_arrive(&self, attacks: &[Attack<'_>]) {
        let (arrived, _) = self.assault(attacks);
        let lost = attacks
            .iter()
            .filter(|attack| !arrived.contains(attack.name.as_str()));
        let lost: Vec<_> = lost.map(|attack| &attack.name).collect();
        assert!(
            lost.is_empty(),
            "no attack, it does not arrive without dfw: {lost:?}"
        );
    }

    /// With dfw nothing arrives, each for its reason, and the victim gets nothing else that it may not.
    #[track_caller]
    pub(crate) fn assert_dropped(
        &self,
        agent: &Agent<'_>,
        attacker: Attacker,
        attacks: &[Attack<'_>],
    ) {
        let reasons: BTreeSet<Reason> = attacks
            .iter()
            .map(|a| a.reasons[attacker as usize])
            .collect();
        let counts = || -> BTreeMap<Reason, u64> {
            let metrics = agent.metrics();
            let pairs = reasons
                .iter()
                .map(|reason| (*reason, denied(&metrics, *reason)));
            pairs.collect()
        };
        let before = counts();
        let (arrived, at_victim) = self.assault(attacks);
        assert!(
            arrived.is_empty(),
            "attacker {attacker:?}: arrived: {arrived:?}"
        );
        let after = counts();
        for reason in reasons {
            let of_reason = attacks
                .iter()
                .filter(|a| a.reasons[attacker as usize] == reason);
            let names: Vec<_> = of_reason.map(|attack| &attack.name).collect();
            let counted = after[&reason] - before[&reason];
            assert!(
                counted >= (names.len() * ROUNDS) as u64,
                "attacker {attacker:?}: {} counts only {counted} for {ROUNDS} times {names:?}",
                reason.name(),
            );
        }
        self.oracle().assert_allowed(&at_victim);
    }

    /// With dfw this arrives: the other side of the same medal.
    #[track_caller]
    pub(crate) fn assert_passes(&self, name: &str, at: &Party, packet: &Ip) {
        let legal = [Attack::new(name, at, packet.frame(), Reason::Allowed)];
        let (arrived, _) = self.assault(&legal);
        assert!(arrived.contains(name), "{name} does not arrive");
    }

    /// Sends everything from the attacker; the names of what arrived where it was meant to, and all that the victim got.
    fn assault<'a>(&self, attacks: &'a [Attack<'_>]) -> (BTreeSet<&'a str>, Vec<Vec<u8>>) {
        let attacker = self.attacker.tap();
        let parties = [&self.victim, &self.friend, &self.gateway];
        let taps = parties.map(Party::tap);
        for attack in std::iter::repeat_n(attacks, ROUNDS).flatten() {
            attacker.send(&attack.frame);
        }
        let captured = parties.iter().zip(&taps).map(|(party, tap)| {
            // What the attack may have done to the bridge's own table is undone.
            tap.send(&self.announcement(party));
            let last = self.sentinel(party);
            attacker.send(&last);
            tap.until("an allowed datagram", |frame| frame == last)
        });
        let captured: Vec<_> = captured.collect();
        let arrived = attacks.iter().filter(|attack| {
            let place = parties
                .iter()
                .position(|party| std::ptr::eq(*party, attack.at));
            let place = place.expect("attacks are looked for where somebody listens");
            captured[place].iter().any(|frame| attack.is(frame))
        });
        let arrived = arrived.map(|attack| attack.name.as_str()).collect();
        let [at_victim, ..] = <[Vec<Vec<u8>>; 3]>::try_from(captured).expect("three parties");
        (arrived, at_victim)
    }

    /// An allowed datagram from the attacker, each time from another port.
    fn sentinel(&self, to: &Party) -> Vec<u8> {
        static PORT: AtomicU16 = AtomicU16::new(20_000);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        self.packet(Family::V4, to, udp(port, OPEN)).frame()
    }

    /// Shows the bridge behind which port a party is. It asks for the gateway, as everybody may.
    fn announcement(&self, party: &Party) -> Vec<u8> {
        let target = ([0; 6], self.gateway.v4.octets());
        let message = arp(1, (party.mac, party.v4.octets()), target);
        ethernet([BROADCAST, party.mac], 0x0806, &message)
    }

    /// What the victim may get.
    pub(crate) fn oracle(&self) -> Oracle {
        let mut flows = BTreeSet::new();
        for family in Family::ALL {
            let (attacker, victim) = (self.attacker.ip(family), self.victim.ip(family));
            let mut allow = |source, destination, (protocol, port)| {
                flows.insert(Flow {
                    source,
                    destination,
                    protocol,
                    port,
                });
            };
            for open in [(protocol::UDP, OPEN), (protocol::TCP, OPEN_TCP)] {
                allow(attacker, victim, open);
                allow(self.friend.ip(family), victim, open);
            }
            allow(victim, attacker, (protocol::TCP, DIALLED_TCP));
            allow(victim, attacker, (family.echo().0, 0));
        }
        // The host speaks by its end of the victim's veth too: of the groups that it is in there, for one.
        let mut neighbours = tap::macs(&self.gateway.netns);
        neighbours.extend([self.attacker.mac, self.friend.mac]);
        Oracle {
            own: self.victim.mac,
            neighbours,
            flows,
        }
    }
}

/// A packet from one to another on the link.
pub(crate) fn packet(family: Family, from: &Party, to: &Party, upper: Upper) -> Ip {
    Ip {
        macs: [to.mac, from.mac],
        source: from.ip(family),
        destination: to.ip(family),
        hops: 64,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        upper,
    }
}

/// Packets that were dropped for a reason so far, at whatever hook.
pub(crate) fn denied(metrics: &dfw_tests::http::Metrics, reason: Reason) -> u64 {
    let reason = format!("reason=\"{}\"", reason.name());
    metrics.sum("dfw_packets_total", &["verdict=\"deny\"", &reason]) as u64
}
