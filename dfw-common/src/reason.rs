//! The one list of verdicts, directions and reasons: counters, events, metrics and commands all read it.

/// Which side of an endpoint a packet is counted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// The endpoint receives.
    Ingress = 0,
    /// The endpoint sends.
    Egress = 1,
}

/// What became of a packet on one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// Allowed by policy.
    Allow = 0,
    /// Denied and dropped.
    Deny = 1,
    /// Denied, but the endpoint audits: passed and counted.
    Audit = 2,
}

impl Direction {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The name used in metrics, events and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl Verdict {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Audit];

    /// The name used in metrics, events and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }

    /// The verdict with this number, as the BPF side writes it to events.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Allow),
            1 => Some(Self::Deny),
            2 => Some(Self::Audit),
            _ => None,
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why a packet was allowed, audited or denied. The numbers are part of the map schema.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in metrics, events and commands.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }

            /// The reason with this number, as the BPF side writes it to events and counters.
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// A rule allows it.
    Allowed = 0, "allowed";
    /// It answers an allowed flow.
    Reply = 1, "reply";
    /// An ICMP error about an allowed flow.
    Related = 2, "related";
    /// A connection that was open before dfw came, allowed and taken in.
    Adopted = 3, "adopted";
    /// No rule allows it.
    NoRule = 4, "no-rule";
    /// A deny rule matches.
    DenyRule = 5, "deny-rule";
    /// The peer's address belongs to a managed network, but to no known endpoint.
    UnknownPeer = 6, "unknown-peer";
    /// A TCP packet that is not a SYN and belongs to no flow.
    NoSyn = 7, "no-syn";
    /// An ICMP answer or error that belongs to no flow.
    NoFlow = 8, "no-flow";
    /// The flow table has no room for a new flow.
    FlowTableFull = 9, "flow-table-full";
    /// The port has no identity yet.
    NotReady = 10, "not-ready";
    /// Neither ARP, IPv4 nor IPv6.
    Ethertype = 11, "ethertype";
    /// A VLAN tag, in metadata or in the frame.
    VlanTag = 12, "vlan-tag";
    /// Truncated or contradictory headers.
    Malformed = 13, "malformed";
    /// IPv4 source routing, or options that cannot be parsed.
    IpOptions = 14, "ip-options";
    /// A fragment.
    Fragment = 15, "fragment";
    /// Too many IPv6 extension headers, or one that is not known.
    ExtensionHeader = 16, "extension-header";
    /// The source MAC is not the endpoint's.
    SpoofedMac = 17, "spoofed-mac";
    /// The source address is not the sender's.
    SpoofedAddress = 18, "spoofed-address";
    /// An ARP or ND message that claims another's address.
    SpoofedNeighbour = 19, "spoofed-neighbour";
    /// Address resolution between endpoints that no rule lets talk.
    Neighbour = 20, "neighbour";
    /// A router advertisement or redirect from a container.
    RouterAdvertisement = 21, "router-advertisement";
    /// A DHCP or DHCPv6 answer from a container.
    DhcpAnswer = 22, "dhcp-answer";
    /// An IGMP or MLD query from a container, or a report for another endpoint.
    GroupMembership = 23, "group-membership";
    /// The destination MAC is not the endpoint's.
    WrongMac = 24, "wrong-mac";
    /// The destination address is not the endpoint's.
    WrongAddress = 25, "wrong-address";
    /// Backstop: a packet of no managed endpoint at the bridge of an enforcing node.
    Unmanaged = 26, "unmanaged";
    /// The kernel or the agent left something in a state that must not be.
    Internal = 27, "internal";
    /// A deny list of the node covers the source address.
    DenyList = 28, "deny-list";
}

/// Number of reasons; the length of the reason axis of the counters.
pub const REASONS: u32 = Reason::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_unique() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert_eq!(Reason::from_u8(number as u8), Some(*reason));
            assert_eq!(
                Reason::ALL
                    .iter()
                    .filter(|other| other.name() == reason.name())
                    .count(),
                1
            );
        }
        assert_eq!(Reason::from_u8(REASONS as u8), None);
    }
}
