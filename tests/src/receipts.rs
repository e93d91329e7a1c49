//! What was delivered, counted by the receiver's kernel: nftables, which knows nothing of dfw.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use crate::{NetNs, process};

/// Numbers of ports that are counted, clear of what the kernel chooses itself.
pub const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// TCP and UDP on both families.
const KINDS: usize = 4;

/// Where in a namespace packets are counted.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// Everything that reaches its IP stack.
    Prerouting,
    /// What is for itself, not what it routes.
    Input,
}

/// Packets that arrived in a namespace for [`PORTS`]: number by port, and by kind (`ipv4 tcp`) below that.
pub type Seen = BTreeMap<u16, BTreeMap<String, u64>>;

/// A counter in a network namespace; it goes with the namespace.
#[derive(Debug)]
pub struct Receipts {
    netns: NetNs,
}

impl Receipts {
    /// Begins to count.
    ///
    /// # Panics
    /// When nft refuses.
    #[track_caller]
    pub fn new(netns: &NetNs, hook: Hook) -> Self {
        let (hook, priority) = match hook {
            // Before connection tracking, and before every rule of Docker's.
            Hook::Prerouting => ("prerouting", -300),
            Hook::Input => ("input", -300),
        };
        let (first, last, size) = (PORTS.start, PORTS.end - 1, PORTS.len() * KINDS);
        let rules = format!(
            "table inet dfwt {{
                set seen {{ type nf_proto . inet_proto . inet_service; size {size}; flags dynamic; }}
                chain count {{
                    type filter hook {hook} priority {priority};
                    meta l4proto {{ tcp, udp }} th dport {first}-{last} \
                        update @seen {{ meta nfproto . meta l4proto . th dport counter }}
                }}
            }}"
        );
        process::run(netns.command("nft").arg(rules));
        Self {
            netns: netns.again(),
        }
    }

    /// What arrived so far.
    ///
    /// # Panics
    /// When nft does not tell.
    #[track_caller]
    pub fn seen(&self) -> Seen {
        let mut list: Command = self.netns.command("nft");
        let text = process::run(list.args(["-j", "list", "set", "inet", "dfwt", "seen"]));
        let listed: Value = serde_json::from_str(&text).expect("nft prints JSON");
        let mut seen = Seen::new();
        let sets = listed["nftables"].as_array().into_iter().flatten();
        let elements = sets.filter_map(|item| item["set"]["elem"].as_array());
        for element in elements.flatten().map(|element| &element["elem"]) {
            let key = &element["val"]["concat"];
            let word = |at: usize| key[at].as_str().expect("a name");
            let port = key[2].as_u64().and_then(|port| u16::try_from(port).ok());
            let packets = element["counter"]["packets"].as_u64().expect("a number");
            let by_kind = seen.entry(port.expect("a port")).or_default();
            by_kind.insert(format!("{} {}", word(0), word(1)), packets);
        }
        seen
    }
}

/// Whether each kind arrived.
pub fn is_complete(kinds: &BTreeMap<String, u64>) -> bool {
    kinds.len() == KINDS
}
