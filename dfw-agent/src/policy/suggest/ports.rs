//! Ports of sightings as items of a rule, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::rule::{Item, PortRange, Protocol};

/// Protocol and port (ICMP: type).
pub(super) type Port = (u8, u16);

/// Whether a rule can name it.
pub(super) fn is_writable((protocol, port): Port) -> bool {
    match Protocol(protocol).port_limits() {
        Some((low, high)) => (low..=high).contains(&port),
        None => true,
    }
}

/// The items that match these ports only, named protocols first, what is adjacent as a range.
pub(super) fn items(ports: &BTreeSet<Port>) -> Vec<Item> {
    let mut by_protocol: BTreeMap<(usize, u8), Vec<PortRange>> = BTreeMap::new();
    for (protocol, port) in ports {
        let name = Protocol::NAMED
            .iter()
            .position(|(_, named)| named.0 == *protocol);
        let place = name.unwrap_or(Protocol::NAMED.len());
        let ranges = by_protocol.entry((place, *protocol)).or_default();
        match ranges.last_mut() {
            Some(last) if last.high.checked_add(1) == Some(*port) => last.high = *port,
            _ => ranges.push(PortRange {
                low: *port,
                high: *port,
            }),
        }
    }
    let items = by_protocol.into_iter().flat_map(|((_, number), ranges)| {
        let protocol = Protocol(number);
        let has_ports = protocol.port_limits().is_some();
        // Without ports there is but one, 0.
        ranges.into_iter().map(move |range| Item {
            protocol,
            range: has_ports.then_some(range),
        })
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Ports;

    #[test]
    fn ports_are_joined_without_loss() {
        let text =
            |ports: &[Port]| Ports::Items(items(&ports.iter().copied().collect())).to_string();
        assert_eq!(text(&[(6, 80), (6, 443)]), "tcp/80,443");
        assert_eq!(
            text(&[(17, 53), (6, 53), (6, 80), (6, 82), (6, 81)]),
            "tcp/53,80-82,udp/53"
        );
        assert_eq!(
            text(&[(58, 128), (1, 8), (47, 0), (132, 5000)]),
            "sctp/5000,icmp/8,icmp6/128,proto-47"
        );
        assert_eq!(text(&[(6, 65534), (6, 65535)]), "tcp/65534-65535");
    }

    #[test]
    fn what_no_rule_can_name() {
        for port in [(6, 0), (17, 0), (1, 256)] {
            assert!(!is_writable(port), "{port:?}");
        }
        for port in [(6, 1), (1, 0), (58, 255), (47, 0)] {
            assert!(is_writable(port), "{port:?}");
        }
    }
}
