//! Labels with many rules, for measurements of what their number costs.

/// A label counts as many rules as it has ports, for each peer.
const PORTS: usize = 20;
const PEERS: usize = 4;

/// Labels of about so many rules: one port from one network of the world each, half of them IPv4. Fewer than two are none.
pub fn many(rules: usize) -> Vec<(String, String)> {
    let (ports, peers) = if rules < PORTS * PEERS {
        (rules / 2, 2)
    } else {
        (PORTS, PEERS)
    };
    let labels = if ports == 0 {
        0
    } else {
        rules / (ports * peers)
    };
    let label = |number: usize| {
        let ports: Vec<_> = (0..ports)
            .map(|port| (443 + port * 2).to_string())
            .collect();
        let peers = (0..peers).map(|peer| {
            let net = number * PEERS / 2 + peer / 2;
            let (high, low) = (net / 256, net % 256);
            match peer % 2 {
                0 => format!("20.{high}.{low}.0/24"),
                _ => format!("2600:{net:x}::/32"),
            }
        });
        let peers: Vec<_> = peers.collect();
        let text = format!("tcp/{} from {}", ports.join(","), peers.join(","));
        (format!("dfw.ingress.r{number}"), text)
    };
    (0..labels).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_asked_for() {
        for rules in [0, 1, 10, 100, 1_000, 10_000] {
            let labels = many(rules);
            let counted = labels.iter().map(|(_, text)| {
                let (ports, peers) = text.split_once(" from ").expect("a rule");
                ports.split(',').count() * peers.split(',').count()
            });
            let counted: usize = counted.sum();
            let wanted = if rules < 2 { 0 } else { rules };
            assert!(counted.abs_diff(wanted) <= wanted / 5, "{rules}: {counted}");
        }
    }
}
