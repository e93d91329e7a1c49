//! The one list of security checks: what each is for, and whether it is made.
//!
//! In everything that is shipped each is made, always, and none of this leaves a trace. With the feature `mutants`, in a
//! scratch object and scratch tests, one of them is not: `cargo xtask mutate` leaves out one after the other and demands
//! that a test notices.

#[cfg(feature = "mutants")]
use crate::mutant;

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $variant:ident, $name:literal;)+) => {
        /// A security check of the datapath.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Check {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Check {
            /// Every check.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name that `cargo xtask mutate` takes.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What must be so.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

checks! {
    /// A frame with a tag in metadata is seen as tagged.
    TagInMetadata, "tag-in-metadata";
    /// A frame that is tagged beside its bytes is not read.
    TagBeside, "tag-beside";
    /// A frame with a tag in its bytes is not read.
    TagInFrame, "tag-in-frame";
    /// Only ARP, IPv4 and IPv6 pass.
    Ethertype, "ethertype";
    /// ARP is for IPv4 over Ethernet.
    ArpForm, "arp-form";
    /// An ARP message names its frame's source MAC.
    ArpMac, "arp-mac";
    /// An IPv4 header says version 4.
    Ipv4Version, "ipv4-version";
    /// An IPv4 header has five words at least.
    Ipv4HeaderLength, "ipv4-header-length";
    /// A packet ends within its frame.
    PacketLength, "packet-length";
    /// An IPv4 packet does not end within its header.
    Ipv4Length, "ipv4-length";
    /// A fragment of IPv4 is not read for ports.
    Ipv4Fragment, "ipv4-fragment";
    /// No IPv4 source route.
    SourceRoute, "source-route";
    /// IPv4 options add up.
    OptionLength, "option-length";
    /// Not more IPv4 options than are walked.
    OptionCount, "option-count";
    /// An IPv6 header says version 6.
    Ipv6Version, "ipv6-version";
    /// No IPv4 address inside IPv6.
    MappedAddress, "mapped-address";
    /// Hop-by-hop options come first.
    HopByHop, "hop-by-hop";
    /// No IPv6 source route.
    RoutingHeader, "routing-header";
    /// A fragment of IPv6 is not read for ports.
    Ipv6Fragment, "ipv6-fragment";
    /// Not more extension headers than are walked.
    ExtensionCount, "extension-count";
    /// ICMP and IGMP only in the family whose they are.
    IcmpFamily, "icmp-family";
    /// The upper layer starts within the packet.
    UpperStart, "upper-start";
    /// The upper layer's header ends within the packet.
    UpperLength, "upper-length";
    /// A TCP header has five words at least.
    TcpHeaderLength, "tcp-header-length";
    /// A TCP header ends within the packet.
    TcpHeaderEnd, "tcp-header-end";
    /// What quotes has no options or extension headers.
    QuotePlace, "quote-place";
    /// What is quoted has no options, and is of the family.
    QuoteForm, "quote-form";
    /// What is quoted has ports to read.
    QuoteFragment, "quote-fragment";

    /// A port without identity is closed.
    NotReady, "not-ready";
    /// What cannot be read does not pass.
    Unparsed, "unparsed";
    /// Guards drop where this end enforces.
    GuardOwn, "guard-own";
    /// Guards drop where the other end enforces.
    GuardOther, "guard-other";
    /// An enforcing endpoint gets no neighbour's chatter.
    GuardSoft, "guard-soft";
    /// No container sends tagged frames, whoever they name.
    TagHides, "tag-hides";
    /// Who enforces is protected from what is sent in the name of its address.
    ClaimedAddress, "claimed-address";
    /// Who enforces is protected from what is sent from its MAC.
    ClaimedMac, "claimed-mac";
    /// Who enforces is protected from what neighbour discovery says about it.
    ClaimedTarget, "claimed-target";
    /// The source MAC is the sender's.
    SourceMac, "source-mac";
    /// The destination MAC is the receiver's.
    DestinationMac, "destination-mac";
    /// Flow or not, the MAC is bound.
    EstablishedMac, "established-mac";
    /// What cannot be read to its end belongs to no flow.
    EstablishedReadable, "established-readable";
    /// ARP belongs to no flow.
    EstablishedArp, "established-arp";
    /// A flow's packets come from and go to its own ports.
    EstablishedPort, "established-port";
    /// A flow that was silent for too long is none, on the fast path.
    EstablishedExpiry, "established-expiry";
    /// A SYN in a flow is looked at.
    EstablishedSyn, "established-syn";
    /// A hook's own side is judged in each epoch.
    EstablishedEpoch, "established-epoch";
    /// The receiver's side too, at the sender's hook.
    EstablishedPeerEpoch, "established-peer-epoch";
    /// A flow with the world comes from where it came.
    EstablishedOrigin, "established-origin";
    /// A flow with a neighbour comes by its port.
    EstablishedNeighbour, "established-neighbour";

    /// Only what is addressed to the receiver's MAC goes past the bridge.
    RedirectMac, "redirect-mac";
    /// Only from and to whom nobody watches on the bridge.
    RedirectSwitch, "redirect-switch";
    /// Only what both sides were judged for in this epoch.
    RedirectEpoch, "redirect-epoch";
    /// Only between neighbours on one bridge.
    RedirectNetwork, "redirect-network";
    /// Only between endpoints that enforce.
    RedirectMode, "redirect-mode";
    /// Only what both sides allow.
    RedirectAllowed, "redirect-allowed";
    /// Only the answers to what did not come by the bridge.
    RedirectBridged, "redirect-bridged";
    /// Only what the receiver's interface, which is there, would take.
    RedirectReach, "redirect-reach";

    /// The source address is the sender's.
    SourceAddress, "source-address";
    /// The destination address is the receiver's.
    DestinationAddress, "destination-address";
    /// An endpoint's own address does not come back to it.
    OwnAddressBack, "own-address-back";
    /// A neighbour's address comes by its port or bridge.
    NeighbourOrigin, "neighbour-origin";
    /// The host does not speak to groups by a neighbour's port.
    HostOrigin, "host-origin";
    /// The host does not speak as the world.
    WorldNotHost, "world-not-host";
    /// The world does not come by a neighbour's port.
    WorldNotNeighbour, "world-not-neighbour";
    /// No DHCP answer leaves a container.
    DhcpSent, "dhcp-sent";
    /// No DHCP answer of a container arrives.
    DhcpReceived, "dhcp-received";
    /// Groups are judged by the rules.
    GroupRules, "group-rules";
    /// An ICMP error goes to who sent what it quotes.
    RelatedReceiver, "related-receiver";
    /// An ICMP error quotes a flow.
    RelatedFlow, "related-flow";
    /// An ICMP error quotes a flow that is not over.
    RelatedExpiry, "related-expiry";
    /// Who sends an ICMP error is the flow's other end.
    RelatedSender, "related-sender";
    /// Who gets an ICMP error is an end of the flow, by its port.
    RelatedEnd, "related-end";
    /// No neighbour reports on a flow that is not its own.
    RelatedInside, "related-inside";

    /// An ARP message claims the sender's own address.
    ArpClaim, "arp-claim";
    /// No IGMP or MLD query from a container.
    MembershipQuery, "membership-query";
    /// A membership report has the sender's own address.
    MembershipSource, "membership-source";
    /// Membership reports reach no endpoint.
    MembershipReceived, "membership-received";
    /// No router advertisement or redirect but the host's.
    RouterAdvertisement, "router-advertisement";
    /// Neighbour discovery was not routed.
    DiscoveryHops, "discovery-hops";
    /// Neighbour discovery has code 0.
    DiscoveryCode, "discovery-code";
    /// Neighbour discovery has no extension headers.
    DiscoveryExtended, "discovery-extended";
    /// A router solicitation is of the sender's address and MAC.
    SolicitsOwn, "solicits-own";
    /// A router solicitation goes to routers.
    SolicitsRouter, "solicits-router";
    /// A router solicitation reaches no endpoint.
    SolicitsReceived, "solicits-received";
    /// Neighbour discovery is of the sender's address and MAC.
    DiscoveryOwn, "discovery-own";
    /// An advertisement is about the sender.
    DiscoveryTarget, "discovery-target";
    /// A solicitation goes where its sender may talk.
    DiscoverySent, "discovery-sent";
    /// What discovery sends to the world some rule allows.
    DiscoveryWorld, "discovery-world";
    /// An advertisement that arrives is about who sent it.
    AdvertisesSender, "advertises-sender";
    /// An option of discovery names no other MAC.
    OptionMac, "option-mac";
    /// Options of discovery add up, and are not more than are walked.
    OptionWalk, "option-walk";
    /// A neighbour's message comes by its port.
    NeighbourPort, "neighbour-port";
    /// Nobody else's message comes by a neighbour's port.
    NeighbourNone, "neighbour-none";
    /// No neighbour questions an endpoint's own address.
    DetectionReceived, "detection-received";
    /// Who enforces is resolved by whom a rule lets talk.
    MeetRules, "meet-rules";
    /// Who enforces asks for nobody unknown.
    MeetUnknown, "meet-unknown";
    /// Who enforces gets no neighbour's question for another.
    MeetBystander, "meet-bystander";
    /// To be met, a rule of the asker must allow it.
    ReachEgress, "reach-egress";
    /// To be met, a rule of the asked must allow it.
    ReachIngress, "reach-ingress";

    /// A flow's ends are the ports of this packet.
    FlowEnds, "flow-ends";
    /// A flow that was silent for too long is none.
    FlowExpiry, "flow-expiry";
    /// A SYN of the other end is judged anew.
    FlowSyn, "flow-syn";
    /// A TCP flow is opened by a SYN.
    OpenSyn, "open-syn";
    /// No flow is opened by an answer to an echo.
    OpenEcho, "open-echo";
    /// What may not open a flow does not pass.
    Unopened, "unopened";
    /// TCP is taken in only while dfw is new.
    AdoptWindow, "adopt-window";
    /// Only TCP is taken in.
    AdoptTcp, "adopt-tcp";
    /// Only what the rules allow is taken in.
    AdoptRules, "adopt-rules";
    /// A flow without a place does not pass.
    FlowRoom, "flow-room";
    /// A denial that is enforced drops.
    Denied, "denied";
    /// The initiator's own side is judged.
    JudgeEgress, "judge-egress";
    /// The receiver's side is judged.
    JudgeIngress, "judge-ingress";
    /// The receiver's side is judged where the packet is sent.
    JudgePeer, "judge-peer";
    /// A side is judged again in each epoch.
    SideEpoch, "side-epoch";
    /// Without settings nothing counts as judged.
    EpochWritten, "epoch-written";
    /// A side that was denied is not recorded.
    DeniedSide, "denied-side";
    /// Unknown peers are denied.
    UnknownPeer, "unknown-peer";
    /// Modes but audit and off enforce.
    VerdictEnforced, "verdict-enforced";
    /// What no rule names is denied.
    DefaultDeny, "default-deny";
    /// A deny rule denies.
    DenyRule, "deny-rule";
    /// An address that nothing covers is unknown.
    UnknownAddress, "unknown-address";

    /// An echo is of who asks.
    FlowAsker, "flow-asker";
    /// A flow is of one network.
    FlowNetwork, "flow-network";
    /// Where a hint leads, a flow with the packet's key lies, or none.
    FlowHint, "flow-hint";
    /// A reset flow is soon over.
    FlowReset, "flow-reset";
    /// A flow whose end was announced is soon over.
    FlowFin, "flow-fin";
    /// Nobody takes another's place in the flow table.
    RingOwner, "ring-owner";
    /// Flows that nobody answered go first.
    RingAnswered, "ring-answered";
    /// Who had a place that was taken is removed.
    RingEvict, "ring-evict";

    /// Nobody takes another's room among what was seen.
    SeenRoom, "seen-room";
    /// Only who dialled is believed that he did.
    SeenOpener, "seen-opener";

    /// Only endpoints pass the bridge of an enforcing node.
    BackstopManaged, "backstop-managed";
    /// Only endpoints of that bridge pass it.
    BackstopNetwork, "backstop-network";
    /// Only endpoints that are still there pass the bridge.
    BackstopGone, "backstop-gone";
    /// What has no address and cannot be read does not pass the bridge.
    BackstopUnparsed, "backstop-unparsed";
    /// What has no address does not come from the host.
    BackstopUnspecified, "backstop-unspecified";

    /// What contradicts itself does not pass an uplink.
    UplinkMalformed, "uplink-malformed";
    /// Whom a deny list names does not pass an uplink.
    UplinkDenied, "uplink-denied";
    /// Nobody outside has a container's address.
    UplinkSpoofed, "uplink-spoofed";
    /// Nobody outside speaks to containers as this host.
    UplinkHost, "uplink-host";
    /// Nobody outside reaches addresses of containers that nobody has, on a node that enforces.
    UplinkNobody, "uplink-nobody";
    /// Nobody outside reaches a container that no rule of its own lets it meet.
    UplinkRules, "uplink-rules";
    /// Tags of an uplink hide nothing.
    UplinkTags, "uplink-tags";
}

impl Check {
    /// Whether what this check asks for is so.
    #[inline(always)]
    pub fn holds(self, is_so: bool) -> bool {
        is_so || self.is_left_out()
    }

    /// Whether this check finds something.
    #[inline(always)]
    pub fn finds(self, is_wrong: bool) -> bool {
        is_wrong && !self.is_left_out()
    }

    /// An error, unless what this check asks for is so.
    #[inline(always)]
    pub fn require<E>(self, is_so: bool, error: E) -> Result<(), E> {
        if self.holds(is_so) {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Something if what this check asks for is so.
    #[inline(always)]
    pub fn demand(self, is_so: bool) -> Option<()> {
        self.holds(is_so).then_some(())
    }

    /// The number of this check; 0 is none.
    pub const fn number(self) -> u32 {
        self as u32 + 1
    }

    #[inline(always)]
    fn is_left_out(self) -> bool {
        #[cfg(feature = "mutants")]
        let left_out = mutant::number() == self.number();
        #[cfg(not(feature = "mutants"))]
        let left_out = false;
        left_out
    }
}
