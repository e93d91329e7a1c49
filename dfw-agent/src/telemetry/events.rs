//! Flow events: what the kernel writes to the ring buffer, made readable with the names of the view.

mod names;
pub(super) mod wire;

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use dfw_common::{
    key::proto,
    reason::{Direction, Reason, Verdict},
};
use serde::{Deserialize, Serialize};

pub use self::names::Names;
use super::text;

/// One new or denied flow, as the history keeps it: what many events have in common is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEvent {
    /// When, as milliseconds since 1970 in JSON.
    #[serde(rename = "time_ms", with = "wire::millis")]
    pub time: SystemTime,
    /// Who sent the packet.
    pub source: End,
    /// Whom it was for.
    pub destination: End,
    /// What it carried.
    pub protocol: Protocol,
    /// Side that was judged: ingress is the destination's.
    #[serde(with = "wire::named")]
    pub direction: Direction,
    /// What became of it.
    #[serde(with = "wire::named")]
    pub verdict: Verdict,
    /// Why.
    #[serde(with = "wire::named")]
    pub reason: Reason,
    /// The rule that decided.
    #[serde(with = "wire::shared")]
    pub rule: Option<Arc<Rule>>,
    /// Network on which it was seen; none when it is not managed (any more).
    #[serde(with = "wire::shared")]
    pub network: Option<Arc<String>>,
    /// Length of the frame, bytes.
    pub length: u32,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The endpoint; none for what is not an endpoint.
    #[serde(flatten, with = "wire::shared")]
    pub party: Option<Arc<Party>>,
    /// What it is; none when the packet has no address that could be read.
    pub class: Option<Class>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its port, where the protocol has ports.
    pub port: Option<u16>,
}

/// The names of an endpoint, each cut at [`Party::NAME_MAX`] characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// As people are shown it.
    pub name: String,
    /// Its container.
    pub container: String,
    /// Its project; empty if none.
    pub project: String,
    /// Its service; empty if none.
    pub service: String,
}

/// What an address is (docs/semantics.md section 2), as far as the view tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A managed endpoint.
    Endpoint,
    /// This host.
    Host,
    /// Multicast or broadcast.
    Group,
    /// In a managed subnet, but nobody's.
    Unknown,
    /// Neither a container nor this host.
    World,
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Key of its label.
    pub label: String,
    /// Its text, cut at [`Rule::TEXT_MAX`] characters.
    pub text: String,
    /// Each new flow that it decides is logged.
    #[serde(skip)]
    pub log: bool,
}

/// What a packet carried; in JSON as in the line: `tcp`, `icmp/8`, `proto-47`, `arp`, `ethertype-0x8847`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
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

impl Party {
    /// Most characters of a name. An engine has shorter ones; a label may have any.
    pub const NAME_MAX: usize = 128;
}

impl Rule {
    /// Most characters of a text.
    pub const TEXT_MAX: usize = 256;
}

impl FlowEvent {
    /// Bytes that it keeps busy, counted as if it shared nothing.
    pub fn weight(&self) -> usize {
        let party = |end: &End| {
            end.party.as_ref().map_or(0, |party| {
                let Party {
                    name,
                    container,
                    project,
                    service,
                } = &**party;
                size_of::<Party>() + name.len() + container.len() + project.len() + service.len()
            })
        };
        let rule = self.rule.as_ref().map_or(0, |rule| {
            size_of::<Rule>() + rule.label.len() + rule.text.len()
        });
        size_of::<Self>() + party(&self.source) + party(&self.destination) + rule
    }
}

impl Protocol {
    fn ip(number: u8, icmp_type: u16) -> Self {
        match number {
            proto::TCP => Self::Tcp,
            proto::UDP => Self::Udp,
            proto::SCTP => Self::Sctp,
            proto::ICMP => Self::Icmp(icmp_type),
            proto::ICMP6 => Self::Icmp6(icmp_type),
            other => Self::Ip(other),
        }
    }

    const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Sctp => f.write_str("sctp"),
            Self::Icmp(kind) => write!(f, "icmp/{kind}"),
            Self::Icmp6(kind) => write!(f, "icmp6/{kind}"),
            Self::Ip(number) => write!(f, "proto-{number}"),
            Self::Ethertype(ETHERTYPE_ARP) => f.write_str("arp"),
            Self::Ethertype(number) => write!(f, "ethertype-{number:#06x}"),
        }
    }
}

/// One line, time in UTC: `12:50:15.556  shop/web:43006 -> shop/db:5432/tcp  DENIED  ingress  no-rule`.
impl fmt::Display for FlowEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            protocol,
            ..
        } = self;
        let verdict = match self.verdict {
            Verdict::Allow => "ALLOWED",
            Verdict::Deny => "DENIED",
            Verdict::Audit => "AUDIT",
        };
        // After a port with a slash, else a word of its own.
        let before = if protocol.has_ports() { '/' } else { ' ' };
        let (time, direction, reason) = (
            TimeOfDay(self.time),
            self.direction.name(),
            self.reason.name(),
        );
        write!(
            f,
            "{time}  {source} -> {destination}{before}{protocol}  {verdict}  {direction}  {reason}"
        )
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.party, self.address) {
            (Some(party), _) => f.write_str(&text::escape(&party.name))?,
            (None, Some(IpAddr::V6(address))) if self.port.is_some() => write!(f, "[{address}]")?,
            (None, Some(address)) => write!(f, "{address}")?,
            (None, None) => f.write_str("?")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A time in UTC: `12:50:15.556`.
#[derive(Clone, Copy, Debug)]
pub struct TimeOfDay(pub SystemTime);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let of_day = since.as_millis() % 86_400_000;
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let seconds = seconds % 60;
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
    }
}

#[cfg(test)]
pub(super) mod tests;
