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

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::DefaultNla;

    use super::*;

    #[test]
    fn a_port_that_is_held_and_a_bridge_that_filters() {
        let port = |attributes| vec![LinkInfo::PortData(InfoPortData::BridgePort(attributes))];
        let forwards = InfoBridgePort::State(BridgePortState::Forwarding);
        let free = port(vec![forwards.clone(), InfoBridgePort::Isolated(false)]);
        assert_eq!(told_by_link(&free), None);
        for held in [
            port(vec![forwards, InfoBridgePort::Isolated(true)]),
            port(vec![InfoBridgePort::State(BridgePortState::Disabled)]),
        ] {
            assert_eq!(told_by_link(&held), Some(Detour::Port));
        }
        for (filters, expected) in [(true, Some(Detour::Vlan)), (false, None)] {
            let bridge = InfoData::Bridge(vec![InfoBridge::VlanFiltering(filters)]);
            assert_eq!(told_by_link(&[LinkInfo::Data(bridge)]), expected);
        }
    }

    #[test]
    fn a_port_by_its_bridge() {
        let told = |state, isolated| {
            let bytes = [(STATE, state), (ISOLATED, isolated), (2, 9)];
            let bytes = bytes
                .map(|(kind, value)| DefaultNla::new(kind, vec![value]))
                .map(LinkProtoInfoBridge::Other);
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::ProtoInfoBridge(bytes.to_vec())];
            told_by_bridge(&message)
        };
        assert_eq!(told(FORWARDING, 0), None);
        assert_eq!(told(FORWARDING, 1), Some(Detour::Port));
        assert_eq!(told(0, 0), Some(Detour::Port));
    }

    #[test]
    fn queues_come_and_go() {
        let mut queues = Queues::default();
        let queue = |ifindex, kind: &str| {
            let mut message = TcMessage::with_index(ifindex);
            message.attributes = vec![TcAttribute::Kind(kind.to_owned())];
            message
        };
        assert_eq!(queues.set(&queue(7, "noqueue"), true), None);
        assert_eq!(queues.detour(7), None);
        assert_eq!(queues.set(&queue(7, "tbf"), true), Some(7));
        assert_eq!(queues.detour(7), Some(Detour::Queue));
        assert_eq!(queues.detour(8), None);
        queues.set(&queue(7, "tbf"), false);
        assert_eq!(queues.detour(7), None);
        queues.set(&queue(8, "clsact"), true);
        queues.forget(8);
        assert_eq!(queues.detour(8), None);
    }
}
