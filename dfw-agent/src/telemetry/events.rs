//! Flow events: what the kernel writes to the ring buffer, made readable with the names of the view.

use std::{
    fmt,
    mem::offset_of,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dfw_common::{
    addr::Addr,
    key::proto,
    reason::{Direction, Reason, Verdict},
    value::{Event, PolicyEntry},
};
use serde::{Serialize, Serializer};

use super::text;
use crate::model::{EndpointView, View};

/// One new or denied flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowEvent {
    /// When, as milliseconds since 1970 in JSON.
    #[serde(rename = "time_ms", serialize_with = "unix_millis")]
    pub time: SystemTime,
    /// Who sent the packet.
    pub source: End,
    /// Whom it was for.
    pub destination: End,
    /// What it carried.
    pub protocol: Protocol,
    /// Side that was judged: ingress is the destination's.
    #[serde(serialize_with = "direction")]
    pub direction: Direction,
    /// What became of it.
    #[serde(serialize_with = "verdict")]
    pub verdict: Verdict,
    /// Why.
    #[serde(serialize_with = "reason")]
    pub reason: Reason,
    /// Number of the deciding rule in the judged endpoint's policy.
    pub rule: Option<u16>,
    /// The judged endpoint's policy; its number means nothing outside the agent.
    #[serde(skip)]
    pub policy: u32,
    /// Network on which it was seen; empty when it is not managed (any more).
    pub network: String,
    /// Length of the frame, bytes.
    pub length: u32,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// The endpoint, as people are shown it; none for what is not an endpoint.
    pub name: Option<String>,
    /// Its address; none when the packet has none that could be read.
    pub address: Option<IpAddr>,
    /// Its port, where the protocol has ports.
    pub port: Option<u16>,
}

/// What a packet carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A protocol with ports: `tcp`, `udp` or `sctp`.
    Ports(&'static str),
    /// ICMP, with its type.
    Icmp(u16),
    /// ICMPv6, with its type.
    Icmp6(u16),
    /// Another IP protocol, by number.
    Ip(u8),
    /// No IP packet: its ethertype.
    Ethertype(u16),
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_ARP: u16 = 0x0806;

impl FlowEvent {
    /// Reads an [`Event`] from the bytes of the ring buffer, which need not be aligned. `boot` is the wall-clock time at
    /// which CLOCK_MONOTONIC was zero. None if there are too few bytes, or a number that this version does not know.
    pub fn decode(bytes: &[u8], boot: SystemTime, view: &View) -> Option<Self> {
        let raw = Raw(bytes.get(..size_of::<Event>())?);
        let direction = *Direction::ALL.get(usize::from(raw.u8(offset_of!(Event, direction))))?;
        let ifindex = raw.u32(offset_of!(Event, ifindex));
        let network = raw.u32(offset_of!(Event, network));
        let ports = (
            raw.u16(offset_of!(Event, source_port)),
            raw.u16(offset_of!(Event, destination_port)),
        );
        let protocol = match raw.u16(offset_of!(Event, ethertype)) {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {
                Protocol::ip(raw.u8(offset_of!(Event, protocol)), ports.1)
            }
            ethertype => Protocol::Ethertype(ethertype),
        };
        let has_ports = matches!(protocol, Protocol::Ports(_));
        let names = Names { view, network };
        let end = |offset, port, owner| {
            let address = raw.addr(offset);
            End {
                name: names.of(owner, address),
                address: (!address.is_unspecified()).then(|| address.to_ip()),
                port: has_ports.then_some(port),
            }
        };
        // The judged endpoint is known by its interface, whatever the packet says.
        let (sender, receiver) = match direction {
            Direction::Egress => (ifindex, 0),
            Direction::Ingress => (0, ifindex),
        };
        let rule = raw.u16(offset_of!(Event, rule));
        Some(Self {
            time: boot.checked_add(Duration::from_nanos(raw.u64(offset_of!(Event, time))))?,
            source: end(offset_of!(Event, source), ports.0, sender),
            destination: end(offset_of!(Event, destination), ports.1, receiver),
            protocol,
            direction,
            verdict: Verdict::from_u8(raw.u8(offset_of!(Event, verdict)))?,
            reason: Reason::from_u8(raw.u8(offset_of!(Event, reason)))?,
            rule: (rule != PolicyEntry::NO_RULE).then_some(rule),
            policy: raw.u32(offset_of!(Event, policy)),
            network: names.network().unwrap_or_default().to_owned(),
            length: raw.u32(offset_of!(Event, length)),
        })
    }
}

impl Protocol {
    fn ip(number: u8, icmp_type: u16) -> Self {
        match number {
            proto::TCP => Self::Ports("tcp"),
            proto::UDP => Self::Ports("udp"),
            proto::SCTP => Self::Ports("sctp"),
            proto::ICMP => Self::Icmp(icmp_type),
            proto::ICMP6 => Self::Icmp6(icmp_type),
            other => Self::Ip(other),
        }
    }
}

/// The bytes of one event, as many as it has.
struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        *self.0[offset..].first_chunk().expect("within the event")
    }

    fn u8(&self, offset: usize) -> u8 {
        self.0[offset]
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.array(offset))
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.array(offset))
    }

    fn addr(&self, offset: usize) -> Addr {
        Addr([0, 4, 8, 12].map(|word| self.u32(offset + word)))
    }
}

struct Names<'a> {
    view: &'a View,
    network: u32,
}

impl Names<'_> {
    fn network(&self) -> Option<&str> {
        let networks = &self.view.networks;
        networks
            .iter()
            .find(|net| net.ifindex == self.network)
            .map(|net| net.name.as_str())
    }

    /// The endpoint with this interface, else the one with this address on the event's network, else the only one with it
    /// on any network. An address that several have without one of them on the network stays a number.
    fn of(&self, ifindex: u32, address: Addr) -> Option<String> {
        let endpoints = &self.view.endpoints;
        let by_address = || {
            let ip = (!address.is_unspecified()).then(|| address.to_ip())?;
            let having = || endpoints.iter().filter(|end| end.addresses.contains(&ip));
            let network = self.network();
            having()
                .find(|end| Some(end.network.as_str()) == network)
                .or_else(|| {
                    let mut all = having();
                    all.next().filter(|_| all.next().is_none())
                })
        };
        let by_ifindex = (ifindex != 0)
            .then(|| {
                endpoints
                    .iter()
                    .find(|endpoint| endpoint.ifindex == ifindex)
            })
            .flatten();
        by_ifindex
            .or_else(by_address)
            .map(EndpointView::display_name)
    }
}

/// One line, time in UTC: `12:50:15.556  shop/web:43006 -> shop/db:5432/tcp  DENIED  ingress  no-rule`.
impl fmt::Display for FlowEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_day = self
            .time
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis()
            % 86_400_000;
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(
            f,
            "{hours:02}:{minutes:02}:{:02}.{millis:03}  ",
            seconds % 60
        )?;
        let verdict = match self.verdict {
            Verdict::Allow => "ALLOWED",
            Verdict::Deny => "DENIED",
            Verdict::Audit => "AUDIT",
        };
        let (direction, reason) = (self.direction.name(), self.reason.name());
        let Self {
            source,
            destination,
            protocol,
            ..
        } = self;
        write!(
            f,
            "{source} -> {destination}{protocol}  {verdict}  {direction}  {reason}"
        )
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.address) {
            (Some(name), _) => f.write_str(&text::escape(name))?,
            (None, Some(IpAddr::V6(address))) if self.port.is_some() => write!(f, "[{address}]")?,
            (None, Some(address)) => write!(f, "{address}")?,
            (None, None) => f.write_str("?")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// As it follows the destination: `/tcp` after a port, else a word of its own.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ports(name) => write!(f, "/{name}"),
            Self::Icmp(kind) => write!(f, " icmp/{kind}"),
            Self::Icmp6(kind) => write!(f, " icmp6/{kind}"),
            Self::Ip(number) => write!(f, " proto-{number}"),
            Self::Ethertype(ETHERTYPE_ARP) => f.write_str(" arp"),
            Self::Ethertype(number) => write!(f, " ethertype-{number:#06x}"),
        }
    }
}

fn unix_millis<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    serializer.serialize_u64(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn direction<S: Serializer>(value: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

fn verdict<S: Serializer>(value: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

fn reason<S: Serializer>(value: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

#[cfg(test)]
mod tests;
