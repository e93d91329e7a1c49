//! One imaginary packet through the hooks that a real one would meet: the kernel's own decision, over plain maps that hold
//! what was compiled.

use std::net::IpAddr;

use dfw_common::{
    addr::{Addr, Mac},
    decide::{Hook, Outcome, Place, Scratch, Tally, decide},
    env::Env,
    key::{ANY_NETWORK, PrefixKey, proto},
    packet::{ethertype, tcp},
    plain::{Plain, Tables},
    reason::Verdict,
    value::{Address, Endpoint, IDENTITY_OTHER, Settings, kind, mode},
};

use crate::policy::compile::{Compiled, CompiledEndpoint};

/// Room for the flows of one trial: one for each network that it crosses, on the first place of a ring that all share.
const FLOWS: u32 = 4;
/// Whatever a packet of the world comes in by: no interface has this number.
const UPLINK: u32 = u32::MAX;
/// The MAC of the bridges. No hook looks at it where the packet is routed.
const ROUTER: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
/// A port that no protocol gives a meaning to.
const SOURCE_PORT: u16 = 49_999;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Destination port; ICMP: type.
    pub(super) port: u16,
}

/// What each side would count; none where nobody is judged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) egress: Option<Tally>,
    pub(super) ingress: Option<Tally>,
}

/// Maps as the kernel holds them, and the code that it runs.
pub(in crate::policy) struct Kernel(Plain);

impl Kernel {
    pub(in crate::policy) fn new(compiled: &Compiled) -> Self {
        let endpoint = |(ifindex, spec): (&u32, &CompiledEndpoint)| {
            let endpoint = Endpoint {
                ifindex: *ifindex,
                network: spec.network,
                mode: spec.mode.number(),
                policy: spec.policy,
                ring_base: 0,
                ring_mask: FLOWS - 1,
                // The way makes no difference to the verdict.
                redirects: 0,
                pad: 0,
                mac: spec.mac,
            };
            (*ifindex, endpoint)
        };
        let tables = Tables {
            settings: Settings {
                epoch: 1,
                hz: 1000,
                ..Settings::default()
            },
            endpoints: compiled.endpoints.iter().map(endpoint).collect(),
            addresses: compiled.addresses.iter().map(|(k, v)| (*k, *v)).collect(),
            prefixes: compiled.prefixes.clone(),
            policy: compiled.policy.iter().map(|(k, v)| (*k, *v)).collect(),
        };
        Self(Plain::new(tables, FLOWS as usize))
    }

    /// What an address is, as seen on a network.
    pub(super) fn class(&self, network: u32, address: IpAddr) -> Address {
        self.0.classify(network, &Addr::from(address))
    }

    /// The identity of addresses of the world that no narrower rule names.
    pub(super) fn rest_of_the_world(&self, is_v4: bool) -> u32 {
        let (address, bits) = if is_v4 {
            (Addr::v4([0; 4]), 96)
        } else {
            (Addr::UNSPECIFIED, 0)
        };
        let root = (
            PrefixKey::NETWORK_BITS + bits,
            PrefixKey::new(ANY_NETWORK, address),
        );
        let root = self.0.tables.prefixes.get(&root);
        root.map_or(IDENTITY_OTHER, |root| root.identity)
    }

    /// Sends a packet that opens a flow, from one managed port or none to another or none. Where the sender's side denies
    /// it, the receiver is asked what it would have said.
    pub(super) fn send(&mut self, packet: &Packet, from: Option<u32>, to: Option<u32>) -> Sides {
        let sides = self.attempt(packet, from, to);
        let sender = from.and_then(|ifindex| self.0.tables.endpoints.get(&ifindex).copied());
        let (None, Some(_), Some(sender)) = (sides.ingress, to, sender) else {
            return sides;
        };
        let silenced = Endpoint {
            mode: mode::OFF,
            ..sender
        };
        self.0.tables.endpoints.insert(sender.ifindex, silenced);
        let ingress = self.attempt(packet, from, to).ingress;
        self.0.tables.endpoints.insert(sender.ifindex, sender);
        Sides { ingress, ..sides }
    }

    fn attempt(&mut self, packet: &Packet, from: Option<u32>, to: Option<u32>) -> Sides {
        self.0.flows.clear();
        let mut sides = Sides {
            egress: None,
            ingress: None,
        };
        let sender = from.and_then(|ifindex| self.0.endpoint(ifindex).copied());
        let receiver = to.and_then(|ifindex| self.0.endpoint(ifindex).copied());
        let is_bridged = sender
            .zip(receiver)
            .is_some_and(|(a, b)| a.network == b.network);
        let mac = |end: Option<Endpoint>| end.map_or(ROUTER, |end| end.mac);
        if let Some(ifindex) = from {
            let destination = if is_bridged { mac(receiver) } else { ROUTER };
            let place = Place {
                hook: Hook::From,
                ifindex,
                ingress: ifindex,
            };
            let outcome = self.decide(packet, [destination, mac(sender)], &place);
            sides.egress = counted(outcome.own);
            sides.ingress = counted(outcome.peer);
            if !outcome.pass {
                return sides;
            }
        }
        if let Some(ifindex) = to {
            let ingress = match (sender, receiver) {
                (Some(sender), _) if is_bridged => sender.ifindex,
                (Some(sender), _) => sender.network,
                (None, Some(receiver)) if self.is_host(&receiver, packet.source) => 0,
                (None, _) => UPLINK,
            };
            let source = if is_bridged { mac(sender) } else { ROUTER };
            let place = Place {
                hook: Hook::To,
                ifindex,
                ingress,
            };
            let outcome = self.decide(packet, [mac(receiver), source], &place);
            sides.ingress = counted(outcome.own);
        }
        sides
    }

    fn is_host(&self, receiver: &Endpoint, source: IpAddr) -> bool {
        self.class(receiver.network, source).kind == kind::HOST
    }

    fn decide(&mut self, packet: &Packet, macs: [Mac; 2], place: &Place) -> Outcome {
        let frame = packet.frame(macs);
        decide(&mut self.0, &&frame[..], place, &mut Scratch::new())
    }
}

impl Sides {
    /// Whether the packet arrives.
    pub(super) fn pass(&self) -> bool {
        let denies = |side: Tally| side.verdict == Verdict::Deny;
        !self.egress.is_some_and(denies) && !self.ingress.is_some_and(denies)
    }
}

fn counted(tally: Tally) -> Option<Tally> {
    tally.is_counted.then_some(tally)
}

impl Packet {
    /// An Ethernet frame with the headers that the decision reads. Checksums are zero: nobody looks at them here.
    fn frame(&self, [destination, source]: [Mac; 2]) -> Vec<u8> {
        let upper = self.upper();
        // At most 20 bytes.
        let [high, low] = (upper.len() as u16).to_be_bytes();
        let mut frame = [destination.octets(), source.octets()].concat();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(ethertype::IPV4.to_be_bytes());
                frame.extend([0x45, 0, high, low + 20, 0, 0, 0, 0, 64, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (source, destination) => {
                frame.extend(ethertype::IPV6.to_be_bytes());
                frame.extend([0x60, 0, 0, 0, high, low, self.protocol, 64]);
                frame.extend(Addr::from(source).bytes());
                frame.extend(Addr::from(destination).bytes());
            }
        }
        frame.extend(upper);
        frame
    }

    fn upper(&self) -> Vec<u8> {
        let ports = [SOURCE_PORT.to_be_bytes(), self.port.to_be_bytes()].concat();
        let mut upper = match self.protocol {
            proto::TCP | proto::UDP | proto::SCTP => ports,
            // Its type is one byte.
            proto::ICMP | proto::ICMP6 => vec![self.port as u8],
            _ => Vec::new(),
        };
        upper.resize(20, 0);
        if self.protocol == proto::TCP {
            upper[12] = 5 << 4;
            upper[13] = tcp::SYN;
        }
        upper
    }
}
