//! What has a say in the packets of a bridge's port, beside the bridge's own forwarding: its state, isolation, VLANs, and
//! queueing disciplines.

use std::collections::BTreeSet;

use rtnetlink::{
    packet_core::Nla as _,
    packet_route::{
        link::{
            BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute,
            LinkInfo, LinkMessage, LinkProtoInfoBridge,
        },
        tc::{TcAttribute, TcMessage},
    },
};

use crate::model::Detour;

/// IFLA_BRPORT_STATE and IFLA_BRPORT_ISOLATED (linux/if_link.h), of which the bridge's own messages have the bytes.
const STATE: u16 = 1;
const ISOLATED: u16 = 33;
/// BR_STATE_FORWARDING (linux/if_bridge.h).
const FORWARDING: u8 = 3;

/// What an ordinary message says of a port, or of a bridge.
pub(super) fn told_by_link(infos: &[LinkInfo]) -> Option<Detour> {
    infos.iter().find_map(|info| {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of every kind of link"
        )]
        match info {
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                port.iter().any(is_held).then_some(Detour::Port)
            }
            LinkInfo::Data(InfoData::Bridge(bridge)) => {
                let filters = bridge.contains(&InfoBridge::VlanFiltering(true));
                filters.then_some(Detour::Vlan)
            }
            _ => None,
        }
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign enum of every attribute of a port"
)]
fn is_held(port: &InfoBridgePort) -> bool {
    match port {
        InfoBridgePort::State(state) => *state != BridgePortState::Forwarding,
        InfoBridgePort::Isolated(isolated) => *isolated,
        _ => false,
    }
}

/// What a bridge says of its port.
pub(super) fn told_by_bridge(message: &LinkMessage) -> Option<Detour> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| {
        let LinkAttribute::ProtoInfoBridge(port) = attribute else {
            return None;
        };
        port.iter().any(is_held_raw).then_some(Detour::Port)
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign enum of every attribute of a port"
)]
fn is_held_raw(port: &LinkProtoInfoBridge) -> bool {
    match port {
        LinkProtoInfoBridge::Other(nla) if nla.value_len() == 1 => {
            let mut value = [0];
            nla.emit_value(&mut value);
            match nla.kind() {
                STATE => value[0] != FORWARDING,
                ISOLATED => value[0] != 0,
                _ => false,
            }
        }
        _ => false,
    }
}

/// Queueing disciplines other than none, by interface, parent and handle.
#[derive(Debug, Default)]
pub(super) struct Queues(BTreeSet<(u32, u32, u32)>);

impl Queues {
    /// Takes in news of one; the interface that it is of.
    pub(super) fn set(&mut self, queue: &TcMessage, present: bool) -> Option<u32> {
        let ifindex = u32::try_from(queue.header.index).ok()?;
        let mut attributes = queue.attributes.iter();
        let is_none = attributes
            .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "noqueue"));
        if is_none {
            return None;
        }
        let header = &queue.header;
        let [parent, handle] = [header.parent, header.handle].map(u32::from);
        let key = (ifindex, parent, handle);
        if present {
            self.0.insert(key);
        } else {
            self.0.remove(&key);
        }
        Some(ifindex)
    }

    /// Forgets those of an interface that is gone.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.0.retain(|(of, _, _)| *of != ifindex);
    }

    /// Whether an interface has any.
    pub(super) fn detour(&self, ifindex: u32) -> Option<Detour> {
        let mut of = self
            .0
            .range((ifindex, 0, 0)..=(ifindex, u32::MAX, u32::MAX));
        of.next().map(|_| Detour::Queue)
    }
}
